"""What the datasets of the experiment ``concentration`` hold: how many keys hold dense attention."""

from __future__ import annotations

import numpy as np

from sparsestudy.schema import (
    NOT_RUN,
    PLACE,
    SCHEMA,
    SPARSITY_LIMIT,
    STATUS,
    Schema,
    Variable,
    count,
    flag,
    label,
    measure,
    text,
)

QUESTION, CONTEXT = "question", "context"
REGIONS = (QUESTION, CONTEXT)
MASSES = (500, 900, 950)
"""Shares of the attention, in permille, whose keys are counted."""
PROMPT = (*PLACE, "task", "sample")
HEAD = (*PROMPT, "region", "layer", "head")

_LABELS = ("model", "length", "task", "sample", "layer", "head")
_DESCRIBED = ("weights_sha256", "parameters", "context", "licence", "source", "architecture")

_VARIABLES: dict[str, Variable] = {
    **{name: SCHEMA[name] for name in _LABELS},
    **{f"model_{name}": SCHEMA[f"model_{name}"] for name in _DESCRIBED},
    **{f"task_{name}": SCHEMA[f"task_{name}"] for name in ("name", "preset", "fields")},
    "region": label("region", "part of the prompt whose queries are meant", choices=REGIONS),
    "mass": label("mass", "share of the attention in permille", "int16", bounds=(1, SPARSITY_LIMIT)),
    "keys": measure((*HEAD, "mass"), "fewest keys that hold a share, mean over queries", top=np.inf),
    "effective_keys": measure(HEAD, "exponential of the entropy, mean over queries", top=np.inf),
    "available_keys": measure((*PROMPT, "region"), "keys that a query may attend, mean", top=np.inf),
    "queries": count((*PROMPT, "region"), "int32", "queries that were looked at"),
    "status": flag((*PLACE, "task"), "what happened to the cell", STATUS, NOT_RUN),
    "tail_start": count(PROMPT, "int32", "first token of the question"),
    **{name: SCHEMA[name] for name in ("prompt_tokens", "prompt_id")},
    "backend": text(PLACE, "code of the study's own attention"),
    **{name: SCHEMA[name] for name in ("dtype", "device", "commit", "versions", "key")},
}

CONCENTRATION = Schema(_VARIABLES, (*HEAD, "mass"), "keys")
