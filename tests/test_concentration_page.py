"""The page on length shows concentration: exponents, words that turn with the data, and the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic_concentration import DEFAULTS, write_concentration

from sparsestudy import concentration_figures, concentration_tables, concentration_words, paths, report
from sparsestudy.concentration_schema import MASSES, REGIONS
from sparsestudy.view import Run


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "ROOT", tmp_path)


def looked(beta: float = 0.7, **changes: Any) -> Run:
    write_concentration(beta, **changes)
    return report.published("concentration")[0]


def test_one_row_a_place_with_the_mean_of_its_samples() -> None:
    run = looked()
    rows = concentration_tables.counts(run)
    kinds = len(MASSES) + 1
    assert len(rows) == 2 * len(REGIONS) * kinds * 3
    own = rows[(rows["task"] == "cwe") & (rows["region"] == "context") & (rows["length"] == 1024)]
    at = run.data.sel(task="cwe", region="context", length=1024)
    values = dict(zip(own["mass"], own["keys"], strict=True))
    assert values[900] == pytest.approx(float(at["keys"].sel(mass=900).mean()), rel=1e-5)
    assert values[concentration_tables.EFFECTIVE] == pytest.approx(
        float(at["effective_keys"].mean()), rel=1e-5
    )
    assert (own["keys_low"] < own["keys"]).all()
    assert (own["keys"] < own["keys_high"]).all()
    assert (own["n"] == DEFAULTS["samples"]).all()


@pytest.mark.parametrize("beta", [0.5, 1.0, 1.2])
def test_exponents_are_those_that_the_keys_were_made_with(beta: float) -> None:
    run = looked(beta)
    found = concentration_tables.exponents(run)
    assert len(found) == 2 * len(REGIONS) * (len(MASSES) + 1)
    np.testing.assert_allclose(found["estimate"], beta, atol=0.06)
    assert (found["low"] <= found["estimate"]).all()
    assert (found["estimate"] <= found["high"]).all()
    by_head = concentration_tables.heads(run)
    assert len(by_head) == len(REGIONS) * 6
    np.testing.assert_allclose(by_head["estimate"], beta, atol=0.1)


@pytest.mark.parametrize(
    ("beta", "words"),
    [(0.7, "A smaller share of the keys suffices"), (1.4, "A larger share of the keys is needed")],
)
def test_the_answer_turns_with_the_data(beta: float, words: str) -> None:
    run = looked(beta)
    rows, found = concentration_tables.counts(run), concentration_tables.exponents(run)
    assert concentration_words.answer(found, rows).startswith(f"**{words}")
    told = {}
    for below in (False, True):
        for above in (False, True):
            changed = found.assign(low=0.9, high=1.1)
            chief = changed.index[changed["mass"] == concentration_tables.CHIEF]
            changed.loc[chief[:1] if below else [], "high"] = 0.95
            changed.loc[chief[1:2] if above else [], "low"] = 1.05
            told[below, above] = concentration_words.answer(changed, rows)
    assert "No change of the share" in told[False, False]
    assert "suffices in longer text on some tasks" in told[True, False]
    assert "On no task a smaller share" in told[False, True]
    assert "depends on task and query" in told[True, True]
    assert all("is no reason why" in told[False, above] for above in (False, True))
    assert "on some tasks alone" in told[True, False]
    assert ("all tasks together, no reason" in told[True, True]) == (beta > 1)
    assert len(concentration_words.tasks(found)) == len(REGIONS)
    told = concentration_words.heads(concentration_tables.heads(run))
    assert all("over 6 heads" in sentence for sentence in told)


def test_exponents_of_tolerated_budgets_stand_beside_those_of_the_same_model_and_task() -> None:
    found = concentration_tables.exponents(looked())
    model = found["model"].iloc[0]
    tolerated = pd.DataFrame(
        {
            "model": [model, model, model, "other"],
            "task": ["needle"] * 4,
            "estimate": [0.4, 0.9, 7.0, 0.1],
            "low": [0.2, 0.5, -np.inf, 0.0],
            "high": [0.6, np.inf, np.inf, 0.2],
        }
    )
    shown, _ = concentration_words.exponent_table(found, tolerated)
    column = shown["exponent of tolerated budgets"]
    assert set(column[found["task"] == "needle"]) == {"0.40 to 0.90 (2 curves of 3)"}
    assert set(column[found["task"] == "cwe"]) == {concentration_words.NOT_MEASURED}
    assert set(concentration_words.beside(found, pd.DataFrame())) == {concentration_words.NOT_MEASURED}
    nothing = concentration_words.beside(found, tolerated[2:3])
    assert nothing[0] == concentration_words.UNSET


def test_prompts_that_a_sweep_has_too_are_counted() -> None:
    run = looked()
    rows = concentration_tables.counts(run)
    other = Run("sweep", run.data.isel(length=[0]))
    assert "Of its 36 prompts, 12 are prompts of the run `sweep`" in concentration_words.scene(
        run, rows, [other]
    )
    assert "prompts, none" in concentration_words.scene(run, rows, [])


@pytest.mark.parametrize("narrow", [False, True])
def test_every_count_is_drawn_once(narrow: bool) -> None:
    rows = concentration_tables.counts(looked())
    picture = concentration_figures.growth(rows, narrow=narrow)
    panels = [axes for axes in picture.figure.axes if axes.get_visible()]
    assert len(panels) == len(REGIONS) * (len(MASSES) + 1)
    lines = [line for axes in panels for line in axes.lines if line.get_marker() not in ("None", None)]
    assert sum(len(line.get_xdata()) for line in lines) == len(rows)
    assert len(picture.alt) > 80


def test_a_single_length_has_counts_and_no_exponent() -> None:
    run = looked(lengths=[512])
    assert len(concentration_tables.counts(run))
    assert concentration_tables.exponents(run).empty
    assert concentration_tables.heads(run).empty
