"""How figures look: colours for a light and a dark page, markers, and the scale of sparsity.

A figure is drawn once, in the colours of the light page. Every colour that stands for something is
used for nothing else, so that the dark version of an SVG is the same file with its colours exchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sparsestudy.derived import kept
from sparsestudy.forms import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEXT, MUTED, GRID, DENSE, PLATE = "#20242a", "#5d646d", "#e1e5ea", "#33383f", "#f4f6f8"
_DARK = {TEXT: "#e6e8eb", MUTED: "#a7afb9", GRID: "#3a424c", DENSE: "#d3d8de", PLATE: "#232a33"}
# light, dark, marker. The hues are Okabe and Ito's, darkened or lightened to stand out on their page;
# neighbours also differ in lightness and in marker, so that no pair rests on hue alone.
LOCAL = "#b03a6e"
_SLOTS = (
    ("#667180", "#aeb8c4", "s"),
    ("#d05a00", "#ff9d57", "o"),
    ("#0072b2", "#5cb6ef", "D"),
    ("#008f68", "#3ed3a8", "^"),
    ("#b04a8c", "#f2a4d2", "v"),
    ("#8a6d00", "#e3c546", "P"),
    ("#6a4c93", "#bda2ea", "X"),
    ("#a8352a", "#f5877c", "p"),
    ("#11768a", "#62cfe0", "h"),
    ("#4f5d2f", "#b9cf86", "*"),
)
ATTENDED = "#3a8fd0"
"""Attended pairs: stands out on a light and on a dark page alike."""
RECOLOUR = {**_DARK, LOCAL: "#f59ac0", **{light: dark for light, dark, _ in _SLOTS}}
_HEX = re.compile("|".join(RECOLOUR))
# What places something; the scale of a text needs all its digits.
_PLACE = re.compile(r' (?:d|x|y)="[^"]*"|translate\([^)]*\)')
_INDENT, _NAMES = re.compile(r"\n +"), re.compile(r'(?<=<g) id="[^"]*"|<!--[^>]*-->\n')
_FRACTION = re.compile(r"-?\d+\.\d{3,}")
_MARKS = re.compile(r"(<g[^>]*)>((?:\s*<use [^>]* style=[^>]*/>)+\s*)</g>")
_STYLE = re.compile(r' style="[^"]*"')
TICKS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998)


@dataclass(frozen=True)
class Look:
    """How one method variant is drawn.

    Args:
        colour: hex colour on the light page.
        marker: matplotlib marker.
        line: matplotlib line style; controls are dashed.
        filled: whether markers are filled; those of controls are open.
    """

    colour: str
    marker: str
    line: Literal["-", "--"]
    filled: bool

    def marker_style(self) -> dict[str, Any]:
        """Marker arguments for ``Axes.plot`` and ``Axes.errorbar``."""
        face = self.colour if self.filled else "white"
        return {"marker": self.marker, "markerfacecolor": face, "markeredgecolor": self.colour}


def looks(names: list[str], roles: list[str], variants: list[str]) -> dict[str, Look]:
    """One look a variant: hue and marker from the method's name, which keep their place across pages.

    Args:
        names: the method name of each variant.
        roles: its role, ``control`` or ``method``.
        variants: how it is called in the figure; variants of one method in one panel take turns in markers.
    """
    from sparsestudy.methods import METHODS

    known = [name for name in METHODS if name != "dense"]
    order = [*known, *sorted({name for name in names if name not in known and name != "dense"})]
    taken: set[tuple[str, str]] = set()
    chosen: dict[str, Look] = {}
    for name, role, variant in zip(names, roles, variants, strict=True):
        if variant in chosen or name == "dense":
            continue
        slot = order.index(name)
        colour = _SLOTS[slot % len(_SLOTS)][0]
        # Every third marker, so that neighbours do not borrow each other's; 3 and 10 have no common factor.
        markers = [_SLOTS[(slot + 3 * turn) % len(_SLOTS)][2] for turn in range(len(_SLOTS))]
        marker = next((mark for mark in markers if (colour, mark) not in taken), markers[0])
        taken.add((colour, marker))
        chosen[variant] = Look(colour, marker, "-" if role == "method" else "--", role == "method")
    return chosen


def turns(count: int) -> list[tuple[str, str]]:
    """Colour and marker for each of a few values of one quantity, such as the sparsities of a figure."""
    return [
        (colour, marker) for colour, _, marker in (_SLOTS[1 + i % (len(_SLOTS) - 1)] for i in range(count))
    ]


@contextmanager
def theme(narrow: bool) -> Iterator[None]:
    """Seaborn's style and sizes for a figure that fills a page's column, or a phone's."""
    import matplotlib as mpl

    size = 8.0 if narrow else 9.0
    settings: dict[Any, Any] = {
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "axes.edgecolor": MUTED,
        "axes.labelcolor": TEXT,
        "axes.titlesize": size,
        "axes.titlelocation": "left",
        "axes.titley": 1.0,  # a fixed place, so that matplotlib need not measure every label
        "axes.labelsize": size,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.labelpad": 2,
        "font.size": size,
        "grid.color": GRID,
        "legend.fontsize": size,
        "legend.frameon": False,
        "lines.linewidth": 1.4,
        "lines.markersize": 4.2,
        "text.color": TEXT,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": TEXT,
        "ytick.labelcolor": TEXT,
        "xtick.labelsize": size - 1,
        "ytick.labelsize": size - 1,
    }
    with mpl.rc_context({**_whitegrid(), **settings}):
        yield


@lru_cache(maxsize=1)
def _whitegrid() -> dict[Any, Any]:
    """Seaborn's style, asked for once: each page is a process, and seaborn takes it a second to import."""

    def ask() -> dict[str, Any]:
        import seaborn as sns

        # Its map of colours is known to matplotlib where seaborn is loaded; pictures here bring their own.
        return {name: value for name, value in sns.axes_style("whitegrid").items() if name != "image.cmap"}

    versions = (metadata.version(name) for name in ("seaborn", "matplotlib"))
    return dict(kept("whitegrid", plain(dict[str, Any]), ask, *versions))


def sparsity_axis(axes: Axes, highest: float) -> None:
    """Scale the x axis by the share that is kept, so that the step from 0.90 to 0.95 can be seen."""
    top = min(max(highest, 0.5), 0.998)
    axes.set_xscale(
        "function",
        functions=(
            lambda s: -np.log10(np.clip(1 - np.asarray(s, float), 1e-4, None)),
            lambda x: 1 - 10 ** -np.asarray(x, float),
        ),
    )
    ticks = [tick for tick in TICKS if tick <= top + 1e-9]
    axes.set_xticks(ticks, [f"{tick * 100:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlim(-0.12, 1 - (1 - top) * 0.82)


def intervals(axes: Axes, x: Any, low: Any, high: Any, **look: Any) -> None:
    """Vertical intervals, all as one path: a collection takes ten times the bytes in an SVG.

    Args:
        axes: where.
        x: their places.
        low: their lower ends.
        high: their upper ends.
        look: of the lines.
    """
    ends = np.column_stack([low, high, np.full(len(x), np.nan)]).ravel()
    axes.plot(np.repeat(np.asarray(x), 3), ends, solid_capstyle="butt", zorder=1, **look)


def svg(figure: Figure, ground: str = "none", about: str | None = None) -> bytes:
    """The figure as SVG on a transparent or coloured ground; the same data gives the same bytes."""
    import matplotlib as mpl

    buffer = BytesIO()
    metadata = {"Date": None, "Creator": None, "Description": about}
    with mpl.rc_context({"svg.hashsalt": "sparsestudy"}):
        figure.savefig(buffer, format="svg", facecolor=ground, metadata=metadata)
    return compact(buffer.getvalue())


def compact(drawing: bytes) -> bytes:
    """The same drawing in fewer bytes: hundredths of a point, the style of like marks once, no indents."""
    plain = _NAMES.sub("", _INDENT.sub("\n", drawing.decode()))
    text = _PLACE.sub(lambda place: _FRACTION.sub(_hundredths, place[0]), plain)
    return _MARKS.sub(_once, text).encode()


def _hundredths(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _once(group: re.Match[str]) -> str:
    """A group of marks with the style on the group, where all have one style."""
    found = set(_STYLE.findall(group[2]))
    if len(found) != 1:
        return group[0]
    return f"{group[1]}{found.pop()}>{_STYLE.sub('', group[2])}</g>"


def recoloured(drawing: bytes) -> bytes:
    """An SVG in the colours of the dark page."""
    text = _HEX.sub(lambda match: RECOLOUR[match[0]], drawing.decode())
    # the inside of open markers is the page itself
    return text.replace("fill: #ffffff", "fill: #121212").encode()


def picture(figure: Figure, kind: str) -> bytes:
    """The figure on white as ``png`` or ``pdf``."""
    buffer = BytesIO()
    metadata: dict[str, Any] = {"CreationDate": None} if kind == "pdf" else {}
    figure.savefig(buffer, format=kind, dpi=144, facecolor="white", metadata=metadata)
    return buffer.getvalue()
