"""Sparse attention inside a transformers model: right, padded or not, and gone afterwards."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from architectures import budgeted, build, padded, prompt, reply, watched
from shapes import variant_id, variants
from tolerances import LOGITS
from transformers import DynamicCache, LlamaForCausalLM

from sparsestudy.cache import StudyCache
from sparsestudy.errors import StudyError
from sparsestudy.methods import METHODS
from sparsestudy.methods.base import Method
from sparsestudy.methods.quest import Quest
from sparsestudy.patch import SLOT, attention_modules, sparse_attention
from sparsestudy.reference import reference_attention

SPARSE = [method for method in variants() if method.phase != "none"]
# Models this small only lose time to a second thread.
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return build("llama")


@pytest.mark.parametrize("method", variants(), ids=variant_id)
@torch.no_grad()
def test_full_budget_equals_dense(model: LlamaForCausalLM, method: Method) -> None:
    batch = padded(prompt(100), prompt(61, 1))
    want = model(**batch).logits
    full = method.at_sparsity(0.0, 120)
    with sparse_attention(model, full) as trace:
        out = model(**batch).logits
        generated = model.generate(
            **batch, max_new_tokens=5, do_sample=False, eos_token_id=None, pad_token_id=0
        )
    real = batch["attention_mask"].bool()
    assert (out - want)[real].abs().max() < LOGITS
    assert torch.all(trace.row_density("prefill") == 1)
    assert torch.all(trace.row_density("decode") == 1)
    dense = model.generate(**batch, max_new_tokens=5, do_sample=False, eos_token_id=None, pad_token_id=0)
    assert torch.equal(generated, dense)


@pytest.mark.parametrize("method", SPARSE, ids=variant_id)
@torch.no_grad()
def test_a_padded_row_equals_the_row_alone(model: LlamaForCausalLM, method: Method) -> None:
    ready = budgeted(method, 0.4, 130)
    rows = [prompt(130), prompt(97, 1), prompt(45, 2)]
    for tail in ("dense", "decode") if ready.phase == "decode" else ("dense",):
        together = reply(model, rows, ready, tail)
        for i, row in enumerate(rows):
            alone = reply(model, [row], ready, tail)
            assert together.ids[i] == alone.ids[0]
            assert together.trace.density("decode")[:, i].tolist() == pytest.approx(
                alone.trace.density("decode")[:, 0].tolist()
            )


@pytest.mark.parametrize("method", [m for m in SPARSE if m.phase == "decode"], ids=variant_id)
def test_tails_of_different_lengths_do_not_mix(model: LlamaForCausalLM, method: Method) -> None:
    ready = budgeted(method, 0.4, 80)
    rows, cuts = [prompt(80), prompt(80, 1)], [3, 17]
    both = reply(model, rows, ready, "decode", limit=5, cut=cuts)
    for i, (row, cut) in enumerate(zip(rows, cuts, strict=True)):
        assert both.ids[i] == reply(model, [row], ready, "decode", limit=5, cut=cut).ids[0]


@pytest.mark.parametrize("method", SPARSE, ids=variant_id)
@torch.no_grad()
def test_generate_and_the_driver_agree(model: LlamaForCausalLM, method: Method) -> None:
    ready = budgeted(method, 0.4, 120)
    rows = [prompt(120), prompt(70, 1)]
    driver = reply(model, rows, ready, "dense", limit=7)
    for cache in (StudyCache(model.config), DynamicCache(config=model.config)):
        with sparse_attention(model, ready) as trace:
            out = model.generate(
                **padded(*rows),
                max_new_tokens=7,
                do_sample=False,
                past_key_values=cache,
                eos_token_id=None,
                pad_token_id=0,
            )
        assert out[:, 120:].tolist() == driver.ids
        phase = ready.phase
        want = driver.trace if phase == "decode" else None
        if want is not None:
            assert trace.row_density(phase).tolist() == pytest.approx(want.row_density(phase).tolist())


@pytest.mark.parametrize("method", [m for m in SPARSE if not m.evicts], ids=variant_id)
@torch.no_grad()
def test_each_layer_computes_the_reference_over_its_selection(
    model: LlamaForCausalLM, method: Method
) -> None:
    """One layer, taken out of the model: its output must be the reference over what the method selects."""
    ready = budgeted(method, 0.4, 120)
    seen: list[torch.Tensor] = []
    target = attention_modules(model)[1]
    hook = target.o_proj.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    phase = ready.phase
    spy, chosen = watched(ready)
    cache = StudyCache(model.config)
    row = prompt(120)
    try:
        with sparse_attention(model, spy):
            model(input_ids=torch.tensor([row[:-1]] if phase == "decode" else [row]), past_key_values=cache)
            if phase == "decode":
                model(input_ids=torch.tensor([row[-1:]]), past_key_values=cache)
    finally:
        hook.remove()
    q, k, selection = next(rest for layer, *rest in reversed(chosen) if layer == 1)
    v = cache.layers[1].values
    want = reference_attention(q, k, v, selection, target.scaling)
    got = seen[-1].unflatten(-1, (4, -1)).transpose(1, 2)
    assert torch.allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("fail", [False, True])
@torch.no_grad()
def test_everything_is_restored(model: LlamaForCausalLM, fail: bool) -> None:
    batch = padded(prompt(40))
    want = model(**batch).logits
    state = [(dict(m.__dict__), len(m._forward_pre_hooks)) for m in model.modules()]
    implementation = model.config._attn_implementation
    try:
        with sparse_attention(model, METHODS["window"](local=4)):
            model(**batch)
            with sparse_attention(model, METHODS["quest"]()):
                model(**batch)
            assert all(hasattr(m, SLOT) for m in attention_modules(model))
            if fail:
                raise RuntimeError("the body fails")
    except RuntimeError:
        assert fail
    assert model.config._attn_implementation == implementation
    assert [(set(m.__dict__), len(m._forward_pre_hooks)) for m in model.modules()] == [
        (set(attributes), hooks) for attributes, hooks in state
    ]
    assert torch.equal(model(**batch).logits, want)


@torch.no_grad()
def test_a_model_that_shares_the_config_is_left_alone(model: LlamaForCausalLM) -> None:
    other = LlamaForCausalLM(model.config).eval()
    batch = padded(prompt(50))
    want = other(**batch).logits
    with sparse_attention(model, METHODS["window"](local=4)):
        assert (other(**batch).logits - want).abs().max() < LOGITS


@torch.no_grad()
def test_bytes_read_count_metadata_and_the_union_of_a_group(model: LlamaForCausalLM) -> None:
    rows = [prompt(160)]
    shared = reply(model, rows, METHODS["quest"](token_budget=32), "dense").trace
    single = reply(model, rows, METHODS["quest"](token_budget=32, scope="head"), "dense").trace
    assert (shared.row_density("decode", "read") > shared.row_density("decode")).all()
    assert (single.row_density("decode", "read") >= single.row_density("decode")).all()
    # 2 to 3 pages of 16 attended; the metadata of 10 complete pages counts as 10 tokens more.
    steps = torch.tensor([[160.0 + i for i in range(1, 6)]])
    extra = (shared.row_density("decode", "read") - shared.row_density("decode")) * steps.sum()
    assert float(extra[0]) == pytest.approx(sum((160 + i - 1) // 16 for i in range(1, 6)))


@torch.no_grad()
def test_misuse_is_one_sentence(model: LlamaForCausalLM) -> None:
    sparse = METHODS["block_sparse"](top_blocks=3)
    with (
        pytest.raises(StudyError, match="no backend 'cuda'; choose one of auto, torch, triton"),
        sparse_attention(model, sparse, backend="cuda"),
    ):
        pass
    right = {
        "input_ids": torch.ones(2, 8, dtype=torch.long),
        "attention_mask": torch.ones(2, 8, dtype=torch.long),
    }
    right["attention_mask"][1, 6:] = 0
    with pytest.raises(StudyError, match="padded on the left"), sparse_attention(model, sparse):
        model(**right)
    chunk = {"input_ids": torch.ones(1, 8, dtype=torch.long), "past_key_values": StudyCache(model.config)}
    with sparse_attention(model, sparse):
        model(**chunk)
        with pytest.raises(StudyError, match=r"block_sparse .* chunks"):
            model(**chunk)
    with sparse_attention(model, METHODS["quest"]()):
        model(**padded(prompt(8)))
        with pytest.raises(StudyError, match="2 rows where earlier ones had 1; open one for each batch"):
            model(**padded(prompt(8), prompt(5)))
    with (
        pytest.raises(StudyError, match="no attention layers"),
        sparse_attention(torch.nn.Linear(2, 2), sparse),
    ):
        pass


def test_importing_changes_no_table_of_transformers() -> None:
    code = (
        "import transformers; before = set(transformers.AttentionInterface().keys());"
        "import sparsestudy.patch, sparsestudy.evaluate;"
        "assert set(transformers.AttentionInterface().keys()) == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize(
    "module", ["sparsestudy", "sparsestudy.methods", "sparsestudy.tasks", "sparsestudy.tasks.needle"]
)
def test_light_modules_load_no_torch(module: str) -> None:
    code = f"import sys, {module}; assert not {{'torch', 'transformers'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@dataclass(frozen=True)
class Sometimes(Quest):
    """Dense in the first layer, and in all others when the length is even."""

    name = "sometimes"

    def decode(self, q: Any, k: Any, context: Any) -> Any:
        """See :meth:`Method.decode`."""
        if context.layer == 0 or int(context.lengths[0]) % 2 == 0:
            return None
        return super().decode(q, k, context)


def test_steps_and_layers_that_are_dense_count_for_every_head(model: LlamaForCausalLM) -> None:
    """A hook may answer that a step is dense; it then has one number for all heads."""
    row = [prompt(160)]
    some, always = (
        reply(model, row, cls(token_budget=32, scope="head"), "dense", limit=5).trace
        for cls in (Sometimes, Quest)
    )
    assert some.head_density("decode").shape == (3, 4)
    assert torch.all(some.head_density("decode")[0] == 1)
    # Steps with 161 to 164 tokens; those with 162 and 164 are dense.
    lengths = torch.arange(161, 165)
    read = torch.where(lengths % 2 == 0, lengths, 32 + (lengths - 1) % 16 + 1)
    want = float(read.sum() / lengths.sum())
    assert some.density("decode")[1:].flatten().tolist() == pytest.approx([want, want])
    assert want > float(always.density("decode")[1, 0])
