"""Transcription start sites of an annotation, those of one gene within 128 bp made one."""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from enformer_ray.errors import GeneFileError
from enformer_ray.genome.coordinates import BIN, canonical_name

_ATTRIBUTE = re.compile(r'(?:^|[;\s])(gene_id|gene_name|gene_type|gene_biotype|transcript_id)[ =]"?([^";]*)"?')


class GtfRecord(NamedTuple):
    """One line.

    Attributes:
        chromosome: name without `chr`.
        feature: gene, transcript, exon, ...
        start: 0-based first base.
        end: exclusive end.
        strand: as written, mostly + or -.
        attributes: the ninth column.
        line: number of the line, from 1.
    """

    chromosome: str
    feature: str
    start: int
    end: int
    strand: str
    attributes: str
    line: int

    def named(self) -> dict[str, str]:
        """The attributes gene_id, gene_name, gene_type, gene_biotype and transcript_id, as far as they are there."""
        return dict(_ATTRIBUTE.findall(self.attributes))


def gtf_records(path: Path, features: Collection[str]) -> Iterator[GtfRecord]:
    """Records of some features, in the order of the file.

    Args:
        path: GTF, plain or gzip.
        features: names of the third column.

    Raises:
        GeneFileError: the file cannot be read, or a line is none of a GTF.
    """
    return parse_gtf(_lines(path), path, features)


def parse_gtf(lines: Iterable[tuple[int, str]], path: Path, features: Collection[str]) -> Iterator[GtfRecord]:
    """Records of some features in numbered lines of a GTF.

    Raises:
        GeneFileError: a line is none of a GTF.
    """
    for line_number, line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        cells = line.split("\t", 8)
        if len(cells) < 9 or not (cells[3].isdecimal() and cells[4].isdecimal()):
            raise GeneFileError(
                f"line {line_number} of {path} is no line of a GTF: nine columns separated by tabs, the fourth and "
                "fifth being positions. Give --gtf an annotation in GTF, such as GENCODE's, plain or gzip."
            )
        if cells[2] in features:
            name = canonical_name(cells[0])
            yield GtfRecord(name, cells[2], int(cells[3]) - 1, int(cells[4]), cells[6], cells[8], line_number)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rt") if packed else path.open(encoding="utf-8") as text:
            yield from enumerate(text, 1)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise GeneFileError(f"the gene annotation {path} cannot be read ({error}). Give --gtf a GTF file.") from None


_FEATURES = frozenset({"gene", "transcript", "exon"})
_STRANDS = ("+", "-")


class TranscriptionStart(NamedTuple):
    """A collapsed transcription start site; they sort by position, then by gene.

    Attributes:
        position: 1-based first transcribed base.
        gene_id: as in the annotation.
        gene_name: as in the annotation, else gene_id.
        strand: + or -.
    """

    position: int
    gene_id: str
    gene_name: str
    strand: str


class _GeneKey(NamedTuple):
    chromosome: str
    gene_id: str
    strand: str


class Annotation(NamedTuple):
    """The transcription starts of a GTF.

    Attributes:
        path: the file.
        starts: by chromosome (without `chr`), sorted by position.
        digest: hex sha256 over all of them: the same for the same starts, whatever the file looks like.
    """

    path: Path
    starts: Mapping[str, list[TranscriptionStart]]
    digest: str


def read_annotation(path: Path, gene_types: Collection[str] = (), genes: Collection[str] = ()) -> Annotation:
    """Read the transcription starts of a GTF.

    A transcript begins at its first base, on the strand - at its last one. Transcripts are the lines `transcript`; of a
    gene that has none, the extents of the lines `exon` by transcript_id; of one that has neither, its line `gene`.
    Lines without a strand have no start and are left out.

    Starts of one gene that lie in the same 128-bp bin, bin b being the bases 128 b + 1 .. 128 b + 128 (1-based) of the
    chromosome, become one: the position at which most of its transcripts in that bin begin, and of several such
    positions the one farthest upstream.

    Args:
        path: GTF, plain or gzip.
        gene_types: values of gene_type (or gene_biotype) that are wanted; none means all.
        genes: gene_id, with or without version, or gene_name of genes that are wanted; none means all.

    Raises:
        GeneFileError: the file cannot be read, a line is none of a GTF, or nothing of what is wanted is in it.
    """
    wanted_types, wanted = frozenset(gene_types), frozenset(genes)
    names: dict[_GeneKey, str] = {}
    starts: dict[str, dict[_GeneKey, Counter[int]]] = {"transcript": {}, "gene": {}}
    exons: dict[_GeneKey, dict[str, tuple[int, int]]] = {}
    for record in gtf_records(path, _FEATURES):
        said = record.named()
        gene_id = said.get("gene_id") or said.get("gene_name") or ""
        if record.strand not in _STRANDS or not gene_id:
            continue
        name = said.get("gene_name") or gene_id
        kind = said.get("gene_type") or said.get("gene_biotype") or ""
        if (wanted_types and kind not in wanted_types) or not _is_wanted(wanted, gene_id, name):
            continue
        key = _GeneKey(record.chromosome, gene_id, record.strand)
        if names.setdefault(key, name) == gene_id:
            names[key] = name
        if record.feature == "exon":
            _extend(exons.setdefault(key, {}), said.get("transcript_id", ""), record)
        else:
            starts[record.feature].setdefault(key, Counter())[_first(record.strand, record.start, record.end)] += 1
    of_exons = {
        key: Counter(_first(key.strand, *extent) for extent in transcripts.values())
        for key, transcripts in exons.items()
    }
    found = starts["gene"] | of_exons | starts["transcript"]
    if not found:
        asked = ", ".join([*gene_types, *genes])
        raise GeneFileError(
            f"{path} has no transcript, exon or gene with a gene_id and a strand"
            f"{f' that is one of {asked}' if asked else ''}. Give --gtf the annotation of the reference's assembly, "
            "and --gene-type or --gene what it has."
        )
    return _annotation(path, found, names)


def _annotation(path: Path, found: Mapping[_GeneKey, Counter[int]], names: Mapping[_GeneKey, str]) -> Annotation:
    starts: dict[str, list[TranscriptionStart]] = {}
    for key, positions in found.items():
        for position in _collapsed(positions, key.strand):
            start = TranscriptionStart(position, key.gene_id, names[key], key.strand)
            starts.setdefault(key.chromosome, []).append(start)
    ordered = {name: sorted(starts[name]) for name in sorted(starts)}
    digest = hashlib.sha256()
    for name, of_chromosome in ordered.items():
        for start in of_chromosome:
            digest.update("".join(f"{cell}\0" for cell in (name, *start)).encode())
    return Annotation(path, ordered, digest.hexdigest())


def _collapsed(positions: Mapping[int, int], strand: str) -> Iterable[int]:
    """One position for each 128-bp bin, of those (1-based) at which so many transcripts begin."""
    best: dict[int, tuple[int, int]] = {}
    for position, transcripts in positions.items():
        upstream = position if strand == "-" else -position
        there = (position - 1) // BIN
        best[there] = max(best.get(there, (0, 0)), (transcripts, upstream))
    return (abs(upstream) for _, upstream in best.values())


def _first(strand: str, start: int, end: int) -> int:
    """1-based first transcribed base of a stretch (0-based half-open)."""
    return end if strand == "-" else start + 1


def _extend(transcripts: dict[str, tuple[int, int]], name: str, record: GtfRecord) -> None:
    start, end = transcripts.get(name, (record.start, record.end))
    transcripts[name] = min(start, record.start), max(end, record.end)


def _is_wanted(wanted: frozenset[str], gene_id: str, name: str) -> bool:
    return not wanted or name in wanted or gene_id in wanted or gene_id.partition(".")[0] in wanted


class Interval(NamedTuple):
    """A stretch of a chromosome: name without `chr`, 0-based half-open."""

    chromosome: str
    start: int
    end: int


@dataclass
class Gene:
    """One gene.

    Attributes:
        name: gene_name, else gene_id.
        kind: gene_type or gene_biotype; empty when the file does not say.
        strand: + or -.
        start: 0-based first base.
        end: exclusive end.
        exons: (start, end) of exons of all transcripts, those inside of others left out.
    """

    name: str
    kind: str
    strand: str
    start: int
    end: int
    exons: list[tuple[int, int]] = field(default_factory=list)

    @property
    def transcription_start(self) -> int:
        """0-based first transcribed base of the longest extent."""
        return self.start if self.strand != "-" else self.end - 1


def read_genes(path: Path, regions: Sequence[Interval]) -> list[list[Gene]]:
    """Genes that overlap each region, by start.

    Args:
        path: GTF, plain or gzip.
        regions: where to look.

    Raises:
        GeneFileError: the file cannot be read, or a line is none of a GTF.
    """
    found: list[dict[str, Gene]] = [{} for _ in regions]
    by_chromosome: dict[str, list[int]] = {}
    for number, region in enumerate(regions):
        by_chromosome.setdefault(region.chromosome, []).append(number)
    for record in gtf_records(path, _FEATURES):
        for number in by_chromosome.get(record.chromosome, ()):
            if record.start < regions[number].end and record.end > regions[number].start:
                _add(found[number], record)
    return [sorted(map(_joined, genes.values()), key=lambda gene: (gene.start, gene.end)) for genes in found]


def _add(genes: dict[str, Gene], record: GtfRecord) -> None:
    said = record.named()
    key = said.get("gene_id") or said.get("gene_name") or f"{record.start}"
    gene = genes.get(key)
    if gene is None:
        kind = said.get("gene_type") or said.get("gene_biotype") or ""
        gene = genes[key] = Gene(said.get("gene_name") or key, kind, record.strand, record.start, record.end)
    gene.start, gene.end = min(gene.start, record.start), max(gene.end, record.end)
    if record.feature == "exon":
        gene.exons.append((record.start, record.end))


def _joined(gene: Gene) -> Gene:
    """The gene with overlapping exons made one."""
    exons: list[tuple[int, int]] = []
    for start, end in sorted(gene.exons):
        if exons and start <= exons[-1][1]:
            exons[-1] = exons[-1][0], max(exons[-1][1], end)
        else:
            exons.append((start, end))
    gene.exons = exons
    return gene
