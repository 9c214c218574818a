"""Which code computes the attention that a method selects: plain torch everywhere, Triton's kernels on a GPU.

Both offer the same operations with the same arguments and results (a test holds them to it); which one a
``with`` block uses is settled when it opens, and recorded.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch

from sparsestudy.errors import StudyError
from sparsestudy.methods.base import Method

NAMES = ("auto", "torch", "triton")
# What the kernels take: larger heads do not fit into a multiprocessor's shared memory.
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
LARGEST_DIM = 256


@dataclass(frozen=True)
class Backend:
    """One implementation of every operation.

    Args:
        name: as it is recorded.
        operations: operation -> the module that defines the function of this name.
    """

    name: str
    operations: dict[str, str]

    def __getattr__(self, operation: str) -> Any:
        """The function of an operation; its module is imported when it is first asked for."""
        if operation not in self.operations:
            raise AttributeError(operation)
        return getattr(importlib.import_module(self.operations[operation]), operation)


TORCH = Backend(
    "torch",
    {
        "selected_attention": "sparsestudy.attention",
        "selected_decode": "sparsestudy.attention",
        "evicted_attention": "sparsestudy.eviction",
    },
)
TRITON = Backend(
    "triton",
    {
        "selected_attention": "sparsestudy.kernels.prefill",
        "selected_decode": "sparsestudy.kernels.decode",
        "evicted_attention": "sparsestudy.kernels.decode",
    },
)


def backend(name: str, model: Any, method: Method) -> Backend:
    """The backend that computes what a method selects in a model.

    Args:
        name: "torch"; "triton"; or "auto", which is triton where it can run and the model is on a GPU.
        model: a causal language model of transformers.
        method: what each query attends. One that is dense selects nothing, and so is torch's.

    Raises:
        StudyError: there is no such backend, or triton is asked for where it cannot run.
    """
    if name not in NAMES:
        raise StudyError(f"There is no backend '{name}'; choose one of {', '.join(NAMES)}.")
    obstacle = _obstacle(model)
    if name == "triton" and obstacle:
        raise StudyError(f"The backend 'triton' cannot run here: {obstacle}; use 'torch' or 'auto'.")
    dense = method.phase == "none" and not method.evicts
    if name == "torch" or dense or (name == "auto" and (obstacle or model.device.type != "cuda")):
        return TORCH
    return TRITON


def _obstacle(model: Any) -> str:
    """Why triton cannot run a model, "" where it can."""
    if find_spec("triton") is None:
        return "the package triton is missing"
    # Triton's own switch: kernels are interpreted on the CPU, slowly, as the tests do.
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if model.device.type != "cuda" and not interpreted:
        return f"the model is on the device '{model.device.type}', and triton needs a CUDA device"
    if model.dtype not in DTYPES:
        return f"its kernels do not take {model.dtype}"
    dims = [getattr(module, "head_dim", 0) for module in model.modules() if hasattr(module, "layer_idx")]
    if max(dims, default=0) > LARGEST_DIM:
        return f"its kernels take heads of up to {LARGEST_DIM} dimensions, and this model's have {max(dims)}"
    return ""
