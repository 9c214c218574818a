"""Compiles the prefill kernels for a GPU that is not there: run as a program, see compiling.py."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import chosen
import torch
from compiling import compiled

from sparsestudy.kernels import hopper, launch, prefill
from sparsestudy.kernels.configs import TILES, pinned


def calls(capability: int) -> list[tuple[str, Any]]:
    """Every pinned tile of a generation, with and without columns, and every use of the Hopper kernel."""
    hopper._processors = lambda device: 132
    found: list[tuple[str, Any]] = []
    for hopper_or_later, itemsize, width in TILES:
        if hopper_or_later != (capability >= 90):
            continue
        numbers = {2: torch.bfloat16, 4: torch.float32}[itemsize]
        q, k = (torch.empty(1, heads, 512, width, dtype=numbers) for heads in (28, 4))
        for rows in TILES[hopper_or_later, itemsize, width]:
            config = pinned(width, itemsize, rows, divmod(capability, 10))
            plain, single = chosen.blocks([512], rows, 28, 3), chosen.slashes([512], rows, 28, 0.01)
            for kind, selection in (("ranges", plain), ("columns", single)):
                label = f"{numbers} {width} {rows} {kind}"
                found.append((label, partial(prefill.attend, q, k, k, selection, 0.1, config)))
            if config.warpgroups:
                found.append((f"{width} hopper", partial(hopper.attend, q, k, k, plain, 0.1)))
                found.append((f"{width} hopper columns", partial(hopper.attend, q, k, k, single, 0.1)))
    return [(label, partial(fresh, call)) for label, call in found]


def fresh(call: Any) -> None:
    """Build anew what an earlier call has built, rather than launch it."""
    launch._COMPILED.clear()
    launch._REPEATED.clear()
    call()


if __name__ == "__main__":
    compiled(int(sys.argv[1]), calls(int(sys.argv[1])))
