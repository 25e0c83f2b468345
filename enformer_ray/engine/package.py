"""The working directory of a submitted job: the job file, and on request a folder of the user's and this program."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

import enformer_ray
from enformer_ray.catalogue.sources import named_file
from enformer_ray.config import JobConfig
from enformer_ray.errors import ConfigError

JOB_FILE = "enformer_ray_job.yaml"
"""Name of the job file in the working directory."""

LARGEST_PACKAGE = 100 * 2**20
"""Bytes. Larger inputs belong where every machine reads them, not in the memory of the head (Ray takes 512 MiB)."""


@contextmanager
def packed(job: JobConfig, folder: Path | None, ship_code: bool) -> Iterator[Path]:
    """A folder that holds everything that a submitted job brings along.

    Args:
        job: written as the job file, without the address.
        folder: its entries go along, so that relative paths of the job mean files in it; hidden entries stay behind.
        ship_code: put this program into it, for clusters whose machines have another version or only what it imports.

    Raises:
        ConfigError: a path of the job would not be there on the cluster, or the folder is missing or too large.
    """
    _check_paths(job, folder)
    with TemporaryDirectory(prefix="enformer-ray-job-") as name:
        package = Path(name)
        for entry in _entries(folder) if folder else ():
            (package / entry.name).symlink_to(entry.resolve())
        if ship_code:
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(Path(enformer_ray.__file__).parent, package / "enformer_ray", ignore=ignore)
        # Only what was asked for, so that a cluster with another version can still read it.
        values = job.model_dump(mode="json", exclude_unset=True, exclude={"address"})
        (package / JOB_FILE).write_text(yaml.safe_dump(values, sort_keys=False))
        yield package


def _entries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ConfigError(f"--working-dir {folder} is no folder.")
    entries = [e for e in folder.iterdir() if not e.name.startswith(".") and e.name not in (JOB_FILE, "enformer_ray")]
    files = [f for e in entries for f in (e.rglob("*") if e.is_dir() else (e,)) if f.is_file()]
    size = sum(file.stat().st_size for file in files)
    if size > LARGEST_PACKAGE:
        largest = max(files, key=lambda file: file.stat().st_size)
        raise ConfigError(
            f"--working-dir {folder} holds {size / 2**20:,.0f} MiB, more than the {LARGEST_PACKAGE // 2**20} MiB that "
            f"a job may bring along (largest: {largest}). Put large inputs where every machine of the cluster reads "
            "them, and name them by absolute path."
        )
    return sorted(entries)


def _check_paths(job: JobConfig, folder: Path | None) -> None:
    """Relative paths would point into a folder on the cluster that is made for the job and deleted after it."""
    if not _is_absolute(job.output):
        raise ConfigError(
            f"output: {job.output} is a relative path, and the folder that a submitted job runs in is deleted. Give a "
            "URI (s3://, gs://) or the absolute path of a directory that every machine of the cluster sees."
        )
    for key, path in _inputs(job):
        if _is_absolute(path) or (folder is not None and (folder / path).exists()):
            continue
        where = f"is not in --working-dir {folder}" if folder else "is a relative path, and no --working-dir goes along"
        raise ConfigError(
            f"{key}: {path} {where}. Give an absolute path or URI that every machine of the cluster reads, or a "
            "--working-dir that holds the file (small ones only)."
        )


def _inputs(job: JobConfig) -> Iterator[tuple[str, str]]:
    yield from (("variants", file) for source in job.variants if (file := named_file(source)) is not None)
    yield from (("previous", uri) for uri in job.previous)
    if job.genes is not None:
        yield "genes.gtf", str(job.genes.gtf)
    yield "reference", str(job.reference)
    if job.tracks_table is not None:
        yield "tracks_table", str(job.tracks_table)
    if job.catalogue.contig_aliases is not None:
        yield "catalogue.contig_aliases", str(job.catalogue.contig_aliases)
    chain = job.catalogue.chain
    for path in chain.values() if isinstance(chain, dict) else [chain] if chain else []:
        yield "catalogue.chain", str(path)
    for selector in job.scoring.tracks:
        if selector.startswith("file:"):
            yield "scoring.tracks", selector.removeprefix("file:")
    if Path(job.weights).exists() or job.weights.endswith(".safetensors"):  # else the id of a repository of the Hub
        yield "weights", job.weights


def _is_absolute(path: str) -> bool:
    return "://" in path or Path(path).is_absolute()
