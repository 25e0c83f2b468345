"""A finished dataset as tables of DuckDB: `inputs`, `variants`, `tracks`, and one a statistic."""

from __future__ import annotations

import atexit
import glob
import os
import weakref
from collections.abc import Sequence, Set
from typing import TYPE_CHECKING, Literal, NamedTuple

import pyarrow as pa

from enformer_ray.dataset.finished import FinishedRun
from enformer_ray.dataset.selection import Rows, quoted
from enformer_ray.errors import EnformerRayError, StoreError
from enformer_ray.rundir.remote_files import PROTOCOL, RangeFiles

if TYPE_CHECKING:
    import duckdb

_IDS, _AGAIN = "selection.ids", "selection.again"


class Selected(NamedTuple):
    """What the tables show.

    Attributes:
        runs: with the number that is added to `variant` in each.
        statistics: names.
        rows: which variants.
        again: variants of later runs that an earlier one has: variant, kept (the earlier one's), variant_id.
        track_table: which tracks.
        words: names that a query uses: tables of statistics have only tracks among them; None gives them all tracks.
    """

    runs: Sequence[tuple[FinishedRun, int]]
    statistics: Sequence[str]
    rows: Rows
    again: pa.Table
    track_table: pa.Table
    words: Set[str] | None = None


class Paths:
    """Where DuckDB finds the files of runs: by their own path, or by ranges through Python, which cannot write.

    Args:
        runs: whose files.
        ranges: never by their own path.
    """

    def __init__(self, runs: Sequence[FinishedRun], ranges: bool) -> None:
        self._runs, self._ranges = runs, ranges
        self.failures: list[EnformerRayError] = []
        """What reading by ranges met: DuckDB turns it into text."""

    def of(self, number: int, paths: Sequence[str]) -> list[str]:
        """Files of a run as DuckDB is to be told."""
        source = self._runs[number].source(paths)
        if self._ranges or source.files is not None or any(map(glob.has_magic, source.paths)):
            return [f"{PROTOCOL}://{number}/{path}" for path in paths]
        return source.paths

    def every(self) -> list[str]:
        """All files that the tables can need."""
        return [
            path
            for number, run in enumerate(self._runs)
            for path in self.of(number, [file.path for file in run.manifest.files if file.path.endswith(".parquet")])
        ]

    def files(self) -> RangeFiles:
        """The files by `run://<number of the run>/<path>`."""
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
        "that nothing was removed since the run was finished: `enformer-ray verify` tells."
    )


def connect(selected: Selected, paths: Paths) -> duckdb.DuckDBPyConnection:
    """A connection in which the tables are."""
    connection = _open(paths)
    connection.execute("CREATE SCHEMA selection")
    if selected.rows.ids is not None:
        _create(connection, _IDS, pa.table({"variant_id": selected.rows.ids}))
    _create(connection, _AGAIN, selected.again)
    _create(connection, "tracks", selected.track_table)
    for statistic in selected.statistics:
        parts = (_scores(selected, paths, number, statistic) for number in range(len(selected.runs)))
        connection.execute(f'CREATE VIEW "{statistic}" AS {" UNION ALL ".join(parts)}')
    parts = (_scores(selected, paths, number, selected.statistics[0], "keys") for number in range(len(selected.runs)))
    connection.execute(f"CREATE VIEW variants AS {' UNION ALL '.join(parts)}")
    parts = (_inputs(selected, paths, number) for number in range(len(selected.runs)))
    of_them = "" if selected.rows.every else " WHERE variant IN (SELECT variant FROM variants)"
    connection.execute(f"CREATE VIEW inputs AS SELECT * FROM ({' UNION ALL '.join(parts)}){of_them}")
    return connection


def keys_again(runs: Sequence[tuple[FinishedRun, int]]) -> pa.Table:
    """Variants of later runs that an earlier one has; only files of chromosomes that several runs have are read."""
    nothing = pa.table({"variant": pa.array([], pa.int64()), "kept": pa.array([], pa.int64())})
    nothing = nothing.append_column("variant_id", pa.array([], pa.string()))
    statistic = next(iter(runs[0][0].manifest.statistics))
    selected = Selected(runs, [statistic], Rows(), nothing, runs[0][0].track_table)
    paths = Paths([run for run, _ in runs], ranges=False)
    chromosomes = [{file.chromosome for file in run.score_files(statistic)} for run, _ in runs]
    found = [nothing]
    for number in range(1, len(runs)):
        common = chromosomes[number] & set().union(*chromosomes[:number])
        if not common:
            continue
        later, *earlier = (
            f"SELECT variant, variant_id FROM ({_scores(selected, paths, n, statistic, 'keys')})"
            f" WHERE chromosome IN ({', '.join(map(quoted, sorted(common)))})"
            for n in (number, *range(number))
        )
        with _open(paths) as connection:
            query = (
                f"SELECT l.variant, min(e.variant) AS kept, variant_id FROM ({later}) l "
                f"JOIN ({' UNION ALL '.join(earlier)}) e USING (variant_id) GROUP BY ALL ORDER BY ALL"
            )
            found.append(connection.sql(query).to_arrow_table())
    return pa.concat_tables(found, promote_options="permissive")


def _open(paths: Paths) -> duckdb.DuckDBPyConnection:
    import duckdb

    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    # A footer of thousands of columns is read once, not whenever a table is named; what is kept is bounded.
    connection.execute("SET parquet_metadata_cache = true")
    connection.register_filesystem(paths.files())
    # One that is still open when Python exits would call back into Python.
    atexit.register(_close, weakref.ref(connection))
    return connection


def _scores(
    selected: Selected, paths: Paths, number: int, statistic: str, columns: Literal["keys", "all"] = "all"
) -> str:
    """Rows of a statistic in one run: key columns, and all tracks that are to be there."""
    run, before = selected.runs[number]
    conditions = [] if selected.rows.every else [selected.rows.sql(_IDS)]
    files = run.score_files(statistic, selected.rows)
    if not files:
        files, conditions = run.score_files(statistic)[:1], ["false"]
    if number and len(selected.again):
        conditions.append(f"variant NOT IN (SELECT variant FROM {_AGAIN})")
    firsts = ", ".join(str(before + file.first) for file in files)
    tracks = selected.track_table.column("column").to_pylist() if columns == "all" else []
    if selected.words is not None:
        tracks = [name for name in tracks if name in selected.words]
    shown = "*" if len(tracks) == run.track_table.num_rows else ", ".join((*run.row_columns, *tracks))
    return (
        f"SELECT ([{firsts}]::BIGINT[])[(file_index + 1)::BIGINT] + file_row_number::BIGINT AS variant, {shown} "
        f"FROM {_parquet(paths.of(number, [file.path for file in files]))}"
        f"{' WHERE ' if conditions else ''}{' AND '.join(conditions)}"
    )


def _inputs(selected: Selected, paths: Paths, number: int) -> str:
    """Input alleles of one run; among several a column says of which."""
    run, before = selected.runs[number]
    source = _parquet(paths.of(number, run.inputs()))
    if len(selected.runs) == 1:
        return f"SELECT * FROM {source}"
    return (
        f"SELECT {quoted(run.store.uri)} AS run, i.* REPLACE (coalesce(a.kept, i.variant + {before}) AS variant) "
        f"FROM {source} i LEFT JOIN {_AGAIN} a ON a.variant = i.variant + {before}"
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
