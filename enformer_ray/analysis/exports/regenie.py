"""Files for REGENIE's gene-based tests: annotations, set list, masks, and annotations with weights."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from enformer_ray.analysis.exports.source import ExportSource, ExportSummary, Names
from enformer_ray.errors import ConfigError, ExportError
from enformer_ray.files import Outputs
from enformer_ray.genome.coordinates import canonical_name
from enformer_ray.readers.text import open_text

_ATTRIBUTE = re.compile(r'(\w+) "?([^";]*)"?')


class GeneSet(NamedTuple):
    """Regions of one chromosome under one name.

    Attributes:
        name: unique.
        chromosome: without `chr`.
        regions: first and last position of each, 1-based, apart from one another, in order.
    """

    name: str
    chromosome: str
    regions: tuple[tuple[int, int], ...]


def read_gtf(path: Path, key: str = "gene_id", flank: int = 0, gene_type: str | None = None) -> list[GeneSet]:
    """Genes of a GTF (its lines of the feature `gene`), each with its flanks.

    Args:
        path: plain or packed.
        key: attribute that names a gene.
        flank: bp before and behind it.
        gene_type: only genes of this `gene_type` or `gene_biotype`, such as protein_coding.

    Raises:
        ExportError: a line cannot be read, there is no such gene, or one name stands for genes of two chromosomes.
    """
    found: dict[str, tuple[str, list[tuple[int, int]]]] = {}
    for number, cells in _lines(path, 9):
        if cells[2] != "gene":
            continue
        attributes = dict(_ATTRIBUTE.findall(cells[8]))
        if gene_type and gene_type not in (attributes.get("gene_type"), attributes.get("gene_biotype")):
            continue
        if not attributes.get(key):
            raise ExportError(f"{path}, line {number}: the gene has no {key}; --gene-key names the attribute to use.")
        start, end = _numbers(cells[3], cells[4], path, number)
        _add(found, attributes[key], cells[0], (start - flank, end + flank), path, number)
    return _sets(found, path, "genes" + (f" of the type {gene_type}" if gene_type else ""))


def read_bed(path: Path, flank: int = 0) -> list[GeneSet]:
    """Sets of a BED file: chromosome, start (0-based), end, name; a set may have several lines.

    Args:
        path: plain or packed.
        flank: bp before and behind each region.

    Raises:
        ExportError: a line cannot be read, there is none, or one name stands for regions of two chromosomes.
    """
    found: dict[str, tuple[str, list[tuple[int, int]]]] = {}
    for number, cells in _lines(path, 4):
        start, end = _numbers(cells[1], cells[2], path, number)
        _add(found, cells[3].strip(), cells[0], (start + 1 - flank, end + flank), path, number)
    return _sets(found, path, "regions")


def _lines(path: Path, columns: int) -> Iterator[tuple[int, list[str]]]:
    with open_text(path) as text:
        for block in text:
            for number, line in block.lines():
                if not line.strip() or line.startswith(("#", "track", "browser")):
                    continue
                cells = line.split("\t")
                if len(cells) < columns:
                    raise ExportError(
                        f"{path}, line {number}: {len(cells)} columns separated by tabs where at least {columns} are "
                        "wanted; --gtf takes a GTF, --sets a BED file with names."
                    )
                yield number, cells


def _numbers(start: str, end: str, path: Path, number: int) -> tuple[int, int]:
    if not (start.isdecimal() and end.isdecimal() and int(start) <= int(end)):
        raise ExportError(f"{path}, line {number}: {start!r} and {end!r} are not the start and the end of a region.")
    return int(start), int(end)


def _add(
    found: dict[str, tuple[str, list[tuple[int, int]]]],
    name: str,
    contig: str,
    region: tuple[int, int],
    path: Path,
    number: int,
) -> None:
    if not name or re.search(r"[\s,]", name):
        raise ExportError(
            f"{path}, line {number}: the name {name!r} is empty or holds blanks or commas, which separate columns for "
            "REGENIE."
        )
    chromosome = canonical_name(contig)
    there, regions = found.setdefault(name, (chromosome, []))
    if there != chromosome:
        raise ExportError(
            f"{path}, line {number}: {name} is on chromosome {chromosome} and on {there}; a set has one chromosome. "
            "Give --gene-key gene_id, or rename one of them."
        )
    regions.append((max(1, region[0]), region[1]))


def _sets(found: dict[str, tuple[str, list[tuple[int, int]]]], path: Path, what: str) -> list[GeneSet]:
    if not found:
        raise ExportError(f"{path} holds no {what}.")
    return [GeneSet(name, chromosome, _merged(regions)) for name, (chromosome, regions) in found.items()]


def _merged(regions: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(regions):
        if merged and start <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


MAX_CATEGORIES = 63
"""That REGENIE takes."""


def export_regenie(
    source: ExportSource,
    output: Path,
    sets: Sequence[GeneSet],
    thresholds: Sequence[float] = (),
    names: Names = "source",
    force: bool = False,
) -> ExportSummary:
    """Write PREFIX.annotations, PREFIX.setlist, PREFIX.masks and PREFIX.weights.

    A variant is in a set when its position is. Its weight is its largest absolute score on the selected tracks, and
    its category says which thresholds that reaches: `below` none, `ge_0.1` at least 0.1. A mask unites the categories
    from a threshold on, and `all` takes all of them. Variants without a score are left out.

    Args:
        source: what is exported.
        output: beginning of the files' paths.
        sets: genes.
        thresholds: of the weight.
        names: what variants are called: as in the genotype files.
        force: write over files that are there.

    Raises:
        ConfigError: thresholds are not positive and different, or too many.
        ExportError: two variants of a set have one name.
    """
    bounds = _checked(thresholds)
    categories = ["below", *(f"ge_{bound:g}" for bound in bounds)] if bounds else ["scored"]
    summary = ExportSummary()
    spans = source.rows.chromosomes()
    with Outputs(output, force) as outputs, ExitStack() as files:
        sinks = [files.enter_context(outputs.path(s).open("wb")) for s in (".annotations", ".setlist", ".weights")]
        writer = _Writer(sets, set(spans), np.array(bounds, np.float32), categories, *sinks)
        for batch in source.batches(names=names):
            writer.add(batch, source.columns)
        writer.finish()
        outputs.path(".masks").write_text(_masks(categories))
    summary.files += outputs.written
    summary.rows, summary.scored = writer.pairs, writer.pairs
    summary.notes = [
        f"{writer.written:,} of {len(sets):,} sets hold variants; {writer.variants:,} of {source.rows.rows:,} variants "
        f"are in a set, and {writer.unscored:,} were left out since they have no score."
    ]
    return summary


def _checked(thresholds: Sequence[float]) -> list[float]:
    bounds = sorted(thresholds)
    if any(not (0 < bound < np.inf) for bound in bounds) or len({f"{bound:g}" for bound in bounds}) < len(bounds):
        raise ConfigError("--threshold: give different positive numbers.")
    if len(bounds) >= MAX_CATEGORIES:
        raise ConfigError(f"--threshold: REGENIE takes {MAX_CATEGORIES} categories at most, so one threshold less.")
    return bounds


def _masks(categories: list[str]) -> str:
    masks = [f"{category} {','.join(categories[i:])}\n" for i, category in enumerate(categories) if i]
    return "".join([*masks[::-1], f"all {','.join(categories)}\n"])


class _Open:
    """A set whose region has begun."""

    def __init__(self, of: GeneSet) -> None:
        self.of, self.variants = of, list[str]()


class _Writer:
    """Goes along the variants, and writes a set when its last region is passed."""

    def __init__(
        self,
        sets: Sequence[GeneSet],
        chromosomes: set[str],
        bounds: NDArray[np.float32],
        categories: list[str],
        annotations: BinaryIO,
        setlist: BinaryIO,
        weights: BinaryIO,
    ) -> None:
        self._waiting: dict[str, list[GeneSet]] = {name: [] for name in chromosomes}
        for one in sorted(sets, key=lambda s: s.regions[0][0], reverse=True):
            if one.chromosome in self._waiting:
                self._waiting[one.chromosome].append(one)
        self._bounds, self._categories = bounds, np.array(categories, dtype=object)
        self._annotations, self._setlist, self._weights = annotations, setlist, weights
        self._open: list[_Open] = []
        self._chromosome: str | None = None
        self.pairs = self.written = self.variants = self.unscored = 0

    def add(self, batch: pa.RecordBatch, columns: Sequence[str]) -> None:
        """Add variants, in order."""
        scores = np.abs([batch.column(name).to_numpy(zero_copy_only=False) for name in columns])
        with np.errstate(invalid="ignore"):
            weight = scores.max(axis=0)
        kept = ~np.isnan(weight)
        self.unscored += int(np.count_nonzero(~kept))
        batch, weight = batch.filter(pa.array(kept)), weight[kept]
        chromosome = np.array(batch.column("chromosome").to_pylist(), dtype=object)
        if not len(batch):
            return
        starts = np.flatnonzero(np.append(True, chromosome[1:] != chromosome[:-1])).tolist()
        for start, end in zip(starts, [*starts[1:], len(batch)], strict=True):
            self._add(str(chromosome[start]), batch.slice(start, end - start), weight[start:end])

    def finish(self) -> None:
        """Write the sets that are still open."""
        for one in self._open:
            self._close(one)
        self._open = []

    def _add(self, chromosome: str, batch: pa.RecordBatch, weight: NDArray[np.float32]) -> None:
        if chromosome != self._chromosome:
            self.finish()
            self._chromosome = chromosome
        position = batch.column("position").to_numpy()
        waiting = self._waiting[chromosome]
        while waiting and waiting[-1].regions[0][0] <= position[-1]:
            self._open.append(_Open(waiting.pop()))
        names = batch.column("name").to_pylist()
        category = self._categories[np.searchsorted(self._bounds, weight, side="right")]
        inside = np.zeros(len(position), dtype=np.bool_)
        for one in self._open:
            for first, last in one.of.regions:
                rows = slice(int(np.searchsorted(position, first)), int(np.searchsorted(position, last, side="right")))
                if rows.start < rows.stop:
                    inside[rows] = True
                    self._write(one, names[rows], category[rows].tolist(), weight[rows])
        self.variants += int(np.count_nonzero(inside))
        for one in self._open:
            if one.of.regions[-1][1] < position[-1]:
                self._close(one)
        self._open = [one for one in self._open if one.of.regions[-1][1] >= position[-1]]

    def _write(self, one: _Open, names: list[str], category: list[str], weight: NDArray[np.float32]) -> None:
        one.variants += names
        self.pairs += len(names)
        lines = [f"{name} {one.of.name} {kind}" for name, kind in zip(names, category, strict=True)]
        self._annotations.write("".join(f"{line}\n" for line in lines).encode())
        # As text, not as a float64 that is near: 0.1 and not 0.10000000149011612.
        weighted = (f"{line} {value!s}\n" for line, value in zip(lines, weight, strict=True))
        self._weights.write("".join(weighted).encode())

    def _close(self, one: _Open) -> None:
        if one.variants:
            _refuse_twice(one)
            start, (chromosome, name) = one.of.regions[0][0], (one.of.chromosome, one.of.name)
            self._setlist.write(f"{name} {chromosome} {start} {','.join(one.variants)}\n".encode())
            self.written += 1


def _refuse_twice(one: _Open) -> None:
    """REGENIE stops at a variant that has two annotations for one set."""
    if len(set(one.variants)) < len(one.variants):
        name, times = Counter(one.variants).most_common(1)[0]
        raise ExportError(
            f"{times} variants of the set {one.of.name} are called {name}, where REGENIE wants a name for each. Give "
            "--ids variant or --ids colon, whichever the genotype files have."
        )
