"""Sizes of blocks and grids; triton's own helpers of these names take 4 us a call on the host."""

from __future__ import annotations


def cdiv(total: int, size: int) -> int:
    """How many blocks of a size hold a total."""
    return -(-total // size)


def power(least: int) -> int:
    """The smallest power of two that is at least this, and at least 1."""
    return 1 << max(least - 1, 0).bit_length()
