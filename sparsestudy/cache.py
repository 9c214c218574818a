"""The key-value cache of the study, on transformers' public cache interface.

Appends in place (transformers' own layer copies itself for every token), can be forked after one
prefill for many decodes, and keeps page bounds up to date for methods that select pages.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, DynamicLayer

from sparsestudy.errors import StudyError

_ONLY_GREEDY = (
    "The study's cache takes no beams, no dropped tokens and no moved rows; decode greedily or by sampling, "
    "one reply a row."
)
# Slots reserved at a time. An answer of up to 256 tokens costs one reallocation after the prefill.
RESERVE = 256


@dataclass
class PageBounds:
    """Elementwise minimum and maximum of the keys of each page, ``(batch, kv heads, pages, dim)``.

    Page ``p`` of a row holds its real tokens ``p * page_size`` and on; the last one may be partial. Pages
    that a row does not have yet hold +inf and -inf. ``seen`` counts the slots that are summarised; ``done``
    is for kernels that score the pages, zero between steps.
    """

    minimum: Tensor
    maximum: Tensor
    seen: int = 0
    done: Tensor | None = None


@dataclass(frozen=True)
class Observed:
    """The last queries of a prompt, as an eviction made later needs them.

    Args:
        queries: ``(batch, heads, tokens, dim)``, each row's last one last.
        scaling: factor of the layer's attention scores.
    """

    queries: Tensor
    scaling: float


class StudyLayer(DynamicLayer):
    """One layer's keys and values ``(batch, kv heads, slots, dim)``, appended in place.

    Attributes:
        offsets: padding slots before each row, int ``(batch,)``; None is none.
        seen: the last queries of the prompt, for methods that evict by what they attend; None is not kept.
    """

    is_croppable = False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        self._buffers: tuple[Tensor, Tensor] | None = None
        self._used = 0
        self._bounds: dict[int, PageBounds] = {}
        self.offsets: Tensor | None = None
        self.seen: Observed | None = None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Remember dtype and device; the buffers are made by the first append."""
        super().lazy_initialization(key_states, value_states)
        # New tensors, not views: a view would keep what it was taken from in memory.
        empty = key_states.new_empty(*key_states.shape[:2], 0, key_states.shape[3])
        self._buffers = (empty, value_states.new_empty(*value_states.shape[:2], 0, value_states.shape[3]))

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append ``(batch, kv heads, tokens, dim)`` and return all keys and values."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self._buffers is not None
        stop = self._used + key_states.shape[2]
        if stop > self._buffers[0].shape[2]:
            keys, values = self._buffers
            room = stop + RESERVE
            self._buffers = grown(keys, self._used, room), grown(values, self._used, room)
        keys, values = self._buffers
        keys[:, :, self._used : stop], values[:, :, self._used : stop] = key_states, value_states
        self._used = stop
        self.keys, self.values = keys[:, :, :stop], values[:, :, :stop]
        return self.keys, self.values

    def reset(self) -> None:
        """Forget every token; a fork made earlier keeps its own."""
        self.keys = self.values = self._buffers = self.offsets = self.seen = None
        self.is_initialized = False
        self._used = 0
        self._bounds = {}

    def fork(self) -> StudyLayer:
        """An independent copy: what is appended to one does not show in the other."""
        twin = copy.copy(self)
        twin._bounds = {size: copy.copy(bounds) for size, bounds in self._bounds.items()}
        for bounds in twin._bounds.values():
            bounds.minimum, bounds.maximum = bounds.minimum.clone(), bounds.maximum.clone()
        if self._buffers is not None:
            keys, values = self._buffers
            room = self._used + RESERVE
            twin._buffers = grown(keys, self._used, room), grown(values, self._used, room)
            twin.keys, twin.values = (buffer[:, :, : self._used] for buffer in twin._buffers)
        return twin

    def page_bounds(self, page_size: int) -> PageBounds:
        """The bounds of every page, brought up to date: only pages touched since the last call are read."""
        keys, offsets = self.keys, self.offsets
        assert keys is not None
        if offsets is None:
            offsets = torch.zeros(keys.shape[0], dtype=torch.long, device=keys.device)
        known = self._bounds.get(page_size)
        bounds = updated_page_bounds(keys, offsets, page_size, known)
        self._bounds[page_size] = bounds
        return bounds

    def nbytes(self) -> int:
        """Bytes of device memory that the keys and values take, room for appending included."""
        return sum(buffer.untyped_storage().nbytes() for buffer in self._buffers or ())

    def crop(self, tokens_to_remove: int) -> None:
        """Not supported: see :meth:`reorder_cache`."""
        raise StudyError(_ONLY_GREEDY)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Not supported: see :meth:`reorder_cache`."""
        raise StudyError(_ONLY_GREEDY)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Not supported: see :meth:`reorder_cache`."""
        raise StudyError(_ONLY_GREEDY)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Not supported.

        Raises:
            StudyError: always; rows that move would leave the buffers behind.
        """
        raise StudyError(_ONLY_GREEDY)


class StudyCache(DynamicCache):
    """A cache of :class:`StudyLayer`; sliding-window layers keep transformers' own class.

    Args:
        config: the model's config.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config=config)
        self.layers = [StudyLayer() if type(layer) is DynamicLayer else layer for layer in self.layers]

    def fork(self) -> StudyCache:
        """A snapshot to decode from; the original stays as it is. Copies the keys and values once."""
        twin = copy.copy(self)
        # transformers' own layers append out of place, so a shallow copy of them is a snapshot.
        twin.layers = [x.fork() if isinstance(x, StudyLayer) else copy.copy(x) for x in self.layers]
        return twin

    def shallow(self) -> StudyCache:
        """A twin that shares every layer, for a change that replaces layers and leaves the shared ones be."""
        twin = copy.copy(self)
        twin.layers = [layer if isinstance(layer, StudyLayer) else copy.copy(layer) for layer in self.layers]
        return twin

    def nbytes(self) -> int:
        """Bytes of device memory that the layers' keys and values take."""
        total = 0
        for layer in self.layers:
            if isinstance(layer, StudyLayer):
                total += layer.nbytes()
            else:
                held = (getattr(layer, name, None) for name in ("keys", "values"))
                total += sum(tensor.untyped_storage().nbytes() for tensor in held if tensor is not None)
        return total


def updated_page_bounds(
    keys: Tensor, offsets: Tensor, page_size: int, known: PageBounds | None
) -> PageBounds:
    """Page bounds of a left-padded cache, recomputed from the first page that new tokens touched.

    Args:
        keys: ``(batch, kv heads, slots, dim)``; row ``b`` has its token 0 in slot ``offsets[b]``.
        offsets: padding slots before each row, int ``(batch,)``.
        page_size: tokens per page.
        known: bounds of the first ``known.seen`` slots, or None; updated in place where they have room.

    Returns:
        Bounds of all slots.
    """
    batch, heads, slots, dim = keys.shape
    pages = -(-slots // page_size)
    bounds = known if known is not None else PageBounds(keys[:, :, :0], keys[:, :, :0])
    if bounds.minimum.shape[2] < pages:
        extra = (batch, heads, pages + RESERVE // page_size - bounds.minimum.shape[2], dim)
        bounds.minimum = torch.cat([bounds.minimum, keys.new_full(extra, float("inf"))], 2)
        bounds.maximum = torch.cat([bounds.maximum, keys.new_full(extra, float("-inf"))], 2)
    # A row's first unseen token is bounds.seen - offset; its page may be partial, so it is read again. The
    # number of pages to read is the same for every row, so nothing here waits for the device.
    fresh = (slots - bounds.seen + page_size - 2) // page_size + 1 if bounds.seen else pages
    first = (bounds.seen - offsets).clamp(min=0) // page_size
    page = first[:, None] + torch.arange(fresh, device=keys.device)
    token = (page[..., None] * page_size + torch.arange(page_size, device=keys.device)).flatten(1)
    slot = token + offsets[:, None]
    real = (slot < slots)[:, None, :, None]
    index = slot.clamp(max=slots - 1)[:, None, :, None].expand(-1, heads, -1, dim)
    read = keys.gather(2, index)
    low = read.masked_fill(~real, float("inf")).unflatten(2, (fresh, page_size)).amin(3)
    high = read.masked_fill(~real, float("-inf")).unflatten(2, (fresh, page_size)).amax(3)
    # Pages past the last hold no token: their infinities change nothing wherever they are written.
    where = page.clamp(max=bounds.minimum.shape[2] - 1)[:, None, :, None].expand(-1, heads, -1, dim)
    bounds.minimum.scatter_reduce_(2, where, low, "amin")
    bounds.maximum.scatter_reduce_(2, where, high, "amax")
    bounds.seen = slots
    return bounds


def grown(tensor: Tensor, used: int, capacity: int) -> Tensor:
    """A copy of the first `used` slots with room for `capacity`."""
    grown = tensor.new_empty(*tensor.shape[:2], capacity, tensor.shape[3])
    grown[:, :, :used] = tensor[:, :, :used]
    return grown
