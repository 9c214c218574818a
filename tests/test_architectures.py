"""Every method in every architecture that the study names: sliding windows, padding, dtypes, refusals."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
import torch
from architectures import (
    ARCHITECTURES,
    NO_END,
    budgeted,
    build,
    chosen,
    generated,
    padded,
    prompt,
    reply,
    small,
    watched,
)
from shapes import variant_id, variants
from tolerances import LOGITS, LOGITS_BFLOAT16, RELATIVE, relative_error
from transformers import DynamicCache, Gemma2Config, Gemma2ForCausalLM, StaticCache

from sparsestudy.cache import StudyCache
from sparsestudy.errors import StudyError
from sparsestudy.generate import Prompt, decode, densities, head_densities, prefill
from sparsestudy.methods import METHODS
from sparsestudy.methods.base import Method
from sparsestudy.patch import attention_modules, sparse_attention
from sparsestudy.reference import reference_attention
from sparsestudy.trace import Step, Trace

CHOSEN = chosen()
METHOD = variants("method")
# The window of the sliding layers in the models here.
SLIDING = 32
# Models this small only lose time to a second thread.
torch.set_num_threads(1)

every_method = pytest.mark.parametrize("method", CHOSEN, ids=variant_id)


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def architecture(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(architecture: str) -> Any:
    return build(architecture)


@pytest.fixture(scope="module")
def half(architecture: str) -> Any:
    """The same random model, rounded."""
    return build(architecture, torch.bfloat16)


@pytest.fixture(scope="module")
def mixed() -> Any:
    """One sliding layer, two full ones."""
    return build("gemma3")


def windows(model: Any) -> list[int | None]:
    """The sliding window of each layer, as its config says; None for a full one."""
    window = getattr(model.config, "sliding_window", None)
    kinds = getattr(model.config, "layer_types", None)
    if kinds is None:
        return [window] * model.config.num_hidden_layers
    return [window if kind == "sliding_attention" else None for kind in kinds]


def pairs(first: int, last: int, window: int | None) -> int:
    """(query, key) pairs of the queries `first` to `last` - 1, each seeing at most `window` keys."""
    return sum(min(query + 1, window or last) for query in range(first, last))


ROWS = [prompt(100), prompt(61, 1)]


@pytest.fixture(scope="module")
@torch.no_grad()
def dense(model: Any) -> tuple[torch.Tensor, list[list[int]]]:
    """Logits of :data:`ROWS` and their continuation without any method."""
    return model(**padded(*ROWS)).logits, generated(model, ROWS, 4)


@every_method
@torch.no_grad()
def test_full_budget_equals_dense(model: Any, dense: Any, method: Method, full_size: bool) -> None:
    batch = padded(*ROWS)
    real = batch["attention_mask"].bool()
    full = method.at_sparsity(0.0, 120)
    with sparse_attention(model, full):
        assert (model(**batch).logits - dense[0])[real].abs().max() < LOGITS
        assert generated(model, ROWS, 4) == dense[1]
    for tail in ("dense", "decode") if full_size else ("decode",):
        assert reply(model, ROWS, full, tail, 4).ids == dense[1]


@every_method
@torch.no_grad()
def test_padding_batch_and_driver_change_nothing(model: Any, method: Method, full_size: bool) -> None:
    """At a real budget: the driver in a padded batch, the driver row by row, and `generate()`."""
    ready = budgeted(method, 0.4, 120)
    rows = [prompt(120), prompt(47, 2), prompt(70, 1)][: 3 if full_size else 2]
    together = reply(model, rows, ready, "dense", 4)
    for i, row in enumerate(rows):
        alone = reply(model, [row], ready, "dense", 4)
        assert together.ids[i] == alone.ids[0]
        assert row_densities(together.trace)[i] == pytest.approx(row_densities(alone.trace)[0], nan_ok=True)
    with sparse_attention(model, ready) as trace:
        assert generated(model, rows, 4) == together.ids
    assert row_densities(trace) == pytest.approx(row_densities(together.trace), nan_ok=True)
    full_layers = windows(model).count(None)
    phase = ready.phase
    assert trace.density(phase).shape == (full_layers, len(rows))
    assert full_layers == 0 or float(trace.density(phase)[:, 0].mean()) < 0.97, "nothing is left out"


def row_densities(trace: Trace) -> list[float]:
    """Decode densities of each row, of the sparsified layers."""
    return trace.row_density("decode").tolist()


def test_replies_depend_on_what_is_attended(model: Any) -> None:
    """Otherwise equal tokens would say nothing here."""
    dense = reply(model, ROWS, METHODS["dense"](), "dense").ids
    for phase in ("prefill", "decode"):
        nearest = METHODS["window"](sinks=0, local=8, phase=phase)
        same = reply(model, ROWS, nearest, "decode").ids == dense
        assert same == (None not in windows(model))


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@torch.no_grad()
def test_layers_are_counted_as_what_they_are(model: Any, phase: Step) -> None:
    """A sliding layer attends all that it may, and weighs by that in the density of the model."""
    lengths, limit = [120, 47], 6
    method = next(m for m in METHOD if m.phase == phase)
    ready = budgeted(method, 0.4, 120)
    rows = [prompt(length, i) for i, length in enumerate(lengths)]
    with sparse_attention(model, ready) as trace:
        generated(model, rows, limit)
    counts = trace.counts[phase]
    assert sorted(counts) == list(range(len(windows(model))))
    attended = torch.zeros(2, dtype=torch.float64)
    available = torch.zeros(2, dtype=torch.float64)
    for layer, window in enumerate(windows(model)):
        # The first token comes from the prefill, and nothing is fed after the last.
        spans = [(0, n) if phase == "prefill" else (n, n + limit - 1) for n in lengths]
        want = torch.tensor([pairs(*span, window) for span in spans], dtype=torch.float64)
        counts[layer].settle()
        sums = counts[layer].sums
        assert torch.equal(sums["available"][:, 0], want)
        assert counts[layer].sparsified == (window is None)
        if window is not None:
            assert torch.equal(sums["attended"][:, 0], want)
            assert counts[layer].ratio("attended").tolist() == [1, 1]
        attended += sums["attended"].mean(1)
        available += want
    full = windows(model).count(None)
    assert trace.density(phase).shape == (full, 2)
    assert set(head_densities(trace, phase)) == {i for i, w in enumerate(windows(model)) if w is None}
    assert trace.model_density(phase).tolist() == pytest.approx((attended / available).tolist())
    if full == len(windows(model)):
        assert trace.model_density(phase).tolist() == pytest.approx(trace.row_density(phase).tolist())
    elif full:
        assert (trace.model_density(phase) > trace.row_density(phase))[0]
    else:
        assert trace.row_density(phase).isnan().all()
        assert trace.model_density(phase).tolist() == [1, 1]


@torch.no_grad()
def test_a_reply_without_a_step_has_no_density(model: Any) -> None:
    """A batch whose first token ends every reply takes no decode step; that is no error."""
    ready = budgeted(next(m for m in METHOD if m.phase == "decode"), 0.4, 60)
    answer = reply(model, [prompt(60), prompt(50, 1)], ready, "dense", limit=1)
    assert [len(ids) for ids in answer.ids] == [1, 1]
    for values in densities(answer.trace, "decode").values():
        assert len(values) == 2
        assert torch.tensor(values).isnan().all()
    assert head_densities(answer.trace, "decode") == {}


def edges(method: Method) -> list[int]:
    """Lengths at the edges of blocks, pages, sliding windows and the method's own window."""
    own = getattr(method, "window", 64)
    near = [edge + step for edge in (16, SLIDING, 64, own) for step in (-1, 0, 1)]
    return sorted({1, 2, *near})


@every_method
@torch.no_grad()
def test_short_prompts_run_and_are_dense_where_they_say_so(
    mixed: Any, method: Method, full_size: bool
) -> None:
    """The lengths concern methods: one model with layers of both kinds stands for all others."""
    models = [build(name) for name in ARCHITECTURES] if full_size else [mixed]
    for model, ready, length in itertools.product(models, (method, small(method)), edges(method)):
        tokens, one = torch.tensor([prompt(length + 1)]), StudyCache(model.config)
        with sparse_attention(model, ready) as trace:
            first = model(input_ids=tokens[:, :-1], past_key_values=one).logits
            step = model(input_ids=tokens[:, -1:], past_key_values=one).logits
        assert torch.isfinite(first).all()
        assert torch.isfinite(step).all()
        if ready.is_dense(length + 1):
            want = model(input_ids=tokens).logits
            assert (first - want[:, :-1]).abs().max() < LOGITS
            assert (step - want[:, -1:]).abs().max() < LOGITS
            for phase in ("prefill", "decode"):
                assert torch.all(trace.density(phase) == 1)


@every_method
@torch.no_grad()
def test_bfloat16_at_full_budget(half: Any, method: Method) -> None:
    """As close to dense attention in the same dtype as another order of the same sums may be."""
    batch = padded(prompt(100), prompt(61, 1))
    real = batch["attention_mask"].bool()
    want = half(**batch, use_cache=True)
    with sparse_attention(half, method.at_sparsity(0.0, 120)):
        cache = StudyCache(half.config)
        out = half(**batch, past_key_values=cache)
        token = torch.ones(2, 1, dtype=torch.long)
        mask = torch.cat([batch["attention_mask"], token], 1)
        step = half(input_ids=token, attention_mask=mask, past_key_values=cache)
    dense = half(input_ids=token, attention_mask=mask, past_key_values=want.past_key_values)
    assert out.logits.dtype == torch.bfloat16
    assert relative_error(out.logits[real], want.logits[real]) < LOGITS_BFLOAT16
    assert relative_error(step.logits, dense.logits) < LOGITS_BFLOAT16


@pytest.mark.parametrize("method", [m for m in CHOSEN if not m.evicts], ids=variant_id)
@torch.no_grad()
def test_bfloat16_at_a_real_budget(half: Any, method: Method) -> None:
    """Every sparsified layer gives the fp32 reference over its own selection, to the rounding of bfloat16."""
    spy, chosen_ = watched(budgeted(method, 0.4, 120))
    outputs: dict[int, torch.Tensor] = {}
    hooks = [
        module.o_proj.register_forward_pre_hook(
            lambda _, args, layer=module.layer_idx: outputs.update({layer: args[0]})
        )
        for module in attention_modules(half)
    ]
    row, cache = torch.tensor([prompt(120)]), StudyCache(half.config)
    parts = [row] if method.phase == "prefill" else [row[:, :-1], row[:, -1:]]
    with sparse_attention(half, spy):
        for part in parts:
            half(input_ids=part, past_key_values=cache)
    for hook in hooks:
        hook.remove()
    assert {layer for layer, *_ in chosen_} == {i for i, w in enumerate(windows(half)) if w is None}
    for layer, q, k, selection in chosen_:
        v, scaling = cache.layers[layer].values, attention_modules(half)[layer].scaling
        want = reference_attention(q, k, v, selection, scaling)
        got = outputs[layer].unflatten(-1, (q.shape[1], -1)).transpose(1, 2)
        assert got.dtype == torch.bfloat16
        assert relative_error(got, want) < RELATIVE["bfloat16"]


# ---- what is refused, in one sentence


def test_a_model_on_two_devices_is_refused(model: Any) -> None:
    ready = METHODS["window"](local=4)
    batch = padded(prompt(20))
    model.hf_device_map = {"model.layers.0": 0, "model.layers.1": "cpu"}
    try:
        with (
            pytest.raises(StudyError, match=r"spread over 0, cpu; .*one device"),
            sparse_attention(model, ready),
        ):
            pass
        model.hf_device_map = {"": "cpu"}
        with sparse_attention(model, ready):
            model(**batch)
    finally:
        del model.hf_device_map


@every_method
@torch.no_grad()
def test_capped_scores_are_refused(method: Method) -> None:
    config = Gemma2Config(
        vocab_size=97,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
    )
    torch.manual_seed(0)
    capped = Gemma2ForCausalLM(config).eval()
    with (
        pytest.raises(StudyError, match=r"caps its attention scores"),
        sparse_attention(capped, budgeted(method, 0.4, 60)),
    ):
        capped(**padded(prompt(60)))


@every_method
@torch.no_grad()
def test_a_cache_of_fixed_size_is_refused(mixed: Any, method: Method) -> None:
    ready = budgeted(method, 0.4, 60)
    with sparse_attention(mixed, ready):
        for more in (
            {"past_key_values": StaticCache(config=mixed.config, max_cache_len=80)},
            {"cache_implementation": "static"},
        ):
            with pytest.raises(StudyError, match=r"no StaticCache of a fixed size; pass .*StudyCache"):
                generated(mixed, [prompt(60)], **more)


CHUNKED = [m for m in CHOSEN if m.phase == "decode" and not m.evicts]
WHOLE = [m for m in CHOSEN if m.phase == "prefill" or m.evicts]


@pytest.mark.parametrize("method", WHOLE, ids=variant_id)
@torch.no_grad()
def test_a_prompt_in_chunks_is_refused_by_name(model: Any, method: Method) -> None:
    ready = budgeted(method, 0.4, 90)
    tokens = torch.tensor([prompt(90)])
    name = rf"{method.name} .*cannot prefill in chunks"
    with sparse_attention(model, ready):
        cache = StudyCache(model.config)
        model(input_ids=tokens[:, :40], past_key_values=cache)
        with pytest.raises(StudyError, match=name):
            model(input_ids=tokens[:, 40:], past_key_values=cache)
        for cache in (StudyCache(model.config), DynamicCache(config=model.config)):
            with pytest.raises(StudyError, match=name):
                generated(model, [prompt(90)], past_key_values=cache, prefill_chunk_size=40)


@pytest.mark.parametrize("method", CHUNKED, ids=variant_id)
@torch.no_grad()
def test_a_prompt_in_chunks_changes_nothing_for_selection_at_decode(model: Any, method: Method) -> None:
    ready = budgeted(method, 0.4, 90)
    rows = [prompt(90), prompt(37, 1)]
    whole = reply(model, rows, ready, "dense", 4)
    batch = padded(*rows)
    with sparse_attention(model, ready) as trace:
        for cache in (StudyCache(model.config), DynamicCache(config=model.config)):
            # With chunks of 40 the shorter row is padding alone in the first one.
            assert generated(model, rows, 4, past_key_values=cache, prefill_chunk_size=40) == whole.ids
    assert row_densities(trace) == pytest.approx(row_densities(whole.trace), nan_ok=True)
    cache = StudyCache(model.config)
    positions = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
    with sparse_attention(model, ready) as trace, trace.phase("prefill"):
        # The last chunk holds one token; said to be prefill, it is not taken for a decode step.
        for start, stop in ((0, 40), (40, 89), (89, 90)):
            logits = model(
                input_ids=batch["input_ids"][:, start:stop],
                attention_mask=batch["attention_mask"][:, :stop],
                position_ids=positions[:, start:stop],
                past_key_values=cache,
            ).logits
    assert trace.steps == {"prefill": 3, "decode": 0}
    assert torch.all(trace.density("prefill") == 1)
    started = dataclasses.replace(
        prefill(model, [Prompt(row, len(row)) for row in rows], METHODS["dense"](), "dense"),
        cache=cache,
        logits=logits[:, -1],
    )
    ids = decode(model, started, ready, 4, NO_END, lambda reply: False).ids
    assert ids == whole.ids


@torch.no_grad()
def test_padding_in_the_middle_or_on_the_right_is_refused(model: Any) -> None:
    sparse = METHODS["window"](local=4)
    for hidden in (slice(6, 8), slice(3, 5)):
        batch = padded(prompt(8), prompt(8, 1))
        batch["attention_mask"][1, hidden] = 0
        with pytest.raises(StudyError, match="padded on the left"), sparse_attention(model, sparse):
            model(**batch)
