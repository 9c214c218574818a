"""How a shard is divided into units of work, by what each setting is predicted to take."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from sparsestudy import evaluate, provenance
from sparsestudy.batch import Case
from sparsestudy.batch_size import batch_size
from sparsestudy.generate import Prompt, decode, prefill
from sparsestudy.methods import METHODS
from sparsestudy.seeds import short_hash
from sparsestudy.settings import DENSE, Setting
from sparsestudy.shards import Shard
from sparsestudy.staleness import shard_key
from sparsestudy.units import Unit, Units, cut, folder

# A sparse prefill against a dense one: 1 to 20 times as long in the published study of SmolLM2, growing from
# 512 to 4,096 tokens. It only decides how work is cut and in which order it is done.
SPARSE_PREFILL = 10
# Tokens that are timed beforehand; the first comes from the prefill.
_TIMED = 5


@dataclass(frozen=True)
class Rates:
    """What dense attention takes on this device, as busy as it is.

    Args:
        prompt: seconds to prefill one prompt.
        step: seconds of one decode step, which hardly depends on the batch: it waits for the device's calls
            and for the weights.
    """

    prompt: float
    step: float

    @staticmethod
    def of(work: evaluate.Work, model: Any) -> Rates:
        """Measured on the first prompt of a shard; zeros where not even that fits into memory."""
        case = work.cases[0][0].encoded
        prompts = [Prompt(case.ids, case.tail)]
        try:
            # The first call also loads the device's libraries.
            for _ in range(2):
                start = prefill(model, prompts, DENSE.method, "dense", work.shard.run.backend)
            replies = decode(model, start, DENSE.method, _TIMED, frozenset(), lambda ids: False)
        except torch.OutOfMemoryError:
            return Rates(0, 0)
        return Rates(start.seconds, replies.seconds / (_TIMED - 1))

    def seconds(self, setting: Setting, cases: Sequence[Case], reply: int) -> float:
        """Predicted seconds of one batch under one setting, if no reply ends early.

        With a decode tail question and answer prefix are steps too, several times as many as a short reply
        has: by far the longest on a GPU. Dense prefills that a unit shares are left out.

        Args:
            setting: the setting.
            cases: the samples of the batch.
            reply: most tokens of a reply.
        """
        if setting.phase == "prefill":
            return SPARSE_PREFILL * self.prompt * len(cases) + self.step * reply
        tail = max(len(case.encoded.ids) - case.encoded.tail for case in cases)
        return self.step * (reply + (tail if setting.tail == "decode" else 0))


def kind(setting: Setting) -> str:
    """Which cells take equally long, in words."""
    if setting == DENSE:
        return "dense"
    if setting.phase == "prefill":
        return "sparse prefill"
    return "sparse decode" if setting.tail == "dense" else "sparse decode of question and reply"


def divide(work: evaluate.Work, tag: str, rates: Rates) -> Units:
    """The units of a shard whose budgets are set."""
    run, shard = work.shard.run, work.shard
    size = batch_size(shard)
    units, cells, keys = [], dict[str, list[float]](), []
    for t, task in enumerate(work.tasks):
        settings = work.settings(t)
        keys.append(tuple(setting.key for setting in settings))
        of_cell = dict.fromkeys(settings, 0.0)
        for start in range(work.known.samples, run.samples, size):
            cases = work.cases[t][start : start + size]
            seconds = [rates.seconds(setting, cases, task.max_new_tokens) for setting in settings]
            for setting, value in zip(settings, seconds, strict=True):
                of_cell[setting] += value
            name = f"{tag}-task{t}-{start:05d}"
            units += [Unit(name, t, start, a, b, sum(seconds[a:b])) for a, b in cut(seconds)]
        for setting, value in of_cell.items():
            cells.setdefault(kind(setting), []).append(value)
    return Units(shard, tag, tuple(units), {name: sum(v) / len(v) for name, v in cells.items()}, tuple(keys))


def setting_of(key: str) -> Setting:
    """The setting that a key names: the inverse of :attr:`sparsestudy.settings.Setting.key`."""
    name, told, tail = json.loads(key)
    cls = METHODS[name]
    given = {field.name for field in fields(cls) if field.init}
    return Setting(cls(**{field: value for field, value in told.items() if field in given}), tail)


def plan_file(shard: Shard, device: str, dtype: str) -> Path:
    """Where the plan of a shard on a device like this one stands: another place or code has another."""
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    key = [shard.run.plain(), shard_key(shard), provenance.versions(), name, dtype]
    return folder(shard) / f"{short_hash(json.dumps(key))}.plan.json"
