"""The study's own attention code, as it is timed: the Triton kernels where they run, else plain torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor

from sparsestudy import attention, cache, eviction
from sparsestudy.methods.base import Chosen, Context, Method
from sparsestudy.methods.block_sparse import BlockSparse
from sparsestudy.methods.quest import Quest
from sparsestudy.methods.slash_method import Slashes
from sparsestudy.speed.patterns import Inputs

Attend = Callable[..., Tensor]


@dataclass(frozen=True)
class Code:
    """One implementation of everything that is timed.

    Args:
        name: ``triton`` or ``torch``.
        attend: attention of a prefill over a selection.
    """

    name: str
    attend: Attend

    def attending(self, given: Inputs, chosen: Chosen) -> Callable[[], Tensor]:
        """Attention over what was chosen, ready to be called."""
        return lambda: self.attend(given.q, given.k, given.v, chosen, given.scaling)

    def choose(self, method: Method, given: Inputs) -> Chosen:
        """What a method keeps in a prefill."""
        context = given.context()
        chosen = method.prefill(given.q, given.k, context)
        assert chosen is not None
        return chosen

    def importance(self, method: Method, given: Inputs) -> tuple[Tensor, ...]:
        """What a method thinks of each unit in a prefill."""
        return method.importance(given.q, given.k, given.context())

    @property
    def dense_decode(self) -> Callable[[Inputs], Callable[[], Tensor]] | None:
        """A dense decode step of our own, where there is one."""
        return None

    def paged(self, method: Method, given: Inputs) -> Callable[[], Tensor]:
        """A decode step that chooses pages and attends them; their bounds are kept from step to step."""
        context = _with_kept_bounds(given)

        def step() -> Tensor:
            chosen = method.decode(given.q, given.k, context)
            assert chosen is not None
            return attention.selected_decode(
                given.q, given.k, given.v, chosen, context.offsets, given.scaling
            )

        return step

    def page_scores(self, method: Method, given: Inputs) -> Callable[[], object]:
        """The part of such a step that scores the pages."""
        context = _with_kept_bounds(given)
        return lambda: method.importance(given.q, given.k, context)

    def evicted(
        self, given: Inputs, new: tuple[Tensor, Tensor], layer: eviction.EvictedLayer
    ) -> Callable[[], Tensor]:
        """A decode step over what an eviction has left and new tokens."""
        return lambda: eviction.evicted_attention(given.q, *new, layer, given.scaling)


def _with_kept_bounds(given: Inputs) -> Context:
    """The context of a decode step, with the bounds of all pages made before."""
    context = given.context()
    kept: dict[int, cache.PageBounds] = {}

    def bounds(size: int) -> cache.PageBounds:
        if size not in kept:
            kept[size] = cache.updated_page_bounds(given.k, context.offsets, size, None)
        return kept[size]

    return Context(**{**vars(context), "page_bounds": bounds})


class TritonCode(Code):
    """The kernels."""

    def choose(self, method: Method, given: Inputs) -> Chosen:
        """See :meth:`Code.choose`."""
        from sparsestudy.kernels.pooled import pooled_selection

        context = given.context()
        if isinstance(method, BlockSparse):
            choosers = given.q.shape[1] if method.scope == "head" else given.k.shape[1]
            selection: Chosen = pooled_selection(
                given.q, given.k, context.lengths, method.block_size, method.top_blocks, choosers
            )
            return selection
        chosen: Chosen = method.choose(self.importance(method, given), context)
        return chosen

    def importance(self, method: Method, given: Inputs) -> tuple[Tensor, ...]:
        """See :meth:`Code.importance`."""
        from sparsestudy.kernels.scores import window_sums

        if not isinstance(method, Slashes):
            return super().importance(method, given)
        context = given.context()
        sums = window_sums(given.q, given.k, context, method.observed_end(context), method.window)
        return method.scoped(sums, given.k.shape[1])

    @property
    def dense_decode(self) -> Callable[[Inputs], Callable[[], Tensor]]:
        """See :attr:`Code.dense_decode`."""
        from sparsestudy.kernels.decode import whole_decode

        def made(given: Inputs) -> Callable[[], Tensor]:
            context = given.context()
            around = context.lengths, context.offsets, given.scaling
            return lambda: whole_decode(given.q, given.k, given.v, *around)

        return made

    def paged(self, method: Method, given: Inputs) -> Callable[[], Tensor]:
        """See :meth:`Code.paged`."""
        from sparsestudy.kernels.paged import paged_decode
        from sparsestudy.kernels.pages import updated_page_bounds

        if not isinstance(method, Quest):
            return super().paged(method, given)
        context, size = given.context(), method.page_size
        bounds = updated_page_bounds(given.k, context.offsets, size, None)
        choosers = given.q.shape[1] if method.scope == "head" else given.k.shape[1]
        budget = method.token_budget // size
        return lambda: paged_decode(
            given.q, given.k, given.v, bounds, context.lengths, context.offsets, budget, size, choosers,
            given.scaling,
        )  # fmt: skip

    def page_scores(self, method: Method, given: Inputs) -> Callable[[], object]:
        """See :meth:`Code.page_scores`."""
        from sparsestudy.kernels.pages import page_scores, updated_page_bounds

        if not isinstance(method, Quest):
            return super().page_scores(method, given)
        context, size = given.context(), method.page_size
        bounds = updated_page_bounds(given.k, context.offsets, size, None)
        choosers = given.q.shape[1] if method.scope == "head" else given.k.shape[1]
        return lambda: page_scores(given.q, bounds, context.lengths, size, choosers)

    def evicted(
        self, given: Inputs, new: tuple[Tensor, Tensor], layer: eviction.EvictedLayer
    ) -> Callable[[], Tensor]:
        """See :meth:`Code.evicted`."""
        from sparsestudy.kernels.decode import evicted_attention

        return lambda: evicted_attention(given.q, *new, layer, given.scaling)


def own(device: torch.device) -> Code:
    """The kernels on a GPU where they and Triton are installed, else plain torch."""
    if device.type == "cuda" and find_spec("triton") and find_spec("sparsestudy.kernels"):
        from sparsestudy.kernels.prefill import selected_attention

        return TritonCode("triton", selected_attention)
    return Code("torch", attention.selected_attention)
