"""The cost model against torch's count of real models, against hand-made numbers, and its laws."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shapes import variant_id, variants
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    DynamicCache,
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from sparsestudy import work
from sparsestudy.architecture import Architecture
from sparsestudy.cost import Cost, causal_pairs, decode, prefill
from sparsestudy.errors import StudyError
from sparsestudy.methods import METHODS
from sparsestudy.methods.base import Method
from sparsestudy.prices import Request, prices
from sparsestudy.schema import COSTS
from sparsestudy.work import Heads, Work

# Models this small only lose time to a second thread.
torch.set_num_threads(1)

# Head sizes that are not hidden / heads, so that a mix-up shows.
SIZES: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, head_dim=16)),
    "llama-biased-tied": lambda: LlamaForCausalLM(
        LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True, tie_word_embeddings=True)
    ),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True)),
    "qwen2-sliding": lambda: Qwen2ForCausalLM(
        Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=8, max_window_layers=1)
    ),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=16)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=None)),
    "mistral-sliding": lambda: MistralForCausalLM(MistralConfig(**SIZES, head_dim=16, sliding_window=8)),
    "gemma3": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(**SIZES, head_dim=16, sliding_window=8, layer_types=MIXED)
    ),
}


@pytest.fixture(scope="module", params=list(MODELS))
def model(request: pytest.FixtureRequest) -> Any:
    """A tiny model with random weights, whose attention is made of products that torch counts."""
    torch.manual_seed(0)
    built = MODELS[request.param]().eval()
    built.set_attn_implementation("eager")
    return built


@dataclass(frozen=True)
class Counted:
    """FLOPs that torch counted, by part."""

    linear: int
    attention: int
    head: int
    rotary: int


def counted(model: Any, ids: torch.Tensor, cache: DynamicCache) -> Counted:
    """Run one forward pass, the logits of the last position alone, and count it by module."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(input_ids=ids, past_key_values=cache, logits_to_keep=1)
    flops = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    projections = sum(n for name, n in flops.items() if name.endswith("_proj"))
    inside = sum(n for name, n in flops.items() if name.endswith("self_attn"))
    projected = sum(n for name, n in flops.items() if ".self_attn." in name and name.endswith("_proj"))
    head = sum(n for name, n in flops.items() if name.endswith("lm_head"))
    rotary = sum(n for name, n in flops.items() if name.endswith("rotary_emb"))
    # Nothing that torch counted lies outside the four parts.
    assert flops["Global"] == projections + inside - projected + head + rotary
    return Counted(projections, inside - projected, head, rotary)


def check_rotary(model: Any, found: Counted, tokens: int) -> None:
    """Older versions make rotary angles by a product, positions (1 row) times frequencies (half a head)."""
    # Gemma 3 has angles of their own for its sliding layers.
    embeddings = 2 if model.config.model_type == "gemma3_text" else 1
    assert found.rotary in (0, embeddings * tokens * Architecture.of(model.config).head_dim)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("length", [1, 8, 21])
def test_flops_are_those_that_torch_counts(model: Any, batch: int, length: int) -> None:
    arch = Architecture.of(model.config)
    cache = DynamicCache(config=model.config)
    ids = torch.randint(3, 50, (batch, length), generator=torch.Generator().manual_seed(0))
    found, ours = counted(model, ids, cache), prefill(arch, length, batch=batch)
    assert found.linear == batch * ours.linear.flops
    assert found.head == batch * ours.head.flops
    # Eager attention computes the whole square and masks it, in sliding layers as well; ours counts what is
    # causal and inside the window.
    pair = 4 * arch.query_heads * arch.head_dim
    masked = arch.full_layers * (length**2 - causal_pairs(length))
    masked += arch.sliding_layers * (length**2 - causal_pairs(length, arch.window))
    assert found.attention == batch * (ours.attention.flops + pair * masked)
    check_rotary(model, found, length)

    # A step masks nothing, so these are equal as they are: over the window's edge, and summed.
    total = 0
    for step in range(4):
        found, ours = counted(model, ids[:, :1], cache), decode(arch, length + step, 1, batch=batch)
        assert found.linear + found.head + found.attention == batch * ours.total.flops
        check_rotary(model, found, 1)
        total += found.linear + found.head + found.attention
    assert total == batch * decode(arch, length, 4, batch=batch).total.flops


def test_parameters_and_bytes_are_the_models(model: Any) -> None:
    arch = Architecture.of(model.config)
    assert arch.parameters == model.num_parameters()
    size = 4  # float32
    weights = size * model.num_parameters()
    if not arch.tied:
        weights -= model.get_input_embeddings().weight.nbytes
    ours = prefill(arch, 6, element_bytes=size)
    assert ours.linear.bytes + ours.head.bytes == weights
    assert ours.embedding.bytes == 6 * size * arch.hidden
    # What a step writes is what the cache grows by, and what it reads is the cache (no window is full yet).
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(input_ids=torch.ones(1, 6, dtype=torch.long), past_key_values=cache)
    before = _nbytes(cache)
    with torch.no_grad():
        model(input_ids=torch.ones(1, 1, dtype=torch.long), past_key_values=cache)
    after = _nbytes(cache)
    assert decode(arch, 6, 1, element_bytes=size).attention.bytes == after + (after - before)


def _nbytes(cache: DynamicCache) -> int:
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


@pytest.mark.parametrize("tied", [True, False])
def test_of_a_composite_model_the_language_model_is_read(tied: bool) -> None:
    text = {**SIZES, "head_dim": 16, "sliding_window": 8, "layer_types": MIXED}
    vision = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    }
    config = Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=4,
        image_token_index=49,
        boi_token_index=48,
        eoi_token_index=47,
        tie_word_embeddings=tied,
    )
    whole = Gemma3ForConditionalGeneration(config)
    arch = Architecture.of(config)
    own = {id(p): p for p in whole.model.language_model.parameters()}
    own |= {id(p): p for p in whole.lm_head.parameters()}
    assert arch.tied == tied
    assert arch.parameters == sum(p.numel() for p in own.values())
    assert (arch.layers, arch.sliding_layers, arch.window, arch.full_layers) == (3, 2, 8, 1)


# ---- by hand: 2 layers (1 sliding over 3 keys), hidden 8, MLP 16, 4 query heads on 2 KV heads of 4, 10 words

HAND = Architecture(
    layers=2,
    sliding_layers=1,
    window=3,
    hidden=8,
    intermediate=16,
    query_heads=4,
    kv_heads=2,
    head_dim=4,
    vocabulary=10,
    tied=False,
    norms=16,
    biases=0,
)


def test_a_prefill_by_hand() -> None:
    # Matrices of a layer: q 8*16, k and v 8*8 each, output 16*8, MLP 3*8*16 = 768.
    assert HAND.matrices == 768
    assert HAND.parameters == 80 + 80 + 2 * (768 + 16) + 8
    got = prefill(HAND, 5, batch=4, density=0.6)
    assert got.embedding == Work(0, 5 * 8 * 2)
    assert got.linear == Work(2 * 5 * 2 * 768, 2 * 784 * 2 / 4)
    # Full: 15 pairs, of which 9 are kept; sliding: 1 + 2 + 3 + 3 + 3 = 12. A pair takes 4 * 4 * 4 FLOPs.
    # A token has 16 numbers of keys and values, written and read, and 16 of queries, in each layer.
    assert got.attention == Work(64 * (9 + 12), 2 * 5 * (16 + 16 + 16) * 2)
    assert got.head == Work(2 * 80, (80 + 8) * 2 / 4)
    assert got.selection == Work()
    assert got.total == got.core == Work(15360 + 1344 + 160, 80 + 784 + 960 + 44)


def test_a_decode_by_hand() -> None:
    got = decode(HAND, 5, 2, batch=2, density=0.5, byte_density=0.75, element_bytes=4)
    assert got.embedding == Work(0, 2 * 8 * 4)
    assert got.linear == Work(2 * 2 * 2 * 768, 2 * 2 * 784 * 4 / 2)
    # Steps see 6 and 7 tokens in the full layer and 3 each in the sliding one; each writes one token a layer.
    assert got.attention == Work(64 * (0.5 * 13 + 6), 16 * 4 * (0.75 * 13 + 6 + 4))
    assert got.head == Work(2 * 2 * 80, 2 * (80 + 8) * 4 / 2)


# ---- laws

ARCHITECTURES = st.builds(
    Architecture,
    layers=st.just(5),
    sliding_layers=st.integers(0, 4),
    window=st.integers(1, 40),
    hidden=st.integers(1, 64),
    intermediate=st.integers(1, 64),
    query_heads=st.sampled_from([4, 8]),
    kv_heads=st.sampled_from([1, 2, 4]),
    head_dim=st.sampled_from([4, 16]),
    vocabulary=st.integers(1, 100),
    tied=st.booleans(),
    norms=st.integers(0, 99),
    biases=st.integers(0, 99),
)
LENGTHS = st.integers(0, 200)
DENSITIES = st.floats(0, 1)


@dataclass(frozen=True)
class Chooser:
    """A selector whose numbers are easy to sum."""

    phase: str

    def selection_cost(self, heads: Heads, tokens: int) -> Work:
        return Work(heads.query * tokens, heads.kv * tokens * heads.element_bytes)

    def step_cost(self, heads: Heads, tokens: int) -> Work:
        return Work(heads.dim * tokens, 1)


@given(ARCHITECTURES, LENGTHS, LENGTHS, LENGTHS)
def test_steps_add_up_and_continue_the_prefill(arch: Architecture, length: int, a: int, b: int) -> None:
    assert decode(arch, length, a) + decode(arch, length + a, b) == decode(arch, length, a + b)
    whole, parts = prefill(arch, length + a), prefill(arch, length) + decode(arch, length, a)
    assert (whole.linear.flops, whole.attention.flops) == (parts.linear.flops, parts.attention.flops)
    assert parts.head.flops == whole.head.flops * (a + 1)


@given(ARCHITECTURES, LENGTHS, LENGTHS, DENSITIES, DENSITIES)
def test_cost_rises_with_density(arch: Architecture, length: int, steps: int, one: float, two: float) -> None:
    low, high = sorted((one, two))
    for made in (
        lambda d: prefill(arch, length, density=d),
        lambda d: decode(arch, length, steps, density=d, byte_density=d),
    ):
        assert made(low).total.flops <= made(high).total.flops <= made(1.0).total.flops
        assert made(low).total.bytes <= made(high).total.bytes <= made(1.0).total.bytes
        assert made(low).linear == made(high).linear
    assert prefill(arch, length, density=1.0) == prefill(arch, length)
    assert decode(arch, length, steps, density=1.0, byte_density=1.0) == decode(arch, length, steps)


@given(ARCHITECTURES, LENGTHS, LENGTHS, st.integers(1, 64))
def test_a_batch_shares_the_weights_alone(arch: Architecture, length: int, steps: int, batch: int) -> None:
    for alone, shared in (
        (prefill(arch, length), prefill(arch, length, batch=batch)),
        (decode(arch, length, steps), decode(arch, length, steps, batch=batch)),
    ):
        assert shared.total.flops == alone.total.flops
        assert shared.total.bytes <= alone.total.bytes
        assert (shared.attention, shared.embedding) == (alone.attention, alone.embedding)
        saved = (alone.linear + alone.head).bytes - (shared.linear + shared.head).bytes
        assert saved == pytest.approx((alone.linear + alone.head).bytes * (1 - 1 / batch))


@given(st.integers(0, 60), st.integers(1, 80))
def test_pairs_are_those_of_the_masks(length: int, window: int) -> None:
    back = torch.arange(length)[:, None] - torch.arange(length)
    assert causal_pairs(length) == int((back >= 0).sum())
    assert causal_pairs(length, window) == int(((back >= 0) & (back < window)).sum())


@given(ARCHITECTURES, LENGTHS, st.integers(0, 20))
def test_selection_is_charged_to_its_phase_in_full_layers(
    arch: Architecture, length: int, steps: int
) -> None:
    heads = arch.heads(2)
    once = Work(heads.query * length, heads.kv * length * 2)
    each = Work(heads.dim * sum(range(length + 1, length + steps + 1)), steps)
    early, late = Chooser("prefill"), Chooser("decode")
    assert prefill(arch, length, selection=early).selection == once * arch.full_layers
    assert decode(arch, length, steps, selection=late).selection == (once + each) * arch.full_layers
    assert prefill(arch, length, selection=late) == prefill(arch, length)
    assert decode(arch, length, steps, selection=early) == decode(arch, length, steps)
    chosen = prefill(arch, length, selection=early)
    assert chosen.core == prefill(arch, length).total
    assert chosen.total == chosen.core + chosen.selection
    assert chosen * 3 == chosen + chosen + chosen


# ---- what selections are made of

HEADS = Heads(query=28, kv=4, dim=128)


def test_scores_by_hand() -> None:
    small = Heads(query=4, kv=2, dim=8, element_bytes=2)
    # 4 heads * 3 queries * 10 keys * (16 + 5 + 1); 2 * 10 keys and 4 * 3 queries of 8 numbers of 2 bytes.
    assert work.window_scores(small, 3, 10) == Work(2640, 512)
    assert work.window_scores(small, 3, 10, sums=2) == Work(2760, 512)
    assert work.window_scores(small, 99, 10) == work.window_scores(small, 10, 10)
    # 6 heads * 10 tokens * 8 to pool; blocks of 4 make 3, so 6 pairs of 16 FLOPs in 4 heads.
    assert work.pooled_scores(small, 4, 10) == Work(480 + 384, 960)
    # 2 heads * 10 tokens * 8 numbers, lower and upper; 3 pages of 2 * 8 numbers in 2 heads.
    assert work.page_bounds(small, 4, 10) == Work(320, 192)
    # 4 heads * 2 products of 16 FLOPs on 2 complete pages; with 8 tokens the second is still the current one.
    assert work.page_scores(small, 4, 9) == work.page_scores(small, 4, 12) == Work(256, 0)
    assert work.page_scores(small, 4, 8) == Work(128, 0)
    assert work.smoothed(2, 10, 21) == Work(420, 0)
    assert work.top_k(3, 10, 4) == Work(60, 0)
    assert work.top_k(1, 8, 8) == work.top_k(1, 8, 99) == Work(24, 0)
    assert work.top_k(1, 8, 1) == Work(8, 0)
    assert work.top_k(1, 0, 5) == Work()
    # Keys and values of 5 tokens in 2 heads, read and written.
    assert work.gathered(small, 5) == Work(0, 640)


@pytest.mark.parametrize(("length", "share"), [(2048, 0.125), (4096, 0.063), (16384, 0.016)])
def test_a_window_of_queries_costs_its_share_of_the_prompt(length: int, share: float) -> None:
    dense = 4 * HEADS.dim * HEADS.query * causal_pairs(length)
    assert work.window_scores(HEADS, 256, length, sums=2).flops / dense == pytest.approx(share, rel=0.05)


def test_pooling_and_pages_cost_their_share_of_dense_attention() -> None:
    length, block = 131_072, 16
    dense = 4 * HEADS.dim * HEADS.query * causal_pairs(length)
    assert work.pooled_scores(HEADS, block, length).flops / dense == pytest.approx(
        1 / (2 * block**2), rel=0.05
    )
    step = 4 * HEADS.dim * HEADS.query * length
    assert work.page_scores(HEADS, block, length).flops / step == pytest.approx(1 / block, rel=0.01)
    read = 2 * HEADS.kv * HEADS.dim * length * HEADS.element_bytes
    assert work.page_bounds(HEADS, block, length).bytes / read == pytest.approx(1 / block)


# ---- what samples cost


@given(st.lists(st.tuples(LENGTHS, LENGTHS, st.integers(0, 9), DENSITIES), min_size=1, max_size=4))
def test_prices_are_means_and_a_sample_without_a_step_has_the_density_of_the_others(sizes: Any) -> None:
    late = Chooser("decode")
    requests = [Request(n, tail, m, density, density) for n, tail, m, density in sizes]
    found = prices(HAND, late, requests)
    alone = [prices(HAND, late, [one]) for one in requests]
    for name in COSTS:
        assert found[name] == pytest.approx(np.mean([one[name] for one in alone], 0))
    whole = found["prefill_flops"] + found["decode_flops"]
    assert found["request_flops"] == pytest.approx(whole)
    mean = float(np.mean([one.density for one in requests]))
    unknown = Request(9, 0, 0, float("nan"), float("nan"))
    filled = prices(HAND, late, [*requests, unknown])
    known = prices(HAND, late, [*requests, replace(unknown, density=mean, byte_density=mean)])
    for name in COSTS:
        assert filled[name] == pytest.approx(known[name])
    nothing = prices(HAND, late, [unknown])
    assert np.isnan(nothing["decode_bytes"]).all()
    assert np.isfinite(nothing["prefill_bytes"]).all()


def test_replies_of_one_token_take_no_step() -> None:
    found = prices(HAND, Chooser("prefill"), [Request(20, 0, replied, 0.5) for replied in (0, 1)])
    assert found["decode_flops"][0] == 0
    assert (found["decode_bytes"][0] == 0).all()
    assert (found["decode_flops"][1:] > 0).all()


@given(st.integers(0, 3000), st.integers(0, 1500), st.integers(0, 1500))
def test_running_sums_of_steps_are_their_sums(length: int, a: int, b: int) -> None:
    quest, heads = METHODS["quest"](), HEADS
    arch = replace(HAND, sliding_layers=0, query_heads=heads.query, kv_heads=heads.kv, head_dim=heads.dim)
    once = quest.selection_cost(heads, length) * arch.full_layers
    both = decode(arch, length, a + b, selection=quest).selection
    first = decode(arch, length, a, selection=quest).selection
    each = [quest.step_cost(heads, length + i) for i in range(a + 1, a + b + 1)]
    assert both.flops == pytest.approx(first.flops + arch.full_layers * sum(one.flops for one in each))
    assert both.bytes >= once.bytes


# ---- misuse


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(),
        Gemma3TextConfig(**SIZES, use_bidirectional_attention=True),
        LlamaConfig(**SIZES, layer_types=["chunked_attention"] * 3),
        object(),
    ],
    ids=["family", "bidirectional", "chunked", "no config"],
)
def test_what_cannot_be_counted_is_refused(config: Any) -> None:
    with pytest.raises(StudyError, match=r"is not known; pass the config of a causal decoder .* llama,"):
        Architecture.of(config)


@pytest.mark.parametrize(
    "made",
    [
        lambda: prefill(HAND, -1),
        lambda: prefill(HAND, 4, batch=0),
        lambda: prefill(HAND, 4, density=float("nan")),
        lambda: prefill(HAND, 4, element_bytes=0),
        lambda: decode(HAND, 4, -1),
        lambda: decode(HAND, 4, 1, byte_density=-0.1),
    ],
)
def test_sizes_out_of_range_are_one_sentence(made: Any) -> None:
    with pytest.raises(StudyError, match="A cost needs batch >= 1"):
        made()


def test_importing_loads_no_torch() -> None:
    code = "import sys, sparsestudy.cost; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_parts_are_kept_apart() -> None:
    parts = Cost(Work(1, 2), Work(3, 4), Work(5, 6), Work(7, 8), Work(9, 10))
    assert parts.core == Work(16, 20)
    assert parts.total == Work(25, 30)


@pytest.mark.parametrize("method", variants("method"), ids=variant_id)
def test_a_method_is_charged_in_its_phase_alone(method: Method) -> None:
    arch = Architecture.of(LlamaConfig(**SIZES))
    before = prefill(arch, 512, selection=method).selection
    after = decode(arch, 512, 4, selection=method).selection
    mine, other = (before, after) if method.phase == "prefill" else (after, before)
    assert mine.flops > 0
    assert other == Work()
    longer = prefill(arch, 1024, selection=method) + decode(arch, 1024, 4, selection=method)
    assert longer.selection.flops > mine.flops


def test_the_oracle_pays_for_all_scores_and_random_draws_pay_as_their_method() -> None:
    arch = Architecture.of(LlamaConfig(**SIZES))
    for name in METHODS:
        if METHODS[name].role != "method":
            continue
        method, random = METHODS[name](), METHODS["random"](like=name)
        for run in (lambda m: prefill(arch, 300, selection=m), lambda m: decode(arch, 300, 3, selection=m)):
            assert run(random).selection == run(method).selection
    dense = prefill(arch, 300)
    oracle = prefill(arch, 300, selection=METHODS["oracle"](like="block_sparse")).selection
    assert oracle.flops == dense.attention.flops / 2
