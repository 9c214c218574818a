"""Laws of the model registry, and models that are folders of the user's own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import tiny_weights
import yaml

from sparsestudy import models
from sparsestudy.commands import models as command
from sparsestudy.errors import StudyError
from sparsestudy.weights import catalogue, manifest
from sparsestudy.weights.entries import FolderEntry, HubEntry, WheelEntry

DEFAULT = "smollm2-135m-q4_1"


@pytest.fixture
def extra(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry file of the user's own, still empty, and an empty cache."""
    path = tmp_path / "models.yaml"
    path.write_text("", encoding="utf-8")
    monkeypatch.setenv("SPARSESTUDY_MODELS", str(path))
    return path


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("models") / "tiny")


def test_every_shipped_entry_is_valid(extra: Path) -> None:
    assert DEFAULT in models.REGISTRY
    for name in models.REGISTRY:
        entry = models.REGISTRY[name]
        assert entry.name == name
        assert entry.licence != "unknown"
        assert entry.licence_url.startswith("https://")
        assert not isinstance(entry, FolderEntry)
        # bf16 weights take two bytes each, and the tokenizer a little more
        if isinstance(entry, WheelEntry):
            assert 2 * entry.parameters < entry.disk_bytes < 2.2 * entry.parameters


def test_wheel_and_hub_weights_never_share_a_name_or_a_hash(extra: Path) -> None:
    entries = [models.REGISTRY[name] for name in models.REGISTRY]
    hashes = [entry.weights_sha256() for entry in entries if isinstance(entry, WheelEntry)]
    assert len(set(hashes)) == len(hashes)
    wheels = {entry.name for entry in entries if isinstance(entry, WheelEntry)}
    for entry in entries:
        if isinstance(entry, HubEntry):
            assert any(name.startswith(f"{entry.name}-q") for name in wheels)


def test_hub_models_ship_unpinned_or_with_their_files(extra: Path) -> None:
    for name in models.REGISTRY:
        entry = models.REGISTRY[name]
        if isinstance(entry, HubEntry) and entry.revision is None:
            for use in (models.weights_sha256, models.fetch, models.load):
                with pytest.raises(StudyError, match=f"no pinned revision.*models pin {name}`"):
                    use(name)


def test_weights_sha256_of_a_wheel_model_needs_no_file(extra: Path) -> None:
    assert models.weights_sha256(DEFAULT) == models.REGISTRY[DEFAULT].sha256
    assert not manifest.cache_root().exists()


@pytest.mark.parametrize("use", [models.load, models.tokenizer, models.fetch, models.is_cached])
def test_an_unknown_model_is_one_sentence(use: Callable[[str], object], extra: Path) -> None:
    with pytest.raises(StudyError, match=rf"no model 'smollm2-135m-q41'.* Did you mean '{DEFAULT}'\?"):
        use("smollm2-135m-q41")
    assert "smollm2-135m-q41" not in models.REGISTRY


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not readable YAML"),
        ("- a", "must map each model's name"),
        ("mine: {source: wheel, parameters: 1, context: 1}", "mine.*wheels"),
        ("mine: {source: tape}", "mine"),
        ("mine: {}", "mine.*source"),
        ("mine: {source: hub, hub: a/b, parameters: 1, context: 8, revision: main}", "mine.*revision"),
        (f"mine: {{source: hub, hub: a/b, parameters: 1, context: 8, revision: {'a' * 40}}}", "files belong"),
        ("mine: {source: folder, path: nowhere}", "config.json"),
        ("Mine!: {source: hub, hub: a/b, parameters: 1, context: 8}", "name"),
        (f"{DEFAULT}: {{source: folder, path: x}}", "already; choose another name"),
    ],
)
def test_a_wrong_entry_of_the_user_s_is_named(extra: Path, text: str, message: str) -> None:
    extra.write_text(text, encoding="utf-8")
    with pytest.raises(StudyError, match=message) as caught:
        models.REGISTRY[next(reversed(list(models.REGISTRY)))]
    assert "\n" not in str(caught.value)


def test_a_registry_that_is_named_but_missing(extra: Path) -> None:
    extra.unlink()
    with pytest.raises(StudyError, match=r"SPARSESTUDY_MODELS names .*, which is not a file"):
        list(models.REGISTRY)


def test_a_folder_is_a_model(extra: Path, model_folder: Path) -> None:
    tiny_weights.register(extra, mine={"source": "folder", "path": str(model_folder)})
    entry = models.REGISTRY["mine"]
    assert entry.context == 1024
    assert models.is_cached("mine")
    model, tokenizer = models.load("mine", dtype="bfloat16")
    assert entry.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert str(model.dtype) == "torch.bfloat16"
    assert model.config._attn_implementation == "sdpa"
    assert len(tokenizer) == model.config.vocab_size


def test_the_hash_of_a_folder_follows_its_weights_alone(
    extra: Path, model_folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(model_folder, copy)
    both = {
        "one": {"source": "folder", "path": str(model_folder)},
        "two": {"source": "folder", "path": "copy"},
    }
    tiny_weights.register(extra, **both)
    assert models.weights_sha256("one") == models.weights_sha256("two")  # and a relative path works
    (copy / "notes.txt").write_text("weights do not care", encoding="utf-8")
    assert models.weights_sha256("one") == models.weights_sha256("two")
    weights = copy / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert models.weights_sha256("one") != models.weights_sha256("two")


def test_a_folder_with_weights_that_are_cut_short(extra: Path, model_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(model_folder, copy)
    (copy / "model.safetensors").write_bytes((copy / "model.safetensors").read_bytes()[:-7])
    tiny_weights.register(extra, mine={"source": "folder", "path": "copy"})
    with pytest.raises(StudyError, match=r"'mine'.*model\.safetensors is cut short"):
        models.load("mine")


def test_a_folder_of_the_user_s_is_never_removed(extra: Path, model_folder: Path) -> None:
    tiny_weights.register(extra, mine={"source": "folder", "path": str(model_folder)})
    with pytest.raises(StudyError, match="folder of your own"):
        command.remove("mine")
    assert (model_folder / "config.json").is_file()


def test_pins_are_user_data_and_make_a_hub_model_usable(extra: Path) -> None:
    digest, revision = "b" * 64, "a" * 40
    pin = {"revision": revision, "files": {"model.safetensors": {"bytes": 5, "sha256": digest}}}
    catalogue.pins_file().parent.mkdir(parents=True)
    catalogue.pins_file().write_text(yaml.safe_dump({"smollm2-135m": pin}), encoding="utf-8")
    assert models.weights_sha256("smollm2-135m") == digest
    assert models.REGISTRY["smollm2-135m"].origin.endswith(f"@{revision}")
    assert not models.is_cached("smollm2-135m")


def test_one_hash_for_many_files_depends_on_names_and_order_does_not_matter() -> None:
    a, b = "a" * 64, "b" * 64
    assert manifest.combined({"x": a}) == a
    assert manifest.combined({"x": a, "y": b}) == manifest.combined({"y": b, "x": a})
    assert manifest.combined({"x": a, "y": b}) != manifest.combined({"x": b, "y": a})


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 MB"), (1, "1 MB"), (92_871_040, "93 MB"), (1.1e9, "1.1 GB")]
)
def test_sizes_as_people_read_them(count: float, text: str) -> None:
    assert manifest.size(int(count)) == text


def test_the_list_shows_every_model_and_survives_a_broken_one(
    extra: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_weights.register(extra, broken={"source": "folder", "path": "gone"})
    command.show()
    shown = capsys.readouterr().out
    for name in models.REGISTRY:
        assert name in shown
    assert "unusable" in shown
    assert "terms to accept" in shown
    assert str(manifest.cache_root()) in shown


@pytest.mark.parametrize("arguments", [["fetch"], ["pin", DEFAULT], ["list", DEFAULT], ["fetch", "smolm2"]])
def test_wrong_use_of_the_command_is_one_sentence(arguments: list[str], extra: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sparsestudy", "models", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
