"""Write requirements.lock and environment.yml from the dependency lists of pyproject.toml (`make lock`).

uv resolves once for all supported Pythons and platforms; existing pins are kept while they still satisfy
the lists, unless ``--upgrade`` is given. The header holds a hash of the lists, so that a test can tell when
they have changed and the lock has not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
ENVIRONMENT = ROOT / "environment.yml"
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = {
    'sys_platform == "linux" and platform_machine == "x86_64"': {
        "sys_platform": "linux",
        "platform_machine": "x86_64",
        "platform_system": "Linux",
        "os_name": "posix",
    },
    'sys_platform == "darwin"': {
        "sys_platform": "darwin",
        "platform_machine": "arm64",
        "platform_system": "Darwin",
        "os_name": "posix",
    },
}
# torch's own wheel for Linux pins these to the last digit; its CPU wheel does not need them at all.
LEFT_TO_TORCH = ("nvidia-", "cuda-")


def dependency_hash() -> str:
    """The hash of everything in pyproject.toml that decides the lock."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        data = tomllib.load(file)
    project = data["project"]
    lists = [
        project["requires-python"],
        project["dependencies"],
        project["optional-dependencies"],
        data["tool"]["uv"],
    ]
    return hashlib.sha256(json.dumps(lists, sort_keys=True).encode()).hexdigest()


def environments() -> list[tuple[str, str, dict[str, str]]]:
    """Every supported (platform marker, Python, marker environment)."""
    cpython = {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
    return [
        (
            platform,
            python,
            {**values, **cpython, "python_version": python, "python_full_version": f"{python}.0"},
        )
        for platform, values in PLATFORMS.items()
        for python in PYTHONS
    ]


def short_marker(marker: Marker) -> str | None:
    """The marker in its shortest form for the supported environments; ``None`` when none of them needs it."""
    rows = {
        (platform, python) for platform, python, values in environments() if marker.evaluate(dict(values))
    }
    if not rows:
        return None
    platforms = [platform for platform in PLATFORMS if any(row[0] == platform for row in rows)]
    pythons = [python for python in PYTHONS if any(row[1] == python for row in rows)]
    if len(rows) != len(platforms) * len(pythons):
        return str(marker)
    parts = []
    if len(platforms) < len(PLATFORMS):
        parts.append(platforms[0])
    if len(pythons) < len(PYTHONS):
        versions = " or ".join(f'python_version == "{python}"' for python in pythons)
        parts.append(f"({versions})" if parts and len(pythons) > 1 else versions)
    return " and ".join(parts)


def pin(line: str) -> str | None:
    """A line of the resolution as the lock has it; ``None`` for what no supported environment installs."""
    requirement = Requirement(line)
    if requirement.name.startswith(LEFT_TO_TORCH):
        return None
    (specifier,) = requirement.specifier
    version = specifier.version.partition("+")[0]  # a local build such as +cpu satisfies the plain version
    text = f"{requirement.name}=={version}"
    if requirement.marker is None:
        return text
    marker = short_marker(requirement.marker)
    if marker is None:
        return None
    return f"{text} ; {marker}" if marker else text


def resolve(upgrade: bool) -> list[str]:
    """The pins, sorted by name."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "pyproject.toml"]
    scratch = LOCK.with_suffix(".resolved")
    try:
        if LOCK.exists():
            scratch.write_text(LOCK.read_text(encoding="utf-8"), encoding="utf-8")
        options = ["--upgrade"] if upgrade else []
        subprocess.run([*command, *options, "--output-file", str(scratch)], cwd=ROOT, check=True)
        lines = scratch.read_text(encoding="utf-8").splitlines()
    finally:
        scratch.unlink(missing_ok=True)
    pins = {found for line in lines if line and not line.startswith("#") and (found := pin(line))}
    return sorted(pins)


def lock_text(pins: list[str]) -> str:
    """The whole lock file."""
    return "\n".join(
        [
            "# Made by `make lock` from pyproject.toml; do not edit.",
            f"# Exact versions for Python {', '.join(PYTHONS)} on Linux x86-64 and macOS arm64.",
            "# The CUDA packages of torch's Linux wheel are pinned by that wheel itself.",
            f"# dependencies: sha256 {dependency_hash()}",
            *pins,
            "",
        ]
    )


def environment_text() -> str:
    """The conda environment: Python and pip, and the lock for the rest."""
    return "\n".join(
        [
            "# Made by `make lock`; do not edit. `conda env create -f environment.yml` in the checkout.",
            "name: sparsestudy",
            "channels: [conda-forge]",
            "dependencies:",
            "  - python=3.11",
            "  - pip",
            "  - make",
            "  - git",
            "  - pip:",
            "      - -r requirements.lock",
            "",
        ]
    )


def main() -> None:
    """Resolve and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--upgrade", action="store_true", help="take the newest versions that the lists allow"
    )
    pins = resolve(parser.parse_args().upgrade)
    for path, text in ((LOCK, lock_text(pins)), (ENVIRONMENT, environment_text())):
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
        print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
