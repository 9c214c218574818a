"""Eviction: what stays is right, takes only its own memory, and serves any number of decodes."""

from __future__ import annotations

import dataclasses
import gc
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
import torch
from architectures import NO_END, budgeted, build, chosen, generated, padded, prompt, reply, watched
from shapes import context, measure, tensors, variant_id, variants
from tolerances import LOGITS_BFLOAT16, relative_error
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import DynamicCache, DynamicLayer

from sparsestudy.attention import CHUNK, masked_attention, selected_attention
from sparsestudy.cache import RESERVE, StudyCache, StudyLayer
from sparsestudy.errors import StudyError, Unreachable
from sparsestudy.eviction import EvictedLayer
from sparsestudy.generate import Prefilled, Prompt, decode, evicted, observation, prefill
from sparsestudy.methods import METHODS
from sparsestudy.methods.base import Method
from sparsestudy.patch import sparse_attention
from sparsestudy.selection import RowSelection
from sparsestudy.trace import Trace

EVICTING = [method for method in variants() if method.evicts]
CHOSEN = chosen()
torch.set_num_threads(1)

evicting = pytest.mark.parametrize("method", EVICTING, ids=variant_id)


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def model(request: pytest.FixtureRequest) -> Any:
    return build(request.param)


def started(
    model: Any, rows: list[list[int]], methods: list[Method], tail: str = "dense", cuts: tuple[int, ...] = ()
) -> Prefilled:
    """A batch, prefilled densely with the queries that some methods need."""
    prompts = [Prompt(row, len(row) - cut) for row, cut in zip(rows, cuts or [9] * len(rows), strict=True)]
    return prefill(model, prompts, METHODS["dense"](), tail, observe=observation(methods, prompts))


def kept_layers(cache: StudyCache) -> list[EvictedLayer]:
    """The evicted layers; every layer that is not a sliding one must be one."""
    found = [layer for layer in cache.layers if isinstance(layer, StudyLayer)]
    assert found
    assert all(isinstance(layer, EvictedLayer) for layer in found)
    return found


# ---- memory


@evicting
def test_memory_is_that_of_the_kept_tokens_and_the_room(model: Any, method: Method) -> None:
    lengths = [200, 150, 30]
    ready = budgeted(method, 0.75, 200)
    start = started(model, [prompt(n, n) for n in lengths], [ready])
    cache = evicted(start, ready, Trace("torch"))
    heads, dim, capacity = 2, 16, 50
    want = [min(n, capacity) for n in lengths]
    for layer, whole in zip(cache.layers, start.cache.layers, strict=True):
        if not isinstance(whole, StudyLayer):
            continue
        assert layer.counts.double().mean(1).tolist() == want, "heads share one budget"
        assert layer.longest == int(layer.counts.max())
        queries = whole.seen.queries
        assert queries.shape[2] == ready.observed
        assert queries.untyped_storage().nbytes() == queries.numel() * 4, (
            "a view keeps all queries of the prompt"
        )
        kept = heads * sum(want) * dim * 4 * 2
        assert layer.nbytes() == kept
        assert whole.nbytes() == 3 * heads * (200 + RESERVE) * dim * 4 * 2
        token = torch.ones(3, heads, 1, dim)
        layer.update(token, token)
        assert layer.nbytes() == kept + 3 * heads * (1 + RESERVE) * dim * 4 * 2
    sliding = [layer for layer in cache.layers if not isinstance(layer, StudyLayer)]
    mine = sum(layer.nbytes() for layer in kept_layers(cache))
    assert cache.nbytes() == mine + sum(2 * x.keys.untyped_storage().nbytes() for x in sliding)
    assert cache.nbytes() < start.cache.nbytes()


def test_heads_share_a_budget_only_where_the_method_says_so(model: Any) -> None:
    rows = [prompt(200)]
    uneven = {}
    for name in ("snapkv", "ada_snapkv"):
        ready = budgeted(METHODS[name](), 0.75, 200)
        layers = kept_layers(evicted(started(model, rows, [ready]), ready, Trace("torch")))
        uneven[name] = [layer.ragged for layer in layers]
        for layer in layers:
            assert (int(layer.counts.sum()), layer.ragged) == (2 * 50, bool((layer.counts != 50).any()))
            assert int(layer.counts.min()) >= ready.forced
    assert not any(uneven["snapkv"])
    assert any(uneven["ada_snapkv"])


def storages(value: Any, found: dict[int, Any]) -> dict[int, Any]:
    """Every storage that an object reaches, by address."""
    if isinstance(value, torch.Tensor):
        found[value.untyped_storage().data_ptr()] = value.untyped_storage()
    elif isinstance(value, (list, tuple)):
        for item in value:
            storages(item, found)
    elif isinstance(value, dict):
        storages(list(value.values()), found)
    elif isinstance(value, StudyLayer) or dataclasses.is_dataclass(value):
        storages(vars(value), found)
    return found


@evicting
def test_nothing_keeps_the_whole_cache_alive(model: Any, method: Method) -> None:
    """Neither a view nor the kept queries: the storages of the prefill go as soon as it is dropped."""
    ready = budgeted(method, 0.75, 200)
    start = started(model, [prompt(200), prompt(120, 1)], [ready])
    layers = [layer for layer in start.cache.layers if isinstance(layer, StudyLayer)]
    whole = [StorageWeakRef(s) for s in storages(layers, {}).values()]
    cache = evicted(start, ready, Trace("torch"))
    assert not any(ref.expired() for ref in whole)
    del start, layers
    gc.collect()
    assert all(ref.expired() for ref in whole)
    for layer in kept_layers(cache):
        count = int(layer.counts.sum())
        sizes = [s.nbytes() for s in storages(layer, {}).values()]
        assert max(sizes) == count * 16 * 4, "the kept keys are the largest thing"
        # Beside them positions, and for each head how many it keeps and where they begin.
        assert sum(sizes) <= 2 * count * 16 * 4 + 8 * count + 2 * 8 * layer.counts.numel()


@evicting
@torch.no_grad()
def test_nothing_keeps_the_whole_cache_alive_inside_the_block(model: Any, method: Method) -> None:
    ready = budgeted(method, 0.75, 200)
    for cache in (StudyCache(model.config), DynamicCache(config=model.config)):
        with sparse_attention(model, ready):
            model(**padded(prompt(200), prompt(120, 1)), past_key_values=cache)
        for layer in kept_layers(cache):
            assert max(s.nbytes() for s in storages(layer, {}).values()) == int(layer.counts.sum()) * 16 * 4


# ---- what stays


@dataclass(frozen=True)
class Masked(Method):
    """Attends the tokens that an eviction kept and all later ones, over a whole cache."""

    name = "masked"
    phase: Literal["decode"] = field(default="decode", init=False)
    kept: dict[int, torch.Tensor] = field(default_factory=dict)

    def decode(self, q: Any, k: Any, context: Any) -> RowSelection:
        """See :meth:`Method.decode`."""
        kept = self.kept[context.layer]
        kept = torch.nn.functional.pad(kept, (0, k.shape[2] - kept.shape[2]))
        token = torch.arange(k.shape[2])
        later = (token >= context.prefilled[:, None]) & (token < context.lengths[:, None])
        return RowSelection.of_step(kept | later[:, None], context.lengths)


def fed(model: Any, cache: Any, mask: torch.Tensor, tokens: list[list[int]]) -> torch.Tensor:
    """Logits ``(steps, batch, vocabulary)`` of decode steps with given tokens."""
    logits = []
    for step in tokens:
        mask = torch.cat([mask, mask.new_ones(len(step), 1)], 1)
        position = mask.sum(1, keepdim=True) - 1
        out = model(
            input_ids=torch.tensor(step)[:, None],
            attention_mask=mask,
            position_ids=position,
            past_key_values=cache,
        )
        logits.append(out.logits[:, -1])
    return torch.stack(logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@evicting
@torch.no_grad()
def test_an_evicted_cache_equals_a_mask_over_a_whole_one(model: Any, method: Method, dtype: Any) -> None:
    """The kept set alone matters: positions stay true, heads and rows of different lengths do not mix."""
    used = model if dtype == torch.float32 else build(model.config.model_type.removesuffix("_text"), dtype)
    spy, seen = watched(budgeted(method, 0.6, 130))
    batch = padded(prompt(130), prompt(97, 1), prompt(20, 2))
    lengths = batch["attention_mask"].sum(1)
    small, whole = StudyCache(used.config), StudyCache(used.config)
    tokens = [prompt(3, seed) for seed in range(5)]
    with sparse_attention(used, spy):
        used(**batch, past_key_values=small)
        got = fed(used, small, batch["attention_mask"], tokens)
    kept = {layer: answer for layer, _, _, answer in seen}
    with sparse_attention(used, Masked(kept=kept)):
        used(**batch, past_key_values=whole)
        want = fed(used, whole, batch["attention_mask"], tokens)
    if dtype == torch.float32:
        assert (got - want).abs().max() < 1e-4
    else:
        assert relative_error(got, want) < LOGITS_BFLOAT16
    assert len(kept) == len(kept_layers(small))
    for place, stays in kept.items():
        layer = small.layers[place]
        assert torch.equal(layer.positions, stays.nonzero()[:, 2])
        assert torch.equal(layer.counts, stays.sum(-1))
        assert not stays.all(), "something must be gone"
        assert (layer.positions < lengths.repeat_interleave(layer.counts.sum(1))).all()
    assert small.get_seq_length() == whole.get_seq_length() == 135


@evicting
@torch.no_grad()
def test_new_tokens_stand_at_their_true_positions(model: Any, method: Method) -> None:
    ready = budgeted(method, 0.6, 100)
    seen: list[list[int]] = []
    hook = model.base_model.register_forward_pre_hook(
        lambda m, args, kwargs: seen.append(kwargs["position_ids"][:, -1].tolist()), with_kwargs=True
    )
    try:
        with sparse_attention(model, ready):
            generated(model, [prompt(100), prompt(60, 1)], 4, past_key_values=StudyCache(model.config))
    finally:
        hook.remove()
    assert seen == [[99 + i, 59 + i] for i in range(4)]


@evicting
def test_short_rows_are_kept_whole_beside_long_ones(model: Any, method: Method) -> None:
    ready = budgeted(method, 0.6, 150)
    rows = [prompt(150), prompt(60, 1), prompt(59, 2), prompt(8, 3), prompt(2, 4)]
    cuts = [9, 9, 9, 3, 1]
    together = reply(model, rows, ready, "dense", cut=cuts)
    for i, row in enumerate(rows):
        alone = reply(model, [row], ready, "dense", cut=cuts[i])
        assert together.ids[i] == alone.ids[0]
        assert together.trace.density("decode")[:, i].tolist() == pytest.approx(
            alone.trace.density("decode")[:, 0].tolist()
        )
    layer = kept_layers(evicted(started(model, rows, [ready], cuts=tuple(cuts)), ready, Trace("torch")))[0]
    assert layer.counts.double().mean(1).tolist() == [60, 60, 59, 8, 2]
    dense = reply(model, rows[2:], METHODS["dense"](), "dense", cut=cuts[2:])
    assert together.ids[2:] == dense.ids


# ---- one prefill, many decodes


def test_forks_share_what_is_kept_and_nothing_else(model: Any) -> None:
    ready = budgeted(METHODS["ada_snapkv"](), 0.75, 200)
    start = started(model, [prompt(200), prompt(90, 1)], [ready])
    cache = evicted(start, ready, Trace("torch"))
    first = [prompt(2, seed) for seed in range(4)]
    second = [prompt(2, seed) for seed in range(9, 13)]
    with torch.no_grad(), sparse_attention(model, ready), torch.no_grad():
        alone = [fed(model, cache.fork(), start.mask, tokens) for tokens in (first, second)]
        left = cache.fork()
        begun = fed(model, left, start.mask, first[:2])
        right = left.fork()
        mask = torch.cat([start.mask, start.mask.new_ones(2, 2)], 1)
        other = fed(model, right, mask, second[2:])
        rest = fed(model, left, mask, first[2:])
        again = fed(model, cache.fork(), start.mask, second)
    assert torch.equal(torch.cat([begun, rest]), alone[0])
    assert torch.equal(again, alone[1])
    assert not torch.equal(other, rest)
    for one, two, base in zip(*(kept_layers(c) for c in (left, right, cache)), strict=True):
        assert one.flat[0].data_ptr() == two.flat[0].data_ptr() == base.flat[0].data_ptr()
        assert one.keys.data_ptr() != two.keys.data_ptr()
        assert (one._used, two._used, base._used) == (4, 4, 0)


def test_one_prefill_serves_every_budget_and_method_in_any_order(model: Any) -> None:
    rows = [prompt(160), prompt(70, 1)]
    ready = [budgeted(m, s, 160) for m in CHOSEN if m.phase == "decode" for s in (0.2, 0.6)]
    ready += [METHODS["dense"]()]
    shared = started(model, rows, ready)
    layers = [x for x in shared.cache.layers if isinstance(x, StudyLayer)]
    before = [(x.keys.clone(), x.values.clone(), x.seen.queries.clone()) for x in layers]

    def answers(order: list[Method]) -> dict[Method, list[list[int]]]:
        return {m: decode(model, shared, m, 5, NO_END, lambda ids: False).ids for m in order}

    there, back = answers(ready), answers(ready[::-1])
    assert there == back
    for method in ready:
        fresh = started(model, rows, [method])
        assert decode(model, fresh, method, 5, NO_END, lambda ids: False).ids == there[method]
    for layer, (keys, values, queries) in zip(layers, before, strict=True):
        assert torch.equal(layer.keys, keys)
        assert torch.equal(layer.values, values)
        assert torch.equal(layer.seen.queries, queries)
        assert type(layer) is StudyLayer
    assert len({str(ids) for ids in there.values()}) > 1, "budgets must matter for this to say anything"


@evicting
@torch.no_grad()
def test_generate_evicts_from_every_growing_cache(model: Any, method: Method) -> None:
    ready = budgeted(method, 0.6, 120)
    rows = [prompt(120), prompt(70, 1)]
    driver = reply(model, rows, ready, "dense")
    given = [None, DynamicCache(config=model.config), DynamicCache(), StudyCache(model.config)]
    for cache in given:
        more = {} if cache is None else {"past_key_values": cache}
        with sparse_attention(model, ready) as trace:
            assert generated(model, rows, **more) == driver.ids
        want = driver.trace.row_density("decode")
        assert trace.row_density("decode").tolist() == pytest.approx(want.tolist())
        if cache is not None:
            assert sum(isinstance(layer, EvictedLayer) for layer in cache.layers) == len(
                trace.density("decode")
            )


# ---- without the question in view


@pytest.mark.parametrize("method", [m for m in EVICTING if hasattr(m, "aware")], ids=variant_id)
@torch.no_grad()
def test_a_choice_without_the_question_is_made_by_the_queries_before_it(model: Any, method: Method) -> None:
    blind = dataclasses.replace(budgeted(method, 0.6, 130), aware=False)
    seeing = dataclasses.replace(blind, aware=True)
    rows, cuts = [prompt(130), prompt(110, 1), prompt(50, 2)], [3, 25, 11]
    spy, answers = watched(blind)
    reply(model, rows, spy, "dense", cut=cuts)
    together = {layer: kept for layer, _, _, kept in answers}
    differs = False
    for i, (row, cut) in enumerate(zip(rows, cuts, strict=True)):
        spy, whole = watched(seeing)
        with sparse_attention(model, spy):
            model(input_ids=torch.tensor([row]), past_key_values=StudyCache(model.config))
        question = len(row) - cut
        for layer, q, k, with_question in whole:
            around = dataclasses.replace(
                context([len(row)], k, scaling=model.base_model.layers[layer].self_attn.scaling),
                question=torch.tensor([question]),
            )
            kept = blind.evict(q, k, around)
            assert torch.equal(together[layer][i, :, : len(row)], kept[0])
            differs |= not torch.equal(kept, with_question)
            # The same scores as those of the prompt that ends where the question begins.
            before = dataclasses.replace(around, lengths=torch.tensor([question]))
            (want,) = seeing.importance(q[:, :, :question], k[:, :, :question], before)
            (got,) = blind.importance(q, k, around)
            assert torch.allclose(got[..., :question], want, atol=1e-6)
    assert differs
    contexts = [reply(model, rows, m, "decode", cut=cuts).ids for m in (blind, seeing)]
    assert contexts[0] == contexts[1], "a context alone holds no question"
    with (
        pytest.raises(StudyError, match=rf"{blind.name} with aware=False .* question begins"),
        sparse_attention(model, blind),
    ):
        model(**padded(prompt(130)), past_key_values=StudyCache(model.config))


# ---- refusals


@evicting
@torch.no_grad()
def test_caches_that_an_eviction_cannot_serve_are_refused(model: Any, method: Method) -> None:
    ready = budgeted(method, 0.6, 90)
    row = torch.tensor([prompt(90)])
    cache = StudyCache(model.config)
    model(input_ids=row[:, :-1], past_key_values=cache)
    with (
        pytest.raises(StudyError, match=rf"{ready.name} evicts when the prompt is prefilled"),
        sparse_attention(model, ready),
    ):
        model(input_ids=row[:, -1:], past_key_values=cache)

    class Own(DynamicLayer):
        pass

    other = DynamicCache(config=model.config)
    other.layers = [Own() if type(layer) is DynamicLayer else layer for layer in other.layers]
    with (
        pytest.raises(StudyError, match=rf"{ready.name} cannot evict from a Own; pass .*StudyCache"),
        sparse_attention(model, ready),
    ):
        model(input_ids=row, past_key_values=other)


@evicting
def test_too_few_kept_queries_are_refused(model: Any, method: Method) -> None:
    ready = budgeted(method, 0.6, 90)
    prompts = [Prompt(prompt(90), 81)]
    for observe in range(min(ready.observed, 2)):
        start = prefill(model, prompts, METHODS["dense"](), "dense", observe=observe)
        with pytest.raises(StudyError, match=rf"{ready.name} .* kept {observe}; prefill with observe="):
            decode(model, start, ready, 3, NO_END, lambda ids: False)


@pytest.mark.parametrize("method", [m for m in CHOSEN if not m.evicts], ids=variant_id)
@torch.no_grad()
def test_nothing_selects_in_what_an_eviction_left(model: Any, method: Method) -> None:
    ready = budgeted(method, 0.4, 90)
    evicts = budgeted(EVICTING[0], 0.6, 90)
    cache = StudyCache(model.config)
    token = torch.ones(1, 1, dtype=torch.long)
    with sparse_attention(model, evicts):
        model(**padded(prompt(90)), past_key_values=cache)
        with pytest.raises(StudyError, match=r"cannot prefill in chunks"):
            model(input_ids=token.expand(1, 4), past_key_values=cache.fork())
    with (
        pytest.raises(StudyError, match=rf"{ready.name} cannot select in a cache whose tokens were evicted"),
        sparse_attention(model, ready),
    ):
        model(input_ids=token, past_key_values=cache.fork())
    with sparse_attention(model, METHODS["dense"]()), pytest.raises(StudyError, match="one token a row"):
        model(input_ids=token.expand(1, 4), past_key_values=cache.fork())
    with sparse_attention(model, METHODS["dense"]()):
        reading = model(input_ids=token, past_key_values=cache.fork()).logits
    with sparse_attention(model, evicts):
        assert torch.equal(model(input_ids=token, past_key_values=cache.fork()).logits, reading)
    for call in (cache.layers[-1].reset, lambda: cache.layers[-1].page_bounds(16)):
        with pytest.raises(StudyError, match="evicted"):
            call()


# ---- nothing n x n


class Largest(TorchDispatchMode):
    """The most elements of any storage that an operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                held = leaf.untyped_storage().nbytes() // leaf.element_size()
                self.elements = max(self.elements, held)
        return out


@pytest.mark.parametrize(
    "method",
    variants("method", "oracle"),
    ids=variant_id,
)
@torch.no_grad()
def test_no_tensor_grows_with_the_square_of_the_prompt(method: Method, full_size: bool) -> None:
    """At most some rows at a time: 512 rows of the mask, as int32 edges, and a key beyond the last."""
    tokens, heads, largest_block = 8192 if full_size else 2048, 2, 128
    bound = CHUNK * (tokens + largest_block)
    assert bound < tokens * tokens / 3
    q, k, v = tensors(tokens, heads=heads, kv_heads=1)
    around = context([tokens], k)
    # An oracle works through all rows of the attention: once is enough.
    for sparsity in (None, 0.5, 0.9) if method.role == "method" else (None,):
        ready = method
        if sparsity is not None:
            try:
                ready = method.at_sparsity(sparsity, tokens, measure(tokens, heads=heads, kv_heads=1))
            except Unreachable:
                continue
        with Largest() as seen:
            if ready.phase == "prefill":
                selection = ready.prefill(q, k, around)
                assert selection is not None
                selected_attention(q, k, v, selection, 0.25)
                masked_attention(q, k, v, selection, 0.25)
            elif ready.evicts:
                assert ready.evict(q[:, :, -ready.observed :], k, around) is not None
            else:
                assert ready.decode(q[:, :, -1:], k, around) is not None
        assert 0 < seen.elements / heads <= bound
