"""Files beside the pages: pictures for light, dark, wide and narrow screens, and the data behind them."""

from __future__ import annotations

import gzip
import html
import re
from collections.abc import Callable, Hashable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import xarray as xr

from sparsestudy import paths, style
from sparsestudy.columns import COLUMNS
from sparsestudy.figures import Picture

_LARGE = 200_000
"""Bytes above which a CSV is compressed."""
PHONE = 640
"""Width of the screen in CSS pixels below which the narrow drawing is shown."""


def generated() -> Path:
    """The git-ignored folder whose content lies beside the pages of the built report."""
    return paths.ROOT / "book" / "_generated"


def slug(*parts: str) -> str:
    """A file name from labels: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def _put(folder: str, name: str, data: bytes) -> str:
    """Write a file and return its address as seen from a page."""
    paths.write_bytes(generated() / folder / name, data)
    return f"{folder}/{name}"


def data_links(table: pd.DataFrame, name: str, title: str) -> list[tuple[str, str]]:
    """Write a table as CSV, compressed where it is large, and netCDF; returns (label, address) of both."""
    plain = table[[column for column in COLUMNS if column in table]].reset_index(drop=True)
    flat = xr.Dataset.from_dataframe(plain.rename_axis("row"))
    for column in plain:
        if plain[column].dtype == bool:
            flat[column] = flat[column].astype("int8")
        elif not pd.api.types.is_numeric_dtype(plain[column]):
            flat[column] = ("row", plain[column].astype(str).to_numpy(dtype=object))
        flat[column].attrs = {"long_name": str(column).replace("_", " "), "units": "1"}
    flat.attrs = {"title": title, "Conventions": "CF-1.11"}
    encoding: dict[Hashable, dict[str, Any]] = {key: {"zlib": True} for key in flat.variables}
    for key, variable in flat.variables.items():
        if variable.dtype.kind == "i":
            encoding[key]["_FillValue"] = None
        elif variable.dtype == object:
            # Text of fixed length can be compressed; the other kind takes a heap of its own.
            encoding[key]["dtype"] = "S1"
    # A file made in memory is rounded up to a multiple of 64 kB, and most tables are smaller.
    with TemporaryDirectory() as folder:
        file = Path(folder) / "table.nc"
        flat.to_netcdf(file, engine="netcdf4", format="NETCDF4", encoding=encoding)
        netcdf = file.read_bytes()
    text = plain.to_csv(index=False).encode()
    csv = ("CSV", _put("data", f"{name}.csv", text)) if len(text) <= _LARGE else _compressed(name, text)
    return [csv, ("netCDF", _put("data", f"{name}.nc", netcdf))]


def _compressed(name: str, text: bytes) -> tuple[str, str]:
    """The link to a large CSV: that of all cells of a sweep is a tenth as large so."""
    return "CSV (gzip)", _put("data", f"{name}.csv.gz", gzip.compress(text, 6, mtime=0))


def figure(make: Callable[..., Picture], name: str, *arguments: Any, **options: Any) -> str:
    """Draw a picture for every screen, write all files, and return the HTML of the figure."""
    wide = make(*arguments, **options)
    narrow = make(*arguments, narrow=True, **options)
    address: dict[tuple[str, bool], str] = {}
    for size, picture in (("wide", wide), ("narrow", narrow)):
        light = style.svg(picture.figure)
        address[size, False] = _put("figures", f"{name}-{size}.svg", light)
        address[size, True] = _put("figures", f"{name}-{size}-dark.svg", style.recoloured(light))
    links = [("SVG", address["wide", False])]
    for kind in ("png", "pdf"):
        links.append((kind.upper(), _put("figures", f"{name}.{kind}", style.picture(wide.figure, kind))))
    links += data_links(wide.data, name, wide.caption)
    images = [_picture(address["wide", dark], address["narrow", dark], wide, dark) for dark in (False, True)]
    return (
        f'<figure class="study-figure" id="figure-{name}">\n{"".join(images)}'
        f"<figcaption>{html.escape(wide.caption)} {downloads(links)}</figcaption>\n</figure>"
    )


def _picture(wide: str, narrow: str, picture: Picture, dark: bool) -> str:
    width, height = (round(96 * inches) for inches in picture.figure.get_size_inches())
    theme = "only-dark" if dark else "only-light"
    return (
        f'<picture><source media="(max-width: {PHONE}px)" srcset="{narrow}">'
        f'<img class="{theme}" src="{wide}" width="{width}" height="{height}" '
        f'alt="{html.escape(picture.alt)}"></picture>\n'
    )


def downloads(links: list[tuple[str, str]]) -> str:
    """Links to files, in one line."""
    items = " · ".join(
        f'<a href="{html.escape(to)}" download>{html.escape(label)}</a>' for label, to in links
    )
    return f'<span class="downloads">Download: {items}</span>'


def table(
    frame: pd.DataFrame,
    caption: str,
    links: list[tuple[str, str]] | None = None,
    tall: bool = False,
    prose: bool = False,
) -> str:
    """A table as HTML in a box that scrolls by itself, so that the page never does sideways.

    Args:
        frame: what to show; column names are the headings, all values are text or numbers as they are.
        caption: what the table holds.
        links: downloads named under it.
        tall: whether the box also scrolls vertically.
        prose: whether values break into lines.
    """
    head = "".join(f'<th scope="col">{html.escape(str(column))}</th>' for column in frame.columns)
    # On a phone a table of sentences is a list, in which each value needs its heading.
    labels = [f' data-label="{html.escape(str(column))}"' if prose else "" for column in frame.columns]
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{label}>{html.escape(str(value))}</td>" for label, value in zip(labels, row, strict=True)
        )
        + "</tr>\n"
        for row in frame.itertuples(index=False)
    )
    box = f"study-table{' tall' if tall else ''}{' prose' if prose else ''}"
    label = html.escape(caption)
    return (
        f'<div class="{box}" role="region" tabindex="0" aria-label="{label}">\n<table class="table">'
        f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>\n"
        f'<p class="study-caption">{label} {downloads(links) if links else ""}</p>'
    )
