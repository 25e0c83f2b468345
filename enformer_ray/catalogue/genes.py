"""The catalogue of gene scores: each variant once for every transcription start whose window contains it.

Variants of a chromosome are sorted by position, and so are windows: the variants of a window are consecutive, and both
are walked along the chromosome together. In memory are the positions of one chromosome's variants (24 bytes each) and
the rows of a few windows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.catalogue.build import Catalogue
from enformer_ray.catalogue.checks import Counts, count_statuses
from enformer_ray.catalogue.contig import INPUTS_SCHEMA, VARIANTS_SCHEMA
from enformer_ray.catalogue.files import RowDigest, open_writer
from enformer_ray.catalogue.variant import FIRST_ROW, GENE_FIELDS
from enformer_ray.config import Placement, ScoringConfig
from enformer_ray.errors import CatalogueError, InputFileError
from enformer_ray.genome.annotation import Annotation, TranscriptionStart
from enformer_ray.genome.contig import ContigBases, UnknownBases
from enformer_ray.genome.coordinates import shift_offsets, window_start
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.readers.row_groups import NumberedRows

Integers = NDArray[np.int64]

GENE_ROWS_SCHEMA = pa.schema([*VARIANTS_SCHEMA, *GENE_FIELDS, pa.field(FIRST_ROW, pa.int64())])

_BATCH_ROWS = 65_536
_NOWHERE = np.iinfo(np.int64).max


class Windows(NamedTuple):
    """Where the windows around transcription starts are, and which variants are scored in them.

    Attributes:
        length: bp.
        placement: as in `window_start`, of the transcription start instead of a variant.
        stride: of the placement `shared`.
        shifts: of the windows that are averaged over, see `shift_offsets`; a variant has to be in all of them.
        max_distance: maximum of bp between a variant and the start; None for the whole window.
        max_unknown: maximum of unknown bases in a window; None for any number.
    """

    length: int
    placement: Placement
    stride: int
    shifts: int | tuple[int, ...]
    max_distance: int | None
    max_unknown: int | None

    @classmethod
    def of(cls, scoring: ScoringConfig, length: int, max_distance: int | None, max_unknown: int | None) -> Windows:
        """Windows of a job."""
        return cls(length, scoring.placement, scoring.stride, scoring.shifts, max_distance, max_unknown)

    def reach(self, positions: Integers) -> tuple[Integers, Integers]:
        """First and end (0-based half-open) of the bases that a variant may change, for sorted starts (1-based)."""
        tss = cast(Any, positions - 1)
        starts = cast(Integers, window_start(tss, self.length, self.placement, stride=self.stride, at_tss=True))
        offsets = shift_offsets(self.shifts)
        first, end = starts - min(offsets), starts + self.length - max(offsets)
        if self.max_distance is None:
            return first, end
        return np.maximum(first, positions - 1 - self.max_distance), end

    def farthest(self, positions: Integers) -> Integers:
        """0-based exclusive end of the bases at which a variant may begin, for sorted starts (1-based)."""
        end = self.reach(positions)[1]
        return end if self.max_distance is None else np.minimum(end, positions + self.max_distance)


def gene_rows(
    catalogue: Catalogue, annotation: Annotation, reference: ReferenceGenome, windows: Windows, scratch: Path
) -> Catalogue:
    """Make a catalogue of variants at transcription starts from one of variants, with files under `scratch`.

    Its `variants` have GENE_ROWS_SCHEMA, sorted by transcription start, then by position and alleles, and `variant`
    numbers rows. Its `inputs` refer to the first row of their variant. A variant in no window is rejected as `no_gene`,
    or as `too_many_unknown_bases` if that is why it has no row.

    Raises:
        InputFileError: a transcription start is beyond its chromosome, or no chromosome of the FASTA has any.
        CatalogueError: no variant is in a window.
    """
    if not annotation.starts.keys() & reference.lengths.keys():
        raise InputFileError(
            f"{annotation.path} has genes on {', '.join(list(annotation.starts)[:5])}, but {reference.path} has none "
            f"of these: it has {', '.join(reference.chromosomes[:5])}. Give --gtf the annotation of this assembly."
        )
    joined = _Joined(reference, windows, scratch)
    for number, (name, path) in enumerate(catalogue.variants.items()):
        joined.add(name, path, annotation, scratch / f"rows-{number:05d}.parquet")
    for number, (name, path) in enumerate(catalogue.inputs.items()):
        joined.add_inputs(name, path, scratch / f"referred-{number:05d}.parquet")
    if not joined.rows:
        raise CatalogueError(
            f"nothing is left to score: none of {catalogue.planned:,} variants lies in the window of a transcription "
            f"start of {annotation.path}. Check that it is of the assembly of {reference.path}, or give a larger "
            "--max-distance or other genes."
        )
    return replace(
        catalogue,
        inputs=joined.inputs,
        variants=joined.variants,
        counts=joined.counts,
        digest=joined.digest.hexdigest(),
        chromosomes=list(joined.variants),
        planned=joined.rows,
    )


class _Joined:
    """The files of the new catalogue, written one chromosome after the other."""

    def __init__(self, reference: ReferenceGenome, windows: Windows, scratch: Path) -> None:
        self._reference, self._windows, self._scratch = reference, windows, scratch
        self._first_rows: dict[str, tuple[int, Integers, NDArray[np.bool_]]] = {}
        self.inputs: dict[str, Path] = {}
        self.variants: dict[str, Path] = {}
        self.counts: Counts = Counter()
        self.digest = RowDigest()
        self.rows = 0

    def add(self, name: str, path: Path, annotation: Annotation, to: Path) -> None:
        """Write the rows of a chromosome, and keep the first row of each of its variants."""
        starts = annotation.starts.get(name, [])
        self._check(name, starts, annotation.path)
        with pq.ParquetFile(path) as file:
            chosen = _Chosen(file, starts, self._windows)
            too_unknown = self._unknown_bases(name, chosen)
            first_rows = np.full(len(chosen.first), _NOWHERE)
            before = self.rows
            with open_writer(to, GENE_ROWS_SCHEMA) as writer:
                for tss_index, of_variant in chosen.pairs(~too_unknown):
                    numbers = self.rows + np.arange(len(tss_index))
                    np.minimum.at(first_rows, of_variant, numbers)
                    batch = _rows(chosen, tss_index, of_variant, numbers, first_rows[of_variant])
                    self.digest.update(f"rows {name}", batch)
                    writer.write_batch(batch)
                    self.rows += len(batch)
            blocked = np.zeros(len(first_rows), np.bool_)
            for _, of_variant in chosen.pairs(too_unknown):
                blocked[of_variant] = True
            self._first_rows[name] = (chosen.numbered_from, first_rows, blocked)
        if self.rows > before:
            self.variants[name] = to

    def add_inputs(self, name: str, path: Path, to: Path) -> None:
        """Write the input records of a chromosome, which now refer to rows or are rejected; after all `add`."""
        self.inputs[name] = to
        with pq.ParquetFile(path) as file, open_writer(to, INPUTS_SCHEMA) as writer:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                referred = self._referred(name, batch)
                self.digest.update(f"inputs {name}", referred, without=("file",))
                self.counts.update(count_statuses(referred))
                writer.write_batch(referred)

    def _referred(self, name: str, batch: pa.RecordBatch) -> pa.RecordBatch:
        has_variant = batch.column("variant").is_valid().to_numpy(zero_copy_only=False)
        if not has_variant.any():
            return batch
        numbered_from, first_rows, blocked = self._first_rows[name]
        local = batch.column("variant").fill_null(numbered_from).to_numpy() - numbered_from
        row, nowhere = first_rows[local], has_variant & (first_rows[local] == _NOWHERE)
        reason = np.where(blocked[local], "too_many_unknown_bases", "no_gene")
        columns = {field.name: batch.column(field.name) for field in INPUTS_SCHEMA}
        columns["variant"] = pa.array(np.where(nowhere, 0, row), mask=~has_variant | nowhere)
        columns["status"] = pc.if_else(pa.array(nowhere), "rejected", columns["status"])
        columns["reason"] = pc.if_else(pa.array(nowhere), pa.array(reason), columns["reason"])
        return pa.record_batch([columns[field.name] for field in INPUTS_SCHEMA], schema=INPUTS_SCHEMA)

    def _unknown_bases(self, name: str, chosen: _Chosen) -> NDArray[np.bool_]:
        """Which windows have too many unknown bases; sets those of each window in `chosen`."""
        if not len(chosen.positions):
            return np.zeros(0, np.bool_)
        bases = ContigBases(self._reference, name)
        windows, size = self._windows, len(bases.codes)
        unknown = UnknownBases(
            bases.unknown_runs(), size, windows.length, windows.placement, windows.stride, at_tss=True
        )
        chosen.unknown_bases = unknown.in_windows(chosen.positions)
        return chosen.unknown_bases > (np.inf if windows.max_unknown is None else windows.max_unknown)

    def _check(self, name: str, starts: list[TranscriptionStart], path: Path) -> None:
        length = self._reference.lengths[name]
        if starts and starts[-1].position > length:
            raise InputFileError(
                f"{path} has a transcription start of {starts[-1].gene_name} at {name}:{starts[-1].position:,}, but "
                f"the chromosome has {length:,} bp in {self._reference.path}. Give --gtf the annotation of this "
                "assembly."
            )


class _Chosen:
    """Which variants of one chromosome lie in which windows.

    Attributes:
        positions: (starts,), 1-based.
        texts: gene_id, gene_name and strand of each start.
        unknown_bases: (starts,), set from outside.
        first: (variants,), 0-based first base of the reference allele.
        numbered_from: `variant` of the first one.
    """

    unknown_bases: NDArray[np.int32]

    def __init__(self, file: pq.ParquetFile, starts: list[TranscriptionStart], windows: Windows) -> None:
        self._variants = NumberedRows([file.metadata.num_rows], lambda _: nullcontext(file))
        self.positions = np.array([start.position for start in starts], np.int64)
        names = ("gene_id", "gene_name", "strand")
        self.texts: Mapping[str, pa.Array] = {
            name: pa.array([getattr(start, name) for start in starts], pa.string()) for name in names
        }
        columns = ["variant", "position", "reference_allele"]
        firsts, lengths = [], []
        self.numbered_from = 0
        for number, batch in enumerate(file.iter_batches(columns=columns)):
            if number == 0:
                self.numbered_from = batch.column("variant")[0].as_py()
            firsts.append(batch.column("position").to_numpy().astype(np.int64) - 1)
            lengths.append(pc.utf8_length(batch.column("reference_allele")).to_numpy().astype(np.int64))
        self.first = np.concatenate(firsts)
        self._end = self.first + np.concatenate(lengths)
        begin, self._within = windows.reach(self.positions)
        self._begin = np.searchsorted(self.first, begin)
        self._behind = np.searchsorted(self.first, windows.farthest(self.positions))

    def pairs(self, wanted: NDArray[np.bool_]) -> Iterator[tuple[Integers, Integers]]:
        """Starts and the variants in their windows, some ten thousand pairs at a time.

        Args:
            wanted: (starts,), which ones.

        Yields:
            Indices of starts, ascending, and of variants, ascending within each start.
        """
        tss_index: list[Integers] = []
        of_variant: list[Integers] = []
        held = 0
        for start in np.flatnonzero(wanted).tolist():
            inside = np.arange(self._begin[start], self._behind[start])
            # Behind the last variant that may begin in a window is none, but its reference allele may reach out of it.
            inside = inside[self._end[inside] <= self._within[start]]
            tss_index.append(np.full(len(inside), start))
            of_variant.append(inside)
            held += len(inside)
            if held >= _BATCH_ROWS:
                yield np.concatenate(tss_index), np.concatenate(of_variant)
                tss_index, of_variant, held = [], [], 0
        if held:
            yield np.concatenate(tss_index), np.concatenate(of_variant)

    def take(self, of_variant: Integers) -> pa.RecordBatch:
        """Rows of variants by their index."""
        table = self._variants.take(of_variant, VARIANTS_SCHEMA.names)
        return table.combine_chunks().to_batches()[0]


def _rows(
    chosen: _Chosen, tss_index: Integers, of_variant: Integers, numbers: Integers, first_rows: Integers
) -> pa.RecordBatch:
    variants, at = chosen.take(of_variant), pa.array(tss_index)
    texts = {name: text.take(at) for name, text in chosen.texts.items()}
    position = chosen.positions[tss_index]
    along = chosen.first[of_variant] + 1 - position
    minus_strand = pc.equal(texts["strand"], "-").to_numpy(zero_copy_only=False)
    columns = {name: variants.column(name) for name in VARIANTS_SCHEMA.names}
    columns |= {
        "variant": pa.array(numbers),
        "unknown_bases": pa.array(chosen.unknown_bases[tss_index]),
        "gene_id": texts["gene_id"],
        "gene_name": texts["gene_name"],
        "gene_strand": texts["strand"],
        "tss_position": pa.array(position.astype(np.int32)),
        "tss_distance": pa.array(np.where(minus_strand, -along, along).astype(np.int32)),
        FIRST_ROW: pa.array(first_rows),
    }
    return pa.record_batch([columns[field.name] for field in GENE_ROWS_SCHEMA], schema=GENE_ROWS_SCHEMA)
