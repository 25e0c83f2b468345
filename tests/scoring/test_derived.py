from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from enformer_ray.definitions import Statistic
from enformer_ray.scoring.statistics import Predictions, reduce_predictions
from enformer_ray.scoring.tables import derive, stored_for

TRACKS = 300


def test_within_the_rounding_of_what_is_stored() -> None:
    """Of tracks with sums from 0.01 to 10,000, and effects from a millionth of a sum to more than it."""
    generator = torch.Generator().manual_seed(1)
    size = 10 ** (6 * torch.rand(TRACKS, generator=generator, dtype=torch.float64) - 4)
    reference = size * torch.rand(16, TRACKS, generator=generator, dtype=torch.float64)
    effect = 10 ** (6.5 * torch.rand(TRACKS, generator=generator, dtype=torch.float64) - 6)
    noise = torch.rand(16, TRACKS, generator=generator, dtype=torch.float64) * 2 - 1
    alternate = (reference * (1 + effect * noise)).clamp(min=0)
    names: list[Statistic] = ["sad", "ref", "alt", "log2_ratio"]
    exact = dict(zip(names, reduce_predictions(Predictions(reference, alternate, 0, 128), names).numpy(), strict=True))
    stored = {name: table_of(values.astype(np.float32)) for name, values in exact.items()}
    for name in ("ref", "alt", "log2_ratio"):
        sources = stored_for(name, set(names) - {name}, 1)
        assert sources is not None
        found = derive(name, [stored[source] for source in sources], list(stored["sad"].column_names))
        deviation = np.abs(values_of(found) - exact[name])
        if name == "log2_ratio":
            assert (deviation <= 2**-22 * np.abs(exact[name]) / np.minimum(1, exact["alt"] / exact["ref"])).all()
        else:
            assert (deviation <= 2**-22 * np.maximum(exact["ref"], exact["alt"])).all()


@pytest.mark.parametrize(
    ("statistic", "stored", "shifts", "expected"),
    [
        ("sad", ("sad",), 1, ("sad",)),
        ("sad", ("ref", "alt"), 1, None),
        ("log2_ratio", ("sad", "ref"), 1, ("sad", "ref")),
        ("log2_ratio", ("sad", "ref"), 4, None),
        ("log2_ratio", ("sad", "ref", "log2_ratio"), 4, ("log2_ratio",)),
        ("log2_ratio", ("ref", "alt"), 1, None),
        ("alt", ("sad", "ref"), 4, ("ref", "sad")),
        ("sax", ("sad", "ref", "alt"), 1, None),
        ("centre_log2_ratio", ("sad", "centre"), 4, ("centre",)),
        ("centre", ("sad", "centre_log2_ratio"), 1, ("centre_log2_ratio",)),
    ],
)
def test_what_follows_from_what(
    statistic: Statistic, stored: tuple[str, ...], shifts: int, expected: tuple[str, ...] | None
) -> None:
    assert stored_for(statistic, stored, shifts) == expected


def table_of(values: np.ndarray) -> pa.Table:
    return pa.table({f"track_{i:04d}": pa.array([value], pa.float32()) for i, value in enumerate(values)})


def values_of(table: pa.Table) -> np.ndarray:
    return np.array([column[0].as_py() for column in table.columns])
