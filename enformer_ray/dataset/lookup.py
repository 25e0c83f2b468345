"""Variants by what their inputs say: names in the variant file, p-values of the study."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from enformer_ray.dataset.finished import FinishedRun
from enformer_ray.dataset.rows import StatisticRows
from enformer_ray.dataset.selection import Rows
from enformer_ray.errors import SelectionError

_P, _LOG_P = "p_value", "neg_log_10_p_value"


def with_source_ids(runs: Sequence[FinishedRun], source_ids: Iterable[str]) -> Rows:
    """Variants of which an input has one of the names as its `source_id` or `rsid`."""
    names = pa.array([source_ids] if isinstance(source_ids, str) else list(source_ids), pa.string())
    wanted = pc.field("source_id").isin(names) | pc.field("rsid").isin(names)
    return Rows(ids=_ids(runs, wanted))


def with_p_below(runs: Sequence[FinishedRun], threshold: float) -> Rows:
    """Variants of which an input has a p-value below the threshold, those too small for a float64 included.

    Raises:
        SelectionError: no input has a p-value.
    """
    wanted = (pc.field(_P) < threshold) | (pc.field(_LOG_P) > -math.log10(threshold))
    found = _ids(runs, wanted)
    if not len(found) and not any(inputs(run).count_rows(filter=_has_p()) for run in runs):
        raise SelectionError(
            f"p_below={threshold:g} cannot be answered: no input of {', '.join(run.store.uri for run in runs)} has a "
            "p-value. Score summary statistics to have them in the dataset."
        )
    return Rows(ids=found)


def check_threshold(threshold: float) -> None:
    """Refuse what is no p-value.

    Raises:
        SelectionError: it is not above 0 and at most 1.
    """
    if not 0 < threshold <= 1:
        raise SelectionError(f"p_below={threshold!r} is no threshold of p-values; give a number above 0, at most 1.")


def _has_p() -> pc.Expression:
    return pc.field(_P).is_valid() | pc.field(_LOG_P).is_valid()


def inputs(run: FinishedRun) -> pads.Dataset:
    """Input alleles with what became of them."""
    source = run.source(run.inputs())
    return pads.dataset(source.paths, filesystem=source.filesystem, format="parquet")


def _ids(runs: Sequence[FinishedRun], wanted: pc.Expression) -> pa.StringArray:
    """`variant_id` of scored variants with such an input, each once."""
    scored = wanted & pc.field("variant").is_valid()
    found: list[pa.Array] = []
    for run in runs:
        variants = np.unique(inputs(run).to_table(columns=["variant"], filter=scored).column("variant").to_numpy())
        for piece in StatisticRows(run).pieces(variants, ["variant_id"]):
            found += piece.column("variant_id").chunks
    return pc.unique(pa.chunked_array(found, pa.string()))
