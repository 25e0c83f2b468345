"""A finished dataset as tables in DuckDB: `inputs`, `variants`, `tracks`, and one for each statistic."""

from __future__ import annotations

import atexit
import glob
import os
import weakref
from collections.abc import Sequence, Set
from typing import TYPE_CHECKING, Literal, NamedTuple

import pyarrow as pa

from enformer_ray.dataset.finished import FinishedRun
from enformer_ray.dataset.selection import VariantFilter, quoted
from enformer_ray.definitions import other_names
from enformer_ray.errors import EnformerRayError, StoreError
from enformer_ray.rundir.remote_files import PROTOCOL, RangeFiles

if TYPE_CHECKING:
    import duckdb

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
    """

    runs: Sequence[tuple[FinishedRun, int]]
    statistics: Sequence[str]
    variants: VariantFilter
    repeated: pa.Table
    track_table: pa.Table
    names: Set[str] | None = None


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
    selects = (_scores(contents, files, number, contents.statistics[0], "keys") for number in range(len(contents.runs)))
    connection.execute(f"CREATE VIEW variants AS {' UNION ALL '.join(selects)}")
    selects = (_inputs(contents, files, number) for number in range(len(contents.runs)))
    selected = "" if contents.variants.keeps_all else " WHERE variant IN (SELECT variant FROM variants)"
    connection.execute(f"CREATE VIEW inputs AS SELECT * FROM ({' UNION ALL BY NAME '.join(selects)}){selected}")
    return connection


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
    contents: TableContents, files: DuckDBFiles, number: int, statistic: str, columns: Literal["keys", "all"] = "all"
) -> str:
    """Query of the rows of a statistic in one run: key columns, and tracks if `columns` is `all`."""
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
