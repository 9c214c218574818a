"""Where the panels, titles and legend of a figure stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDE, NARROW = 7.8, 3.7
"""Widths in inches of a figure on a page and on a phone."""


@dataclass(frozen=True)
class Layout:
    """Room for panels, titles and legend in inches, so that no text needs to be measured.

    Args:
        narrow: whether the figure is for a phone.
        across: panels beside each other.
        down: rows of panels.
        panel: height of a panel.
        entries: entries of the legend above them.
        columns: entries of the legend beside each other; None for what fits names of methods.
        left: room left of the panels.
        right: room right of them.
        bottom: room below them.
        title: room for the title of each panel.
        gap: room between panels beside each other.
        below: room between rows of panels, beside that for the title; None for as much as `gap`.
    """

    narrow: bool
    across: int
    down: int
    panel: float
    entries: int = 0
    columns: int | None = None
    left: float = 0.62
    right: float = 0.1
    bottom: float = 0.52
    title: float = 0.5
    gap: float = 0.14
    below: float | None = None

    @property
    def width(self) -> float:
        """Of the whole figure."""
        return NARROW if self.narrow else WIDE

    @property
    def top(self) -> float:
        """Room above the first panel: legend and title."""
        return 0.14 + 0.185 * -(-self.entries // self._legend_columns) + self.title

    @property
    def height(self) -> float:
        """Of the whole figure."""
        return self.top + self.down * self.panel + (self.down - 1) * self._between + self.bottom

    @property
    def _between(self) -> float:
        return self.title + (self.gap if self.below is None else self.below)

    @property
    def _legend_columns(self) -> int:
        return self.columns or (2 if self.narrow else 4)

    def subplots(self, sharex: Any = True, sharey: Any = True) -> tuple[Figure, Any]:
        """The figure, closed for pyplot, and its axes ``(down, across)``."""
        import matplotlib.pyplot as plt

        panel_width = (self.width - self.left - self.right - (self.across - 1) * self.gap) / self.across
        figure, grid = plt.subplots(
            self.down,
            self.across,
            figsize=(self.width, self.height),
            sharex=sharex,
            sharey=sharey,
            squeeze=False,
            gridspec_kw={
                "left": self.left / self.width,
                "right": 1 - self.right / self.width,
                "top": 1 - self.top / self.height,
                "bottom": self.bottom / self.height,
                "wspace": self.gap / panel_width,
                "hspace": self._between / self.panel,
            },
        )
        plt.close(figure)
        return figure, grid

    def label(self, figure: Figure, x: str, y: str) -> None:
        """Name both axes once for all panels."""
        middle = (self.left + (self.width - self.left - self.right) / 2) / self.width
        figure.text(middle, 0.08 / self.height, x, ha="center", va="bottom")
        centre = 1 - (self.top + (self.height - self.top - self.bottom) / 2) / self.height
        figure.text(0.06 / self.width, centre, y, ha="left", va="center", rotation=90)

    def legend(self, figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
        """One legend for all panels, above them."""
        figure.legend(
            handles,
            labels,
            loc="upper left",
            bbox_to_anchor=(0.0, 1.0),
            ncols=self._legend_columns,
            handlelength=1.8,
        )
