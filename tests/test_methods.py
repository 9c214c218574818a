"""Laws that hold for every registered method; a new method is covered without a change here."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import EDGES, context, measure, tensors, variant_id, variants

from sparsestudy.errors import StudyError, Unreachable
from sparsestudy.methods import METHODS
from sparsestudy.methods.base import Context, Method
from sparsestudy.methods.probabilities import probabilities

SPARSE = [method for method in variants() if method.phase != "none"]
TARGETS = (0.25, 0.5, 0.667, 0.8, 0.9, 0.95)


def hooked(method: Method, q: torch.Tensor, k: torch.Tensor, around: Context) -> Any:
    """What a method's own hook answers to the queries of a whole prompt, or to the last of them."""
    if method.phase == "prefill":
        return method.prefill(q, k, around)
    return method.evict(q, k, around) if method.evicts else method.decode(q[:, :, -1:], k, around)


def choose(method: Method, tokens: int, seed: int = 0, batch: int = 1) -> Any:
    """What a method selects for a random input of so many tokens, in its own phase."""
    q, k, _ = tensors(tokens, batch=batch, seed=seed)
    chosen = hooked(method, q, k, context([tokens] * batch, k))
    assert chosen is not None
    return chosen


def mask_of(chosen: Any, tokens: int) -> torch.Tensor:
    """The whole mask of a selection; of an eviction, which tokens a new one would attend."""
    if isinstance(chosen, torch.Tensor):
        return chosen[:, :, None]
    return chosen.mask(slice(0, tokens - int(chosen.first_query[0])), tokens)


def density_of(chosen: Any) -> torch.Tensor:
    """Attended density of each head; of an eviction, that of the prompt's tokens."""
    if isinstance(chosen, torch.Tensor):
        return chosen.double().mean(-1)
    return chosen.density()


def budgeted(method: Method, sparsity: float, tokens: int, seed: int = 0) -> Method | None:
    """The method at a sparsity, or None where it says that it cannot be reached."""
    try:
        return method.at_sparsity(sparsity, tokens, measure(tokens, seed))
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
    if method.phase != "decode" or method.evicts:
        assert method.decode(q[:, :, -1:], k, around) is None
    if not method.evicts:
        assert method.evict(q, k, around) is None


@pytest.mark.parametrize("tokens", EDGES)
@pytest.mark.parametrize("method", SPARSE, ids=variant_id)
def test_full_budget_selects_everything(method: Method, tokens: int) -> None:
    full = method.at_sparsity(0.0, tokens, measure(tokens))
    assert full.is_dense(tokens)
    assert torch.all(density_of(choose(full, tokens)) == 1)


@pytest.mark.parametrize("tokens", EDGES)
@pytest.mark.parametrize("method", SPARSE, ids=variant_id)
def test_every_query_keeps_a_key_and_none_looks_ahead(method: Method, tokens: int) -> None:
    # Defaults are larger than most of these lengths: then all is kept. The smaller budgets are forced ones.
    for ready in (method, budgeted(method, 0.5, tokens), budgeted(method, 0.9, tokens)):
        if ready is None:
            continue
        chosen = choose(ready, tokens)
        mask = mask_of(chosen, tokens)
        assert mask.any(-1).all()
        if isinstance(chosen, torch.Tensor):
            continue
        position = torch.arange(tokens)[int(chosen.first_query[0]) :]
        assert not mask[..., torch.arange(tokens) > position[:, None]].any()
        assert torch.equal(chosen.attended(), mask.sum((2, 3))), "ranges overlap"


@pytest.mark.parametrize("tokens", [64, 65, 300])
@pytest.mark.parametrize("method", [m for m in SPARSE if m.role != "oracle"], ids=variant_id)
def test_every_query_attends_itself(method: Method, tokens: int) -> None:
    """The diagonal is forced in every method and control; an oracle alone may find it useless."""
    ready = budgeted(method, 0.5, tokens)
    if ready is None:
        return
    chosen = choose(ready, tokens)
    mask = mask_of(chosen, tokens)
    assert mask.diagonal(offset=tokens - mask.shape[2], dim1=2, dim2=3).all()


@pytest.mark.parametrize("method", [m for m in SPARSE if hasattr(m, "sinks")], ids=variant_id)
def test_sinks_are_always_kept(method: Method) -> None:
    ready = budgeted(method, 0.6, 400) or method
    mask = mask_of(choose(ready, 400), 400)
    sinks = mask[..., : ready.sinks]
    position = torch.arange(400)[-mask.shape[2] :]
    assert (sinks | (torch.arange(ready.sinks) > position[:, None])).all()


def bound(method: Method, sparsity: float, tokens: int) -> float:
    """How far the density may lie from the target: a block or page a row, and half of a diagonal block.

    A calibrated method moves in the steps of its density: one more slash brings a tile of keys to every block
    of queries, where it does not touch another.
    """
    if not method.calibrated:
        return 1.5 * 16 / tokens
    return 0.12 if tokens < 1000 else 0.06


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SPARSE), st.sampled_from(TARGETS), st.integers(200, 1500), st.integers(0, 99))
def test_achieved_density_is_near_the_target(method: Method, sparsity: float, tokens: int, seed: int) -> None:
    ready = budgeted(method, sparsity, tokens, seed)
    if ready is None:
        return
    density = density_of(choose(ready, tokens, seed)).mean()
    assert abs(float(density) - (1 - sparsity)) <= bound(method, sparsity, tokens)


@pytest.mark.parametrize("method", [m for m in variants("method") if not m.calibrated], ids=variant_id)
def test_closed_forms_hold_at_every_length(method: Method, full_size: bool) -> None:
    """Random keys of one small head: a closed form holds on any input."""
    for tokens in (512, 2048, 8192, 32768) if full_size else (512, 2048):
        q, k, _ = tensors(tokens, heads=1, kv_heads=1, dim=4)
        for sparsity in (0.5, 0.8, 0.95):
            ready = budgeted(method, sparsity, tokens)
            if ready is None:
                assert tokens < 1000, "only short prompts may be out of reach"
                continue
            density = density_of(hooked(ready, q, k, context([tokens], k))).mean()
            assert abs(float(density) - (1 - sparsity)) <= bound(method, sparsity, tokens)


@pytest.mark.parametrize("method", [m for m in variants("method") if m.calibrated], ids=variant_id)
def test_calibrated_budgets_hold_on_other_prompts(method: Method) -> None:
    """Budgets found on one random input of four heads give the density on another one."""
    scores: dict[Method, Any] = {}
    for sparsity in (0.5, 0.8):
        try:
            ready = method.at_sparsity(sparsity, 1024, measure(1024, 0, scores))
        except Unreachable:
            continue
        other = density_of(choose(ready, 1024, seed=1)).mean()
        # Two to four heads of noise: a slash more or less that touches no other is 0.03 to 0.06.
        assert abs(float(other) - measure(1024, 0, scores)(ready)) <= 0.1


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(SPARSE), st.integers(300, 1200), st.integers(0, 99))
def test_more_budget_never_lowers_density(method: Method, tokens: int, seed: int) -> None:
    found = [
        float(density_of(choose(ready, tokens, seed)).mean())
        for sparsity in (0.95, 0.9, 0.8, 0.5, 0.25, 0.0)
        if (ready := budgeted(method, sparsity, tokens, seed)) is not None
    ]
    assert found == sorted(found)


@pytest.mark.parametrize("method", SPARSE, ids=variant_id)
def test_impossible_targets_are_refused_with_the_lowest_density(method: Method) -> None:
    for sparsity, tokens in ((0.999, 64), (0.999, 90)):
        with pytest.raises(Unreachable, match=str(tokens)) as caught:
            method.at_sparsity(sparsity, tokens, measure(tokens))
        assert 1 - sparsity < caught.value.lowest_density <= 1


@pytest.mark.parametrize("method", [m for m in SPARSE if m.calibrated], ids=variant_id)
def test_without_a_closed_form_a_measure_is_asked_for(method: Method) -> None:
    with pytest.raises(StudyError, match="no closed form"):
        method.at_sparsity(0.5, 300)


@pytest.mark.parametrize("method", SPARSE, ids=variant_id)
def test_selection_is_deterministic(method: Method) -> None:
    ready = budgeted(method, 0.5, 300) or method
    first, second = choose(ready, 300), choose(ready, 300)
    assert torch.equal(mask_of(first, 300), mask_of(second, 300))


@pytest.mark.parametrize("method", SPARSE, ids=variant_id)
def test_a_row_chooses_as_it_would_alone(method: Method) -> None:
    ready = budgeted(method, 0.6, 200) or method
    q, k, _ = tensors(200, batch=2)
    lengths, n = [200, 137], 137
    if ready.phase == "prefill":
        both = ready.prefill(q, k, context(lengths, k))
        alone = ready.prefill(q[1:, :, :n], k[1:, :, :n], context([n], k[1:, :, :n]))
        row, mine = both.mask(slice(0, n), n), alone.mask(slice(0, n), n)
    elif ready.evicts:
        # Each row's last query stands last; the keys come with token 0 first.
        moved = torch.cat([q[1:, :, -63:], q[1:, :, :n]], 2)
        both = ready.evict(torch.cat([q[:1], moved]), k, context(lengths, k))
        alone = ready.evict(q[1:, :, :n], k[1:, :, :n], context([n], k[1:, :, :n]))
        assert not both[1, :, n:].any()
        row, mine = both[:, :, :n], alone
    else:
        both = ready.decode(q[:, :, -1:], k, context(lengths, k, [0, 63]))
        alone = ready.decode(q[1:, :, -1:], k[1:, :, 63:], context([n], k[1:, :, 63:]))
        row, mine = both.mask(slice(0, 1), n), alone.mask(slice(0, 1), n)
    assert torch.equal(row[-1], mine[-1])
    if not ready.evicts:
        assert both.attended()[-1].tolist() == alone.attended()[0].tolist()


# A choice shared by a KV group differs from the choices of its heads by design.
@pytest.mark.parametrize("method", [m for m in SPARSE if m.scope != "group"], ids=variant_id)
def test_grouped_heads_choose_as_repeated_ones(method: Method) -> None:
    ready = budgeted(method, 0.6, 200) or method
    q, k, _ = tensors(200)
    repeated = k.repeat_interleave(2, dim=1)
    query = q if ready.phase == "prefill" else q[:, :, -1:]
    hook = ready.prefill if ready.phase == "prefill" else ready.decode
    grouped, single = hook(query, k, context([200], k)), hook(query, repeated, context([200], repeated))
    assert grouped is not None
    assert single is not None
    assert torch.equal(mask_of(grouped, 200), mask_of(single, 200))


@pytest.mark.parametrize("method", [m for m in SPARSE if m.scope == "group"], ids=variant_id)
def test_a_group_of_one_chooses_as_its_head(method: Method) -> None:
    """With as many KV heads as query heads nothing is shared, so each head must choose for itself alone."""
    ready = budgeted(method, 0.6, 200) or method
    if ready.name == "ada_snapkv" or getattr(ready, "like", "") == "ada_snapkv":
        return  # heads share one budget a layer by design
    q, k, _ = tensors(200, heads=3, kv_heads=3)
    together = mask_of(hooked(ready, q, k, context([200], k)), 200)
    if ready.name == "random":
        assert together.any()
        return  # its draws belong to the place of the head
    for head in range(3):
        one = slice(head, head + 1)
        alone = mask_of(hooked(ready, q[:, one], k[:, one], context([200], k[:, one])), 200)
        assert torch.equal(together[:, one], alone)


@pytest.mark.parametrize("method", variants("method"), ids=variant_id)
def test_controls_have_the_units_and_density_of_their_method(method: Method) -> None:
    """Whatever the scores, the same budget keeps as much where the count of units is fixed."""
    if method.calibrated:
        return  # calibrated on their own: test_achieved_density_is_near_the_target
    ready = method.at_sparsity(0.7, 400)
    q, k, _ = tensors(400)
    around = context([400], k)
    wanted = density_of(hooked(ready, q, k, around)).mean()
    for name in ("random", "oracle", "window"):
        control = METHODS[name](like=method.name)
        assert control.phase == method.phase
        if {"scope"} & {
            f.name for f in dataclasses.fields(method) if f.init
        } and method.scope != control.scope:
            continue
        mine = density_of(hooked(control.at_sparsity(0.7, 400), q, k, around)).mean()
        assert abs(float(mine - wanted)) <= 1.5 * 16 / 400


def test_seeds_make_other_draws() -> None:
    masks = [mask_of(choose(METHODS["random"](seed=seed).at_sparsity(0.7, 600), 600), 600) for seed in (0, 1)]
    assert not torch.equal(*masks)


@pytest.mark.parametrize("method", variants("method"), ids=variant_id)
def test_true_importance_is_all_of_the_attention(method: Method) -> None:
    """Over its units, each query's attention adds up to 1."""
    tokens = 600
    ready = budgeted(method, 0.7, tokens) or method
    q, k, _ = tensors(tokens, dim=16)
    around = context([tokens], k)
    (mass, *_) = ready.true_importance(q[:, :, -1:] if ready.phase == "decode" else q, k, around)
    assert torch.isfinite(mass).all()
    assert (mass >= 0).all()
    per_query = mass.flatten(2).sum(-1)
    queries = 1 if ready.phase == "decode" else tokens
    groups = 2 if ready.scope == "group" and ready.phase == "decode" else 1
    assert torch.allclose(per_query, torch.full_like(per_query, queries * groups), rtol=1e-4)


@pytest.mark.parametrize("method", [m for m in variants("method") if not m.calibrated], ids=variant_id)
def test_no_choice_keeps_more_attention_than_the_oracle(method: Method) -> None:
    """With equal units and budgets, over the heads that choose together; random draws keep less."""
    tokens = 600
    q, k, _ = tensors(tokens)
    around = context([tokens], k)
    kept = {}
    for name, chooser in {
        "method": method,
        "oracle": METHODS["oracle"](like=method.name),
        "random": METHODS["random"](like=method.name),
    }.items():
        ready = chooser.at_sparsity(0.7, tokens)
        if name != "method" and method.scope != ready.scope:
            return  # the control stands beside the method's default scope
        mask = mask_of(hooked(ready, q, k, around), tokens)
        rows = mask.shape[2]
        position = torch.arange(tokens - rows, tokens)[None]
        shares = probabilities(q[:, :, -rows:], k, position, around.scaling)
        kept[name] = (shares * mask.repeat_interleave(4 // mask.shape[1], 1)).sum()
    assert kept["oracle"] >= kept["method"] * (1 - 1e-6)
    assert kept["oracle"] > kept["random"]


@pytest.mark.parametrize(
    "name", ["vertical_slash", "flexprefill", "flexprefill_original", "snapkv", "ada_snapkv"]
)
def test_without_the_question_in_view_it_does_not_matter(name: str) -> None:
    """A method that must not see the question chooses the same before another question."""
    method, tokens = METHODS[name](aware=False), 1024
    ready = method.at_sparsity(0.4, tokens, measure(tokens))
    q, k, _ = tensors(tokens)
    other = q.clone()
    other[:, :, -8:] = torch.randn(1, 4, 8, 16, generator=torch.Generator().manual_seed(9))
    around = context([tokens], k)
    first, second = (mask_of(hooked(ready, x, k, around), tokens) for x in (q, other))
    if name == "flexprefill_original":  # the mean query of the last block holds the question
        first, second = first[:, :, :-128], second[:, :, :-128]
    assert torch.equal(first, second)
    seeing = dataclasses.replace(ready, aware=True)
    assert not all(
        torch.equal(a, b)
        for a, b in zip(seeing.importance(q, k, around), seeing.importance(other, k, around), strict=True)
    )


@pytest.mark.parametrize(
    ("name", "fields", "word"),
    [
        ("block_sparse", {"block_size": 20}, "16, 32, 64 or 128"),
        ("block_sparse", {"top_blocks": 2}, ">= 3"),
        ("quest", {"token_budget": 100}, "multiple"),
        ("window", {"local": 0}, "local >= 1"),
        ("window", {"like": "quest", "phase": "prefill"}, "decode phase"),
        ("random", {"like": "window"}, "a method that selects"),
        ("oracle", {"like": "nothing"}, "no method 'nothing'"),
        ("vertical_slash", {"tile": 32}, "16, 64, 128"),
        ("flexprefill", {"alpha": 2.0}, "alpha"),
        ("snapkv", {"kernel": 8}, "odd"),
        ("snapkv", {"capacity": 10}, "20 forced"),
        ("ada_snapkv", {"floor": 1.5}, "floor"),
    ],
)
def test_impossible_hyperparameters_are_one_sentence(name: str, fields: dict[str, Any], word: str) -> None:
    with pytest.raises(StudyError, match=word):
        METHODS[name](**fields)


@pytest.mark.parametrize("name", ["snapkv", "ada_snapkv"])
def test_pooling_leaves_out_the_window_that_was_looked_at(name: str) -> None:
    """The window ends where the question begins, so nothing from its first column on is pooled."""
    method = METHODS[name](aware=False, pool_window=False, window=16, kernel=5)
    q, k, _ = tensors(200)
    around = context([200], k)
    (scores,) = method.importance(q, k, around)
    first = int(around.question) - method.window
    assert first < 200 - method.window
    assert (scores[..., first + 2 :] == 0).all()
    assert (scores[..., : first - 2] > 0).all()
