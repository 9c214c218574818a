"""The parameters of the experiment ``fidelity``. Imports no torch."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from sparsestudy.parameters import RunParameters
from sparsestudy.specs import TaskSpec


class FidelityParameters(RunParameters):
    """What the notebook ``fidelity`` is told beside :class:`RunParameters`."""

    experiment: ClassVar[str] = "fidelity"

    texts: int = Field(4, ge=2, le=1000, description="a whole number of texts, at least 2")
    steps: int = Field(32, ge=1, le=4096, description="a whole number of decode steps, at least 1")
    bins: int = Field(
        8,
        ge=1,
        le=64,
        description="a whole number from 1 to 64: equal parts of the positions, and of the steps",
    )

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        from sparsestudy.models import REGISTRY

        tails = [spec.label for spec in self.methods if spec.tail != "dense"]
        if tails:
            raise ValueError(
                f"The method {tails[0]} asks for a decode tail, but texts have no question; leave it out."
            )
        if self.bins > min(self.steps, *self.lengths):
            raise ValueError(
                f"The parameter 'bins' is {self.bins}, more than there are steps or tokens; take at most "
                f"{min(self.steps, *self.lengths)} here."
            )
        for model in self.models:
            context = REGISTRY[model].context
            if REGISTRY[model].pool != "full":
                raise ValueError(
                    f"The model {model} has a closed vocabulary and reads no natural text; leave it out."
                )
            if max(self.lengths) + self.steps > context and not self.allow_extrapolation:
                raise ValueError(
                    f"The length {max(self.lengths)} with {self.steps} steps is above the context of "
                    f"{model}, {context} tokens; choose less, or set `allow_extrapolation: true`."
                )
        return self

    def task_specs(self) -> list[TaskSpec]:
        """See :meth:`RunParameters.task_specs`; the texts are no task."""
        return []
