"""Which tiles a kernel uses: pinned by head width, number format, query block and generation of GPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Config:
    """How a kernel is cut.

    Args:
        rows: queries in a tile.
        keys: keys in a tile.
        warps: warps in a program.
        stages: tiles of keys and values in flight.
        tma: whether whole tiles go through the copy engine.
    """

    rows: int
    keys: int
    warps: int
    stages: int
    tma: bool


def pinned(dim: int, itemsize: int, query_block: int, capability: int) -> Config:
    """The configuration without tuning.

    Args:
        dim: head width.
        itemsize: bytes of a number.
        query_block: queries that choose together.
        capability: major number, 9 for Hopper.
    """
    wide = max(triton.next_power_of_2(dim), 16) * itemsize
    rows = min(max(triton.next_power_of_2(query_block), 16), 128)
    if wide > 256:
        # 256 numbers of 2 bytes, or any of 4 bytes: registers and shared memory bound the tile.
        rows = min(rows, 64)
        keys = 64 if wide <= 512 and itemsize == 2 else 32 if wide <= 512 else 16
        return Config(rows=rows, keys=keys, warps=4, stages=2, tma=capability >= 9 and itemsize == 2)
    if itemsize == 4:
        return Config(rows=min(rows, 64), keys=32, warps=4, stages=2, tma=False)
    if capability >= 9:
        return Config(rows=rows, keys=64, warps=4, stages=2 if rows == 128 else 3, tma=True)
    return Config(rows=rows, keys=64, warps=8 if rows == 128 else 4, stages=2, tma=False)


def choose(q: Tensor, query_block: int) -> Config:
    """The pinned configuration for a tensor of queries on its device; that of Hopper off a GPU."""
    major = torch.cuda.get_device_capability(q.device)[0] if q.is_cuda else 9
    return pinned(q.shape[-1], q.element_size(), query_block, major)
