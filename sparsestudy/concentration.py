"""How concentrated dense attention is on the prompts of the tasks: the keys that hold most of it, by head.

Two kinds of queries are looked at: those of the question (all tokens behind the context), which an answer
begins from, and some of the context, evenly spaced.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from sparsestudy import dataset as ds
from sparsestudy.backends import names
from sparsestudy.batch_size import batch_size
from sparsestudy.collect import device_name
from sparsestudy.concentrated import KeyCounter
from sparsestudy.concentration_schema import CONCENTRATION, MASSES, REGIONS
from sparsestudy.generate import Prompt, prefill
from sparsestudy.labels import model_labels
from sparsestudy.progress import Display, Progress, duration
from sparsestudy.schema import OK
from sparsestudy.seeds import short_hash
from sparsestudy.settings import DENSE
from sparsestudy.tasks.base import Task
from sparsestudy.tasks.prompt import encode

if TYPE_CHECKING:
    import xarray as xr

    from sparsestudy.concentration_parameters import ConcentrationParameters
    from sparsestudy.shards import ShardOf


def capture(shard: ShardOf[ConcentrationParameters], model: Any, tokenizer: Any) -> xr.Dataset:
    """Read the prompts of every task densely; see :mod:`sparsestudy.concentration_schema`.

    Args:
        shard: model and length.
        model: the shard's model, on its device.
        tokenizer: its tokenizer.

    Raises:
        StudyError: a length that is too short for a task.
    """
    run = shard.run
    tasks: list[Task] = [spec.build() for spec in run.tasks]
    data = ds.blank(_coordinates(shard, tasks, model.config.get_text_config()), CONCENTRATION)
    data["status"].values[:] = OK
    data["dtype"].values[:] = str(model.dtype).removeprefix("torch.")
    data["device"].values[:] = device_name(model)
    data["backend"].values[:] = names(run.backend, model, [DENSE.method])[0]
    label = f"{shard.model} at {shard.length}, concentration"
    progress, begin = Progress(len(tasks) * run.samples, label), time.monotonic()
    size = batch_size(shard)
    for t, task in enumerate(tasks):
        prompts = [_prompt(data, (0, 0, t, i), task, tokenizer, shard) for i in range(run.samples)]
        for start in range(0, run.samples, size):
            _count(data, t, start, prompts[start : start + size], model, run)
            done = t * run.samples + min(start + size, run.samples)
            progress.advance(min(size, run.samples - start))
            if t == start == 0 and done < len(tasks) * run.samples:
                left = (time.monotonic() - begin) * (len(tasks) * run.samples / done - 1)
                Display().say(f"{label}: predicted time for the other prompts: {duration(left)}")
    return data


def _prompt(
    data: xr.Dataset,
    at: tuple[int, ...],
    task: Task,
    tokenizer: Any,
    shard: ShardOf[ConcentrationParameters],
) -> Prompt:
    """One prompt in tokens, noted in the dataset."""
    sample = task.sample(tokenizer, shard.length, at[-1], shard.run.seed)
    coded = encode(tokenizer, sample)
    data["prompt_tokens"].values[at] = len(coded.ids)
    data["prompt_id"].values[at] = short_hash(sample.prompt)
    data["tail_start"].values[at] = coded.tail
    return Prompt(coded.ids, coded.tail)


def _count(
    data: xr.Dataset, t: int, start: int, prompts: list[Prompt], model: Any, run: ConcentrationParameters
) -> None:
    """Read a batch of a task's prompts and put what was counted into the dataset."""
    counter = KeyCounter(tuple(mass / 1000 for mass in MASSES), run.queries)
    prefill(model, prompts, counter, "dense", run.backend)
    rows = slice(start, start + len(prompts))
    for layer, found in counter.found.items():
        values = found.cpu().numpy()
        data["keys"].values[0, 0, t, rows, :, layer] = values[..., :-1]
        data["effective_keys"].values[0, 0, t, rows, :, layer] = values[..., -1]
    data["queries"].values[0, 0, t, rows] = counter.counted["queries"].cpu().numpy()
    data["available_keys"].values[0, 0, t, rows] = counter.counted["available"].cpu().numpy()


def _coordinates(shard: ShardOf[ConcentrationParameters], tasks: list[Task], config: Any) -> dict[str, Any]:
    run = shard.run
    return {
        **model_labels(shard.model),
        "length": [shard.length],
        "task": [spec.label for spec in run.tasks],
        "task_name": [spec.name for spec in run.tasks],
        "task_preset": [task.preset for task in tasks],
        "task_fields": [json.dumps(spec.fields, sort_keys=True) for spec in run.tasks],
        "sample": list(range(run.samples)),
        "region": list(REGIONS),
        "layer": list(range(config.num_hidden_layers)),
        "head": list(range(config.num_attention_heads)),
        "mass": list(MASSES),
    }
