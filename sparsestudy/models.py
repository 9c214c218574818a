"""Models by name: what is known about them without their weights, and how to get and load the weights.

The registry is ``models.yaml`` beside this file. A user's own models go into ``models.local.yaml`` at the
root of the checkout (git-ignored), or into the file named by ``SPARSESTUDY_MODELS``::

    my-model:
      source: folder
      path: /data/my-model        # config.json, *.safetensors and the tokenizer's files

Pinned revisions of hub models are kept beside the weights, in ``pins.yaml`` in the cache folder
(``$SPARSESTUDY_CACHE``, else ``~/.cache/sparsestudy``). Only safetensors are loaded, never pickles, and no
code that comes with a model is run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from sparsestudy import manifest, paths
from sparsestudy.entries import ENTRY, FolderEntry, HubEntry, ModelEntry
from sparsestudy.errors import StudyError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EXTRA_VARIABLE = "SPARSESTUDY_MODELS"


class WeightsUnavailable(StudyError):
    """The weights cannot be had on this machine now: no network, no space, or no such download."""


class ModelRegistry(Mapping[str, ModelEntry]):
    """The models of ``models.yaml`` and of the user's own file, by name; read again when a file changes."""

    def __getitem__(self, name: str) -> ModelEntry:
        """The entry of a model.

        Raises:
            StudyError: there is no such model, its entry is wrong, or its folder is missing.
        """
        specs = _specs()
        if name not in specs:
            near = get_close_matches(name, specs, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise StudyError(f"There is no model '{name}'; choose one of {', '.join(specs)}.{hint}")
        return _entry(name, *specs[name])

    def __contains__(self, name: object) -> bool:
        return name in _specs()

    def __iter__(self) -> Iterator[str]:
        return iter(_specs())

    def __len__(self) -> int:
        return len(_specs())


REGISTRY = ModelRegistry()


def extra_file() -> Path:
    """The user's own registry: ``$SPARSESTUDY_MODELS``, else ``models.local.yaml`` in the checkout."""
    named = os.environ.get(EXTRA_VARIABLE)
    return Path(named).expanduser().resolve() if named else paths.ROOT / "models.local.yaml"


def pins_file() -> Path:
    """Where ``models pin`` records revisions: user data, so that the checkout stays clean."""
    return manifest.cache_root() / "pins.yaml"


def _specs() -> dict[str, tuple[dict[str, Any], Path]]:
    """Name to (fields as written, file that holds them)."""
    shipped = Path(__file__).with_name("models.yaml")
    specs = {name: (dict(spec), shipped) for name, spec in _read(shipped).items()}
    extra = extra_file()
    if EXTRA_VARIABLE in os.environ and not extra.is_file():
        raise StudyError(f"{EXTRA_VARIABLE} names {extra}, which is not a file; correct it or unset it.")
    for name, spec in _read(extra).items():
        if name in specs:
            raise StudyError(f"{extra} defines '{name}', which the study has already; choose another name.")
        specs[name] = (dict(spec), extra)
    for name, pin in _read(pins_file()).items():
        if name in specs and specs[name][0].get("source") == "hub":
            specs[name][0].update(pin)
    return specs


def _read(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    stat = path.stat()
    return _parse(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=16)
def _parse(path: Path, mtime_ns: int, size: int) -> dict[str, dict[str, Any]]:
    """Parse a registry file; the stamp makes a changed file a new one."""
    del mtime_ns, size
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise StudyError(f"The model registry {path} is not readable YAML: {reason}.") from error
    if not isinstance(data, dict) or not all(isinstance(spec, dict) for spec in data.values()):
        raise StudyError(f"The model registry {path} must map each model's name to its fields.")
    return {str(name): spec for name, spec in data.items()}


def _entry(name: str, spec: dict[str, Any], file: Path) -> ModelEntry:
    fields = {**spec, "name": name}
    if spec.get("source") == "folder" and isinstance(spec.get("path"), str):
        folder = file.parent / Path(spec["path"]).expanduser()
        fields = {**manifest.describe(folder, name), **fields, "path": folder}
    try:
        return ENTRY.validate_python(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "source"
        raise StudyError(f"The model '{name}' in {file} is not valid: {where}: {first['msg']}.") from error


def weights_sha256(name: str) -> str:
    """The sha256 that identifies a model's weights; recorded for wheels and hub models, so no file is read.

    Raises:
        StudyError: unknown model, or a hub model without a pinned revision.
    """
    return REGISTRY[name].weights_sha256()


def folder(name: str) -> Path:
    """Where a model's safetensors and tokenizer lie, or will lie once fetched."""
    entry = REGISTRY[name]
    return entry.path if isinstance(entry, FolderEntry) else manifest.models_root() / name


def is_cached(name: str) -> bool:
    """Whether the weights are here, complete and of the registry's origin (sizes only; nothing is hashed)."""
    entry = REGISTRY[name]
    if isinstance(entry, FolderEntry):
        return True
    return manifest.problem(folder(name), entry.origin, deep=False) is None


def fetch(name: str, quiet: bool = False, accept_terms: bool = False) -> Path:
    """Make sure that a model's weights are here and sound; download and convert them when they are not.

    Args:
        name: a model of the registry.
        quiet: no announcement and no progress on standard error.
        accept_terms: the user named the model, which accepts its licence where that needs accepting.

    Returns:
        The folder with the safetensors and the tokenizer.

    Raises:
        WeightsUnavailable: they cannot be had: no network, no space, a wrong sha256, terms not accepted.
        StudyError: unknown model, or a hub model without a pinned revision.
    """
    entry = REGISTRY[name]
    if isinstance(entry, FolderEntry):
        return entry.path
    if isinstance(entry, HubEntry):
        entry.require_pin()
    if manifest.problem(folder(name), entry.origin, deep=None) is None:
        return folder(name)
    if entry.terms and not accept_terms:
        raise WeightsUnavailable(
            f"The weights of '{name}' come under the {entry.licence} ({entry.licence_url}): accept them by "
            f"fetching the model by its name, `python -m sparsestudy models fetch {name}`."
        )
    from sparsestudy.fetch import obtain

    return obtain(entry, quiet=quiet)


def ready(name: str) -> Path:
    """The folder of a model that is about to be loaded: fetched when absent, refused when damaged.

    Raises:
        WeightsUnavailable: absent and not to be had.
        StudyError: a file in the cache was cut short or altered.
    """
    entry = REGISTRY[name]
    if isinstance(entry, FolderEntry):
        return entry.path
    if not manifest.exists(folder(name), entry.origin):
        return fetch(name)
    problem = manifest.problem(folder(name), entry.origin, deep=None)
    if problem:
        raise StudyError(
            f"The cached weights of '{name}' are damaged ({problem}); "
            f"`python -m sparsestudy models fetch {name}` restores them."
        )
    return folder(name)


def tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model; its weights are fetched when absent, but not loaded."""
    from transformers import AutoTokenizer

    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        ready(name), local_files_only=True, trust_remote_code=False
    )
    return loaded


def load(
    name: str, device: str | torch.device = "cpu", dtype: str | torch.dtype = "float32"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model in evaluation mode, without gradients, and its tokenizer.

    Args:
        name: a model of the registry.
        device: where to put it.
        dtype: ``float32``, ``bfloat16`` or a torch dtype.

    Raises:
        WeightsUnavailable: the weights are absent and cannot be had.
        StudyError: unknown model or damaged weights.
    """
    import torch
    from transformers import AutoModelForCausalLM

    path = ready(name)
    model = AutoModelForCausalLM.from_pretrained(
        path,
        dtype=getattr(torch, dtype) if isinstance(dtype, str) else dtype,
        attn_implementation="sdpa",
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    model = model.to(device).eval().requires_grad_(False)
    return model, tokenizer(name)
