"""The cache: appends, forks and page bounds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from architectures import budgeted, build, generated, prompt
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig

from sparsestudy.cache import StudyCache, StudyLayer, updated_page_bounds
from sparsestudy.methods import METHODS
from sparsestudy.patch import sparse_attention

CONFIG = LlamaConfig(
    vocab_size=32,
    hidden_size=16,
    intermediate_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
)


def tokens(count: int, seed: int, batch: int = 2) -> torch.Tensor:
    """Keys or values ``(batch, 2, count, 4)``."""
    return torch.randn(batch, 2, count, 4, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=5))
def test_appending_in_pieces_equals_concatenation(sizes: list[int]) -> None:
    cache = StudyCache(CONFIG)
    pieces = [tokens(size, i) for i, size in enumerate(sizes)]
    for piece in pieces:
        keys, values = cache.update(piece, -piece, 0)
    assert torch.equal(keys, torch.cat(pieces, 2))
    assert torch.equal(values, -keys)
    assert cache.get_seq_length() == sum(sizes)


def test_forks_do_not_see_each_other() -> None:
    cache = StudyCache(CONFIG)
    cache.update(tokens(20, 0), tokens(20, 1), 0)
    before = cache.layers[0].keys.clone()
    left, right = cache.fork(), cache.fork()
    cache.layers[0].page_bounds(16)
    left.update(tokens(3, 2), tokens(3, 2), 0)
    right.update(tokens(3, 3), tokens(3, 3), 0)
    assert torch.equal(cache.layers[0].keys, before)
    assert torch.equal(left.layers[0].keys[:, :, 20:], tokens(3, 2))
    assert torch.equal(right.layers[0].keys[:, :, 20:], tokens(3, 3))


def test_a_reset_leaves_forks_alone() -> None:
    cache = StudyCache(CONFIG)
    cache.update(tokens(5, 0), tokens(5, 1), 0)
    fork = cache.fork()
    cache.reset()
    assert cache.get_seq_length() == 0
    assert torch.equal(fork.layers[0].keys, tokens(5, 0))
    keys, _ = cache.update(tokens(2, 4), tokens(2, 4), 0)
    assert torch.equal(keys, tokens(2, 4))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 90),
    st.lists(st.sampled_from([1, 1, 1, 5, 20, 40]), max_size=6),
    st.sampled_from([4, 16]),
    st.integers(0, 50),
)
def test_page_bounds_are_those_computed_from_scratch(
    first: int, more: list[int], page: int, pad: int
) -> None:
    offsets = torch.tensor([0, min(pad, first - 1)])
    cache = StudyCache(CONFIG)
    layer = cache.layers[0]
    layer.offsets = offsets
    cache.update(tokens(first, 0), tokens(first, 0), 0)
    layer.page_bounds(page)
    for i, size in enumerate(more):
        layer = cache.layers[0]
        cache.update(tokens(size, i + 1), tokens(size, i + 1), 0)
        if i == 1:
            cache = cache.fork()
            layer = cache.layers[0]
        bounds = layer.page_bounds(page)
        keys = layer.keys
        for row, offset in enumerate(offsets.tolist()):
            real = keys[row, :, offset:]
            for p in range(-(-real.shape[1] // page)):
                held = real[:, p * page : (p + 1) * page]
                assert torch.equal(bounds.minimum[row, :, p], held.amin(1))
                assert torch.equal(bounds.maximum[row, :, p], held.amax(1))


class Gathered(TorchDispatchMode):
    """Tokens that gathers have read, per row."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.gather.default:
            self.tokens += out.shape[2]
        return out


@pytest.mark.parametrize("page", [4, 16])
def test_a_step_reads_one_page_again(page: int) -> None:
    """Whatever the length, the offsets and the forks: only the page that the new token falls into."""
    cache = StudyCache(CONFIG)
    cache.layers[0].offsets = torch.tensor([0, 7])
    cache.update(tokens(100, 0), tokens(100, 0), 0)
    with Gathered() as first:
        cache.layers[0].page_bounds(page)
    assert first.tokens == -(-100 // page) * page
    for step in range(3 * page):
        if step == page:
            cache = cache.fork()
        cache.update(tokens(1, step), tokens(1, step), 0)
        layer = cache.layers[0]
        with Gathered() as read:
            bounds = layer.page_bounds(page)
        assert read.tokens == page
        assert bounds.seen == 101 + step
    want = updated_page_bounds(layer.keys, layer.offsets, page, None)
    pages = -(-bounds.seen // page)
    assert torch.equal(bounds.minimum[:, :, :pages], want.minimum[:, :, :pages])
    assert torch.equal(bounds.maximum[:, :, :pages], want.maximum[:, :, :pages])


@torch.no_grad()
def test_bounds_follow_a_batch_that_decodes() -> None:
    """After a reply of a padded batch the bounds in the cache are those of its keys, in every full layer."""
    model, ready = build("gemma3"), budgeted(METHODS["quest"](), 0.4, 90)
    cache = StudyCache(model.config)
    with sparse_attention(model, ready):
        generated(model, [prompt(90), prompt(41, 1)], 12, past_key_values=cache)
    layers = [layer for layer in cache.layers if isinstance(layer, StudyLayer)]
    assert layers
    for layer in layers:
        (known,) = layer._bounds.values()
        want = updated_page_bounds(layer.keys, torch.tensor([0, 49]), ready.page_size, None)
        pages = -(-known.seen // ready.page_size)
        assert known.seen == layer.get_seq_length() == 101
        assert torch.equal(known.minimum[:, :, :pages], want.minimum[:, :, :pages])
        assert torch.equal(known.maximum[:, :, :pages], want.maximum[:, :, :pages])


@pytest.mark.parametrize("page", [4, 16])
def test_bounds_without_a_cache_layer_agree(page: int) -> None:
    keys = tokens(50, 9)
    whole = updated_page_bounds(keys, torch.tensor([0, 7]), page, None)
    assert torch.equal(whole.minimum[0, :, 0], keys[0, :, :page].amin(1))
    assert torch.equal(whole.maximum[1, :, 0], keys[1, :, 7 : 7 + page].amax(1))
