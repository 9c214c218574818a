"""What tests of kernels share: where they run, poisoned memory, and the tolerance of a dtype."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec

import pytest
import torch
from tolerances import RELATIVE, relative_error
from torch import Tensor

# The interpreter holds bfloat16 wrongly, so that it is tested on a GPU alone.
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Whether kernels run on the CPU at all.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton") is not None
# Registers are the compiler's doing: 3.6 puts up to 40 bytes of four kernels aside; the project asks for 3.7.
OLD_COMPILER = find_spec("triton") is not None and [int(x) for x in version("triton").split(".")[:2]] < [3, 7]
own_compiler = pytest.mark.skipif(OLD_COMPILER, reason="registers are counted with triton 3.7 or newer")
DTYPES = [torch.float32, torch.float16, *([torch.bfloat16] if DEVICE == "cuda" else [])]


@contextmanager
def poisoned() -> Iterator[None]:
    """Every new tensor is NaN, or the largest integer, until it is written."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def normal(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """Standard normal numbers, the same on every device."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def close(out: Tensor, reference: Tensor, dtype: torch.dtype) -> bool:
    """Whether a result agrees with a reference in fp32, by the one table of tolerances."""
    return relative_error(out, reference) <= RELATIVE[str(dtype).removeprefix("torch.")]
