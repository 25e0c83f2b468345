"""The input of every export: scores of one statistic on some tracks, names of variants, and scores of input records."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from enformer_ray.analysis.options import Names
from enformer_ray.catalogue.sources import STANDARD_INPUT
from enformer_ray.dataset.calibration import calibrated, required_calibration, value_columns
from enformer_ray.dataset.finished import FinishedRun
from enformer_ray.dataset.rows import StatisticRows, batch_rows
from enformer_ray.dataset.selection import Track, Value, choose_tracks, tracks_of
from enformer_ray.definitions import current_name
from enformer_ray.errors import AnalysisError
from enformer_ray.genome.coordinates import canonical_name
from enformer_ray.rundir.remote_files import PROTOCOL
from enformer_ray.rundir.store import open_store

SIGNED = frozenset({"sad", "log2_ratio", "log_sad", "sax", "centre_log2_ratio"})
"""Statistics that change their sign when the two alleles are exchanged."""

KEYS = ("variant_id", "chromosome", "position", "reference_allele", "alternate_allele")

_MEMORY = "1GB"
# One record of each variant, in the order of the score files: further records of it have the status `duplicate`.
_SOURCE_IDS = "SELECT source_id FROM records WHERE status IN ('scored', 'failed') ORDER BY variant"

# Spellings of contigs by records that are where they were in their file.
_SPELLINGS = "SELECT DISTINCT original_chromosome FROM records WHERE variant IS NOT NULL AND lifted IS NULL ORDER BY 1"

MISSING = "."

_ALLELES = """
    SELECT record, original_chromosome, original_position, original_reference_allele, original_alternate_allele,
           coalesce(variant, -1) AS variant
    FROM records WHERE file = $file ORDER BY input
"""


class ExportSource:
    """A statistic of a finished dataset, to be used in a `with` block.

    Args:
        run_directory: path or URI.
        statistic: name.
        selectors: of tracks, as in `select_columns`; none means all.
        values: what is written of each score; other ones than the score need a calibrated run.

    Attributes:
        store: the run directory.
        manifest: of the dataset.
        statistic: name.
        tracks: the selected tracks.
        rows: the rows of the statistic.
        values: what is written of each score.

    Raises:
        RunIncompleteError: the run is not finished.
        InputFileError: the run is not calibrated, and `values` want that.
        DatasetCorruptError: a file is missing or has another size.
        ConfigError: there is no such statistic.
        SelectionError: a selector names no track.
    """

    def __init__(
        self,
        run_directory: str,
        statistic: str,
        selectors: Sequence[str] = (),
        values: Sequence[Value] = ("score",),
    ) -> None:
        self._run = run = FinishedRun(open_store(run_directory))
        self.store, self.manifest = run.store, run.manifest
        self.manifest.refuse_genes(self.store.uri)
        self.rows = StatisticRows(run, statistic)
        self.statistic = self.rows.statistic
        self.tracks: list[Track] = tracks_of(choose_tracks(run.track_table, selectors, self.store.uri))
        self.values = tuple(values)
        plain = set(values) == {"score"}
        self._grids = None if plain else required_calibration(run).grids(self.rows.statistic, self.tracks)

    def __enter__(self) -> ExportSource:
        """Open a database with the input records as the view `records`, whose sorts may spill to disk."""
        self._folder = tempfile.TemporaryDirectory(prefix="enformer-ray-export-")
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": _MEMORY,
            "temp_directory": self._folder.name,
            "autoinstall_known_extensions": "false",  # an export never downloads anything
        }
        self.database = duckdb.connect(config=settings)
        source = self._run.source(self._run.inputs())
        if source.files is not None:
            self.database.register_filesystem(source.files)
        paths = source.paths if source.files is None else [f"{PROTOCOL}://{path}" for path in source.paths]
        self.database.read_parquet(paths, hive_partitioning=False).create_view("records")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the database."""
        self.database.close()
        self._folder.cleanup()

    @property
    def signed(self) -> bool:
        """Whether scores change their sign when the alleles are exchanged."""
        return current_name(self.statistic) in SIGNED

    @property
    def columns(self) -> list[str]:
        """Columns of the selected tracks."""
        return [track.column for track in self.tracks]

    @property
    def value_columns(self) -> list[str]:
        """Names of what is written of each track."""
        return value_columns(self.columns, self.values)

    def values_of(self, rows: pa.RecordBatch | pa.Table) -> list[pa.Array]:
        """Columns of `value_columns` of rows with the tracks."""
        found = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
        columns = [found.column(name).combine_chunks() for name in self.columns]
        if self._grids is None:
            return columns
        return calibrated([c.to_numpy(zero_copy_only=False) for c in columns], self._grids, self.values)

    @property
    def contig_aliases(self) -> dict[str, str]:
        """Further names of contigs by the job's table: alias -> contig of the FASTA."""
        return self._run.contig_aliases

    @property
    def records_contigs(self) -> bool:
        """Whether the run recorded how its FASTA spells contigs; those of older programs did not."""
        return bool(self._run.contigs)

    def fasta_contigs(self) -> dict[str, str]:
        """Contigs as the FASTA spells them, by name in the dataset.

        Where the run has not recorded that, as the input records spell them, if all spell a contig alike; a contig
        without an entry is called as in the dataset.
        """
        if self.records_contigs:
            return {name: names.fasta for name, names in self._run.contigs.items()}
        spellings: dict[str, list[str]] = {}
        for (spelling,) in self.database.sql(_SPELLINGS).fetchall():
            spellings.setdefault(canonical_name(spelling), []).append(spelling)
        return {name: found[0] for name, found in spellings.items() if len(found) == 1}

    def batches(self, extra_columns: Sequence[str] = (), names: Names = "source") -> Iterator[pa.RecordBatch]:
        """All rows in order: KEYS, `extra_columns` of the score files, the tracks, and `name` as `names` says."""
        source_ids = self._source_ids() if names == "source" else None
        for batch in self.rows.batches([*KEYS, *extra_columns, *self.columns]):
            name = colon_names(batch) if names == "colon" else batch.column("variant_id")
            if source_ids is not None:
                given = source_ids.next(len(batch))
                # Blanks and commas separate columns and lists in the files of most programs.
                usable = pc.fill_null(pc.invert(pc.match_substring_regex(given, r"[\s,]")), False)
                name = pc.if_else(usable, given, name)
            yield batch.append_column("name", name)

    def _source_ids(self) -> _ColumnReader:
        # `execute` would hold all rows in memory, `sql` does not.
        return _ColumnReader(self.database.sql(_SOURCE_IDS).to_arrow_reader(batch_rows(1)))


class _ColumnReader:
    """The first column of batches, as many rows at a time as are requested."""

    def __init__(self, reader: pa.RecordBatchReader) -> None:
        self._reader, self._rest = reader, pa.chunked_array([], pa.string())

    def next(self, rows: int) -> pa.Array:
        while len(self._rest) < rows:
            batch = self._reader.read_next_batch()
            self._rest = pa.chunked_array([*self._rest.chunks, batch.column(0)], pa.string())
        head, self._rest = self._rest.slice(0, rows), self._rest.slice(rows)
        return head.combine_chunks()


def colon_names(batch: pa.RecordBatch) -> pa.Array:
    """`1:1024:A:C` of each row."""
    keys = [batch.column(name).cast(pa.string()) for name in KEYS[1:]]
    return pc.binary_join_element_wise(*keys, ":")


def renamed(column: pa.Array, names: Mapping[str, str]) -> pa.Array:
    """The column with other texts in the place of some."""
    encoded = column.dictionary_encode()
    texts = [names.get(text, text) for text in encoded.dictionary.to_pylist()]
    return pa.array(texts, pa.string()).take(encoded.indices)


def unscored(batch: pa.RecordBatch | pa.Table, columns: Sequence[str]) -> int:
    """Rows without a score on the first track: a variant that failed has no score on any track."""
    return int(np.count_nonzero(np.isnan(np.asarray(batch.column(columns[0]).to_numpy(zero_copy_only=False)))))


@dataclass
class ExportSummary:
    """What an export wrote.

    Attributes:
        files: under their final names.
        rows: rows, records or pairs in them.
        scored: those that have scores.
        notes: further remarks for the user, a sentence each.
    """

    files: list[Path] = field(default_factory=list)
    rows: int = 0
    scored: int = 0
    notes: list[str] = field(default_factory=list)

    def count(self, batch: pa.RecordBatch | pa.Table, columns: Sequence[str]) -> None:
        """Add a batch whose scores are in these columns."""
        self.rows += batch.num_rows
        self.scored += batch.num_rows - unscored(batch, columns)


class RecordScores(NamedTuple):
    """A record of an input file and the scores of its alternate alleles.

    Attributes:
        record: number in its file, from 1.
        chromosome: as in the file.
        position: as in the file; None where it could not be read.
        reference: as in the file.
        alternates: as in the file; empty for a record without alternate alleles.
        scores: for each of `value_columns`, as text, that of each alternate allele or `.`; None when all are missing.
    """

    record: int
    chromosome: str | None
    position: int | None
    reference: str | None
    alternates: tuple[str, ...]
    scores: list[list[str]] | None


def find_input(source: ExportSource, given: Path | None) -> tuple[str, Path]:
    """One of a run's input files, with its name in the run and its present path.

    Args:
        source: an open dataset.
        given: path of an input, now or when the run was planned; may be None when there was only one.

    Raises:
        AnalysisError: it is not clear which input is meant, or the file is missing.
    """
    files = [row[0] for row in source.database.sql("SELECT DISTINCT file FROM records ORDER BY file").fetchall()]
    same = [name for name in files if given is not None and name == str(given)]
    same = same or [name for name in files if given is not None and Path(name).name == given.name]
    if not same and len(files) == 1:
        same = files
    if len(same) != 1:
        some = ", ".join(files[:5]) + (" and more" if len(files) > 5 else "")
        raise AnalysisError(
            f"{source.store.uri} was made of several files ({some}); --input names the one to annotate."
        )
    path = given or Path(same[0])
    if same[0] == STANDARD_INPUT and given is None:
        raise AnalysisError(f"{source.store.uri} was made of standard input; --input names the file that went into it.")
    if not path.is_file():
        raise AnalysisError(
            f"{path}, which {source.store.uri} was made of, is not there; --input names where it is now."
        )
    return same[0], path


def record_scores(source: ExportSource, file: str) -> Iterator[RecordScores]:
    """The records of a VCF or BCF (`file`: its name in the run), in order, with one batch in memory at a time."""
    reader = source.database.sql(_ALLELES, params={"file": file}).to_arrow_reader(batch_rows(len(source.columns)))
    rest: list[RecordScores] = []
    for batch in reader:
        blocks = itertools.chain(rest, _records_of(source, batch))
        rest = []
        for record in blocks:  # alleles of the last record may continue in the next batch
            if rest and rest[0].record != record.record:
                yield rest.pop()
            rest = [_joined(rest[0], record)] if rest else [record]
    yield from rest


def _records_of(source: ExportSource, batch: pa.RecordBatch) -> Iterator[RecordScores]:
    variant = batch.column("variant").to_numpy()
    found = source.rows.take(variant, source.columns)
    texts = [as_text(column, MISSING).to_pylist() for column in source.values_of(found)]
    original = [batch.column(i).to_pylist() for i in range(5)]
    record = batch.column("record").to_numpy()
    starts = np.flatnonzero(np.append(True, record[1:] != record[:-1])).tolist()
    for start, end in zip(starts, [*starts[1:], len(record)], strict=True):
        alternates = tuple(a for a in original[4][start:end] if a is not None)
        scores = [column[start:end] for column in texts]
        some = any(value != MISSING for value in scores[0])  # a failed variant has no score on any track
        number, chromosome, position, reference = (original[i][start] for i in range(4))
        yield RecordScores(number, chromosome, position, reference, alternates, scores if some else None)


def _joined(left: RecordScores, right: RecordScores) -> RecordScores:
    alternates = left.alternates + right.alternates
    if left.scores is None and right.scores is None:
        return left._replace(alternates=alternates)
    tracks = len(left.scores or right.scores or [])
    sides = [one.scores or [[MISSING] * len(one.alternates)] * tracks for one in (left, right)]
    return left._replace(alternates=alternates, scores=[a + b for a, b in zip(*sides, strict=True)])


def as_text(column: pa.Array, missing: str) -> pa.Array:
    """Cells as text, numbers in the shortest form that reads back as the same number; null and NaN as `missing`."""
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return pc.fill_null(column.cast(pa.string()), missing)
