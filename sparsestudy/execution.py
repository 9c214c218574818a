"""One shard, made by running the cells of its experiment's notebook: in a kernel, or in this process."""

from __future__ import annotations

import importlib
import json
import linecache
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsestudy import kernel_start, paths
from sparsestudy.errors import StudyError
from sparsestudy.plan import inspect
from sparsestudy.scrub import scrubbed

if TYPE_CHECKING:
    from sparsestudy.shards import Shard

PARAMETERS_TAG = "parameters"


def run_here(shard: Shard) -> None:
    """Run the notebook's code cells in this process, with the shard's parameters after the tagged cell.

    No kernel and no executed notebook: for debugging, and for machines without Jupyter.

    Raises:
        StudyError: what a cell raises, or the cells end without a dataset that is up to date.
    """
    path = paths.notebook(shard.run.experiment)
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    # A cell may look itself up as the main module, as it would in a kernel.
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with shard.lock():
        for number, cell in enumerate(cells):
            if cell["cell_type"] != "code":
                continue
            source = "".join(cell["source"])
            name = f"{path.name}[{number}]"
            # Lets a traceback show the lines of the cell.
            linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
            exec(compile(source, name, "exec", dont_inherit=True), namespace)
            if PARAMETERS_TAG in cell["metadata"].get("tags", []):
                namespace.update(shard.parameters.plain())
        shard.executed.unlink(missing_ok=True)
    _check_made(shard)


def run_in_kernel(shard: Shard, scratch: Path) -> None:
    """Run the notebook in a kernel of its own and keep the executed notebook beside the dataset.

    Args:
        shard: what to make.
        scratch: an existing folder for the unfinished notebook and the kernel's own files.

    Raises:
        StudyError: a cell failed (its own sentence, where it raised one), or no dataset was made.
    """
    import papermill

    unfinished = scratch / f"{shard.name}.ipynb"
    _prepare_kernel(scratch)
    with shard.lock(), kernel_start.transport() as transport:
        try:
            papermill.execute_notebook(
                str(paths.notebook(shard.run.experiment)),
                str(unfinished),
                parameters=shard.parameters.plain(),
                kernel_name="python3",
                cwd=str(paths.ROOT),
                progress_bar=False,
                start_timeout=kernel_start.PATIENCE,
                config=transport,
            )
        except papermill.PapermillExecutionError as error:
            _keep_failed(shard, unfinished)
            raise StudyError(_reason(error)) from error
        _check_made(shard)
        text = unfinished.read_text(encoding="utf-8")
        paths.write_text(shard.executed, scrubbed(text) if shard.run.published else text)


def _prepare_kernel(scratch: Path) -> None:
    """The kernel is this Python with this package, untouched by the user's notebook settings."""
    package = str(Path(__file__).resolve().parent.parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [package, *filter(None, [os.environ.get("PYTHONPATH")])],
    )
    os.environ["SPARSESTUDY_ROOT"] = str(paths.ROOT)
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    os.environ["IPYTHONDIR"] = str(scratch / "ipython")
    os.environ.setdefault("MPLBACKEND", "agg")


def _keep_failed(shard: Shard, unfinished: Path) -> None:
    if unfinished.is_file():
        shard.log.parent.mkdir(parents=True, exist_ok=True)
        unfinished.replace(shard.log.with_suffix(".failed.ipynb"))


def _reason(error: Any) -> str:
    """The sentence of a StudyError, else the kind of error with its first line."""
    # Brings in the error classes of the modules that a cell may use.
    importlib.import_module("sparsestudy.models")
    if error.ename in _study_errors(StudyError):
        return str(error.evalue)
    first = (str(error.evalue).strip() or "no message").splitlines()[0]
    return f"a cell of the notebook failed with {error.ename}: {first}"


def _study_errors(base: type[StudyError]) -> set[str]:
    return {base.__name__} | {name for kind in base.__subclasses__() for name in _study_errors(kind)}


def _check_made(shard: Shard) -> None:
    found = inspect(shard)
    if found.state != "fresh":
        raise StudyError(
            f"The notebook came to its end, but {paths.shown(shard.path)} is {found.state} "
            f"({'; '.join(found.reasons)})."
        )
