"""Budgets of methods whose density has no closed form: found on calibration prompts, then frozen and stored.

One dense pass over the prompts keeps what each method thinks of every unit, in every layer; every budget is
then tried on these scores alone. A budget that was found once is read from its file from then on, so that a
run that goes on, the smoke run and the published run use the same ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from sparsestudy import paths
from sparsestudy.batch_size import batch_size
from sparsestudy.errors import StudyError, Unreachable
from sparsestudy.generate import Prompt, prefill
from sparsestudy.methods.base import Context, Method, Scores
from sparsestudy.models import REGISTRY, weights_sha256
from sparsestudy.progress import Progress
from sparsestudy.seeds import short_hash
from sparsestudy.staleness import code_of
from sparsestudy.tasks import TASKS
from sparsestudy.tasks.base import PoolName, SyntheticTask, Task
from sparsestudy.tasks.prompt import encode

if TYPE_CHECKING:
    from sparsestudy.shards import Shard

# Spread over all registered tasks that ship; each gives a density for every layer and head.
PROMPTS = 16


@dataclass(frozen=True)
class Budget:
    """A method with a frozen budget.

    Args:
        method: with its budget set.
        density: its mean attended density over the calibration prompts.
    """

    method: Method
    density: float


@dataclass(frozen=True)
class _Recorder(Method):
    """Stands in the place of a method during a dense pass and keeps what others think of each unit."""

    name: ClassVar[str] = "recorder"

    phase: Any = field(default="prefill", init=False)
    scorers: tuple[Method, ...] = ()
    seen: dict[Method, list[tuple[Scores, Context]]] = field(default_factory=dict, compare=False)

    def prefill(self, q: Tensor, k: Tensor, context: Context) -> None:
        """Keep the scores, and of the context what outlives the pass."""
        salt = context.salt()
        kept = replace(context, page_bounds=_no_pages, salt=lambda: salt)
        for scorer in self.scorers:
            self.seen.setdefault(scorer, []).append((scorer.importance(q, k, context), kept))


def _no_pages(size: int) -> Any:
    raise StudyError("There are no pages in a calibration; only methods that are sparse in prefill have one.")


class Calibration:
    """The frozen budgets of a shard's methods.

    Args:
        shard: model and length.
        model: the model, on its device.
        tokenizer: its tokenizer.
        methods: the methods of the run, with default budgets; those without a closed form are recorded
            together.
    """

    def __init__(self, shard: Shard, model: Any, tokenizer: Any, methods: Iterable[Method]) -> None:
        self._shard, self._model, self._tokenizer = shard, model, tokenizer
        self._scorers = tuple(dict.fromkeys(m.scorer for m in methods if m.calibrated))
        self._scores: dict[Method, list[tuple[Scores, Context]]] | None = None
        self._measured: dict[Method, float] = {}
        self._prompts: list[Prompt] | None = None

    def at(self, base: Method, permille: int) -> Budget:
        """A method's budget for a sparsity, from the file or measured now.

        Args:
            base: the method with its default budget.
            permille: nominal sparsity.

        Raises:
            Unreachable: as :meth:`Method.at_sparsity`.
            StudyError: a calibration file cannot be read.
        """
        entry = f"{base.name} {short_hash(json.dumps(asdict(base), sort_keys=True))} at {permille}"
        key = self._key(base)
        for file in map(self.file, (True, False)):
            known = _read(file).get(entry)
            if known is not None and known["key"] == key:
                break
        else:
            known = {"key": key} | self._found(base, permille)
            file = self.file(self._shard.run.published)
            paths.write_text(file, json.dumps(_read(file) | {entry: known}, indent=1, sort_keys=True) + "\n")
        if known.get("unreachable"):
            raise Unreachable(known["unreachable"], known["density"])
        return Budget(type(base)(**known["fields"]), known["density"])

    def file(self, published: bool) -> Path:
        """Where frozen budgets of this model and length are kept."""
        return paths.results(published) / "calibration" / f"{self._shard.name}.json"

    def measure(self, method: Method) -> float:
        """Mean attended density of a variant over prompts, layers and heads."""
        if method not in self._measured:
            # Densities of one pair of layer and batch, rows and heads together.
            found = [method.choose(*seen).density() for seen in self._recorded(method.scorer)]
            self._measured[method] = float(torch.cat([density.flatten() for density in found]).mean())
        return self._measured[method]

    def _found(self, base: Method, permille: int) -> dict[str, Any]:
        try:
            method = base.at_sparsity(permille / 1000, self._shard.length, self.measure)
        except Unreachable as error:
            return {"unreachable": str(error), "density": error.lowest_density}
        given = {f.name for f in fields(method) if f.init}
        stored = {name: value for name, value in asdict(method).items() if name in given}
        # What was not measured on the way keeps everything, or is a window, whose density is its budget's.
        density = self._measured.get(method, 1 - permille / 1000)
        return {"fields": stored, "density": round(density, 6)}

    def _key(self, base: Method) -> str:
        """What a stored budget depends on beside the method's fields: weights, prompts and code."""
        prompts = [short_hash(json.dumps([p.ids, p.tail])) for p in self._calibration_prompts()]
        return short_hash(
            json.dumps([weights_sha256(self._shard.model), prompts, code_of(base.name, asdict(base))])
        )

    def _recorded(self, scorer: Method) -> Sequence[tuple[Scores, Context]]:
        if self._scores is None:
            recorder = _Recorder(self._scorers)
            prompts = self._calibration_prompts()
            size = batch_size(self._shard)
            progress = Progress(len(prompts), f"{self._shard.model} at {self._shard.length}, calibration")
            for start in range(0, len(prompts), size):
                batch = prompts[start : start + size]
                prefill(self._model, batch, recorder, "dense")
                progress.advance(len(batch))
            self._scores = recorder.seen
        return self._scores[scorer]

    def _calibration_prompts(self) -> list[Prompt]:
        if self._prompts is None:
            pool = REGISTRY[self._shard.model].pool
            self._prompts = list(prompts_of(self._tokenizer, self._shard.length, pool=pool))
        return self._prompts


def prompts_of(
    tokenizer: Any, length: int, number: int = PROMPTS, pool: PoolName = "full"
) -> Iterator[Prompt]:
    """Prompts of the calibration split, the registered tasks in turn; those that do not fit are left out.

    Tasks whose data a user fetches take no part, here or not: the same run has the same budgets everywhere.

    Raises:
        StudyError: no task fits the length.
    """
    tasks, made = _tasks(pool), 0
    for index in count():
        fitting = []
        for task in tasks:
            if made == number:
                return
            try:
                sample = task.sample(tokenizer, length, index, split="calibration")
            except StudyError as error:
                reason = error
                continue
            fitting.append(task)
            coded = encode(tokenizer, sample)
            yield Prompt(coded.ids, coded.tail)
            made += 1
        if not fitting:
            raise StudyError(f"There is nothing to calibrate on at {length} tokens: {reason}")
        tasks = fitting


def _tasks(pool: PoolName) -> list[Task]:
    """The tasks that ship; for a model with a closed vocabulary those that can be told in its words."""
    shipped = [TASKS[name] for name in TASKS if TASKS[name].shipped]
    if pool == "full":
        return [task() for task in shipped]
    return [task(pool=pool) for task in shipped if issubclass(task, SyntheticTask)]


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        known: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StudyError(
            f"{paths.shown(file)} is not a file of frozen budgets ({error}); delete it, and they are "
            "measured again."
        ) from error
    return known
