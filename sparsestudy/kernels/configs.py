"""Which tiles a kernel uses: pinned by generation of GPU, number format, head width and query block."""

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
        warpgroups: whether the kernel for Hopper serves this, if the tensors allow it.
    """

    rows: int
    keys: int
    warps: int
    stages: int
    tma: bool
    warpgroups: bool = False


# (Hopper or later, bytes of a number, head width) -> {rows: (keys, warps, stages)}; more queries a block are
# cut into tiles of the most rows. None spills a tile. Two stages leave room for two programs on a
# multiprocessor, whose products and softmax then overlap: three took 1.5 times as long (H200).
TILES: dict[tuple[bool, int, int], dict[int, tuple[int, int, int]]] = {
    (True, 2, 64): {16: (64, 4, 2), 32: (64, 4, 2), 64: (64, 4, 2), 128: (64, 4, 2)},
    (True, 2, 128): {16: (64, 4, 2), 32: (64, 4, 2), 64: (64, 4, 2), 128: (64, 8, 2)},
    (True, 2, 256): {16: (64, 4, 2), 32: (64, 8, 2), 64: (64, 8, 2)},
    (True, 4, 64): {16: (32, 4, 2), 32: (32, 4, 2)},
    (True, 4, 128): {16: (32, 4, 2), 32: (32, 8, 2)},
    (True, 4, 256): {16: (16, 4, 2)},
    (False, 2, 64): {16: (64, 4, 3), 32: (32, 4, 2), 64: (64, 8, 2), 128: (64, 8, 2)},
    (False, 2, 128): {16: (64, 4, 3), 32: (64, 4, 2), 64: (64, 8, 2), 128: (32, 8, 2)},
    (False, 2, 256): {16: (32, 4, 2), 32: (32, 8, 2), 64: (32, 8, 2)},
    (False, 4, 64): {16: (16, 4, 2), 32: (32, 4, 2)},
    (False, 4, 128): {16: (32, 4, 2), 32: (32, 8, 2)},
    (False, 4, 256): {16: (16, 4, 2)},
}


def pinned(dim: int, itemsize: int, query_block: int, capability: tuple[int, int]) -> Config:
    """The configuration for a case.

    Args:
        dim: head width.
        itemsize: bytes of a number.
        query_block: queries that choose together.
        capability: of the GPU, (9, 0) for Hopper.
    """
    width = max(triton.next_power_of_2(dim), 64)
    table = TILES[capability >= (9, 0), itemsize, min(width, 256)]
    rows = min(max(triton.next_power_of_2(query_block), 16), max(table))
    keys, warps, stages = table[rows]
    return Config(
        rows=rows,
        keys=keys,
        warps=warps,
        stages=stages,
        tma=capability >= (9, 0) and itemsize == 2,
        warpgroups=capability == (9, 0) and itemsize == 2 and width <= 128 and query_block % 128 == 0,
    )


def choose(q: Tensor, query_block: int) -> Config:
    """The pinned configuration for a tensor of queries on its device; off a GPU that of an Ampere."""
    capability = torch.cuda.get_device_capability(q.device) if q.is_cuda else (8, 0)
    return pinned(q.shape[-1], q.element_size(), query_block, capability)
