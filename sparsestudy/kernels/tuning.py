"""Finding the fastest tiles of the portable prefill kernel on a GPU, once: what is found is kept on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import product

from torch import Tensor
from triton.runtime.errors import OutOfResources
from triton.testing import do_bench

from sparsestudy.kernels.configs import Config, case, choose, kept, kept_file
from sparsestudy.kernels.prefill import attend
from sparsestudy.selection import Selection


def candidates(start: Config) -> Iterator[Config]:
    """Configurations around another: as many rows or half of them, and all widths of tiles that may pay."""
    for halves, keys, warps, stages in product((1, 2), (32, 64, 128), (4, 8), (2, 3)):
        rows = start.rows // halves
        if rows >= 16 and keys * rows <= 128 * 128 and warps * 8 <= rows + 16:
            yield replace(start, rows=rows, keys=keys, warps=warps, stages=stages)


def tune(q: Tensor, k: Tensor, v: Tensor, selection: Selection, scaling: float) -> Config:
    """Time the configurations for a case and keep the fastest for its head width, numbers and query block.

    Each is compiled, which takes up to a minute in all; without it the pinned ones serve. Arguments are those
    of :func:`sparsestudy.kernels.prefill.selected_attention`, on a GPU.
    """
    seconds: dict[Config, float] = {}
    for config in candidates(choose(q.device, q.dtype, q.shape[3], selection.query_block)):
        try:
            seconds[config] = do_bench(lambda config=config: attend(q, k, v, selection, scaling, config))
        except OutOfResources:  # more shared memory or registers than there are
            continue
    best = min(seconds, key=seconds.__getitem__)
    keep(q, selection.query_block, best)
    return best


def keep(q: Tensor, query_block: int, config: Config) -> None:
    """Keep a configuration for a case on the device of its queries, for this and later processes."""
    file = kept_file(q.device)
    found = kept(q.device) | {case(q.dtype, q.shape[3], query_block): asdict(config)}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    choose.cache_clear()
