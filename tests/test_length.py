"""Tolerance against length: limits as the tests of the claims set them, open ends marked, none made up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic import synthetic_run

from sparsestudy import claim_tables, length_figures, length_tables, length_words, stats
from sparsestudy.view import Run

SIZES = ["smollm2-135m-q4_1", "gemma-3-270m-q4_k_m"]
SMALL: dict[str, Any] = {
    "models": SIZES,
    "lengths": [512, 1024, 2048],
    "sparsities": [0, 500, 800, 900],
    "samples": 120,
    "methods": ["dense", "block_sparse", "quest", {"name": "oracle", "like": "tokens"}],
}


@pytest.fixture(scope="module")
def run() -> Run:
    """Block-sparse attention that loses nothing, then all above one half, then everything, by length."""
    data = synthetic_run(SMALL)
    dense = np.ones(data.sizes["sample"])
    place = list(data["method_name"].values).index("block_sparse")
    data["score"].values[:, 0, 0] = dense
    for at, first in enumerate((4, 2, 1)):
        for s in range(4):
            data["score"].values[:, place, s, at] = dense if s < first else 0.0
    return Run("made", data)


@pytest.fixture(scope="module")
def rows(run: Run) -> pd.DataFrame:
    return length_tables.budgets(run)


def test_open_ends_are_marked_and_have_no_number(rows: pd.DataFrame) -> None:
    own = rows[(rows["method"] == "block_sparse") & (rows["model"] == SIZES[0])]
    assert own["censored"].tolist() == [
        length_tables.OPEN_BELOW,
        length_tables.CLOSED,
        length_tables.OPEN_ABOVE,
    ]
    assert own["budget_low"].isna().tolist() == [True, False, False]
    assert own["budget_high"].isna().tolist() == [False, False, True]
    told = [length_words.budget(row) for _, row in own.iterrows()]
    assert told[0].startswith("at most ")
    assert " to " in told[1]
    assert told[2].startswith("more than ")
    closed = own.iloc[1]
    assert closed["budget_high"] == pytest.approx(0.5 * closed["tokens"], rel=0.02)
    assert closed["budget_low"] == pytest.approx(0.2 * closed["tokens"], rel=0.05)


def test_the_tolerated_sparsities_are_those_of_the_claims(run: Run, rows: pd.DataFrame) -> None:
    shared = ["model", "method", "length"]
    both = rows.merge(claim_tables.tolerances(run), on=shared, suffixes=("", "_claim"))
    assert len(both) == len(rows)
    for name in ("kept", "lost", "state", "n"):
        pd.testing.assert_series_equal(both[name], both[f"{name}_claim"], check_names=False)
    assert "oracle" not in set(rows["method_name"])


@pytest.mark.parametrize("make", [length_figures.budgets, length_figures.sparsities])
@pytest.mark.parametrize("narrow", [False, True])
def test_every_limit_is_drawn_once(rows: pd.DataFrame, make: Any, narrow: bool) -> None:
    own = length_tables.largest(rows)
    assert set(own["model"]) == {SIZES[1]}
    picture = make(own, narrow=narrow)
    shown = [axes for axes in picture.figure.axes if axes.get_visible()]
    assert len(shown) == own["group"].nunique() * own["subject"].nunique()
    lines = [line for axes in shown for line in axes.lines if line.get_linestyle() == "None"]
    carets = (length_figures.CARETUP, length_figures.CARETDOWN)

    def count(wanted: Any) -> int:
        return sum(
            np.isfinite(np.asarray(line.get_ydata(), float)).sum()
            for line in lines
            if wanted(line.get_marker())
        )

    enough, failed = length_figures._LIMITS["budget" if make is length_figures.budgets else "sparsity"]
    told = own[own["state"] != stats.CANNOT_SAY]
    assert count(lambda marker: marker == "x") == len(own) - len(told)
    assert count(lambda marker: marker not in ("x", *carets)) == told[[enough, failed]].notna().sum().sum()
    assert count(lambda marker: marker in carets) == told[[enough, failed]].isna().sum().sum()
    assert len(picture.alt) > 80


def test_exponents_name_what_is_open_and_why_there_are_none(run: Run, rows: pd.DataFrame) -> None:
    found, why = length_tables.exponents(run, rows)
    assert why == ""
    own = found[(found["method"] == "block_sparse") & (found["model"] == SIZES[0])].iloc[0]
    assert (own["open_above"], own["open_below"], own["lengths"]) == (1, 1, 3)
    assert own["estimate"] > 1
    assert f"Of {len(found)} curves" in length_words.exponents(found)
    shown, _ = length_words.exponent_table(found)
    neither = np.isinf(found[["low", "high"]]).all(axis=1)
    assert (shown["exponent"] == length_words.UNSET).tolist() == neither.tolist()
    short = Run("short", run.data.isel(length=slice(2)))
    none, why = length_tables.exponents(short, length_tables.budgets(short))
    assert none.empty
    assert "three lengths at least" in why


def test_evidence_that_grows_is_told_from_evidence_that_does_not(run: Run, rows: pd.DataFrame) -> None:
    assert set(rows["evidence"]) == {length_tables.FIXED}
    data = run.data.copy(deep=True)
    factor = (data["length"].values / data["length"].values[0]).astype(int)
    width = data["evidence_stop"].values - data["evidence_start"].values
    data["evidence_stop"].values[:] = (
        data["evidence_start"].values + width * factor[None, :, None, None, None]
    )
    assert set(length_tables.budgets(Run("grown", data))["evidence"]) == {length_tables.GROWS}
