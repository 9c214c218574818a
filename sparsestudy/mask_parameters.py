"""The parameters of the experiment ``masks``. Imports no torch."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from sparsestudy.parameters import RunParameters
from sparsestudy.specs import TaskSpec


class MaskParameters(RunParameters):
    """What the notebook ``masks`` is told beside :class:`RunParameters`."""

    experiment: ClassVar[str] = "masks"

    task: TaskSpec = Field(
        default_factory=lambda: TaskSpec(name="needle"), description="a task, a name or a mapping with a name"
    )
    layers: list[Annotated[int, Field(ge=0)]] = Field(
        [0], description="a list of layers to draw, whole numbers from 0"
    )
    heads: list[Annotated[int, Field(ge=0)]] = Field(
        [0], description="a list of query heads to draw, whole numbers from 0"
    )
    cells: int = Field(
        64, ge=8, le=64, description="a whole number from 8 to 64: cells of a picture along each side"
    )

    def task_specs(self) -> list[TaskSpec]:
        """See :meth:`RunParameters.task_specs`."""
        return [self.task]
