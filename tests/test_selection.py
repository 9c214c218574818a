"""Selection: the mask, and the counts that must agree with it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import tensors
from tolerances import RELATIVE, relative_error

from sparsestudy.attention import CHUNK, selected_attention
from sparsestudy.reference import reference_attention
from sparsestudy.selection import Selection


@st.composite
def selections(draw: st.DrawFn) -> tuple[Selection, int]:
    """Any disjoint ranges, used and unused slots mixed, diagonal always kept; prefill or one decode step."""
    tokens = draw(st.integers(1, 70))
    block = draw(st.sampled_from([1, 3, 16]))
    decode = draw(st.booleans())
    block, blocks = (1, 1) if decode else (block, -(-tokens // block))
    heads = draw(st.sampled_from([1, 2, 4]))
    starts, widths = [], []
    for _ in range(heads):
        for b in range(blocks):
            first = tokens - 1 if decode else b * block
            kept = draw(st.lists(st.booleans(), min_size=first + block, max_size=first + block))
            kept[first:] = [True] * block
            runs, at = [], 0
            while at < len(kept):
                stop = at
                while stop < len(kept) and kept[stop] == kept[at]:
                    stop += 1
                runs.append((at, (stop - at) if kept[at] else 0))
                at = stop
            starts.append([r[0] for r in runs])
            widths.append([r[1] for r in runs])
    most = max(map(len, starts))
    shape = (1, heads, blocks, most)
    pad = (
        [[*row, *[0] * (most - len(row))] for row in starts],
        [[*row, *[0] * (most - len(row))] for row in widths],
    )
    s, w = (torch.tensor(x).reshape(shape) for x in pad)
    first_query = torch.tensor([tokens - 1 if decode else 0])
    made = Selection(
        starts=s, widths=w, query_block=block, first_query=first_query, lengths=torch.tensor([tokens])
    )
    return made, tokens


def whole_mask(selection: Selection, tokens: int) -> torch.Tensor:
    """All real queries of a selection."""
    queries = tokens - int(selection.first_query[0])
    return selection.mask(slice(0, queries), tokens)


@settings(max_examples=60, deadline=None)
@given(selections())
def test_counts_are_those_of_the_mask(case: tuple[Selection, int]) -> None:
    selection, tokens = case
    mask = whole_mask(selection, tokens)
    assert torch.equal(selection.attended(), mask.sum((2, 3)))
    causal = sum(range(int(selection.first_query[0]) + 1, tokens + 1))
    assert selection.available().tolist() == [[causal]]
    assert (selection.computed() >= selection.attended()).all()


@settings(max_examples=30, deadline=None)
@given(selections(), st.integers(0, 4))
def test_a_slice_of_the_mask_is_the_mask_sliced(case: tuple[Selection, int], block: int) -> None:
    selection, tokens = case
    mask = whole_mask(selection, tokens)
    start = (
        min(block * selection.query_block, mask.shape[2] - 1) // selection.query_block * selection.query_block
    )
    assert torch.equal(selection.mask(slice(start, mask.shape[2]), tokens), mask[:, :, start:])


def test_a_slice_must_start_at_a_block() -> None:
    ranges = torch.zeros(1, 1, 2, 1, dtype=torch.int32)
    selection = Selection(
        starts=ranges,
        widths=ranges + 16,
        query_block=16,
        first_query=torch.tensor([0]),
        lengths=torch.tensor([32]),
    )
    with pytest.raises(ValueError, match="multiple of 16"):
        selection.mask(slice(3, 20), 32)


@settings(max_examples=30, deadline=None)
@given(selections())
def test_attention_over_a_selection_equals_the_reference(case: tuple[Selection, int]) -> None:
    selection, tokens = case
    if int(selection.first_query[0]):
        return
    q, k, v = tensors(tokens)
    out = selected_attention(q, k, v, selection, 0.25)
    assert relative_error(out, reference_attention(q, k, v, selection, 0.25)) < RELATIVE["float32"]


def test_attention_is_chunked_without_a_seam() -> None:
    tokens = CHUNK + 40
    q, k, v = tensors(tokens, heads=2, kv_heads=1)
    position = torch.arange(tokens)
    starts = (position - 30).clamp(min=0).reshape(1, 1, tokens, 1)
    selection = Selection(
        starts=starts,
        widths=torch.full_like(starts, 31),
        query_block=1,
        first_query=torch.tensor([0]),
        lengths=torch.tensor([tokens]),
    )
    out = selected_attention(q, k, v, selection, 0.25)
    assert relative_error(out, reference_attention(q, k, v, selection, 0.25)) < RELATIVE["float32"]
