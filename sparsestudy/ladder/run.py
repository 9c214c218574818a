"""From a request on the command line to a checkpoint: train, evaluate, write."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsestudy.errors import StudyError
from sparsestudy.ladder.card import LICENCE, LICENCE_URL
from sparsestudy.ladder.checkpoint import note, save
from sparsestudy.ladder.curve import thinned
from sparsestudy.ladder.data import CURRENT, LEARNED, Batches
from sparsestudy.ladder.mixture import MIXTURE, NAMES, Variant, variants
from sparsestudy.ladder.rungs import CONTEXT, NANO, TRAINING, Rung, changed, rung
from sparsestudy.ladder.schedule import MANY, Schedule
from sparsestudy.ladder.score import SAMPLES, SCORED, scores, shown
from sparsestudy.ladder.tokenizer import build
from sparsestudy.ladder.train import DECAY, EVERY, TEXT, WARMUP, Recipe, Trained, train
from sparsestudy.provenance import commit

# The same for all rungs: pairs alone, then drills among the samples of the tasks, fewer as texts grow.
SCHEDULE = Schedule.parse(
    "32:8:1,128:48:0.6,256:48:0.5,512:96:0.5,1024:80:0.4,2048:64:0.3,4096:64:0.1,8192:48,16384:32", short=2048
)
# The smallest rung is for tests: needles in 128 tokens, 16 rows a step, about a minute on two cores.
NANO_SCHEDULE, NANO_SHRINK, NANO_SAMPLES = Schedule.parse("32:0.6:1,128:1.2:0.5"), 64, {128: 32}
NANO_TASKS = ("needle",)


@dataclass(frozen=True)
class Request:
    """What the command line asks for; see ``python -m sparsestudy.ladder train --help``."""

    rung: str
    seed: int
    out: Path
    seconds: float
    workers: int
    schedule: str | None = None
    set: str | None = None
    tasks: str | None = None
    scored: str | None = None
    eager: bool = False
    short: int | None = None
    batches: Path | None = None

    @property
    def command(self) -> str:
        """The command that asks for the same."""
        parts = ["python", "-m", "sparsestudy.ladder", "train", "--rung", self.rung, "--seed", str(self.seed)]
        for name in ("schedule", "short", "set", "tasks"):
            if getattr(self, name) is not None:
                parts += [f"--{name}", str(getattr(self, name))]
        return shlex.join([*parts, "--out", "models"])


def run(request: Request) -> Path:
    """Train a rung, evaluate it, and write its checkpoint.

    Returns:
        The folder of the checkpoint.

    Raises:
        StudyError: no such rung, or a schedule that cannot be read.
    """
    import torch

    recipe = recipe_of(request)
    lengths(request.scored)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    shape, small = recipe.rung, request.rung == NANO.name
    request.out.mkdir(parents=True, exist_ok=True)
    curve = request.out / f"{shape.name}-seed{request.seed}.jsonl"
    curve.unlink(missing_ok=True)
    trained = train(recipe, device, curve)
    folder = request.out / shape.name
    chosen = [variant for variant in SCORED if variant.name in recipe.batches.tasks]
    lines = thinned(trained.curve, [variant.label for variant in chosen])
    save(trained.model, build(CONTEXT), folder, card(request, recipe, trained, device), lines)
    # What was trained is kept before it is scored, and scored as it ships: the frequencies of the rotary
    # embedding would be rounded with the weights, and beyond 4k tokens nothing would be found any more.
    found = score_folder(folder, NANO_SAMPLES if small else lengths(request.scored), chosen)
    note(folder, found)
    print(shown(found), flush=True)
    return folder


def recipe_of(request: Request) -> Recipe:
    """The recipe of a rung, with what the request changes.

    Raises:
        StudyError: no such rung or task, or a schedule that cannot be read.
    """
    shape = changed(rung(request.rung), request.set or "")
    small = shape.name == NANO.name
    batches = batches_of(request.seed, request.schedule, request.short, request.tasks, small)
    return Recipe(
        shape,
        batches,
        request.seed,
        warmup=50 if small else WARMUP,
        seconds=request.seconds,
        workers=request.workers,
        stored=request.batches,
        eager=request.eager,
        every=100_000 if small else EVERY,
    )


def batches_of(
    seed: int, schedule: str | None, short: int | None, tasks: str | None, small: bool = False
) -> Batches:
    """The batches of all rungs, or of the smallest, with another schedule or other tasks.

    Raises:
        StudyError: no such task, or a schedule that cannot be read.
    """
    usual = NANO_SCHEDULE if small else SCHEDULE
    parsed = Schedule.parse(schedule or str(usual), usual.short if short is None else short)
    names = tuple(tasks.split(",")) if tasks else NANO_TASKS if small else NAMES
    for name in names:
        variants(name)
    return Batches(parsed, seed, names, NANO_SHRINK if small else 1)


def card(request: Request, recipe: Recipe, trained: Trained, device: str) -> dict[str, Any]:
    """What is known about a trained rung, as the card holds it."""
    import torch
    import transformers

    shape: Rung = recipe.rung
    named = torch.cuda.get_device_name() if device == "cuda" else f"CPU ({platform.machine()})"
    return {
        "name": shape.name,
        "model": {
            "architecture": f"Llama, {shape.layers} layers, {shape.heads} query and {shape.heads // 2} "
            f"key-value heads of dimension {shape.head_dim}",
            "parameters": shape.architecture.parameters,
            "context": CONTEXT if shape.name != NANO.name else recipe.batches.schedule.stages[-1].length,
            "licence": LICENCE,
            "licence_url": LICENCE_URL,
        },
        "layers": shape.layers,
        "hidden": shape.hidden,
        "inner": shape.inner,
        "heads": shape.heads,
        "kv_heads": shape.heads // 2,
        "head_dim": shape.head_dim,
        "vocabulary": shape.architecture.vocabulary,
        "task_names": ", ".join(recipe.batches.tasks),
        "mixture": {v.label: v.weight for v in MIXTURE if v.name in recipe.batches.tasks},
        "schedule": str(recipe.batches.schedule),
        "shortest": recipe.batches.schedule.stages[0].length,
        "step_tokens": MANY // recipe.batches.shrink,
        "short": recipe.batches.schedule.short,
        "current": CURRENT,
        "learned": LEARNED,
        "text": TEXT,
        **{name: getattr(shape, name) for name in TRAINING},
        "warmup": recipe.warmup,
        "decay": DECAY,
        "precision": "bf16 autocast" if device == "cuda" else "fp32",
        "seed": request.seed,
        "steps": trained.steps,
        "tokens": trained.tokens,
        "ended_early": trained.ended_early,
        "seconds": round(trained.seconds, 1),
        "tokens_per_second": round(trained.tokens / trained.seconds),
        "device": named,
        "command": request.command,
        "commit": commit(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "scores": [],
    }


def lengths(text: str | None) -> dict[int, int]:
    """How many samples are scored at each length: all of the cards', or some of them.

    Raises:
        StudyError: other lengths, or no numbers.
    """
    if text is None:
        return SAMPLES
    if not set(text.split(",")) <= {str(length) for length in SAMPLES}:
        raise StudyError(f"Lengths that can be scored are {', '.join(map(str, SAMPLES))}, not '{text}'.")
    return {int(length): SAMPLES[int(length)] for length in text.split(",")}


def score_folder(
    folder: Path, samples: dict[int, int], chosen: Sequence[Variant] = SCORED
) -> list[dict[str, Any]]:
    """Scores of a checkpoint, with so many samples at each length."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return scores(model.to(device).eval().requires_grad_(False), tokenizer, samples, chosen)
