"""The published tables of targets, downloaded and checked against their digests."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from enformer_ray.errors import DownloadError, OfflineError, TrackTableError

_SOURCE = "https://raw.githubusercontent.com/calico/basenji/master/manuscripts/cross2020"

TRACK_TABLES = {
    "human": (f"{_SOURCE}/targets_human.txt", "d90233175a9fec389e5ac04cc4aac8cfc08c4aa86217e2e5c10221de78023580"),
    "mouse": (f"{_SOURCE}/targets_mouse.txt", "f76c869a38bfc79690d7a43e86f155db9b8ac8085ff5a717f99358b3253cd230"),
}
"""Address and sha256 of the table of each published head."""

TIMEOUT_S = 60
_MOST_BYTES = 64 << 20


def fetch_track_table(head: str, to: Path, *, offline: bool = False, url: str | None = None) -> Path:
    """Download the published table of targets of a head, unless `to` holds it already.

    Args:
        head: human or mouse.
        to: file to write; it is either not there or whole.
        offline: download nothing.
        url: mirror to use in place of the published address; the bytes must be the same.

    Returns:
        `to`.

    Raises:
        TrackTableError: no table is published for this head.
        OfflineError: `offline`, and `to` does not hold the table.
        DownloadError: the address could not be reached, sent other bytes, or `to` cannot be written.
    """
    if head not in TRACK_TABLES:
        raise TrackTableError(f"no track table is published for the head {head!r}; give your own as tracks_table.")
    published, sha256 = TRACK_TABLES[head]
    url = url or published
    if to.is_file() and hashlib.sha256(to.read_bytes()).hexdigest() == sha256:
        return to
    if offline:
        raise OfflineError(
            f"{to} does not hold the track table of the {head} head, and --offline forbids downloading it; fetch {url} "
            "on a connected machine and put it there."
        )
    content = _download(url)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DownloadError(
            f"{url} sent {len(content)} bytes with sha256 {found}, not the published table ({sha256}); nothing was "
            "kept. Try again, or give a table of your own as tracks_table."
        )
    _write(content, to)
    return to


def _download(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            content: bytes = response.read(_MOST_BYTES)
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        raise DownloadError(f"{url} could not be downloaded: {error}. Check the network and try again.") from None
    return content


def _write(content: bytes, to: Path) -> None:
    part = to.with_name(f".{to.name}.{os.getpid()}.part")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(to)
    except OSError as error:
        raise DownloadError(f"the track table cannot be written to {to}: {error}.") from None
    finally:
        part.unlink(missing_ok=True)
