"""What the datasets of the experiment ``masks`` hold: pictures of choices, densities by layer and head."""

from __future__ import annotations

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

PICTURE = (*SETTING, "drawn_layer", "drawn_head")
_LIMIT = 2**15 - 1

_VARIABLES: dict[str, Variable] = {
    **WITHOUT_TASKS,
    "evidence": SCHEMA["evidence"],
    "drawn_layer": label("drawn_layer", "layer of a picture", "int16", bounds=(0, _LIMIT)),
    "drawn_head": label("drawn_head", "query head of a picture", "int16", bounds=(0, _LIMIT)),
    "row": label("row", "row of a picture: a run of queries or steps", "int16", bounds=(0, _LIMIT)),
    "column": label("column", "column of a picture: a run of keys", "int16", bounds=(0, _LIMIT)),
    "share": measure((*PICTURE, "row", "column"), "pairs attended / pairs available; empty: none available"),
    "pairs": count(("method", "length", "row", "column"), "int32", "pairs available in a cell of a picture"),
    "row_size": count(("method", "length"), "int32", "queries or steps in a row of a picture"),
    "column_size": count(("method", "length"), "int32", "keys in a column of a picture"),
    "steps": count(("method", "length"), "int32", "decode steps that were taken; 0 for a prefill"),
    "task_name": text(PLACE, "name of the task that made the prompt"),
    "prompt_tokens": count(PLACE, "int32", "tokens of the prompt"),
    "prompt_id": text(PLACE, "hash of the prompt", "bytes"),
    "tail_start": count(PLACE, "int32", "first token of the question"),
    "evidence_start": count((*PLACE, "evidence"), "int32", "first token of the evidence"),
    "evidence_stop": count((*PLACE, "evidence"), "int32", "token after the evidence"),
}

MASKS = Schema(
    _VARIABLES,
    (*SETTING, "evidence", "layer", "head", "drawn_layer", "drawn_head", "row", "column"),
    "head_density",
    ("evidence",),
)
