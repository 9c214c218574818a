"""Accuracy against cost: each setting at its own cost, no control on a frontier, what is missing said so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from synthetic import by_size, synthetic_run

from sparsestudy import (
    pareto_cheaper,
    pareto_figures,
    pareto_gain_words,
    pareto_models,
    pareto_tables,
    pareto_views,
    pareto_words,
    paths,
    schema,
)
from sparsestudy.view import Run

SIZES = ["smollm2-135m-q4_1", "gemma-3-270m-q4_k_m"]
SMALL: dict[str, Any] = {
    "lengths": [512, 1024],
    "sparsities": [0, 500, 900],
    "samples": 100,
    "tasks": ["needle", {"name": "needle", "needles": 4}],
    "methods": [
        "dense",
        "window",
        "block_sparse",
        {"name": "random", "like": "block_sparse"},
        {"name": "oracle", "like": "tokens"},
        "quest",
        {"name": "quest", "tail": "decode"},
    ],
}


@pytest.fixture(scope="module")
def two() -> Run:
    return Run("two", by_size(synthetic_run({**SMALL, "models": SIZES})))


@pytest.fixture(scope="module")
def one() -> Run:
    return Run("one", synthetic_run({**SMALL, "models": SIZES[:1], "tasks": ["needle"]}))


def _prefill(run: Run) -> pareto_views.View:
    return next(view for view in pareto_views.views(run) if view.group == "prefill")


def _changed(run: Run, change: Any) -> Run:
    data: xr.Dataset = run.data.copy(deep=True)
    change(data)
    return Run(run.name, data)


def test_every_group_and_batch_is_a_view_and_seconds_are_none(two: Run) -> None:
    found = [(v.group, v.claim.cells.cost, v.claim.cells.batch) for v in pareto_views.views(two)]
    decode = [
        (f"decode, {tail} tail", "decode_bytes", batch)
        for tail in ("dense", "decode")
        for batch in schema.BATCHES
    ]
    assert found == [("prefill", "prefill_flops", 1), *decode]


def test_seconds_are_shown_where_they_compare(
    two: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    file = tmp_path / "results" / "timed.yaml"
    file.parent.mkdir()
    file.write_text("- accuracy/two\n", encoding="utf-8")
    seconds = [v for v in pareto_views.views(two) if str(v.claim.cells.cost).endswith("_seconds")]
    assert [v.group for v in seconds] == ["prefill", "decode, dense tail", "decode, decode tail"]
    rows = pareto_tables.points(two, seconds[0])
    assert set(rows["cost"]) == {0.5}
    assert pareto_words.cost(rows.iloc[0]) == "seconds of the prefill"

    def elsewhere(data: xr.Dataset) -> None:
        data["device"].values[0, 0] = "another device"

    assert not pareto_views.timed(_changed(two, elsewhere))


def test_a_point_has_the_score_and_the_cost_of_its_own_cell(two: Run) -> None:
    rows = pareto_tables.points(two, _prefill(two))
    assert set(rows["method_name"]) == {"dense", "window", "block_sparse", "oracle"}
    for row in rows.to_dict("records"):
        at = {key: row[key] for key in ("model", "method", "sparsity", "length")}
        assert row["score"] == pytest.approx(float(two.data["score"].sel(at).mean()), abs=1e-6)
        cost = two.data["prefill_flops"].sel(at).mean().item()
        dense = two.data["prefill_flops"].sel({**at, "method": "dense", "sparsity": 0})
        assert row["cost"] == pytest.approx(cost)
        assert row["share"] == pytest.approx(cost / dense.mean().item())
    assert rows.groupby("length")["relative"].max().tolist() == [1.0, 1.0]
    assert rows.loc[rows["method_role"] == "method", "score_low"].notna().all()


@pytest.mark.parametrize("narrow", [False, True])
def test_every_setting_is_drawn(two: Run, one: Run, narrow: bool) -> None:
    for run in (two, one):
        view = _prefill(run)
        rows, lines = pareto_tables.points(run, view), pareto_models.curves(run, view)
        picture = pareto_figures.settings(rows, lines, narrow=narrow)
        shown = [axes for axes in picture.figure.axes if axes.get_visible()]
        assert len(shown) == rows["length"].nunique()
        marks = [line for axes in shown for line in axes.lines if line.get_linestyle() == "None"]
        assert sum(len(np.asarray(line.get_xdata())) for line in marks) == len(rows)
        bands = [line for axes in shown for line in axes.lines if line.get_linewidth() == 2.0]
        assert len(bands) == (2 * len(shown) if run is two else 0)
        assert len(picture.data) == len(rows)
        assert len(picture.alt) > 80


def test_controls_and_oracles_are_on_no_frontier(two: Run) -> None:
    def brilliant(data: xr.Dataset) -> None:
        aside = np.isin(data["method_role"].values, ("control", "oracle"))
        scores = data["score"].values[:, aside]
        data["score"].values[:, aside] = np.where(np.isfinite(scores), 1.0, np.nan)

    view = _prefill(two)
    before, after = (pareto_models.curves(run, view) for run in (two, _changed(two, brilliant)))
    pd.testing.assert_frame_equal(before, after)
    assert set(before["part"]) == {"dense", "full"}


def test_a_better_method_lifts_the_frontier_and_the_words(two: Run) -> None:
    def better(data: xr.Dataset) -> None:
        """Dense attention is right on every other prompt, the sparse method on all of them."""
        place = list(data["method_name"].values).index("block_sparse")
        data["score"].values[:, 0, 0, ..., ::2] = 0.0
        scores = data["score"].values[:, place]
        data["score"].values[:, place] = np.where(np.isfinite(scores), 1.0, np.nan)

    view = _prefill(two)
    found = []
    for run in (two, _changed(two, better)):
        rows, lines = pareto_tables.points(run, view), pareto_models.curves(run, view)
        gains = lines.drop_duplicates("length")
        found.append((gains, pareto_words.sizes(run.name, rows, lines), pareto_gain_words.gains_alt(gains)))
    assert (found[1][0]["estimate"] > found[0][0]["estimate"]).all()
    assert (found[1][0]["low"] > 0).all()
    assert "above that of the dense models in 2," in found[1][1]
    assert found[0][1:] != found[1][1:]


def test_pairs_meet_at_equal_cost_or_say_that_they_do_not(two: Run) -> None:
    def cheap(data: xr.Dataset) -> None:
        """The larger model just twice as dear, so that its sparse settings enclose the smaller one's cost."""
        data["prefill_flops"].values[1] = 1.8 * data["prefill_flops"].values[0]

    near, view = _changed(two, cheap), _prefill(two)
    rows = pareto_models.neighbours(near, view)
    met = rows[(rows["length"] == 512) & (rows["state"] == "compared")]
    assert list(met["subject"]) == ["all tasks", "needle", "needle (needles 4)"]
    assert met["difference"].iloc[0] == pytest.approx(met["difference"].iloc[1:].mean())
    shown, caption = pareto_gain_words.pairs(rows)
    assert "2 of 2 pairs have a point of equal cost" in caption

    def dear(data: xr.Dataset) -> None:
        data["prefill_flops"].values[1] = 9 * data["prefill_flops"].values[0]

    far = pareto_models.neighbours(_changed(two, dear), view)
    shown, caption = pareto_gain_words.pairs(far)
    assert set(shown["difference"]) == {"no equal-cost point"}
    assert "0 of 2 pairs" in caption
    assert pareto_gain_words.bounded(far) == ["No pair of neighbouring models has a point of equal cost."]


def test_what_the_best_dense_accuracy_takes_is_told_for_every_length(two: Run) -> None:
    def lossless(data: xr.Dataset) -> None:
        """The block method keeps every score of the larger model at a quarter of its cost."""
        place = list(data["method_name"].values).index("block_sparse")
        ran = np.isfinite(data["score"].values[:, place, 1:])
        dense = np.broadcast_to(data["score"].values[:, 0, :1], ran.shape)
        data["score"].values[:, place, 1:] = np.where(ran, dense, np.nan)
        data["prefill_flops"].values[1, place, 1:] = 0.25 * data["prefill_flops"].values[1, 0, 0]

    view = _prefill(two)
    before = pareto_cheaper.table(two, view)
    after = pareto_cheaper.table(_changed(two, lossless), view)
    assert list(after["length"]) == list(before["length"]) == sorted(two.data["length"].values)
    assert (after["best"] == SIZES[1]).all()
    assert after["share"].to_numpy() == pytest.approx(0.25)
    assert after["name"].str.contains("block sparse").all()
    assert (after["dense_share"] == 1).all()
    assert (after["difference"] == 0).all()
    told = pareto_cheaper.told(after)
    assert len(told) == 1
    assert "25\xa0% at 512 tokens" in told[0]
    assert "Smaller dense models alone: none is shown" in told[0]
    page, caption = pareto_cheaper.shown(after)
    assert list(page["share, any"]) == ["25\xa0%"] * len(after)
    assert "root of two" in caption


def test_one_model_has_no_frontier_and_says_so(one: Run) -> None:
    view = _prefill(one)
    assert pareto_cheaper.table(one, view).empty
    rows, lines = pareto_tables.points(one, view), pareto_models.curves(one, view)
    assert lines.empty
    assert pareto_models.neighbours(one, view).empty
    assert "is **not measured**" in pareto_words.sizes("one", rows, lines)
    assert "compares no method" in pareto_words.sizes("one", rows.iloc[:0], lines)


def test_only_what_every_task_tolerates_counts_as_saved(two: Run) -> None:
    def spoilt(data: xr.Dataset) -> None:
        """Nothing is lost but on the last task, where all is."""
        place = list(data["method_name"].values).index("block_sparse")
        ran = np.isfinite(data["score"].values[:, place, 1:])
        dense = np.broadcast_to(data["score"].values[:, 0, :1], ran.shape).copy()
        data["score"].values[:, place, 1:] = np.where(ran, dense, np.nan)
        data["score"].values[:, place, 1:, :, 1] = 0.0

    def lossless(data: xr.Dataset) -> None:
        spoilt(data)
        place = list(data["method_name"].values).index("block_sparse")
        data["score"].values[:, place, 1:, :, 1] = data["score"].values[:, 0, :1, :, 1]

    view = _prefill(two)
    tables = []
    for change in (spoilt, lossless):
        run = _changed(two, change)
        tables.append(pareto_tables.savings(run, pareto_tables.points(run, view)))
    assert (tables[0]["saved"] == 0).all()
    assert (tables[1]["kept"] == 0.9).all()
    assert (tables[1]["saved"] > 0.4).all()
    assert "saved is nothing at 512 and 1,024 tokens" in pareto_words.saved(tables[0], SIZES[1])[0]
    assert "saved is nothing" not in pareto_words.saved(tables[1], SIZES[1])[0]
