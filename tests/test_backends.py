"""Backends: the same operations and logits with every method, what ran on record, refusals that say why."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import budgeted, build, chosen, prompt, small
from kernels import DEVICE
from shapes import variant_id, variants
from tolerances import LOGITS, LOGITS_BFLOAT16, relative_error

from sparsestudy import backends
from sparsestudy.backends import TORCH, backend, names, triton
from sparsestudy.errors import StudyError
from sparsestudy.forced import step_logits
from sparsestudy.generate import Prefilled, Prompt, observation, prefill
from sparsestudy.methods import METHODS
from sparsestudy.methods.base import Method
from sparsestudy.patch import sparse_attention
from sparsestudy.trace import Trace

torch.set_num_threads(1)

OPERATIONS = [field.name for field in fields(TORCH) if field.name != "name"]
DENSE = METHODS["dense"]()
EVERY = [method for method in variants() if method.role != "dense"]
# The units that no prefill kernel takes.
TOKENS = METHODS["oracle"](phase="decode")
# The interpreter holds bfloat16 wrongly.
HALF = torch.bfloat16 if DEVICE == "cuda" else torch.float16
# The backend that "auto" stands for where the tests run.
AUTO = "triton" if DEVICE == "cuda" else "torch"
needs_triton = pytest.mark.skipif(not backends.find_spec("triton"), reason="triton is missing")


@pytest.fixture(scope="module")
def model() -> Any:
    return build("llama").to(DEVICE)


@needs_triton
@pytest.mark.parametrize("operation", OPERATIONS)
def test_backends_offer_the_same_operations(operation: str) -> None:
    ours, theirs = (getattr(one, operation) for one in (triton(), TORCH))
    assert ours.__name__ == theirs.__name__ == operation
    shapes = [
        [(p.name, p.kind, p.default) for p in inspect.signature(one).parameters.values()]
        for one in (ours, theirs)
    ]
    assert shapes[0] == shapes[1]


def read(model: Any, method: Method, name: str, rows: list[list[int]]) -> tuple[Prefilled, Any, Trace]:
    """Prompts, and three more tokens of each, under a method; logits of the steps and their trace."""
    prompts = [Prompt(row, len(row) - 9) for row in rows]
    first, rest = (method, DENSE) if method.phase == "prefill" else (DENSE, method)
    start = prefill(model, prompts, first, "dense", name, observation([rest], prompts))
    more = torch.tensor([prompt(3, 7 + place) for place in range(len(rows))], device=start.mask.device)
    logits, trace = step_logits(model, start, more, rest, name)
    return start, logits, start.trace if method.phase == "prefill" else trace


def compared(model: Any, method: Method, rows: list[list[int]], tolerance: float) -> None:
    """Both backends give the same logits, after the same choices."""
    ready = small(method) if method.name == "window" else budgeted(method, 0.5, max(map(len, rows)))
    (theirs, their_steps, their_trace), (ours, our_steps, our_trace) = (
        read(model, ready, name, rows) for name in ("torch", "triton")
    )
    assert (their_trace.backend, our_trace.backend) == ("torch", "triton")
    step = "prefill" if method.phase == "prefill" else "decode"
    density = their_trace.row_density(step)
    assert density[0] < 0.9, "something is left out"
    assert torch.allclose(our_trace.row_density(step), density, atol=0 if tolerance == LOGITS else 0.02)
    assert relative_error(ours.logits, theirs.logits) <= tolerance
    assert relative_error(our_steps, their_steps) <= tolerance


def interpretable(methods: list[Method]) -> list[Any]:
    """The methods; those whose prefill takes the interpreter ten seconds and more are for full tests.

    A window has a range for each query, and a choice for each head has twice the work of one for a group.
    """
    return [
        pytest.param(one, marks=pytest.mark.slow)
        if one.name == "window" or (one.phase == "prefill" and getattr(one, "scope", "") == "head")
        else one
        for one in methods
    ]


@needs_triton
@pytest.mark.parametrize("method", interpretable([*chosen(), TOKENS]), ids=variant_id)
def test_a_model_reads_the_same_with_either_backend(model: Any, method: Method) -> None:
    rows = [prompt(24), prompt(17, 1)] if method.name == "window" else [prompt(70), prompt(41, 1)]
    compared(model, method, rows, LOGITS)


@needs_triton
@pytest.mark.parametrize("name", ["block_sparse", "quest", "ada_snapkv"])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_a_rounded_model_reads_the_same_but_for_rounding(family: str, name: str) -> None:
    compared(build(family, HALF).to(DEVICE), METHODS[name](), [prompt(70), prompt(41, 1)], LOGITS_BFLOAT16)


def test_what_chooses_is_recorded(model: Any) -> None:
    for method in EVERY:
        with sparse_attention(model, method) as trace:
            assert trace.backend == ("torch" if method.row_by_row else AUTO)
    assert names("auto", model, [DENSE, METHODS["quest"]()]) == ["torch", AUTO]


@needs_triton
def test_a_dense_method_is_torchs_whatever_is_asked_for(model: Any) -> None:
    assert [backend(name, model, DENSE) for name in backends.NAMES] == [TORCH] * 3


@needs_triton
def test_refusals_say_why(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    quest, tokens = METHODS["quest"](), METHODS["oracle"](phase="prefill")
    for name, what, method, said in [
        ("cuda", model, quest, "no backend 'cuda'; choose one of auto, torch, triton"),
        (
            "triton",
            model,
            tokens,
            "take key ranges of query blocks, and oracle chooses row by row",
        ),
        (
            "triton",
            build("llama", torch.float64).to(DEVICE),
            quest,
            "its kernels do not take float64; use 'torch' or",
        ),
    ]:
        with pytest.raises(StudyError, match=said), sparse_attention(what, method, name):
            pass
    monkeypatch.setattr(backends, "LARGEST_DIM", 8)
    with pytest.raises(StudyError, match="heads of up to 8 dimensions, and this model's have 16"):
        backend("triton", model, quest)


def test_without_a_gpu_or_triton_a_request_for_triton_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, quest = build("llama"), METHODS["quest"]()
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    said = r"'triton' cannot run here: .* (needs a CUDA device|is missing); use 'torch' or 'auto'\."
    for method in (quest, DENSE):
        with pytest.raises(StudyError, match=said):
            backend("triton", model, method)
    assert backend("auto", model, quest) is TORCH


def test_kernels_are_built_only_where_they_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "neither gcc nor clang" in backends._of_compiler.__wrapped__()
    (tmp_path / "gcc").touch(mode=0o755)
    monkeypatch.setattr(backends.sysconfig, "get_paths", lambda scheme: {"include": str(tmp_path)})
    assert "Python.h" in backends._of_compiler.__wrapped__()
    (tmp_path / "Python.h").touch()
    assert backends._of_compiler.__wrapped__() == ""


def test_triton_is_imported_only_where_it_computes() -> None:
    code = "import sys, sparsestudy.patch, sparsestudy.generate; sys.exit('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
