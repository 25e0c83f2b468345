from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from enformer_ray.errors import DownloadError, InputFileError
from enformer_ray.model import hub
from enformer_ray.model.hub import fetch_track_table

CONTENT = b"index\tidentifier\tdescription\n0\ta\tCAGE:x\n"


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serves a table under /table and half of it under /half; its digest replaces the published one."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = {"/table": CONTENT, "/other": b"<html>Sign in</html>", "/half": CONTENT}.get(self.path)
            self.send_response(200 if content else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write((content or b"")[: 10 if self.path == "/half" else None])

        def log_message(self, *_: object) -> None:
            pass

    table = ("http://127.0.0.1:1/absent", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setitem(hub.TRACK_TABLES, "human", table)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_table_is_fetched_once(address: str, tmp_path: Path) -> None:
    to = tmp_path / "tables" / "human.txt"
    assert fetch_track_table("human", to, url=f"{address}/table") == to
    assert to.read_bytes() == CONTENT
    assert fetch_track_table("human", to, offline=True) == to
    assert fetch_track_table("human", to) == to  # its own address would refuse
    assert [path.name for path in to.parent.iterdir()] == ["human.txt"]


@pytest.mark.parametrize(("path", "named"), [("other", "sent 20 bytes"), ("half", "10"), ("absent", "404")])
def test_other_bytes_leave_no_file(address: str, tmp_path: Path, path: str, named: str) -> None:
    with pytest.raises(DownloadError, match=named) as caught:
        fetch_track_table("human", tmp_path / "human.txt", url=f"{address}/{path}")
    assert f"{address}/{path}" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_file_is_replaced(address: str, tmp_path: Path) -> None:
    (tmp_path / "human.txt").write_text("mine")
    fetch_track_table("human", tmp_path / "human.txt", url=f"{address}/table")
    assert (tmp_path / "human.txt").read_bytes() == CONTENT


def test_offline_forbids_and_says_what_to_do(address: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="put it there"):
        fetch_track_table("human", tmp_path / "human.txt", offline=True, url=f"{address}/table")
    assert list(tmp_path.iterdir()) == []


def test_refused_connection_and_malformed_address(address: str, tmp_path: Path) -> None:
    for url in (None, "no address"):
        with pytest.raises(DownloadError, match="could not be downloaded"):
            fetch_track_table("human", tmp_path / "human.txt", url=url)


def test_heads_without_a_published_table() -> None:
    with pytest.raises(InputFileError, match="'rat'"):
        fetch_track_table("rat", Path("rat.txt"))


def test_digests_are_those_of_the_published_tables(shared: Path) -> None:
    for head, (_, sha256) in hub.TRACK_TABLES.items():
        content = (shared / "data" / "tracks" / f"targets_{head}.txt").read_bytes()
        assert hashlib.sha256(content).hexdigest() == sha256
