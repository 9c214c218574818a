"""Comparisons that can be judged in one step, from one set of resamples."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sparsestudy import stats

Labels = NDArray[np.str_] | None
K = TypeVar("K", bound=Hashable)


def alike(differences: Mapping[K, tuple[stats.Array, Labels]]) -> list[tuple[list[K], stats.Array, Labels]]:
    """Differences of one shape whose samples stand in the same documents, put together.

    Args:
        differences: by name, (strata, samples) with the documents of the samples, None where each is its own.

    Returns:
        Names, their differences (names, strata, samples), and the documents that they share.
    """
    forms: dict[tuple[Hashable, ...], list[K]] = {}
    for name, (values, documents) in differences.items():
        labels = None if documents is None else tuple(documents.ravel().tolist())
        forms.setdefault((values.shape, labels), []).append(name)
    return [
        (names, np.stack([differences[name][0] for name in names]), differences[names[0]][1])
        for names in forms.values()
    ]
