"""Kernels of one-token steps: equal to their torch twins, in the interpreter or on a GPU."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import subprocess
import sys

import pytest
import torch
from kernels import DEVICE, DTYPES, close, normal, own_compiler, poisoned
from shapes import context, variant_id, variants
from torch import Tensor

pytest.importorskip("triton")

from sparsestudy import attention, cache, eviction
from sparsestudy.cache import StudyLayer
from sparsestudy.kernels import decode, pages
from sparsestudy.methods import METHODS
from sparsestudy.methods.base import Context, Method
from sparsestudy.selection import RowSelection

torch.set_num_threads(1)

# (heads, kv heads, dim): every group size, every head size and one that fills no tile.
HEADS = [(1, 1, 64), (4, 2, 16), (4, 1, 24), (7, 1, 32), (8, 1, 128), (4, 2, 256)]
SCALING = 0.2
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
heads_of = pytest.mark.parametrize(("heads", "kv_heads", "dim"), HEADS)


def step(lengths: list[int], heads: int, kv_heads: int, dim: int, dtype: torch.dtype = torch.float32):
    """Query, keys and values of a left-padded cache, and its context; padding slots hold NaN."""
    slots = max(lengths)
    q = normal(len(lengths), heads, 1, dim, dtype=dtype)
    k, v = (normal(len(lengths), kv_heads, slots, dim, dtype=dtype, seed=seed) for seed in (1, 2))
    around = on_device(context(lengths, k, [slots - n for n in lengths], SCALING))
    return q, k, v, around


def on_device(around: Context) -> Context:
    """The same context with its tensors where the kernels run."""
    moved = {
        field.name: value.to(DEVICE)
        for field in dataclasses.fields(around)
        if isinstance(value := getattr(around, field.name), Tensor)
    }
    offsets = moved["offsets"]
    bounds = around.page_bounds
    held = inspect.getclosurevars(bounds).nonlocals["k"]
    return dataclasses.replace(
        around, **moved, page_bounds=lambda size: cache.updated_page_bounds(held, offsets, size, None)
    )


def whole(around: Context, slots: int) -> RowSelection:
    """Every real token of each row."""
    token = torch.arange(slots, device=DEVICE)
    return RowSelection.of_step((token < around.lengths[:, None])[:, None], around.lengths)


def spoilt(x: Tensor, selection: RowSelection, offsets: Tensor) -> Tensor:
    """A copy in which every slot that no head of a KV group attends is NaN."""
    slots = x.shape[2]
    mask = selection.mask(slice(0, 1), slots)[:, :, 0]
    mask = mask.expand(len(x), max(mask.shape[1], x.shape[1]), -1).unflatten(1, (x.shape[1], -1)).any(2)
    token = torch.arange(slots, device=DEVICE) - offsets[:, None]
    kept = mask.gather(-1, token.clamp(min=0)[:, None].expand_as(mask)) & (token >= 0)[:, None]
    return x.masked_fill(~kept[..., None], float("nan"))


@dtypes
@heads_of
def test_a_whole_cache_is_attended_and_its_padding_never_read(
    dtype: torch.dtype, heads: int, kv_heads: int, dim: int
) -> None:
    for lengths in ([1], [100, 1, 70]):
        q, k, v, around = step(lengths, heads, kv_heads, dim, dtype)
        selection = whole(around, k.shape[2])
        want = attention.selected_decode(q.float(), k.float(), v.float(), selection, around.offsets, SCALING)
        bad_k, bad_v = (spoilt(x, selection, around.offsets) for x in (k, v))
        with poisoned():
            out = decode.whole_decode(q, bad_k, bad_v, around.lengths, around.offsets, SCALING)
        assert out.dtype == dtype
        assert close(out, want, dtype)


DECODING = [m for m in variants() if m.phase == "decode" and not m.evicts]


@pytest.mark.parametrize("method", DECODING, ids=variant_id)
def test_every_choice_of_a_step_is_attended_as_by_the_twin(method: Method) -> None:
    q, k, v, around = step([100, 40, 1], 4, 2, 16)
    for sparsity in (0.3, 0.7):
        ready = method.at_sparsity(sparsity, 100)
        selection = ready.decode(q, k, around)
        assert selection is not None
        want = attention.selected_decode(q, k, v, selection, around.offsets, SCALING)
        bad_k, bad_v = (spoilt(x, selection, around.offsets) for x in (k, v))
        with poisoned():
            out = decode.selected_decode(q, bad_k, bad_v, selection, around.offsets, SCALING)
        assert close(out, want, torch.float32)


@dtypes
@heads_of
def test_kept_and_new_tokens_of_an_evicted_cache_are_attended(
    dtype: torch.dtype, heads: int, kv_heads: int, dim: int
) -> None:
    q, k, v, around = step([90, 1, 50], heads, kv_heads, dim, dtype)
    token = torch.arange(90, device=DEVICE)
    kept = normal(3, kv_heads, 90, seed=5) > torch.linspace(-1, 1, kv_heads, device=DEVICE)[:, None]
    kept = (kept | (token == 0)) & (token < around.lengths[:, None])[:, None]
    for kept_now in (kept, (token == 0).expand_as(kept)):
        whole_layer = StudyLayer()
        whole_layer.update(k, v)
        layer = eviction.EvictedLayer(whole_layer, kept_now, around.offsets)
        new = layer.update(*(normal(3, kv_heads, 2, dim, dtype=dtype, seed=seed) for seed in (6, 7)))
        layer.flat, exact = tuple(x.float() for x in layer.flat), layer.flat
        want = eviction.evicted_attention(q.float(), *(x.float() for x in new), layer, SCALING)
        layer.flat = exact
        with poisoned():
            out = decode.evicted_attention(q, *new, layer, SCALING)
        assert close(out, want, dtype)


@dtypes
@pytest.mark.parametrize("scope", ["group", "head"])
def test_a_paged_step_is_the_choice_of_pages_and_their_attention(dtype: torch.dtype, scope: str) -> None:
    for lengths, page, budget in (([83, 48, 5], 16, 3), ([20], 16, 40)):
        q, k, v, around = step(lengths, 4, 2, 24, dtype)
        method = METHODS["quest"](page_size=page, token_budget=page * budget, scope=scope)
        selection = method.decode(q, k, around)
        want = attention.selected_decode(q.float(), k.float(), v.float(), selection, around.offsets, SCALING)
        # The bounds are those before the new token; the step brings them up to date.
        bounds = cache.updated_page_bounds(k[:, :, :-1], around.offsets, page, None)
        choosers = selection.heads
        with poisoned():
            out = pages.paged_decode(
                q, k, v, bounds, around.lengths, around.offsets, budget, page, choosers, SCALING
            )
        assert close(out, want, dtype)
        now = around.page_bounds(page)
        for row, length in enumerate(lengths):
            held = -(-length // page)
            assert torch.equal(bounds.minimum[row, :, :held], now.minimum[row, :, :held])
            assert torch.equal(bounds.maximum[row, :, :held], now.maximum[row, :, :held])


@pytest.mark.parametrize(
    ("kernel", "twin"),
    [
        (decode.selected_decode, attention.selected_decode),
        (decode.evicted_attention, eviction.evicted_attention),
        (pages.updated_page_bounds, cache.updated_page_bounds),
    ],
)
def test_launchers_have_the_signatures_of_their_twins(kernel, twin) -> None:
    assert inspect.signature(kernel) == inspect.signature(twin)


@pytest.mark.slow
@own_compiler
@pytest.mark.parametrize("which", ["decode", "scores"])
@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_without_spilling(capability: int, which: str, root) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, root / "tests" / "compiling.py", str(capability), which],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    kernels = [json.loads(line) for line in done.stdout.splitlines()]
    assert kernels
    assert [x for x in kernels if x["shared"] > x["limit"]] == []
    # fp32 is there for tests: its products on the tensor cores take three passes, and registers for each.
    assert [x for x in kernels if x["stack"] and "float32" not in x["call"]] == []


@pytest.mark.gpu
@pytest.mark.parametrize("batch", [1, 3])
def test_a_graph_holds_a_step_at_full_length(batch: int) -> None:
    """The captured step follows lengths and caches that change after the capture."""
    heads, kv_heads, dim, slots, page, budget = 28, 4, 128, 131_072, 16, 409
    q = normal(batch, heads, 1, dim, dtype=torch.bfloat16)
    k, v = (normal(batch, kv_heads, slots, dim, dtype=torch.bfloat16, seed=seed) for seed in (1, 2))
    offsets = torch.zeros(batch, dtype=torch.long, device=DEVICE)
    lengths = torch.full((batch,), slots - 40, device=DEVICE)
    bounds = pages.updated_page_bounds(k, offsets, page, None)

    def run() -> Tensor:
        return pages.paged_decode(q, k, v, bounds, lengths, offsets, budget, page, kv_heads, 0.09)

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        run()
    side.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = run()
    for _ in range(20):
        lengths += 1
        q.copy_(normal(batch, heads, 1, dim, dtype=torch.bfloat16, seed=int(lengths[0])))
        graph.replay()
    method = METHODS["quest"](page_size=page, token_budget=page * budget)
    around = dataclasses.replace(
        on_device(context([slots - 20] * batch, k)), page_bounds=lambda size: bounds, lengths=lengths
    )
    (want_scores,) = method.importance(q, k, around)
    scores = pages.page_scores(q, bounds, lengths, page, kv_heads)
    assert close(scores[..., :8000], want_scores[..., :8000], torch.float32)
    selection = method.choose((scores,), around)
    want = attention.selected_decode(q, k, v, selection, offsets, 0.09)
    assert close(out, want, torch.bfloat16)
    everything = decode.whole_decode(q, k, v, lengths, offsets, 0.09)
    assert close(everything, attention.selected_decode(q, k, v, whole(around, slots), offsets, 0.09), q.dtype)
