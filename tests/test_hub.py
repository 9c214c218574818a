"""Pinning and downloading hub models, with the real client against a small hub on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_weights
import yaml

from sparsestudy import models
from sparsestudy.weights import manifest

REPOSITORY = "someone/tiny"
REVISION = "0123456789abcdef0123456789abcdef01234567"
NAME = "tiny-hub"


class Hub(BaseHTTPRequestHandler):
    """The few addresses that looking up and downloading one repository need."""

    folder: Path

    def log_message(self, format: str, *args: Any) -> None:
        """Be silent."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/"):
            listing = path.startswith(f"/api/models/{REPOSITORY}/tree/")
            self.answer(json.dumps(self.tree() if listing else self.info()).encode(), "application/json")
            return
        _, _, name = path.partition(f"/{REPOSITORY}/resolve/{REVISION}/")
        file = self.folder / name
        if name and file.is_file():
            self.answer(file.read_bytes(), "application/octet-stream")
        else:
            self.send_error(404)

    def answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", REVISION)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def files(self) -> list[tuple[str, bytes]]:
        return [(file.name, file.read_bytes()) for file in sorted(self.folder.iterdir())]

    def lfs(self, data: bytes) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        return {"sha256": digest, "oid": digest, "size": len(data), "pointerSize": 130}

    def info(self) -> dict[str, object]:
        siblings = [
            {"rfilename": name, "size": len(data), "blobId": "0" * 40}
            | ({"lfs": self.lfs(data)} if name.endswith((".safetensors", ".bin")) else {})
            for name, data in self.files()
        ]
        return {
            "_id": "1",
            "id": REPOSITORY,
            "sha": REVISION,
            "private": False,
            "tags": [],
            "siblings": siblings,
        }

    def tree(self) -> list[dict[str, object]]:
        return [
            {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
            | ({"lfs": self.lfs(data)} if name.endswith((".safetensors", ".bin")) else {})
            for name, data in self.files()
        ]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny.write_model(tmp_path_factory.mktemp("hub") / "tiny")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle that must never be downloaded")
    return folder


@pytest.fixture
def hub(
    repository: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ThreadingHTTPServer]:
    """A running hub, and a registry with one unpinned model on it."""
    registry = tmp_path / "models.yaml"
    entry = {"source": "hub", "hub": REPOSITORY, "parameters": 1, "context": 1024}
    tiny_weights.register(registry, **{NAME: entry})
    monkeypatch.setenv("SPARSESTUDY_MODELS", str(registry))
    handler = type("Handler", (Hub,), {"folder": repository})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    yield server
    server.shutdown()
    server.server_close()


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The client reads its settings when it is imported, so each call is a process of its own."""
    line = [sys.executable, "-m", "sparsestudy", "models", *arguments]
    return subprocess.run(line, env=dict(os.environ), capture_output=True, text=True, check=False)


def test_pin_then_fetch_then_use(hub: ThreadingHTTPServer, repository: Path, cache: Path) -> None:
    refused = command("fetch", NAME)
    assert refused.returncode == 2
    assert f"models pin {NAME}`" in refused.stderr

    pinned = command("pin", NAME)
    assert pinned.returncode == 0, pinned.stderr
    recorded = yaml.safe_load((cache / "pins.yaml").read_text(encoding="utf-8"))[NAME]
    weights = (repository / "model.safetensors").read_bytes()
    digest = hashlib.sha256(weights).hexdigest()
    assert recorded == {
        "revision": REVISION,
        "files": {"model.safetensors": {"bytes": len(weights), "sha256": digest}},
    }
    assert models.weights_sha256(NAME) == digest

    fetched = command("fetch", NAME)
    assert fetched.returncode == 0, fetched.stderr
    folder = cache / "models" / NAME
    assert (folder / "model.safetensors").read_bytes() == weights
    assert not (folder / "pytorch_model.bin").exists()
    assert not (folder / ".cache").exists()
    assert models.is_cached(NAME)
    model, _ = models.load(NAME)
    assert model.config.max_position_embeddings == 1024


def test_weights_that_are_not_the_pinned_ones_are_refused(hub: ThreadingHTTPServer, cache: Path) -> None:
    wrong = {"revision": REVISION, "files": {"model.safetensors": {"bytes": 5, "sha256": "0" * 64}}}
    cache.mkdir()
    (cache / "pins.yaml").write_text(yaml.safe_dump({NAME: wrong}), encoding="utf-8")
    done = command("fetch", NAME)
    assert done.returncode == 2
    assert f"instead of {'0' * 64}" in done.stderr
    assert not models.is_cached(NAME)
    assert not (manifest.work_folder(NAME) / "hub" / "model.safetensors").exists()


def test_a_hub_that_cannot_be_reached_is_one_sentence(hub: ThreadingHTTPServer) -> None:
    hub.shutdown()
    hub.server_close()
    done = command("pin", NAME)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: {REPOSITORY} could not be read from the hub (")
    assert "Traceback" not in done.stderr
