"""Kernels of estimates and choices: what the methods' torch code computes, in the interpreter or on a GPU."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import DEVICE, DTYPES, close, normal, poisoned
from torch import Tensor

pytest.importorskip("triton")

from sparsestudy import cache
from sparsestudy.kernels import pages, pooled, scores, top
from sparsestudy.methods import METHODS
from sparsestudy.methods import slashes as twins
from sparsestudy.methods.probabilities import window
from sparsestudy.methods.top import indices, keep_top

torch.set_num_threads(1)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def prompt(tokens: int, heads: int, kv_heads: int, dim: int, dtype: torch.dtype, rows: int = 2):
    """Queries, keys and a context of a prompt; a second row is shorter."""
    q = normal(rows, heads, tokens, dim, dtype=dtype)
    k = normal(rows, kv_heads, tokens, dim, dtype=dtype, seed=1)
    lengths = torch.tensor([tokens, max(1, tokens // 3)][:rows], device=DEVICE)
    return q, k, SimpleNamespace(lengths=lengths, scaling=0.2)


# ---- the best units


def ties(rows: int, units: int, seed: int) -> Tensor:
    """Scores with many equal ones, both zeros and both infinities."""
    values = torch.tensor([-float("inf"), -2.5, -0.0, 0.0, 0.0, 1.0, 1.0 + 1e-7, 3e38, float("inf")])
    choice = torch.randint(0, len(values), (rows, units), generator=torch.Generator().manual_seed(seed))
    return values[choice].to(DEVICE)


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 150), st.floats(0, 1), st.booleans(), st.sampled_from([32, 8192]), st.integers(0, 99))
def test_the_best_are_those_of_the_torch_rule(
    units: int, share: float, equal: bool, held: int, seed: int
) -> None:
    rows = ties(2, units, seed) if equal else normal(2, units, seed=seed)
    budget = round(share * units)
    with pytest.MonkeyPatch.context() as patch, poisoned():
        patch.setattr(top, "HELD_UNITS", held)
        best = top.top(rows, budget)
    assert torch.equal(best.long(), indices(keep_top(rows, budget), budget))


@pytest.mark.gpu
@pytest.mark.parametrize("units", [1000, 8192, 50_000])
def test_the_best_of_long_rows(units: int) -> None:
    for row in (normal(9, units), normal(9, units).round(decimals=1), ties(9, units, 0)):
        assert torch.equal(top.top(row, 409).long(), indices(keep_top(row, 409), 409))


# ---- pages


@dtypes
@pytest.mark.parametrize("page", [4, 16])
def test_bounds_are_those_of_the_torch_code_however_they_grow(dtype: torch.dtype, page: int) -> None:
    keys = normal(2, 2, 70, 24, dtype=dtype)
    offsets = torch.tensor([0, 7], device=DEVICE)
    ours = theirs = None
    for slots in (33, 34, 47, 48, 70):
        ours = pages.updated_page_bounds(keys[:, :, :slots], offsets, page, ours)
        theirs = cache.updated_page_bounds(keys[:, :, :slots], offsets, page, theirs)
        assert ours.seen == theirs.seen
        assert torch.equal(ours.minimum, theirs.minimum)
        assert torch.equal(ours.maximum, theirs.maximum)


@dtypes
@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (4, 2), (7, 1)])
@pytest.mark.parametrize("scope", ["group", "head"])
def test_scores_of_pages_are_those_of_the_method(
    dtype: torch.dtype, heads: int, kv_heads: int, scope: str
) -> None:
    q = normal(2, heads, 1, 24, dtype=dtype)
    k = normal(2, kv_heads, 100, 24, dtype=dtype, seed=1)
    lengths, offsets = torch.tensor([100, 40], device=DEVICE), torch.tensor([0, 60], device=DEVICE)
    bounds = cache.updated_page_bounds(k, offsets, 16, None)
    method = METHODS["quest"](scope=scope)
    (want,) = method.importance(q, k, SimpleNamespace(page_bounds=lambda size: bounds))
    with poisoned():
        got = pages.page_scores(q, bounds, lengths, 16, want.shape[1])
    for row, complete in enumerate([6, 2]):
        assert close(got[row, :, :complete], want[row, :, :complete], torch.float32)
        assert (got[row, :, complete:] == -float("inf")).all()


# ---- the window


@dtypes
@pytest.mark.parametrize(
    ("tokens", "heads", "kv_heads", "dim", "size"),
    [(140, 2, 1, 16, 64), (70, 4, 2, 24, 70), (20, 2, 2, 64, 64), (1, 7, 1, 16, 8)],
)
def test_sums_of_the_window_are_those_of_the_torch_code(
    dtype: torch.dtype, tokens: int, heads: int, kv_heads: int, dim: int, size: int
) -> None:
    q, k, around = prompt(tokens, heads, kv_heads, dim, dtype)
    for end in (around.lengths, (around.lengths - 9).clamp(min=1)):
        want = twins.window_sums(q, k, around, end, size)
        with poisoned():
            got = scores.window_sums(q, k, around, end, size)
        for ours, theirs in zip(got, want, strict=True):
            assert close(ours, theirs, torch.float32)


@dtypes
def test_columns_of_the_last_queries_are_those_of_the_torch_code(dtype: torch.dtype) -> None:
    _, k, around = prompt(60, 4, 2, 16, dtype)
    lengths, end, size = around.lengths, around.lengths - 5, 40
    # Each row's last queries; the shorter row has fewer than are given.
    q = normal(2, 4, 48, 16, dtype=dtype, seed=3)
    chunks = torch.cat([rows for rows, _ in window(q, k, lengths, end, size, 0.2, last=True)], 2)
    for most, want in ((False, chunks.sum(2)), (True, chunks.amax(2))):
        with poisoned():
            got = scores.window_columns(q, k, lengths, end, size, 0.2, most)
        assert close(got, want, torch.float32)


# ---- pooled blocks


@dtypes
@pytest.mark.parametrize(("tokens", "size", "budget"), [(75, 16, 4), (65, 32, 9), (3, 16, 3)])
def test_pooled_choices_are_those_of_the_method(
    dtype: torch.dtype, tokens: int, size: int, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    q, k, around = prompt(tokens, 4, 2, 24, dtype)
    monkeypatch.setattr(pooled, "SCORES", 100)
    for scope, choosers in (("head", 4), ("group", 2)):
        method = METHODS["block_sparse"](block_size=size, top_blocks=budget, scope=scope)
        want = method.choose(method.importance(q, k, around), around)
        with poisoned():
            got = pooled.pooled_selection(q, k, around.lengths, size, budget, choosers)
        assert torch.equal(got.starts, want.starts)
        assert torch.equal(got.widths, want.widths)
        assert got.query_block == want.query_block


def test_launchers_have_the_signatures_of_their_twins() -> None:
    assert inspect.signature(scores.window_sums) == inspect.signature(twins.window_sums)
