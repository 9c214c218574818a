"""Numbers in the text of the pages come from the data, and sentences change with the data."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml
from pages import BOOK, PAGES, code_cells, prose
from synthetic import synthetic_run

from sparsestudy import cells, findings, listings, tables, words
from sparsestudy.view import Run

ROOT = Path(__file__).resolve().parents[1]
# Modules whose text reaches the pages; examples.py is left out, since it writes commands to paste.
FIDELITY = ("fidelity_blocks", "fidelity_words", "fidelity_figures", "fidelity_tables")
MASKS = ("mask_blocks", "mask_words", "mask_figures", "mask_tables")
SPEED = ("speed/blocks", "speed/words", "speed/figures", "speed/tables", "speed/bars")
PARETO = tuple(
    f"pareto_{name}"
    for name in ("blocks", "figures", "gain_figures", "gain_words", "models", "tables", "views", "words")
)
SUMMARY = (*(f"summary_{name}" for name in ("blocks", "tables", "words")), "readme", "comparison_words")
LENGTH = tuple(f"length_{name}" for name in ("blocks", "figures", "tables", "words"))
CONCENTRATION = tuple(f"concentration_{name}" for name in ("blocks", "figures", "tables", "words"))
TOLERANCE = tuple(f"tolerance_{name}" for name in ("blocks", "figures", "tables", "words"))
DEMANDS = tuple(f"demand_{name}" for name in ("blocks", "figures", "tables", "words"))
TASK_PAGE = ("task_blocks", "task_tables")
CLAIMS = ("claim_blocks", "claim_words", "claim_figures", "claim_tables")
ESTIMANDS = ("budgets", "evidence", "frontiers", "ledger", "methods", "pairs", "tolerances", "trends")
WRITERS = (
    *("findings", "words", "blocks", "report", "listings", "figures", "panels", "dots", "tables"),
    *(
        *MASKS,
        *TASK_PAGE,
        *PARETO,
        *SUMMARY,
        *LENGTH,
        *CONCENTRATION,
        *TOLERANCE,
        *DEMANDS,
        *FIDELITY,
        *SPEED,
        *CLAIMS,
        *(f"claims/{name}" for name in ESTIMANDS),
    ),
)
COUNTING = (
    r"(one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|sixty|seventy|eighty|"
    r"ninety|hundred|thousand|half|third|quarter)s?"
)
SPELLED = re.compile(
    rf"\b{COUNTING}([ -]{COUNTING})*[ -](percent|per cent|times|fold|points)\b", re.IGNORECASE
)


def allowed() -> list[dict[str, str]]:
    return yaml.safe_load((BOOK / "numbers-allowed.yaml").read_text(encoding="utf-8")) or []


def typed_numbers(page: str, text: str) -> list[str]:
    """Lines of a page that hold a number nobody computed."""
    rest = prose(text)
    for entry in allowed():
        if entry["page"] in (page, "*"):
            rest = rest.replace(entry["text"], "")
    return [line.strip() for line in rest.splitlines() if re.search(r"\d", line) or SPELLED.search(line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_number_in_the_prose_is_typed(page: Path) -> None:
    assert typed_numbers(page.stem, page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
@pytest.mark.parametrize("lie", ["The accuracy is 0.83.", "It loses 5 % there.", "It is ten times better."])
def test_a_typed_number_is_found(page: Path, lie: str) -> None:
    text = page.read_text(encoding="utf-8")
    at = text.rindex("\n## ")
    assert typed_numbers(page.stem, f"{text[:at]}\n\n{lie}\n{text[at:]}") == [lie]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_cells_of_pages_hold_no_numbers_and_no_labels(page: Path) -> None:
    from sparsestudy.models import REGISTRY

    for cell in code_cells(page):
        for node in ast.walk(ast.parse(cell)):
            if isinstance(node, ast.Constant):
                assert not isinstance(node.value, int | float)
                assert not re.search(r"\d", str(node.value))
    for name in REGISTRY:
        assert name not in page.read_text(encoding="utf-8")


def test_the_allow_list_is_used_and_has_reasons() -> None:
    for entry in allowed():
        assert set(entry) == {"page", "text", "reason"}
        assert len(entry["reason"].split()) > 2
        pages = PAGES if entry["page"] == "*" else [BOOK / f"{entry['page']}.md"]
        assert any(entry["text"] in prose(page.read_text(encoding="utf-8")) for page in pages)


@pytest.mark.parametrize("module", WRITERS)
def test_sentences_in_the_package_hold_no_typed_results(module: str) -> None:
    tree = ast.parse((ROOT / "sparsestudy" / f"{module}.py").read_text(encoding="utf-8"))
    skipped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    for node in ast.walk(tree):
        if isinstance(node, ast.FormattedValue) and node.format_spec:
            skipped |= {id(part) for part in ast.walk(node.format_spec)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            is_sentence = " " in node.value.strip()
            assert not (is_sentence and re.search(r"\d", node.value)), node.value


SMALL: dict[str, Any] = {"lengths": [512, 1024], "sparsities": [0, 500, 900], "samples": 100}


def _rows(change: Callable[[xr.Dataset], None] | None = None) -> Any:
    data = synthetic_run(SMALL)
    if change:
        change(data)
    return Run("synthetic", data).table


def _perfect(data: xr.Dataset) -> None:
    """Every sparse cell scores as dense does."""
    dense = data["score"].values[:, 0, 0][:, None, None]
    ran = np.isfinite(data["score"].values)
    data["score"].values[:] = np.where(ran, dense, np.nan)


def _ruined(data: xr.Dataset) -> None:
    """Every sparse cell scores nothing."""
    sparse = data["score"].values[:, 1:, 1:]
    sparse[np.isfinite(sparse)] = 0.0


def test_findings_flip_with_the_data() -> None:
    normal, perfect, ruined = _rows(), _rows(_perfect), _rows(_ruined)
    assert "no method shows a loss" in findings.overall(perfect)
    assert "No method is free of loss" in findings.overall(ruined)
    assert "a loss is shown in" in findings.overall(normal)
    assert all("shows no loss up to" in sentence for sentence in findings.outcomes(perfect))
    assert all("first loses at 50" in sentence for sentence in findings.outcomes(ruined))
    assert all(
        "at 0 of 2 sparsities and lower at none" in sentence for sentence in findings.beyond_control(perfect)
    )
    assert any("it scores higher:" in sentence for sentence in findings.beyond_control(normal))


def test_one_changed_value_changes_the_sentences_that_quote_it() -> None:
    def one_more_wrong(data: xr.Dataset) -> None:
        cell = data["score"].loc[{"method": "quest", "sparsity": 900, "length": 1024}]
        cell[..., int(np.argmax(cell.values))] = 0.0

    before, after = _rows(), _rows(one_more_wrong)
    assert findings.outcomes(before) != findings.outcomes(after)
    assert findings.dense(before) == findings.dense(after)
    assert words.accuracy_caption(before) == words.accuracy_caption(after)
    assert words.difference_alt(before) == words.difference_alt(after)
    assert not listings.cells(before)[0].equals(listings.cells(after)[0])


def test_every_quoted_score_carries_interval_and_count() -> None:
    rows = _rows()
    for sentence in [*findings.outcomes(rows), *findings.beyond_control(rows)]:
        for match in re.finditer(r"(?<![\d(.−])−?\d\.\d\d(?!\d)", sentence):
            after = sentence[match.end() :]
            excluded = re.match(r" or more is excluded", after)
            inside = re.match(r"( to −?\d\.\d\d)?[,)]", after)
            assert excluded or inside or re.match(r" \(−?\d\.\d\d to −?\d\.\d\d, n = \d+ pairs\)", after), (
                sentence
            )
    assert re.search(r"\d\.\d\d \(\d\.\d\d to \d\.\d\d\)", findings.dense(rows))
    assert "n = 100" in findings.dense(rows)


def test_floor_and_ceiling_are_named() -> None:
    def easy(data: xr.Dataset) -> None:
        data["score"].values[:, 0, 0, 0] = 1.0
        data["score"].values[:, 0, 0, 1] = 0.0

    text = findings.dense(_rows(easy))
    assert "at the floor" in text
    assert "at the ceiling" in text


def test_scope_names_what_was_not_measured() -> None:
    table = tables.tidy(cells.summarise(synthetic_run({**SMALL, "sparsities": [0, 950]})))
    text = findings.scope({"synthetic": table})
    assert "6 unreachable" in text
    assert "n = 100 samples" in text
    assert "No published run" in findings.scope({})
