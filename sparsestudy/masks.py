"""What each method chose on one prompt: pictures of some layers and heads, and densities of all of them.

Methods that are sparse in prefill read the whole prompt. Those that are sparse in decode follow a dense
prefill; their queries are the steps after it (the question too, where the tail runs as steps). A method that
evicts is drawn as one row, the tokens that each head keeps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsestudy import dataset as ds
from sparsestudy.backends import names
from sparsestudy.calibration import Calibration
from sparsestudy.collect import device_name
from sparsestudy.errors import StudyError
from sparsestudy.generate import Prefilled, Prompt, decode, head_densities, observation, prefill
from sparsestudy.labels import method_labels, model_labels
from sparsestudy.mask_schema import MASKS
from sparsestudy.methods.base import Method
from sparsestudy.progress import Progress
from sparsestudy.seeds import short_hash
from sparsestudy.settings import DENSE, CellPlan, plan_cells
from sparsestudy.tasks.prompt import Encoded, encode
from sparsestudy.watching import Grid, Watched

if TYPE_CHECKING:
    import xarray as xr

    from sparsestudy.mask_parameters import MaskParameters
    from sparsestudy.shards import ShardOf


@dataclass(frozen=True)
class Scene:
    """One prompt before one model.

    Args:
        shard: model and length.
        model: the shard's model, on its device.
        prompt: the prompt in tokens.
        limit: tokens that are generated after it under a method that is sparse in decode.
        observe: queries that evictions look at.
        prefilled: the dense prefills so far, by what happens to the tail.
    """

    shard: ShardOf[MaskParameters]
    model: Any
    prompt: Prompt
    limit: int
    observe: int
    prefilled: dict[str, Prefilled] = field(default_factory=dict)

    def start(self, tail: str) -> Prefilled:
        """The dense prefill of the prompt, made once."""
        if tail not in self.prefilled:
            backend = self.shard.run.backend
            self.prefilled[tail] = prefill(
                self.model, [self.prompt], DENSE.method, tail, backend, self.observe
            )
        return self.prefilled[tail]

    def steps(self, method: Method, tail: str) -> int:
        """Decode steps under a method; the last generated token is not read any more."""
        if method.phase != "decode":
            return 0
        rest = len(self.prompt.ids) - self.prompt.tail if tail == "decode" else 0
        return rest + self.limit - 1

    def grid(self, method: Method, tail: str) -> Grid:
        """The cells of a method's pictures."""
        tokens, cells = len(self.prompt.ids), self.shard.run.cells
        if method.phase != "decode":
            return Grid(0, tokens, tokens, cells)
        first = self.prompt.tail if tail == "decode" else tokens
        if method.evicts:
            return Grid(first - 1, 1, first, cells)
        steps = self.steps(method, tail)
        return Grid(first, steps, first + steps, cells)


def capture(shard: ShardOf[MaskParameters], model: Any, tokenizer: Any) -> xr.Dataset:
    """Run every method at every sparsity on one prompt; the dataset, see :mod:`sparsestudy.mask_schema`.

    Args:
        shard: model and length.
        model: the shard's model, on its device.
        tokenizer: its tokenizer.

    Raises:
        StudyError: a layer or head that the model does not have, or a length too short for the task.
    """
    run, config = shard.run, model.config.get_text_config()
    _check(run.layers, config.num_hidden_layers, "layer", shard.model)
    _check(run.heads, config.num_attention_heads, "head", shard.model)
    task = run.task.build()
    if task.context != "full":
        raise StudyError("A drawing needs a prompt of the whole length; leave `context` of the task out.")
    sample = task.sample(tokenizer, shard.length, 0, run.seed)
    coded = encode(tokenizer, sample)
    bases: list[Method] = [spec.build() for spec in run.methods]
    backends = names(run.backend, model, bases)
    prompt = Prompt(coded.ids, coded.tail)
    scene = Scene(shard, model, prompt, task.max_new_tokens, observation(bases, [prompt]))
    plans = plan_cells(shard, scene.limit, Calibration(shard, model, tokenizer, bases).at)
    data = ds.blank(_coordinates(shard, config, coded), MASKS)
    _describe(data, scene, coded, short_hash(sample.prompt))
    data["backend"].values[0] = np.reshape(backends, (-1, 1))
    progress = Progress(len(plans), f"{shard.model} at {shard.length}, masks")
    for (m, s), plan in plans.items():
        if s == 0:
            _lay_out(data, m, scene, bases[m])
        _fill(data, (0, m, s, 0), plan, bases[m], scene)
        progress.advance(1)
    return data


def _check(asked: list[int], there: int, noun: str, model: str) -> None:
    if asked[-1] >= there:
        raise StudyError(f"There is no {noun} {asked[-1]} in {model}; choose among 0 to {there - 1}.")


def _coordinates(shard: ShardOf[MaskParameters], config: Any, coded: Encoded) -> dict[str, Any]:
    run = shard.run
    return {
        **model_labels(shard.model),
        **method_labels(run),
        "sparsity": run.sparsities,
        "length": [shard.length],
        "evidence": list(range(len(coded.evidence))),
        "layer": list(range(config.num_hidden_layers)),
        "head": list(range(config.num_attention_heads)),
        "drawn_layer": run.layers,
        "drawn_head": run.heads,
        "row": list(range(run.cells)),
        "column": list(range(run.cells)),
    }


def _describe(data: xr.Dataset, scene: Scene, coded: Encoded, prompt_id: str) -> None:
    """The prompt, and what computed."""
    known = {
        "task_name": scene.shard.run.task.label,
        "prompt_tokens": len(coded.ids),
        "prompt_id": prompt_id,
        "tail_start": coded.tail,
        "dtype": str(scene.model.dtype).removeprefix("torch."),
        "device": device_name(scene.model),
    }
    for name, value in known.items():
        data[name].values[0, 0] = value
    for e, (start, stop) in enumerate(coded.evidence):
        data["evidence_start"].values[0, 0, e] = start
        data["evidence_stop"].values[0, 0, e] = stop


def _lay_out(data: xr.Dataset, m: int, scene: Scene, method: Method) -> None:
    """What the rows and columns of a method's pictures stand for."""
    tail = scene.shard.run.methods[m].tail
    grid = scene.grid(method, tail)
    data["row_size"].values[m, 0] = grid.row_size
    data["column_size"].values[m, 0] = grid.column_size
    data["pairs"].values[m, 0] = grid.available()
    data["steps"].values[m, 0] = scene.steps(method, tail)


def _fill(data: xr.Dataset, cell: tuple[int, ...], plan: CellPlan, base: Method, scene: Scene) -> None:
    """Run one method at one sparsity and keep its pictures and densities."""
    plan.note(data, cell)
    if plan.setting is None:
        return
    pairs = data["pairs"].values[cell[1], 0]
    if plan.setting == DENSE:
        data["head_density"].values[cell] = 1.0
        data["share"].values[cell] = np.where(pairs > 0, 1.0, np.nan)
        return
    tail, method = plan.setting.tail, plan.setting.method
    run, heads = scene.shard.run, data.sizes["head"]
    watched = Watched(method, scene.grid(base, tail), tuple(run.layers), tuple(run.heads), heads)
    for layer, found in _densities(watched, tail, scene).items():
        data["head_density"].values[cell][layer] = np.repeat(found, heads // len(found))
    for place, layer in enumerate(run.layers):
        if layer in watched.seen:
            share = watched.seen[layer] / np.maximum(pairs, 1)
            data["share"].values[cell][place] = np.where(pairs > 0, share, np.nan)


def _densities(watched: Watched, tail: str, scene: Scene) -> dict[int, list[float]]:
    """Run the prompt under a method: layer -> attended density of its heads, or groups, or 1 for all."""
    run = scene.shard.run
    if watched.phase == "prefill":
        return head_densities(
            prefill(scene.model, [scene.prompt], watched, "dense", run.backend).trace, "prefill"
        )
    start = scene.start(tail)
    replies = decode(scene.model, start, watched, scene.limit, frozenset(), lambda ids: False, run.backend)
    return head_densities(replies.trace, "decode")
