"""Dense attention: the control that every sparse result is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsestudy.methods.base import Method, Role


@dataclass(frozen=True)
class Dense(Method):
    """Every query attends every earlier key.

    Idea: no choice is made; the model runs through torch's dense attention.

    Source: Vaswani et al. 2017. Deviations: none.
    """

    name: ClassVar[str] = "dense"
    role: ClassVar[Role] = "dense"
