"""Compiles every kernel for a GPU that is not there: run as a program, it prints one JSON line a kernel.

The launchers are called with tensors on the CPU and every launch is turned into a compilation, so what is
built is what a launch would build, divisibilities and strides included. The process must not interpret.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from triton.backends.compiler import GPUTarget
from triton.backends.nvidia import driver as nvidia
from triton.runtime import driver
from triton.runtime.jit import JITFunction

# Shared memory that a program may have, bytes, by compute capability.
SHARED = {80: 166_912, 90: 232_448}


class Absent:
    """What triton asks of a driver in order to compile, for a device of some capability."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def usage(kernel: Any) -> dict[str, int]:
    """Registers and stack bytes of a thread (a stack means spills) and shared bytes of a program."""
    tool = next((Path(nvidia.__file__).parent / "bin").glob("cuobjdump*"))
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(kernel.asm["cubin"])
        told = subprocess.run(
            [tool, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    found = {name: int(re.search(rf"{name}:(\d+)", told)[1]) for name in ("REG", "STACK")}
    return {"registers": found["REG"], "stack": found["STACK"], "shared": kernel.metadata.shared}


def compiled(capability: int, calls: list[tuple[str, Any]]) -> None:
    """Call the launchers and print what each of their kernels uses."""
    driver.set_active(Absent(capability))
    launch = JITFunction.run
    label = ""

    def build(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        kernel = launch(self, *args, grid=grid, warmup=True, **options)
        name = self.fn.__name__
        print(json.dumps({"call": label, "kernel": name, "limit": SHARED[capability], **usage(kernel)}))
        return kernel

    JITFunction.run = build
    for label, call in calls:  # noqa: B007  # `build` reads it
        call()
