"""Models by name: what is known about them without their weights, and how to get and load the weights.

The registry is ``models.yaml`` beside this file, and the checkpoints in the folder ``models`` of the
checkout, whose cards hold what is known about them. A user's own models go into ``models.local.yaml`` at the
root of the checkout (git-ignored), or into the file named by ``SPARSESTUDY_MODELS``::

    my-model:
      source: folder
      path: /data/my-model        # config.json, *.safetensors and the tokenizer's files

Pinned revisions of hub models are kept beside the weights, in ``pins.yaml`` in the cache folder
(``$SPARSESTUDY_CACHE``, else ``~/.cache/sparsestudy``). Only safetensors are loaded, never pickles, and no
code that comes with a model is run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsestudy.errors import StudyError
from sparsestudy.weights import manifest
from sparsestudy.weights.catalogue import ModelRegistry
from sparsestudy.weights.entries import HubEntry, LocalEntry, ModelEntry, ShippedEntry

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "REGISTRY",
    "ModelEntry",
    "WeightsUnavailable",
    "fetch",
    "folder",
    "is_cached",
    "load",
    "ready",
    "tokenizer",
    "weights_sha256",
]

REGISTRY = ModelRegistry()


class WeightsUnavailable(StudyError):
    """The weights cannot be had on this machine now: no network, no space, or no such download."""


def weights_sha256(name: str) -> str:
    """The sha256 that identifies a model's weights; recorded for wheels and hub models, so no file is read.

    Raises:
        StudyError: unknown model, or a hub model without a pinned revision.
    """
    return REGISTRY[name].weights_sha256()


def folder(name: str) -> Path:
    """Where a model's safetensors and tokenizer lie, or will lie once fetched."""
    entry = REGISTRY[name]
    return entry.path if isinstance(entry, LocalEntry) else manifest.models_root() / name


def is_cached(name: str) -> bool:
    """Whether the weights are here, complete and of the registry's origin (sizes only; nothing is hashed)."""
    entry = REGISTRY[name]
    if isinstance(entry, LocalEntry):
        return bool(manifest.safetensors(entry.path))
    return manifest.problem(folder(name), entry.origin, deep=False) is None


def fetch(name: str, quiet: bool = False) -> Path:
    """Make sure that a model's weights are here and sound; download and convert them when they are not.

    A model with terms of its own is fetched only because somebody named it, here or in a run's parameters;
    that accepts the terms, and the announcement says so.

    Args:
        name: a model of the registry.
        quiet: no announcement and no progress on standard error.

    Returns:
        The folder with the safetensors and the tokenizer.

    Raises:
        WeightsUnavailable: they cannot be had: no network, no space, a wrong sha256.
        StudyError: unknown model, or a hub model without a pinned revision.
    """
    entry = REGISTRY[name]
    if isinstance(entry, LocalEntry):
        return _sound(entry)
    if isinstance(entry, HubEntry):
        entry.require_pin()
    if manifest.problem(folder(name), entry.origin, deep=None) is None:
        return folder(name)
    from sparsestudy.weights.fetch import obtain

    return obtain(entry, quiet=quiet)


def ready(name: str) -> Path:
    """The folder of a model that is about to be loaded: fetched when absent, refused when damaged.

    Raises:
        WeightsUnavailable: absent and not to be had.
        StudyError: a file in the cache was cut short or altered.
    """
    entry = REGISTRY[name]
    if isinstance(entry, LocalEntry):
        return _sound(entry)
    if not manifest.exists(folder(name), entry.origin):
        return fetch(name)
    problem = manifest.problem(folder(name), entry.origin, deep=None)
    if problem:
        raise StudyError(
            f"The cached weights of '{name}' are damaged ({problem}); "
            f"`python -m sparsestudy models fetch {name}` restores them."
        )
    return folder(name)


def _sound(entry: LocalEntry) -> Path:
    """The folder of a local model; the weights of a shipped one are what its card says."""
    problem = entry.problem() if isinstance(entry, ShippedEntry) else None
    if problem:
        raise StudyError(
            f"The weights of '{entry.name}' are not its card's ({problem}); restore {entry.path} from git."
        )
    return entry.path


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
    with _no_progress_bar():
        model: Any = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=getattr(torch, dtype) if isinstance(dtype, str) else dtype,
            attn_implementation="sdpa",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    return model.to(device).eval().requires_grad_(False), tokenizer(name)


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Loading takes about a second; its progress bar would stay in logs and executed notebooks."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
