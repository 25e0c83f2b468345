"""What each base contributes, from the scores of its three substitutions."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.analysis.saturation.sites import BASES, SiteReader, Sites
from enformer_ray.dataset.dataset import ScoreDataset
from enformer_ray.rundir.store import RunStore

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
