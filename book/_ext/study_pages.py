"""Keeps the pages free of scripts that reach for a server, and lets Sphinx read them side by side."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx


def drop_thebe(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Remove the scripts of thebe, which run code on a server; the theme adds them to every page."""
    del app, page, template, doctree
    scripts = context.get("script_files", [])
    context["script_files"] = [script for script in scripts if not _is_thebe(script)]


def _is_thebe(script: object) -> bool:
    text = f"{getattr(script, 'filename', script)} {getattr(script, 'attributes', {}).get('body', '')}"
    return "thebe" in text.lower()


def allow_parallel(app: Sphinx, config: object) -> None:
    """Vouch for two extensions that say nothing: they number chapters and prepare LaTeX, both unused here."""
    del config
    for name in ("sphinx_multitoc_numbering", "sphinx_jupyterbook_latex"):
        if name in app.extensions:
            app.extensions[name].parallel_read_safe = True


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx, after the extensions that add the scripts."""
    app.connect("config-inited", allow_parallel)
    app.connect("html-page-context", drop_thebe, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
