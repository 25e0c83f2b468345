"""Files for REGENIE's gene-based tests: annotations, set list, masks, and annotations with weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from enformer_ray.analysis.exports.gene_sets import GeneSet
from enformer_ray.analysis.exports.source import ExportSource, Names
from enformer_ray.analysis.exports.summary import ExportSummary
from enformer_ray.analysis.outputs import Outputs
from enformer_ray.errors import ConfigError, ExportError

MOST_CATEGORIES = 63
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
    if len(bounds) >= MOST_CATEGORIES:
        raise ConfigError(f"--threshold: REGENIE takes {MOST_CATEGORIES} categories at most, so one threshold less.")
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
