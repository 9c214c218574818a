"""Worked examples for the page on rerunning: written from what is published and what is registered.

They name lengths, sparsities and models that are new, so a reader can paste them as they are.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pandas as pd

from sparsestudy import words
from sparsestudy.models import REGISTRY
from sparsestudy.parameters import AccuracyParameters
from sparsestudy.tasks import TASKS
from sparsestudy.tasks.base import Task
from sparsestudy.view import Run


def build(runs: list[Run]) -> dict[str, str]:
    """Markdown for each example, by name: length, sparsities, model, file, papermill."""
    default = AccuracyParameters()
    known = default.models[0]
    lengths = {int(value) for run in runs for value in run.data["length"].values} or set(default.lengths)
    sparsities = {int(value) for run in runs for value in run.data["sparsity"].values} or set(
        default.sparsities
    )
    models = {str(value) for run in runs for value in run.data["model"].values} | {known}
    length = _new_length(lengths, REGISTRY[known].context)
    fresh = _new_sparsities(sparsities)
    model = next(
        (name for name in REGISTRY if name not in models and REGISTRY[name].source == "wheel"), known
    )
    entry = REGISTRY[model]
    return {
        "length": _make("longer", {"lengths": [length], "sparsities": [0, 900]})
        + f"\n\nThe published lengths are {words.listed(f'{n:,}' for n in sorted(lengths))} tokens. A length "
        f"above the model's context ({REGISTRY[known].context:,} tokens for `{known}`) is refused unless "
        "`allow_extrapolation: true` stands beside it.",
        "sparsities": _make("finer", {"sparsities": [0, *fresh], "lengths": [min(lengths)]})
        + "\n\nKeep 0 in the list: it is the dense run that every other setting is compared with on the same "
        "prompts. A sparsity that a method cannot reach at a length is recorded as unreachable, with the "
        "lowest density that it can reach.",
        "model": _make("other-model", {"models": [model], "lengths": [min(lengths)], "samples": 10})
        + f"\n\n`{model}` has {entry.parameters / 1e6:,.0f} million parameters and a context of "
        f"{entry.context:,} tokens. Its weights ({_megabytes(entry)}) are fetched once, checked and kept; "
        f"the licence is {entry.licence}"
        + (f" ([text]({entry.licence_url}))." if entry.licence_url else ".")
        + (" Naming the model accepts its terms." if entry.terms else ""),
        "file": _file(length),
        "papermill": "```bash\n" + _papermill(length) + "\n```",
    }


def _new_length(published: set[int], context: int) -> int:
    """The first power of two above the published lengths, or a length between them when that is too long."""
    longer = 1 << max(published).bit_length()
    if longer <= context:
        return longer
    return next(n for n in range(min(published) * 3 // 2, context, 64) if n not in published)


def _new_sparsities(published: set[int]) -> list[int]:
    wanted = (600, 700, 750, 850, 970, 980, 550, 650)
    return sorted([value for value in wanted if value not in published][:3])


def _flow(parameters: dict[str, Any]) -> str:
    inside = ", ".join(f"{name}: {_value(value)}" for name, value in parameters.items())
    return f"{{{inside}}}"


def _value(value: Any) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)


def _make(name: str, parameters: dict[str, Any]) -> str:
    command = f'make run EXPERIMENT=accuracy NAME={name} \\\n  PARAMS="{_flow(parameters)}"'
    return f"```bash\n{command}\nmake book\n```"


def _megabytes(entry: Any) -> str:
    size = getattr(entry, "download_bytes", 0)
    return f"{size / 1e6:,.0f} MB to download" if size else "size announced first"


def _file(length: int) -> str:
    body = "\n".join(
        [
            "methods:",
            "  - dense",
            "  - quest",
            "  - {name: quest, tail: decode}",
            "  - {name: window, phase: decode}",
            "sparsities: [0, 800, 900, 950]",
            f"lengths: [{length}]",
            "tasks: [{name: needle, needles: 4, queries: 4}]",
            "samples: 50",
        ]
    )
    return (
        f"```yaml\n# mine.yaml\n{body}\n```\n\n```bash\n"
        "make run EXPERIMENT=accuracy NAME=mine PARAMS_FILE=mine.yaml\nmake book\n```"
    )


def _papermill(length: int) -> str:
    given = _flow({"lengths": [length], "sparsities": [0, 900]})
    return f"papermill notebooks/accuracy.ipynb out.ipynb \\\n  -y '{given}'"


def parameters() -> tuple[pd.DataFrame, str]:
    """Every parameter with what it takes and its default."""
    default = AccuracyParameters().plain()
    fixed = ("run", "published")
    rows = [
        {
            "parameter": name,
            "default": json.dumps(default[name]).strip('"'),
            "takes": field.description or "",
        }
        for name, field in AccuracyParameters.model_fields.items()
        if name not in fixed
    ]
    return pd.DataFrame(rows), "Parameters of the experiment, with their defaults."


def tasks() -> tuple[pd.DataFrame, str]:
    """Every task with what it measures, and its fields with their defaults in both presets."""
    shared = {field.name for field in dataclasses.fields(Task)}
    rows = []
    for name in TASKS:
        direct, paper = (dataclasses.asdict(TASKS[name](preset=preset)) for preset in ("direct", "paper"))
        own = [field for field in direct if field not in shared]
        measures = TASKS[name].measures
        rows.append(
            {
                "task": name,
                "scope": measures.scope,
                "dispersion": measures.dispersion,
                "text": measures.text,
                "fields, direct": _fields({field: direct[field] for field in own}),
                "fields, paper": _fields(
                    {field: paper[field] for field in own if paper[field] != direct[field]}
                ),
            }
        )
    return pd.DataFrame(rows), "Tasks and their fields with the defaults of each preset; paper: what differs."


def _fields(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {json.dumps(value)}".replace('"', "") for name, value in values.items())
