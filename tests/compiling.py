"""Compiles every kernel for a GPU that is not there: run as a program, it prints one JSON line a kernel.

The launchers are called with tensors on the CPU and every launch is turned into a compilation, so what is
built is what a launch would build, divisibilities and strides included. The process must not interpret.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia import driver as nvidia
from triton.runtime import driver
from triton.runtime.jit import JITFunction

# Shared memory that a program may have, bytes, by compute capability.
SHARED = {80: 166_912, 90: 232_448}


class Absent:
    """What triton asks of a driver in order to compile, for a device of some capability."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def usage(kernel: Any) -> dict[str, int]:
    """Registers and stack bytes of a thread (a stack means spills) and shared bytes of a program."""
    tool = next((Path(nvidia.__file__).parent / "bin").glob("cuobjdump*"))
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(kernel.asm["cubin"])
        told = subprocess.run(
            [tool, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    found = {name: int(re.search(rf"{name}:(\d+)", told)[1]) for name in ("REG", "STACK")}
    return {"registers": found["REG"], "stack": found["STACK"], "shared": kernel.metadata.shared}


def compiled(capability: int, calls: list[tuple[str, Any]]) -> None:
    """Call the launchers and print what each of their kernels uses."""
    driver.set_active(Absent(capability))
    launch = JITFunction.run
    label = ""

    def build(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        kernel = launch(self, *args, grid=grid, warmup=True, **options)
        name = self.fn.__name__
        print(json.dumps({"call": label, "kernel": name, "limit": SHARED[capability], **usage(kernel)}))
        return kernel

    JITFunction.run = build
    from sparsestudy.kernels import paged, pages, split

    split.overlaps = pages.overlaps = paged.overlaps = lambda device: capability >= 90
    for label, call in calls:  # noqa: B007  # `build` reads it
        call()


def decode_calls() -> list[tuple[str, Any]]:
    """Every way to call the launchers of one-token steps, with the shapes of real models."""
    from sparsestudy.cache import PageBounds
    from sparsestudy.kernels import decode, paged, pages, split

    calls = []
    shapes = [(28, 4, 128), (32, 8, 64), (8, 4, 256), (9, 3, 80)]
    for dtype in (torch.bfloat16, torch.float32):
        for heads, kv, dim in shapes if dtype == torch.bfloat16 else shapes[::2]:
            q = torch.empty(2, heads, 1, dim, dtype=dtype)
            k = torch.empty(2, kv, 4096, dim, dtype=dtype)
            held = PageBounds(*torch.empty(2, 2, kv, 8192, dim, dtype=dtype))
            lengths = torch.full((2,), 4096)
            lists = torch.zeros(2, kv, 409, dtype=torch.int32)
            count = torch.ones(2, kv, dtype=torch.int64)
            label = f"{dtype} {heads}/{kv} {dim}"

            def whole(q=q, k=k, lengths=lengths):
                decode.whole_decode(q, k, k, lengths, lengths, 0.1)

            def listed(q=q, k=k, count=count, lists=lists):
                split.split_attention(q, k, k, count, count, 4096, 0.1, (lists, lists))

            def evicted(q=q, k=k, count=count):
                split.split_attention(q, k, k, count, count, 4096, 0.1, new=(k[:, :, :7], k[:, :, :7]))

            def best(q=q, k=k, held=held, lengths=lengths, kv=kv):
                paged.paged_decode(q, k, k, held, lengths, lengths, 409, 16, kv, 0.1)

            def bounds(k=k, lengths=lengths):
                pages.updated_page_bounds(k, lengths, 16, None)

            def longest(q=q, held=held, kv=kv, dim=dim, dtype=dtype, lengths=lengths):
                k = torch.empty(1, kv, 131_072, dim, dtype=dtype).expand(2, -1, -1, -1)
                paged.paged_decode(q, k, k, held, lengths, lengths, 409, 16, kv, 0.1)

            calls += [(f"{f.__name__} {label}", f) for f in (whole, listed, evicted, best, bounds, longest)]
    return calls


def scores_calls() -> list[tuple[str, Any]]:
    """Every way to call the launchers of estimates."""
    from sparsestudy.kernels import pooled, scores, top

    calls = []
    for dtype, heads, kv, dim in (
        (torch.bfloat16, 28, 4, 128),
        (torch.bfloat16, 9, 3, 80),
        (torch.bfloat16, 8, 4, 256),
        (torch.float32, 28, 4, 128),
    ):
        q = torch.empty(1, heads, 4096, dim, dtype=dtype)
        k = torch.empty(1, kv, 4096, dim, dtype=dtype)
        lengths = torch.full((1,), 4096)
        around = SimpleNamespace(lengths=lengths, scaling=0.1)
        label = f"{dtype} {heads}/{kv} {dim}"

        def sums(q=q, k=k, around=around):
            scores.window_sums(q, k, around, around.lengths, 256)

        def columns(q=q, k=k, lengths=lengths):
            scores.window_columns(q, k, lengths, lengths, 64, 0.1)
            scores.window_columns(q, k, lengths, lengths, 64, 0.1, most=True)

        def blocks(q=q, k=k, lengths=lengths, heads=heads):
            pooled.pooled_selection(q, k, lengths, 128, 5, heads)

        calls += [(f"{f.__name__} {label}", f) for f in (sums, columns, blocks)]
    for units in (64, 1024, 8192, top.HELD_UNITS, 2 * top.HELD_UNITS):
        calls.append((f"top {units}", partial(top.top, torch.zeros(3, units), 50)))
    return calls


def main() -> None:
    """Compile for the capability named first the kernels named second."""
    print(json.dumps({"triton": triton.__version__}), file=sys.stderr)
    compiled(int(sys.argv[1]), {"decode": decode_calls, "scores": scores_calls}[sys.argv[2]]())


if __name__ == "__main__":
    main()
