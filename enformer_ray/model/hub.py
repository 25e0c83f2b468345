"""Loading a network: weights from a folder, a file or the Hugging Face Hub; and the published tables of tracks."""

from __future__ import annotations

import hashlib
import http.client
import re
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from enformer_ray.config import OFFICIAL_WEIGHTS
from enformer_ray.errors import DownloadError, InputFileError, WeightsError, resource_error
from enformer_ray.files import atomic_path, sha256_of
from enformer_ray.model.checkpoint import (
    CONFIG_FILE,
    PICKLE_FILE,
    SAFETENSORS_FILE,
    build_model,
    read_config,
    read_own_file,
    read_tensors,
)
from enformer_ray.model.enformer import Enformer
from enformer_ray.model.geometry import EnformerConfig

OFFICIAL_REVISION = "affe5713ae9017460706a44108289b13c5fee16c"
"""Commit of the published weights: a branch may move."""

OFFICIAL_SHA256 = "99b09d602e195d89c7d4debe144bb2f43907ba0d74006e97098e99d9171c439c"
"""Of pytorch_model.bin (1,005,149,571 bytes) at that revision."""

_TABLES_URL = "https://raw.githubusercontent.com/calico/basenji/master/manuscripts/cross2020"

TRACK_TABLES = {
    "human": (f"{_TABLES_URL}/targets_human.txt", "d90233175a9fec389e5ac04cc4aac8cfc08c4aa86217e2e5c10221de78023580"),
    "mouse": (f"{_TABLES_URL}/targets_mouse.txt", "f76c869a38bfc79690d7a43e86f155db9b8ac8085ff5a717f99358b3253cd230"),
}
"""Address and sha256 of the table of each published head."""

TIMEOUT_S = 60
_MAX_BYTES = 64 << 20
"""Read of an answer at most: a mirror may send anything."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def load_enformer(
    source: str | Path = OFFICIAL_WEIGHTS,
    *,
    revision: str | None = None,
    sequence_length: int | None = None,
    target_length: int | None = None,
    offline: bool = False,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Enformer:
    """Load a network, ready for inference.

    Args:
        source: folder with config.json and model.safetensors or pytorch_model.bin; safetensors file that
            `save_weights` or `convert_sonnet` wrote; or id of a Hugging Face repository of that layout.
        revision: commit, tag or branch of a Hub id. The default repository has a pinned one, whose bytes are checked.
        sequence_length: input, bp, in place of the configured one.
        target_length: output bins in place of the configured ones.
        offline: use only what is on this machine.
        device: where to put the weights.
        dtype: what to cast them to; the digest stays that of the file.

    Returns:
        The network in evaluation mode; its parameters take no gradient.

    Raises:
        WeightsError: there are no weights at `source` (with `offline`, none in the local cache), they are not safe to
            load, or do not fit the network.
        DownloadError: the Hub could not be reached, or sent other bytes than the pinned ones.
        ConfigError: `sequence_length` or `target_length` do not fit the network.
    """
    config, tensors, origin = _read_source(source, revision, offline)
    lengths: dict[str, Any] = {"sequence_length": sequence_length, "target_length": target_length}
    config = replace(config, **{name: value for name, value in lengths.items() if value is not None})
    # On the CPU first, in float32: the digest is taken there, of the bytes in the file.
    return build_model(config, tensors, origin).to(device=device, dtype=dtype)


def _read_source(
    source: str | Path, revision: str | None, offline: bool
) -> tuple[EnformerConfig, dict[str, Tensor], Path]:
    path = Path(source)
    if path.is_file():
        if path.suffix != ".safetensors":
            raise WeightsError(
                f"{path} is not a .safetensors file; for a {PICKLE_FILE}, give the folder that holds it."
            )
        return *read_own_file(path), path
    if path.is_dir():
        weights = _weights_in(path)
        config = path / CONFIG_FILE
    elif isinstance(source, str) and _HUB_ID.fullmatch(source):
        config, weights = fetch_weights(source, revision, offline)
    else:
        raise WeightsError(f"there is no file or folder {source}, and it is not the id of a Hugging Face repository.")
    return read_config(config), read_tensors(weights), weights


def _weights_in(folder: Path) -> Path:
    for name in (SAFETENSORS_FILE, PICKLE_FILE):
        if (folder / name).is_file():
            return folder / name
    if any(folder.glob("*.index")):
        raise WeightsError(
            f"{folder} holds a TensorFlow checkpoint; convert it once with "
            "enformer_ray.model.checkpoint.convert_sonnet, and give the file that it writes."
        )
    raise WeightsError(f"{folder} holds neither {SAFETENSORS_FILE} nor {PICKLE_FILE}.")


def fetch_weights(repository: str, revision: str | None, offline: bool) -> tuple[Path, Path]:
    """Paths of configuration and weights of a Hub repository, downloaded where the local cache does not hold them.

    Args:
        repository: Hub id, `owner/name`.
        revision: commit, tag or branch. None means the pinned commit of the published weights (whose bytes are
            checked), or the main branch of another repository.
        offline: look only into the cache.

    Returns:
        Paths in the cache: config.json, and model.safetensors or pytorch_model.bin.

    Raises:
        DownloadError: the Hub could not be reached, or the bytes are not the pinned ones.
        WeightsError: the Hub has no such repository or revision, or no weights in it; or `offline`, and the cache does
            not hold them.
    """
    if repository == OFFICIAL_WEIGHTS and revision in (None, OFFICIAL_REVISION):
        config = _fetch(repository, [CONFIG_FILE], OFFICIAL_REVISION, offline)
        weights = _fetch(repository, [PICKLE_FILE], OFFICIAL_REVISION, offline)
        _check_pinned(weights)
        return config, weights
    config = _fetch(repository, [CONFIG_FILE], revision, offline)
    return config, _fetch(repository, [SAFETENSORS_FILE, PICKLE_FILE], revision, offline)


def _fetch(repository: str, names: list[str], revision: str | None, offline: bool) -> Path:
    """The first of these files that the repository has."""
    where = f"{repository} at revision {revision or 'main'}"
    find = _cached if offline else _downloaded
    for name in names:
        path = find(repository, name, revision, where)
        if path is not None:
            return path
    if offline:
        at_revision = f" --revision {revision}" if revision else ""
        # Not a DownloadError, with which a worker would be started again: trying again does not help.
        raise WeightsError(
            f"{' or '.join(names)} of {where} is not in the local Hugging Face cache, and --offline forbids "
            f"downloading it. Run once without --offline, or `hf download {repository}{at_revision}` on a connected "
            "machine and copy its cache (HF_HOME), or give the folder that holds the weights."
        )
    raise WeightsError(f"{where} on the Hugging Face Hub has no {' or '.join(names)}.")


def _cached(repository: str, name: str, revision: str | None, _where: str) -> Path | None:
    # Not hf_hub_download(local_files_only=True), which was seen to make a request of its own.
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repository, name, revision=revision)
    return Path(path) if isinstance(path, str) else None


def _downloaded(repository: str, name: str, revision: str | None, where: str) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        HFValidationError,
        LocalEntryNotFoundError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(hf_hub_download(repository, name, revision=revision))
    except RemoteEntryNotFoundError:
        return None
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise WeightsError(
            f"{repository} is no folder here, and the Hugging Face Hub does not give {where} to you: "
            f"{_first_line(error)}. Check the spelling of the path or id, or log in if it is private."
        ) from None
    except LocalEntryNotFoundError as error:
        raise _unreachable(name, where, error.__cause__ or error) from None
    except Exception as error:  # noqa: BLE001 (which client fetches, and what it raises, differs by version)
        raise resource_error(error) or _unreachable(name, where, error) from None


def _unreachable(name: str, where: str, error: BaseException) -> DownloadError:
    return DownloadError(
        f"{name} of {where} could not be downloaded from the Hugging Face Hub: {_first_line(error)}. Check the network "
        "and run the same command again, or give a folder that holds the weights."
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0].rstrip(".")


def _check_pinned(path: Path) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != OFFICIAL_SHA256:
        raise DownloadError(
            f"{path} is not the published file: its sha256 is {found}, not {OFFICIAL_SHA256}. Delete {path.resolve()} "
            "and run the same command again."
        )


def fetch_track_table(head: str, to: Path, *, offline: bool = False, url: str | None = None) -> Path:
    """Download the published table of targets of a head, unless `to` holds it already.

    Args:
        head: human or mouse.
        to: file to write, completely or not at all.
        offline: download nothing.
        url: mirror to use in place of the published address; the bytes must be the same.

    Returns:
        `to`.

    Raises:
        InputFileError: no table is published for this head.
        DownloadError: `offline` and `to` does not hold the table, the address could not be reached or sent other bytes,
            or `to` cannot be written.
    """
    if head not in TRACK_TABLES:
        raise InputFileError(f"no track table is published for the head {head!r}; give your own as tracks_table.")
    published, sha256 = TRACK_TABLES[head]
    url = url or published
    # By its content, not its date: a table of another head or a table cut short is fetched again.
    if to.is_file() and sha256_of(to) == sha256:
        return to
    if offline:
        raise DownloadError(
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
            content: bytes = response.read(_MAX_BYTES)
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        raise DownloadError(f"{url} could not be downloaded: {error}. Check the network and try again.") from None
    return content


def _write(content: bytes, to: Path) -> None:
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(to) as part:
            part.write_bytes(content)
    except OSError as error:
        raise DownloadError(f"the track table cannot be written to {to}: {error}.") from None
