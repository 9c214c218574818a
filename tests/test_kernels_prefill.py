"""Prefill kernels: right in the interpreter or on a GPU, and compiled for two generations without one."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import chosen
import pytest
import torch
from kernels import own_compiler
from shapes import tensors
from tolerances import RELATIVE, relative_error

from sparsestudy.methods.window import Window
from sparsestudy.reference import reference_attention
from sparsestudy.selection import Selection

pytest.importorskip("triton")
from sparsestudy.kernels import configs, prefill, tuning
from sparsestudy.kernels.configs import Config
from sparsestudy.kernels.walk import walk

HERE = Path(__file__).parent
# Where there is no GPU, kernels are interpreted.
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SCALING = 0.2


def test_the_folder_loads_neither_torch_nor_triton() -> None:
    code = "import sys, sparsestudy.kernels; sys.exit(bool({'torch', 'triton'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@contextlib.contextmanager
def poisoned() -> Iterator[None]:
    """New tensors hold NaN, so that what a kernel leaves out shows."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def inputs(*sizes: int, **more: int) -> list[torch.Tensor]:
    """Random queries, keys and values on the device of the tests."""
    return [x.to(DEVICE) for x in tensors(*sizes, **more)]


def check(q, k, v, selection: Selection, config: Config | None = None) -> None:
    """Real rows are those of the reference, in a pinned configuration or another."""
    config = config or configs.choose(q.device, q.dtype, q.shape[3], selection.query_block)
    with poisoned():
        out = prefill.attend(q, k, v, selection, SCALING, config)
    assert (out.shape, out.dtype, out.is_contiguous()) == (q.shape, q.dtype, True)
    wanted = reference_attention(q, k, v, selection, SCALING)
    allowed = RELATIVE[str(q.dtype).removeprefix("torch.")]
    for row, length in enumerate(selection.lengths.expand(q.shape[0]).tolist()):
        assert relative_error(out[row, :, :length], wanted[row, :, :length]) < allowed


def test_new_tensors_are_poisoned() -> None:
    with poisoned():
        assert torch.empty(9).isnan().all()


@pytest.mark.parametrize(
    ("tokens", "heads", "kv", "dim", "block", "choosers"),
    [
        (1, 1, 1, 16, 16, 1),
        (64, 2, 2, 64, 64, 2),
        (65, 4, 2, 64, 64, 4),
        (130, 7, 1, 24, 128, 7),
        (129, 8, 1, 80, 128, 1),
        (33, 8, 2, 256, 32, 2),
        (50, 4, 1, 8, 16, 1),
        (260, 1, 1, 32, 256, 1),
    ],
)
def test_blocks(tokens: int, heads: int, kv: int, dim: int, block: int, choosers: int) -> None:
    q, k, v = inputs(tokens, heads, kv, dim)
    check(q, k, v, chosen.blocks([tokens], block, choosers, 3, DEVICE))


def test_two_byte_numbers() -> None:
    q, k, v = (x.half() for x in inputs(130, 2, 1, 64))
    check(q, k, v, chosen.blocks([130], 64, 2, 2, DEVICE))
    check(q, k, v, chosen.slashes([130], 64, 2, 0.05, DEVICE))


@pytest.mark.parametrize(("tile", "share"), [(16, 0.02), (64, 0.0), (64, 0.02), (128, 0.004)])
def test_columns_and_slashes(tile: int, share: float) -> None:
    tokens = 400 if tile == 128 else 200
    q, k, v = inputs(tokens, 1, 1, 32)
    selection = chosen.slashes([tokens], tile, 1, share, DEVICE)
    assert (selection.columns is None) == (share == 0)
    check(q, k, v, selection)


def test_rows_of_different_lengths_and_one_selection_for_all() -> None:
    q, k, v = inputs(130, 2, 2, 16, batch=3)
    check(q, k, v, chosen.slashes([130, 70, 1], 64, 2, 0.02, DEVICE))
    check(q, k, v, chosen.blocks([130], 64, 1, 2, DEVICE))


@pytest.mark.parametrize("block", [1, 3, 64])
def test_ranges_that_begin_and_end_anywhere(block: int) -> None:
    tokens = 26 if block < 64 else 200
    q, k, v = inputs(tokens, 1, 1, 16)
    for parts in ([(0, tokens)], [(0, 1), (7, 0), (2, 9), (15, tokens)]):
        check(q, k, v, chosen.ranges(tokens, block, parts, DEVICE))


def test_a_range_for_each_query() -> None:
    q, k, v = inputs(20, 1, 1, 16)
    around = chosen.blocks([20], 16, 1, 1, DEVICE)
    check(
        q,
        k,
        v,
        Window(sinks=2, local=9)._ranges(
            torch.arange(20, device=DEVICE)[None], around.lengths, around.first_query
        ),
    )


def test_tensors_that_are_not_contiguous() -> None:
    q, k, v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in inputs(100, 4, 2, 32))
    check(q, k, v, chosen.blocks([100], 16, 4, 3, DEVICE))


@pytest.mark.parametrize("tokens", [256, 201])
def test_tiles_through_the_copy_engine(tokens: int) -> None:
    config = Config(rows=128, keys=64, warps=4, stages=2, tma=True)
    q, k, v = (x.half() for x in inputs(tokens, 2, 1, 64))
    check(q, k, v, chosen.blocks([tokens], 128, 2, 2, DEVICE), config)
    check(q, k, v, chosen.slashes([tokens], 64, 2, 0.02, DEVICE), config)


def test_the_walk_covers_each_range_once() -> None:
    tokens, rows, keys = 400, 64, 32
    selection = chosen.slashes([tokens], 128, 2, 0.01, DEVICE)
    steps = walk(selection, tokens, rows, keys)
    ranges = steps.shape[3] // 4 - 2
    mask = selection.mask(slice(0, tokens), tokens)
    columns = torch.zeros_like(mask)
    if selection.columns is not None:
        of_query = selection.columns.repeat_interleave(128, 2)[:, :, :tokens].long()
        columns = torch.zeros(*mask.shape[:3], tokens + 1, dtype=torch.bool, device=DEVICE)
        columns = columns.scatter_(-1, of_query.where(of_query >= 0, tokens), True)[..., :tokens]
    for head in range(2):
        for tile in range(-(-tokens // rows)):
            full, rests, widest, _ = steps[0, head, tile, :4].tolist()
            first, last = tile * rows, min((tile + 1) * rows, tokens)
            seen, left = torch.zeros(tokens, dtype=torch.int32, device=DEVICE), full
            runs = steps[0, head, tile, 4 : 4 + 2 * (ranges + 1)].view(-1, 2).tolist()
            while left > 0:
                start, count = runs.pop(0)
                assert start + count * keys <= first + 1, "a full tile holds a key that some query cannot see"
                seen[start : start + count * keys] += 1
                left -= count
            assert left == 0
            for start, stop in steps[0, head, tile, 4 + 2 * (ranges + 1) :].view(-1, 2)[:rests].tolist():
                assert 0 < stop - start <= widest
                seen[start:stop] += 1
            wanted = mask[0, head, first:last].any(0) & ~columns[0, head, first]
            assert torch.equal(seen, wanted.int())


@pytest.fixture
def untuned(cache: Path) -> Iterator[None]:
    """No tuned configurations, neither before nor after."""
    configs.choose.cache_clear()
    yield
    configs.choose.cache_clear()


@pytest.mark.usefixtures("untuned")
def test_a_tuned_configuration_serves_its_case_alone() -> None:
    q = torch.empty(1, 1, 1, 64, device=DEVICE)

    def chosen_for(block: int, numbers: torch.dtype = torch.float32) -> Config:
        return configs.choose(q.device, numbers, 64, block)

    before = chosen_for(64), chosen_for(128), chosen_for(64, torch.float16)
    tuned = next(other for other in tuning.candidates(before[0]) if other != before[0])
    tuning.keep(q, 64, tuned)
    assert (chosen_for(64), chosen_for(128), chosen_for(64, torch.float16)) == (tuned, *before[1:])


@pytest.mark.gpu
@pytest.mark.usefixtures("untuned")
def test_tuning_finds_a_configuration_that_is_right() -> None:
    q, k, v = (x.bfloat16() for x in inputs(600, 2, 1, 64))
    selection = chosen.blocks([600], 64, 2, 3, DEVICE)
    check(q, k, v, selection, tuning.tune(q, k, v, selection, SCALING))


@pytest.mark.slow
@own_compiler
@pytest.mark.parametrize("capability", [80, 90])
def test_every_pinned_tile_fits_into_registers_and_shared_memory(capability: int) -> None:
    ran = subprocess.run(
        [sys.executable, HERE / "compiling_prefill.py", str(capability)],
        env={name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    built = [json.loads(line) for line in ran.stdout.splitlines()]
    assert {"_cut", "_attend"} <= {kernel["kernel"] for kernel in built}
    for kernel in built:
        # The assembler puts up to 8 scalars aside around the loops; a tile that does not fit takes hundreds.
        assert kernel["stack"] <= 32, kernel
        assert kernel["shared"] <= kernel["limit"], kernel


def sampled_error(out: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, selection: Selection):
    """Worst relative error over some query blocks and heads, in fp32 without an n x n tensor."""
    heads, tokens, size = q.shape[1], q.shape[2], selection.query_block
    blocks = -(-tokens // size)
    worst = 0.0
    for block in sorted({0, 1 % blocks, blocks // 3, blocks - 2, blocks - 1} - {-1}):
        rows = slice(block * size, min((block + 1) * size, tokens))
        mask = selection.mask(rows, rows.stop)
        for head in range(0, heads, 3):
            kv = head * k.shape[1] // heads
            scores = q[0, head, rows].float() @ k[0, kv, : rows.stop].float().T * SCALING
            hidden = ~mask[0, head * mask.shape[1] // heads]
            wanted = (
                torch.softmax(scores.masked_fill(hidden, float("-inf")), -1) @ v[0, kv, : rows.stop].float()
            )
            worst = max(worst, relative_error(out[0, head, rows], wanted))
    return worst


@pytest.mark.gpu
@pytest.mark.parametrize("tokens", [1, 1000, 8192, 131072])
@pytest.mark.parametrize(
    ("kind", "size"), [("blocks", 128), ("blocks", 64), ("blocks", 16), ("slashes", 64), ("slashes", 128)]
)
@pytest.mark.parametrize("dim", [64, 128, 256])
def test_right_on_a_gpu(tokens: int, kind: str, size: int, dim: int) -> None:
    generator = torch.Generator("cuda").manual_seed(dim)
    q, k, v = (
        torch.randn(1, heads, tokens, dim, generator=generator, device="cuda", dtype=torch.bfloat16)
        for heads in (7, 1, 1)
    )
    if kind == "blocks":
        selection = chosen.blocks([tokens], size, 7, max(3, min(tokens // 4 // size, 256)), "cuda")
    else:
        selection = chosen.slashes([tokens], size, 7, min(0.02, 100 / tokens), "cuda")
    with poisoned():
        out = prefill.selected_attention(q, k, v, selection, SCALING)
    assert sampled_error(out, q, k, v, selection) < RELATIVE["bfloat16"]
