"""What the datasets of the experiment ``speed`` hold: one case a row of what was timed, and its repeats."""

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
    flag,
    label,
    measure,
    text,
)

CASE = ("model", "length", "case")
PARTS = ("prefill", "decode", "model")
STAGES = ("kernel", "selection", "total", "prefill", "step")
_LIMIT = 2**15 - 1

_VARIABLES: dict[str, Variable] = {
    **{name: SCHEMA[name] for name in ("model", "length")},
    "model_weights_sha256": label("model", "hash of the sizes; the weights are random"),
    "model_source": label("model", "whose sizes these are"),
    "case": label("case", "what was timed"),
    "case_part": label("case", "part of the study", choices=PARTS),
    "case_stage": label("case", "what a case covers", choices=STAGES),
    "case_method": label("case", "method variant, dense, or the random pattern"),
    "case_method_name": label("case", "name of the method; empty: none is chosen by"),
    "case_code": label("case", "code that computed"),
    "case_block": label("case", "queries that choose together; 0: none", "int16", bounds=(0, _LIMIT)),
    "case_sparsity": label("case", "nominal sparsity in permille", "int16", bounds=(0, SPARSITY_LIMIT)),
    "case_batch": label("case", "rows of the batch", "int16", bounds=(1, _LIMIT)),
    "case_graph": label("case", "whether a CUDA graph is replayed", "int8", bounds=(0, 1)),
    "repeat": label("repeat", "index of the repeat", "int16", bounds=(0, _LIMIT)),
    "status": flag(CASE, "what happened to the case", STATUS, NOT_RUN),
    "reason": text(CASE, "first line of the error, or why it was not run"),
    "seconds": measure((*CASE, "repeat"), "wall time of one call", "s", np.inf),
    "attended_density": measure(CASE, "pairs attended / pairs available"),
    "flops": measure(CASE, "operations of one call", top=np.inf),
    "bytes": measure(CASE, "least bytes that one call moves", "byte", np.inf),
    "choosing_seconds": measure(
        CASE, "wall time of choosing inside a whole model, part of a call", "s", np.inf
    ),
    "peak_bytes": measure(CASE, "most memory that was held on the device", "byte", np.inf),
    "hyperparameters": text(CASE, "all hyperparameters, JSON"),
    "copy_rate": measure((*PLACE, "repeat"), "bytes read and written by a copy", "byte s-1", np.inf),
    "multiply_rate": measure((*PLACE, "repeat"), "operations of a square product", "s-1", np.inf),
    "ceiling_size": text(PLACE, "sizes of copy and product, JSON"),
    **{name: SCHEMA[name] for name in ("dtype", "device", "commit", "versions", "key")},
    "backend": text(PLACE, "code of the study's own attention"),
}

SPEED = Schema(_VARIABLES, ("model", "length", "case", "repeat"), "seconds")
