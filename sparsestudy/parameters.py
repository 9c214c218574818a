"""The parameters of an experiment, checked before anything loads. Imports no torch."""

from __future__ import annotations
import __future__

import re
import types
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sparsestudy.errors import StudyError
from sparsestudy.shards import ShardOf
from sparsestudy.specs import MethodSpec, TaskSpec, nearest

DEFAULT_METHODS = ("dense", "window", "block_sparse", "quest")
RUN_NAME = re.compile(r"[a-z0-9-]+")
# Names that a notebook kernel puts into the namespace by itself.
_KERNEL_NAMES = {"In", "Out", "exit", "quit", "open", "display", "get_ipython"}
_LISTS = ("models", "methods", "sparsities", "lengths", "tasks", "layers", "heads")
_RISING = ("lengths", "layers", "heads")
Samples = Annotated[int, Field(ge=1, le=30000)]
_SKIPPED_TYPES = (types.ModuleType, __future__._Feature)


class RunParameters(BaseModel):
    """What every experiment's notebook is told: one value here is one line of its parameter cell.

    Every field has a default, so that a run needs to name only what it changes; the descriptions say
    what is allowed and are quoted in error messages.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    experiment: ClassVar[str]

    run: str = Field("notebook", description="a name of lower-case letters, digits and hyphens")
    published: bool = Field(False, description="true (kept under results/) or false (results/local/)")
    models: list[str] = Field(["smollm2-135m-q4_1"], description="a list of registered models")
    methods: list[MethodSpec] = Field(
        default_factory=lambda: [MethodSpec(name=name) for name in DEFAULT_METHODS],
        description="a list of methods, each a name or a mapping with a name",
    )
    sparsities: list[int] = Field(
        [0, 500, 900], description="a list of whole numbers of permille, 0 to 999 (half is 500)"
    )
    lengths: list[Annotated[int, Field(ge=1)]] = Field(
        [512, 1024], description="a list of prompt lengths in tokens, each at least 1"
    )
    seed: int = Field(0, ge=0, description="a whole number, at least 0")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto (float32 on a CPU, bfloat16 on a GPU), float32 or bfloat16"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto, cpu or cuda")
    backend: Literal["auto", "torch", "triton"] = Field(
        "auto", description="auto (triton on a GPU, torch elsewhere), torch or triton"
    )
    batch_tokens: int = Field(4096, ge=1, description="a whole number of tokens a batch, at least 1")
    allow_extrapolation: bool = Field(
        False, description="true or false: whether lengths above the model's context may run"
    )
    tier: Literal["smoke", "cpu", "gpu"] = Field("cpu", description="smoke, cpu or gpu")

    @field_validator("run")
    @classmethod
    def _run_name(cls, run: str) -> str:
        if not RUN_NAME.fullmatch(run):
            raise ValueError(
                f"The run name {run!r} is not allowed; use lower-case letters, digits and hyphens, such as "
                "`mine-2048`."
            )
        return run

    @field_validator("sparsities", mode="before")
    @classmethod
    def _permille(cls, given: Any) -> Any:
        if not isinstance(given, list):
            return given
        for value in given:
            whole = isinstance(value, int) and not isinstance(value, bool)
            if whole and 0 <= value <= 999:
                continue
            hint = ""
            if isinstance(value, float) and 0 <= value < 1:
                hint = f"; {value} is written as {round(value * 1000)}"
            raise ValueError(
                f"The sparsity {value!r} is not a whole number of permille, 0 (nothing left out) to "
                f"999{hint}."
            )
        return sorted(set(given))

    @field_validator(*_LISTS, check_fields=False)
    @classmethod
    def _some_and_once(cls, given: list[Any], info: Any) -> list[Any]:
        if not given:
            raise ValueError(f"The parameter '{info.field_name}' is empty; name at least one.")
        labels = [getattr(item, "label", str(item)) for item in given]
        twice = [label for label in labels if labels.count(label) > 1]
        if twice:
            raise ValueError(f"The parameter '{info.field_name}' names {twice[0]} twice; name it once.")
        return sorted(given) if info.field_name in _RISING else given

    @model_validator(mode="after")
    def _within_context(self) -> Self:
        from sparsestudy.models import REGISTRY

        for model in self.models:
            if model not in REGISTRY:
                known = list(REGISTRY)
                raise ValueError(
                    f"There is no model '{model}'; choose one of {', '.join(known)}.{nearest(model, known)}"
                )
            context = REGISTRY[model].context
            if max(self.lengths) > context and not self.allow_extrapolation:
                raise ValueError(
                    f"The length {max(self.lengths)} is above the context of {model}, {context} tokens; "
                    "choose shorter lengths, or set `allow_extrapolation: true` to measure beyond it."
                )
        return self

    @model_validator(mode="after")
    def _known_words(self) -> Self:
        from sparsestudy.models import REGISTRY

        for spec in self.task_specs():
            for model in self.models:
                pool = REGISTRY[model].pool
                if pool not in ("full", spec.fields.get("pool")):
                    raise ValueError(
                        f"The model {model} knows the words of the pool '{pool}' alone, and the task "
                        f"{spec.label} has others; write synthetic tasks as `{{name: needle, pool: {pool}}}`."
                    )
        return self

    @classmethod
    def parse(cls, given: dict[str, Any]) -> Self:
        """Parameters from plain values; what is not given takes the default.

        Raises:
            StudyError: an unknown name or an impossible value, in one sentence with what is allowed.
        """
        if not all(isinstance(key, str) for key in given):
            raise StudyError(
                f"Parameter names are text; got {next(k for k in given if not isinstance(k, str))!r}."
            )
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise StudyError(_sentence(cls, error)) from None

    @classmethod
    def from_namespace(cls, namespace: dict[str, Any]) -> Self:
        """Parameters from a notebook's ``globals()``, taken right after its parameter cell.

        Every public name that is not a module, a function, a class or the kernel's own must be a
        parameter, so that a misspelt one stops here and not after an hour with its default.

        Raises:
            StudyError: an unknown name or an impossible value.
        """
        given = {
            name: value
            for name, value in namespace.items()
            if not name.startswith("_")
            and name not in _KERNEL_NAMES
            and not isinstance(value, _SKIPPED_TYPES)
            and not callable(value)
            and getattr(type(value), "__module__", "") != "typing"
        }
        return cls.parse(given)

    def plain(self) -> dict[str, Any]:
        """These parameters as plain values, complete, in the order in which they are documented."""
        return self.model_dump(mode="json")

    def task_specs(self) -> list[TaskSpec]:
        """The tasks whose prompts the run reads."""
        raise NotImplementedError

    def identity(self, model: str) -> str:
        """What identifies the weights of one of the models: their sha256."""
        from sparsestudy.models import weights_sha256

        return weights_sha256(model)

    def obtain(self, model: str) -> None:
        """Make sure that the weights of one of the models are here.

        Raises:
            WeightsUnavailable: they cannot be had.
        """
        from sparsestudy.models import fetch

        fetch(model)

    def shards(self) -> list[ShardOf[Self]]:
        """One shard for each model and length, which is one dataset file."""
        return [ShardOf(self.at(length), model, length) for model in self.models for length in self.lengths]

    def at(self, length: int) -> Self:
        """The same run as one of its lengths has it."""
        del length
        return self

    def check_fields(self) -> None:
        """Check every given field against the class that takes it; imports those classes, so torch.

        Raises:
            StudyError: a field that a method or task does not have, or a value that it does not take.
        """
        for spec in [*self.methods, *self.task_specs()]:
            spec.build()


class AccuracyParameters(RunParameters):
    """What the notebook ``accuracy`` is told beside :class:`RunParameters`."""

    experiment: ClassVar[str] = "accuracy"

    tasks: list[TaskSpec] = Field(
        default_factory=lambda: [TaskSpec(name="needle")],
        description="a list of tasks, each a name or a mapping with a name",
    )
    samples: Samples | dict[int, Samples] = Field(
        20,
        description="a whole number of samples, at least 1, or one for each length: {1024: 400, 8192: 100}",
    )

    @field_validator("samples", mode="before")
    @classmethod
    def _lengths_as_numbers(cls, given: Any) -> Any:
        """Keys of JSON are text."""
        if not isinstance(given, dict):
            return given
        return {int(k) if isinstance(k, str) and k.isdecimal() else k: v for k, v in given.items()}

    @model_validator(mode="after")
    def _samples_for_each_length(self) -> Self:
        if isinstance(self.samples, dict) and sorted(self.samples) != self.lengths:
            raise ValueError(
                f"The parameter 'samples' names the lengths {', '.join(map(str, sorted(self.samples)))}; "
                f"give a number for each length of the run, {', '.join(map(str, self.lengths))}, alone."
            )
        return self

    def at(self, length: int) -> Self:
        """See :meth:`RunParameters.at`; a number of samples for each length becomes that of this one."""
        if isinstance(self.samples, int):
            return self
        return self.model_copy(update={"samples": self.samples[length]})

    def task_specs(self) -> list[TaskSpec]:
        """See :meth:`RunParameters.task_specs`."""
        return self.tasks


def _sentence(cls: type[RunParameters], error: ValidationError) -> str:
    """The first problem that pydantic found, as one sentence with what is allowed."""
    problem = error.errors()[0]
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    name = str(problem["loc"][0]) if problem["loc"] else "?"
    known = list(cls.model_fields)
    if name not in known:
        return f"There is no parameter '{name}'; choose among {', '.join(known)}.{nearest(name, known)}"
    return (
        f"The parameter '{name}' holds {problem['input']!r}; allowed is {cls.model_fields[name].description}."
    )
