"""Caches from which tokens have been evicted: what is left takes only the memory of what is left.

Keys are stored rotated, so a kept token keeps its true position, and the layer reports the true number of
tokens, so that the positions of new ones are right.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparsestudy.cache import PageBounds, StudyLayer
from sparsestudy.errors import StudyError


class EvictedLayer(StudyLayer):
    """A layer after its eviction: kept tokens, head after head without gaps, then new ones as they come.

    Heads (and rows of a batch) may keep different numbers of tokens. The kept part never changes and is
    shared by forks; new tokens stand in a buffer of their own.

    Args:
        layer: the whole layer.
        kept: tokens that stay, bool ``(batch, kv heads, tokens)``, token 0 of every row first.
        offsets: padding slots before each row, int ``(batch,)``.
    """

    def __init__(self, layer: StudyLayer, kept: Tensor, offsets: Tensor) -> None:
        super().__init__()
        keys, values = layer.keys, layer.values
        assert keys is not None
        assert values is not None
        slots = keys.shape[2]
        token = torch.arange(slots, device=keys.device) - offsets[:, None]
        index = token.clamp(min=0)[:, None].expand_as(kept)
        stays = kept.gather(-1, index) & (token >= 0)[:, None]
        self.lazy_initialization(keys, values)
        assert self._buffers is not None
        self.keys, self.values = self._buffers
        self.dropped = slots
        self.counts = stays.sum(-1)
        """Kept tokens, int64 ``(batch, kv heads)``."""
        self.first = (self.counts.flatten().cumsum(0) - self.counts.flatten()).view_as(self.counts)
        """Where each head's kept tokens begin, int64 ``(batch, kv heads)``."""
        self.flat = keys[stays], values[stays]
        longest = int(self.counts.max())
        self.ragged = bool((self.counts < longest).any())
        self.longest = longest
        self.positions = token[:, None].expand_as(stays)[stays]
        """True position of each kept token, int64 ``(kept,)``."""

    def get_seq_length(self) -> int:
        """Tokens seen, evicted ones included: positions and masks are those of the whole sequence."""
        return self.dropped + self._used

    def prefix(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys and values of the kept tokens ``(batch, kv heads, longest, dim)``, and which are real.

        Heads of one length are shown as they are stored; others are padded for the moment of the step.
        """
        shape = *self.counts.shape, self.longest
        if not self.ragged:
            keys, values = (part.view(*shape, -1) for part in self.flat)
            return keys, values, None
        place = torch.arange(self.longest, device=self.counts.device)
        real = place < self.counts[..., None]
        index = (self.first[..., None] + place).masked_fill(~real, 0)
        keys, values = (part[index] for part in self.flat)
        return keys, values, real

    def reset(self) -> None:
        """Forget every token, the evicted ones included, and take a whole sequence again."""
        raise StudyError("A cache whose tokens were evicted cannot be reset; make a new one.")

    def page_bounds(self, page_size: int) -> PageBounds:
        """Not supported.

        Raises:
            StudyError: always; pages of evicted tokens have no keys.
        """
        raise StudyError(
            "Pages cannot be selected in a cache whose tokens were evicted; use one method or other."
        )

    def nbytes(self) -> int:
        """See :meth:`StudyLayer.nbytes`; the kept tokens and the room for new ones."""
        return super().nbytes() + sum(part.untyped_storage().nbytes() for part in self.flat)


def evicted_attention(q: Tensor, k: Tensor, v: Tensor, layer: EvictedLayer, scaling: float) -> Tensor:
    """One query a row over the kept tokens and the new ones.

    Args:
        q: queries ``(batch, heads, 1, dim)``.
        k: keys of the new tokens ``(batch, kv heads, new, dim)``.
        v: their values.
        layer: the kept tokens.
        scaling: factor of the scores.

    Returns:
        ``(batch, heads, 1, dim)`` in the dtype of `q`. Kept and new keys are never copied together.
    """
    grouped = q.view(q.shape[0], k.shape[1], -1, q.shape[3])
    keys, values, real = layer.prefix()
    old = (grouped @ keys.transpose(-1, -2)).float() * scaling
    if real is not None:
        old = old.masked_fill(~real[:, :, None], float("-inf"))
    new = (grouped @ k.transpose(-1, -2)).float() * scaling
    shares = torch.softmax(torch.cat([old, new], -1), dim=-1).to(q.dtype)
    out: Tensor = shares[..., : layer.longest] @ values + shares[..., layer.longest :] @ v
    return out.view_as(q)
