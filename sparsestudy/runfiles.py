"""Run files: one YAML file says what one run measures; its place says which run it is.

``notebooks/params/<experiment>/<run>.yaml`` is a published run and
``notebooks/params/local/<experiment>/<run>.yaml`` a local one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from sparsestudy import paths
from sparsestudy.errors import StudyError
from sparsestudy.experiments import EXPERIMENTS, experiment
from sparsestudy.parameters import RunParameters

# The runs of every machine: on models that ship, and on one whose weights are fetched.
SMOKE = ("smoke", "smoke-smollm2")
SCRATCH = paths.SCRATCH


def read(path: Path) -> RunParameters:
    """The parameters of a run file.

    Raises:
        StudyError: no such file, not where run files lie, not YAML, or parameters that cannot be; the
            sentence names the file.
    """
    path = Path(path).resolve()
    if not path.is_file():
        raise StudyError(f"There is no run file {paths.shown(path)}; `make plan` lists the runs.")
    name, published = _place(path)
    try:
        given = _mapping(path.read_text(encoding="utf-8"))
        fixed = {"run": path.stem, "published": published}
        for key, value in fixed.items():
            if given.get(key, value) != value:
                raise StudyError(f"`{key}` is {given[key]!r}, but the file's place and name say {value!r}.")
        return experiment(name).parameters.parse({**given, **fixed})
    except UnicodeDecodeError:
        raise StudyError(f"{paths.shown(path)} is not text in UTF-8.") from None
    except StudyError as error:
        raise StudyError(f"{paths.shown(path)}: {error}") from None


def clear_smoke() -> list[Path]:
    """Remove the datasets that a smoke run made but no longer asks for, after its file has changed.

    They come back by one command, and beside the new ones they would hinder every page that shows the run. A
    user's own datasets are never removed.

    Returns:
        The datasets that were removed.
    """
    removed = []
    for kind in EXPERIMENTS:
        files = [paths.params_folder(kind, False) / f"{name}.yaml" for name in SMOKE]
        for file in filter(Path.is_file, files):
            asked = {shard.path for shard in read(file).shards()}
            made = sorted((paths.results(False) / kind / file.stem).glob("*.nc"))
            removed += [path for path in made if path not in asked]
    for path in removed:
        path.unlink()
        path.with_suffix(".ipynb").unlink(missing_ok=True)
    return removed


def _place(path: Path) -> tuple[str, bool]:
    """Experiment and published, from the folder of a run file."""
    for name in EXPERIMENTS:
        for published in (True, False):
            if path.parent == paths.params_folder(name, published).resolve():
                return name, published
    raise StudyError(
        f"{paths.shown(path)} is not where run files lie; put it into "
        "notebooks/params/local/<experiment>/, or give it to `make run` as PARAMS_FILE."
    )


def parameters_from_text(text: str) -> dict[str, Any]:
    """Parameters from YAML text, such as ``{lengths: [2048], sparsities: [0, 900]}``.

    Raises:
        StudyError: not YAML, or no mapping.
    """
    try:
        return _mapping(text)
    except StudyError as error:
        raise StudyError(f"The parameters given: {error}") from None


def _mapping(text: str) -> dict[str, Any]:
    try:
        given = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "unreadable"
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise StudyError(f"this is not YAML{where} ({problem}).") from None
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise StudyError("expected `name: value` pairs, such as `{lengths: [2048], sparsities: [0, 900]}`.")
    return given


def listed(published: bool) -> list[Path]:
    """The run files of all experiments, published or local, by experiment and name."""
    return [
        file for name in EXPERIMENTS for file in sorted(paths.params_folder(name, published).glob("*.yaml"))
    ]


def create_local(experiment_name: str, run: str, given: dict[str, Any]) -> tuple[Path, bool]:
    """Write the complete run file of a new local run, or find that it is there with the same parameters.

    Args:
        experiment_name: such as ``accuracy``.
        run: the run's name.
        given: the parameters that differ from the defaults.

    Returns:
        The run file, and whether it was written now.

    Raises:
        StudyError: the name is reserved or taken by a different run, or the parameters cannot be.
    """
    parse = experiment(experiment_name).parameters.parse
    fixed = sorted({"run", "published"} & given.keys())
    if fixed:
        raise StudyError(f"`{fixed[0]}` is no parameter of a new run: NAME names it, and it is local.")
    parameters = parse({**given, "run": run, "published": False})
    if run in (*SMOKE, SCRATCH) or (paths.params_folder(experiment_name, True) / f"{run}.yaml").exists():
        raise StudyError(f"The name '{run}' is reserved for a run of the study; choose another NAME.")
    path = paths.params_folder(experiment_name, False) / f"{run}.yaml"
    folder = paths.run_folder(experiment_name, run, False)
    before = read(path).plain() if path.exists() else _made_with(folder)
    now = parameters.plain()
    different = [name for name in now if before is not None and _differs(name, before, now)]
    if different:
        name = different[0]
        holder = path if path.exists() else folder
        raise StudyError(
            f"{paths.shown(holder)} is a different run ({name}: {json.dumps((before or {})[name])} there, "
            f"{json.dumps(now[name])} here); choose another NAME, or move {paths.shown(path)} and "
            f"the data in {paths.shown(folder)} away first."
        )
    if path.exists():
        return path, False
    parameters.check_fields()
    paths.write_text(path, _yaml(parameters))
    return path, True


def _differs(name: str, before: dict[str, Any], now: dict[str, Any]) -> bool:
    return bool(before.get(name) != now[name])


def _made_with(folder: Path) -> dict[str, Any] | None:
    """The parameters of data that lie there without a run file, if any."""
    if not any(folder.glob("*.nc")):
        return None
    from sparsestudy.dataset import open_run

    made: dict[str, Any] = json.loads(open_run(folder).attrs["parameters"])
    return made


def _yaml(parameters: RunParameters) -> str:
    """A run file's text: every parameter on a line of its own; JSON values are YAML, too."""
    plain = parameters.plain()
    lines = [f"{name}: {json.dumps(plain[name])}\n" for name in plain if name not in ("run", "published")]
    return "".join(lines)
