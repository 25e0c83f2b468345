"""Weights from the Hugging Face Hub, or from its cache on this machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

from enformer_ray.config import OFFICIAL_WEIGHTS
from enformer_ray.errors import DownloadError, OfflineError, WeightsError
from enformer_ray.model.checkpoint import CONFIG_FILE, PICKLE_FILE, SAFETENSORS_FILE

OFFICIAL_REVISION = "affe5713ae9017460706a44108289b13c5fee16c"
OFFICIAL_SHA256 = "99b09d602e195d89c7d4debe144bb2f43907ba0d74006e97098e99d9171c439c"
"""Of pytorch_model.bin (1,005,149,571 bytes) at that revision."""


def fetch_weights(repository: str, revision: str | None, offline: bool) -> tuple[Path, Path]:
    """Configuration and weights of a Hub repository, downloaded where the local cache does not hold them.

    Args:
        repository: Hub id, `owner/name`.
        revision: commit, tag or branch. None means the pinned commit of the published weights (whose bytes are
            checked), or the main branch of another repository.
        offline: look only into the cache.

    Returns:
        Paths in the cache: config.json, and model.safetensors or pytorch_model.bin.

    Raises:
        OfflineError: `offline`, and the cache does not hold them.
        DownloadError: the Hub could not be reached, or the bytes are not the pinned ones.
        WeightsError: the Hub has no such repository or revision, or no weights in it.
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
        raise OfflineError(
            f"{' or '.join(names)} of {where} is not in the local Hugging Face cache, and --offline forbids "
            f"downloading it. Run once without --offline, or `hf download {repository}{at_revision}` on a connected "
            "machine and copy its cache (HF_HOME), or give the folder that holds the weights."
        )
    raise WeightsError(f"{where} on the Hugging Face Hub has no {' or '.join(names)}.")


def _cached(repository: str, name: str, revision: str | None, _where: str) -> Path | None:
    # not hf_hub_download(local_files_only=True), which was seen to make a request of its own
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
        raise _unreachable(name, where, error) from None


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
