"""Export for gene-based tests of REGENIE: annotations, set list, masks and weights of variants in genes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from enformer_ray.analysis.exports.gene_sets import GeneSet, GeneSets
from enformer_ray.analysis.exports.source import ExportSource, ExportSummary
from enformer_ray.analysis.options import Names
from enformer_ray.errors import AnalysisError, ConfigError
from enformer_ray.files import Outputs

MAX_CATEGORIES = 63
"""Categories that REGENIE accepts."""


def export_regenie(
    source: ExportSource,
    output: Path,
    sets: GeneSets,
    thresholds: Sequence[float] = (),
    names: Names = "source",
    force: bool = False,
) -> ExportSummary:
    """Write PREFIX.annotations, PREFIX.setlist, PREFIX.masks and PREFIX.weights.

    A variant is in a set when its position is. Its weight is its largest absolute score on the selected tracks, and
    its category is the largest threshold that the weight reaches: `ge_0.1`, or `below`. A mask holds the categories
    from a threshold on, and the mask `all` all categories. Variants without a score are left out.

    Args:
        source: the scores.
        output: prefix of the files' paths.
        sets: genes.
        thresholds: of the weight.
        names: names of variants, as in the genotype files.
        force: overwrite existing files.

    Raises:
        ConfigError: thresholds are not positive and different, or too many.
        AnalysisError: two variants of a set have the same name, or no set holds a scored variant.
    """
    bounds = _checked(thresholds)
    categories = ["below", *(f"ge_{bound:g}" for bound in bounds)] if bounds else ["scored"]
    summary = ExportSummary()
    spans = source.rows.chromosomes()
    with Outputs(output, force) as outputs, ExitStack() as files:
        sinks = [files.enter_context(outputs.path(s).open("wb")) for s in (".annotations", ".setlist", ".weights")]
        writer = _Writer(sets.sets, set(spans), np.array(bounds, np.float32), categories, *sinks)
        for batch in source.batches(names=names):
            writer.add(batch, source.columns)
        writer.finish()
        if not writer.written:
            raise AnalysisError(_nothing_matches(sets, list(spans), source))
        outputs.path(".masks").write_text(_masks(categories))
    summary.files += outputs.written
    summary.rows, summary.scored = writer.pairs, writer.pairs
    summary.notes = [
        *sets.notes,
        f"{writer.written:,} of {len(sets.sets):,} sets hold variants; {writer.variants:,} of {source.rows.rows:,} "
        f"variants are in a set, and {writer.unscored:,} were left out since they have no score.",
    ]
    return summary


def _nothing_matches(sets: GeneSets, chromosomes: Sequence[str], source: ExportSource) -> str:
    named = list(dict.fromkeys(one.chromosome for one in sets.sets))
    if set(named) & set(chromosomes):
        return (
            f"no scored variant of {source.store.uri} lies in any of the {len(sets.sets):,} sets of {sets.path}. Give "
            "sets of the run's assembly, other ones, or a larger --flank."
        )
    return (
        f"{sets.path} has sets on {', '.join(named[:5])}, and {source.store.uri} has variants on "
        f"{', '.join(chromosomes[:5])}: they share no chromosome. Give sets of the run's assembly; if they are the "
        "same contigs by other names, give a table of them (--contig-aliases)."
    )


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


class _OpenSet:
    """A set whose first interval has begun, and its variants so far."""

    def __init__(self, gene_set: GeneSet) -> None:
        self.gene_set, self.variants = gene_set, list[str]()


class _Writer:
    """Takes variants in genome order, and writes a set as soon as its last interval is passed."""

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
        # The first set of a chromosome is the last of its list, from which it is popped.
        for gene_set in sorted(sets, key=lambda s: s.intervals[0][0], reverse=True):
            if gene_set.chromosome in self._waiting:
                self._waiting[gene_set.chromosome].append(gene_set)
        self._bounds, self._categories = bounds, np.array(categories, dtype=object)
        self._annotations, self._setlist, self._weights = annotations, setlist, weights
        self._open: list[_OpenSet] = []
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
        while waiting and waiting[-1].intervals[0][0] <= position[-1]:
            self._open.append(_OpenSet(waiting.pop()))
        names = batch.column("name").to_pylist()
        category = self._categories[np.searchsorted(self._bounds, weight, side="right")]
        inside = np.zeros(len(position), dtype=np.bool_)
        for one in self._open:
            for first, last in one.gene_set.intervals:
                rows = slice(int(np.searchsorted(position, first)), int(np.searchsorted(position, last, side="right")))
                if rows.start < rows.stop:
                    inside[rows] = True
                    self._write(one, names[rows], category[rows].tolist(), weight[rows])
        self.variants += int(np.count_nonzero(inside))
        for one in self._open:
            if one.gene_set.intervals[-1][1] < position[-1]:
                self._close(one)
        self._open = [one for one in self._open if one.gene_set.intervals[-1][1] >= position[-1]]

    def _write(self, one: _OpenSet, names: list[str], category: list[str], weight: NDArray[np.float32]) -> None:
        one.variants += names
        self.pairs += len(names)
        lines = [f"{name} {one.gene_set.name} {kind}" for name, kind in zip(names, category, strict=True)]
        self._annotations.write("".join(f"{line}\n" for line in lines).encode())
        # str of the float32, not of the float64 next to it: 0.1 and not 0.10000000149011612.
        weighted = (f"{line} {value!s}\n" for line, value in zip(lines, weight, strict=True))
        self._weights.write("".join(weighted).encode())

    def _close(self, one: _OpenSet) -> None:
        if one.variants:
            _refuse_repeated_names(one)
            start, (chromosome, name) = one.gene_set.intervals[0][0], (one.gene_set.chromosome, one.gene_set.name)
            self._setlist.write(f"{name} {chromosome} {start} {','.join(one.variants)}\n".encode())
            self.written += 1


def _refuse_repeated_names(one: _OpenSet) -> None:
    """REGENIE stops at a variant that has two annotations for one set."""
    if len(set(one.variants)) < len(one.variants):
        name, times = Counter(one.variants).most_common(1)[0]
        raise AnalysisError(
            f"{times} variants of the set {one.gene_set.name} are called {name}, where REGENIE wants a name for each. "
            "Give --ids variant or --ids colon, whichever the genotype files have."
        )
