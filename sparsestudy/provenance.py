"""Which code and which software made a dataset. No clock times, no names of people or machines."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib import metadata

from sparsestudy import paths

PACKAGES = (
    "sparsestudy",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "triton",
    "numpy",
    "xarray",
    "netCDF4",
)


def commit() -> str:
    """The commit of the checkout, ``-dirty`` when tracked code differs from it, or ``unknown``.

    ``SPARSESTUDY_COMMIT`` overrides it, for runs in a copy without history.
    """
    given = os.environ.get("SPARSESTUDY_COMMIT")
    if given:
        return given
    head = _git("rev-parse", "HEAD")
    if head is None:
        return "unknown"
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", "sparsestudy", "notebooks")
    return head if changed == "" else f"{head}-dirty"


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(paths.ROOT), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def versions() -> str:
    """Versions of Python, the platform and the packages that compute or write, as JSON."""
    found = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return json.dumps(found, sort_keys=True)
