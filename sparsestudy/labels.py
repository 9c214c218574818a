"""The coordinates that describe models and methods, the same in the datasets of every experiment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sparsestudy.models import REGISTRY

if TYPE_CHECKING:
    from sparsestudy.parameters import RunParameters


def model_labels(name: str) -> dict[str, Any]:
    """The coordinates along ``model`` for one model."""
    entry = REGISTRY[name]
    return {
        "model": [name],
        "model_weights_sha256": [entry.weights_sha256()],
        "model_parameters": [entry.parameters],
        "model_context": [entry.context],
        "model_licence": [entry.licence],
        "model_source": [entry.provenance],
        "model_architecture": [entry.architecture],
    }


def method_labels(run: RunParameters) -> dict[str, Any]:
    """The coordinates along ``method``.

    Raises:
        StudyError: a field that a method does not have.
    """
    pairs = [(spec, spec.build()) for spec in run.methods]
    return {
        "method": [spec.label for spec, _ in pairs],
        "method_name": [spec.name for spec, _ in pairs],
        "method_phase": [method.phase for _, method in pairs],
        "method_tail": [spec.tail if method.phase == "decode" else "none" for spec, method in pairs],
        "method_role": [method.role for _, method in pairs],
        "method_scope": [method.scope for _, method in pairs],
        "method_like": [getattr(method, "like", "") for _, method in pairs],
        "method_fields": [json.dumps(spec.fields, sort_keys=True) for spec, _ in pairs],
    }
