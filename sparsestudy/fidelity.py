"""How close sparse attention stays to dense attention on natural text, which asks no ability of the model.

Methods that are sparse in prefill read whole texts; every position counts. For those that are sparse in
decode the text is read densely and a continuation of it is fed as decode steps, whose predictions count.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sparsestudy import dataset as ds
from sparsestudy.backends import names
from sparsestudy.batch_size import batch_size
from sparsestudy.calibration import Calibration
from sparsestudy.collect import device_name
from sparsestudy.fidelity_schema import FIDELITY
from sparsestudy.forced import distances, prompt_logits, step_logits
from sparsestudy.generate import Prefilled, Prompt, head_densities, observation, prefill
from sparsestudy.labels import method_labels, model_labels
from sparsestudy.methods.base import Method
from sparsestudy.progress import Display, Progress, duration
from sparsestudy.prose import passages
from sparsestudy.recall import Observer, bin_edges
from sparsestudy.seeds import short_hash
from sparsestudy.settings import DENSE, CellPlan, Setting, plan_cells
from sparsestudy.trace import Step, Trace

if TYPE_CHECKING:
    import xarray as xr

    from sparsestudy.fidelity_parameters import FidelityParameters
    from sparsestudy.shards import ShardOf

Array = np.ndarray[Any, Any]


@dataclass
class Found:
    """What one setting did to the texts so far, batch after batch.

    Attributes:
        loss: next-token losses ``(texts, bins)`` of each batch.
        kl: divergences, likewise.
        recall: shares of attention kept, likewise, layers and heads averaged.
        density: attended densities ``(texts,)`` of each batch.
        heads: attended densities ``(layers, heads)``, mean over the batch, and its texts.
        head_recall: recalls ``(layers, heads)``, mean over the batch, and its texts.
    """

    loss: list[Array] = field(default_factory=list)
    kl: list[Array] = field(default_factory=list)
    recall: list[Array] = field(default_factory=list)
    density: list[Array] = field(default_factory=list)
    heads: list[tuple[Array, int]] = field(default_factory=list)
    head_recall: list[tuple[Array, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Bench:
    """Texts before a model, and what was found.

    Args:
        shard: model and length.
        model: the shard's model, on its device.
        tokens: ids ``(texts, length + steps + 1)``.
        settings: what to run, dense left out.
        found: by setting; dense stands under `DENSE` for the prompt and under "steps" for the continuation.
    """

    shard: ShardOf[FidelityParameters]
    model: Any
    tokens: Tensor
    settings: list[Setting]
    found: dict[Any, Found]

    @property
    def length(self) -> int:
        """Tokens of a text that are read as a prompt."""
        return self.shard.length

    def of_phase(self, phase: str) -> list[Setting]:
        """The settings that are sparse in a phase."""
        return [setting for setting in self.settings if setting.phase == phase]

    def shape(self) -> tuple[int, int]:
        """Layers and query heads of the model."""
        config = self.model.config.get_text_config()
        return config.num_hidden_layers, config.num_attention_heads

    def note(self, key: Any, distance: tuple[Tensor, Tensor], trace: Trace, phase: Step) -> None:
        """Keep losses and divergences ``(batch, places)``, and densities of one batch."""
        found = self.found.setdefault(key, Found())
        loss, kl = (_binned(values, self.shard.run.bins) for values in distance)
        found.loss.append(loss)
        found.kl.append(kl)
        found.density.append(trace.row_density(phase).cpu().numpy())
        found.heads.append((_by_head(head_densities(trace, phase), self.shape()), len(loss)))


def capture(shard: ShardOf[FidelityParameters], model: Any, tokenizer: Any) -> xr.Dataset:
    """Read the texts under every method at every sparsity; see :mod:`sparsestudy.fidelity_schema`.

    Args:
        shard: model and length.
        model: the shard's model, on its device.
        tokenizer: its tokenizer.

    Raises:
        StudyError: the texts are too short for so many passages of this length.
    """
    run = shard.run
    texts = passages(tokenizer, shard.length + run.steps + 1, run.texts, run.seed)
    methods: list[Method] = [spec.build() for spec in run.methods]
    backends = names(run.backend, model, methods)
    calibration = Calibration(shard, model, tokenizer, methods)
    plans = plan_cells(shard, run.steps + 1, calibration.at)
    tokens = torch.tensor([text.ids for text in texts], device=model.device)
    settings = list(dict.fromkeys(p.setting for p in plans.values() if p.setting and p.setting != DENSE))
    bench = Bench(shard, model, tokens, settings, {})
    _run(bench)
    data = ds.blank(_coordinates(bench), FIDELITY)
    for cell, plan in plans.items():
        _fill(data, cell, plan, bench)
    for i, text in enumerate(texts):
        data["text_title"].values[0, 0, i] = text.book
        data["text_id"].values[0, 0, i] = short_hash(json.dumps(text.ids))
    data["dtype"].values[:] = str(model.dtype).removeprefix("torch.")
    data["device"].values[:] = device_name(model)
    data["backend"].values[0] = np.reshape(backends, (-1, 1))
    return data


def _run(bench: Bench) -> None:
    """Every setting on every text, some texts at a time."""
    label = f"{bench.shard.model} at {bench.length}, fidelity"
    progress = Progress(len(bench.tokens) * max(1, len(bench.settings)), label)
    begin = time.monotonic()
    for number, tokens in enumerate(bench.tokens.split(batch_size(bench.shard))):
        start, dense_steps = _observe(bench, tokens)
        # One text at a time: the dense logits of a text of 1k tokens are 200 MB.
        for row in tokens.split(1):
            _read_prompt(bench, row, progress)
        for setting in bench.of_phase("decode"):
            _read_steps(bench, tokens, start, dense_steps, setting)
            progress.advance(len(tokens))
        rest = len(bench.tokens) / len(tokens) - 1
        if number == 0 and rest > 0:
            left = duration(rest * (time.monotonic() - begin))
            Display().say(f"{label}: predicted time for the other texts: {left}")


def _observe(bench: Bench, tokens: Tensor) -> tuple[Prefilled, Tensor]:
    """The dense passes over some texts, with the recall of every setting noted on the way.

    Returns:
        The prefilled texts, and the dense logits of the steps ``(batch, steps, vocabulary)``.
    """
    run, length = bench.shard.run, bench.length
    methods = tuple(setting.method for setting in bench.settings)
    prompts = [Prompt(ids, length) for ids in tokens[:, :length].tolist()]
    observer = Observer(methods, run.bins, run.steps)
    start = prefill(
        bench.model, prompts, observer, "dense", run.backend, max(1, observation(methods, prompts))
    )
    logits, trace = step_logits(bench.model, start, tokens[:, length:-1], observer, run.backend)
    bench.note("steps", distances(logits, logits, tokens[:, length + 1 :]), trace, "decode")
    for place, setting in enumerate(bench.settings):
        queries = length if setting.phase == "prefill" else run.steps
        shares = observer.recall(place, queries)
        found = bench.found.setdefault(setting, Found())
        by_layer = {layer: share.mean((0, 2)).tolist() for layer, share in shares.items()}
        found.head_recall.append((_by_head(by_layer, bench.shape()), len(tokens)))
        found.recall.append(torch.stack([share.mean(1) for share in shares.values()]).mean(0).cpu().numpy())
    return start, logits


def _read_prompt(bench: Bench, tokens: Tensor, progress: Progress) -> None:
    """One text ``(1, tokens)`` as a prompt, dense and under each setting that is sparse in prefill."""
    length, backend = bench.length, bench.shard.run.backend
    prompt, targets = tokens[:, :length], tokens[:, 1 : length + 1]
    dense, trace = prompt_logits(bench.model, prompt, DENSE.method, backend)
    bench.note(DENSE, distances(dense, dense, targets), trace, "prefill")
    for setting in bench.of_phase("prefill"):
        logits, trace = prompt_logits(bench.model, prompt, setting.method, backend)
        bench.note(setting, distances(dense, logits, targets), trace, "prefill")
        progress.advance(1)


def _read_steps(bench: Bench, tokens: Tensor, start: Prefilled, dense: Tensor, setting: Setting) -> None:
    """The continuation of some texts under a setting that is sparse in decode."""
    fed, targets = tokens[:, bench.length : -1], tokens[:, bench.length + 1 :]
    logits, trace = step_logits(bench.model, start, fed, setting.method, bench.shard.run.backend)
    bench.note(setting, distances(dense, logits, targets), trace, "decode")


def _binned(values: Tensor, bins: int) -> Array:
    """Means of ``(batch, places)`` over equal runs of places, ``(batch, bins)``."""
    edges = bin_edges(values.shape[1], bins)
    parts = [values[:, a:b].mean(1) for a, b in pairwise(edges)]
    return torch.stack(parts, 1).cpu().numpy()


def _by_head(found: dict[int, list[float]], shape: tuple[int, int]) -> Array:
    """Values of sparsified layers, each for all heads, groups or query heads, as ``(layers, heads)``."""
    table = np.full(shape, np.nan)
    for layer, values in found.items():
        table[layer] = np.repeat(values, shape[1] // len(values))
    return table


def _mean(parts: list[tuple[Array, int]]) -> Array:
    """The mean over all texts of means over some of them."""
    values, texts = zip(*parts, strict=True)
    return np.average(values, axis=0, weights=texts)


def _coordinates(bench: Bench) -> dict[str, Any]:
    run, (layers, heads) = bench.shard.run, bench.shape()
    return {
        **model_labels(bench.shard.model),
        **method_labels(run),
        "sparsity": run.sparsities,
        "length": [bench.length],
        "sample": list(range(run.texts)),
        "bin": list(range(run.bins)),
        "layer": list(range(layers)),
        "head": list(range(heads)),
    }


def _fill(data: xr.Dataset, cell: tuple[int, int], plan: CellPlan, bench: Bench) -> None:
    """Put what one method did at one sparsity into the dataset."""
    (m, s), run = cell, bench.shard.run
    decodes = str(data["method_phase"].values[m]) == "decode"
    reference = bench.found["steps" if decodes else DENSE]
    edges = np.array(bin_edges(run.steps if decodes else bench.length, run.bins))
    edges += bench.length if decodes else 0
    data["bin_start"].values[m, 0], data["bin_stop"].values[m, 0] = edges[:-1], edges[1:]
    data["dense_loss"].values[0, m, 0] = np.concatenate(reference.loss)
    at = (0, m, s, 0)
    plan.note(data, at)
    if plan.setting is None:
        return
    dense = plan.setting == DENSE
    found = reference if dense else bench.found[plan.setting]
    data["loss"].values[at] = np.concatenate(found.loss)
    data["kl"].values[at] = np.concatenate(found.kl)
    data["recall"].values[at] = 1.0 if dense else np.concatenate(found.recall)
    data["attended_density"].values[at] = np.concatenate(found.density)
    data["head_density"].values[at] = _mean(found.heads)
    data["head_recall"].values[at] = _mean(found.heads) if dense else _mean(found.head_recall)
