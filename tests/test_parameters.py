"""Parameters: what is accepted, what is refused and how, labels, and what a notebook's globals give."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsestudy.errors import StudyError
from sparsestudy.parameters import AccuracyParameters
from sparsestudy.specs import MethodSpec, TaskSpec

MODEL = "smollm2-135m-q4_1"

# Each value that cannot be, and the words that its one sentence must hold: what is allowed.
IMPOSSIBLE: list[tuple[dict[str, Any], list[str]]] = [
    ({"lenghts": [512]}, ["no parameter 'lenghts'", "Did you mean 'lengths'?"]),
    ({"methods": ["quset"]}, ["no method 'quset'", "block_sparse", "Did you mean 'quest'?"]),
    ({"methods": [{"name": "quset", "page_size": 8}]}, ["no method 'quset'"]),
    ({"methods": [{"page_size": 8}]}, ["mapping with a name"]),
    ({"methods": [3]}, ["mapping with a name"]),
    ({"methods": ["quest", {"name": "quest"}]}, ["quest twice"]),
    ({"methods": [{"name": "quest", "tail": "soft"}]}, ["methods", "a name or a mapping"]),
    ({"methods": [{"name": "quest", "page_size": {"a": 1}}]}, ["'page_size'", "text, numbers"]),
    ({"methods": [{"name": "quest", "page_size": float("nan")}]}, ["'page_size'"]),
    ({"methods": []}, ["'methods' is empty"]),
    ({"methods": "quest"}, ["'methods'", "a list of methods"]),
    ({"tasks": ["needel"]}, ["no task 'needel'", "Did you mean 'needle'?"]),
    ({"models": ["smolm2-135m-q4_1"]}, ["no model 'smolm2-135m-q4_1'", f"Did you mean '{MODEL}'?"]),
    ({"models": [7]}, ["'models'", "registered models"]),
    ({"sparsities": [1000]}, ["1000", "permille", "999"]),
    ({"sparsities": [-1]}, ["-1", "permille"]),
    ({"sparsities": [0.9]}, ["0.9", "permille", "900"]),
    ({"sparsities": [1.0]}, ["1.0", "permille"]),
    ({"sparsities": [True]}, ["True", "permille"]),
    ({"sparsities": ["half"]}, ["'half'", "permille"]),
    ({"sparsities": 500}, ["'sparsities'", "a list of whole numbers"]),
    ({"lengths": [0]}, ["'lengths'", "at least 1"]),
    ({"lengths": [-5]}, ["'lengths'", "at least 1"]),
    ({"lengths": [512.0]}, ["'lengths'"]),
    ({"lengths": [512, 512]}, ["512 twice"]),
    ({"lengths": [512, 100_000]}, ["100000", "8192", "allow_extrapolation"]),
    ({"samples": 0}, ["'samples'", "at least 1"]),
    ({"samples": "4"}, ["'samples'", "whole number"]),
    ({"samples": True}, ["'samples'"]),
    ({"samples": {512: 4}}, ["'samples' names the lengths 512", "512, 1024"]),
    ({"samples": {512: 4, 1024: 2, 2048: 1}}, ["'samples' names the lengths 512, 1024, 2048"]),
    ({"samples": {512: 4, 1024: 0}}, ["'samples'", "at least 1"]),
    ({"samples": {512: 4, "long": 2}}, ["'samples'", "one for each length"]),
    ({"seed": -1}, ["'seed'"]),
    ({"dtype": "float16"}, ["'dtype'", "bfloat16"]),
    ({"device": "tpu"}, ["'device'", "cuda"]),
    ({"batch_tokens": 0}, ["'batch_tokens'"]),
    ({"run": "My Run"}, ["My Run", "lower-case"]),
    ({"run": "../up"}, ["../up", "lower-case"]),
    ({"published": "yes"}, ["'published'"]),
    ({"tier": "huge"}, ["'tier'", "smoke"]),
    ({3: 4}, ["Parameter names are text"]),
]


@pytest.mark.parametrize(("given", "words"), IMPOSSIBLE)
def test_what_cannot_be_is_refused_in_one_sentence(given: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(StudyError) as refused:
        AccuracyParameters.parse(given)
    sentence = str(refused.value)
    assert "\n" not in sentence
    for word in words:
        assert word in sentence


def test_defaults_are_complete_and_documented() -> None:
    parameters = AccuracyParameters.parse({})
    assert [spec.label for spec in parameters.methods] == ["dense", "window", "block_sparse", "quest"]
    assert parameters.models == [MODEL]
    assert all(field.description for field in AccuracyParameters.model_fields.values())


def test_plain_values_give_the_same_parameters_again() -> None:
    given = {
        "methods": ["dense", {"name": "quest", "tail": "decode", "page_size": 8}],
        "tasks": [{"name": "needle", "queries": 2, "needles": 4}],
        "sparsities": [900, 0, 500, 500],
        "lengths": [1024, 512],
    }
    parameters = AccuracyParameters.parse(given)
    assert parameters.sparsities == [0, 500, 900]
    assert parameters.lengths == [512, 1024]
    through_json = json.loads(json.dumps(parameters.plain()))
    assert AccuracyParameters.parse(through_json) == parameters
    assert parameters.plain()["methods"] == given["methods"]


def test_each_length_may_have_samples_of_its_own() -> None:
    parameters = AccuracyParameters.parse({"lengths": [512, 1024], "samples": {1024: 3, 512: 40}})
    through_json = AccuracyParameters.parse(json.loads(json.dumps(parameters.plain())))
    for found in (parameters, through_json):
        assert [shard.run.samples for shard in found.shards()] == [40, 3]
        assert [shard.parameters.samples for shard in found.shards()] == [40, 3]
    # A shard is the same whether the run has one number or several: the others decide nothing about it.
    alone = AccuracyParameters.parse({"lengths": [512], "samples": 40}).shards()[0]
    assert alone.parameters == parameters.shards()[0].parameters


def test_extrapolation_is_allowed_when_asked_for() -> None:
    assert AccuracyParameters.parse({"lengths": [9000], "allow_extrapolation": True}).lengths == [9000]


def test_shards_are_models_times_lengths_and_their_places_differ() -> None:
    parameters = AccuracyParameters.parse({"run": "mine", "lengths": [512, 1024]})
    published = parameters.model_copy(update={"published": True})
    shards = [*parameters.shards(), *published.shards()]
    assert [shard.name for shard in parameters.shards()] == [f"{MODEL}-512", f"{MODEL}-1024"]
    for places in zip(*((s.path, s.executed, s.checkpoints, s.log) for s in shards), strict=True):
        assert len(set(places)) == len(shards)
    assert shards[0].path.parts[-5:] == ("results", "local", "accuracy", "mine", f"{MODEL}-512.nc")
    assert shards[2].path.parts[-4:] == ("results", "accuracy", "mine", f"{MODEL}-512.nc")
    assert shards[0].parameters.lengths == [512]


FIELD = st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True).filter(
    lambda f: f not in ("name", "tail", "fields")
)
SCALAR = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**6), 10**6),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=6),
    st.sampled_from(["true", "null", "1", "1.0", "a-b_1", 'x"', "[]", "a_1"]),
)
GIVEN = st.fixed_dictionaries(
    {"name": st.sampled_from(["dense", "window", "block_sparse", "quest"])},
    optional={"tail": st.sampled_from(["dense", "decode"])},
).flatmap(
    lambda fixed: st.dictionaries(FIELD, SCALAR | st.lists(SCALAR, max_size=3), max_size=3).map(
        lambda fields: fixed | fields
    )
)


@given(GIVEN, GIVEN)
def test_labels_are_injective(one: dict[str, Any], other: dict[str, Any]) -> None:
    def meaning(given: dict[str, Any]) -> str:
        return json.dumps({"tail": "dense"} | given, sort_keys=True)

    labels = [MethodSpec.model_validate(given).label for given in (one, other)]
    assert (labels[0] == labels[1]) == (meaning(one) == meaning(other))


@given(GIVEN)
def test_a_given_specification_survives_writing_and_reading(given: dict[str, Any]) -> None:
    spec = MethodSpec.model_validate(given)
    assert MethodSpec.model_validate(json.loads(json.dumps(spec.given()))).label == spec.label


def test_labels_are_readable() -> None:
    assert MethodSpec(name="quest").label == "quest"
    spec = MethodSpec.model_validate({"name": "quest", "tail": "decode", "page_size": 8})
    assert spec.label == "quest-page_size_8-tail_decode"
    assert MethodSpec.model_validate({"name": "quest", "tail": "dense"}).label == "quest"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (MethodSpec(name="quest", fields={"page_sise": 8}), ["no field 'page_sise'", "'page_size'"]),
        (MethodSpec(name="quest", fields={"page_size": "8"}), ["'page_size'", "'8'"]),
        (MethodSpec(name="quest", fields={"page_size": 0}), ["page_size"]),
        (MethodSpec(name="window", fields={"phase": "both"}), ["'phase'", "prefill"]),
        (MethodSpec(name="window", tail="decode"), ["prefill phase", "tail"]),
        (MethodSpec(name="dense", tail="decode"), ["tail"]),
        (TaskSpec(name="needle", fields={"quieres": 2}), ["no field 'quieres'", "'queries'"]),
        (TaskSpec(name="needle", fields={"queries": 2}), ["queries"]),
    ],
)
def test_fields_are_checked_against_the_class(spec: MethodSpec | TaskSpec, words: list[str]) -> None:
    kind = "methods" if isinstance(spec, MethodSpec) else "tasks"
    with pytest.raises(StudyError) as refused:
        AccuracyParameters.parse({kind: [spec.given()]}).check_fields()
    for word in words:
        assert word in str(refused.value)


def test_right_fields_build_the_class() -> None:
    built = MethodSpec(name="quest", tail="decode", fields={"page_size": 8}).build()
    assert built.page_size == 8


def test_a_notebooks_globals_give_its_parameters() -> None:
    namespace: dict[str, Any] = {}
    source = "\n".join(
        [
            "from __future__ import annotations",
            "import json",
            "from typing import Any",
            "from pathlib import Path",
            "run: str = 'mine'",
            "samples: int = 3",
            "def helper(): ...",
            "In, Out = [], {}",
            "_private = 1",
        ]
    )
    exec(source, namespace)
    parameters = AccuracyParameters.from_namespace(namespace)
    assert (parameters.run, parameters.samples) == ("mine", 3)
    namespace["sample"] = 5
    with pytest.raises(StudyError, match=r"no parameter 'sample'.*Did you mean 'samples'"):
        AccuracyParameters.from_namespace(namespace)


def test_parameters_load_no_torch() -> None:
    code = (
        "import sys; from sparsestudy.parameters import AccuracyParameters; "
        "from sparsestudy.staleness import shard_key; import sparsestudy.plan; "
        "[shard_key(shard) for shard in AccuracyParameters.parse({}).shards()]; "
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
