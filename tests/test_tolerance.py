"""Tolerance by task and method: the claims' tests, controls beside each method, and ranks with intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from synthetic import synthetic_run

from sparsestudy import claim_tables, stats, tolerance_figures, tolerance_tables, tolerance_words
from sparsestudy.length_figures import CARETRIGHT
from sparsestudy.view import Run

SIZES = ["smollm2-135m-q4_1", "gemma-3-270m-q4_k_m"]
SMALL: dict[str, Any] = {
    "models": SIZES,
    "lengths": [512, 1024],
    "sparsities": [0, 500, 800],
    "samples": 100,
    "tasks": ["needle", {"name": "needle", "needles": 4}],
    "methods": [
        "dense",
        "window",
        "block_sparse",
        "vertical_slash",
        {"name": "random", "like": "block_sparse"},
        {"name": "oracle", "like": "block_sparse"},
        "quest",
        {"name": "oracle", "like": "tokens"},
    ],
}
HARD = "needle (needles 4)"


@pytest.fixture(scope="module")
def run() -> Run:
    """Block-sparse attention that keeps all on one task and nothing on the other; vertical-slash most."""
    data = synthetic_run(SMALL)
    names = list(data["method"].values)
    roles = data["method_role"].values
    roles[names.index("vertical_slash")] = "method"
    score, shape = data["score"].values, data["score"].shape
    score[:, 0, 0] = 1.0
    for name, right in (("block_sparse", 1.0), ("vertical_slash", 0.9)):
        place = names.index(name)
        score[:, place, 1:, :, 0] = np.arange(shape[-1]) < right * shape[-1]
        score[:, place, 1:, :, 1] = 0.0
    return Run("made", data)


@pytest.fixture(scope="module")
def rows(run: Run) -> pd.DataFrame:
    return tolerance_tables.tolerances(run)


def test_the_worst_task_comes_first_and_the_methods_are_those_of_the_claims(
    run: Run, rows: pd.DataFrame
) -> None:
    assert list(rows["subject"].unique()) == [HARD, "needle"]
    own = rows[rows["kind"] == "method"]
    both = own.merge(
        claim_tables.tolerances(run), on=["model", "method", "length", "subject"], suffixes=("", "_claim")
    )
    assert len(both) == len(own) == len(claim_tables.tolerances(run))
    for name in ("kept", "kept_holm", "lost", "state"):
        pd.testing.assert_series_equal(both[name], both[f"{name}_claim"], check_names=False)


def test_every_method_has_its_own_controls_beside_it(rows: pd.DataFrame) -> None:
    kinds = rows.groupby(["group", "beside"])["kind"].agg(set).to_dict()
    every = {"method", "random", "oracle", "window"}
    assert kinds["prefill", "block_sparse"] == every
    assert kinds["prefill", "vertical_slash"] == {"method", "oracle", "window"}
    own = rows[(rows["beside"] == "block_sparse") & (rows["kind"] == "oracle")]
    assert set(own["method"]) == {'oracle-like_"block_sparse"'}
    other = rows[(rows["beside"] == "vertical_slash") & (rows["kind"] == "oracle")]
    assert set(other["method"]) == {"oracle-like_tokens"}


@pytest.mark.parametrize("narrow", [False, True])
def test_every_interval_is_drawn(rows: pd.DataFrame, narrow: bool) -> None:
    own = tolerance_tables.chosen(rows)
    assert own["model"].nunique() == own["length"].nunique() == 1
    picture = tolerance_figures.tasks(own, narrow=narrow)
    told = own[own["state"] != stats.CANNOT_SAY]
    lines = [line for axes in picture.figure.axes for line in axes.lines if line.get_linestyle() == "None"]
    found = dict.fromkeys(("x", CARETRIGHT, "mark"), 0)
    for line in lines:
        marker = line.get_marker() if line.get_marker() in ("x", CARETRIGHT) else "mark"
        found[marker] += int(np.isfinite(np.asarray(line.get_xdata(), float)).sum())
    assert found["x"] == len(own) - len(told)
    assert found[CARETRIGHT] == told["lost"].isna().sum()
    assert found["mark"] == told[["kept", "lost"]].notna().sum().sum()
    assert len(picture.alt) > 80


def test_ranks_follow_the_scores_and_have_intervals(run: Run) -> None:
    ranks = tolerance_tables.ranks(run)
    easy = ranks[(ranks["subject"] == "needle") & (ranks["model"] == SIZES[0])]
    assert easy["method"].tolist() == ["block_sparse", "vertical_slash"]
    assert easy[["rank", "rank_low", "rank_high"]].to_numpy().tolist() == [[1, 1, 1], [2, 2, 2]]
    even = ranks[(ranks["subject"] == HARD) & (ranks["model"] == SIZES[0])]
    assert set(even["rank"]) == {1.0}, "equal scores share a place"
    assert set(ranks["group"]) == {"prefill"}, "a method alone in its phase has no rank"
    text = " ".join(tolerance_words.best(ranks))
    assert "on needle block sparse" in text
    shown, _ = tolerance_words.ranking(ranks, tolerance_tables.first_losses(run))
    assert shown["first loss"].str.contains("needle").all()


def test_a_rank_that_noise_could_turn_says_so(run: Run) -> None:
    data: xr.Dataset = run.data.copy(deep=True)
    places = [list(data["method"].values).index(name) for name in ("block_sparse", "vertical_slash")]
    data["score"].values[:, places[1], 1:, :, 0] = 1.0
    data["score"].values[:, places[0], 1:, :, 0, 0] = 0.0
    ranks = tolerance_tables.ranks(Run("near", data))
    near = ranks[(ranks["subject"] == "needle") & (ranks["model"] == SIZES[0])]
    assert near["method"].tolist() == ["vertical_slash", "block_sparse"]
    assert near["rank_low"].tolist() == [1, 1]
    assert near["rank_high"].tolist() == [1, 2]


def test_first_losses_and_sentences_follow_the_data(run: Run, rows: pd.DataFrame) -> None:
    losses = tolerance_tables.first_losses(run).set_index(["model", "method"])
    assert losses.loc[(SIZES[0], "block_sparse"), "loss_from"] == 0.5
    assert losses.loc[(SIZES[0], "block_sparse"), "subject"] == HARD
    scene = tolerance_words.scene("made", rows)
    assert f"they are {HARD} and needle." in scene
    one = rows[rows["subject"] == "needle"]
    assert "is **not measured**" in tolerance_words.scene("made", one)
    assert "compares no method" in tolerance_words.scene("made", rows.iloc[:0])
