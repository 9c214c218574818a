"""An executed notebook made fit to publish: outputs stay; times, paths and machines go."""

from __future__ import annotations

import json
import re
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from sparsestudy import paths
from sparsestudy.errors import StudyError

LARGEST = 200_000
_KEPT_CELL_METADATA = ("tags",)
_TEMPORARY = re.compile(rf"(?:/private)?(?:/var/folders|/tmp|{re.escape(tempfile.gettempdir())})/[^\s\"':)]*")


def scrubbed(text: str) -> str:
    """The text of an executed notebook without what differs between two equal runs.

    Args:
        text: the notebook, as JSON.

    Returns:
        The notebook, as JSON with one key or value a line.

    Raises:
        StudyError: it is larger than 200 KB.
    """
    notebook = json.loads(text)
    notebook["metadata"] = {
        "kernelspec": {
            "display_name": "Python 3",
            "language": "python",
            "name": "python3",
        },
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook["cells"]):
        cell["id"] = f"cell-{number}"
        metadata = cell.get("metadata", {})
        cell["metadata"] = {key: metadata[key] for key in _KEPT_CELL_METADATA if metadata.get(key)}
        if "outputs" in cell:
            cell["outputs"] = [_output(output) for output in cell["outputs"]]
    cleaned = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    size = len(cleaned.encode())
    if size > LARGEST:
        raise StudyError(
            f"The executed notebook has {size / 1000:.0f} KB, and at most {LARGEST // 1000} KB are "
            "published; let its cells print less."
        )
    return cleaned


def _output(output: dict[str, Any]) -> dict[str, Any]:
    """One output of a cell; pictures, which are not text, stay as they are."""
    for field in ("text", "traceback", "evalue"):
        if field in output:
            output[field] = _cleaned(output[field])
    data = output.get("data", {})
    for kind in data:
        if kind.startswith("text/") or kind == "image/svg+xml":
            data[kind] = _cleaned(data[kind])
    if "metadata" in output:
        output["metadata"] = {}
    return output


def _cleaned(value: Any) -> Any:
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    return _without_machine(value) if isinstance(value, str) else value


def _without_machine(text: str) -> str:
    """A text without this machine's folders and name."""
    places = {
        str(paths.ROOT): ".",
        sys.prefix: "<environment>",
        str(Path.home()): "~",
    }
    for place in sorted(places, key=len, reverse=True):
        if len(place) > 1:
            text = re.sub(re.escape(place) + r"(?![\w.-])", places[place], text)
    text = _TEMPORARY.sub("<temporary>", text)
    host = socket.gethostname()
    return re.sub(rf"\b{re.escape(host)}\b", "<host>", text) if len(host) > 3 else text
