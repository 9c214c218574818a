"""The figures: every cell drawn or marked, words written from the data, one drawing for light and dark."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import xarray as xr
from synthetic import synthetic_run

from sparsestudy import cells, compare, comparison_words, figures, schema, style, tables, words
from sparsestudy.errors import StudyError
from sparsestudy.view import Run

MODEL = "smollm2-135m-q4_1"
SMALL: dict[str, Any] = {"lengths": [512, 1024], "sparsities": [0, 500, 900, 950], "samples": 40}


@pytest.fixture(scope="module")
def run() -> xr.Dataset:
    return synthetic_run({**SMALL, "tasks": ["needle", {"name": "needle", "needles": 4, "queries": 4}]})


@pytest.fixture(scope="module")
def summary(run: xr.Dataset) -> xr.Dataset:
    return cells.summarise(run)


def _tasks(summary: xr.Dataset) -> list[str]:
    return [str(task) for task in summary["task"].values]


def test_the_summary_agrees_with_means_taken_by_hand(run: xr.Dataset, summary: xr.Dataset) -> None:
    place = {"model": MODEL, "method": "quest", "sparsity": 900, "length": 1024}
    for task in _tasks(summary):
        cell = {**place, "task": task}
        score = run["score"].sel(cell).values
        dense = run["score"].sel({**cell, "method": "dense", "sparsity": 0}).values
        control = run["score"].sel({**cell, "method": "window-phase_decode"}).values
        one = summary.sel(cell)
        assert float(one["score"]) == pytest.approx(score.mean(), abs=1e-6)
        assert float(one["difference"]) == pytest.approx((score - dense).mean(), abs=1e-6)
        assert float(one["over_control"]) == pytest.approx((score - control).mean(), abs=1e-6)
        assert float(one["achieved"]) == pytest.approx(
            1 - run["attended_density"].sel(cell).values.mean(), abs=1e-6
        )
        assert int(one["n"]) == len(score)


def test_repeated_dense_cells_are_no_comparisons(summary: xr.Dataset) -> None:
    table = tables.tidy(summary)
    compared = tables.compared(table)
    assert (compared["sparsity"] > 0).all()
    assert (compared["method_role"] != "dense").all()
    kept = tables.distinct(table)
    assert (kept.loc[kept["sparsity"] == 0, "method_role"] == "dense").all()


def test_cells_that_did_not_run_are_kept_apart(summary: xr.Dataset) -> None:
    table = tables.tidy(summary)
    missing = table[table["state"] == "unreachable"]
    assert len(missing)
    assert missing["score"].isna().all()
    assert missing["note"].str.contains("unreachable: at most 92.0% can be left out").all()
    assert "not_run" not in set(table["state"])


@pytest.mark.parametrize("make", [figures.accuracy, figures.difference])
@pytest.mark.parametrize("narrow", [False, True])
def test_every_cell_is_drawn_or_marked(summary: xr.Dataset, make: Any, narrow: bool) -> None:
    picture = make(summary, MODEL, _tasks(summary)[0], narrow=narrow)
    rows = picture.data
    shown = [axes for axes in picture.figure.axes if axes.get_visible()]
    groups = [group for group in rows["group"].unique() if group != "dense"]
    assert len(shown) == len(groups) * rows["length"].nunique()
    marked = sum(len(line.get_xdata()) for axes in shown for line in axes.lines if line.get_marker() == "x")
    table = figures.select(summary, MODEL, _tasks(summary)[0])
    assert marked == (table["state"] == "unreachable").sum()
    drawn = [line for axes in shown for line in axes.lines if line.get_marker() not in ("x", "None", None)]
    points = sum(np.isfinite(np.asarray(line.get_ydata(), float)).sum() for line in drawn)
    assert (
        points
        == (
            (table["method_role"] != "dense") & table[make.__name__.replace("accuracy", "score")].notna()
        ).sum()
    )


def test_guessing_that_is_always_right_is_no_floor(run: xr.Dataset) -> None:
    certain = run.copy(deep=True)
    certain["chance"].values[:] = 1.0
    made = cells.summarise(certain)
    assert not made["floor"].any()
    labels = figures.accuracy(made, MODEL, "needle").figure.legends[0].get_texts()
    assert "guessing" not in [label.get_text() for label in labels]


def test_a_task_with_less_context_has_dense_attention_alone() -> None:
    made = cells.summarise(
        synthetic_run(SMALL | {"tasks": ["needle", {"name": "needle", "context": "none"}]})
    )
    rows = tables.tidy(made)
    alone = rows[rows["task"] == "needle-context_none"]
    assert set(alone["method_role"]) == {"dense"}
    assert alone["difference"].isna().all()
    picture = figures.accuracy(made, MODEL, "needle-context_none")
    assert "needle (context none)" in picture.alt
    assert len(picture.data) == len(alone)


def test_samples_that_share_a_document_count_as_fewer(run: xr.Dataset) -> None:
    alone = cells.summarise(run)
    shared, own = run.copy(deep=True), run.copy(deep=True)
    for start in range(0, run.sizes["sample"], 5):
        for data in (shared, own):
            data["score"].values[..., start : start + 5] = data["score"].values[..., start : start + 1]
        shared["document"].values[..., start : start + 5] = f"text {start}"
    own["document"].values[..., 0] = "text of one sample"
    heeded, ignored = cells.summarise(shared), cells.summarise(own)
    width = [data["difference_high"] - data["difference_low"] for data in (heeded, ignored)]
    some = (ignored["difference"] != 0) & np.isfinite(ignored["difference"])
    assert some.any()
    assert (width[0].values[some] > 1.3 * width[1].values[some]).all()
    assert heeded["difference"].equals(ignored["difference"])
    run = run.copy(deep=True)
    run["document"].values[..., 0] = "text of one sample"
    np.testing.assert_allclose(cells.summarise(run)["difference_low"], alone["difference_low"], atol=1e-9)


def test_variants_are_named_by_the_fields_that_their_label_names() -> None:
    fields = '{"needles": 4, "preset": "direct", "value_length": 4}'
    assert tables.subject("needle", "needle-needles_4", fields) == "needle (needles 4)"
    assert tables.subject("needle", "needle", fields) == "needle"
    label = "quest-page_size_32-tail_decode"
    assert tables.short_name("quest", label, '{"page_size": 32}') == "quest, page size 32"


def test_words_come_from_the_data(summary: xr.Dataset) -> None:
    picture = figures.accuracy(summary, MODEL, _tasks(summary)[0])
    dense = picture.data[picture.data["method_role"] == "dense"].iloc[0]
    assert words.interval(dense) in picture.alt
    assert "n = 40" in picture.caption
    other = figures.accuracy(cells.summarise(synthetic_run(SMALL, seed=5)), MODEL, "needle")
    assert other.alt != picture.alt


def test_the_dark_drawing_is_the_light_one_with_its_colours_exchanged(summary: xr.Dataset) -> None:
    picture = figures.accuracy(summary, MODEL, _tasks(summary)[0], lengths=[1024])
    light = style.svg(picture.figure)
    assert light == style.svg(figures.accuracy(summary, MODEL, _tasks(summary)[0], lengths=[1024]).figure)
    dark = style.recoloured(light).decode()
    left = {colour for colour in re.findall(r"#[0-9a-f]{6}", dark) if colour in style.RECOLOUR}
    assert not left
    assert style.TEXT in light.decode()
    shape = re.compile(r"#[0-9a-f]{6}")
    assert shape.sub("", dark) == shape.sub("", light.decode())


def _contrast(one: str, two: str) -> float:
    def luminance(colour: str) -> float:
        parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    high, low = sorted([luminance(one), luminance(two)], reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colours_stand_out_on_their_page() -> None:
    for light, dark in style.RECOLOUR.items():
        if light in (style.GRID, style.PLATE):
            continue
        needed = 4.5 if light in (style.TEXT, style.MUTED) else 3.0
        assert _contrast(light, "#ffffff") >= needed
        assert _contrast(dark, "#121212") >= needed


def test_variants_of_a_panel_never_share_marker_and_colour() -> None:
    many = ["window", "block_sparse", "quest", "quest", "unheard_of"]
    variants = ["window", "block sparse", "quest", "quest, page size 32", "unheard of"]
    looks = style.looks(many, ["control", *["method"] * 4], variants)
    assert len({(look.colour, look.marker) for look in looks.values()}) == len(variants)
    assert looks["quest"].colour == looks["quest, page size 32"].colour
    assert not looks["window"].filled


def test_a_run_without_dense_is_drawn_and_says_so() -> None:
    alone = cells.summarise(synthetic_run({**SMALL, "methods": ["quest"], "sparsities": [500, 900]}))
    picture = figures.accuracy(alone, MODEL, "needle")
    assert "was not measured" in picture.alt
    lost = figures.difference(alone, MODEL, "needle")
    assert lost.data.empty
    assert "compared" in lost.caption


def test_all_cells_unreachable_or_failed_still_make_a_figure(run: xr.Dataset) -> None:
    broken = run.copy(deep=True)
    status = broken["status"].values
    sparse = (broken["method_role"].values != "dense")[None, :, None, None, None]
    status[np.broadcast_to(sparse, status.shape) & (status != schema.NOT_RUN)] = schema.FAILED
    picture = figures.accuracy(cells.summarise(broken), MODEL, "needle")
    assert "ran at no sparsity" in picture.alt


def test_a_repeated_run_is_the_same_and_another_seed_is_noise() -> None:
    published = [Run("study", synthetic_run(SMALL))]
    again = compare.beside(Run("again", synthetic_run({**SMALL, "samples": 10})), published)
    assert set(again["verdict"]) == {compare.SAME}
    assert (compare.matched(again)["paired"] == 10).all()
    noise = compare.beside(Run("other", synthetic_run({**SMALL, "samples": 30}, seed=3)), published)
    assert compare.counts(noise)[compare.DIFFERS] == 0
    assert (compare.matched(noise)["paired"] == 0).all()
    picture = figures.beside(noise)
    assert len(picture.data) == len(compare.matched(noise))
    assert "within noise" in picture.caption


def test_a_changed_result_differs_and_a_new_cell_stands_alone() -> None:
    published = [Run("study", synthetic_run(SMALL))]
    mine = synthetic_run({**SMALL, "sparsities": [0, 500, 700]})
    spot = mine["score"].loc[{"method": "dense", "sparsity": 0, "length": 512}]
    spot[:] = 1 - spot.values
    table = compare.beside(Run("mine", mine), published)
    changed = table[(table["method_role"] == "dense") & (table["length"] == 512)]
    assert list(changed["verdict"]) == [compare.DIFFERS]
    assert set(table.loc[table["sparsity"] == 700, "verdict"]) == {compare.ALONE}


def test_cells_of_other_weights_are_not_the_same_cells() -> None:
    mine = synthetic_run(SMALL)
    mine["model_weights_sha256"].values[:] = "f" * 64
    table = compare.beside(Run("mine", mine), [Run("study", synthetic_run(SMALL))])
    assert set(table["verdict"]) == {compare.ALONE}
    assert compare.matched(table).empty
    assert comparison_words.verdicts(table) == "No cell of this run was also published."


BESIDE = [
    "dense",
    {"name": "window"},
    "block_sparse",
    "quest",
    {"name": "quest", "tail": "decode"},
    {"name": "random", "like": "block_sparse"},
    {"name": "oracle", "like": "block_sparse"},
    {"name": "random", "like": "quest"},
    {"name": "random", "like": "quest", "tail": "decode"},
    {"name": "oracle", "like": "quest", "tail": "decode"},
]


def test_every_method_stands_beside_its_own_controls() -> None:
    summary = cells.summarise(synthetic_run({**SMALL, "methods": BESIDE}))
    picture = figures.controls(summary, MODEL, "needle")
    found = {group: set(some["name"]) for group, some in picture.data.groupby("group")}
    assert found == {
        "dense": {"dense"},
        "block sparse (prefill)": {"method", "random", "oracle", "window"},
        "quest (decode, dense tail)": {"method", "random"},
        "quest (decode, decode tail)": {"method", "random", "oracle"},
    }
    for text in (picture.alt, picture.caption):
        assert "quest (decode, decode tail)" in text
        assert "oracle" in text
    general = figures.accuracy(summary, MODEL, "needle").data
    assert set(general["method_name"]) == {"dense", "window", "block_sparse", "quest"}


def test_a_method_is_compared_with_the_control_that_was_made_for_it() -> None:
    run = synthetic_run({**SMALL, "methods": BESIDE})
    summary = cells.summarise(run)
    at = {"sparsity": 900, "length": 512, "task": "needle", "model": MODEL}
    over = summary["over_control"].sel({"method": "block_sparse", **at}).item()
    score = run["score"].sel(at).mean("sample")
    beside = score.sel({"method": 'random-like_"block_sparse"'})
    assert over == pytest.approx(float(score.sel({"method": "block_sparse"}) - beside), abs=1e-6)


def test_without_controls_beside_a_method_there_is_no_such_figure(summary: xr.Dataset) -> None:
    with pytest.raises(StudyError, match="add {name: random"):
        figures.controls(summary, MODEL, "needle")
