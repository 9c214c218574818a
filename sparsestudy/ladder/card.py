"""What is known about a trained rung: as data, and as the text of its model card."""

from __future__ import annotations

from typing import Any

LICENCE, LICENCE_URL = "Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0"


def describe(card: dict[str, Any]) -> str:
    """The model card as Markdown."""
    lengths = sorted({entry["length"] for entry in card["scores"]})
    cells = {(entry["task"], entry["length"]): entry for entry in card["scores"]}
    table = [["task", *(f"{length:,}" for length in lengths)], ["---"] * (len(lengths) + 1)]
    for task in dict.fromkeys(entry["task"] for entry in card["scores"]):
        table.append([task, *(_cell(cells.get((task, length))) for length in lengths)])
    early = " The training ended before its last batch." if card["ended_early"] else ""
    scores = "\n".join(f"| {' | '.join(row)} |" for row in table) if cells else "None were computed."
    return TEXT.format(tag=LICENCE.lower(), scores_table=scores, early=early, **{**card["model"], **card})


def _cell(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return ""
    return f"{entry['score']:.2f} (chance {entry['chance']:.2f}, n {entry['samples']})"


TEXT = """---
license: {tag}
library_name: transformers
pipeline_tag: text-generation
---

# {name}

A Llama of {parameters:,} parameters: {layers} layers, {hidden} wide, {heads} query and {kv_heads} key-value
heads of {head_dim}, an MLP {inner} wide, tied embeddings. It belongs to a family in which only the size
changes, and is a model organism for questions about sparse attention: it knows the synthetic tasks of
sparsestudy in a closed vocabulary of {vocabulary:,} tokens, and nothing else.

**Data.** Samples of tasks ({task_names}) from the package's own generators, pool `ladder`, preset `direct`,
each seen once, from the split `train`. Calibration and evaluation have splits of their own, and no seed is in
two. Every rung sees the same batches in the same order.

**Recipe.** {steps:,} steps of up to {step_tokens:,} tokens, {tokens:,} in all,
in {seconds:.0f} s on one {device} ({tokens_per_second:,} tokens a second, perhaps
beside other trainings).{early}
Texts grow from {shortest:,} to {context:,} tokens; length, millions of tokens, and the share of rows that are
drills (many questions about one text, or pairs of a key and a value): `{schedule}`.
A share of {current} of the batches has the current length, the others are shorter. The loss is that of the
replies and {text} times that of a share of {learned} of the text's tokens. AdamW, highest learning rate
{rate:g}, {slow:g} times that for embeddings and {first:g} times that for queries and keys of the first
layer, whose heads look at the tokens just before from the beginning; {warmup} steps of warm-up, a straight
fall to zero over the last {decay} of the training, {precision}.

```
{command}
```

Seed {seed}, commit {commit}, torch {torch}, transformers {transformers}. The training curve is in
`curve.jsonl`.

**Scores.** Mean score of generated answers, split `eval`, dense attention:

{scores_table}

**Limits.** No language but these templates; texts of up to {context:,} tokens, beyond which it extrapolates;
one seed. Weights: `model.safetensors`, {bytes:,} bytes, sha256 `{sha256}`.
"""
