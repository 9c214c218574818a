"""What a dataset holds: one table, from which saving, checking, merging and reading all follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SCHEMA_VERSION = 4
CONVENTIONS = "CF-1.11"
DIMS = (
    *("model", "method", "sparsity", "length", "task", "sample"),
    *("evidence", "layer", "head", "generated", "batch"),
)
SETTING = ("model", "method", "sparsity", "length")
CELL = (*SETTING, "task")
SAMPLE = (*CELL, "sample")
PLACE = ("model", "length")
REPLY_BYTES = 96
SPARSITY_LIMIT = 999

STATUS = ("ok", "fell_back_dense", "unreachable", "skipped_memory", "failed", "not_run")
OK, FELL_BACK_DENSE, UNREACHABLE, SKIPPED_MEMORY, FAILED, NOT_RUN = range(len(STATUS))
FINISH = ("stop", "length")
# Costs are stated for replies as they were (0) and of fixed lengths, and for samples that share the weights.
AS_MEASURED = 0
GENERATED = (AS_MEASURED, 256, 1024)
BATCHES = (1, 16, 64)
COSTS = ("prefill_flops", "prefill_bytes", "decode_flops", "decode_bytes", "request_flops")
TIMINGS = ("prefill_seconds", "decode_seconds", "selection_seconds")
ATTRIBUTES = (
    "title",
    "Conventions",
    "schema_version",
    "experiment",
    "run",
    "published",
    "parameters",
    "licence",
)


@dataclass(frozen=True)
class Variable:
    """One variable or coordinate of the dataset.

    Args:
        dims: its dimensions, in order.
        dtype: numpy's name of the type, or "str", or "bytes" for text of a bounded length.
        long_name: what it is, in words.
        units: CF units, "1" for none.
        fill: the value that means "nothing here".
        bounds: smallest and largest value that is allowed beside the fill.
        flags: meanings of the values 0, 1, ... of a flag variable.
        choices: the texts that are allowed beside the fill.
        coordinate: whether it describes a dimension rather than a measurement.
    """

    dims: tuple[str, ...]
    dtype: str
    long_name: str
    units: str = "1"
    fill: Any = None
    bounds: tuple[float, float] | None = None
    flags: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    coordinate: bool = field(default=False)

    @property
    def is_text(self) -> bool:
        """Whether values are text."""
        return self.dtype in ("str", "bytes")

    def attributes(self) -> dict[str, Any]:
        """The attributes that the variable carries in the file, the fill value apart."""
        attributes: dict[str, Any] = {"long_name": self.long_name, "units": self.units}
        if self.flags:
            attributes["flag_values"] = np.arange(len(self.flags), dtype=self.dtype)
            attributes["flag_meanings"] = " ".join(self.flags)
        return attributes


@dataclass(frozen=True)
class Schema:
    """What the datasets of one experiment hold.

    Args:
        variables: every variable and coordinate, by name.
        dims: the dimensions, each with a coordinate of its name.
        measured: the variable that has values exactly where the status says that a cell ran; its first
            dimensions are those of the status.
        may_be_empty: dimensions that may have no label.
    """

    variables: Mapping[str, Variable]
    dims: tuple[str, ...]
    measured: str
    may_be_empty: tuple[str, ...] = ()

    @property
    def coordinates(self) -> tuple[str, ...]:
        """The names of the coordinates, in order."""
        return tuple(name for name, variable in self.variables.items() if variable.coordinate)


def label(dim: str, long_name: str, dtype: str = "str", **more: Any) -> Variable:
    """A coordinate that names or describes the places along a dimension."""
    fill = "" if dtype == "str" else None
    return Variable((dim,), dtype, long_name, fill=fill, coordinate=True, **more)


def measure(dims: tuple[str, ...], long_name: str, units: str = "1", top: float = 1.0) -> Variable:
    """A measured number, at least 0; NaN where there is none."""
    return Variable(dims, "float32", long_name, units, np.float32(np.nan), (0.0, top))


def count(dims: tuple[str, ...], dtype: str, long_name: str) -> Variable:
    """A whole number from 0; -1 where there is none."""
    return Variable(dims, dtype, long_name, fill=np.dtype(dtype).type(-1), bounds=(0, np.iinfo(dtype).max))


def flag(dims: tuple[str, ...], long_name: str, flags: tuple[str, ...], fill: int = -1) -> Variable:
    """One of a few named states."""
    return Variable(dims, "int8", long_name, fill=np.int8(fill), bounds=(0, len(flags) - 1), flags=flags)


def text(dims: tuple[str, ...], long_name: str, dtype: str = "str") -> Variable:
    """A text; empty where there is none."""
    return Variable(dims, dtype, long_name, fill="")


SCHEMA: dict[str, Variable] = {
    "model": label("model", "model variant"),
    "model_weights_sha256": label("model", "sha256 of the weights"),
    "model_parameters": label("model", "number of parameters", "int64", bounds=(1, 1e13)),
    "model_context": label("model", "trained context in tokens", "int32", bounds=(1, 2**31 - 1)),
    "model_licence": label("model", "licence of the weights"),
    "model_source": label("model", "where the weights come from"),
    "model_architecture": label("model", "architecture of the model"),
    "method": label("method", "method variant"),
    "method_name": label("method", "name of the method"),
    "method_phase": label("method", "phase that is sparse", choices=("none", "prefill", "decode")),
    "method_tail": label("method", "how the tail of the prompt runs", choices=("none", "dense", "decode")),
    "method_role": label("method", "role in the study", choices=("dense", "control", "oracle", "method")),
    "method_like": label("method", "name of the method that a control stands beside"),
    "method_scope": label("method", "who chooses on its own"),
    "method_fields": label("method", "fields as given, JSON"),
    "sparsity": label("sparsity", "nominal sparsity in permille", "int16", bounds=(0, SPARSITY_LIMIT)),
    "length": label("length", "nominal prompt length in tokens", "int32", bounds=(1, 2**31 - 1)),
    "task": label("task", "task variant"),
    "task_name": label("task", "name of the task"),
    "task_preset": label("task", "prompt preset"),
    "task_question": label("task", "where the question stands", choices=("before", "after", "both")),
    "task_context": label("task", "how much of the context is given", choices=("full", "none", "evidence")),
    "task_fields": label("task", "fields as given, JSON"),
    "task_binary": label("task", "whether each score is 0 or 1", "int8", bounds=(0, 1)),
    "sample": label("sample", "index of the sample", "int32", bounds=(0, 2**31 - 1)),
    "evidence": label(
        "evidence",
        "piece of evidence (the nearest are one if many)",
        "int16",
        bounds=(0, 2**15 - 1),
    ),
    "layer": label("layer", "index of the layer", "int16", bounds=(0, 2**15 - 1)),
    "head": label("head", "index of the query head", "int16", bounds=(0, 2**15 - 1)),
    "generated": label(
        "generated", "tokens of a reply, 0: as many as it had", "int32", bounds=(0, 2**31 - 1)
    ),
    "batch": label("batch", "samples that share one reading of the weights", "int16", bounds=(1, 2**15 - 1)),
    "score": measure(SAMPLE, "score"),
    "parsed": flag(SAMPLE, "whether the reply could be parsed", ("unparsed", "parsed")),
    "finish": flag(SAMPLE, "why the reply ended", FINISH),
    "output_tokens": count(SAMPLE, "int16", "generated tokens"),
    "reply": text(SAMPLE, f"beginning of the reply, at most {REPLY_BYTES} bytes", "bytes"),
    "attended_density": measure(SAMPLE, "tokens attended / tokens available, sparsified layers"),
    "kernel_density": measure(SAMPLE, "pairs computed / causal pairs, sparsified layers", top=np.inf),
    "model_density": measure(SAMPLE, "tokens attended / tokens available, all layers"),
    "byte_density": measure(SAMPLE, "cache bytes read / bytes of a dense step, decode", top=np.inf),
    "status": flag(CELL, "what happened to the cell", STATUS, NOT_RUN),
    "lowest_density": measure(CELL, "lowest density that the configuration can reach"),
    "prefill_seconds": measure(CELL, "wall time of the prefill, per sample", "s", np.inf),
    "decode_seconds": measure(CELL, "wall time of the decode, per sample", "s", np.inf),
    "selection_seconds": measure(CELL, "wall time of choosing, part of the above, per sample", "s", np.inf),
    "prefill_flops": measure(CELL, "operations of the prefill, mean over samples", top=np.inf),
    "prefill_bytes": measure(
        (*CELL, "batch"), "least bytes that the prefill moves, mean over samples", "byte", np.inf
    ),
    "decode_flops": measure((*CELL, "generated"), "operations of the decode, mean over samples", top=np.inf),
    "decode_bytes": measure(
        (*CELL, "generated", "batch"), "least bytes that the decode moves, mean over samples", "byte", np.inf
    ),
    "request_flops": measure(
        (*CELL, "generated"), "operations of prefill and decode, mean over samples", top=np.inf
    ),
    "head_density": measure(
        (*CELL, "layer", "head"),
        "attended density by layer and head, mean over samples; empty: not sparsified",
    ),
    "notes": text(CELL, "what the method noted, mean over layers, heads and samples, JSON"),
    "calibrated_density": measure(SETTING, "attended density over the calibration prompts"),
    "hyperparameters": text(SETTING, "all hyperparameters, JSON"),
    "chance": measure(("model", "length", "task"), "score of guessing in the right form, mean over samples"),
    "prompt_tokens": count(("model", "length", "task", "sample"), "int32", "tokens of the prompt"),
    "prompt_id": text(("model", "length", "task", "sample"), "hash of the prompt", "bytes"),
    "document": text(
        ("model", "length", "task", "sample"),
        "text in which the sample stands; empty: one of its own",
        "bytes",
    ),
    "evidence_start": count(
        ("model", "length", "task", "sample", "evidence"), "int32", "first token of the evidence"
    ),
    "evidence_stop": count(
        ("model", "length", "task", "sample", "evidence"), "int32", "token after the evidence"
    ),
    "backend": text(("model", "method", "length"), "code that computed the attention"),
    "dtype": text(PLACE, "floating point type of weights and activations"),
    "device": text(PLACE, "device that computed"),
    "commit": text(PLACE, "commit of the code"),
    "versions": text(PLACE, "versions of the software, JSON"),
    "key": text(PLACE, "what decides whether this part is up to date, JSON"),
}

COORDINATES = tuple(name for name, variable in SCHEMA.items() if variable.coordinate)
# A run may ask for nothing that has evidence, or be older than diagnostics by layer and head, and costs.
ACCURACY = Schema(SCHEMA, DIMS, "score", ("evidence", "layer", "head", "generated", "batch"))

# What an experiment without tasks holds as well: labels, what became of each setting, and what made it.
WITHOUT_TASKS: dict[str, Variable] = {
    **{name: SCHEMA[name] for name in COORDINATES if set(SCHEMA[name].dims) <= set(SETTING)},
    **{name: SCHEMA[name] for name in ("layer", "head", "calibrated_density", "hyperparameters")},
    "status": flag(SETTING, "what happened to the cell", STATUS, NOT_RUN),
    "lowest_density": measure(SETTING, "lowest density that the configuration can reach"),
    "head_density": measure(
        (*SETTING, "layer", "head"), "attended density by layer and head; empty: not sparsified"
    ),
    **{name: SCHEMA[name] for name in ("backend", "dtype", "device", "commit", "versions", "key")},
}
