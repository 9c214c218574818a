"""Vertical-slash and both FlexPrefills select what the originals do, entry for entry (tests/data)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sparsestudy.methods.base import Context, Method
from sparsestudy.methods.flexprefill import FlexPrefill, cover
from sparsestudy.methods.flexprefill_original import FlexPrefillOriginal
from sparsestudy.methods.vertical_slash import VerticalSlash
from sparsestudy.selection import Selection

HEADS, TOKENS, TILE = 6, 512, 64
Arrays = dict[str, np.ndarray]

SHARED = {"sinks": 4, "local": 64, "window": 256}
CASES = {
    "vs.L512.A.fp32": VerticalSlash(64, 64, **SHARED),
    "vs.L512.B.fp32": VerticalSlash(96, 128, **SHARED),
    "vs.L512.C.fp32": VerticalSlash(16, 68, **SHARED),
    "flexsf.L512.a0.5.fp32": FlexPrefill(0.5, 64, **SHARED),
    "flexsf.L512.a0.9.fp32": FlexPrefill(0.9, 64, **SHARED),
}


@pytest.fixture(scope="module")
def originals() -> Arrays:
    with np.load(Path(__file__).parent / "data" / "originals_512.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def prompt(originals: Arrays) -> tuple[torch.Tensor, torch.Tensor]:
    """``q (1, 6, 512, 64)`` and ``k (1, 2, 512, 64)``, exact in any dtype."""
    q, k = (torch.tensor(originals[f"input.L512.{n}_int16"].astype(np.float32) / 32) for n in "QK")
    return q.transpose(0, 1)[None, :, :TOKENS], k.transpose(0, 1)[None, :, :TOKENS]


def around() -> Context:
    lengths = torch.tensor([TOKENS])
    return Context(
        lengths=lengths,
        offsets=lengths * 0,
        scaling=1 / 8,
        layer=0,
        page_bounds=lambda size: pytest.fail("prefill asks for no pages"),
        prefilled=lengths,
        question=None,
        salt=lambda: lengths * 0,
    )


def split(values: np.ndarray, counts: np.ndarray) -> list[list[int]]:
    """A concatenation over query blocks, cut by the counts; what is left is the padding with -1."""
    stops = np.cumsum(counts)
    assert (values[stops[-1] :] == -1).all()
    return [x.tolist() for x in np.split(values, stops)[:-1]]


def tiles(selection: Selection, head: int) -> list[list[int]]:
    """First keys of the tiles of each query block, rising."""
    found = []
    for block in range(selection.starts.shape[2]):
        place = (0, head, block)
        pairs = zip(selection.starts[place].tolist(), selection.widths[place].tolist(), strict=True)
        found.append([key for start, width in pairs for key in range(start, start + width, TILE)])
    return found


@pytest.mark.parametrize("name", CASES)
def test_tiles_and_columns(originals: Arrays, prompt: tuple, name: str) -> None:
    selection = CASES[name].prefill(*prompt, around())
    assert isinstance(selection, Selection)
    for head in range(HEADS):
        row = {x: originals[f"{name}.{x}"][head] for x in ("tile_starts", "tiles_per_row")}
        assert tiles(selection, head) == split(row["tile_starts"], row["tiles_per_row"])
        want = split(originals[f"{name}.col_lists"][head], originals[f"{name}.cols_per_row"][head])
        found = torch.full((len(want), 0), -1) if selection.columns is None else selection.columns[0, head]
        assert [[c for c in columns if c >= 0] for columns in found.tolist()] == want


@pytest.mark.parametrize("name", CASES)
def test_recorded_sparsity_is_that_of_whole_tiles(originals: Arrays, prompt: tuple, name: str) -> None:
    selection = CASES[name].prefill(*prompt, around())
    work = selection.widths.sum((2, 3)) * TILE
    if selection.columns is not None:
        work = work + (selection.columns >= 0).sum((2, 3)) * TILE
    recorded = 1 - work[0].double() / (TOKENS * (TOKENS + 1) / 2)
    assert np.allclose(recorded, originals[f"{name}.recorded_sparsity"], atol=1e-6)


def test_scores(originals: Arrays, prompt: tuple) -> None:
    name = "vs.L512.A.fp32"
    method = CASES[name]
    found = method.with_forced(method.importance(*prompt, around()), around())
    for scores, kind in zip(found, ("column_score", "offset_score"), strict=True):
        assert np.allclose(scores[0], originals[f"{name}.{kind}"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in CASES if "flexsf" in name])
def test_coverage_budgets(originals: Arrays, prompt: tuple, name: str) -> None:
    method = CASES[name]
    assert isinstance(method, FlexPrefill)
    for scores, kind in zip(method.importance(*prompt, around()), ("n_columns", "n_offsets"), strict=True):
        budget = cover(scores, method.alpha, torch.tensor([[[TOKENS]]])).clamp(min=64)
        assert budget[0, :, 0].tolist() == originals[f"{name}.{kind}"].tolist()


def block_map(method: Method, prompt: tuple, size: int) -> np.ndarray:
    selection = method.prefill(*prompt, around())
    assert isinstance(selection, Selection)
    blocks = TOKENS // size
    mask = selection.mask(slice(0, TOKENS), TOKENS)[0]
    return mask.unflatten(1, (blocks, size)).unflatten(3, (blocks, size)).any((2, 4)).numpy()


@pytest.mark.parametrize("tau", [0.0, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("gamma", [0.6, 0.9])
@pytest.mark.parametrize("size", [128, 64])
def test_flexprefill_original_block_map(
    originals: Arrays, prompt: tuple, size: int, gamma: float, tau: float
) -> None:
    method = FlexPrefillOriginal(gamma, tau, min_budget=1, block_size=size)
    packed = originals[f"flexorig.L512.bs{size}.g{gamma}.tau{tau}.fp32.mask_packed"]
    want = np.unpackbits(packed, axis=-1, bitorder="little")[..., : TOKENS // size].astype(bool)
    assert np.array_equal(block_map(method, prompt, size), want)
    divergence = originals[f"flexorig.L512.bs{size}.g{gamma}.tau0.0.fp32.sqrt_js"]
    assert method.query_aware(*prompt, around())[0].tolist() == (divergence < tau).tolist()


@pytest.mark.parametrize("gamma", [0.6, 0.9])
@pytest.mark.parametrize("size", [128, 64])
def test_flexprefill_original_divergence_and_coverage(
    originals: Arrays, prompt: tuple, size: int, gamma: float
) -> None:
    name = f"flexorig.L512.bs{size}.g{gamma}.tau0.0.fp32"
    columns, offsets, _, divergence = FlexPrefillOriginal(block_size=size).importance(*prompt, around())
    assert np.allclose(divergence[0], originals[f"{name}.sqrt_js"], rtol=1e-5, atol=1e-6)
    found = [cover(x, gamma, torch.tensor([[[TOKENS]]]))[0, :, 0].tolist() for x in (columns, offsets)]
    assert found == originals[f"{name}.cover_tokens"].tolist()
