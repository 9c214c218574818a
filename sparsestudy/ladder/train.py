"""Training one rung: a plain loop with AdamW, bf16 where there is a GPU, and one pass over fixed batches."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sparsestudy.ladder.curve import Curve
from sparsestudy.ladder.data import Batch, Batches
from sparsestudy.ladder.forward import Forward
from sparsestudy.ladder.initial import initial
from sparsestudy.ladder.rungs import Rung
from sparsestudy.ladder.stored import Stored

# Weight of the text's loss beside that of the replies.
TEXT = 0.3
WARMUP, DECAY = 100, 0.3
# Tokens between lines of the curve.
EVERY = 8_000_000
BETAS, WEIGHT_DECAY, CLIP = (0.9, 0.95), 0.05, 1.0


@dataclass(frozen=True)
class Recipe:
    """How a rung is trained.

    Args:
        rung: its shape and learning rate.
        batches: what it sees, in this order.
        seed: of the initial weights.
        warmup: steps.
        seconds: the loop ends by then at the latest; the learning rate falls with the share of batches or of
            this time, whichever is larger. A training that ends early says so.
        workers: processes that build batches; 0 builds them in this one.
        stored: a folder from which the batches come instead.
        every: tokens between lines of the curve.
        eager: whether nothing is compiled.
    """

    rung: Rung
    batches: Batches
    seed: int
    warmup: int = WARMUP
    seconds: float = math.inf
    workers: int = 0
    stored: Path | None = None
    every: int = EVERY
    eager: bool = False


@dataclass(frozen=True)
class Trained:
    """A trained model in fp32, and how it went.

    Args:
        model: in training mode, on its device.
        curve: lines of the curve.
        steps: that were taken.
        tokens: that were seen, padding included.
        seconds: wall time.
        ended_early: whether the time was over before the last batch.
    """

    model: Any
    curve: list[dict[str, Any]]
    steps: int
    tokens: int
    seconds: float
    ended_early: bool


def train(recipe: Recipe, device: str, curve: Path | None = None, shown: bool = True) -> Trained:
    """Train a rung.

    Args:
        recipe: how.
        device: "cpu" or "cuda".
        curve: file for the lines of the curve.
        shown: whether to print them, too.
    """
    cuda = device == "cuda"
    # Before the GPU is touched: the processes that build batches are forks of this one.
    batches = iter(_loader(recipe))
    model = initial(recipe.rung, recipe.seed).to(device)
    forward = Forward(model, compiled=cuda and not recipe.eager)
    optimizer = _optimizer(model, recipe.rung, cuda)
    log = _Log(Curve(curve), recipe.every, shown)
    total, rate = recipe.batches.total, recipe.rung.rate
    for batch in iter(lambda: log.waited_for(batches), None):
        share = max(log.tokens / total, log.seconds / recipe.seconds)
        if share >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = group["share"] * rate * factor(log.steps + 1, share, recipe.warmup)
        with torch.autocast(device, torch.bfloat16, enabled=cuda):
            text, reply, best = _losses(forward, batch, device)
        (TEXT * text + reply).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        log.add(batch, text.detach(), reply.detach(), best)
    log.write()
    return Trained(model, log.curve.lines, log.steps, log.tokens, log.seconds, log.tokens < total)


class _Log:
    """Counts steps and time, and writes a line of the curve now and then."""

    def __init__(self, curve: Curve, every: int, shown: bool) -> None:
        self.curve, self.every, self.shown = curve, every, shown
        self.steps = self.tokens = 0
        self._waited, self._written = 0.0, 0
        self._pending: list[tuple[Batch, Tensor, Tensor, Tensor]] = []
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.perf_counter() - self._start

    def waited_for(self, batches: Iterator[Batch]) -> Batch | None:
        """The next batch, if there is one; the time until it was there is counted."""
        start = time.perf_counter()
        batch = next(batches, None)
        self._waited += time.perf_counter() - start
        return batch

    def add(self, batch: Batch, text: Tensor, reply: Tensor, best: Tensor) -> None:
        """Count a step; what is on the GPU stays there until a line is written, so that nothing waits."""
        self.steps += 1
        self.tokens += batch.ids.size
        self._pending.append((batch, text, reply, best))
        if self.tokens - self._written >= self.every:
            self.write()

    def write(self) -> None:
        """Write a line about the steps since the last one."""
        if not self._pending:
            return
        for batch, _, _, best in self._pending:
            self.curve.add(batch, best.cpu().numpy())
        mean = torch.stack([torch.stack([text, reply]) for _, text, reply, _ in self._pending]).mean(0)
        line = self.curve.write(
            step=self.steps,
            tokens=self.tokens,
            seconds=round(self.seconds, 1),
            waited=round(self._waited, 1),
            text_loss=round(float(mean[0]), 4),
            reply_loss=round(float(mean[1]), 4),
        )
        self._pending, self._written = [], self.tokens
        if self.shown:
            print(json.dumps(line), flush=True)


def factor(step: int, share: float, warmup: int) -> float:
    """The learning rate as a share of its highest: a rise, a plateau, and a straight fall to zero."""
    return min(step / max(warmup, 1), 1.0) * min((1 - share) / DECAY, 1.0)


def _optimizer(model: Any, rung: Rung, fused: bool) -> torch.optim.AdamW:
    """AdamW; norms, embeddings, and what the first layer looks at are not decayed.

    With the rate of the others, embeddings turn by their own length within some tens of steps: then the heads
    that look at the tokens just before are lost, those of the first layer copy any value of the text, and a
    value is not found by its key for hundreds of millions of tokens.
    """
    first, embeddings = model.model.layers[0].self_attn, model.model.embed_tokens.weight
    looks = [first.q_proj.weight, first.k_proj.weight]
    apart = {id(weight) for weight in (embeddings, *looks)}
    rest = [p for p in model.parameters() if id(p) not in apart]
    groups = [
        {"params": [p for p in rest if p.dim() > 1], "weight_decay": WEIGHT_DECAY, "share": 1.0},
        {"params": [p for p in rest if p.dim() == 1], "weight_decay": 0.0, "share": 1.0},
        {"params": [embeddings], "weight_decay": 0.0, "share": rung.slow},
        {"params": looks, "weight_decay": 0.0, "share": rung.first},
    ]
    return torch.optim.AdamW(groups, betas=BETAS, fused=fused)


def _losses(forward: Forward, batch: Batch, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Mean loss of the text, of the replies, and the likeliest tokens of the replies."""
    ids = torch.from_numpy(batch.ids).to(device, non_blocking=True)
    flat = ids.flatten().long()
    hidden = forward(ids)
    found = []
    for places in (batch.context, batch.answers):
        at = torch.from_numpy(places).to(device, non_blocking=True)
        logits = forward.logits(hidden, at)
        # A batch of nothing but pairs has no text to learn.
        loss = F.cross_entropy(logits, flat[at + 1]) if len(places) else hidden.sum() * 0
        found.append((loss, logits))
    return found[0][0], found[1][0], found[1][1].detach().argmax(-1).to(torch.int32)


def _loader(recipe: Recipe) -> Any:
    """Batches in their order, built ahead by other processes, or read from files.

    They come as arrays through pipes: as tensors they would need shared memory, which containers limit.
    """
    if recipe.stored:
        return Stored(recipe.batches, recipe.stored)
    return torch.utils.data.DataLoader(
        recipe.batches,  # type: ignore[arg-type]
        batch_size=None,
        shuffle=False,
        num_workers=recipe.workers,
        prefetch_factor=4 if recipe.workers else None,
        collate_fn=_same,
    )


def _same(batch: Any) -> Any:
    """The batch as it was built: arrays, no tensors."""
    return batch
