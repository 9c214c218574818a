"""The Makefile: its targets, when it installs, and what it says on a machine that it does not support."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = {
    *("book", "report", "smoke", "run", "results", "check-results", "readme", "plan", "serve", "dist"),
    *("doctor", "lock", "help"),
    *("test", "test-all", "test-browser", "test-oldest", "check", "format", "clean", "distclean"),
}


def make(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    outside = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=cwd, env=outside | environment, capture_output=True, text=True, check=False
    )


def test_make_help_lists_every_target() -> None:
    listed = set(re.findall(r"^  make ([a-z-]+)", make("help").stdout, re.MULTILINE))
    assert listed == TARGETS
    phony = {name for line in re.findall(r"\.PHONY: ((?:.*\\\n)*.*)", MAKEFILE) for name in line.split()}
    assert listed <= phony
    assert make().stdout == make("help").stdout


@pytest.mark.parametrize("target", ["run", "results"])
def test_targets_that_need_a_name_say_so(target: str, tmp_path: Path) -> None:
    done = make(target, f"VENV={ready_venv(tmp_path)}")
    assert done.returncode != 0
    assert done.stderr.startswith("error: ")
    assert "NAME=" in done.stderr


def ready_venv(folder: Path) -> Path:
    """Stands for an environment that is up to date: the real interpreter under its name, and the stamp."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    (folder / "bin" / "python").chmod(0o755)
    (folder / ".stamp").touch()
    return folder


def test_a_second_call_installs_nothing(tmp_path: Path) -> None:
    done = make("--dry-run", "book", "test", "check", "report", f"VENV={ready_venv(tmp_path)}")
    assert done.returncode == 0, done.stderr
    assert "venv.sh" not in done.stdout
    assert "-m sparsestudy report" in done.stdout


@pytest.mark.parametrize("changed", ["requirements.lock", "pyproject.toml"])
def test_an_environment_is_refreshed_when_its_pins_change(tmp_path: Path, changed: str) -> None:
    done = make("--dry-run", "test", f"VENV={ready_venv(tmp_path)}", f"--what-if={changed}")
    assert "tools/venv.sh" in done.stdout


def test_parameters_reach_the_command_unchanged(tmp_path: Path) -> None:
    """Braces, quotes and spaces of ``PARAMS`` are not touched by make or the shell."""
    venv = ready_venv(tmp_path)
    (venv / "bin" / "python").write_text('#!/bin/sh\nprintf "[%s]\\n" "$@"\n', encoding="utf-8")
    params = "{lengths: [2048], models: ['a b'], tasks: [{name: \"x\"}]}"
    said = make("run", f"VENV={venv}", "NAME=mine", f"PARAMS={params}").stdout
    assert f"[--params]\n[{params}]" in said
    assert "[--name]\n[mine]" in said


@pytest.mark.parametrize("python", ["/nonexistent/python", "false"])
def test_an_unsupported_python_is_one_sentence(tmp_path: Path, python: str) -> None:
    done = make(str(tmp_path / "venv" / ".stamp"), f"VENV={tmp_path / 'venv'}", PYTHON=python)
    assert done.returncode != 0
    assert done.stderr.startswith(f"error: No Python 3.11, 3.12 or 3.13 was found as '{python}'")


@pytest.mark.parametrize(
    ("system", "machine", "message"),
    [
        ("MINGW64_NT-10.0", "x86_64", "WSL2"),
        ("Darwin", "x86_64", "not supported"),
        ("Linux", "aarch64", "not"),
    ],
)
def test_an_unsupported_platform_is_one_sentence(
    tmp_path: Path, system: str, machine: str, message: str
) -> None:
    fake = tmp_path / "uname"
    fake.write_text(f'#!/bin/sh\n[ "$1" = -s ] && echo {system} || echo {machine}\n', encoding="utf-8")
    fake.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    done = make(str(tmp_path / "venv" / ".stamp"), f"VENV={tmp_path / 'venv'}", PATH=path)
    assert done.returncode != 0
    assert message in done.stderr.splitlines()[0]
    assert not (tmp_path / "venv").exists()


def test_no_target_deletes_datasets() -> None:
    for line in MAKEFILE.splitlines():
        if "rm -rf" in line:
            assert "results" not in line
            assert "notebooks" not in line
            assert "$(VENV)" not in line  # it may be the user's conda environment


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_documents_name_only_targets_and_commands_that_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    spans = re.findall(r"```\w+\n(.*?)```|`([^`]+)`", text, re.DOTALL)
    code = "\n".join(block or inline for block, inline in spans)
    assert set(re.findall(r"\bmake ([a-z-]+)", code)) <= TARGETS
    files = (ROOT / "sparsestudy" / "commands").glob("[a-z]*.py")
    commands = {path.stem.replace("_", "-") for path in files}
    assert set(re.findall(r"-m sparsestudy ([a-z-]+)", code)) <= commands
    for name in re.findall(r"`((?:sparsestudy|tools|tests|notebooks)/[\w./-]+)`", text):
        if "mine" not in name:
            assert (ROOT / name).exists(), name
