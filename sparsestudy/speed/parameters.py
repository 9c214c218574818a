"""The parameters of the experiment ``speed``. Imports no torch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from sparsestudy.parameters import RunParameters
from sparsestudy.specs import MethodSpec, TaskSpec, nearest
from sparsestudy.speed.shapes import SHAPES

Part = Literal["prefill", "decode", "model"]
METHODS = ("block_sparse", "vertical_slash", "quest", "snapkv")


class SpeedParameters(RunParameters):
    """What the notebook ``speed`` is told beside :class:`RunParameters`; its models are shapes."""

    experiment: ClassVar[str] = "speed"

    models: list[str] = Field(["tiny"], description="a list of shapes of models")
    methods: list[MethodSpec] = Field(
        default_factory=lambda: [MethodSpec(name=name) for name in METHODS],
        description="a list of methods, each a name or a mapping with a name",
    )
    sparsities: list[int] = Field(
        [500, 900], description="a list of whole numbers of permille, 0 to 999 (half is 500)"
    )
    lengths: list[Annotated[int, Field(ge=1)]] = Field(
        [1024], description="a list of prompt lengths in tokens, each at least 1"
    )
    parts: list[Part] = Field(
        ["prefill", "decode", "model"],
        description="a list of prefill, decode (kernels) and model (whole ones)",
    )
    kernels_of: list[str] = Field(
        ["tiny"], description="a list of shapes whose attention alone is timed, of those in `models`"
    )
    blocks: list[Annotated[int, Field(ge=16, le=128)]] = Field(
        [64, 16], description="a list of block sizes of random patterns, each 16 to 128"
    )
    batches: list[Annotated[int, Field(ge=1)]] = Field(
        [1], description="a list of batch sizes in decode, each at least 1"
    )
    end_to_end: list[str] = Field(
        ["block_sparse", "quest", "snapkv"], description="a list of names of methods that whole models run"
    )
    end_to_end_sparsity: int = Field(
        900, ge=1, le=999, description="whole permille, 1 to 999, for whole models"
    )
    repeats: int = Field(3, ge=3, le=100, description="a whole number of repeats of every case, at least 3")
    steps: int = Field(4, ge=1, le=200, description="a whole number of decode steps in a repeat, 1 to 200")
    seconds: int = Field(
        120, ge=1, description="a whole number of seconds: what a dataset may take before cases are left out"
    )

    @model_validator(mode="after")
    def _within_context(self) -> Self:
        for name in [*self.models, *self.kernels_of]:
            if name not in SHAPES:
                known = list(SHAPES)
                raise ValueError(
                    f"There is no shape '{name}'; choose one of {', '.join(known)}.{nearest(name, known)}"
                )
        for spec in self.methods:
            if spec.tail != "dense":
                raise ValueError(f"The method {spec.label} asks for a decode tail, which speed has none of.")
        named = {spec.name for spec in self.methods}
        strange = [name for name in self.end_to_end if name not in named]
        if strange:
            raise ValueError(
                f"The parameter 'end_to_end' names {strange[0]}, which is not among the methods of the run."
            )
        return self

    def identity(self, model: str) -> str:
        """See :meth:`RunParameters.identity`: a hash of the sizes, as the weights are random."""
        return SHAPES[model].identity()

    def obtain(self, model: str) -> None:
        """See :meth:`RunParameters.obtain`; random weights need no download."""

    def task_specs(self) -> list[TaskSpec]:
        """See :meth:`RunParameters.task_specs`; speed needs no task."""
        return []
