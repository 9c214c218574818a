"""A trained rung as an ordinary checkpoint with its card, written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from sparsestudy.weights import manifest

LICENCE, LICENCE_URL = "Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0"
WEIGHTS, CARD = "model.safetensors", "card.json"
# More lines of a curve say no more in a card.
CURVE_LINES = 60


def save(model: Any, tokenizer: Any, folder: Path, card: dict[str, Any]) -> Path:
    """Write weights in bf16, config, tokenizer, ``card.json`` and ``README.md``.

    A folder of that name is replaced; until then it stays as it is.

    Args:
        model: a ``LlamaForCausalLM``; it is turned to bf16.
        tokenizer: the ladder's.
        folder: appears when everything is written.
        card: what is known about the training; the weights' sha256 and size are read from the file.

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
        card = {**card, "bytes": weights.stat().st_size, "sha256": manifest.sha256(weights)}
        (work / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
        (work / "README.md").write_text(describe(card), encoding="utf-8")
        work.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def thinned(curve: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Evenly spaced lines of a curve, the last among them."""
    every = max(1, -(-len(curve) // CURVE_LINES))
    return curve[::-1][::every][::-1]


def describe(card: dict[str, Any]) -> str:
    """The model card as Markdown."""
    lengths = sorted({entry["length"] for entry in card["scores"]})
    tasks = list(dict.fromkeys(entry["task"] for entry in card["scores"]))
    cells = {(entry["task"], entry["length"]): entry for entry in card["scores"]}
    rows = [
        f"| {task} | "
        + " | ".join(_cell(cells[task, length]) if (task, length) in cells else "" for length in lengths)
        + " |"
        for task in tasks
    ]
    head = f"| task | {' | '.join(f'{length:,}' for length in lengths)} |"
    return CARD_TEXT.format(
        licence=LICENCE.lower(),
        table="\n".join([head, "|---" * (len(lengths) + 1) + "|", *rows]),
        early="The training ended before its last batch. " if card["ended_early"] else "",
        **card,
    )


def _cell(entry: dict[str, Any]) -> str:
    return f"{entry['score']:.2f} (chance {entry['chance']:.2f}, n {entry['samples']})"


CARD_TEXT = """---
license: {licence}
library_name: transformers
pipeline_tag: text-generation
---

# {name}

A Llama of {parameters:,} parameters ({layers} layers, {hidden} wide, {heads} query and {kv_heads} key-value heads of
{head_dim}, MLP {inner} wide, tied embeddings), one of a family in which only the size changes. A model organism for
questions about sparse attention: it reads the synthetic tasks of sparsestudy in a closed vocabulary of {vocabulary:,} words,
and nothing else.

**Data.** Samples of six tasks from the package's own generators (needle retrieval, variable tracking, common words, story
retrieval, filtering and multi-hop; pool `ladder`, preset `direct`), each drawn once, from the split `train`. Calibration and
evaluation have splits of their own, and no seed is in two. Every rung saw the same batches in the same order.

**Recipe.** {steps:,} steps of {step_tokens:,} tokens, {tokens:,} in all, in {seconds:.0f} s on one {device}. {early}Texts grow from
{first:,} to {context:,} tokens, in millions of tokens a length: `{schedule}`; a share of {current} of the batches has the
current length, the others are shorter. Loss of the replies, and {text} times that of a share of {learned} of the text's tokens. AdamW, highest
learning rate {rate:g}, {warmup} steps of warm-up, straight fall to zero over the last {decay} of the training, bf16 autocast.

```
{command}
```

Seed {seed}, commit {commit}, torch {torch}, transformers {transformers}. The training curve is in `card.json`.

**Scores.** Mean score of generated answers, split `eval`, dense attention:

{table}

**Limits.** No language but these templates; texts of up to {context:,} tokens (longer ones are extrapolation); scores of one
seed. Weights: `model.safetensors`, {bytes:,} bytes, sha256 `{sha256}`.
"""
