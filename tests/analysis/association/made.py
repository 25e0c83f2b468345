"""Studies and scores made in memory, analysed without a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from enformer_ray.analysis.association.assays import TrackBatch
from enformer_ray.analysis.association.associate import Association, analyse
from enformer_ray.analysis.association.study import MEMBERS_SCHEMA, Study, study_from_arrays
from enformer_ray.analysis.options import AssociationOptions

Floats = NDArray[np.float64]


def make_study(rows: int, **columns: object) -> Study:
    """A study of variants 100 bases apart on four chromosomes, with the given columns and no others."""
    chromosome = np.arange(rows) * 4 // rows
    nothing = np.full(rows, np.nan)
    values: dict[str, object] = {
        "variant": np.arange(rows),
        "chromosome": chromosome,
        "position": 1 + 100 * (np.arange(rows) - np.searchsorted(chromosome, chromosome)),
        **dict.fromkeys(("z", "chi_square", "log_p", "frequency", "pip"), nothing),
        "in_set": np.zeros(rows, dtype=bool),
        "unknown": np.zeros(rows, dtype=np.int32),
        "indel": np.zeros(rows, dtype=bool),
        "names": ("1", "2", "3", "4"),
    }
    return study_from_arrays(**(values | columns))  # type: ignore[arg-type]


def members_of_sets(sets: Sequence[NDArray[np.int64]], pip: Floats) -> pa.Table:
    """Credible sets of these rows."""
    rows = np.concatenate(sets)
    names = np.repeat([f"set{number}" for number in range(len(sets))], [len(s) for s in sets])
    columns = {"variant": rows, "variant_id": [f"v{row}" for row in rows], "credible_set": names, "pip": pip[rows]}
    return pa.table(columns, schema=MEMBERS_SCHEMA)


def run(study: Study, scores: NDArray[np.float32], **options: object) -> Association:
    """Analyse scores (variants, tracks)."""
    names = [f"track_{number:04d}" for number in range(scores.shape[1])]
    table = pa.table({"column": names, "assay": ["CAGE"] * len(names), "description": names})

    def read(columns: Sequence[str], variants: NDArray[np.int64]) -> Iterator[TrackBatch]:
        yield TrackBatch(list(columns), scores[variants][:, [int(name[-4:]) for name in columns]])

    return analyse(study, table, read, AssociationOptions(**options))  # type: ignore[arg-type]
