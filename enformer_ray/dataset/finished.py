"""A finished run: its files and tracks, and the row groups that may hold selected variants."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from enformer_ray.dataset.selection import VariantFilter
from enformer_ray.definitions import current_name, is_compared, name_among, window_difference
from enformer_ray.errors import DatasetCorruptError, MismatchError, shortened
from enformer_ray.readers.in_memory import parquet_table
from enformer_ray.rundir import layout
from enformer_ray.rundir.contigs import ContigNames, recorded_aliases
from enformer_ray.rundir.layout import ROW_COLUMNS, row_columns, score_schema
from enformer_ray.rundir.manifest import Manifest, finished_manifest
from enformer_ray.rundir.remote_files import Source
from enformer_ray.rundir.store import RunStore, read_document, read_run_json

_FORMAT = pads.ParquetFileFormat()
_POSITION = ROW_COLUMNS.index("position")
_MAX_FOOTERS = 64
"""Footers that are kept: with thousands of tracks one takes some ten MiB of memory."""

_INPUT_DIGESTS = ("catalogue", "reference", "previous")
_HARDWARE = ("device", "batch_size", "threads", "compile")
"""Part of the fingerprint, but they change no more than rounding."""

_MAX_NAMES = 5


class ScoreFile(NamedTuple):
    """A finished file of scores.

    Attributes:
        path: in the run directory.
        chromosome: of all its rows.
        first: `variant` of its first row; those of the others follow.
        rows: number of rows.
    """

    path: str
    chromosome: str
    first: int
    rows: int


class FinishedRun:
    """The finished dataset of a run directory; only files that its manifest lists are read.

    Attributes:
        store: the run directory.
        manifest: what it published.
        track_table: selected tracks, as in tracks.parquet.

    Raises:
        RunIncompleteError: the run has no manifest yet.
        DatasetCorruptError: a file that the manifest lists is missing or has another size.
    """

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self.manifest: Manifest = finished_manifest(store)
        self.track_table: pa.Table = parquet_table(store.read_bytes(layout.TRACKS))
        self._fragment = lru_cache(_MAX_FOOTERS)(self._open_fragment)

    @cached_property
    def parts(self) -> Mapping[str, Any]:
        """Parts of the fingerprint, by name: everything that can change a score, as in run.json."""
        parts: Mapping[str, Any] = read_run_json(
            self.store,
            "parts",
            lambda _: DatasetCorruptError(f"{self.store.uri}/{layout.RUN} does not say what made the scores."),
        )
        return parts

    @cached_property
    def contigs(self) -> dict[str, ContigNames]:
        """Other names of its chromosomes, by name in the dataset; empty where an older program made the run."""

        def parse(content: bytes) -> dict[str, ContigNames]:
            recorded = json.loads(content).get("contigs", {})
            return {name: ContigNames.model_validate(names) for name, names in recorded.items()}

        return read_document(
            self.store,
            layout.RUN,
            parse,
            lambda why: DatasetCorruptError(f"{self.store.uri}/{layout.RUN} has no names of contigs ({why})."),
        )

    @property
    def contig_aliases(self) -> dict[str, str]:
        """Further names of contigs, for files that are joined with the run: alias -> contig of the FASTA."""
        config = read_run_json(
            self.store,
            "config",
            lambda _: DatasetCorruptError(f"{self.store.uri}/{layout.RUN} does not say what the job was."),
        )
        table = config.get("catalogue", {}).get("contig_aliases")
        return recorded_aliases(self.contigs, Path(table) if table else None)

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns of its files of scores."""
        return score_schema(self.track_table.column("index").to_pylist(), self.manifest.genes is not None)

    @property
    def row_columns(self) -> list[str]:
        """Columns of its files of scores that identify a row."""
        return row_columns(self.schema.names)

    def source(self, paths: Sequence[str]) -> Source:
        """Files as readers of Parquet take them."""
        return self.store.source(paths, self._sizes)

    def open(self, path: str) -> pq.ParquetFile:
        """A finished file, of which only the columns and row groups that are used are read."""
        source = self.source([path])
        return pq.ParquetFile(source.filesystem.open_input_file(source.paths[0]))

    def inputs(self) -> list[str]:
        """Paths of the files of input alleles."""
        return [file.path for file in self.manifest.under(layout.VARIANTS)]

    def score_files(self, statistic: str, selected: VariantFilter | None = None) -> list[ScoreFile]:
        """Files of a statistic that may hold selected variants, in the order of `variant`.

        Files of a chromosome are in the order of positions: only as many footers are read as bisection needs.
        """
        files, first = [], 0
        stored = name_among(statistic, self.manifest.statistics) or statistic
        for file in self.manifest.under(f"{layout.SCORES}/{stored}"):
            assert file.rows is not None  # they are tables
            files.append(ScoreFile(file.path, layout.scored_chromosome(file.path), first, file.rows))
            first += file.rows
        if selected is None or selected.keeps_all:
            return files
        groups = groupby(files, lambda file: file.chromosome)
        return [file for _, group in groups for file in self._within(list(group), selected)]

    def dataset(self, statistic: str, selected: VariantFilter, columns: Sequence[str]) -> pads.Dataset:
        """Scores as an Arrow dataset: row groups that may hold selected variants, still to be filtered."""
        schema = pa.schema([self.schema.field(name) for name in columns])
        files = self.score_files(statistic, selected)
        if selected.keeps_all:
            source = self.source([file.path for file in files])
            return pads.FileSystemDataset.from_paths(source.paths, schema, _FORMAT, source.filesystem)
        # A filter alone would make Arrow open the footer of every file to find out which row groups it can skip.
        fragments = [self._fragment(file.path).subset(row_group_ids=self._groups(file, selected)) for file in files]
        kept = [fragment for fragment in fragments if fragment.row_groups]
        return pads.FileSystemDataset(kept, schema, _FORMAT, self.source([]).filesystem)

    @cached_property
    def _sizes(self) -> dict[str, int]:
        return {file.path: file.bytes for file in self.manifest.files}

    def _within(self, files: list[ScoreFile], selected: VariantFilter) -> list[ScoreFile]:
        """The files of a chromosome, in order, that may hold selected variants."""
        span = selected.span(files[0].chromosome)
        if span is None:
            return []
        if self.manifest.genes is not None:
            # Rows are sorted by transcription start, whose windows overlap: positions of files do, too.
            bounds = ((file, self._bounds(file)) for file in files)
            return [f for f, groups in bounds if any(low <= span[1] and high >= span[0] for low, high in groups)]
        # Each look at a key of the bisection reads a footer.
        begin = bisect_left(files, span[0], key=lambda file: self._bounds(file)[-1][1])
        end = bisect_right(files, span[1], lo=begin, key=lambda file: self._bounds(file)[0][0])
        return files[begin:end]

    def _groups(self, file: ScoreFile, selected: VariantFilter) -> list[int]:
        bounds = enumerate(self._bounds(file))
        return [group for group, (first, last) in bounds if selected.may_keep(file.chromosome, first, last)]

    def _bounds(self, file: ScoreFile) -> list[tuple[int, int]]:
        """First and last position of each row group."""
        metadata = self._fragment(file.path).metadata
        found = (metadata.row_group(g).column(_POSITION).statistics for g in range(metadata.num_row_groups))
        return [(statistics.min, statistics.max) for statistics in found]

    def _open_fragment(self, path: str) -> pads.ParquetFileFragment:
        source = self.source([path])
        fragment = _FORMAT.make_fragment(source.paths[0], source.filesystem)
        fragment.ensure_complete_metadata()
        return fragment


def check_compatible(runs: Sequence[FinishedRun]) -> None:
    """Refuse runs whose scores do not belong into one table.

    Statistics, tracks and all that makes a score must be equal; variants, the digest of the reference (which is over
    the chromosomes that have variants) and hardware may differ.
    """
    first = runs[0]
    for run in runs[1:]:
        differences = _statistics(first, run) or _tracks(first, run) or _parts(first, run)
        if differences:
            raise MismatchError(
                f"{first.store.uri} and {run.store.uri} do not make one dataset: {'; '.join(differences)}. Open them "
                "one by one, or score the variants of one of them again with the options of the other."
            )


def _statistics(one: FinishedRun, other: FinishedRun) -> list[str]:
    first, second = (set(map(current_name, run.manifest.statistics)) for run in (one, other))
    return [] if first == second else [_only("statistics", sorted(first - second), sorted(second - first))]


def _tracks(one: FinishedRun, other: FinishedRun) -> list[str]:
    if one.track_table.equals(other.track_table):
        return []
    first, second = (dict.fromkeys(run.track_table.column("column").to_pylist()) for run in (one, other))
    if first != second:
        return [_only("tracks", [name for name in first if name not in second], [n for n in second if n not in first])]
    rows = zip(one.track_table.to_pylist(), other.track_table.to_pylist(), strict=True)
    a, b = next((a, b) for a, b in rows if a != b)
    name = next(name for name in a if a[name] != b[name])
    return [f"the {name} of {a['column']} is {a[name]!r} in the first and {b[name]!r} in the second"]


def _parts(one: FinishedRun, other: FinishedRun) -> list[str]:
    first, second = one.parts, other.parts
    ignored = (*_INPUT_DIGESTS, *_HARDWARE, "tracks", "statistics")
    return window_difference(first, second, ("the first", "the second")) + [
        f"{name}: {_short(first.get(name))} in the first, {_short(second.get(name))} in the second"
        for name in {**first, **second}
        if name not in ignored and is_compared(name, first, second) and first.get(name) != second.get(name)
    ]


def _only(what: str, first: list[str], second: list[str]) -> str:
    sides = (("first", first), ("second", second))
    return f"{what} differ: " + ", ".join(
        f"only the {side} has {', '.join(names[:_MAX_NAMES])}{', ...' if len(names) > _MAX_NAMES else ''}"
        for side, names in sides
        if names
    )


def _short(value: Any) -> str:
    return shortened(json.dumps(value))
