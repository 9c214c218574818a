#!/bin/sh
# Make or refresh a virtual environment: tools/venv.sh FOLDER full|report|oldest
#   full    everything in requirements.lock: runs the study, the tests and the report
#   report  the base dependencies alone, at the same versions: builds the report, no torch
#   oldest  the oldest supported transformers laid over the full environment (BASE names it)
# PYTHON chooses the interpreter; without it the first supported one on the path is taken.
set -eu

folder=$1
kind=$2
oldest="transformers==5.17.0 huggingface_hub==1.33.0"

fail() {
    echo "error: $*" >&2
    exit 2
}

case "$(uname -s) $(uname -m)" in
    "Linux x86_64" | "Darwin arm64") ;;
    MINGW* | MSYS* | CYGWIN*) fail "On Windows the study runs inside WSL2: open a WSL2 terminal (Ubuntu) and run make there." ;;
    *) fail "$(uname -s) on $(uname -m) is not supported: use Linux on x86-64, macOS on arm64, or Windows through WSL2." ;;
esac

supported() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
        if command -v "$candidate" >/dev/null 2>&1 && supported "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "No Python 3.11, 3.12 or 3.13 was found as '${PYTHON:-python3}'; install one, or name it: make PYTHON=/path/to/python3.12 ..."
}

if ! supported "$folder/bin/python"; then
    if [ -e "$folder" ] && [ ! -e "$folder/pyvenv.cfg" ]; then
        fail "$folder exists and is no virtual environment with Python 3.11 to 3.13; remove it or set VENV to another folder."
    fi
    python=$(find_python)
    if [ "$kind" = oldest ]; then
        python="${BASE:?}/bin/python"
        set -- --without-pip
    else
        set --
    fi
    "$python" -m venv --clear "$@" "$folder" ||
        fail "'$python -m venv' failed; on Debian and Ubuntu install the package python3-venv first."
fi

# Errors only: pip's warnings are about the machine, not about the study. Bytecode is made on first import,
# for the few modules in use, which halves the time of an installation.
pip() {
    "$folder/bin/python" -m pip --quiet --quiet --disable-pip-version-check install --no-compile "$@"
}

case $kind in
    full)
        echo "Installing the pinned packages into $folder (once, a few minutes; 3 GB, more with CUDA) ..."
        pip -r requirements.lock
        pip --no-deps --no-build-isolation --editable .
        ;;
    report)
        echo "Installing what the report needs into $folder (once, about a minute; no torch) ..."
        pip --constraint requirements.lock setuptools
        pip --constraint requirements.lock --no-build-isolation --editable .
        ;;
    oldest)
        echo "Installing $oldest into $folder, over ${BASE:?} ..."
        packages=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
        base=$("$BASE/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
        echo "import site; site.addsitedir('$base')" > "$packages/base.pth"
        pip $oldest
        ;;
    *) fail "the kind of environment is full, report or oldest, not '$kind'." ;;
esac
touch "$folder/.stamp"
