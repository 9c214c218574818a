"""The experiments: what each is told, what its datasets hold, and whose code decides its numbers.

A new experiment is a notebook, a parameter model, a schema and one entry here. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparsestudy.concentration_parameters import ConcentrationParameters
from sparsestudy.concentration_schema import CONCENTRATION
from sparsestudy.errors import StudyError
from sparsestudy.fidelity_parameters import FidelityParameters
from sparsestudy.fidelity_schema import FIDELITY
from sparsestudy.mask_parameters import MaskParameters
from sparsestudy.mask_schema import MASKS
from sparsestudy.parameters import AccuracyParameters, RunParameters
from sparsestudy.schema import ACCURACY, Schema
from sparsestudy.specs import nearest
from sparsestudy.speed.parameters import SpeedParameters
from sparsestudy.speed.schema import SPEED

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    Args:
        parameters: the model of its parameters, which names it.
        schema: what its datasets hold.
        entry: the module that computes them; its code is part of what makes a dataset stale.
        decisive: parameters that decide the numbers of a shard; the others say where and how it runs.
        of_time: whether its numbers are times, which change with code that computes the same.
    """

    parameters: type[RunParameters]
    schema: Schema
    entry: str
    decisive: tuple[str, ...]
    of_time: bool = False


EXPERIMENTS: dict[str, Experiment] = {
    "accuracy": Experiment(
        AccuracyParameters,
        ACCURACY,
        "sparsestudy.evaluate",
        ("methods", "sparsities", "tasks", "samples", "seed", "dtype", "batch_tokens"),
    ),
    "masks": Experiment(
        MaskParameters,
        MASKS,
        "sparsestudy.masks",
        ("methods", "sparsities", "task", "layers", "heads", "cells", "seed", "dtype"),
    ),
    "fidelity": Experiment(
        FidelityParameters,
        FIDELITY,
        "sparsestudy.fidelity",
        ("methods", "sparsities", "texts", "steps", "bins", "seed", "dtype", "batch_tokens"),
    ),
    "concentration": Experiment(
        ConcentrationParameters,
        CONCENTRATION,
        "sparsestudy.concentration",
        ("tasks", "samples", "queries", "seed", "dtype", "batch_tokens"),
    ),
    "speed": Experiment(
        SpeedParameters,
        SPEED,
        "sparsestudy.speed.capture",
        (
            *("methods", "sparsities", "parts", "kernels_of", "blocks", "batches", "end_to_end"),
            *("end_to_end_sparsity", "repeats", "steps", "seed", "dtype"),
        ),
        of_time=True,
    ),
}


def experiment(name: str) -> Experiment:
    """An experiment by its name.

    Raises:
        StudyError: there is no such experiment.
    """
    if name not in EXPERIMENTS:
        known = list(EXPERIMENTS)
        raise StudyError(
            f"There is no experiment '{name}'; choose one of {', '.join(known)}.{nearest(name, known)}"
        )
    return EXPERIMENTS[name]


def schema_of(dataset: xr.Dataset) -> Schema:
    """The schema that a dataset keeps to by its attribute ``experiment``; accuracy's where it names none.

    Raises:
        StudyError: it names an experiment that there is not.
    """
    return experiment(str(dataset.attrs.get("experiment", "accuracy"))).schema
