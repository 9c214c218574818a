"""Which methods with which budgets a run really has to compute."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from sparsestudy.errors import Unreachable
from sparsestudy.methods.base import Method
from sparsestudy.methods.dense import Dense
from sparsestudy.schema import STATUS

if TYPE_CHECKING:
    import xarray as xr

    from sparsestudy.calibration import Budget
    from sparsestudy.shards import Shard


@dataclass(frozen=True)
class Setting:
    """A method with its budget set, and how the tail of the prompt runs. Equal settings run once."""

    method: Method
    tail: str

    @property
    def phase(self) -> str:
        """The phase that is sparse; dense replies are decoded."""
        return self.method.phase

    @property
    def key(self) -> str:
        """Text that identifies the setting."""
        return json.dumps([self.method.name, asdict(self.method), self.tail], sort_keys=True)


DENSE = Setting(Dense(), "dense")


@dataclass(frozen=True)
class CellPlan:
    """What one (method, sparsity) of a run becomes.

    Args:
        status: "ok", "fell_back_dense" (shares the dense run's replies), "unreachable" or "not_run".
        setting: what to run; None when nothing is.
        hyperparameters: JSON of the method's fields; empty when there are none.
        lowest_density: the lowest reachable density of an unreachable cell.
        calibrated_density: mean density of the budget over the calibration prompts; None for a closed form.
    """

    status: str
    setting: Setting | None = None
    hyperparameters: str = ""
    lowest_density: float | None = None
    calibrated_density: float | None = None

    def note(self, data: xr.Dataset, at: tuple[int, ...]) -> None:
        """Write down what became of a setting, in a dataset without tasks."""
        data["status"].values[at] = STATUS.index(self.status)
        data["hyperparameters"].values[at] = self.hyperparameters
        for name in ("lowest_density", "calibrated_density"):
            if getattr(self, name) is not None:
                data[name].values[at] = getattr(self, name)


NOT_RUN = CellPlan("not_run")


def plan_cells(
    shard: Shard, margin: int, budget: Callable[[Method, int], Budget]
) -> dict[tuple[int, int], CellPlan]:
    """The plan of every (method index, sparsity index) of a shard.

    Args:
        shard: model and length.
        margin: tokens that a reply can add; a budget that covers them too is exactly dense.
        budget: frozen budget of a method without a closed form, by method and nominal sparsity in permille.
    """
    plans = {}
    for m, spec in enumerate(shard.run.methods):
        base: Method = spec.build()
        for s, permille in enumerate(shard.run.sparsities):
            plans[m, s] = _plan_cell(base, spec.tail, permille, shard.length, margin, budget)
    return plans


def _plan_cell(
    base: Method, tail: str, permille: int, length: int, margin: int, budget: Callable[[Method, int], Budget]
) -> CellPlan:
    if base.role == "dense":
        return NOT_RUN if permille else CellPlan("ok", DENSE)
    density = None
    try:
        if base.calibrated and permille:
            frozen = budget(base, permille)
            method, density = frozen.method, frozen.density
        else:
            method = base.at_sparsity(permille / 1000, length)
    except Unreachable as error:
        return CellPlan("unreachable", lowest_density=error.lowest_density)
    fields = json.dumps(asdict(method), sort_keys=True)
    if method.is_dense(length + margin):
        return CellPlan("fell_back_dense", DENSE, fields)
    return CellPlan("ok", Setting(method, tail), fields, calibrated_density=density)
