"""What each base contributes, from the scores of its three substitutions."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.analysis.logo import LogoLine, draw_logo
from enformer_ray.analysis.plots import FORMATS, save
from enformer_ray.dataset.dataset import ScoreDataset
from enformer_ray.errors import ConfigError
from enformer_ray.rundir.store import RunStore

BASES = "ACGT"
_BATCH_VALUES = 2**22  # 32 MiB of float64


@dataclass(frozen=True)
class Sites:
    """Consecutive saturated bases of one chromosome.

    Attributes:
        chromosome: canonical name.
        position: (n,), 1-based, ascending.
        reference: (n,), place of the reference base in `BASES`.
        scores: (n, 4, tracks) float64: of the substitution by each of `BASES`, 0 for the reference base; NaN where a
            variant failed.
    """

    chromosome: str
    position: NDArray[np.int64]
    reference: NDArray[np.int64]
    scores: NDArray[np.float64]


@dataclass
class SiteReader:
    """Reads `Sites`.

    Attributes:
        dataset: scores; its tracks are read.
        statistic: name of a statistic.
        incomplete: bases met so far that have one or two substitutions alone; these are left out.
    """

    dataset: ScoreDataset
    statistic: str
    incomplete: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[Sites]:
        """All of them, in the order of the dataset."""
        self.dataset.manifest.refuse_genes(self.dataset.uri)
        columns = self.dataset.track_table.column("column").to_pylist()
        kept: pa.Table | None = None
        for batch in self.dataset.to_batches(self.statistic, rows=max(64, _BATCH_VALUES // len(columns))):
            table = _substitutions(batch)
            table = table if kept is None else pa.concat_tables([kept, table])
            if not table.num_rows:
                continue
            groups = _groups(table)
            whole = int(groups[-1])  # the last base may go on in the next batch
            yield from self._sites(table.slice(0, whole), groups[:-1], columns)
            kept = table.slice(whole)
        if kept is not None and kept.num_rows:
            yield from self._sites(kept, _groups(kept), columns)

    def _sites(self, table: pa.Table, starts: NDArray[np.int64], columns: Sequence[str]) -> Iterator[Sites]:
        sizes = np.diff(starts, append=table.num_rows)
        self.incomplete += int(np.count_nonzero(sizes != len(BASES) - 1))
        first = starts[sizes == len(BASES) - 1]
        if not len(first):
            return
        rows = first[:, None] + np.arange(len(BASES) - 1)
        values = np.stack([table.column(name).to_numpy() for name in columns], axis=1).astype(np.float64)
        reference, alternate = (_codes(table, name) for name in ("reference_allele", "alternate_allele"))
        scores = np.zeros((len(first), len(BASES), len(columns)))
        scores[np.arange(len(first))[:, None], alternate[rows]] = values[rows]
        position = table.column("position").to_numpy().astype(np.int64)[first]
        names = table.column("chromosome").combine_chunks().take(pa.array(first)).to_numpy(zero_copy_only=False)
        borders = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)]
        for start, end in pairwise(borders):
            part = slice(start, end)
            yield Sites(str(names[start]), position[part], reference[first][part], scores[part])


def _substitutions(batch: pa.RecordBatch) -> pa.Table:
    single = [pc.is_in(batch.column(name), pa.array(list(BASES))) for name in ("reference_allele", "alternate_allele")]
    return pa.Table.from_batches([batch]).filter(pc.and_(*single))


def _groups(table: pa.Table) -> NDArray[np.int64]:
    """First rows of bases; variants of one base follow one another."""
    position = table.column("position").to_numpy()
    names = pc.dictionary_encode(table.column("chromosome").combine_chunks())
    names = names.combine_chunks() if isinstance(names, pa.ChunkedArray) else names
    chromosome = names.indices.to_numpy()
    new = (np.diff(position, prepend=-1) != 0) | (np.diff(chromosome, prepend=-1) != 0)
    return np.flatnonzero(new)


def _codes(table: pa.Table, name: str) -> NDArray[np.int64]:
    found: NDArray[np.int64] = pc.index_in(table.column(name), pa.array(list(BASES))).to_numpy().astype(np.int64)
    return found


FOLDER = "saturation"
"""Folder of a run directory; no part of the dataset."""

UNSIGNED = ("d2", "ref", "alt")
"""Statistics that are no signed change from the reference allele to the alternate one."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Written:
    """Files of importances.

    Attributes:
        paths: in the run directory.
        bases: bases in each.
        incomplete: bases with fewer than three substitutions in the dataset, which are left out.
        without: statistics from which no importance follows.
    """

    paths: tuple[str, ...]
    bases: int
    incomplete: int
    without: tuple[str, ...]


def importance(sites: Sites) -> Values:
    """Minus the mean score of the three substitutions, (n, tracks): positive where the base raises the track.

    It is the value at the reference base of AlphaGenome's `ism_matrix`.
    """
    total: Values = sites.scores.sum(axis=1)
    return -total / (len(BASES) - 1)


def centred(sites: Sites) -> Values:
    """Scores less their mean over the four bases, the reference base counting 0: (n, 4, tracks), sums 0 over bases.

    The value at the reference base is 3/4 of `importance`. As Majdandzic et al. 2023 (Genome Biol 24:109) correct
    gradients; with all four bases it is how tangermeme and Shrikumar's ISM centre predictions.
    """
    differences: Values = sites.scores - sites.scores.mean(axis=1, keepdims=True)
    return differences


def write_importance(dataset: ScoreDataset, store: RunStore) -> Written:
    """Write `saturation/importance-<statistic>.parquet` and `saturation/centred-<statistic>.parquet` of a run.

    Args:
        dataset: of the run.
        store: its run directory.
    """
    signed = [name for name in dataset.statistics if name not in UNSIGNED]
    paths: list[str] = []
    bases = incomplete = 0
    with tempfile.TemporaryDirectory(prefix="enformer-ray-saturation-") as folder:
        for statistic in signed:
            reader = SiteReader(dataset, statistic)
            files = [Path(folder) / f"{kind}-{statistic}.parquet" for kind in ("importance", "centred")]
            bases = _write(reader, dataset.track_table.column("column").to_pylist(), files)
            incomplete = reader.incomplete
            for file in files:
                paths.append(f"{FOLDER}/{file.name}")
                store.put_file(file, paths[-1])
    without = tuple(name for name in dataset.statistics if name in UNSIGNED)
    return Written(tuple(paths), bases, incomplete, without)


def _write(reader: SiteReader, columns: Sequence[str], files: Sequence[Path]) -> int:
    """Write the two tables of a statistic; the number of bases."""
    keys = [("chromosome", pa.string()), ("position", pa.int32()), ("reference_base", pa.string())]
    tracks = [(name, pa.float32()) for name in columns]
    schemas = pa.schema([*keys, *tracks]), pa.schema([*keys, ("base", pa.string()), *tracks])
    bases = 0
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                pq.ParquetWriter(
                    file, schema, compression="zstd", use_dictionary=list(schema.names[: -len(columns)]),
                    use_byte_stream_split=list(columns), write_statistics=["chromosome", "position"],
                )
            )
            for file, schema in zip(files, schemas, strict=True)
        ]  # fmt: skip
        for sites in reader:
            bases += len(sites.position)
            writers[0].write_table(_table(sites, importance(sites), schemas[0], 1))
            writers[1].write_table(_table(sites, centred(sites).reshape(-1, len(columns)), schemas[1], len(BASES)))
    return bases


def _table(sites: Sites, values: Values, schema: pa.Schema, rows: int) -> pa.Table:
    """`rows` rows a base."""
    letters = np.array(list(BASES))
    columns = [
        pa.array([sites.chromosome] * len(values), pa.string()),
        pa.array(np.repeat(sites.position, rows).astype(np.int32)),
        pa.array(np.repeat(letters[sites.reference], rows), pa.string()),
    ]
    if rows > 1:
        columns.append(pa.array(np.tile(letters, len(sites.position)), pa.string()))
    return pa.table([*columns, *(pa.array(column) for column in values.T.astype(np.float32))], schema=schema)


MAX_TRACKS = 50
MAX_BASES = 5000
LINE = 100
"""Bases of a line."""


def check_logo(output: Path) -> None:
    """Refuse what could not be drawn, before anything is scored.

    Raises:
        ConfigError: the name's ending is of no kind of picture.
    """
    if output.suffix.lower() not in FORMATS:
        raise ConfigError(f"a picture is written as {', '.join(FORMATS)}; {output} has none of these endings.")


def draw_logos(
    dataset: ScoreDataset, output: Path, statistic: str | None = None, line: int = LINE, width: float = 7.2
) -> list[Path]:
    """Draw a logo of each track of a dataset.

    Args:
        dataset: narrowed to the tracks and regions to draw.
        output: file of a single track; of several, each file has the track's column before the ending.
        statistic: to draw; the first signed one of the run by default.
        line: bases of a line.
        width: inches.

    Raises:
        ConfigError: too many tracks or bases, none that is saturated, or a statistic that is no signed change.
    """
    check_logo(output)
    name = _signed(dataset, statistic)
    table = dataset.track_table
    if table.num_rows > MAX_TRACKS:
        raise ConfigError(
            f"a logo is drawn of one track, and {table.num_rows:,} are selected; --tracks names at most {MAX_TRACKS}."
        )
    sites: list[Sites] = []
    for part in SiteReader(dataset, name):
        sites.append(part)
        if sum(len(one.position) for one in sites) > MAX_BASES:
            raise ConfigError(f"a logo has room for {MAX_BASES:,} bases, and more are selected; --region names fewer.")
    if not sites:
        raise ConfigError(f"{dataset.uri} has no base there of which all three substitutions were scored.")
    columns = table.column("column").to_pylist()
    paths = []
    for track, (column, description) in enumerate(zip(columns, table.column("description").to_pylist(), strict=True)):
        path = output if len(columns) == 1 else output.with_name(f"{output.stem}.{column}{output.suffix}")
        title = f"{description or column} ({name})"
        lines = _lines(sites, track, line)
        save(path, partial(draw_logo, lines, title, name, width))
        paths.append(path)
    return paths


def _signed(dataset: ScoreDataset, statistic: str | None) -> str:
    signed = [name for name in dataset.statistics if name not in UNSIGNED]
    if statistic is None and signed:
        return signed[0]
    if statistic not in signed:
        raise ConfigError(
            f"a logo needs a statistic that is a signed change from the reference to the alternate allele; "
            f"{dataset.uri} has {', '.join(signed) or 'none'}."
        )
    return str(statistic)


def _lines(sites: Sequence[Sites], track: int, most: int) -> list[LogoLine]:
    """Stretches of consecutive bases, cut into lines."""
    found = []
    for chromosome in dict.fromkeys(part.chromosome for part in sites):
        parts = [part for part in sites if part.chromosome == chromosome]
        position = np.concatenate([part.position for part in parts])
        reference = np.concatenate([part.reference for part in parts])
        heights = np.concatenate([importance(part)[:, track] for part in parts])
        scores = np.concatenate([part.scores[:, :, track] for part in parts])
        borders = [0, *(np.flatnonzero(np.diff(position) != 1) + 1).tolist(), len(position)]
        for begin, end in pairwise(borders):
            for start in range(begin, end, most):
                cut = slice(start, min(start + most, end))
                found.append(LogoLine(chromosome, int(position[start]), reference[cut], heights[cut], scores[cut]))
    return found
