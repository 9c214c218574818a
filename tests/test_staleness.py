"""Staleness: what makes a dataset stale, what does not, and that every Python agrees about it."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import parse, synthetic_shard
from synthetic_speed import synthetic_speed

from sparsestudy import dataset as ds
from sparsestudy import paths, plan, staleness
from sparsestudy.experiments import EXPERIMENTS
from sparsestudy.methods import METHODS
from sparsestudy.shards import Shard
from sparsestudy.speed.parameters import SpeedParameters
from sparsestudy.staleness import closure, code_hash, explain, kernels, shard_key
from sparsestudy.syntax import source_hash
from sparsestudy.tasks import TASKS

PROGRAM = '''
"""What it does."""
from __future__ import annotations
import asyncio, os as system
from typing import *

@decorated(1, *more, **others)
class Thing(Base, metaclass=Meta):
    """A thing."""
    field: int = 3
    def method(self, a, /, b: int = 2, *args: int, c=None, **kwargs) -> str:
        """Do it."""
        text = f"{a!r:>{b}} and {b:.3f}{{}} {c=}" "joined" f"{a}"
        if (n := len(args)) > 1 and not 0 < b <= 10 or a is ...:
            return text[1:n:2, ..., -1]
        raise ValueError("no") from None
    async def other(self):
        async with self as one, self:
            async for x in one:
                yield await x
        return

def search(value):
    match value:
        case {"a": [1, *rest], **more} if rest:
            return (lambda x: x ** 2)(rest)
        case Thing(field=3) | None | -1:
            pass
        case _:
            global everything
            everything = {**more, "x": {y for y in range(3)}, "z": [a for b in c if b for a in b]}
    try:
        assert value, "text"
    except* OSError as error:
        del error
    else:
        b"bytes", 1.5e10, 2j, True, None, "", u"text"
    while True:
        break
'''
# The same program, written differently.
REWRITTEN = (
    PROGRAM.replace('"""What it does."""', '"""Something else.\n\nAt length."""  # and a comment')
    .replace('        """Do it."""\n', "        # A comment\n\n")
    .replace('"text"', "'text'")
    .replace("field: int = 3", "field:int=(3)")
    .replace("raise ValueError", "raise  ValueError")
)


def test_how_a_program_is_written_changes_nothing() -> None:
    assert REWRITTEN != PROGRAM
    assert source_hash(REWRITTEN) == source_hash(PROGRAM)
    assert source_hash(ast.unparse(ast.parse(PROGRAM))) == source_hash(PROGRAM)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("b <= 10", "b < 10"),
        ("1.5e10", "1.6e10"),
        ('"joined"', '"joint"'),
        (":.3f}", ":.4f}"),
        ("a!r", "a!s"),
        ("field: int = 3", "field: int = 4"),
        ("field: int = 3", "field: float = 3"),
        ("c=None", "c=False"),
        ("b: int = 2", "b: int = True"),
        ("os as system", "os"),
        ("case Thing(field=3)", "case Thing(field=4)"),
        ("        break", "        continue"),
        ("raise ValueError", "return ValueError"),
        ("    async def other", "    @final\n    async def other"),
        ('None, ""', '0, ""'),
    ],
)
def test_every_edit_of_the_program_changes_the_hash(old: str, new: str) -> None:
    edited = PROGRAM.replace(old, new, 1).replace(
        'return ValueError("no") from None', "return ValueError('no')"
    )
    assert edited != PROGRAM
    assert source_hash(edited) != source_hash(PROGRAM)


STATEMENTS = st.lists(st.sampled_from(["x = 1", "x = 2", "y = 'a'", "pass", "'a'", "f'{x}'"]), max_size=4)


@given(STATEMENTS, STATEMENTS)
def test_two_programs_hash_alike_only_when_alike(one: list[str], other: list[str]) -> None:
    hashes = [source_hash("\n\n# more\n".join(["z = 0", *lines])) for lines in (one, other)]
    assert (hashes[0] == hashes[1]) == (one == other)


def _interpreters() -> dict[str, str]:
    """Other supported Pythons on this machine, by version."""
    base = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found: dict[str, str] = {}
    for version in ("3.11", "3.12", "3.13"):
        candidates = [
            shutil.which(f"python{version}"),
            *map(str, sorted(base.glob(f"{version}.*/bin/python"))),
        ]
        for candidate in filter(None, candidates):
            told = subprocess.run(
                [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
                capture_output=True,
                text=True,
                check=False,
            )
            if told.stdout.strip() == version:
                found[version] = candidate
    return found


HASHES = """
import json, sys
from pathlib import Path
from sparsestudy.staleness import code_hash
from sparsestudy.syntax import source_hash
sources = sorted(Path(sys.argv[1]).rglob("*.py"))
print(json.dumps([[source_hash(s.read_text(encoding="utf-8")) for s in sources], source_hash(sys.argv[2]),
                  code_hash("sparsestudy.methods.quest")]))
"""


def test_every_supported_python_gives_the_same_hashes(root: Path) -> None:
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    others = {version: path for version, path in _interpreters().items() if version != own}
    if not others:
        pytest.skip("no other supported Python on this machine")
    results = {
        version: json.loads(
            subprocess.run(
                [python, "-c", HASHES, str(root / "sparsestudy"), PROGRAM],
                capture_output=True,
                text=True,
                check=True,
                env={**os.environ, "PYTHONPATH": str(root)},
            ).stdout
        )
        for version, python in {own: sys.executable, **others}.items()
    }
    assert len({json.dumps(result) for result in results.values()}) == 1, sorted(results)


def test_the_known_hash_stays() -> None:
    """A change of the hash itself would make every published dataset stale; it needs a reason."""
    assert source_hash("def f(x):\n    return f'{x:>{3}}' + 'a'\n") == "98d37f513f6519c6"


def test_closures_hold_what_computes_and_nothing_that_moves_files() -> None:
    computing = closure("sparsestudy.evaluate")
    assert {"sparsestudy.evaluate", "sparsestudy.patch", "sparsestudy.selection"} <= computing
    assert not computing & staleness.OUTSIDE
    for name in METHODS:
        assert {METHODS.module(name), "sparsestudy.selection"} <= closure(METHODS.module(name))
    for name in TASKS:
        assert TASKS.module(name) in closure(TASKS.module(name))
    # One method's code is not another's: an edit there leaves this one fresh.
    assert METHODS.module("quest") not in closure(METHODS.module("window"))
    assert METHODS.module("quest") not in computing


def test_modules_outside_exist() -> None:
    for name in staleness.OUTSIDE:
        assert staleness._path(name) is not None, name


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> Path:
    """A copy of the package, which the staleness module is made to look at."""
    copy = tmp_path / "sparsestudy"
    shutil.copytree(root / "sparsestudy", copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(staleness, "__file__", str(copy / "staleness.py"))
    return copy


def _changed(package: Path, file: str, old: str, new: str) -> set[str]:
    """The key's components that an edit of the package changes."""
    shard = parse({"methods": list(METHODS)}).shards()[0]
    before = shard_key(shard)
    path = package / file
    text = path.read_text(encoding="utf-8")
    assert re.search(old, text), (file, old)
    path.write_text(re.sub(old, new, text, count=1), encoding="utf-8")
    after = shard_key(shard)
    return {name for name in before if before[name] != after[name]}


def test_an_edit_reaches_exactly_what_uses_it(package: Path) -> None:
    append = r"\Z", "\nextra = 1\n"
    assert _changed(package, "methods/quest.py", *append) == {"code:quest"}
    assert _changed(package, "tasks/needle.py", *append) == {"code:needle"}
    assert _changed(package, "evaluate.py", *append) == {"code:evaluate"}
    assert _changed(package, "seeds.py", *append) >= {"code:needle"}
    methods = {f"code:{name}" for name in METHODS}
    assert _changed(package, "selection.py", *append) >= methods | {"code:evaluate"}
    assert _changed(package, "figures.py", *append) == set()
    assert _changed(package, "methods/__init__.py", *append) == set()
    assert _changed(package, "selection.py", r"\A", "# A comment.\n\n") == set()
    assert _changed(package, "methods/quest.py", r'"""', '"""More words. ') == set()


def test_a_control_depends_on_the_method_that_it_stands_beside(package: Path) -> None:
    shard = parse({"methods": ["dense", {"name": "random", "like": "quest"}]}).shards()[0]
    before = shard_key(shard)
    assert "code:quest" in before
    file = package / "methods" / "quest.py"
    file.write_text(file.read_text(encoding="utf-8") + "\nextra = 1\n", encoding="utf-8")
    after = shard_key(shard)
    assert {name for name in before if before[name] != after[name]} == {"code:quest"}


def _kernel_modules(package: Path) -> set[str]:
    return {path.stem for path in (package / "kernels").glob("*.py")} - {"__init__"}


def test_the_kernels_are_a_component_of_their_own(package: Path) -> None:
    entries = {name: experiment.entry for name, experiment in EXPERIMENTS.items()}
    for entry in entries.values():
        assert not {name for name in closure(entry) if name.startswith(staleness.KERNELS)}
    # Where they are timed, all count; the one that tunes them computes nothing.
    timed = {f"{staleness.KERNELS}.{name}" for name in _kernel_modules(package) - {"tuning"}}
    assert kernels(entries["speed"]) == timed | {staleness.KERNELS}
    # Models run those alone that stand in for plain torch.
    assert {f"{staleness.KERNELS}.{name}" for name in ("prefill", "decode")} <= kernels(entries["accuracy"])
    assert kernels(entries["accuracy"]) < kernels(entries["speed"])
    # What nothing else of the package uses, the component holds with them.
    (package / "extra.py").write_text("value = 1\n")
    prefill = package / "kernels" / "prefill.py"
    prefill.write_text(prefill.read_text(encoding="utf-8") + "\nfrom sparsestudy import extra\n")
    assert "sparsestudy.extra" in kernels(entries["accuracy"])


def _accuracy(backends: list[str]) -> tuple[Shard, Any]:
    """A dataset whose methods were computed by these backends."""
    shard = parse({"methods": ["dense", "quest"], "samples": 2, "sparsities": [0, 500]}).shards()[0]
    data = synthetic_shard(shard)
    data["backend"].values[0, :, 0] = backends
    return shard, data


def _speed(backend: str) -> tuple[Shard, Any]:
    given = {"run": "timed", "models": ["tiny"], "kernels_of": ["tiny"], "lengths": [16384]}
    shard = SpeedParameters.parse(given).shards()[0]
    data = synthetic_speed(shard)
    data["backend"].values[:] = backend
    return shard, data


@pytest.mark.parametrize(
    ("made", "edited", "stale"),
    [
        (lambda: _accuracy(["torch", "torch"]), "prefill", False),
        (lambda: _accuracy(["torch", "triton"]), "prefill", True),
        (lambda: _accuracy(["torch", "triton"]), "split", True),
        # No model runs it.
        (lambda: _accuracy(["torch", "triton"]), "top", False),
        (lambda: _speed("triton"), "prefill", True),
        (lambda: _speed("triton"), "top", True),
        (lambda: _speed("triton"), "tuning", False),
        (lambda: _speed("torch"), "top", False),
    ],
)
def test_an_edit_of_a_kernel_makes_stale_what_kernels_computed(
    made: Any, edited: str, stale: bool, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    shard, data = made()
    ds.save(ds.stamp(data, shard), shard.path)
    assert plan.inspect(shard).state == "fresh"
    file = package / "kernels" / f"{edited}.py"
    file.write_text(file.read_text(encoding="utf-8") + "\nextra = 1\n", encoding="utf-8")
    found = plan.inspect(shard)
    assert found.reasons == (("the code of kernels changed",) if stale else ())
    assert found.state == ("stale" if stale else "fresh")


def test_what_is_not_made_yet_counts_the_kernels_that_it_may_use() -> None:
    of = {name: shard_key(parse({"backend": name}).shards()[0]) for name in ("auto", "torch", "triton")}
    assert of["auto"] == of["triton"]
    assert explain(of["torch"], of["auto"]) == ["the code of kernels changed"]
    shard = parse({"backend": "auto"}).shards()[0]
    assert shard_key(shard, {"torch"}) == of["torch"]
    assert shard_key(shard, {"torch", "triton"}) == of["triton"]


def test_imports_inside_functions_and_relative_ones_count(package: Path) -> None:
    (package / "extra.py").write_text("value = 1\n")
    quest = package / "methods" / "quest.py"
    for line in (
        "def f():\n    from .. import extra\n",
        "def f():\n    from ..extra import value\n",
        "import sparsestudy.extra\n",
        "from sparsestudy import extra\n",
    ):
        text = quest.read_text(encoding="utf-8")
        quest.write_text(f"{text}\n{line}", encoding="utf-8")
        assert "sparsestudy.extra" in closure("sparsestudy.methods.quest"), line
        before = code_hash("sparsestudy.methods.quest")
        (package / "extra.py").write_text("value = 2\n")
        assert code_hash("sparsestudy.methods.quest") != before
        (package / "extra.py").write_text("value = 1\n")
        quest.write_text(text, encoding="utf-8")


DECIDING: list[dict[str, Any]] = [
    {"samples": 7},
    {"seed": 1},
    {"sparsities": [0, 500]},
    {"methods": ["dense", "quest"]},
    {"tasks": [{"name": "needle", "value_length": 5}]},
    {"dtype": "float32"},
    {"batch_tokens": 8192},
]
INDIFFERENT: list[dict[str, Any]] = [
    {"run": "other"},
    {"published": True},
    {"device": "cpu"},
    {"tier": "gpu"},
    {"lengths": [512, 4096]},
]


@pytest.mark.parametrize("change", DECIDING)
def test_parameters_that_decide_numbers_make_stale(change: dict[str, Any]) -> None:
    stored, current = (shard_key(parse(given).shards()[0]) for given in ({}, change))
    assert "the parameters changed" in explain(stored, current)


@pytest.mark.parametrize("change", INDIFFERENT)
def test_parameters_that_decide_no_number_do_not(change: dict[str, Any]) -> None:
    stored, current = (shard_key(parse(given).shards()[0]) for given in ({}, change))
    assert explain(stored, current) == []


def test_reasons_are_told_in_words() -> None:
    stored = {"parameters": "1", "weights": "1", "code:quest": "1", "code:old": "1", "code:evaluate": "1"}
    current = {"parameters": "1", "weights": "2", "code:quest": "2", "code:new": "1", "code:evaluate": "1"}
    assert explain(stored, stored) == []
    assert explain(stored, current) == [
        "it lacks new",
        "it holds old, which the run no longer has",
        "the code of quest changed",
        "the model's weights changed",
    ]
