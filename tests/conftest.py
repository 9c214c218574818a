"""Shared by all tests: one switch for sizes, a cache of its own, and skips that say why."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Child processes that the tests start import the package from this checkout, installed or not.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])],
)
# Nothing in a test may reach a model hub, and the tokenizers' threads must not survive a fork.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Where a shell starts the tests in the background, interrupts are ignored, also by what the tests start, and
# those that interrupt a run would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Without a GPU triton's kernels are interpreted; triton looks once, when it is first imported.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")


def chromium() -> str | None:
    """Path of a Chromium or Chrome on this machine: ``$CHROMIUM``, else the first on the path."""
    if "CHROMIUM" in os.environ:
        return os.environ["CHROMIUM"]
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, with a reason that the closing summary prints."""
    browser = chromium()
    gpu: bool | None = None
    for item in items:
        if item.get_closest_marker("browser") and browser is None:
            item.add_marker(pytest.mark.skip(reason="no Chromium found: install it or set CHROMIUM"))
        if item.get_closest_marker("gpu"):
            if gpu is None:
                import torch

                gpu = torch.cuda.is_available()
            if not gpu:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def full_size() -> bool:
    """True in ``make test-all``: laws are checked at full sizes, not at the reduced ones."""
    return os.environ.get("SPARSESTUDY_TEST_SIZE") == "full"


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout that is being tested."""
    return ROOT


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty weights cache, so that a test neither reads nor changes the user's."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SPARSESTUDY_CACHE", str(folder))
    return folder
