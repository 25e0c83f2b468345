"""Finished runs as a Python dataset: selected by variant and track, read as Arrow, pandas, Polars or DuckDB."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from enformer_ray.dataset import rows
from enformer_ray.dataset.calibration import CalibrationTable, own_calibration, required_calibration
from enformer_ray.dataset.finished import FinishedRun, check_compatible
from enformer_ray.dataset.selection import (
    RankBy,
    VariantFilter,
    parse_regions,
    parse_variant_ids,
    select_columns,
    track_column,
    tracks_of,
)
from enformer_ray.dataset.top import largest_rows, top_rows
from enformer_ray.dataset.views import DuckDBFiles, TableContents, connect, repeated_variants
from enformer_ray.errors import ConfigError, MissingPackageError
from enformer_ray.rundir.manifest import Manifest
from enformer_ray.rundir.store import open_store

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import polars as pl

_BATCH_VALUES = 2**26  # 256 MiB of float32


def open_scores(run_directory: str | Path | Sequence[str | Path]) -> ScoreDataset:
    """Open the dataset of a finished run, or of several as one.

    Several must have the same statistics, tracks, weights and options. Of a variant that more than one of them has, the
    row of the first run that has it counts.

    Args:
        run_directory: a path or URI, or a sequence of them.

    Returns:
        All variants and tracks; no scores are read yet.

    Raises:
        ConfigError: no run directory is given, or one twice.
        RunIncompleteError: a run has no manifest yet.
        DatasetCorruptError: a file that the manifest lists is missing or has another size.
        MismatchError: several runs do not make one dataset; the message names the difference.
        StoreError: a run directory cannot be read.
    """
    directories = [run_directory] if isinstance(run_directory, str | Path) else list(run_directory)
    if not directories:
        raise ConfigError("no run directory is given; open_scores takes one, or several as a sequence.")
    stores = [open_store(str(directory)) for directory in directories]
    uris = [store.uri for store in stores]
    if len(set(uris)) < len(uris):
        raise ConfigError(f"the same run directory is given twice ({', '.join(uris)}); name each once.")
    runs = [FinishedRun(store) for store in stores]
    check_compatible(runs)
    return ScoreDataset(runs)


class ScoreDataset:
    """Scores of finished runs: all of them, or those that `tracks` and `where` select.

    No scores are read before one of the `to_` methods is called, and then only the selected tracks, and the row groups
    that may hold a selected variant. A dataset never changes: each selection is a new one.

    Args:
        runs: at least one; several must be compatible (`open_scores` checks that).

    Attributes:
        manifests: of the runs: what each has published.
        statistics: names, in the order of the job.
        track_table: selected tracks: column, index (0-based, in the head), identifier, assay, description, genome.
    """

    def __init__(self, runs: Sequence[FinishedRun]) -> None:
        self._runs = _Runs(runs)
        self.manifests = tuple(run.manifest for run in runs)
        self.statistics = list(runs[0].manifest.statistics)
        self.track_table: pa.Table = runs[0].track_table
        self._conditions: tuple[Callable[[], VariantFilter], ...] = ()

    @property
    def manifest(self) -> Manifest:
        """What the run has published; of several runs, the first one."""
        return self.manifests[0]

    @property
    def uri(self) -> str:
        """Run directories, separated by commas, for messages."""
        return ", ".join(run.store.uri for run in self._runs.runs)

    def column(self, track: str | int) -> str:
        """Column of a track.

        Args:
            track: column (`track_0005`), index in the head (5 or "5", 0-based), identifier, or a description that only
                one track has.

        Returns:
            The name of the column.

        Raises:
            SelectionError: no track, or more than one, has this name.
        """
        return track_column(self.track_table, track, self.uri)

    def tracks(self, *selectors: str | int) -> ScoreDataset:
        """Select tracks.

        Args:
            selectors: tracks as in `column`, or as for `--tracks`: `10-20`, `0,3,7-9`, `assay:CAGE`, `regex:PATTERN`
                (searched in descriptions), `file:PATH`.

        Returns:
            The same variants with the tracks that any of the selectors names, in the order of the selectors, each once.

        Raises:
            SelectionError: a selector cannot be read, or names no track of this dataset.
        """
        columns = select_columns(self.track_table, selectors, self.uri)
        places = {name: row for row, name in enumerate(self.track_table.column("column").to_pylist())}
        selected = copy.copy(self)
        selected.track_table = self.track_table.take(pa.array([places[name] for name in columns], pa.int64()))
        return selected

    def where(
        self,
        *,
        region: str | Sequence[str] | None = None,
        variant_ids: Iterable[str] | None = None,
        source_ids: Iterable[str] | None = None,
        p_below: float | None = None,
    ) -> ScoreDataset:
        """Select variants: those that fulfil all conditions, and those of previous calls of `where`.

        Args:
            region: `chr1:1000-2000` (1-based, both ends included; the `position` of a variant counts), `chr1:1000`,
                `chr1:1000-` or `chr1`; of several, any. `chr` may be left out.
            variant_ids: as in the column `variant_id`; those that the dataset does not have are no error.
            source_ids: names in the variant files (`source_id` or `rsid` of an input).
            p_below: an input of the variant has a smaller p-value.

        Returns:
            The same tracks of the selected variants.

        Raises:
            SelectionError: a region, identifier or threshold cannot be read. Conditions on inputs (`source_ids`,
                `p_below`) are only evaluated, and may raise, when rows are read.
        """
        runs, conditions = self._runs.runs, []
        if region is not None:
            regions = parse_regions(region, self._runs.chromosomes)
            conditions.append(lambda: regions)
        if variant_ids is not None:
            ids = parse_variant_ids(variant_ids)
            conditions.append(lambda: ids)
        if source_ids is not None:
            names = [source_ids] if isinstance(source_ids, str) else list(source_ids)
            conditions.append(lambda: rows.with_source_ids(runs, names))
        if p_below is not None:
            rows.check_threshold(p_below)
            conditions.append(lambda: rows.with_p_below(runs, p_below))
        selected = copy.copy(self)
        selected.__dict__.pop("_variants", None)  # the cached filter of the conditions before
        selected._conditions = (*self._conditions, *conditions)
        return selected

    def to_arrow(self, statistic: str, tracks: Sequence[str | int] | None = None) -> pa.Table:
        """Scores as an Arrow table.

        Args:
            statistic: name of a statistic.
            tracks: as in the method `tracks`; None for those of this dataset.

        Returns:
            Key columns (`position` is 1-based), `indel_convention`, those of genes if the scores are of genes, then a
            float32 column for each track, null for a variant that could not be scored. Rows are in genome order within
            each run.

        Raises:
            ConfigError: the dataset has no such statistic.
            SelectionError: as in the method `tracks`.
            SelectionError: `p_below` is given, and no input has a p-value.
        """
        return pa.concat_tables([d.to_table() for d in self._datasets(statistic, self._columns(tracks))])

    def to_batches(
        self, statistic: str, tracks: Sequence[str | int] | None = None, rows: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The same as `to_arrow`, batch by batch.

        Args:
            statistic: name of a statistic.
            tracks: as in the method `tracks`; None for those of this dataset.
            rows: largest number of rows of a batch; by default 256 MiB of scores.

        Yields:
            Batches with the columns and in the order of `to_arrow`.
        """
        columns = self._columns(tracks)
        for dataset in self._datasets(statistic, columns):
            yield from _batches(dataset, rows or max(1, _BATCH_VALUES // len(columns)))

    def to_pandas(self, statistic: str, tracks: Sequence[str | int] | None = None) -> pd.DataFrame:
        """The same as `to_arrow` in pandas.

        Args:
            statistic: name of a statistic.
            tracks: as in the method `tracks`; None for those of this dataset.

        Returns:
            A frame with the columns of `to_arrow`.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        try:
            import pandas  # noqa: F401 (Arrow imports it)
        except ImportError:
            raise MissingPackageError(
                "to_pandas needs pandas, which is not installed: pip install pandas, or use to_arrow or to_polars."
            ) from None
        return self.to_arrow(statistic, tracks).to_pandas()

    def to_polars(self, statistic: str, tracks: Sequence[str | int] | None = None) -> pl.LazyFrame:
        """The same as `to_arrow`, lazily: Polars reads what its query needs.

        Args:
            statistic: name of a statistic.
            tracks: as in the method `tracks`; None for those of this dataset.

        Returns:
            A lazy frame with the columns of `to_arrow`.
        """
        import polars as pl

        columns = self._columns(tracks)
        run = self._runs.runs[0]
        source = run.source([file.path for file in run.score_files(self._known(statistic))])
        if len(self.manifests) == 1 and self._variants.keeps_all and source.files is None:
            return pl.scan_parquet(source.paths, hive_partitioning=False, glob=False).select(columns)
        # Polars has a client of its own for object stores; through Arrow the requests are those of the store.
        return pl.concat([pl.scan_pyarrow_dataset(dataset) for dataset in self._datasets(statistic, columns)])

    def to_duckdb(self) -> duckdb.DuckDBPyConnection:
        """A DuckDB connection with a view of each statistic, `inputs`, `variants` and `tracks`.

        Statistics have a column `variant` before the others, which joins them to `variants` (key columns, a row for
        each variant) and `inputs` (a row for each input allele, with its status and the columns of its study). Where
        the runs are calibrated, `sad_quantile` and `sad_z` are like `sad` with quantiles and z in place of the scores.

        Returns:
            The connection; the caller closes it.
        """
        return self.connect(DuckDBFiles(self._runs.runs, ranges=False))

    def connect(self, files: DuckDBFiles, names: Set[str] | None = None) -> duckdb.DuckDBPyConnection:
        """The same with other paths of files and, if `names` in a query are given, only with the tracks among them."""
        runs = list(zip(self._runs.runs, self._runs.offsets, strict=True))
        selected = (self.statistics, self._variants, self._runs.repeated, self.track_table)
        contents = TableContents(runs, *selected, names, self.calibrations)
        return connect(contents, files)

    def range_files(self) -> DuckDBFiles:
        """Files for `connect` that DuckDB reads by ranges, and cannot write to."""
        return DuckDBFiles(self._runs.runs, ranges=True)

    def inputs(self) -> pa.Table:
        """All input alleles, whatever is selected; `inputs` of `to_duckdb` has those of the selected variants.

        Returns:
            A row for each, in the order of files: status (scored, failed, duplicate, rejected), reason and the other
            columns of variants/.
        """
        # Runs of older versions lack columns that were added since.
        return pa.concat_tables([rows.inputs(run).to_table() for run in self._runs.runs], promote_options="default")

    def variants(self) -> pa.Table:
        """Another name of `inputs`: that of their folder."""
        return self.inputs()

    def top(self, statistic: str, n: int, track: str | int | None = None, by: RankBy | None = None) -> pa.Table:
        """The variants with the largest absolute score or quantile, largest first; read batch by batch.

        Args:
            statistic: name of a statistic.
            n: largest number of rows.
            track: as in `column`; None takes for each variant the track on which its score or quantile is largest.
            by: `score`, or `quantile`, by which tracks are comparable; None is the latter where the runs are
                calibrated (docs/calibration.md).

        Returns:
            Key columns, `indel_convention`, then track (column name), description (null without a track table), score;
            where the runs are calibrated also quantile and z.

        Raises:
            InputFileError: `by` is `quantile`, and a run is not calibrated.
        """
        columns = self._columns(None if track is None else [self.column(track)])
        tracks = tracks_of(self.tracks(self.column(track)).track_table if track is not None else self.track_table)
        tables = self._runs.required_tables() if by == "quantile" else self.calibrations
        by = by or ("quantile" if tables else "score")
        table = self.track_table
        descriptions = dict(zip(*(table.column(c).to_pylist() for c in ("column", "description")), strict=True))
        found = []
        for number, dataset in enumerate(self._datasets(statistic, columns)):
            grids = tables[number].grids(statistic, tracks) if tables else None
            batches = _batches(dataset, max(1, _BATCH_VALUES // len(columns)))
            found.append(top_rows(batches, n, descriptions, grids, by))
        return largest_rows(pa.concat_tables(found), n, by)

    @property
    def calibrations(self) -> list[CalibrationTable]:
        """The tables by which the runs are calibrated (docs/calibration.md), one each; none if one has none."""
        return self._runs.tables

    @cached_property
    def _variants(self) -> VariantFilter:
        selected = VariantFilter()
        for condition in self._conditions:
            selected &= condition()
        return selected

    def _columns(self, tracks: Sequence[str | int] | None) -> list[str]:
        selected = self if tracks is None else self.tracks(*tracks)
        return [*self._runs.runs[0].row_columns, *selected.track_table.column("column").to_pylist()]

    def _known(self, statistic: str) -> str:
        return self.manifest.statistic(statistic, self.uri)

    def _datasets(self, statistic: str, columns: Sequence[str]) -> Iterator[pads.Dataset]:
        """The selected rows of each run."""
        self._known(statistic)
        for number, run in enumerate(self._runs.runs):
            dataset = run.dataset(statistic, self._variants, columns)
            repeated = self._runs.repeated_in(number)
            not_repeated = ~pc.field("variant_id").isin(repeated) if len(repeated) else None
            for expression in (self._variants.expression(), not_repeated):
                dataset = dataset if expression is None else dataset.filter(expression)
            yield dataset


def _batches(dataset: pads.Dataset, rows: int) -> Iterator[pa.RecordBatch]:
    # Arrow's default reads 16 batches ahead, which are 4 GiB here.
    return iter(dataset.to_batches(batch_size=rows, batch_readahead=1, fragment_readahead=1))


class _Runs:
    """Runs, with what is computed once for all selections.

    Attributes:
        runs: in the order of opening.
        offsets: number of variants of the runs before each.
    """

    def __init__(self, runs: Sequence[FinishedRun]) -> None:
        self.runs = tuple(runs)
        self.offsets = tuple(accumulate((run.manifest.rows for run in runs), initial=0))[:-1]

    @cached_property
    def tables(self) -> list[CalibrationTable]:
        found = [table for table in map(own_calibration, self.runs) if table is not None]
        return found if len(found) == len(self.runs) else []

    def required_tables(self) -> list[CalibrationTable]:
        return [required_calibration(run) for run in self.runs]

    @cached_property
    def chromosomes(self) -> set[str]:
        statistic = next(iter(self.runs[0].manifest.statistics))
        return {file.chromosome for run in self.runs for file in run.score_files(statistic)}

    @cached_property
    def repeated(self) -> pa.Table:
        """Variants that a run before has, too."""
        return repeated_variants(list(zip(self.runs, self.offsets, strict=True)))

    def repeated_in(self, number: int) -> pa.Array:
        """Identifiers of the variants of a run that a run before has, too."""
        if not number:
            return pa.array([], pa.string())
        first = self.offsets[number]
        variant = self.repeated.column("variant")
        inside = pc.and_(pc.greater_equal(variant, first), pc.less(variant, first + self.runs[number].manifest.rows))
        return self.repeated.column("variant_id").filter(inside).combine_chunks()
