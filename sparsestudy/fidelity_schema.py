"""What the datasets of the experiment ``fidelity`` hold: losses, divergences, recalls by position."""

from __future__ import annotations

import numpy as np

from sparsestudy.schema import (
    CELL,
    NOT_RUN,
    PLACE,
    SCHEMA,
    STATUS,
    Schema,
    Variable,
    count,
    flag,
    label,
    measure,
    text,
)

SETTING = ("model", "method", "sparsity", "length")
TEXT = (*SETTING, "sample", "bin")
_SHARED = tuple(
    name for name, variable in SCHEMA.items() if variable.coordinate and set(variable.dims) <= {*CELL[:-1]}
)
_ORIGIN = ("backend", "dtype", "device", "commit", "versions", "key")

_VARIABLES: dict[str, Variable] = {
    **{name: SCHEMA[name] for name in (*_SHARED, "sample", "layer", "head")},
    "bin": label("bin", "index of a run of positions", "int16", bounds=(0, 2**15 - 1)),
    "loss": measure(TEXT, "loss of the next token, mean over the bin", "nat", np.inf),
    "kl": measure(TEXT, "divergence of the prediction from the dense one, mean over the bin", "nat", np.inf),
    "recall": measure(
        TEXT, "share of the dense model's attention on the keys that are kept, layers and heads averaged"
    ),
    "dense_loss": measure(
        ("model", "method", "length", "sample", "bin"),
        "loss of dense attention at the same places",
        "nat",
        np.inf,
    ),
    "bin_start": count(("method", "length", "bin"), "int32", "position of the first query of a bin"),
    "bin_stop": count(("method", "length", "bin"), "int32", "position after the last query of a bin"),
    "attended_density": measure(
        (*SETTING, "sample"), "tokens attended / tokens available, sparsified layers"
    ),
    "head_density": measure(
        (*SETTING, "layer", "head"), "attended density by layer and head; empty: not sparsified"
    ),
    "head_recall": measure(
        (*SETTING, "layer", "head"),
        "recall by layer and head, mean over texts and queries; empty: not sparsified",
    ),
    "status": flag(SETTING, "what happened to the cell", STATUS, NOT_RUN),
    "lowest_density": measure(SETTING, "lowest density that the configuration can reach"),
    "calibrated_density": SCHEMA["calibrated_density"],
    "hyperparameters": SCHEMA["hyperparameters"],
    "text_title": text((*PLACE, "sample"), "title of the book that the text comes from"),
    "text_id": text((*PLACE, "sample"), "hash of the text's tokens", "bytes"),
    **{name: SCHEMA[name] for name in _ORIGIN},
}

FIDELITY = Schema(_VARIABLES, (*SETTING, "sample", "bin", "layer", "head"), "loss")
