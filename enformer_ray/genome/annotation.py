"""Reads gene annotation in GTF: its records, transcription start sites, and the genes that overlap a region."""

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

from enformer_ray.errors import InputFileError
from enformer_ray.genome.coordinates import BIN, Interval, canonical_name

_ATTRIBUTE = re.compile(r'([\w.-]+)[ =](?:"([^"]*)"|([^";]*))')  # a quoted value may hold semicolons
_NAMED = frozenset({"gene_id", "gene_name", "gene_type", "gene_biotype", "transcript_id"})
_GFF3_ATTRIBUTE = re.compile(r"\w+=")
_FEATURES = frozenset({"gene", "transcript", "exon"})
_STRANDS = ("+", "-")


class GtfRecord(NamedTuple):
    """One line of a GTF.

    Attributes:
        chromosome: name without `chr`.
        feature: gene, transcript, exon, ...
        start: 0-based first base.
        end: exclusive end.
        strand: as written, mostly + or -.
        attributes: the ninth column.
        line: its number in the file, from 1.
    """

    chromosome: str
    feature: str
    start: int
    end: int
    strand: str
    attributes: str
    line: int = 0

    def named(self) -> dict[str, str]:
        """Those of the attributes gene_id, gene_name, gene_type, gene_biotype and transcript_id that the line has."""
        return {name: value for name, value in self.all_attributes().items() if name in _NAMED}

    def all_attributes(self) -> dict[str, str]:
        """All attributes by name; of several with one name, the last."""
        return {name: quoted or bare.strip() for name, quoted, bare in _ATTRIBUTE.findall(self.attributes)}


def gtf_records(path: Path, features: Collection[str], aliases: Mapping[str, str] | None = None) -> Iterator[GtfRecord]:
    """Records of some features (third column) of a GTF, plain or gzip, in the order of the file."""
    return parse_gtf(_lines(path), path, features, aliases)


def parse_gtf(
    lines: Iterable[tuple[int, str]],
    path: Path,
    features: Collection[str],
    aliases: Mapping[str, str] | None = None,
) -> Iterator[GtfRecord]:
    """Records of some features in numbered lines of a GTF.

    Args:
        lines: number and text.
        path: the file, for errors.
        features: third columns to keep.
        aliases: further names of contigs, such as `NC_000001.11` -> `chr1`.

    Raises:
        InputFileError: a line is not of a GTF, or of a GFF3 that does not say its gene on every line as GENCODE's does.
    """
    for line_number, line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        cells = line.split("\t", 8)
        if len(cells) < 9 or not (cells[3].isdecimal() and cells[4].isdecimal()):
            raise InputFileError(
                f"line {line_number} of {path} is no line of a GTF: nine columns separated by tabs, the fourth and "
                "fifth being positions. Give --gtf an annotation in GTF, such as GENCODE's, plain or gzip."
            )
        attributes = cells[8].strip()
        # Any line: a GFF3 may have only some of its genes under a feature that a GTF has, too.
        if _GFF3_ATTRIBUTE.match(attributes) and "gene_id=" not in attributes:
            raise InputFileError(
                f"{path} is a GFF3 whose lines do not name their gene (line {line_number}: {attributes[:40]!r}); of "
                "GFF3, only GENCODE's is read. Give --gtf the same annotation in GTF, which its publisher has beside "
                f"it, or make one: `gffread {path.name} -T -o genes.gtf`."
            )
        if cells[2] in features:
            name = canonical_name(cells[0], aliases)
            yield GtfRecord(name, cells[2], int(cells[3]) - 1, int(cells[4]), cells[6], attributes, line_number)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rt") if packed else path.open(encoding="utf-8") as text:
            yield from enumerate(text, 1)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputFileError(f"the gene annotation {path} cannot be read ({error}). Give --gtf a GTF file.") from None


class TranscriptionStart(NamedTuple):
    """One or more transcription start sites of a gene within 128 bp; they sort by position, then by gene.

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
        digest: hex sha256 over all starts; it does not depend on the order or other lines of the file.
    """

    path: Path
    starts: Mapping[str, list[TranscriptionStart]]
    digest: str


def read_annotation(
    path: Path,
    gene_types: Collection[str] = (),
    genes: Collection[str] = (),
    aliases: Mapping[str, str] | None = None,
) -> Annotation:
    """Read the transcription starts of a GTF.

    A transcript begins at its first base, on the strand - at its last one. Transcripts are the lines `transcript`; for
    a gene without them, the extents of the lines `exon` by transcript_id; without those, too, its line `gene`. Lines
    without a strand have no start and are skipped.

    Starts of one gene that lie in the same 128-bp bin, bin b being the bases 128 b + 1 .. 128 b + 128 (1-based) of the
    chromosome, become one: the position at which most of its transcripts in that bin begin, and of several such
    positions the one farthest upstream.

    Args:
        path: GTF, plain or gzip.
        gene_types: values of gene_type (or gene_biotype) to read, of which one line of a gene is enough: RefSeq's GTF
            has it on the lines `gene` alone; empty for all.
        genes: gene_id, with or without version, or gene_name of the genes to read; empty for all.
        aliases: further names of contigs, such as `NC_000001.11` -> `chr1`.

    Raises:
        InputFileError: the file cannot be read, a line is not of a GTF, or it has no such gene.
    """
    names, starts = _gene_starts(path, frozenset(gene_types), frozenset(genes), aliases)
    if not starts:
        filters = ", ".join([*gene_types, *genes])
        raise InputFileError(
            f"{path} has no transcript, exon or gene with a gene_id and a strand"
            f"{f' that is one of {filters}' if filters else ''}. Give --gtf the annotation of the reference's "
            "assembly, and --gene-type or --gene what it has."
        )
    return _annotation(path, starts, names)


def _gene_starts(
    path: Path, gene_types: frozenset[str], genes: frozenset[str], aliases: Mapping[str, str] | None
) -> tuple[dict[_GeneKey, str], dict[_GeneKey, Counter[int]]]:
    """Name of each gene, and how many of its transcripts begin at each position."""
    names: dict[_GeneKey, str] = {}
    kinds: dict[tuple[str, str], str] = {}
    starts: dict[str, dict[_GeneKey, Counter[int]]] = {"transcript": {}, "gene": {}}
    exons: dict[_GeneKey, dict[str, tuple[int, int]]] = {}
    for record in gtf_records(path, _FEATURES, aliases):
        attributes = record.named()
        gene_id = attributes.get("gene_id") or attributes.get("gene_name") or ""
        if record.strand not in _STRANDS or not gene_id:
            continue
        name = attributes.get("gene_name") or gene_id
        key = _GeneKey(record.chromosome, gene_id, record.strand)
        if names.setdefault(key, name) == gene_id:  # a later line may have the name that this one lacks
            names[key] = name
        if kind := _gene_type(attributes):
            kinds.setdefault(key[:2], kind)
        if record.feature == "exon":
            _extend(exons.setdefault(key, {}), attributes.get("transcript_id", ""), record)
        else:
            starts[record.feature].setdefault(key, Counter())[_first(record.strand, record.start, record.end)] += 1
    of_exons = {
        key: Counter(_first(key.strand, *extent) for extent in transcripts.values())
        for key, transcripts in exons.items()
    }
    found = starts["gene"] | of_exons | starts["transcript"]
    # Only now: what one line of a gene says of its type and name holds for its others.
    return names, {
        key: positions
        for key, positions in found.items()
        if (not gene_types or kinds.get(key[:2]) in gene_types) and _is_selected(genes, key.gene_id, names[key])
    }


def _annotation(path: Path, starts: Mapping[_GeneKey, Counter[int]], names: Mapping[_GeneKey, str]) -> Annotation:
    by_chromosome: dict[str, list[TranscriptionStart]] = {}
    for key, positions in starts.items():
        for position in _collapsed(positions, key.strand):
            start = TranscriptionStart(position, key.gene_id, names[key], key.strand)
            by_chromosome.setdefault(key.chromosome, []).append(start)
    ordered = {name: sorted(by_chromosome[name]) for name in sorted(by_chromosome)}
    digest = hashlib.sha256()
    for name, of_chromosome in ordered.items():
        for start in of_chromosome:
            digest.update("".join(f"{cell}\0" for cell in (name, *start)).encode())
    return Annotation(path, ordered, digest.hexdigest())


def _collapsed(positions: Mapping[int, int], strand: str) -> Iterable[int]:
    """One position (1-based) for each 128-bp bin, given how many transcripts begin at each position."""
    best: dict[int, tuple[int, int]] = {}
    for position, transcripts in positions.items():
        upstream = position if strand == "-" else -position
        bin_number = (position - 1) // BIN
        best[bin_number] = max(best.get(bin_number, (0, 0)), (transcripts, upstream))
    return (abs(upstream) for _, upstream in best.values())


def _first(strand: str, start: int, end: int) -> int:
    """1-based first transcribed base of an interval (0-based half-open)."""
    return end if strand == "-" else start + 1


def _extend(transcripts: dict[str, tuple[int, int]], name: str, record: GtfRecord) -> None:
    start, end = transcripts.get(name, (record.start, record.end))
    transcripts[name] = min(start, record.start), max(end, record.end)


def _is_selected(genes: frozenset[str], gene_id: str, name: str) -> bool:
    return not genes or name in genes or gene_id in genes or gene_id.partition(".")[0] in genes


def _gene_type(attributes: Mapping[str, str]) -> str:
    return attributes.get("gene_type") or attributes.get("gene_biotype") or ""


@dataclass
class Gene:
    """One gene.

    Attributes:
        name: gene_name, else gene_id.
        kind: gene_type or gene_biotype; empty when the file has neither.
        strand: + or -.
        start: 0-based first base.
        end: exclusive end.
        exons: (start, end) of the exons of all transcripts, overlapping ones united.
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


def read_genes(path: Path, intervals: Sequence[Interval], aliases: Mapping[str, str] | None = None) -> list[list[Gene]]:
    """Genes of a GTF (plain or gzip) that overlap each interval, by start; `aliases` as in `read_annotation`."""
    found: list[dict[str, Gene]] = [{} for _ in intervals]
    by_chromosome: dict[str, list[int]] = {}
    for number, interval in enumerate(intervals):
        by_chromosome.setdefault(interval.chromosome, []).append(number)
    for record in gtf_records(path, _FEATURES, aliases):
        for number in by_chromosome.get(record.chromosome, ()):
            if record.start < intervals[number].end and record.end > intervals[number].start:
                _add(found[number], record)
    return [sorted(map(_unite_exons, genes.values()), key=lambda gene: (gene.start, gene.end)) for genes in found]


def _add(genes: dict[str, Gene], record: GtfRecord) -> None:
    attributes = record.named()
    key = attributes.get("gene_id") or attributes.get("gene_name") or f"{record.start}"
    gene = genes.get(key)
    if gene is None:
        gene = genes[key] = Gene(key, "", record.strand, record.start, record.end)
    if gene.name == key:  # a later line may have the name and the type that the first one lacks
        gene.name = attributes.get("gene_name") or key
    gene.kind = gene.kind or _gene_type(attributes)
    gene.start, gene.end = min(gene.start, record.start), max(gene.end, record.end)
    if record.feature == "exon":
        gene.exons.append((record.start, record.end))


def _unite_exons(gene: Gene) -> Gene:
    exons: list[tuple[int, int]] = []
    for start, end in sorted(gene.exons):
        if exons and start <= exons[-1][1]:
            exons[-1] = exons[-1][0], max(exons[-1][1], end)
        else:
            exons.append((start, end))
    gene.exons = exons
    return gene
