"""The page that opens the report, and README.md: verdicts as computed, the figure that the data allow."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from synthetic import by_size, synthetic_run, write_run
from test_claims import CLAIMS, _accuracy, _better_decode, _judged, _lossless

from sparsestudy import (
    claim_words,
    pareto_blocks,
    pareto_figures,
    paths,
    readme,
    report,
    summary_blocks,
    summary_tables,
    summary_words,
)
from sparsestudy.__main__ import main
from sparsestudy.claims import ledger
from sparsestudy.errors import StudyError
from sparsestudy.view import Run

ROOT = Path(__file__).resolve().parents[1]
SIZES = ["smollm2-135m-q4_1", "gemma-3-270m-q4_k_m"]
SMALL: dict[str, Any] = {
    "lengths": [512, 1024, 2048, 4096],
    "sparsities": [0, 500, 900],
    "samples": 60,
    "methods": ["dense", "window", "block_sparse", {"name": "quest", "tail": "decode"}],
}
STUDY: dict[str, Any] = {**SMALL, "run": "smollm2", "published": True, "lengths": [512, 1024]}


def _headline(*runs: Run) -> summary_tables.Headline:
    found = summary_tables.headline(pareto_blocks.measured(list(runs)))
    assert found
    return found


@pytest.fixture(scope="module")
def one() -> Run:
    return Run("one", synthetic_run({**SMALL, "models": SIZES[:1]}))


@pytest.fixture(scope="module")
def two() -> Run:
    return Run("two", by_size(synthetic_run({**SMALL, "models": SIZES})))


def test_one_model_is_shown_at_the_greatest_length_and_several_at_three(one: Run, two: Run) -> None:
    alone, both = _headline(one), _headline(one, two)
    assert alone.run.name == "one"
    assert alone.lines.empty
    assert set(alone.rows["length"]) == {4096}
    assert set(alone.rows["group"]) == {"dense", "prefill", "decode, decode tail"}
    assert both.run.name == "two", "the run that says most about sizes opens the report"
    assert set(both.rows["length"]) == set(both.lines["length"]) == {512, 2048, 4096}
    for found in (alone, both):
        assert (found.rows.groupby("measure")["batch"].nunique() == 1).all()
    assert summary_tables.headline(pareto_blocks.measured([])) is None


def test_what_is_saved_is_told_of_the_greatest_length_with_the_samples_of_a_verdict() -> None:
    run = synthetic_run({**SMALL, "models": SIZES[:1], "samples": 110})
    run["score"].values[:, :, :, -1, :, 60:] = np.nan
    for few, told in ((60, "4,096"), (110, "2,048")):
        data = run.isel(sample=slice(few))
        found = summary_blocks.Summary([], _headline(Run("few", data)))
        assert f"At {told} tokens" in found.saved


@pytest.mark.parametrize("narrow", [False, True])
def test_one_function_draws_what_the_data_allow(one: Run, two: Run, narrow: bool) -> None:
    for run in (one, two):
        found = _headline(run)
        picture = pareto_figures.headline(found.rows, found.lines, narrow=narrow)
        shown = [axes for axes in picture.figure.axes if axes.get_visible()]
        lengths = 1 if run is one else 2 if narrow else 3
        assert len(shown) == found.rows["panel"].nunique() * lengths
        bands = [line for axes in shown for line in axes.lines if line.get_linewidth() == 2.0]
        assert len(bands) == (0 if run is one else 2 * len(shown))
        drawn = found.rows
        if run is two:
            kept = [512, 4096] if narrow else [512, 2048, 4096]
            drawn = drawn[drawn["length"].isin(kept) & drawn["method_role"].isin(["dense", "method"])]
        marks = [line for axes in shown for line in axes.lines if line.get_linestyle() == "None"]
        assert sum(len(np.asarray(line.get_xdata())) for line in marks) == len(drawn)
        assert len(picture.alt) > 80
        assert ("frontiers of dense models" in picture.alt) == (run is two)
        assert not picture.data.select_dtypes(exclude="number").isna().to_numpy().any()


def test_the_words_of_the_frontiers_follow_the_data(two: Run) -> None:
    def better(data: xr.Dataset) -> None:
        """Dense attention is right on every other prompt, the sparse method on all of them."""
        place = list(data["method_name"].values).index("block_sparse")
        data["score"].values[:, 0, 0, ..., ::2] = 0.0
        scores = data["score"].values[:, place]
        data["score"].values[:, place] = np.where(np.isfinite(scores), 1.0, np.nan)

    changed = two.data.copy(deep=True)
    better(changed)
    told = []
    for run in (two, Run("two", changed)):
        found = _headline(run)
        told.append(pareto_figures.headline(found.rows, found.lines))
    assert told[0].alt != told[1].alt
    above = [re.findall(r"above the other in (\d) of 6 panels", one.caption) for one in told]
    assert above[0] < above[1] == ["6"]


def test_every_claim_is_in_the_table_once_and_those_that_are_decided_come_first() -> None:
    none, _ = summary_tables.claims(ledger({}))
    assert list(none["claim"]) == [claim.statement for claim in CLAIMS.values()]
    assert set(none["verdict"]) == {"not measured"}
    assert none["effect, or what is missing"].str.startswith("accuracy/ladder: not published.").all()
    judged = _judged("decode-over-prefill")
    assert judged.outcome
    found = [*ledger({}), judged]
    shown, caption = summary_tables.claims(found)
    assert len(shown) == len(CLAIMS)
    first = shown.iloc[0]
    assert first["verdict"] == judged.verdict
    assert first["decided by"] == f"one model, {SIZES[0]}; n = 120; accuracy/synthetic, hash {judged.hash}"
    assert claim_words.limits(judged.outcome.effect) in first["effect, or what is missing"]
    assert f"Of {len(CLAIMS)} claims 1 is measured" in caption
    lacking = _judged("scaling-law")
    assert lacking.outcome is None
    row = summary_tables.claims([lacking])[0].iloc[0]
    assert row["effect, or what is missing"] == f"accuracy/synthetic, hash {lacking.hash}: {lacking.reason}"
    twice, caption = summary_tables.claims([*found, judged])
    assert len(twice) == len(CLAIMS) + 1, "each dataset that decides a claim has a row"
    assert f"Of {len(CLAIMS)} claims 1 is measured, with 2 verdicts, one for each run: " in caption


def test_the_verdict_of_the_summary_flips_with_the_data() -> None:
    told = []
    for accuracy in (_better_decode, _lossless):
        found = [_judged("decode-over-prefill", _accuracy(accuracy))]
        told.append((summary_tables.claims(found)[0].iloc[0]["verdict"], summary_words.decided(found)[0]))
    assert told[0][0] == "supported"
    assert told[0][1].startswith("**Supported** by one model, ")
    assert told[1][0] != "supported"
    assert told[0][1] != told[1][1]


def test_the_summary_says_from_how_many_models_its_verdicts_come() -> None:
    alone, several = _judged("decode-over-prefill"), _judged("size-tolerance", many=True)
    assert several.outcome
    assert "All verdicts come from one model" in summary_words.scope([alone])
    assert summary_words.scope([several]).startswith("The verdicts come from 3 models, and hold")
    assert "1 of them from one model alone" in summary_words.scope([alone, several])
    assert summary_words.scope(ledger({})) == ""
    assert "None of" in summary_words.counts(ledger({}))


def test_the_law_is_shown_with_its_errors_on_cells_held_out() -> None:
    found = [_judged("scaling-law", _accuracy(_better_decode), many=True)]
    assert found[0].outcome
    rows = summary_tables.law(found)
    assert len(rows) == len(found[0].outcome.parts) == 9
    for row in rows.to_dict("records"):
        saved = 1 - row["error"] ** 2 / row["baseline_error"] ** 2
        assert row["estimate"] == pytest.approx(saved, abs=1e-6)
    text = summary_words.law(found, rows)
    assert f"{rows['error'].max():.3f}" in text
    shown, _ = summary_words.law_table(rows)
    assert list(shown["its error"]) == [f"{error:.3f}" for error in rows["error"]]
    missing = ledger({}, [CLAIMS["scaling-law"]])
    assert summary_tables.law(missing).empty
    assert "**not measured**" in summary_words.law(missing, summary_tables.law(missing))


# ---- README.md


def test_readme_and_its_figure_show_the_published_data() -> None:
    runs = report.sparse()
    assert runs, "the checkout ships published runs"
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    drawing = (ROOT / readme.PICTURE).read_text(encoding="utf-8")
    assert text.count(readme.BEGIN.format(readme.sources(runs))) == 1, "`make readme` writes it again"
    assert f"<dc:description>{readme.sources(runs)}</dc:description>" in drawing, (
        "`make readme` draws it again"
    )
    assert readme.written(text, runs, summary_blocks.measured(runs)) == text, "`make readme` writes it again"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty checkout that the package looks into, with a README.md."""
    (tmp_path / "results").mkdir()
    marks = f"{readme.BEGIN.format('nothing')}\nold\n{readme.END}"
    (tmp_path / "README.md").write_text(f"# Title\n\n{marks}\n\nThe rest.\n", encoding="utf-8")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return tmp_path


def test_make_readme_writes_what_the_data_say_and_nothing_else(checkout: Path) -> None:
    write_run(STUDY)
    written = []
    for seed in (0, 0, 1):
        write_run(STUDY, seed=seed)
        assert main(["readme"]) == 0
        files = (checkout / "README.md", checkout / readme.PICTURE)
        written.append(tuple(file.read_text(encoding="utf-8") for file in files))
        assert all(report.published()[0].hash in text for text in written[-1])
    text, drawing = written[0]
    assert text.startswith("# Title\n\n<!-- findings")
    assert text.endswith(f"{readme.END}\n\nThe rest.\n")
    assert "\nold\n" not in text
    assert "<svg" in drawing
    assert written[0] == written[1]
    assert written[0][0] != written[2][0]
    assert written[0][1] != written[2][1]


def test_a_readme_without_a_place_for_the_findings_is_refused(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["readme"]) == 2
    assert "There is no published run to draw" in capsys.readouterr().err
    write_run(STUDY)
    runs = report.sparse()
    with pytest.raises(StudyError, match="it holds 0"):
        readme.written("# Title\n", runs, summary_blocks.measured(runs))
    (checkout / "README.md").unlink()
    assert main(["readme"]) == 2
    assert "There is no README.md" in capsys.readouterr().err
