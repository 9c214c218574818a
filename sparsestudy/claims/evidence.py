"""The cells of one run that a claim looks at, as arrays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsestudy import stats
from sparsestudy.cells import documents, group_of
from sparsestudy.claims.specs import Cells
from sparsestudy.errors import StudyError
from sparsestudy.schema import CELL, FELL_BACK_DENSE, OK, SAMPLE, UNREACHABLE
from sparsestudy.tables import short_name, subject

if TYPE_CHECKING:
    import xarray as xr


class Effect(NamedTuple):
    """An estimate with its interval, and the smallest number of samples in a cell behind it."""

    estimate: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Outcome:
    """What an estimand found.

    Args:
        effect: what decides the claim.
        parts: what it is made of, by name, to be read beside it.
        models: the models whose scores are in it.
        remark: one more sentence, or nothing.
        errors: root mean squared errors of a law and of its baseline, by part, where a law was fitted.
    """

    effect: Effect
    parts: dict[str, Effect]
    models: list[str]
    remark: str = ""
    errors: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """One run as a claim sees it: cells of methods alone, so that no oracle and no control decides a claim.

    Args:
        data: the samples.
        scores: (model, method, sparsity, length, task, sample) of the chosen cells, else NaN.
        dense: (model, length, task, sample), NaN where dense attention cannot be told from guessing, where
            nothing can be lost, and beyond the length that a model was trained on.
        seed: for whatever is resampled.
        few: lengths that were left out for having too few samples, in words.
    """

    data: xr.Dataset
    scores: stats.Array
    dense: stats.Array
    seed: int
    few: str = ""
    _labels: dict[str, list[str]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, data: xr.Dataset, cells: Cells, claim: str, least: int = 1) -> Evidence:
        """The cells of a run that a claim names.

        Args:
            data: the samples.
            cells: which.
            claim: its name, for the seed.
            least: cells with fewer samples are left out.

        Raises:
            StudyError: the run has no dense attention, or none of the cells.
        """
        status = data["status"].transpose(*CELL).to_numpy()
        ran = (status == OK) | (status == FELL_BACK_DENSE)
        scores = np.where(ran[..., None], data["score"].transpose(*SAMPLE).to_numpy().astype(float), np.nan)
        most = np.isfinite(scores).any((0, 1, 2, 4)).sum(-1)  # (length,)
        scores[np.isfinite(scores).sum(-1) < least] = np.nan
        role, sparsity = data["method_role"].to_numpy(), data["sparsity"].to_numpy()
        if "dense" not in role or 0 not in sparsity:
            raise StudyError("The run has no dense attention to compare with; add `dense` and sparsity zero.")
        dense = scores[:, list(role).index("dense"), list(sparsity).index(0)]
        dense = np.where(_informative(data, dense)[..., None], dense, np.nan)
        chosen = (role == "method") & _matches(data["method_phase"], cells.phase)
        chosen &= _matches(data["method_tail"], cells.tail)
        if cells.methods is not None:
            chosen &= np.isin(data["method_name"].to_numpy(), cells.methods)
        setting = (sparsity > 0) & (sparsity <= cells.most)
        kept = np.broadcast_to((chosen[:, None] & setting)[:, :, None, None], status.shape)
        if cells.reachable_by_all:
            kept = kept & ~_missed(data, status == UNREACHABLE)
        kept = kept & np.asarray(np.isfinite(dense).any(-1))[:, None, None]
        scores = np.where(np.asarray(kept)[..., None], scores, np.nan)
        seed = stats.seed_of(data.attrs.get("experiment"), data.attrs.get("run"), claim)
        if not np.isfinite(scores).any():
            raise StudyError("The run holds none of the cells that the claim is about.")
        few = [
            f"{tokens:,} tokens ({n})"
            for tokens, n in zip(data["length"].values.tolist(), most.tolist(), strict=True)
            if 0 < n < least
        ]
        return cls(data, scores, dense, seed, ", ".join(few))

    @property
    def differences(self) -> stats.Array:
        """Sparse minus dense on the same prompts, shape of ``scores``."""
        return self.scores - self.dense[:, None, None]

    @cached_property
    def binary(self) -> NDArray[np.bool_]:
        """(task,), True where each score is 0 or 1."""
        return np.asarray(self.data["task_binary"].to_numpy().astype(bool))

    @cached_property
    def settings(self) -> NDArray[np.int64]:
        """Places of the sparsities above 0 that any chosen cell has, in ascending order."""
        return np.flatnonzero(np.isfinite(self.scores).any((0, 1, 3, 4, 5)))

    @cached_property
    def methods(self) -> list[int]:
        """Places of the methods that have any chosen cell."""
        return np.flatnonzero(np.isfinite(self.scores).any((0, 2, 3, 4, 5))).tolist()

    def rivals(self, method: int) -> list[int]:
        """The other methods of the same phase and tail."""
        phase, tail = self.data["method_phase"].values, self.data["method_tail"].values
        same = (phase == phase[method]) & (tail == tail[method])
        return [other for other in self.methods if same[other] and other != method]

    @cached_property
    def nominal(self) -> stats.Array:
        """(sparsity,) in 0..1."""
        return np.asarray(self.data["sparsity"].to_numpy() / 1000)

    @cached_property
    def densities(self) -> stats.Array:
        """(model, method, sparsity, length, task), mean attended density as achieved; NaN where none ran."""
        values = self.data["attended_density"].transpose(*SAMPLE).to_numpy().astype(float)
        n = np.isfinite(values).sum(-1)
        return np.asarray(np.divide(np.nansum(values, -1), n, out=np.full(n.shape, np.nan), where=n > 0))

    @cached_property
    def tokens(self) -> stats.Array:
        """(model, length, task), mean tokens of the prompts."""
        values = self.data["prompt_tokens"].transpose("model", "length", "task", "sample").to_numpy()
        return np.asarray(np.where(values > 0, values, 0).sum(-1) / np.maximum((values > 0).sum(-1), 1))

    def setting(self, model: int, method: int) -> str:
        """A model with a method, in words."""
        return f"{self.label('model', model)}, {self.method(method)}"

    def curve(self, model: int, method: int, task: int) -> str:
        """A method on a task by a model, in words."""
        return f"{self.method(method)}, {self.task(task)}, {self.label('model', model)}"

    def models(self) -> list[str]:
        """The models that have any chosen cell."""
        places = np.flatnonzero(np.isfinite(self.scores).any((1, 2, 3, 4, 5)))
        return [self.label("model", int(place)) for place in places]

    def method(self, place: int) -> str:
        """A method variant in words, with its phase and tail."""
        name = short_name(*(self.label(key, place) for key in ("method_name", "method", "method_fields")))
        return f"{name} ({group_of(self.label('method_phase', place), self.label('method_tail', place))})"

    def task(self, place: int) -> str:
        """A task variant in words."""
        return subject(*(self.label(key, place) for key in ("task_name", "task", "task_fields")))

    def label(self, name: str, place: int) -> str:
        """A label at one place; all of its name are looked up once."""
        if name not in self._labels:
            self._labels[name] = [str(value) for value in self.data[name].values.tolist()]
        return self._labels[name][place]

    @cached_property
    def documents(self) -> NDArray[np.str_] | None:
        """(length, task, sample), the text that each sample stands in; None where each is its own.

        Models of one run are asked about the same texts, so the first that has the length speaks for all.
        """
        found = documents(self.data)
        if found is None:
            return None
        tokens = self.data["prompt_tokens"].transpose("model", "length", "task", "sample").to_numpy()
        first = np.argmax(tokens > 0, 0)[None]
        return np.asarray(np.take_along_axis(found, first, 0)[0])

    @cached_property
    def asked(self) -> NDArray[np.bool_]:
        """(length, sample), the samples that each length has; a run may ask fewer of the longest."""
        return np.asarray(np.isfinite(self.dense).any((0, 2)))

    def texts(self, length: int, tasks: list[int]) -> NDArray[np.str_] | None:
        """(tasks, samples asked), the text that each sample of a length stands in; None as `documents`."""
        known = self.documents
        return None if known is None else np.asarray(known[length, tasks][:, self.asked[length]])

    def cost(self, cells: Cells) -> stats.Array:
        """(model, method, sparsity, length) of the cost that cells name, the mean over whole contexts.

        NaN where that is nothing, as when no reply took a step.

        Raises:
            StudyError: the dataset does not hold it.
        """
        name = cells.cost
        if name is None or name not in self.data or not self.data[name].notnull().any():
            raise StudyError(f"The run does not hold the cost `{name}` of its cells.")
        variable = self.data[name]
        for dim, value in {"generated": cells.generated, "batch": cells.batch}.items():
            variable = variable.sel({dim: value}, drop=True) if dim in variable.dims else variable
        if "task" in variable.dims:
            variable = variable.where(self.data["task_context"] == "full").mean("task")
        full = variable.broadcast_like(self.data["status"].isel(task=0, drop=True))
        values = full.transpose(*CELL[:4]).to_numpy().astype(float)
        return np.asarray(np.where(values > 0, values, np.nan))

    def dense_cost(self, cost: stats.Array) -> stats.Array:
        """(model, length), the part of `cost` that is dense attention's."""
        return np.asarray(cost[:, *self.dense_place])

    @property
    def dense_place(self) -> tuple[int, int]:
        """Places of the dense method and of sparsity 0."""
        roles, sparsity = self.data["method_role"].to_numpy(), self.data["sparsity"].to_numpy()
        return int(np.argmax(roles == "dense")), int(np.argmax(sparsity == 0))


def smallest(values: stats.Array) -> int:
    """The smallest number of finite samples in a row of (..., samples), rows without any left out."""
    n = np.isfinite(values).sum(-1)
    return int(n[n > 0].min()) if (n > 0).any() else 0


def independent_mean(parts: Sequence[Effect]) -> Effect:
    """The mean of effects that rest on different prompts."""
    estimate = float(np.mean([part.estimate for part in parts]))
    low = estimate - float(np.sqrt(np.sum([(p.estimate - p.low) ** 2 for p in parts]))) / len(parts)
    high = estimate + float(np.sqrt(np.sum([(p.high - p.estimate) ** 2 for p in parts]))) / len(parts)
    return Effect(estimate, low, high, min(part.n for part in parts))


def _matches(labels: xr.DataArray, wanted: str | None) -> NDArray[np.bool_]:
    values = labels.to_numpy()
    return np.ones(values.shape, bool) if wanted is None else np.asarray(values == wanted)


def _informative(data: xr.Dataset, dense: stats.Array) -> NDArray[np.bool_]:
    """(model, length, task): the whole context, above guessing, and within what the model was trained for."""
    chance = data["chance"].transpose("model", "length", "task").to_numpy().astype(float)
    interval = stats.mean_interval(dense, data["task_binary"].to_numpy().astype(bool))
    within = data["length"].to_numpy()[None] <= data["model_context"].to_numpy()[:, None]
    # where guessing is always right, as with a single needle, no score can be above it
    above = (interval.low > chance) | (chance >= 1)
    whole = data["task_context"].to_numpy() == "full"
    return np.asarray(above & (interval.n > 0) & within[..., None] & whole)


def _missed(data: xr.Dataset, unreachable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Cells that some variant of the same method, which differs in its setting alone, cannot reach."""
    fields = [json.loads(text or "{}") for text in data["method_fields"].values.tolist()]
    rest = [json.dumps({k: v for k, v in f.items() if k != "setting"}, sort_keys=True) for f in fields]
    names, tails = data["method_name"].values.tolist(), data["method_tail"].values.tolist()
    siblings = list(zip(names, tails, rest, strict=True))
    found = np.zeros_like(unreachable)
    for place, own in enumerate(siblings):
        same = [other for other, label in enumerate(siblings) if label == own]
        found[:, place] = unreachable[:, same].any(1)
    return found
