"""What a request costs: FLOPs and bytes of a prefill and of decode steps, selection of keys included.

Everything is *per sample*: the batch shares the weights, so their bytes, and nothing else, are divided by it.

*FLOPs* are those of matrix products, 1 multiply-add = 2 FLOPs, and whatever a selection computes and
compares. Left out: norms, biases, rotary embeddings, softmax and activation functions, which are no matrix
products. *Bytes* are the least that must move: weights once per forward pass, embedding rows, keys, values
and a prompt's queries. Left out: all other activations, logits included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sparsestudy.architecture import Architecture
from sparsestudy.errors import StudyError
from sparsestudy.work import Heads, Work

NOTHING = Work()
# Steps whose selection is summed once: the samples of a cell step through much the same lengths.
BLOCK = 1024


@dataclass(frozen=True)
class Cost:
    """The work of one sample, by part.

    Args:
        embedding: rows of the input embedding.
        linear: projections and MLP of every layer, with their norms and biases.
        attention: scores, weighted values, and the cache, in every layer.
        head: final norm and output head.
        selection: choosing which keys are attended.
    """

    embedding: Work = NOTHING
    linear: Work = NOTHING
    attention: Work = NOTHING
    head: Work = NOTHING
    selection: Work = NOTHING

    @property
    def core(self) -> Work:
        """Everything but the selection."""
        return self.embedding + self.linear + self.attention + self.head

    @property
    def total(self) -> Work:
        """The core and the selection."""
        return self.core + self.selection

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))

    def __mul__(self, times: float) -> Cost:
        return Cost(*(getattr(self, part.name) * times for part in fields(self)))


class Selector(Protocol):
    """A method, as far as its cost goes: hashable; both hooks are per layer and sample."""

    def __hash__(self) -> int:
        """Equal methods cost the same."""

    @property
    def phase(self) -> str:
        """The phase in which the method is sparse, and which is charged with its selection."""

    def selection_cost(self, heads: Heads, tokens: int) -> Work:
        """What is done once, over a prompt of `tokens`: scores of a prefill, an eviction, page bounds."""

    def step_cost(self, heads: Heads, tokens: int) -> Work:
        """What each decode step does with `tokens` in the cache, its own included.

        Bytes of metadata that the byte density holds already are not to be repeated here.
        """


def causal_pairs(length: int, window: int | None = None) -> int:
    """(query, key) pairs of causal attention: the sum of ``min(i, window)`` over i = 1 .. `length`."""
    grown = length if window is None else min(length, window)
    return grown * (grown + 1) // 2 + (length - grown) * grown


def prefill(
    arch: Architecture,
    length: int,
    *,
    batch: int = 1,
    density: float = 1.0,
    selection: Selector | None = None,
    element_bytes: float = 2,
) -> Cost:
    """The cost of a prompt up to the logits of its last token, per sample.

    Per full layer the attention takes ``4 dim query_heads density length (length + 1) / 2`` FLOPs; a sliding
    layer takes those of its window. Each layer writes its keys and values once and reads them and the queries
    once, whatever the density: some query attends every key. The output head computes one position
    (``logits_to_keep=1``).

    Args:
        arch: sizes of the model.
        length: tokens of the prompt.
        batch: samples that share one reading of the weights.
        density: pairs / causal pairs in the full layers, of all query heads: the attended density, or the
            kernel density (which may exceed 1) for what a tiled kernel computes.
        selection: the method, charged here if it is sparse in the prefill; None where nothing is chosen.
        element_bytes: bytes per weight and per cached number.

    Raises:
        StudyError: a size or density out of its range.
    """
    _check(batch, element_bytes, (density,), (length,))
    cache = 2 * arch.kv_heads * arch.head_dim * element_bytes
    full = arch.full_layers * causal_pairs(length)
    sliding = arch.sliding_layers * causal_pairs(length, arch.window)
    queries = arch.query_heads * arch.head_dim * element_bytes
    chosen = Work()
    if selection is not None and selection.phase == "prefill":
        chosen = selection.selection_cost(arch.heads(element_bytes), length) * arch.full_layers
    return Cost(
        attention=Work(
            _pair_flops(arch) * (density * full + sliding), arch.layers * length * (2 * cache + queries)
        ),
        selection=chosen,
        **_weights(arch, length, 1, batch, element_bytes),
    )


def decode(
    arch: Architecture,
    length: int,
    steps: int,
    *,
    batch: int = 1,
    density: float = 1.0,
    byte_density: float = 1.0,
    selection: Selector | None = None,
    element_bytes: float = 2,
) -> Cost:
    """The cost of the decode steps after a prompt, per sample and over all steps.

    A step takes one token in, with t = `length` + 1 .. `length` + `steps` tokens in the cache, its own
    included, and computes its logits. The first token of a reply comes from the prefill: n tokens need n - 1
    steps. In a full layer a step takes ``4 dim query_heads density t`` FLOPs, reads ``2 dim kv_heads
    byte_density t`` cached numbers and writes ``2 dim kv_heads``; a sliding layer is dense with ``min(t,
    window)`` for t.

    Args:
        arch: sizes of the model.
        length: tokens in the cache before the first step.
        steps: decode steps.
        batch: samples that share one reading of the weights.
        density: attended density: keys attended / keys available, summed over the steps, full layers.
        byte_density: cached bytes read, page metadata included / those that dense steps read, full layers.
        selection: the method, charged here, with what it does once per prompt, if it is sparse in the decode.
        element_bytes: bytes per weight and per cached number.

    Raises:
        StudyError: a size or density out of its range.
    """
    _check(batch, element_bytes, (density, byte_density), (length, steps))
    cache = 2 * arch.kv_heads * arch.head_dim * element_bytes
    full = arch.full_layers * (causal_pairs(length + steps) - causal_pairs(length))
    sliding = causal_pairs(length + steps, arch.window) - causal_pairs(length, arch.window)
    sliding *= arch.sliding_layers
    chosen = Work()
    if selection is not None and selection.phase == "decode":
        heads = arch.heads(element_bytes)
        each = _steps(selection, heads, length, steps)
        chosen = (selection.selection_cost(heads, length) + each) * arch.full_layers
    return Cost(
        attention=Work(
            _pair_flops(arch) * (density * full + sliding),
            cache * (byte_density * full + sliding + arch.layers * steps),
        ),
        selection=chosen,
        **_weights(arch, steps, steps, batch, element_bytes, passes=steps),
    )


def _steps(selection: Selector, heads: Heads, length: int, steps: int) -> Work:
    """What choosing costs in all steps after `length` tokens, from running sums that are kept."""
    total, at = Work(), length
    while at < length + steps:
        block, start = divmod(at, BLOCK)
        stop = min(BLOCK, start + length + steps - at)
        sums = _running(selection, heads, block)
        flops, moved = (sums[stop] - sums[start]).tolist()
        total, at = total + Work(flops, moved), at + stop - start
    return total


@lru_cache(maxsize=256)
def _running(selection: Selector, heads: Heads, block: int) -> NDArray[np.float64]:
    """Sums ``(BLOCK + 1, 2)`` over the first 0, 1, ... steps of a block of steps: FLOPs and bytes."""
    each = (selection.step_cost(heads, block * BLOCK + i) for i in range(1, BLOCK + 1))
    costs = np.array([(0.0, 0.0), *((one.flops, one.bytes) for one in each)])
    return costs.cumsum(0)


def _pair_flops(arch: Architecture) -> int:
    """FLOPs of one pair in all heads of a layer: its score, and its value's share."""
    return 4 * arch.head_dim * arch.query_heads


def _weights(
    arch: Architecture, tokens: int, logits: int, batch: int, element_bytes: float, passes: int = 1
) -> dict[str, Work]:
    """Everything but attention: `tokens` through the layers and `logits` positions through the head."""
    layer = arch.matrices + arch.norms + arch.biases
    head = arch.hidden * arch.vocabulary
    once = passes * element_bytes / batch
    return {
        # Rows are gathered for each sample; the whole table is only read where it is the head as well.
        "embedding": Work(0, tokens * arch.hidden * element_bytes),
        "linear": Work(2 * tokens * arch.layers * arch.matrices, arch.layers * layer * once),
        "head": Work(2 * logits * head, (head + arch.hidden) * once),
    }


def _check(batch: int, element_bytes: float, densities: tuple[float, ...], tokens: tuple[int, ...]) -> None:
    sizes = batch >= 1 and 0 < element_bytes < math.inf and min(tokens) >= 0
    if not sizes or not all(0 <= density < math.inf for density in densities):
        raise StudyError(
            "A cost needs batch >= 1, element_bytes > 0, tokens >= 0 and densities from 0 (nothing) over 1 "
            f"(dense) upwards, not {batch}, {element_bytes}, {tokens} and {densities}."
        )
