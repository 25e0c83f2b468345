"""Parts of files that are read in several processes: numbers, order and errors are those of one process."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pysam
import pysam.bcftools
import pytest

from enformer_ray.catalogue.build import Catalogue, build_catalogue
from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import VariantFileError
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.planning import job as job_module
from enformer_ray.readers import bgzf

BASES = "ACGTACGGTCAA" * 5000


@pytest.fixture
def reference(tmp_path: Path) -> ReferenceGenome:
    (tmp_path / "r.fa").write_text(f">chr1\n{BASES}\n>chr2\n{BASES}\n")
    return ReferenceGenome(tmp_path / "r.fa")


@pytest.fixture
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bgzf, "SPLIT_BYTES", 0)
    monkeypatch.setattr(bgzf, "PART_BYTES", 20_000)
    monkeypatch.setattr(job_module, "_MAX_READERS", 2)
    monkeypatch.setattr("os.cpu_count", lambda: 2)


class _Job:
    """What the loader asks of a job."""

    def __init__(self, reference: ReferenceGenome, config: CatalogueConfig) -> None:
        self.reference = reference
        self.config: Any = type("Config", (), {"catalogue": config, "reference": reference.path})()


def lines(count: int = 6000) -> list[str]:
    rng = random.Random(3)
    rows = []
    for number in range(count):
        start = rng.randrange(len(BASES) - 1)
        ref = BASES[start]
        alts = ",".join(b for b in "ACGT" if b != ref)[: rng.choice([1, 3])]
        noise = "".join(rng.choices("abcdefghij", k=rng.choice([5, 40])))
        rows.append(f"chr{rng.choice('12')}\t{start + 1}\tid{number}\t{ref}\t{alts}\t.\t.\t{noise}")
    return rows


def write(path: Path, rows: list[str], end: str = "\n") -> Path:
    header = ["##fileformat=VCFv4.2", "##contig=<ID=chr1,length=60000>", "##contig=<ID=chr2,length=60000>"]
    header.append("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO")
    with pysam.BGZFile(str(path), "w", index=None) as out:
        out.write((end.join([*header, *rows]) + end).encode())
    return path


def build(path: Path, reference: ReferenceGenome, scratch: Path, parallel: bool, **options: Any) -> Catalogue:
    config = CatalogueConfig(**options)
    scratch.mkdir()
    job: Any = _Job(reference, config)
    load = job_module.part_loader(job) if parallel else None
    return build_catalogue([path], reference, config, 256, "binned", scratch, load=load)


def tables(catalogue: Catalogue) -> list[pa.Table]:
    return [pq.read_table(path) for files in (catalogue.inputs, catalogue.variants) for path in files.values()]


def serial(path: Path, reference: ReferenceGenome, scratch: Path, **options: Any) -> Catalogue:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bgzf, "SPLIT_BYTES", 1 << 40)
        return build(path, reference, scratch, False, **options)


@pytest.mark.usefixtures("_small_parts")
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tasks_of_a_vcf_give_what_one_process_gives(tmp_path: Path, reference: ReferenceGenome, end: str) -> None:
    path = write(tmp_path / "v.vcf.gz", lines(), end)
    assert len(bgzf.list_parts(0, path, CatalogueConfig())) > 3
    whole = serial(path, reference, tmp_path / "serial")
    divided = build(path, reference, tmp_path / "parallel", True)
    assert divided.digest == whole.digest
    assert tables(divided) == tables(whole)


@pytest.mark.usefixtures("_small_parts")
def test_tasks_of_a_bcf_give_what_one_process_gives(tmp_path: Path, reference: ReferenceGenome) -> None:
    rows = sorted((line.rsplit("\t", 1)[0] + "\t." for line in lines(60_000)), key=_place)
    path = tmp_path / "v.bcf"
    with (
        pysam.VariantFile(str(write(tmp_path / "v.vcf.gz", rows))) as source,
        pysam.VariantFile(str(path), "wb", header=source.header) as out,
    ):
        for site in source:
            out.write(site)
    pysam.bcftools.index(str(path), catch_stdout=False)
    pieces = bgzf.list_parts(0, path, CatalogueConfig())
    assert len(pieces) > 2
    whole = serial(path, reference, tmp_path / "serial")
    divided = build(path, reference, tmp_path / "parallel", False)
    assert divided.digest == whole.digest
    assert tables(divided) == tables(whole)


def _place(line: str) -> tuple[str, int]:
    chromosome, position = line.split("\t")[:2]
    return chromosome, int(position)


@pytest.mark.usefixtures("_small_parts")
def test_a_bad_record_in_a_late_part_is_named_by_its_line_in_the_file(
    tmp_path: Path, reference: ReferenceGenome
) -> None:
    rows = lines()
    rows[5000] = "chr1\tx\t.\tA\tC\t.\t.\t."
    path = write(tmp_path / "v.vcf.gz", rows)
    with pytest.raises(VariantFileError, match=r"v\.vcf\.gz, line 5005: the position 'x'"):
        build(path, reference, tmp_path / "a", False)
    whole = serial(path, reference, tmp_path / "serial", on_bad_record="keep")
    divided = build(path, reference, tmp_path / "b", False, on_bad_record="keep")
    assert divided.digest == whole.digest
    assert divided.counts["rejected", "bad_record"] == 1


def test_every_line_is_in_one_stretch_wherever_a_file_is_cut(tmp_path: Path) -> None:
    rng = random.Random(5)
    text = "\n".join("x" * rng.choice([0, 10, 100, 200_000]) for _ in range(300)).encode()
    path = tmp_path / "t.gz"
    with pysam.BGZFile(str(path), "w", index=None) as out:
        out.write(text)
    starts = bgzf.block_starts(path, 1)
    assert len(starts) > 100
    for cuts in (starts, starts[::3] + starts[-1:], [starts[0], *sorted(rng.sample(starts[1:-1], 5)), starts[-1]]):
        found = [bgzf.BgzipLines(path, a, b).read(1 << 40) for a, b in pairwise(cuts)]
        assert b"".join(found) == text
        assert all(piece.endswith(b"\n") for piece in [piece for piece in found if piece][:-1])
