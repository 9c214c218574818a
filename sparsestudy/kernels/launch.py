"""Launching a Triton kernel in a few microseconds once it is compiled.

Triton works out anew at every call for which types, alignments and constants a kernel must be compiled; with
tensor descriptors that took 0.2 ms, as long as attention over 5 % of 16k tokens.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

_COMPILED: dict[tuple[Any, ...], Any] = {}


def launch(
    kernel: Any,
    programs: int,
    device: torch.device,
    args: list[Any],
    constants: dict[str, Any],
    **options: int,
) -> None:
    """Launch a kernel.

    Args:
        kernel: a function decorated by Triton or Gluon.
        programs: how many.
        device: where its tensors are.
        args: its arguments, the constants apart, which come last.
        constants: its ``constexpr`` arguments by name, in the order of its signature.
        options: Triton's own, such as ``num_warps``.
    """
    key = (kernel, device, *map(_kind, args), *constants.values(), *options.values())
    compiled = _COMPILED.get(key)
    with on(device):
        if compiled is not None:
            compiled[(programs, 1, 1)](*args, *constants.values())
            return
        compiled = kernel[(programs,)](*args, **constants, **options)
    if hasattr(compiled, "asm"):  # the interpreter gives nothing
        _COMPILED[key] = compiled


def on(device: torch.device) -> AbstractContextManager[Any]:
    """Triton launches on the current device; this makes it the one where the tensors are."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _kind(arg: Any) -> Any:
    """What of an argument a compiled kernel depends on, at least as fine as what Triton looks at."""
    if isinstance(arg, Tensor):
        return arg.dtype, arg.data_ptr() % 16 == 0
    if isinstance(arg, int):
        return arg == 1, arg % 16 == 0, -(1 << 31) <= arg < 1 << 31
    if isinstance(arg, tuple):
        return tuple(_kind(part) for part in arg)
    if hasattr(arg, "block_shape"):
        return arg.base.dtype, *arg.block_shape
    return type(arg)


def describable(x: Tensor) -> bool:
    """Whether the copy engine can read a tensor: aligned to 16 bytes, and rows without gaps."""
    aligned = all(stride * x.element_size() % 16 == 0 for stride in x.stride()[:-1])
    return aligned and x.stride(-1) == 1 and x.data_ptr() % 16 == 0
