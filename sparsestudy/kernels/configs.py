"""Which tiles a kernel uses: pinned by generation of GPU, number format, head width and query block."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton

from sparsestudy.weights.manifest import cache_root


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
    (True, 2, 128): {16: (64, 4, 2), 32: (64, 4, 2), 64: (64, 4, 2), 128: (128, 8, 2)},
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


@functools.cache
def choose(device: torch.device, numbers: torch.dtype, dim: int, query_block: int) -> Config:
    """The configuration for a case: the tuned one, or else the pinned one; off a GPU that of an Ampere.

    Args:
        device: where the tensors are.
        numbers: their format.
        dim: head width.
        query_block: queries that choose together.
    """
    tuned = kept(device).get(case(numbers, dim, query_block))
    if tuned is not None:
        return Config(**tuned)
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else (8, 0)
    return pinned(dim, numbers.itemsize, query_block, capability)


def case(numbers: torch.dtype, dim: int, query_block: int) -> str:
    """What a tuned configuration is kept for."""
    return f"{numbers} {dim} {query_block}".removeprefix("torch.")


def kept_file(device: torch.device) -> Path:
    """Where the tuned configurations of a kind of device are kept."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return cache_root() / "kernels" / f"prefill-{re.sub(r'[^a-z0-9]+', '-', name.lower())}.json"


def kept(device: torch.device) -> dict[str, dict[str, Any]]:
    """The tuned configurations of a kind of device; none where nothing was tuned."""
    file = kept_file(device)
    found: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found
