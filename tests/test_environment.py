"""The lock, the conda file, what importing loads, and the doctor."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import nbclient
import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from sparsestudy import kernel_start, site
from sparsestudy.commands import doctor

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OLDEST = {"transformers": "5.17.0", "huggingface-hub": "1.33.0"}


def load_tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


lock = load_tool("lock")
LINES = [
    line
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
PINS = [Requirement(line) for line in LINES]


def pins_for(environment: dict[str, str]) -> dict[str, str]:
    """Name to version of what the lock installs in one marker environment."""
    found = {}
    for pin in PINS:
        if pin.marker is None or pin.marker.evaluate(dict(environment)):
            name = canonicalize_name(pin.name)
            assert name not in found, f"{name} is pinned twice for {environment}"
            (specifier,) = pin.specifier
            found[name] = specifier.version
    return found


def requirements() -> list[Requirement]:
    extras = [text for group in PROJECT["optional-dependencies"].values() for text in group]
    return [Requirement(text) for text in [*PROJECT["dependencies"], *extras]]


def test_a_kernel_is_spoken_to_by_sockets_of_its_own() -> None:
    notebook = nbformat.v4.new_notebook()
    cell = "import ipykernel, json\nprint(json.loads(ipykernel.get_connection_info())['transport'], end='')"
    notebook.cells = [nbformat.v4.new_code_cell(cell)]
    kernel_start.execute(notebook)
    assert notebook.cells[0].outputs[0]["text"] == "ipc"
    places = []
    for _ in range(2):
        with kernel_start.transport() as config:
            places.append(Path(config.KernelManager.ip))
            assert places[-1].parent.is_dir()
            assert len(str(places[-1])) < 90, "a socket's path holds about a hundred characters"
    assert places[0] != places[1]
    assert not any(place.parent.exists() for place in places)


def test_the_report_runs_its_cells_by_what_the_builder_replaces() -> None:
    cells = importlib.import_module("jupyter_cache.executors.utils")
    assert cells.executenb is nbclient.execute
    assert "cells.executenb = kernel_start.execute" in site._BUILDER


def test_lock_and_conda_file_are_what_make_lock_writes_from_these_lists() -> None:
    assert (ROOT / "requirements.lock").read_text(encoding="utf-8") == lock.lock_text(LINES), "run make lock"
    assert (ROOT / "environment.yml").read_text(encoding="utf-8") == lock.environment_text(), "run make lock"


def test_lock_lines_are_single_exact_pins() -> None:
    for line, pin in zip(LINES, PINS, strict=True):
        (specifier,) = pin.specifier
        assert specifier.operator == "==", line
        assert "+" not in specifier.version, f"a local build is not on any public index: {line}"
        assert not pin.url, line
        assert lock.pin(line) == line, f"not in the form that make lock writes: {line}"


@pytest.mark.parametrize(
    ("platform", "python", "environment"), lock.environments(), ids=lambda value: str(value)[:24]
)
def test_every_requirement_is_satisfied_by_a_pin(
    platform: str, python: str, environment: dict[str, str]
) -> None:
    pins = pins_for(environment)
    for need in requirements():
        if need.marker is None or need.marker.evaluate(dict(environment)):
            assert need.specifier.contains(pins[canonicalize_name(need.name)]), need
    assert SpecifierSet(PROJECT["requires-python"]).contains(python)
    assert ("triton" in pins) == environment["platform_machine"].startswith("x86")
    assert ("appnope" in pins) == (environment["sys_platform"] == "darwin")


def test_installed_versions_are_the_pinned_ones() -> None:
    """In the second environment only the oldest supported transformers and its hub client differ."""
    import packaging.markers

    pins = pins_for(packaging.markers.default_environment())
    if os.environ.get("SPARSESTUDY_OLDEST"):
        pins |= OLDEST
    wrong = {}
    for need in requirements():
        if need.marker is None or need.marker.evaluate():
            found = importlib.metadata.version(need.name).partition("+")[0]
            if found != pins[canonicalize_name(need.name)]:
                wrong[need.name] = found
    assert not wrong


def test_the_transformers_that_is_imported_is_the_one_that_is_meant() -> None:
    import transformers

    if os.environ.get("SPARSESTUDY_OLDEST"):
        assert transformers.__version__ == OLDEST["transformers"]
        assert Path(transformers.__file__).is_relative_to(sys.prefix)
    assert transformers.__version__ in Requirement(f"transformers{_range('transformers')}").specifier


def _range(name: str) -> str:
    return next(str(need.specifier) for need in requirements() if need.name == name)


def test_the_oldest_environment_is_the_lower_end_of_the_range() -> None:
    script = (ROOT / "tools" / "venv.sh").read_text(encoding="utf-8")
    (oldest,) = re.findall(r'^oldest="(.*)"$', script, re.MULTILINE)
    named = {canonicalize_name(Requirement(text).name): text.partition("==")[2] for text in oldest.split()}
    assert named == OLDEST
    assert f">={OLDEST['transformers'].removesuffix('.0')}" in _range("transformers")


def test_every_upper_cap_has_its_reason() -> None:
    for line in (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines():
        if re.match(r'\s+"[A-Za-z0-9_-]+[>=<][^"]*<', line) or line.startswith("requires-python"):
            assert re.search(r"#\s+\S+", line), f"no reason beside {line.strip()}"


def test_conda_installs_the_lock() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *conda, last = environment["dependencies"]
    assert last == {"pip": ["-r requirements.lock"]}
    python = next(text.partition("=")[2] for text in conda if text.startswith("python="))
    assert python in lock.PYTHONS


def test_every_package_that_is_imported_is_declared() -> None:
    declared = {canonicalize_name(need.name) for need in requirements()}
    distributions = importlib.metadata.packages_distributions()
    used = set()
    for file in (ROOT / "sparsestudy").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                used |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                used.add(node.module.partition(".")[0])
    outside = used - set(sys.stdlib_module_names) - {"sparsestudy"}
    missing = {
        name
        for name in outside
        if not {canonicalize_name(found) for found in distributions.get(name, [name])} & declared
    }
    assert not missing


LOADED = "import sys; {}; print(*sorted({{n.partition('.')[0] for n in sys.modules}}))"


def modules_after(statement: str) -> set[str]:
    code = LOADED.format(statement)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    ["sparsestudy", "sparsestudy.models", "sparsestudy.__main__", "sparsestudy.commands.models",
     "sparsestudy.commands.doctor", "sparsestudy.weights.fetch", "sparsestudy.weights.wheels"],
)  # fmt: skip
def test_importing_loads_no_torch(module: str) -> None:
    assert not modules_after(f"import {module}") & {"torch", "transformers", "triton", "huggingface_hub"}


def test_importing_the_package_alone_loads_only_the_package() -> None:
    outside = modules_after("import sparsestudy") - modules_after("pass") - set(sys.stdlib_module_names)
    assert outside == {"sparsestudy"}


def test_looking_at_the_registry_loads_no_torch() -> None:
    use = "from sparsestudy import models; [models.REGISTRY[n] for n in models.REGISTRY]"
    assert not modules_after(use) & {"torch", "transformers", "huggingface_hub"}


# ---- doctor


def test_doctor_finds_this_environment_in_range(capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    assert doctor.execute(Namespace()) == 0
    shown = capsys.readouterr().out
    for need in requirements():
        if need.marker is None or need.marker.evaluate():
            assert need.name in shown
    assert doctor.BAD not in shown
    assert "\x1b" not in shown


def test_doctor_fails_when_something_required_is_out_of_range(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    wanted = (
        "",
        {"": [Requirement("numpy>=999"), Requirement("no-such-package")], "run": [Requirement("nothing")]},
    )
    monkeypatch.setattr(doctor, "requirements", lambda: wanted)
    assert doctor.execute(Namespace()) == 1
    shown = capsys.readouterr().out
    assert shown.count(doctor.BAD) == 2
    assert "extra 'run'" in shown


def test_requirements_read_from_the_installed_package_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no pyproject.toml beside the package, its metadata says the same."""
    try:
        importlib.metadata.version("sparsestudy")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("sparsestudy is not installed in this environment")
    here = doctor.requirements()
    monkeypatch.setattr(doctor, "__file__", "/nowhere/sparsestudy/commands/doctor.py")
    there = doctor.requirements()
    assert SpecifierSet(there[0]) == SpecifierSet(here[0])
    for group, needs in here[1].items():
        assert sorted(need.name for need in there[1][group]) == sorted(need.name for need in needs)
