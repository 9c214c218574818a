"""What the launchers ask of a device."""

from __future__ import annotations

from functools import cache

import torch

# What stands for the number of multiprocessors without a GPU (the interpreter).
ELSEWHERE = 8


@cache
def processors(device: torch.device) -> int:
    """Multiprocessors of a device."""
    if device.type != "cuda":
        return ELSEWHERE
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


@cache
def overlaps(device: torch.device) -> bool:
    """Whether a kernel may start while the one before it ends, and wait inside for what that has to store."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 9
