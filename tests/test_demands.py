"""What demands cost: variants along one number, tolerances beside dense scores, and the cost of a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic import synthetic_run, write_run

from sparsestudy import (
    demand_blocks,
    demand_figures,
    demand_tables,
    demand_words,
    paths,
    report,
    stats,
    tolerance_tables,
)
from sparsestudy.length_figures import CARETUP
from sparsestudy.view import Run

HOPS = (0, 1, 2, 4)
VARIED: dict[str, Any] = {
    "run": "demands",
    "published": True,
    "lengths": [512],
    "sparsities": [0, 500, 900],
    "samples": 100,
    "tasks": [
        *({"name": "vt", "hops": hops} for hops in HOPS),
        {"name": "needle", "needles": 4},
        "needle",
        {"name": "needle", "needles": 4, "queries": 4},
        "cwe",
    ],
    "methods": ["dense", "block_sparse", {"name": "oracle", "like": "block_sparse"}, "quest"],
}
COST = 0.1


def made(less: float = COST) -> Run:
    """Dense attention that is always right; under block-sparse a hop loses `less`, under Quest nothing."""
    data = synthetic_run(VARIED)
    names, score = list(data["method"].values), data["score"].values
    score[:, :, 0] = np.where(np.isfinite(score[:, :, 0]), 1.0, np.nan)
    for place, hops in enumerate(HOPS):
        right = np.arange(100) >= 100 * less * hops
        score[0, names.index("block_sparse"), 1:, 0, place] = right
        score[0, names.index("quest"), 1:, 0, place] = 1.0
    return Run("demands", data)


@pytest.fixture(scope="module")
def run() -> Run:
    return made()


@pytest.fixture(scope="module")
def rows(run: Run) -> pd.DataFrame:
    return demand_tables.tolerated(run, tolerance_tables.tolerances(run))


def test_an_axis_holds_the_variants_that_differ_in_its_number_alone(run: Run) -> None:
    found = dict(list(demand_tables.axes(run.data).groupby("axis", sort=False)))
    assert list(found) == ["vt: hops", "needle: needles (queries 1)", "needle: queries (needles 4)"]
    assert found["vt: hops"]["value"].tolist() == list(HOPS)
    assert found["vt: hops"]["place"].tolist() == [0, 1, 2, 3]
    distracted = found["needle: needles (queries 1)"]
    assert distracted[["value", "subject"]].to_numpy().tolist() == [[1, "needle"], [4, "needle (needles 4)"]]
    asked = found["needle: queries (needles 4)"]
    assert asked["value"].tolist() == [1, 4]
    assert asked["subject"].tolist() == ["needle (needles 4)", "needle (needles 4, queries 4)"]


def test_a_run_without_such_variants_has_no_axis() -> None:
    run = Run("plain", synthetic_run({"tasks": ["needle", "vt"], "lengths": [512]}))
    assert demand_tables.axes(run.data).empty
    assert demand_tables.tolerated(run, tolerance_tables.tolerances(run)).empty
    assert demand_tables.steps(run).empty


def test_tolerances_are_those_of_the_page_with_the_dense_score_beside(run: Run, rows: pd.DataFrame) -> None:
    every = tolerance_tables.tolerances(run)
    own = rows[(rows["axis"] == "vt: hops") & (rows["method"] == "block_sparse")]
    assert own["value"].tolist() == list(HOPS)
    for row in own.to_dict("records"):
        (known,) = every[(every["subject"] == row["subject"]) & (every["method"] == "block_sparse")].to_dict(
            "records"
        )
        assert (row["kept"], row["state"], row["n"]) == (known["kept"], known["state"], known["n"])
    assert own["kept"].tolist() == [0.9, 0, 0, 0]
    assert set(own["score"]) == {1.0}
    assert rows.groupby(["axis", "value"])["method"].apply(lambda names: names.is_unique).all()


def test_the_cost_of_a_step_is_the_slope_that_was_put_in(run: Run) -> None:
    steps = demand_tables.steps(run).set_index(["axis", "method"])
    block = steps.loc["vt: hops", "block_sparse"]
    assert block["slope"] == pytest.approx(COST)
    assert block["slope_low"] < COST < block["slope_high"]
    assert (block["first"], block["last"], block["settings"], block["n"]) == (0, 4, 2, 100)
    assert (block["loss_first"], block["loss_last"]) == pytest.approx((0, 4 * COST))
    quest = steps.loc["vt: hops", "quest"]
    assert (quest["slope"], quest["slope_low"], quest["slope_high"]) == (0, 0, 0)
    assert "oracle" not in " ".join(name for _, name in steps.index), "a control decides nothing"


def test_the_interval_of_a_step_holds_its_true_cost() -> None:
    held, runs = 0, 200
    value = np.array([0.0, 1.0, 3.0])
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        loss = (rng.random((1, 3, 60)) < (0.1 + COST * value)[None, :, None]).astype(float)
        found = demand_tables._step(loss, value, seed)
        held += found["slope_low"] <= COST <= found["slope_high"]
    assert 0.9 <= held / runs <= 0.99


def test_a_variant_that_dense_attention_cannot_do_says_nothing(run: Run) -> None:
    data = run.data.copy(deep=True)
    data["chance"].values[:, :, 3] = 0.9
    data["score"].values[:, 0, 0, :, 3] = np.arange(100) < 90
    changed = Run("demands", data)
    own = demand_tables.tolerated(changed, tolerance_tables.tolerances(changed))
    block = own[(own["axis"] == "vt: hops") & (own["method"] == "block_sparse")]
    assert block["value"].tolist() == list(HOPS)
    assert block["score"].tolist() == [1, 1, 1, 0.9]
    assert (block["state"] == stats.CANNOT_SAY).tolist() == [False, False, False, True]
    (told, *_) = demand_words.along(tolerance_tables.chosen(own), demand_tables.steps(changed))
    assert told.count("no better than guessing") == 1
    steps = demand_tables.steps(changed).set_index(["axis", "method"])
    assert steps.loc["vt: hops", "block_sparse"]["last"] == 2


@pytest.mark.parametrize("narrow", [False, True])
def test_every_interval_is_drawn_in_its_panel(rows: pd.DataFrame, narrow: bool) -> None:
    own = tolerance_tables.chosen(rows)
    picture = demand_figures.demands(own, narrow=narrow)
    shown = [axes for axes in picture.figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left").replace(",\n", ": ") for axes in shown] == list(own["axis"].unique())
    for axes, (_, some) in zip(shown, own.groupby("axis", sort=False), strict=True):
        told = some[some["state"] != stats.CANNOT_SAY]
        found = dict.fromkeys(("x", CARETUP, "mark"), 0)
        for line in axes.lines:
            marker = line.get_marker() if line.get_marker() in ("x", CARETUP) else "mark"
            found[marker] += int(np.isfinite(np.asarray(line.get_ydata(), float)).sum())
        assert found["x"] == len(some) - len(told)
        assert found[CARETUP] == told["lost"].isna().sum()
        assert found["mark"] == told[["kept", "lost"]].notna().sum().sum()
    ticks = [label.get_text() for label in shown[0].get_xticklabels()]
    assert ticks == [f"{hops}\n1.00" for hops in HOPS]
    assert len(picture.alt) > 80


def test_sentences_turn_with_the_data(run: Run, rows: pd.DataFrame) -> None:
    own, steps = tolerance_tables.chosen(rows), demand_tables.steps(run)
    hops = demand_words.along(own, steps)[0]
    assert "**vt: hops**: dense attention scores 1.00" in hops
    assert "tolerates at least 90 % at 0, below 50 % at 1".replace(" %", "\u00a0%") in hops
    assert "one more costs 0.100" in hops
    assert "one more has no cost that is shown, 0.000" in hops
    assert "block sparse (prefill) on vt: hops" in demand_words.summary(steps[steps["axis"] == "vt: hops"])
    better = demand_tables.steps(made(less=0.0))
    assert "none of 1 number" in demand_words.summary(better[better["axis"] == "vt: hops"])
    assert "**not measured**" in demand_words.summary(steps.iloc[:0])


def test_pages_over_tasks_leave_the_run_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    write_run(VARIED)
    write_run({**VARIED, "run": "ladder", "tasks": ["needle"]})
    assert [run.name for run in report.published()] == ["demands", "ladder"]
    assert [run.name for run in report.studies()] == [run.name for run in report.sparse()] == ["ladder"]
    found = demand_blocks.measured(report.demands())
    assert [one.run.name for one in found] == ["demands"]
    assert set(found[0].rows["value"]) == {*HOPS}
