"""What the datasets of the experiment ``fidelity`` hold: losses, divergences, recalls by position."""

from __future__ import annotations

import numpy as np

from sparsestudy.schema import (
    PLACE,
    SCHEMA,
    SETTING,
    WITHOUT_TASKS,
    Schema,
    Variable,
    count,
    label,
    measure,
    text,
)

TEXT = (*SETTING, "sample", "bin")

_VARIABLES: dict[str, Variable] = {
    **WITHOUT_TASKS,
    "sample": SCHEMA["sample"],
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
    "head_recall": measure(
        (*SETTING, "layer", "head"),
        "recall by layer and head, mean over texts and queries; empty: not sparsified",
    ),
    "text_title": text((*PLACE, "sample"), "title of the book that the text comes from"),
    "text_id": text((*PLACE, "sample"), "hash of the text's tokens", "bytes"),
}

FIDELITY = Schema(_VARIABLES, (*SETTING, "sample", "bin", "layer", "head"), "loss")
