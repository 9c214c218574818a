"""The parameters of the experiment ``concentration``. Imports no torch."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from sparsestudy.parameters import RunParameters
from sparsestudy.specs import MethodSpec, TaskSpec


class ConcentrationParameters(RunParameters):
    """What the notebook ``concentration`` is told beside :class:`RunParameters`."""

    experiment: ClassVar[str] = "concentration"

    methods: list[MethodSpec] = Field(
        default_factory=lambda: [MethodSpec(name="dense")], description="[dense]: nothing else is measured"
    )
    sparsities: list[int] = Field([0], description="[0]: nothing is left out")
    tasks: list[TaskSpec] = Field(
        default_factory=lambda: [TaskSpec(name="needle")],
        description="a list of tasks, each a name or a mapping with a name",
    )
    samples: int = Field(8, ge=1, le=30000, description="a whole number of samples, at least 1")
    queries: int = Field(
        32, ge=1, le=64, description="a whole number from 1 to 64: queries of the context, evenly spaced"
    )

    @model_validator(mode="after")
    def _dense_alone(self) -> Self:
        if [spec.label for spec in self.methods] != ["dense"] or self.sparsities != [0]:
            raise ValueError(
                "The experiment concentration measures dense attention alone; leave 'methods' and "
                "'sparsities' out."
            )
        return self

    def task_specs(self) -> list[TaskSpec]:
        """See :meth:`RunParameters.task_specs`."""
        return self.tasks
