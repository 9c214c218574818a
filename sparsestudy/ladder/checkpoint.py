"""A trained rung as an ordinary checkpoint with its card, written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparsestudy import paths
from sparsestudy.ladder.card import describe
from sparsestudy.weights import manifest

WEIGHTS, CARD = "model.safetensors", "card.json"


def save(model: Any, tokenizer: Any, folder: Path, card: dict[str, Any], curve: Sequence[Any]) -> Path:
    """Write weights in bf16, config, tokenizer, ``card.json``, ``curve.jsonl`` and ``README.md``.

    A folder of that name is replaced; until then it stays as it is.

    Args:
        model: a ``LlamaForCausalLM``; it is turned to bf16.
        tokenizer: the ladder's.
        folder: appears when everything is written.
        card: what is known about the training; the weights' sha256 and size are read from the file.
        curve: lines of the training curve.

    Returns:
        The folder.
    """
    import torch

    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        model.to(torch.bfloat16).save_pretrained(work)
        tokenizer.save_pretrained(work)
        weights = work / WEIGHTS
        card = {**card, "bytes": weights.stat().st_size}
        card["model"] = {**card["model"], "sha256": manifest.sha256(weights)}
        lines = "".join(f"{json.dumps(line)}\n" for line in curve)
        (work / "curve.jsonl").write_text(lines, encoding="utf-8")
        _describe(work, card)
        work.chmod(0o755)
        weights.chmod(0o644)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def note(folder: Path, scores: Sequence[dict[str, Any]]) -> None:
    """Put the scores of a checkpoint into its card."""
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    _describe(folder, {**card, "scores": list(scores)})


def _describe(folder: Path, card: dict[str, Any]) -> None:
    """Write the card as data and as text."""
    paths.write_text(folder / CARD, json.dumps(card, indent=1) + "\n")
    paths.write_text(folder / "README.md", describe(card))
