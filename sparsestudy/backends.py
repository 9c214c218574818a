"""Which code computes the attention that a method selects: plain torch everywhere, Triton's kernels on a GPU.

Both offer the same operations with the same arguments and results (a test holds them to it); which one a
``with`` block uses is settled when it opens, and recorded.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsestudy import attention, eviction
from sparsestudy.errors import StudyError
from sparsestudy.methods.base import Method

NAMES = ("auto", "torch", "triton")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# Larger heads do not fit into a multiprocessor's shared memory.
LARGEST_DIM = 256
# What the kernels are compiled for at least: Ampere, the first with bfloat16.
OLDEST = (8, 0)


@dataclass(frozen=True)
class Backend:
    """One implementation of every operation.

    Args:
        name: as it is recorded.
        selected_attention: see :func:`sparsestudy.attention.selected_attention`.
        selected_decode: see :func:`sparsestudy.attention.selected_decode`.
        evicted_attention: see :func:`sparsestudy.eviction.evicted_attention`.
    """

    name: str
    selected_attention: Callable[..., Tensor]
    selected_decode: Callable[..., Tensor]
    evicted_attention: Callable[..., Tensor]


TORCH = Backend("torch", attention.selected_attention, attention.selected_decode, eviction.evicted_attention)


@cache
def triton() -> Backend:
    """The kernels, imported when they are first used."""
    from sparsestudy.kernels import decode, prefill

    return Backend("triton", prefill.selected_attention, decode.selected_decode, decode.evicted_attention)


def backend(name: str, model: Any, method: Method) -> Backend:
    """The backend that computes what a method selects in a model.

    Args:
        name: "torch"; "triton"; or "auto", which is triton where the model is on a GPU and the kernels can
            run it, else torch.
        model: a causal language model of transformers.
        method: what each query attends. One that is dense selects nothing: it is torch's, whatever the name.

    Raises:
        StudyError: there is no such backend, or triton is asked for where it cannot run.
    """
    if name not in NAMES:
        raise StudyError(f"There is no backend '{name}'; choose one of {', '.join(NAMES)}.")
    if name == "torch" or (name == "auto" and model.device.type != "cuda"):
        return TORCH
    obstacle = _of_device(model.device) or _of_model(model) or _of_method(method)
    if name == "triton" and obstacle:
        raise StudyError(f"The backend 'triton' cannot run here: {obstacle}; use 'torch' or 'auto'.")
    dense = method.phase == "none" and not method.evicts
    return TORCH if obstacle or dense else triton()


def names(name: str, model: Any, methods: Iterable[Method]) -> list[str]:
    """The names of the backends of several methods; arguments and errors as of :func:`backend`."""
    return [backend(name, model, method).name for method in methods]


def _of_device(device: torch.device) -> str:
    """Why triton cannot run on a device, "" where it can."""
    if find_spec("triton") is None:
        return "the package triton is missing"
    # Triton's own switch: kernels are interpreted on the CPU, slowly, as the tests do.
    if os.environ.get("TRITON_INTERPRET") == "1":
        return ""
    if device.type != "cuda":
        return f"the model is on the device '{device.type}', and triton needs a CUDA device"
    if torch.version.cuda is None:
        return "torch was built without CUDA"
    found = torch.cuda.get_device_capability(device)
    if found < OLDEST:
        asked, there = (".".join(map(str, pair)) for pair in (OLDEST, found))
        return f"the GPU has compute capability {there}, and the kernels need {asked}"
    return _of_compiler()


@cache
def _of_compiler() -> str:
    """Why triton cannot build what starts its kernels, "" where it can: it compiles C against Python."""
    if not os.environ.get("CC") and not any(map(shutil.which, ("gcc", "clang"))):
        return "triton needs a C compiler, and neither gcc nor clang is installed"
    scheme = sysconfig.get_default_scheme().replace("posix_local", "posix_prefix")
    if not (Path(sysconfig.get_paths(scheme)["include"]) / "Python.h").is_file():
        return "triton needs Python's headers (Python.h), which are not installed"
    return ""


def _of_model(model: Any) -> str:
    """Why the kernels cannot run a model, "" where they can."""
    if model.dtype not in DTYPES:
        return f"its kernels do not take {str(model.dtype).removeprefix('torch.')}"
    dims = [getattr(module, "head_dim", 0) for module in model.modules() if hasattr(module, "layer_idx")]
    if max(dims, default=0) > LARGEST_DIM:
        return f"its kernels take heads of up to {LARGEST_DIM} dimensions, and this model's have {max(dims)}"
    return ""


def _of_method(method: Method) -> str:
    """Why the kernels cannot compute what a method selects, "" where they can."""
    if method.row_by_row:
        return f"its kernels take key ranges of query blocks, and {method.name} chooses row by row"
    return ""
