"""Backends: the same operations, the same replies, and a refusal that says why."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from architectures import budgeted, build, prompt, reply
from kernels import DEVICE

from sparsestudy.backends import TORCH, TRITON
from sparsestudy.errors import StudyError
from sparsestudy.methods import METHODS
from sparsestudy.patch import sparse_attention

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model() -> Any:
    return build("llama").to(DEVICE)


@pytest.mark.parametrize("operation", sorted(TORCH.operations))
def test_backends_offer_the_same_operations(operation: str) -> None:
    assert set(TRITON.operations) == set(TORCH.operations)
    pytest.importorskip(TRITON.operations[operation])
    assert inspect.signature(getattr(TRITON, operation)) == inspect.signature(getattr(TORCH, operation))


@pytest.mark.parametrize("name", ["quest", "snapkv", "ada_snapkv"])
def test_a_reply_is_the_same_with_either_backend(model: Any, name: str) -> None:
    pytest.importorskip("triton")
    ready = budgeted(METHODS[name](), 0.5, 70)
    rows = [prompt(70), prompt(41, 1)]
    theirs, ours = (reply(model, rows, ready, "dense", 3, backend=b) for b in ("torch", "triton"))
    assert ours.ids == theirs.ids
    assert (theirs.trace.backend, ours.trace.backend) == ("torch", "triton")
    assert torch.equal(ours.trace.row_density("decode"), theirs.trace.row_density("decode"))


def test_what_chooses_is_recorded_and_refusals_say_why(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse, dense = METHODS["quest"](), METHODS["dense"]()
    expected = "triton" if DEVICE == "cuda" else "torch"
    with sparse_attention(model, sparse) as trace:
        assert trace.backend == expected
    with sparse_attention(model, dense, "triton" if DEVICE == "cuda" else "auto") as trace:
        assert trace.backend == "torch", "a dense method selects nothing that a kernel would compute"
    with pytest.raises(StudyError, match="auto, torch, triton"), sparse_attention(model, sparse, "cuda"):
        pass
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with (
        pytest.raises(StudyError, match=r"'triton' cannot run here: .* needs a CUDA device; use 'torch'"),
        sparse_attention(build("llama"), sparse, "triton"),
    ):
        pass


def test_a_model_in_double_is_refused() -> None:
    pytest.importorskip("triton")
    with (
        pytest.raises(StudyError, match=r"do not take torch.float64"),
        sparse_attention(build("llama", torch.float64).to(DEVICE), METHODS["quest"](), "triton"),
    ):
        pass
