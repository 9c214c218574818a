"""``run``: make the datasets of a run file, of a new local run, or of all local runs that need it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sparsestudy.errors import StudyError

if TYPE_CHECKING:
    from sparsestudy.plan import ShardPlan
    from sparsestudy.runs import Mode
    from sparsestudy.shards import Shard

HELP = "run the study: one run file, a new run with your parameters, or all local runs that need it"
SKIPPED = "SKIPPED.txt"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("file", nargs="?", type=Path, help="a run file in notebooks/params/")
    parser.add_argument(
        "--missing-local",
        action="store_true",
        help="make what is missing or stale among the smoke runs and your own runs; report published ones",
    )
    parser.add_argument("--smoke", action="store_true", help="with --missing-local: the smoke runs alone")
    parser.add_argument("--experiment", help="the experiment of a new run, such as accuracy")
    parser.add_argument("--name", help="the name of a new run: lower-case letters, digits and hyphens")
    parser.add_argument("--params", default="", help="its parameters as YAML, such as '{lengths: [2048]}'")
    parser.add_argument("--params-file", type=Path, help="its parameters as a YAML file")
    parser.add_argument("--force", action="store_true", help="make fresh datasets again, too")
    parser.add_argument("--jobs", type=int, default=1, help="datasets made at a time (default 1)")
    parser.add_argument(
        "--workers", type=int, default=1, help="processes that share the batches of the run (default 1)"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--scheduler", action="store_true", help="run FILE under Snakemake")
    how.add_argument("--in-process", action="store_true", help="run in this process, without a kernel")
    parser.add_argument("--shard", nargs=2, metavar=("TODO", "NUMBER"), help=argparse.SUPPRESS)
    parser.add_argument("--worker", nargs=3, metavar=("TODO", "NUMBER", "SHARES"), help=argparse.SUPPRESS)


def execute(args: argparse.Namespace) -> int:
    """Carry out the command.

    Raises:
        StudyError: arguments that do not go together, or whatever stops a run.
    """
    if args.shard:
        from sparsestudy.jobs import run_job

        return run_job(Path(args.shard[0]), int(args.shard[1]))
    if args.worker:
        from sparsestudy.worker import run_worker

        return run_worker(Path(args.worker[0]), int(args.worker[1]), args.worker[2] == "1")
    for option, value in {"--jobs": args.jobs, "--workers": args.workers}.items():
        if value < 1:
            raise StudyError(f"{option} {value} is not possible; give 1 or more.")
    if args.workers > 1 and (args.jobs > 1 or args.scheduler or args.missing_local):
        raise StudyError(
            "--workers shares one run among processes by itself; give it without --jobs, --scheduler and "
            "--missing-local."
        )
    new = args.experiment or args.name or args.params or args.params_file
    if sum([args.file is not None, args.missing_local, bool(new)]) != 1:
        raise StudyError(
            "Give one of: a run file, --missing-local, or --experiment and --name with parameters."
        )
    if args.smoke and not args.missing_local:
        raise StudyError("--smoke goes with --missing-local, and says which local runs are meant.")
    if args.missing_local:
        return _missing_local(args)
    return _run_new(args) if new else _run_file(args.file, args, scheduled=False)


def _run_new(args: argparse.Namespace) -> int:
    """A new run; one that cannot even start leaves no run file behind for later builds to stumble over."""
    from sparsestudy import paths, runfiles, runs

    runs.require_run_extra(_mode(args, scheduled=True, published=False))
    path, created = _created(args)
    print(f"run file: {paths.shown(path)}", file=sys.stderr)
    try:
        return _run_file(path, args, scheduled=True)
    except StudyError as error:
        if not created or any(shard.path.exists() for shard in runfiles.read(path).shards()):
            raise
        path.unlink()
        raise StudyError(f"{error}\nNothing was made, so {paths.shown(path)} was removed again.") from error


def _created(args: argparse.Namespace) -> tuple[Path, bool]:
    from sparsestudy import runfiles

    if not args.experiment or not args.name:
        raise StudyError("A new run needs both --experiment and --name (EXPERIMENT= and NAME= with make).")
    if args.params and args.params_file:
        raise StudyError("Give the parameters as --params or as --params-file, not both.")
    text = args.params
    if args.params_file:
        if not args.params_file.is_file():
            raise StudyError(f"There is no parameter file {args.params_file}.")
        text = args.params_file.read_text(encoding="utf-8")
    return runfiles.create_local(args.experiment, args.name, runfiles.parameters_from_text(text))


def _mode(args: argparse.Namespace, scheduled: bool, published: bool) -> Mode:
    if args.in_process:
        return "in-process"
    if args.scheduler or (scheduled and args.workers == 1):
        return "scheduler"
    # A published dataset comes with its executed notebook, which takes a kernel.
    return "kernel" if published or scheduled else "in-process"


def _run_file(file: Path, args: argparse.Namespace, scheduled: bool) -> int:
    from sparsestudy import paths, plan, runfiles, runs, sharing

    parameters = runfiles.read(file)
    mode = _mode(args, scheduled, parameters.published)
    runs.require_run_extra(mode)
    if args.workers > 1:
        sharing.refuse(parameters)
    parameters.check_fields()
    plans = [plan.inspect(shard) for shard in parameters.shards()]
    _refuse_unreadable(plans)
    wanted = [item.shard for item in plans if args.force or item.state != "fresh"]
    for item in plans:
        if item.shard not in wanted:
            print(f"{paths.shown(item.shard.path)} is fresh; --force makes it again", file=sys.stderr)
    for model in dict.fromkeys(shard.model for shard in wanted):
        parameters.obtain(model)
    if args.workers > 1:
        sharing.share(wanted, args.workers, args.force, mode == "in-process")
    else:
        runs.execute(wanted, mode, args.force, args.jobs)
    return 0


def _refuse_unreadable(plans: list[ShardPlan]) -> None:
    unreadable = [item.reasons[0] for item in plans if item.state == "unreadable"]
    if unreadable:
        raise StudyError(unreadable[0])


def _missing_local(args: argparse.Namespace) -> int:
    from sparsestudy import paths, plan, runfiles, runs

    for path in runfiles.clear_smoke():
        print(f"removed {paths.shown(path)}, which the smoke run no longer asks for", file=sys.stderr)
    published = plan.inspect_all(published=True)
    if any(item.state != "fresh" for item in published):
        print("\n".join(plan.report((True,))), file=sys.stderr)
    _refuse_unreadable(published)
    local = plan.inspect_all(published=False)
    if args.smoke:
        local = [item for item in local if item.shard.run.run in runfiles.SMOKE]
    _refuse_unreadable(local)
    wanted = [item.shard for item in local if item.state != "fresh"]
    if wanted:
        runs.require_run_extra()
    runs.execute(_with_weights(wanted), _mode(args, True, False), jobs=args.jobs)
    return 0


def _with_weights(shards: list[Shard]) -> list[Shard]:
    """The shards whose weights are here or can be had; the folders of the others get a note that says why."""
    from sparsestudy import models, paths

    problems: dict[str, str] = {}
    # A shape of the speed study may have the name of somebody's model.
    for (_, model), run in {(shard.run.experiment, shard.model): shard.run for shard in shards}.items():
        try:
            run.obtain(model)
        except models.WeightsUnavailable as error:
            problems[model] = str(error)
    for folder in dict.fromkeys(shard.path.parent for shard in shards):
        why = [problems[s.model] for s in shards if s.path.parent == folder and s.model in problems]
        note = folder / SKIPPED
        if why:
            paths.write_text(note, f"{why[0]}\n")
            print(f"skipped {paths.shown(folder)}: {why[0]}", file=sys.stderr)
        else:
            note.unlink(missing_ok=True)
    return [shard for shard in shards if shard.model not in problems]
