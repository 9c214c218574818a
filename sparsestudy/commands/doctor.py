"""``python -m sparsestudy doctor``: what this environment has, against what the study supports."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from sparsestudy import models, paths
from sparsestudy.weights import manifest

HELP = "print versions against the supported ranges, device, free disk, cache size and browser"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PLATFORMS = {("Linux", "x86_64"), ("Darwin", "arm64")}
LOW_DISK_BYTES = 5_000_000_000
OK, NOTE, BAD = "ok", "note", "out of range"


@dataclass(frozen=True)
class Line:
    """One finding: what it is about, what was found, what is supported, and the verdict."""

    what: str
    found: str
    supported: str
    verdict: str


def configure(parser: argparse.ArgumentParser) -> None:
    """There are no arguments."""
    del parser


def execute(args: argparse.Namespace) -> int:
    """Print the findings; 1 when something that is required is out of range."""
    del args
    lines = [*_platform(), *_packages(), *_machine()]
    show(lines)
    return 1 if any(line.verdict == BAD for line in lines) else 0


def requirements() -> tuple[str, dict[str, list[Requirement]]]:
    """The supported Pythons and the requirements by group (``""`` is the base).

    They come from ``pyproject.toml`` of the checkout, else from the metadata of the installed package.
    """
    file = Path(__file__).resolve().parents[2] / "pyproject.toml"
    if file.is_file():
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        groups = {"": project["dependencies"], **project["optional-dependencies"]}
        parsed = {group: [Requirement(text) for text in texts] for group, texts in groups.items()}
        return project["requires-python"], parsed
    metadata = importlib.metadata.metadata("sparsestudy")
    found: dict[str, list[Requirement]] = {"": []}
    for group in metadata.get_all("Provides-Extra") or []:
        found[group] = []
    for text in metadata.get_all("Requires-Dist") or []:
        requirement = Requirement(text)
        group = next((g for g in found if g and f'extra == "{g}"' in str(requirement.marker)), "")
        found[group].append(requirement)
    return metadata["Requires-Python"], found


def _platform() -> list[Line]:
    supported, _ = requirements()
    system = (platform.system(), platform.machine())
    version = platform.python_version()
    return [
        Line("platform", " ".join(system), "Linux x86_64, Darwin arm64", OK if system in PLATFORMS else BAD),
        Line("Python", version, supported, OK if SpecifierSet(supported).contains(version) else BAD),
    ]


def _packages() -> list[Line]:
    """Every direct dependency; an extra that is absent as a whole is one line, not an error."""
    lines = []
    for group, group_requirements in requirements()[1].items():
        here = [
            need
            for need in group_requirements
            if need.marker is None or need.marker.evaluate({"extra": group})
        ]
        versions = {need.name: _version(need.name) for need in here}
        if group and not all(versions.values()):
            missing = [name for name, version in versions.items() if version is None]
            lines.append(Line(f"extra '{group}'", f"without {', '.join(missing)}", "optional", NOTE))
        for need in here:
            version = versions[need.name]
            if version is None and group:
                continue
            fits = version is not None and need.specifier.contains(version, prereleases=True)
            lines.append(Line(need.name, version or "missing", str(need.specifier), OK if fits else BAD))
    return lines


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _machine() -> list[Line]:
    free = shutil.disk_usage(paths.ROOT).free
    cached = sum(file.stat().st_size for file in manifest.models_root().rglob("*") if file.is_file())
    names = [name for name in models.REGISTRY if models.is_cached(name)]
    browser = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    return [
        Line("device", _device(), "CPU, or CUDA", OK),
        Line("processors", str(os.cpu_count()), "2 or more", OK if (os.cpu_count() or 1) > 1 else NOTE),
        Line("free disk", manifest.size(free), "5 GB or more", OK if free >= LOW_DISK_BYTES else NOTE),
        Line("weights", f"{manifest.size(cached)} in {manifest.cache_root()}", "", OK),
        Line("models here", ", ".join(names) or "none yet", "`models fetch NAME`", OK),
        Line("browser", browser or "no Chromium", "for the browser test", OK if browser else NOTE),
    ]


def _device() -> str:
    try:
        import torch
    except ImportError:
        return "CPU (no torch here: report only)"
    if not torch.cuda.is_available():
        return f"CPU, {torch.get_num_threads()} threads"
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return f"CUDA: {', '.join(names)}"


def show(lines: list[Line]) -> None:
    """Print the findings as a table; colour on a terminal alone, and no wrapping in a log."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    colours = {OK: "green", NOTE: "yellow", BAD: "red"}
    table = Table("", "found", "supported", "", box=None, pad_edge=False)
    for line in lines:
        verdict = f"[{colours[line.verdict]}]{line.verdict}[/]"
        table.add_row(line.what, escape(line.found), escape(line.supported), verdict)
    console = Console() if sys.stdout.isatty() else Console(width=200)
    console.print(table)
