"""Finished datasets: opened from their manifests, narrowed to variants and tracks, read by Arrow, Polars or DuckDB."""

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
from enformer_ray.dataset.finished import FinishedRun, check_compatible
from enformer_ray.dataset.rows import top_rows
from enformer_ray.dataset.selection import Rows, parse_regions, parse_variant_ids
from enformer_ray.dataset.tracks import select_columns, track_column
from enformer_ray.dataset.views import Paths, Selected, connect, keys_again
from enformer_ray.errors import ConfigError, MissingPackageError
from enformer_ray.rundir.manifest import Manifest
from enformer_ray.rundir.store import open_store

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import polars as pl

_BATCH_VALUES = 2**26  # 256 MiB of float32


class ScoreDataset:
    """Scores of one finished run, or of several: all of them, or those that `tracks` and `where` narrow them to.

    Nothing of the scores is read before one of the `to_` methods is called, and then only the tracks that are asked for
    and the row groups that a selected variant can lie in. A dataset never changes: selections are new ones.

    Attributes:
        manifests: what each run published.
        statistics: names, in the order of the job.
        track_table: selected tracks: column, index, identifier, assay, description, genome.
    """

    def __init__(self, runs: Sequence[FinishedRun]) -> None:
        self._runs = _Runs(runs)
        self.manifests = tuple(run.manifest for run in runs)
        self.statistics = list(runs[0].manifest.statistics)
        self.track_table: pa.Table = runs[0].track_table
        self._conditions: tuple[Callable[[], Rows], ...] = ()

    @property
    def manifest(self) -> Manifest:
        """What the run published; of several runs, the first one."""
        return self.manifests[0]

    @property
    def uri(self) -> str:
        """Run directories, for messages."""
        return ", ".join(run.store.uri for run in self._runs.runs)

    def column(self, track: str | int) -> str:
        """Column of a track.

        Args:
            track: column name (`track_0005`), index in the head (5 or "5"), identifier, or a description that only one
                track has.

        Raises:
            TrackSelectionError: no track, or several, answer to it.
        """
        return track_column(self.track_table, track, self.uri)

    def tracks(self, *selectors: str | int) -> ScoreDataset:
        """The same variants with the tracks that any of the selectors names, in this order.

        Args:
            selectors: tracks as in `column`, or as for `--tracks`: `10-20`, `0,3,7-9`, `assay:CAGE`, `regex:PATTERN`
                (searched in descriptions), `file:PATH`.

        Raises:
            TrackSelectionError: a selector cannot be read, or names nothing of this dataset.
        """
        wanted = select_columns(self.track_table, selectors, self.uri)
        rows = {name: row for row, name in enumerate(self.track_table.column("column").to_pylist())}
        selected = copy.copy(self)
        selected.track_table = self.track_table.take(pa.array([rows[name] for name in wanted], pa.int64()))
        return selected

    def where(
        self,
        *,
        region: str | Sequence[str] | None = None,
        variant_ids: Iterable[str] | None = None,
        source_ids: Iterable[str] | None = None,
        p_below: float | None = None,
    ) -> ScoreDataset:
        """The variants for which all that is given holds; those of an earlier `where` are narrowed further.

        Args:
            region: `chr1:1000-2000` (1-based, both ends included; the `position` of a variant counts), `chr1:1000`,
                `chr1:1000-` or `chr1`; of several one is enough. `chr` may be left out.
            variant_ids: as in the column `variant_id`; those that the dataset has not are no error.
            source_ids: names in the variant files (`source_id` or `rsid` of an input).
            p_below: an input of the variant has a smaller p-value.

        Raises:
            SelectionError: a region, identifier or threshold cannot be read as one. What asks for the inputs
                (`source_ids`, `p_below`) is looked up when rows are read.
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
        selected.__dict__.pop("_rows", None)
        selected._conditions = (*self._conditions, *conditions)
        return selected

    def to_arrow(self, statistic: str, tracks: Sequence[str | int] | None = None) -> pa.Table:
        """Key columns, `indel_convention` and tracks (float32) of the variants, in genome order within each run.

        Args:
            statistic: name of a statistic.
            tracks: as in the method `tracks`; None means those of this dataset.
        """
        parts = self._datasets(statistic, self._columns(tracks))
        return pa.concat_tables([dataset.to_table() for dataset in parts])

    def to_batches(
        self, statistic: str, tracks: Sequence[str | int] | None = None, rows: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The same as `to_arrow`, batch by batch.

        Args:
            statistic: name of a statistic.
            tracks: as in the method `tracks`; None means those of this dataset.
            rows: of a batch at most; by default 256 MiB of scores.
        """
        columns = self._columns(tracks)
        most = rows or max(1, _BATCH_VALUES // len(columns))
        for dataset in self._datasets(statistic, columns):
            yield from dataset.to_batches(batch_size=most, batch_readahead=1, fragment_readahead=1)

    def to_pandas(self, statistic: str, tracks: Sequence[str | int] | None = None) -> pd.DataFrame:
        """The same as `to_arrow` in pandas, which has to be installed."""
        try:
            import pandas  # noqa: F401 (Arrow imports it)
        except ImportError:
            raise MissingPackageError(
                "to_pandas needs pandas, which is not installed: pip install pandas, or use to_arrow or to_polars."
            ) from None
        return self.to_arrow(statistic, tracks).to_pandas()

    def to_polars(self, statistic: str, tracks: Sequence[str | int] | None = None) -> pl.LazyFrame:
        """The same as `to_arrow`, lazily: Polars reads what its query needs."""
        import polars as pl

        columns = self._columns(tracks)
        run = self._runs.runs[0]
        source = run.source([file.path for file in run.score_files(self._known(statistic))])
        if len(self.manifests) == 1 and self._rows.every and source.files is None:
            return pl.scan_parquet(source.paths, hive_partitioning=False, glob=False).select(columns)
        # Polars has a client of its own for object stores; through Arrow the requests are those of the store.
        return pl.concat([pl.scan_pyarrow_dataset(dataset) for dataset in self._datasets(statistic, columns)])

    def to_duckdb(self) -> duckdb.DuckDBPyConnection:
        """A DuckDB connection with a view of each statistic, `inputs`, `variants` and `tracks`.

        Statistics have a column `variant` before the others, which joins them to `variants` (key columns, a row a
        variant) and `inputs` (a row an input allele, with what became of it and what its study says).
        """
        return self.connect(Paths(self._runs.runs, ranges=False))

    def connect(self, paths: Paths, words: Set[str] | None = None) -> duckdb.DuckDBPyConnection:
        """The same, with files found by `paths`, and of the tracks only those among the words that a query uses."""
        runs = list(zip(self._runs.runs, self._runs.before, strict=True))
        selected = Selected(runs, self.statistics, self._rows, self._runs.again, self.track_table, words)
        return connect(selected, paths)

    def range_paths(self) -> Paths:
        """Paths of the files that are read by ranges, which nobody can write through."""
        return Paths(self._runs.runs, ranges=True)

    def inputs(self) -> pa.Table:
        """Every input allele with status (scored, failed, duplicate, rejected) and reason, in the order of files.

        All of them, whatever is selected; `inputs` of `to_duckdb` has those of the selected variants.
        """
        return pa.concat_tables([rows.inputs(run).to_table() for run in self._runs.runs])

    def variants(self) -> pa.Table:
        """Another name of `inputs`: that of their folder."""
        return self.inputs()

    def top(self, statistic: str, n: int, track: str | int | None = None) -> pa.Table:
        """The variants with the largest absolute score, largest first; read batch by batch.

        Args:
            statistic: name of a statistic.
            n: rows at most.
            track: as in `column`; None takes for each variant the track on which its score is largest.

        Returns:
            Key columns, `indel_convention`, then track (column name), description (null without a track table), score.
        """
        batches = self.to_batches(statistic, None if track is None else [self.column(track)])
        table = self.track_table
        descriptions = dict(zip(*(table.column(c).to_pylist() for c in ("column", "description")), strict=True))
        return top_rows(batches, n, descriptions)

    @cached_property
    def _rows(self) -> Rows:
        rows = Rows()
        for condition in self._conditions:
            rows &= condition()
        return rows

    def _columns(self, tracks: Sequence[str | int] | None) -> list[str]:
        selected = self if tracks is None else self.tracks(*tracks)
        return [*self._runs.runs[0].row_columns, *selected.track_table.column("column").to_pylist()]

    def _known(self, statistic: str) -> str:
        return self.manifest.statistic(statistic, self.uri)

    def _datasets(self, statistic: str, columns: Sequence[str]) -> Iterator[pads.Dataset]:
        """Of each run what is selected of it."""
        self._known(statistic)
        for number, run in enumerate(self._runs.runs):
            dataset = run.dataset(statistic, self._rows, columns)
            again = self._runs.again_in(number)
            filters = [self._rows.expression(), ~pc.field("variant_id").isin(again) if len(again) else None]
            for expression in filters:
                dataset = dataset if expression is None else dataset.filter(expression)
            yield dataset


class _Runs:
    """Runs, and what is found out about them once for all selections.

    Attributes:
        runs: in the order of opening.
        before: variants of the runs before each.
    """

    def __init__(self, runs: Sequence[FinishedRun]) -> None:
        self.runs = tuple(runs)
        self.before = tuple(accumulate((run.manifest.rows for run in runs), initial=0))[:-1]

    @cached_property
    def chromosomes(self) -> set[str]:
        statistic = next(iter(self.runs[0].manifest.statistics))
        return {file.chromosome for run in self.runs for file in run.score_files(statistic)}

    @cached_property
    def again(self) -> pa.Table:
        """Variants of later runs that an earlier one has."""
        return keys_again(list(zip(self.runs, self.before, strict=True)))

    def again_in(self, number: int) -> pa.Array:
        """Identifiers of variants of one run that an earlier one has."""
        if not number:
            return pa.array([], pa.string())
        first = self.before[number]
        variant = self.again.column("variant")
        of_it = pc.and_(pc.greater_equal(variant, first), pc.less(variant, first + self.runs[number].manifest.rows))
        return self.again.column("variant_id").filter(of_it).combine_chunks()


def open_scores(run_directory: str | Path | Sequence[str | Path]) -> ScoreDataset:
    """Open the dataset of a finished run, or of several as one.

    Several must have the same statistics, tracks, weights and options. Of a variant that more than one of them has, the
    row of the first run that has it counts.

    Args:
        run_directory: a path or URI, or a sequence of them.

    Raises:
        RunIncompleteError: a run has no manifest yet.
        DatasetCorruptError: a file that the manifest lists is missing or has another size.
        RunsDifferError: several runs do not make one dataset; the message tells the difference.
    """
    given = [run_directory] if isinstance(run_directory, str | Path) else list(run_directory)
    if not given:
        raise ConfigError("no run directory is given; open_scores takes one, or several as a sequence.")
    stores = [open_store(str(directory)) for directory in given]
    uris = [store.uri for store in stores]
    if len(set(uris)) < len(uris):
        raise ConfigError(f"the same run directory is given twice ({', '.join(uris)}); name each once.")
    runs = [FinishedRun(store) for store in stores]
    check_compatible(runs)
    return ScoreDataset(runs)
