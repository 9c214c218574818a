"""Models on the hub, at a pinned revision: recording the pin, and downloading what it names."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from sparsestudy import paths
from sparsestudy.errors import StudyError
from sparsestudy.models import WeightsUnavailable
from sparsestudy.weights import catalogue, manifest
from sparsestudy.weights.entries import HubEntry

# Weights as safetensors alone, and what the tokenizer and the configuration are read from.
PATTERNS = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt"]
NEEDS_RUN = (
    "the environment has no huggingface_hub; it is part of the extra `run`, which `make smoke` installs."
)


def pin(entry: HubEntry) -> dict[str, Any]:
    """Look a model's newest revision up and record it, with size and sha256 of every weights file.

    Args:
        entry: pinned or not.

    Returns:
        What was recorded: ``revision`` and ``files``, as ``models.yaml`` would hold them.

    Raises:
        WeightsUnavailable: the hub cannot be reached, or the model is not there or not open.
        StudyError: the model has no safetensors.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise WeightsUnavailable(f"The model '{entry.name}' cannot be pinned: {NEEDS_RUN}") from error
    try:
        info = HfApi().model_info(entry.hub, files_metadata=True)
    except (OSError, _transport_error()) as error:
        raise WeightsUnavailable(_unreachable(entry, error)) from error
    files = {
        file.rfilename: {"bytes": file.size, "sha256": file.lfs.sha256}
        for file in info.siblings or []
        if file.rfilename.endswith(".safetensors") and file.lfs is not None
    }
    if not files:
        raise StudyError(
            f"{entry.hub} holds no safetensors, and no other weights are read; use another model."
        )
    recorded = {"revision": info.sha, "files": files}
    pins_file = catalogue.pins_file()
    pins = catalogue.read_registry(pins_file)
    paths.write_text(pins_file, yaml.safe_dump({**pins, entry.name: recorded}, sort_keys=True))
    return recorded


def download(entry: HubEntry, folder: Path) -> None:
    """Download the pinned revision into ``folder``, or the rest of it, and check every weights file.

    Raises:
        WeightsUnavailable: no network, no access, or a file that is not the pinned one.
    """
    revision = entry.require_pin()
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise WeightsUnavailable(f"The weights of '{entry.name}' cannot be fetched: {NEEDS_RUN}") from error
    try:
        snapshot_download(entry.hub, revision=revision, local_dir=folder, allow_patterns=PATTERNS)
    except (OSError, _transport_error()) as error:
        raise WeightsUnavailable(_unreachable(entry, error)) from error
    for name, file in entry.files.items():
        path = folder / name
        found = manifest.sha256(path) if path.is_file() else "nothing"
        if found != file.sha256:
            path.unlink(missing_ok=True)
            raise WeightsUnavailable(
                f"{name} of '{entry.name}' has the sha256 {found} instead of {file.sha256}: it is damaged "
                f"or another file, and was removed; `python -m sparsestudy models fetch {entry.name}` tries "
                f"again."
            )
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the hub's notes about the download


def _transport_error() -> type[Exception]:
    """What the hub's HTTP client raises without a connection; which client that is changed with time."""
    from huggingface_hub.errors import HfHubHTTPError

    base: type[Exception] = HfHubHTTPError.__bases__[0]
    return base


def _unreachable(entry: HubEntry, error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (
        f"{entry.hub} could not be read from the hub ({type(error).__name__}: {lines[0] if lines else ''}); "
        f"check the network, whether the model asks for an account, and HF_HUB_OFFLINE, and try again."
    )
