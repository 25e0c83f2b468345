"""Tables of statistics: one row a track or assay, q-values and family-wise p-values over the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from scipy import stats

from enformer_ray.analysis.association.blocks import Values
from enformer_ray.analysis.association.methods import Method, Row
from enformer_ray.analysis.association.statistics import CONDITIONAL, MARGINAL


def as_columns(rows: Sequence[Row], methods: Mapping[str, Method], family: str) -> dict[str, pa.Array]:
    """Statistics as columns; undefined ones are null.

    Args:
        rows: of all tracks that are tested together.
        methods: how p-values were found, by statistic.
        family: the name under which they were.
    """
    columns: dict[str, pa.Array] = {name: _floats(_values(rows, name)) for name in ("sd", "pip_weighted_score")}
    for name in (*MARGINAL, *CONDITIONAL):
        method = methods.get(name)
        p = _values(rows, f"{name}_p")
        columns[name] = _floats(_values(rows, name))
        columns[f"{name}_se"] = _floats(_values(rows, f"{name}_se"))
        columns[f"{name}_p"] = _floats(p)
        columns[f"{name}_q"] = _floats(q_values(p))
        columns[f"{name}_p_by"] = pa.array([None if method is None else method.by] * len(rows), pa.string())
        family_p = np.full(len(rows), np.nan)
        if method is not None and method.shifts is not None:
            family_p = method.shifts.family_p(_values(rows, f"{name}_standardised"), family)
        columns[f"{name}_family_p"] = _floats(family_p)
    return columns


def _values(rows: Sequence[Row], name: str) -> Values:
    values: Values = np.array([np.nan if row.get(name) is None else row[name] for row in rows], dtype=np.float64)
    return values


def _floats(values: Values) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))


def q_values(p_values: Values) -> Values:
    """Adjusted p-values of Benjamini & Hochberg 1995 (J R Stat Soc B 57:289); NaN is no test and stays NaN."""
    adjusted = np.full(len(p_values), np.nan)
    tested = ~np.isnan(p_values)
    if tested.any():
        adjusted[tested] = stats.false_discovery_control(p_values[tested], method="bh")
    return adjusted
