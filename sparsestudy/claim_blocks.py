"""Parts of the page on decisions: the ledger, what the data tolerate, and what samples can tell."""

from __future__ import annotations

from sparsestudy import assets, claim_figures, claim_tables, claim_words, stats, words
from sparsestudy.claims import Verdict, ledger
from sparsestudy.report import box, bullets, glue, html, markdown, show_table
from sparsestudy.view import Run


def judge(runs: list[Run]) -> list[Verdict]:
    """Every claim judged on the published runs."""
    return ledger({f"{run.data.attrs['experiment']}/{run.name}": run for run in runs})


def constants() -> None:
    """Give the page the numbers that define its tests."""
    from sparsestudy.stats.crossfit import RESAMPLES, SPLITS

    glue(
        wide_margin=f"{stats.WIDE_MARGIN:g}",
        least=f"{stats.LEAST}",
        one_sided=words.percent((1 - stats.CONFIDENCE) / 2),
        splits=f"{SPLITS}",
        frontier_resamples=f"{RESAMPLES}",
    )


def verdicts(found: list[Verdict]) -> None:
    """The ledger as a table, then each claim with its verdicts in sentences."""
    show_table(*claim_tables.judged(found), data=claim_tables.verdicts(found), name="claims")
    bullets(claim_words.told(found))


def parts(found: list[Verdict]) -> None:
    """What the measured verdicts are made of."""
    shown, data, caption = claim_tables.parts(found)
    if len(shown):
        show_table(shown, caption, data=data, name="claim-parts")
    else:
        markdown("No claim was measured.")


def tolerances(runs: list[Run]) -> None:
    """Figure and table of what the largest model of every run tolerates; the files have all models."""
    for run in runs:
        rows = claim_tables.tolerances(run)
        if rows.empty:
            box("note", f"Run `{run.name}`", "It compares no method with dense attention above guessing.")
            continue
        sizes = dict(zip(run.data["model"].values, run.data["model_parameters"].values, strict=True))
        model = max(rows["model"].unique(), key=lambda name: int(sizes[name]))
        own = rows[rows["model"] == model].reset_index(drop=True)
        html(assets.figure(claim_figures.tolerance, assets.slug("tolerance", run.name, str(model)), own))
        shown, caption = claim_tables.told(own)
        if others := rows["model"].nunique() - 1:
            caption += (
                f" {words.counted(others, 'smaller model')} {'is' if others == 1 else 'are'} in the files."
            )
        show_table(shown, caption, data=rows, name=f"tolerance-{run.name}")


def planning() -> None:
    """Figure and table of planning numbers."""
    rows = claim_tables.planning()
    html(assets.figure(claim_figures.planning, "planning", rows))
    show_table(*claim_tables.planned(rows), data=rows, name="planning")


def noise(runs: list[Run]) -> str:
    """What a single published comparison can find."""
    return " ".join(claim_words.noise(run.table) for run in runs) or "There is no published comparison."


def checks() -> None:
    """The table of simulations."""
    show_table(claim_tables.checks(), claim_words.checks_caption())
