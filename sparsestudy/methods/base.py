"""What a method is: hyperparameters, what it thinks of each unit, what it keeps; dense unless overridden."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

from torch import Tensor

from sparsestudy.cache import PageBounds
from sparsestudy.errors import StudyError
from sparsestudy.selection import RowSelection, Selection
from sparsestudy.work import Heads, Work

Phase = Literal["none", "prefill", "decode"]
Role = Literal["dense", "control", "oracle", "method"]
Scope = Literal["shared", "group", "head"]
Scores = tuple[Tensor, ...]
Chosen = Selection | RowSelection


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a method may know about the step besides queries and keys.

    Args:
        lengths: real tokens of each row, the current ones included, int ``(batch,)``.
        offsets: padding slots before each row's token 0, int ``(batch,)``; 0 in prefill and eviction, where
            the rows come aligned.
        scaling: factor of the attention scores.
        layer: index of the layer.
        page_bounds: page size -> bounds of the keys' pages (decode).
        prefilled: real tokens of each row that the prefill saw, int ``(batch,)``.
        question: first token of each row's tail (question and answer prefix), int ``(batch,)``; None where
            the driver has not said.
        salt: gives a number that depends on each row's tokens alone, int64 ``(batch,)``; seeds random
            choices.
        notes: what a method wants remembered of this step, by name: numbers ``(batch, heads)``, averaged by
            the trace.
    """

    lengths: Tensor
    offsets: Tensor
    scaling: float
    layer: int
    page_bounds: Callable[[int], PageBounds]
    prefilled: Tensor
    question: Tensor | None
    salt: Callable[[], Tensor]
    notes: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """Base class. A subclass is a frozen dataclass whose fields are its hyperparameters.

    A method that chooses splits the choice in two: :meth:`importance` says what each unit (block, column,
    page, token) is worth and does not depend on the budget, :meth:`choose` keeps the best and what is forced.
    The controls `random` and `oracle` put other scores into the same :meth:`choose`, so they have the same
    units, forced units, scope and budget; calibration tries budgets on scores that are computed once.

    Args:
        phase: the phase in which the method is sparse; a subclass fixes it, or offers it as a field.
        scope: who chooses on its own: each query head ("head"), each KV head ("group") or nobody ("shared").
    """

    name: ClassVar[str]
    role: ClassVar[Role] = "method"
    # What the paper's own code sets otherwise than the defaults here, which scale with the length.
    PAPER: ClassVar[Mapping[str, Any]] = {}
    # The fields that set the budget; importance must not depend on them.
    BUDGET: ClassVar[tuple[str, ...]] = ()

    phase: Phase = field(default="none", init=False)
    scope: Scope = field(default="shared", init=False)

    @property
    def evicts(self) -> bool:
        """Whether the method drops tokens from the cache once, after the prefill (:meth:`evict`)."""
        return False

    @property
    def calibrated(self) -> bool:
        """Whether :meth:`at_sparsity` has no closed form and needs measured densities."""
        return False

    @property
    def row_by_row(self) -> bool:
        """Whether a prefill's choice is made anew for each query when its mask is asked for."""
        return False

    @property
    def scorer(self) -> Method:
        """The variant whose scores serve every budget of this one: its budget fields at their defaults."""
        defaults: dict[str, Any] = {f.name: f.default for f in fields(self) if f.name in self.BUDGET}
        return replace(self, **defaults)

    @property
    def observed(self) -> int:
        """How many of the last queries of the prompt :meth:`evict` looks at."""
        return 0

    @property
    def question_aware(self) -> bool:
        """Whether the choice may look at the question at the end of the prompt."""
        return True

    def observed_end(self, context: Context) -> Tensor:
        """Position after the last query that the choice may look at, int ``(batch,)``.

        Raises:
            StudyError: it may not look at the question, and nobody has said where that begins.
        """
        if self.question_aware:
            return context.lengths
        if context.question is None:
            raise StudyError(
                f"{self.name} with aware=False must know where the question begins; set trace.question to "
                "the first token of each row's question, or use aware=True."
            )
        return context.question

    def prefill(self, q: Tensor, k: Tensor, context: Context) -> Chosen | None:
        """Choose for all queries of a prompt.

        Args:
            q: queries ``(batch, heads, tokens, dim)``, rotated, token 0 of every row first.
            k: keys ``(batch, kv heads, tokens, dim)``.
            context: lengths and the rest.

        Returns:
            The attended keys, or None for dense.
        """
        if self.phase != "prefill":
            return None
        chosen: Chosen = self.choose(self.importance(q, k, context), context)
        return chosen

    def evict(self, q: Tensor, k: Tensor, context: Context) -> Tensor | None:
        """Choose which tokens stay in the cache once the prompt is prefilled.

        Args:
            q: queries ``(batch, heads, tokens, dim)`` of the last tokens of the prompt, at least
                :attr:`observed` of them (or all there are), each row's last one last.
            k: keys of the prompt ``(batch, kv heads, tokens, dim)``, token 0 of every row first.
            context: lengths and the rest.

        Returns:
            Which tokens stay, bool ``(batch, kv heads, tokens)``, or None for all.
        """
        if not self.evicts:
            return None
        kept: Tensor = self.choose(self.importance(q, k, context), context)
        return kept

    def decode(self, q: Tensor, k: Tensor, context: Context) -> Chosen | None:
        """Choose for one new token a row.

        Args:
            q: query ``(batch, heads, 1, dim)``.
            k: all keys ``(batch, kv heads, slots, dim)``, left-padded by ``context.offsets``.
            context: lengths, page bounds and the rest.

        Returns:
            The attended keys, or None for dense.
        """
        if self.phase != "decode" or self.evicts:
            return None
        chosen: Chosen = self.choose(self.importance(q, k, context), context)
        return chosen

    def importance(self, q: Tensor, k: Tensor, context: Context) -> Scores:
        """What each unit is worth, as the method estimates it, fp32; arguments as in the method's hook."""
        raise NotImplementedError(f"{self.name} has no scores")

    def true_importance(self, q: Tensor, k: Tensor, context: Context) -> Scores:
        """The attention that each unit really gets, in the form of :meth:`importance`.

        The arguments are those of :meth:`prefill` for a method that is sparse there, else those of
        :meth:`decode`, also for a method that evicts.
        """
        raise NotImplementedError(f"{self.name} has no units")

    def scoped(self, scores: Scores, kv_heads: int) -> Scores:
        """Scores of query heads ``(batch, heads, ...)``, averaged over each KV group if the scope is that."""
        if self.scope != "group":
            return scores
        return tuple(score.unflatten(1, (kv_heads, -1)).mean(2) for score in scores)

    def choose(self, scores: Scores, context: Context) -> Any:
        """Keep what the budget allows: a selection, or for a method that evicts the tokens that stay."""
        raise NotImplementedError(f"{self.name} has no budget")

    def metadata_read(self, lengths: Tensor) -> Tensor:
        """Metadata read per step and KV head, in units of one token's key and value, int ``(batch,)``."""
        return lengths * 0

    def selection_cost(self, heads: Heads, tokens: int) -> Work:
        """What choosing costs once, over a prompt of `tokens`, per layer and sample.

        Scores and choice of a method that is sparse in prefill, an eviction, or page bounds.
        """
        return Work()

    def step_cost(self, heads: Heads, tokens: int) -> Work:
        """What choosing costs at a decode step with `tokens` in the cache, per layer and sample.

        Metadata read is part of the byte density (:meth:`metadata_read`) and not repeated here.
        """
        return Work()

    def at_sparsity(self, sparsity: float, length: int, measure: Measure | None = None) -> Method:
        """This method with the budget that gives a sparsity at a length.

        Args:
            sparsity: target share of causal pairs left out, 0 <= sparsity < 1.
            length: prompt length in tokens.
            measure: mean attended density of a variant over calibration prompts of this length; only methods
                without a closed form (:attr:`calibrated`) ask for it.

        Returns:
            A copy with its budget set.

        Raises:
            Unreachable: forced units alone exceed the target; carries the lowest density.
        """
        return self

    def is_dense(self, length: int) -> bool:
        """Whether the method attends everything at every length up to `length` tokens."""
        return True


# A variant of a method -> its mean attended density over the calibration prompts.
Measure = Callable[[Method], float]
