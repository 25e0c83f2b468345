"""False discovery rates over tracks."""

from __future__ import annotations

import numpy as np
from scipy import stats

from enformer_ray.analysis.association.jackknife import Values


def q_values(p_values: Values) -> Values:
    """Adjusted p-values of Benjamini & Hochberg 1995 (J R Stat Soc B 57:289); NaN are no tests and stay NaN."""
    adjusted = np.full(len(p_values), np.nan)
    tested = ~np.isnan(p_values)
    if tested.any():
        adjusted[tested] = stats.false_discovery_control(p_values[tested], method="bh")
    return adjusted
