"""Random numbers that belong to a place: the same on every device, in every batch, for every padding."""

from __future__ import annotations

import torch
from torch import Tensor

_BITS = 0xFFFFFFFF


def _mixed(x: Tensor) -> Tensor:
    """The 32-bit hash `lowbias32` (Wellons, hash-prospector) on int64; products wrap, low bits stay."""
    x = x ^ (x >> 16)
    x = (x * 0x7FEB352D) & _BITS
    x = x ^ (x >> 15)
    x = (x * 0x846CA68B) & _BITS
    return x ^ (x >> 16)


def noise(shape: tuple[int, ...], salt: Tensor, seed: int, layer: int) -> Tensor:
    """Uniform numbers in 0..1, each a function of its indices, its row's salt, the seed and the layer.

    Args:
        shape: ``(batch, ...)``.
        salt: a number a row, int64 ``(batch,)``.
        seed: of the study's control.
        layer: index of the layer.

    Returns:
        fp32 of that shape.
    """
    state = _mixed((salt & _BITS) ^ _mixed(torch.full_like(salt, seed * 0x9E3779B1 + layer) & _BITS))
    for size in shape[1:]:
        index = torch.arange(size, device=salt.device)
        state = _mixed(state[..., None] ^ ((index * 0x9E3779B1) & _BITS))
    return (state >> 8).float() * 2.0**-24
