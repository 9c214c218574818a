"""Building the report: a clean, offline set of HTML pages from the book and the datasets."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from sparsestudy import assets, ingredients, paths
from sparsestudy.errors import StudyError

UNUSED = ("*.map", ".buildinfo", ".doctrees", "objects.inv", "_sources/_generated")
"""What the builder leaves that no page uses."""
JOBS = 4
"""Pages whose cells run at a time; more than there are cores, since pages differ much in length."""
_SHOWN = 5
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_EXECUTED = re.compile(r"/([^/]+)\.md: Executed notebook in ([0-9.]+) seconds")
_PROBLEM = re.compile(
    r"\b(WARNING|ERROR|CRITICAL): |^\w*(Error|Exception): |Extension error|Exception occurred"
)
# Sphinx can run the cells of several pages at once, and their kernels can be started more safely; the command
# line of jupyter-book has no option for either. Sphinx would deal out pages by threes, of which the
# slowest may wait for one another.
_BUILDER = """
import functools, jupyter_book.sphinx as book, jupyter_cache.executors.utils as cells, sphinx.builders
from sparsestudy import kernel_start
book.build_sphinx = functools.partial(book.build_sphinx, jobs={jobs})
cells.executenb = kernel_start.execute
sphinx.builders.make_chunks = lambda pages, *_, **__: [[page] for page in pages]
from jupyter_book.cli.main import main
main()
"""


def build(verbose: bool = False) -> Path:
    """Build the report of ``paths.ROOT`` from scratch and return its ``index.html``.

    The pages are built beside the finished report and take its place in one step, so a build that
    fails leaves the last good report as it was.

    Args:
        verbose: show the builder's output, not only a line a page.

    Raises:
        StudyError: a page, a cell or a link in the book is wrong; the sentence quotes the builder.
    """
    book = paths.ROOT / "book"
    if not (book / "_config.yml").is_file():
        raise StudyError(f"There is no book in {book}; run this in a checkout of sparsestudy.")
    target = book / "_build" / "html"
    target.parent.mkdir(exist_ok=True)
    with FileLock(target.parent / ".lock"), _fresh(target.parent) as work:
        made_of = ingredients.digest()
        _prepare()
        _run_builder(book, work, verbose)
        built = work / "_build" / "html"
        prune(built)
        _stamp().unlink(missing_ok=True)
        _replace(built, target)
        paths.write_text(_stamp(), json.dumps({"made_of": made_of, "holds": _listing(target)}))
    return target / "index.html"


def finished() -> Path | None:
    """The ``index.html`` of a report that a build would make again as it is; None where it would change."""
    html = paths.ROOT / "book" / "_build" / "html"
    if not _stamp().is_file() or not (html / "index.html").is_file():
        return None
    last = json.loads(_stamp().read_text(encoding="utf-8"))
    same = last == {"made_of": ingredients.digest(), "holds": _listing(html)}
    return html / "index.html" if same else None


def _stamp() -> Path:
    """What the last report was made of and what it held, beside it."""
    return paths.ROOT / "book" / "_build" / "made.json"


def _listing(folder: Path) -> str:
    """A hash of the names, sizes and times of all files in a folder: whether anybody touched them."""
    told = [
        f"{path.relative_to(folder)} {path.stat().st_size} {path.stat().st_mtime_ns}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    return hashlib.blake2b("\n".join(told).encode(), digest_size=16).hexdigest()


@contextmanager
def _fresh(parent: Path) -> Iterator[Path]:
    work = Path(tempfile.mkdtemp(prefix=".work-", dir=parent))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _prepare() -> None:
    """Empty the folder that the cells write into: what no page makes any more must not stay."""
    shutil.rmtree(assets.generated(), ignore_errors=True)
    assets.generated().mkdir(parents=True)


def environment() -> dict[str, str]:
    """The builder's environment: this interpreter's packages and this checkout, and nothing of the user's.

    Each page has a process of its own. Where the user wants no bytecode beside the sources it lies with the
    build, since reading all packages anew takes each of them some seconds.
    """
    build = assets.generated().parent / "_build"
    package_parent = str(Path(__file__).resolve().parent.parent)
    inherited = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    variables = dict(os.environ)
    if variables.pop("PYTHONDONTWRITEBYTECODE", ""):
        variables.setdefault("PYTHONPYCACHEPREFIX", str(build / ".bytecode"))
    return {
        **variables,
        "SPARSESTUDY_ROOT": str(paths.ROOT),
        "PYTHONPATH": os.pathsep.join(dict.fromkeys([package_parent, *inherited])),
        # a kernel that the user installed under the same name must not run the cells
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTER_PATH": "",
        "IPYTHONDIR": str(build / ".ipython"),
        "MPLBACKEND": "agg",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def _run_builder(book: Path, work: Path, verbose: bool) -> None:
    command = [sys.executable, "-c", _BUILDER.format(jobs=JOBS), "build", str(book)]
    command += ["--path-output", str(work), "--all", "-W", "-n", "--keep-going"]
    log: list[str] = []
    with subprocess.Popen(
        command,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            log.append(_COLOURS.sub("", line))
            if verbose:
                print(line, end="", flush=True)
            elif done := _EXECUTED.search(log[-1]):
                print(f"page {done[1]}: {float(done[2]):.0f} s", flush=True)
    if process.returncode:
        problems = _failed_cells(work) or [line.strip() for line in log if _PROBLEM.search(line)]
        file = book / "_build" / "build.log"
        paths.write_text(
            file,
            _COLOURS.sub("", "".join([*log, *(part.read_text(encoding="utf-8") for part in _reports(work))])),
        )
        raise StudyError(
            "The report could not be built and the last one is as it was: "
            f"{' | '.join(problems[:_SHOWN]) or 'the builder gave no reason'} (all that it said is in "
            f"{paths.shown(file)})."
        )


def _reports(work: Path) -> list[Path]:
    """What the builder noted about pages with a failing cell, one file a page."""
    return sorted(work.rglob("*.err.log"))


def _failed_cells(work: Path) -> list[str]:
    """Each page with a failing cell and the error that it ended with."""
    ends = [(part, part.read_text(encoding="utf-8").strip().splitlines()) for part in _reports(work)]
    return [
        f"page {part.name.partition('.')[0]}: {_COLOURS.sub('', lines[-1])}" for part, lines in ends if lines
    ]


def prune(folder: Path) -> None:
    """Remove what no page uses."""
    for pattern in UNUSED:
        for path in list(folder.rglob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _replace(built: Path, target: Path) -> None:
    """Put the new report in the place of the old one."""
    old = built.parent / "old"
    if target.exists():
        os.replace(target, old)
    os.replace(built, target)


def size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
