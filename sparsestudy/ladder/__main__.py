"""The command line: ``python -m sparsestudy.ladder table | tokenizer | batches | train | score``."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from sparsestudy.errors import StudyError


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; an error of the user's is one sentence and exit code 2."""
    args = parser().parse_args(argv)
    try:
        args.run(args)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """What can be asked for."""
    top = argparse.ArgumentParser(prog="python -m sparsestudy.ladder", description=__doc__)
    commands = top.add_subparsers(required=True)
    table = commands.add_parser("table", help="shapes of the rungs, and densities at equal cost")
    table.set_defaults(run=_table)
    tokenizer = commands.add_parser("tokenizer", help="write the tokenizer's files")
    tokenizer.add_argument("--out", type=Path, required=True, metavar="DIR")
    tokenizer.set_defaults(run=_tokenizer)
    train = commands.add_parser("train", help="train one rung and write its checkpoint and card")
    train.add_argument("--rung", required=True)
    train.add_argument("--out", type=Path, required=True, metavar="DIR", help="one folder a rung goes here")
    train.add_argument("--seconds", type=float, default=math.inf, help="end the training by then")
    train.add_argument("--set", help="name=value,… instead of the rung's rate, deviation, local, …")
    train.add_argument("--batches", type=Path, metavar="DIR", help="read the batches that `batches` builds")
    train.add_argument("--scored", help="lengths of the scores, separated by commas, instead of all")
    train.add_argument("--eager", action="store_true", help="compile nothing")
    train.set_defaults(run=_train)
    batches = commands.add_parser("batches", help="build batches once, for several trainings")
    batches.add_argument("--out", type=Path, required=True, metavar="DIR")
    batches.set_defaults(run=_batches)
    for command in (train, batches):
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--workers", type=int, default=14, help="processes that build batches")
        command.add_argument(
            "--schedule", help="length:millions of tokens[:share of drills],… instead of the usual"
        )
        command.add_argument("--tasks", help="only these, separated by commas")
        command.add_argument("--short", type=int, help="up to this length batches have fewer tokens")
    score = commands.add_parser("score", help="score a checkpoint with generated answers")
    score.add_argument("folder", type=Path)
    score.add_argument("--write", action="store_true", help="put the scores into the model card")
    score.add_argument("--scored", help="lengths, separated by commas, instead of all")
    score.set_defaults(run=_score)
    return top


def _table(args: argparse.Namespace) -> None:
    from sparsestudy.ladder.table import show

    print(show())


def _tokenizer(args: argparse.Namespace) -> None:
    from sparsestudy.ladder.rungs import CONTEXT
    from sparsestudy.ladder.tokenizer import build

    build(CONTEXT).save_pretrained(args.out)


def _train(args: argparse.Namespace) -> None:
    from sparsestudy.ladder.run import Request, run

    names = (
        "rung",
        "seed",
        "out",
        "seconds",
        "workers",
        "schedule",
        "set",
        "tasks",
        "scored",
        "eager",
        "short",
        "batches",
    )
    print(run(Request(**{name: getattr(args, name) for name in names})))


def _batches(args: argparse.Namespace) -> None:
    from sparsestudy.ladder.run import batches_of
    from sparsestudy.ladder.stored import store

    built = store(batches_of(args.seed, args.schedule, args.short, args.tasks), args.out, args.workers)
    print(f"{built} batches built in {args.out}")


def _score(args: argparse.Namespace) -> None:
    from sparsestudy.ladder.checkpoint import note
    from sparsestudy.ladder.run import lengths, score_folder
    from sparsestudy.ladder.score import shown

    found = score_folder(args.folder, lengths(args.scored))
    if args.write:
        note(args.folder, found)
    for entry in found:
        print(json.dumps(entry))
    print(shown(found))


if __name__ == "__main__":
    sys.exit(main())
