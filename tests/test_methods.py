"""Laws that hold for every registered method; a new method is covered without a change here."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import EDGES, context, tensors, variant_id, variants

from sparsestudy.errors import StudyError, Unreachable
from sparsestudy.methods import METHODS
from sparsestudy.methods.base import Method
from sparsestudy.selection import Selection

SPARSE = [method for method in variants() if method.phase != "none"]
TARGETS = (0.25, 0.5, 0.667, 0.8, 0.9, 0.95)


def choose(method: Method, tokens: int, seed: int = 0, batch: int = 1) -> Selection:
    """What a method selects for a random input of so many tokens, in its own phase."""
    q, k, _ = tensors(tokens, batch=batch, seed=seed)
    around = context([tokens] * batch, k)
    selection = (
        method.prefill(q, k, around) if method.phase == "prefill" else method.decode(q[:, :, -1:], k, around)
    )
    assert selection is not None
    return selection


def mask_of(selection: Selection, tokens: int) -> torch.Tensor:
    """The whole mask of a selection."""
    return selection.mask(slice(0, tokens - int(selection.first_query[0])), tokens)


def budgeted(method: Method, sparsity: float, tokens: int) -> Method | None:
    """The method at a sparsity, or None where it says that it cannot be reached."""
    try:
        return method.at_sparsity(sparsity, tokens)
    except Unreachable:
        return None


@pytest.mark.parametrize("name", list(METHODS))
def test_a_method_is_a_documented_frozen_dataclass(name: str) -> None:
    cls = METHODS[name]
    assert cls.name == name
    assert dataclasses.is_dataclass(cls)
    with pytest.raises(dataclasses.FrozenInstanceError):
        cls().phase = "prefill"  # type: ignore[misc]  # the error is what is tested
    for part in ("Idea:", "Source:", "Deviations:"):
        assert part in (cls.__doc__ or "")
    for field in dataclasses.fields(cls):
        if field.init:
            assert f"{field.name}:" in (cls.__doc__ or ""), f"{field.name} is not described"
    assert cls().phase in ("none", "prefill", "decode")


@pytest.mark.parametrize("method", variants(), ids=variant_id)
def test_a_method_is_dense_outside_its_phase(method: Method) -> None:
    q, k, _ = tensors(40)
    around = context([40], k)
    if method.phase != "prefill":
        assert method.prefill(q, k, around) is None
    if method.phase != "decode":
        assert method.decode(q[:, :, -1:], k, around) is None


@pytest.mark.parametrize("tokens", EDGES)
@pytest.mark.parametrize("method", SPARSE, ids=variant_id)
def test_full_budget_selects_everything(method: Method, tokens: int) -> None:
    full = method.at_sparsity(0.0, tokens)
    assert full.is_dense(tokens)
    assert torch.all(choose(full, tokens).density() == 1)


@pytest.mark.parametrize("tokens", EDGES)
@pytest.mark.parametrize("method", SPARSE, ids=variant_id)
def test_every_query_keeps_a_key_and_none_looks_ahead(method: Method, tokens: int) -> None:
    for sparsity in (0.5, 0.9):
        ready = budgeted(method, sparsity, tokens)
        if ready is None:
            continue
        selection = choose(ready, tokens)
        mask = mask_of(selection, tokens)
        assert mask.any(-1).all()
        position = torch.arange(tokens)[int(selection.first_query[0]) :]
        assert not mask[..., torch.arange(tokens) > position[:, None]].any()
        own = mask[:, :, torch.arange(len(position)), position]
        assert own.all(), "a query attends at least its own key"
        assert torch.equal(selection.attended(), mask.sum((2, 3))), "ranges overlap"


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(SPARSE), st.sampled_from(TARGETS), st.integers(200, 1500), st.integers(0, 99))
def test_achieved_density_is_near_the_target(method: Method, sparsity: float, tokens: int, seed: int) -> None:
    ready = budgeted(method, sparsity, tokens)
    if ready is None:
        return
    density = choose(ready, tokens, seed).density()
    # One block or page of 16 tokens a row, and the causal half of a diagonal block.
    slack = 16 / tokens + 0.5 * 16 / tokens
    assert (density - (1 - sparsity)).abs().max() <= slack


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(SPARSE), st.integers(300, 1200), st.integers(0, 99))
def test_more_budget_never_lowers_density(method: Method, tokens: int, seed: int) -> None:
    found = [
        float(choose(ready, tokens, seed).density().mean())
        for sparsity in (0.95, 0.9, 0.8, 0.5, 0.25, 0.0)
        if (ready := budgeted(method, sparsity, tokens)) is not None
    ]
    assert found == sorted(found)


@pytest.mark.parametrize("method", SPARSE, ids=variant_id)
def test_impossible_targets_are_refused_with_the_lowest_density(method: Method) -> None:
    for sparsity, tokens in ((0.999, 64), (0.95, 40), (0.99, 90)):
        with pytest.raises(Unreachable, match=str(tokens)) as caught:
            method.at_sparsity(sparsity, tokens)
        assert 1 - sparsity < caught.value.lowest_density <= 1


@pytest.mark.parametrize("method", SPARSE, ids=variant_id)
def test_selection_is_deterministic(method: Method) -> None:
    ready = method.at_sparsity(0.5, 300)
    first, second = choose(ready, 300), choose(ready, 300)
    assert torch.equal(mask_of(first, 300), mask_of(second, 300))


@pytest.mark.parametrize("method", SPARSE, ids=variant_id)
def test_a_row_chooses_as_it_would_alone(method: Method) -> None:
    ready = method.at_sparsity(0.6, 200)
    q, k, _ = tensors(200, batch=2)
    lengths = [200, 137]
    if ready.phase == "prefill":
        both = ready.prefill(q, k, context(lengths, k))
        alone = ready.prefill(q[1:, :, :137], k[1:, :, :137], context([137], k[1:, :, :137]))
        assert both is not None
        assert alone is not None
        row = both.mask(slice(0, 137 - 137 % both.query_block), 137)
        mine = alone.mask(slice(0, 137 - 137 % alone.query_block), 137)
    else:
        offsets = [0, 63]
        both = ready.decode(q[:, :, -1:], k, context(lengths, k, offsets))
        alone = ready.decode(q[1:, :, -1:], k[1:, :, 63:], context([137], k[1:, :, 63:]))
        assert both is not None
        assert alone is not None
        row, mine = both.mask(slice(0, 1), 137), alone.mask(slice(0, 1), 137)
    assert torch.equal(row[-1], mine[-1])
    assert both.attended()[-1].tolist() == alone.attended()[0].tolist()


# A choice shared by a KV group differs from the choices of its heads by design.
@pytest.mark.parametrize("method", [m for m in SPARSE if m.scope != "group"], ids=variant_id)
def test_grouped_heads_choose_as_repeated_ones(method: Method) -> None:
    ready = method.at_sparsity(0.6, 200)
    q, k, _ = tensors(200)
    repeated = k.repeat_interleave(2, dim=1)
    query = q if ready.phase == "prefill" else q[:, :, -1:]
    hook = ready.prefill if ready.phase == "prefill" else ready.decode
    grouped, single = hook(query, k, context([200], k)), hook(query, repeated, context([200], repeated))
    assert grouped is not None
    assert single is not None
    assert torch.equal(mask_of(grouped, 200), mask_of(single, 200))


@pytest.mark.parametrize(
    ("name", "fields", "word"),
    [
        ("block_sparse", {"block_size": 20}, "16, 32, 64 or 128"),
        ("block_sparse", {"top_blocks": 2}, ">= 3"),
        ("quest", {"token_budget": 100}, "multiple"),
        ("window", {"local": 0}, "local >= 1"),
    ],
)
def test_impossible_hyperparameters_are_one_sentence(name: str, fields: dict[str, int], word: str) -> None:
    with pytest.raises(StudyError, match=word):
        METHODS[name](**fields)
