"""A finished dataset as tables in DuckDB: `inputs`, `variants`, `tracks`, and one for each statistic."""

from __future__ import annotations

import atexit
import glob
import os
import weakref
from collections.abc import Callable, Mapping, Sequence, Set
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from enformer_ray.dataset.calibration import CalibrationTable
from enformer_ray.dataset.finished import FinishedRun
from enformer_ray.dataset.selection import Track, Value, VariantFilter, quoted, tracks_of
from enformer_ray.definitions import other_names
from enformer_ray.errors import EnformerRayError, StoreError
from enformer_ray.rundir.remote_files import PROTOCOL, RangeFiles

if TYPE_CHECKING:
    import duckdb

_CALIBRATED: tuple[Value, ...] = ("quantile", "z")
_IDS, _REPEATED = "selection.ids", "selection.repeated"


class TableContents(NamedTuple):
    """What the tables contain.

    Attributes:
        runs: each with the number that is added to its `variant`.
        statistics: names.
        variants: which variants.
        repeated: variants that a run before has, too: variant, kept (that of the first run that has it), variant_id.
        track_table: which tracks.
        names: names in a query, to whose tracks the tables of statistics are limited; None for all tracks.
        calibrations: the table of each run, if all are calibrated: then statistics have tables of quantiles and z, too.
    """

    runs: Sequence[tuple[FinishedRun, int]]
    statistics: Sequence[str]
    variants: VariantFilter
    repeated: pa.Table
    track_table: pa.Table
    names: Set[str] | None = None
    calibrations: Sequence[CalibrationTable] = ()


class DuckDBFiles:
    """Paths of the files of runs for DuckDB: their own, or `run://` ones, which it reads by ranges through Python.

    Args:
        runs: whose files.
        ranges: always by ranges: DuckDB cannot write to these.
    """

    def __init__(self, runs: Sequence[FinishedRun], ranges: bool) -> None:
        self._runs, self._ranges = runs, ranges
        self.failures: list[EnformerRayError] = []
        """Errors of reading by ranges, of which DuckDB keeps only the text."""

    def paths(self, number: int, paths: Sequence[str]) -> list[str]:
        """Paths for DuckDB of files of a run."""
        source = self._runs[number].source(paths)
        # DuckDB would expand * and ? in a path of its own.
        if self._ranges or source.files is not None or any(map(glob.has_magic, source.paths)):
            return [f"{PROTOCOL}://{number}/{path}" for path in paths]
        return source.paths

    def all_paths(self) -> list[str]:
        """Paths for DuckDB of all files that the tables may read."""
        return [
            path
            for number, run in enumerate(self._runs)
            for path in self.paths(number, [file.path for file in run.manifest.files if file.path.endswith(".parquet")])
        ]

    def filesystem(self) -> RangeFiles:
        """The files as `run://<index of the run>/<path>`."""
        sizes = {
            f"{number}/{file.path}": file.bytes for number, run in enumerate(self._runs) for file in run.manifest.files
        }
        return RangeFiles(sizes, lambda _: None, self._read_range)

    def _read_range(self, path: str, start: int, end: int) -> bytes:
        number, _, rest = path.partition("/")
        run = self._runs[int(number)]
        source = run.source([rest])
        try:
            if source.files is None:
                return _read_local(source.paths[0], start, end)
            read: bytes = source.files.read_range(rest, start, end)
        except OSError as error:
            # Kept for the caller: what passes through DuckDB comes out as text.
            failure = error if isinstance(error, EnformerRayError) else _unreadable(run, rest, error)
            self.failures.append(failure)
            raise failure from None
        return read


def _read_local(path: str, start: int, end: int) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (for each of thousands of columns)
        return os.pread(file.fileno(), end - start, start)


def _unreadable(run: FinishedRun, path: str, error: OSError) -> StoreError:
    return StoreError(
        f"{run.store.uri}/{path} cannot be read ({error.strerror or error}). Check the disk and the permissions, and "
        "that nothing was removed since the run was finished: `enformer-ray verify` checks that."
    )


def connect(contents: TableContents, files: DuckDBFiles) -> duckdb.DuckDBPyConnection:
    """A connection with the tables."""
    connection = _open(files)
    connection.execute("CREATE SCHEMA selection")
    if contents.variants.ids is not None:
        _create(connection, _IDS, pa.table({"variant_id": contents.variants.ids}))
    _create(connection, _REPEATED, contents.repeated)
    _create(connection, "tracks", contents.track_table)
    for statistic in contents.statistics:
        selects = (_scores(contents, files, number, statistic) for number in range(len(contents.runs)))
        connection.execute(f'CREATE VIEW "{statistic}" AS {" UNION ALL ".join(selects)}')
        for other in other_names(statistic):  # a query may say the name of now of an older run, or the other way round
            connection.execute(f'CREATE VIEW "{other}" AS SELECT * FROM "{statistic}"')
        if contents.calibrations:
            _create_calibrated(connection, contents, files, statistic)
    selects = (_scores(contents, files, number, contents.statistics[0], "keys") for number in range(len(contents.runs)))
    connection.execute(f"CREATE VIEW variants AS {' UNION ALL '.join(selects)}")
    selects = (_inputs(contents, files, number) for number in range(len(contents.runs)))
    selected = "" if contents.variants.keeps_all else " WHERE variant IN (SELECT variant FROM variants)"
    connection.execute(f"CREATE VIEW inputs AS SELECT * FROM ({' UNION ALL BY NAME '.join(selects)}){selected}")
    return connection


def _create_calibrated(
    connection: duckdb.DuckDBPyConnection, contents: TableContents, files: DuckDBFiles, statistic: str
) -> None:
    """Views of a statistic with the quantile and the z of each score in its place."""
    from duckdb.func import PythonUDFType

    for value in _CALIBRATED:
        selects = []
        for number, table in enumerate(contents.calibrations):
            tracks = tracks_of(contents.runs[number][0].track_table)
            name = f"{statistic}_{value}_{number}"
            function = _function(table, statistic, tracks, value)
            connection.create_function(name, function, ["INTEGER", "FLOAT"], "FLOAT", type=PythonUDFType.ARROW)
            places = {track.column: place for place, track in enumerate(tracks)}
            shown = {track: f'"{name}"({place}, "{track}") AS "{track}"' for track, place in places.items()}
            selects.append(_scores(contents, files, number, statistic, "all", shown))
        connection.execute(f'CREATE VIEW "{statistic}_{value}" AS {" UNION ALL ".join(selects)}')


def _function(
    table: CalibrationTable, statistic: str, tracks: Sequence[Track], value: Value
) -> Callable[[pa.ChunkedArray, pa.ChunkedArray], pa.Array]:
    """A function of the places of tracks in `tracks`, and of scores."""
    loaded = cache(lambda: table.grids(statistic, tracks))

    def calibrated(places: pa.ChunkedArray, scores: pa.ChunkedArray) -> pa.Array:
        numbers, values = places.to_numpy(), scores.to_numpy().astype(np.float32)
        found = np.empty_like(values)
        for place in np.unique(numbers):
            found[numbers == place] = loaded()[place].of(value, values[numbers == place])
        return pa.array(found, from_pandas=True)  # NaN becomes null

    return calibrated


def repeated_variants(runs: Sequence[tuple[FinishedRun, int]]) -> pa.Table:
    """Variants that a run before has, too; only files of chromosomes that several runs have are read."""
    nothing = pa.table({"variant": pa.array([], pa.int64()), "kept": pa.array([], pa.int64())})
    nothing = nothing.append_column("variant_id", pa.array([], pa.string()))
    statistic = next(iter(runs[0][0].manifest.statistics))
    contents = TableContents(runs, [statistic], VariantFilter(), nothing, runs[0][0].track_table)
    files = DuckDBFiles([run for run, _ in runs], ranges=False)
    chromosomes = [{file.chromosome for file in run.score_files(statistic)} for run, _ in runs]
    found = [nothing]
    for number in range(1, len(runs)):
        common = chromosomes[number] & set().union(*chromosomes[:number])
        if not common:
            continue
        later, *previous = (
            f"SELECT variant, variant_id FROM ({_scores(contents, files, n, statistic, 'keys')})"
            f" WHERE chromosome IN ({', '.join(map(quoted, sorted(common)))})"
            for n in (number, *range(number))
        )
        with _open(files) as connection:
            query = (
                f"SELECT l.variant, min(e.variant) AS kept, variant_id FROM ({later}) l "
                f"JOIN ({' UNION ALL '.join(previous)}) e USING (variant_id) GROUP BY ALL ORDER BY ALL"
            )
            found.append(connection.sql(query).to_arrow_table())
    return pa.concat_tables(found, promote_options="permissive")


def _open(files: DuckDBFiles) -> duckdb.DuckDBPyConnection:
    import duckdb

    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    # A footer of thousands of columns is read once, not whenever a table is named; DuckDB bounds what it keeps.
    connection.execute("SET parquet_metadata_cache = true")
    connection.register_filesystem(files.filesystem())
    # A connection that is still open when Python exits would call back into an interpreter that is gone.
    atexit.register(_close, weakref.ref(connection))
    return connection


def _scores(
    contents: TableContents,
    files: DuckDBFiles,
    number: int,
    statistic: str,
    columns: Literal["keys", "all"] = "all",
    expressions: Mapping[str, str] | None = None,
) -> str:
    """Query of the rows of a statistic in one run: key columns, and tracks if `columns` is `all`.

    Tracks are as they are, or what is given for them by `expressions`.
    """
    run, offset = contents.runs[number]
    conditions = [] if contents.variants.keeps_all else [contents.variants.sql(_IDS)]
    score_files = run.score_files(statistic, contents.variants)
    if not score_files:
        # A table without rows still needs a file that has its columns.
        score_files, conditions = run.score_files(statistic)[:1], ["false"]
    if number and len(contents.repeated):
        conditions.append(f"variant NOT IN (SELECT variant FROM {_REPEATED})")
    firsts = ", ".join(str(offset + file.first) for file in score_files)
    tracks = contents.track_table.column("column").to_pylist() if columns == "all" else []
    if contents.names is not None:
        tracks = [name for name in tracks if name in contents.names]
    if expressions is not None:
        shown = ", ".join((*run.row_columns, *(expressions[track] for track in tracks)))
    else:
        shown = "*" if len(tracks) == run.track_table.num_rows else ", ".join((*run.row_columns, *tracks))
    return (
        f"SELECT ([{firsts}]::BIGINT[])[(file_index + 1)::BIGINT] + file_row_number::BIGINT AS variant, {shown} "
        f"FROM {_parquet(files.paths(number, [file.path for file in score_files]))}"
        f"{' WHERE ' if conditions else ''}{' AND '.join(conditions)}"
    )


def _inputs(contents: TableContents, files: DuckDBFiles, number: int) -> str:
    """Query of the input alleles of a run; of several runs, with a column that names it."""
    run, offset = contents.runs[number]
    source = _parquet(files.paths(number, run.inputs()))
    if len(contents.runs) == 1:
        return f"SELECT * FROM {source}"
    return (
        f"SELECT {quoted(run.store.uri)} AS run, i.* REPLACE (coalesce(a.kept, i.variant + {offset}) AS variant) "
        f"FROM {source} i LEFT JOIN {_REPEATED} a ON a.variant = i.variant + {offset}"
    )


def _parquet(paths: Sequence[str]) -> str:
    return f"read_parquet([{', '.join(map(quoted, paths))}], hive_partitioning = false)"


def _create(connection: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> None:
    connection.register("given", table)
    connection.execute(f"CREATE TABLE {name} AS SELECT * FROM given")
    connection.unregister("given")


def _close(connection: weakref.ref[duckdb.DuckDBPyConnection]) -> None:
    opened = connection()
    if opened is not None:
        opened.close()
