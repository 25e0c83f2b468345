"""Releases of variants of a tiny genome: the same ones spelled, ordered, joined and stored in many ways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from enformer_ray.config import JobConfig
from enformer_ray.planning.plan import Plan, load_plan, make_plan
from enformer_ray.planning.reuse import ReuseAccount
from enformer_ray.publish.finalise import finalise
from enformer_ray.publish.verify import verify
from enformer_ray.rundir.manifest import Manifest
from enformer_ray.rundir.receipts import read_receipt
from enformer_ray.rundir.store import LocalStore
from tests.run_fixtures import score_without_ray

FORMATS = ("vcf", "tsv", "parquet")
Record = tuple[str, int, str, str]
"""Chromosome, 0-based start, reference and alternate allele."""

_COLUMNS = ("chromosome", "position", "reference_allele", "alternate_allele")


def draw_variants(genome: dict[str, str], count: int, random: np.random.Generator) -> list[Record]:
    """Different variants, some at one place: SNVs, insertions (many of them into repeats), deletions, mixtures."""
    found: dict[Record, None] = {}
    while len(found) < count:
        chromosome = str(random.choice(list(genome)))
        start = int(random.integers(1500, len(genome[chromosome]) - 1500))
        for _ in range(int(random.integers(1, 4))):
            bases = genome[chromosome]
            kind = random.integers(5)
            if kind == 0:
                reference, alternate = bases[start], bases[start] + bases[start + 1] * int(random.integers(1, 4))
            elif kind == 1:
                reference, alternate = bases[start : start + int(random.integers(2, 9))], bases[start]
            elif kind == 2:
                reference = bases[start : start + 3]
                alternate = "".join(random.choice(list("ACGT"), 2))
            else:
                reference, alternate = bases[start], str(random.choice([b for b in "ACGT" if b != bases[start]]))
            if reference != alternate:
                found[chromosome, start, reference, alternate] = None
    return list(found)


def respell(genome: dict[str, str], record: Record, random: np.random.Generator) -> Record:
    """The same change of the genome with more bases around it, or moved along a repeat."""
    chromosome, start, reference, alternate = record
    bases = genome[chromosome]
    if reference[0] == alternate[0] and 1 in (len(reference), len(alternate)) and len(reference) != len(alternate):
        longer = max(reference, alternate, key=len)[1:]
        while bases[start + 1 + (len(reference) - 1)] == longer[0] and random.integers(4):
            start, longer = start + 1, longer[1:] + longer[0]
        anchor = bases[start]
        reference, alternate = (anchor + longer, anchor) if len(reference) > 1 else (anchor, anchor + longer)
    left, right = (int(n) for n in random.integers(0, 4, 2))
    end = start + len(reference)
    before, behind = bases[start - left : start], bases[end : end + right]
    return chromosome, start - left, before + reference + behind, before + alternate + behind


def write_release(path: Path, genome: dict[str, str], records: Sequence[Record], joined: bool) -> Path:
    """Write records in their order; `joined` makes one VCF record of those that begin at the same place."""
    if path.suffix == ".parquet":
        rows = zip(*((c, start + 1, ref, alt) for c, start, ref, alt in records), strict=True)
        pq.write_table(pa.table(dict(zip(_COLUMNS, map(pa.array, rows), strict=True))), path)
        return path
    if path.suffix == ".tsv":
        lines = ["\t".join(_COLUMNS), *(f"{c}\t{start + 1}\t{ref}\t{alt}" for c, start, ref, alt in records)]
        path.write_text("\n".join(lines) + "\n")
        return path
    places: dict[tuple[str, int, int], list[Record]] = {}
    for number, record in enumerate(records):
        places.setdefault((*record[:2], 0 if joined else number), []).append(record)
    lines = ["##fileformat=VCFv4.3", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    for (chromosome, start, _), members in places.items():
        longest = max((reference for _, _, reference, _ in members), key=len)
        alternates = dict.fromkeys(alt + longest[len(ref) :] for _, _, ref, alt in members)
        lines.append(f"chr{chromosome}\t{start + 1}\t.\t{longest}\t{','.join(alternates)}\t.\t.\t.")
    path.write_text("\n".join(lines) + "\n")
    return path


def finished(job: JobConfig) -> tuple[LocalStore, Manifest]:
    """Plan, score, publish and verify a job."""
    store = LocalStore(Path(job.output))
    make_plan(job, store)
    score_without_ray(store)
    manifest = finalise(store)
    verify(store)
    return store, manifest


def scores(store: LocalStore, statistic: str) -> dict[str, np.ndarray]:
    """Scores of each variant, as bits."""
    table = pq.read_table(store.local_path(f"scores/{statistic}"))
    tracks = [name for name in table.column_names if name.startswith("track_")]
    values = np.stack([table.column(name).to_numpy() for name in tracks], axis=1)
    return dict(zip(table.column("variant_id").to_pylist(), values, strict=True))


def origins(store: LocalStore) -> dict[str, str]:
    """Where each variant's score comes from, as the plan says."""
    tables = [
        pq.read_table(store.local_path(path), columns=["variant_id", "origin"]) for path in store.list("plan/variants")
    ]
    table = pa.concat_tables(tables)
    return dict(zip(*(column.to_pylist() for column in table.columns), strict=True))


def counted(store: LocalStore) -> int:
    """Variants that workers scored, by their receipts."""
    return sum(read_receipt(store, shard.shard).rows for shard in load_plan(store).shards())


def planned(job: JobConfig) -> tuple[Plan, ReuseAccount]:
    plan = make_plan(job, LocalStore(Path(job.output)))
    assert plan.document.reuse is not None
    return plan, plan.document.reuse


def with_fewer(job: JobConfig, tmp_path: Path, without: Callable[[int], bool]) -> JobConfig:
    """A job without some of the records, counted from 0."""
    lines = Path(job.variants[0]).read_text().splitlines()
    kept = lines[:2] + [line for number, line in enumerate(lines[2:]) if not without(number)]
    (tmp_path / "fewer.vcf").write_text("\n".join(kept) + "\n")
    return job.model_copy(update={"variants": (str(tmp_path / "fewer.vcf"),)})
