"""Documents that are read whole are refused by their size first: files of a gigabyte that take no room on the disk."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from enformer_ray.analysis.exports.gene_sets import read_bed
from enformer_ray.catalogue import chain
from enformer_ray.catalogue.chain import Chain
from enformer_ray.catalogue.sources import stretches
from enformer_ray.cli.dataset import _sql
from enformer_ray.errors import ConfigError, EnformerRayError, InputFileError
from enformer_ray.files import open_bounded, read_small
from enformer_ray.genome.reference import ReferenceGenome, read_contig_aliases
from enformer_ray.job_file import MAX_JOB_BYTES, load_job_file
from enformer_ray.model.checkpoint import read_config, read_tensors
from enformer_ray.model.tracks import read_track_table, select_tracks
from enformer_ray.planning.plan import load_plan
from enformer_ray.publish.documents import read_failures
from enformer_ray.rundir.manifest import read_manifest
from enformer_ray.rundir.store import LocalStore, open_store

GIGABYTE = 10**9


def sparse(path: Path, size: int = GIGABYTE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
    return path


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "job file": ("job.yaml", load_job_file),
    "chain": ("a.chain", Chain),
    "contig aliases": ("aliases.tsv", read_contig_aliases),
    "track table": ("tracks.tsv", lambda path: read_track_table(path, "human", 5)),
    "list of tracks": ("tracks.txt", lambda path: select_tracks([f"file:{path}"], 5, None)),
    "config.json": ("config.json", read_config),
    "BED to saturate": ("a.bed", lambda path: stretches(f"saturate:{path}", None)),  # type: ignore[arg-type]
    "BED of sets": ("b.bed", read_bed),
    "SQL": ("q.sql", lambda path: _sql(None, path)),
    "plan.json": ("run/plan/plan.json", lambda path: load_plan(open_store(str(path.parents[1])))),
    "manifest.json": ("run/manifest.json", lambda path: read_manifest(LocalStore(path.parent))),
    "run.json": ("run/run.json", lambda path: read_failures(LocalStore(path.parent))),
}


@pytest.mark.parametrize("name", READERS)
def test_a_gigabyte_is_refused_by_its_size(name: str, tmp_path: Path) -> None:
    file, read = READERS[name]
    path = sparse(tmp_path / file)
    with pytest.raises(EnformerRayError, match=r"1,000,000,000 bytes") as refused:
        read(path)
    assert str(path) in str(refused.value)
    assert "at most" in str(refused.value)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_weights_of_a_terabyte_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(EnformerRayError, match=r"1,000,000,000,000 bytes"):
        read_tensors(sparse(tmp_path / name, 10**12))


def test_so_is_the_index_of_a_fasta(tmp_path: Path) -> None:
    (tmp_path / "a.fa").write_text(">1\nACGT\n")
    sparse(tmp_path / "a.fa.fai")
    with pytest.raises(InputFileError, match=r"a\.fa\.fai has 1,000,000,000 bytes"):
        ReferenceGenome(tmp_path / "a.fa")


def test_a_device_without_a_size_is_read_up_to_the_limit() -> None:
    with pytest.raises(ConfigError, match="/dev/zero has more bytes"):
        load_job_file(Path("/dev/zero"))


def test_what_is_packed_counts_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "MAX_CHAIN_BYTES", 10**6)
    path = tmp_path / "bomb.chain.gz"
    path.write_bytes(gzip.compress(b"#" * 10**7))
    assert path.stat().st_size < 10**5
    with pytest.raises(InputFileError, match="more bytes"):
        Chain(path)
    path.write_bytes(gzip.compress(b"chain 1 1 100 + 0 50 1 100 + 0 50 1\n" + b"1 1 1\n" * 10**6))
    with pytest.raises(InputFileError, match="more bytes"):
        Chain(path)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_up_to_the_limit_files_are_read_whole(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    content = bytes(range(256)) * 4000
    path = tmp_path / "file"
    path.write_bytes(pack(content))
    with open_bounded(path, len(content) + 1, "a file", InputFileError) as stream:
        assert stream.read() == content
    if pack is bytes:
        assert read_small(path, len(content), "a file", InputFileError) == content
        with pytest.raises(InputFileError):
            read_small(path, len(content) - 1, "a file", InputFileError)


BOMBS = {
    "aliases": "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "itself": "variants: &a [*a]\n",
    "deep": "variants: " + "[" * 50_000,
    "digits": "audit: " + "9" * 10_000,
    "date": "output: 2026-99-99\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_job_file_that_stands_for_more_than_it_has(name: str, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(BOMBS[name])
    assert path.stat().st_size < MAX_JOB_BYTES
    with pytest.raises(ConfigError, match=r"job\.yaml"):
        load_job_file(path)


def test_aliases_that_a_person_writes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("variants: &mine [a.vcf, b.vcf]\nprevious: *mine\n")
    assert load_job_file(path)["previous"] == ["a.vcf", "b.vcf"]
