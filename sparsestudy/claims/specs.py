"""What `claims.yaml` may say, checked when it is read."""

from __future__ import annotations

import re
from operator import gt, le, lt
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sparsestudy import stats
from sparsestudy.errors import StudyError
from sparsestudy.specs import nearest

FILE = Path(__file__).parents[1] / "claims.yaml"
_ID = re.compile(r"[a-z]+(-[a-z]+)*")
Bound = float | Literal["margin", "-margin"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cells(_Strict):
    """Which cells of a dataset a claim looks at; what is not given is not restricted.

    Args:
        phase: the phase that is sparse.
        tail: how the tail of the prompt runs, for decode methods.
        methods: names of methods.
        kinds: kinds of tasks, each with the names of its tasks; the data must hold two kinds at least.
        most: highest nominal sparsity in permille.
        cost: variable of the dataset that holds the cost of a cell.
        generated: for replies of how many tokens, where the cost depends on that; 0: as they were.
        batch: for how many samples at a time, where the cost depends on that.
        reachable_by_all: only settings that every variant of a method reaches, such as both its settings.
    """

    phase: Literal["prefill", "decode"] | None = None
    tail: Literal["dense", "decode"] | None = None
    methods: list[str] | None = None
    kinds: dict[str, list[str]] = {}
    most: int = 999
    cost: str | None = None
    generated: Literal[0, 256, 1024] = 0
    batch: Literal[1, 16, 64] = 1
    reachable_by_all: bool = False


class Conditions(_Strict):
    """What the limits of an effect must be, all of it; ``margin`` stands for the claim's margin."""

    low_above: Bound | None = None
    low_at_most: Bound | None = None
    high_above: Bound | None = None
    high_below: Bound | None = None

    def holds(self, low: float, high: float, margin: float) -> bool:
        """Whether all conditions hold for an interval; an empty set of conditions never does."""
        ends, sides = {"low": low, "high": high}, {"above": gt, "below": lt, "at_most": le}
        told = [sides[side](ends[end], value(bound, margin)) for (end, side), bound in self.given().items()]
        return bool(told) and all(told)

    def given(self) -> dict[tuple[str, str], Bound]:
        """The conditions by end and side."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        return {
            (name.partition("_")[0], name.partition("_")[2]): bound
            for name, bound in found.items()
            if bound is not None
        }


def value(bound: Bound, margin: float) -> float:
    """A bound as a number."""
    return {"margin": margin, "-margin": -margin}[bound] if isinstance(bound, str) else bound


class Rule(_Strict):
    """When a claim is supported, and when contradicted; otherwise it is inconclusive.

    Both can never hold: some condition of the one must exclude one of the other.
    """

    supported: Conditions
    contradicted: Conditions

    @model_validator(mode="after")
    def _exclusive(self) -> Rule:
        pairs = (
            (self.supported.given(), self.contradicted.given()),
            (self.contradicted.given(), self.supported.given()),
        )
        for margin in (stats.MARGIN, stats.WIDE_MARGIN):
            # low <= high, so what exceeds a bound at its low end stays below it at neither end
            apart = any(
                value(lower, margin) >= value(upper, margin)
                for one, other in pairs
                for (end, side), lower in one.items()
                for (last, other_side), upper in other.items()
                if side == "above" and other_side != "above" and (end == "low" or last == "high")
            )
            if not apart:
                raise ValueError("its rule lets a claim be supported and contradicted at once")
        return self


class Claim(_Strict):
    """One entry of the ledger.

    Args:
        id: lower-case words with hyphens.
        statement: the claim, in one sentence.
        estimand: name of the function that estimates its effect.
        effect: what the effect is, in words.
        test: how it is tested, in words.
        datasets: ``experiment/run`` of published runs, each of which is judged alone.
        cells: which cells count.
        margin: the loss or gain that does not matter.
        rule: when the effect supports or contradicts the claim.
    """

    id: str
    statement: str
    estimand: str
    effect: str
    test: str
    datasets: list[str] = Field(min_length=1)
    cells: Cells = Cells()
    margin: float = Field(default=stats.MARGIN, gt=0, lt=1)
    rule: Rule

    @field_validator("id")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not _ID.fullmatch(name):
            raise ValueError("an id is lower-case words joined by hyphens")
        return name

    @field_validator("datasets")
    @classmethod
    def _placed(cls, names: list[str]) -> list[str]:
        for name in names:
            if len(name.split("/")) != 2:
                raise ValueError(f"the dataset '{name}' is not written as experiment/run")
        return names


def parse(entries: Any, estimands: list[str]) -> list[Claim]:
    """Claims from what a YAML file holds.

    Args:
        entries: a list of mappings.
        estimands: the estimands that there are.

    Raises:
        StudyError: an entry is not a claim, names an unknown estimand, or has the id of another.
    """
    if not isinstance(entries, list):
        raise StudyError("claims.yaml must be a list of claims, each a mapping with an id.")
    claims: list[Claim] = []
    for number, entry in enumerate(entries, start=1):
        name = entry.get("id", f"number {number}") if isinstance(entry, dict) else f"number {number}"
        try:
            claim = Claim.model_validate(entry)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            told = str(first["msg"]).removeprefix("Value error, ")
            raise StudyError(
                f"The claim '{name}' in claims.yaml is wrong{f' at {where}' if where else ''}: {told}; "
                "sparsestudy/claims/specs.py says what is allowed."
            ) from error
        if claim.estimand not in estimands:
            raise StudyError(
                f"The claim '{name}' in claims.yaml names the estimand '{claim.estimand}', which does not "
                f"exist; choose one of {', '.join(estimands)}.{nearest(claim.estimand, estimands)}"
            )
        if claim.id in [other.id for other in claims]:
            raise StudyError(f"claims.yaml holds the claim '{name}' twice; give each an id of its own.")
        claims.append(claim)
    return claims


def load(estimands: list[str], file: Path = FILE) -> list[Claim]:
    """The committed claims.

    Raises:
        StudyError: as `parse`.
    """
    return parse(yaml.safe_load(file.read_text(encoding="utf-8")), estimands)
