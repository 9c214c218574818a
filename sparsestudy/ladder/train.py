"""Training one rung: a plain loop with AdamW, bf16 where there is a GPU, and one pass over fixed batches."""

from __future__ import annotations

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
from sparsestudy.ladder.rungs import Rung

# Weight of the text's loss beside that of the replies.
TEXT = 0.3
WARMUP, DECAY = 200, 0.3
BETAS, WEIGHT_DECAY, CLIP = (0.9, 0.95), 0.05, 1.0


@dataclass(frozen=True)
class Recipe:
    """How a rung is trained.

    Args:
        rung: its shape and learning rate.
        batches: what it sees, in this order.
        seed: of the initial weights.
        rate: highest learning rate; that of the rung by default.
        warmup: steps.
        seconds: the loop ends by then at the latest; the learning rate falls with the share of batches or of
            this time, whichever is larger. A training that ends early says so.
        workers: processes that build batches; 0 builds them in this one.
        every: steps between lines of the curve.
        eager: whether nothing is compiled.
    """

    rung: Rung
    batches: Batches
    seed: int
    rate: float = 0.0
    warmup: int = WARMUP
    seconds: float = math.inf
    workers: int = 0
    every: int = 25
    eager: bool = False


@dataclass(frozen=True)
class Trained:
    """A trained model in fp32, and how it went."""

    model: Any
    curve: list[dict[str, Any]]
    steps: int
    tokens: int
    seconds: float


def train(recipe: Recipe, device: str, curve: Path | None = None, shown: bool = True) -> Trained:
    """Train a rung.

    Args:
        recipe: how.
        device: "cpu" or "cuda".
        curve: file for the lines of the curve.
        shown: whether to print them, too.
    """
    cuda = device == "cuda"
    batches = iter(_loader(recipe))
    model = initial(recipe.rung, recipe.seed).to(device)
    forward = Forward(model, compiled=cuda and not recipe.eager)
    optimizer = _optimizer(model, cuda)
    lines, pending = Curve(curve), []
    total, rate = len(recipe.batches), recipe.rate or recipe.rung.rate
    losses: list[tuple[Tensor, Tensor]] = []
    start = time.perf_counter()
    step = waited = 0.0
    for step, batch in enumerate(_timed(batches), 1):
        waited += batch[1]
        share = max((step - 1) / total, (time.perf_counter() - start) / recipe.seconds)
        if share >= 1:
            step -= 1
            break
        for group in optimizer.param_groups:
            group["lr"] = rate * factor(step, share, recipe.warmup)
        with torch.autocast(device, torch.bfloat16, enabled=cuda):
            text, reply, best = _losses(forward, batch[0], device)
        (TEXT * text + reply).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append((text.detach(), reply.detach()))
        pending.append((batch[0], best))
        if step % recipe.every == 0 or step == total:
            # The only moments at which the processor waits for the GPU.
            for one, tokens in pending:
                lines.add(one, tokens.cpu().numpy())
            mean = torch.tensor([[float(a), float(b)] for a, b in losses]).mean(0)
            line = lines.write(
                step=step,
                tokens=step * recipe.batches.tokens,
                seconds=round(time.perf_counter() - start, 1),
                waited=round(waited, 1),
                text_loss=round(float(mean[0]), 4),
                reply_loss=round(float(mean[1]), 4),
            )
            pending, losses = [], []
            if shown:
                print(line, flush=True)
    seconds = time.perf_counter() - start
    return Trained(model, lines.lines, int(step), int(step) * recipe.batches.tokens, seconds)


def initial(rung: Rung, seed: int) -> Any:
    """The untrained model; what writes into the residual stream begins smaller, by the depth."""
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    model = LlamaForCausalLM(rung.config())
    with torch.no_grad():
        for layer in model.model.layers:
            for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
                projection.weight /= math.sqrt(2 * rung.layers)
    return model.train()


def factor(step: int, share: float, warmup: int) -> float:
    """The learning rate as a share of its highest: a rise, a plateau, and a straight fall to zero."""
    return min(step / max(warmup, 1), 1.0) * min((1 - share) / DECAY, 1.0)


def _optimizer(model: Any, fused: bool) -> torch.optim.AdamW:
    """AdamW; norms are not decayed."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    norms = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": norms, "weight_decay": 0.0}]
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
        found.append((F.cross_entropy(logits, flat[at + 1]), logits))
    return found[0][0], found[1][0], found[1][1].detach().argmax(-1).to(torch.int32)


def _loader(recipe: Recipe) -> Any:
    """Batches in their order, built ahead by other processes.

    They come as arrays through pipes: as tensors they would need shared memory, which containers limit.
    """
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


def _timed(batches: Iterator[Batch]) -> Iterator[tuple[Batch, float]]:
    """Each batch with the seconds it was waited for."""
    while True:
        start = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - start
