"""The Hub path, against a server on loopback that answers as the Hub does."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from enformer_ray.config import OFFICIAL_WEIGHTS
from enformer_ray.errors import DownloadError, WeightsError
from enformer_ray.model import hub
from enformer_ray.model.enformer import Enformer
from enformer_ray.model.hub import OFFICIAL_REVISION, load_enformer
from enformer_ray.model.keys import hub_state

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Files by (repository, revision, name), served under `/<repository>/resolve/<revision>/<name>`."""

    def __init__(self, cache: Path) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.cache = cache

    def add(self, repository: str, revision: str, name: str, content: bytes) -> None:
        self.files[f"/{repository}/resolve/{revision}/{name}"] = content

    def answer(self, handler: BaseHTTPRequestHandler, with_body: bool) -> None:
        self.requests.append(f"{handler.command} {handler.path}")
        content = self.files.get(handler.path)
        if content is None:
            known = any(handler.path.rsplit("/", 1)[0] == path.rsplit("/", 1)[0] for path in self.files)
            handler.send_response(404)
            handler.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        revision = handler.path.split("/")[4]
        handler.send_response(200)
        handler.send_header("X-Repo-Commit", revision if len(revision) == 40 else COMMIT)
        handler.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if with_body:
            handler.wfile.write(content)


@pytest.fixture
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    served = FakeHub(tmp_path / "cache")

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            served.answer(self, with_body=False)

        def do_GET(self) -> None:
            served.answer(self, with_body=True)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        point_at(f"http://127.0.0.1:{server.server_port}", monkeypatch)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(served.cache))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        notes = str(tmp_path / "notes.json")  # recent versions keep a file in the home directory
        monkeypatch.setattr("huggingface_hub.constants.AGENT_HARNESSES_PATH", notes, raising=False)
        yield served
        server.shutdown()
        thread.join()


def point_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT does when it is set before the library is imported."""
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def weight_file(tiny_model: Enformer, tmp_path: Path) -> bytes:
    torch.save(hub_state(tiny_model.config, tiny_model.state_dict()), tmp_path / "weights.bin")
    return (tmp_path / "weights.bin").read_bytes()


def add_model(served: FakeHub, model: Enformer, weights: bytes, repository: str, revision: str) -> None:
    served.add(repository, revision, "config.json", json.dumps(model.config.to_dict()).encode())
    served.add(repository, revision, "pytorch_model.bin", weights)


def test_repository_is_fetched_once_then_used_offline(
    fake_hub: FakeHub, tiny_model: Enformer, weight_file: bytes
) -> None:
    add_model(fake_hub, tiny_model, weight_file, "lab/mini", "v2")
    with pytest.raises(WeightsError, match=r"config\.json of lab/mini at revision v2.*hf download lab/mini"):
        load_enformer("lab/mini", revision="v2", offline=True)
    assert fake_hub.requests == []
    assert load_enformer("lab/mini", revision="v2").digest == tiny_model.digest
    asked = len(fake_hub.requests)
    assert asked > 0
    assert load_enformer("lab/mini", revision="v2", offline=True).digest == tiny_model.digest
    assert len(fake_hub.requests) == asked


def test_published_weights_are_checked_against_their_digest(
    fake_hub: FakeHub, tiny_model: Enformer, weight_file: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_model(fake_hub, tiny_model, weight_file, OFFICIAL_WEIGHTS, OFFICIAL_REVISION)
    with pytest.raises(DownloadError, match="is not the published file") as caught:
        load_enformer()
    assert hub.OFFICIAL_SHA256 in str(caught.value)
    assert str(fake_hub.cache) in str(caught.value)
    monkeypatch.setattr(hub, "OFFICIAL_SHA256", hashlib.sha256(weight_file).hexdigest())
    assert load_enformer().digest == tiny_model.digest


def test_another_revision_of_the_published_weights_is_not_pinned(
    fake_hub: FakeHub, tiny_model: Enformer, weight_file: bytes
) -> None:
    add_model(fake_hub, tiny_model, weight_file, OFFICIAL_WEIGHTS, "main")
    assert load_enformer(OFFICIAL_WEIGHTS, revision="main").digest == tiny_model.digest


def test_unknown_repository_and_missing_weights_are_told_apart(fake_hub: FakeHub, tiny_model: Enformer) -> None:
    with pytest.raises(WeightsError, match="lab/absent is no folder here"):
        load_enformer("lab/absent")
    fake_hub.add("lab/mini", "main", "config.json", json.dumps(tiny_model.config.to_dict()).encode())
    with pytest.raises(WeightsError, match=r"has no model\.safetensors or pytorch_model\.bin"):
        load_enformer("lab/mini")


def test_unreachable_hub_is_one_paragraph(
    fake_hub: FakeHub, unused_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(unused_address, monkeypatch)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)  # between the library's five retries
    with pytest.raises(DownloadError, match=r"config\.json of .* could not be downloaded") as caught:
        load_enformer()
    assert "\n" not in str(caught.value)


@pytest.fixture
def unused_address() -> str:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return f"http://127.0.0.1:{server.server_port}"
