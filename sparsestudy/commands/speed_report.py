"""``speed-report``: hold the published speed of the study's own code against its bars."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sparsestudy.errors import StudyError

if TYPE_CHECKING:
    import pandas as pd

HELP = "say for every bar of speed what is reached, what the best peer reaches, and whether the bar is met"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", nargs="?", default="h200", help="a run of the experiment speed (default h200)")


def execute(args: argparse.Namespace) -> int:
    """Print one line a bar; the exit status is 0 whether they are met or not.

    Raises:
        StudyError: there is no dataset of that run.
    """
    from sparsestudy import paths
    from sparsestudy.dataset import open_run
    from sparsestudy.speed import bars, tables

    folders = [paths.run_folder("speed", args.run, published) for published in (True, False)]
    folder = next((folder for folder in folders if any(folder.glob("*.nc"))), None)
    if folder is None:
        raise StudyError(
            f"There is no dataset of speed/{args.run}; `make results EXPERIMENT=speed NAME=h200` makes the "
            "published run on a GPU, `make run EXPERIMENT=speed NAME=mine` a small one of your own."
        )
    judged = bars.judge(tables.cases(open_run(folder)))
    print("\n".join(lines(judged)))
    return 0


def lines(judged: pd.DataFrame) -> list[str]:
    """The bars as lines of text.

    Args:
        judged: from :func:`sparsestudy.speed.bars.judge`.
    """
    head = f"{'length':>8} {'sparsity':>8} {'batch':>5} {'ours':>7} {'peer':>7} {'ratio':>6} {'bar':>5}  "
    told: list[str] = []
    for name, rows in judged.groupby("name", sort=False):
        told += [f"{name} ({rows['measure'].iloc[0]})", f"{head}met"]
        for row in rows.to_dict("records"):
            numbers = [_number(row[key]) for key in ("ours", "peer", "ratio")]
            told.append(
                f"{row['length']:>8,} {row['sparsity'] / 1000:>8.2f} {row['batch']:>5} {numbers[0]:>7} "
                f"{numbers[1]:>7} {numbers[2]:>6} {row['least']:>5.2f}  {'yes' if row['met'] else 'no'}"
                f"{'  ' + row['note'] if row['note'] else ''}"
            )
    told.append(f"{int(judged['met'].sum())} of {len(judged)} bars are met")
    return told


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"
