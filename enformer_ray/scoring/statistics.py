"""Score statistics: what is left of two predictions, one number a track.

Everything is summed in float64: SAD is a small difference of large sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import Statistic
from enformer_ray.model.tracks import column_name


@dataclass(frozen=True)
class Predictions:
    """Reference and alternate predictions of one variant in one window.

    Attributes:
        reference: (bins, tracks).
        alternate: (bins, tracks).
        first_bin: offset of output bin 0 from the first base of the variant, bp (usually negative).
        bin: width of an output bin, bp.
        centre_width: (tracks,) int64, width in bp of the region that `centre` sums over, odd; None without a table.
    """

    reference: Tensor
    alternate: Tensor
    first_bin: int
    bin: int
    centre_width: Tensor | None = None


def _sad(p: Predictions) -> Tensor:
    return (p.alternate - p.reference).sum(0)


def _log2_ratio(p: Predictions) -> Tensor:
    return torch.log1p(_sad(p) / (p.reference.sum(0) + 1)) / math.log(2)


def _log_sad(p: Predictions) -> Tensor:
    return torch.log1p((p.alternate - p.reference) / (p.reference + 1)).sum(0) / math.log(2)


def _sax(p: Predictions) -> Tensor:
    difference = p.alternate - p.reference
    return difference.gather(0, difference.abs().argmax(0, keepdim=True))[0]


def _d2(p: Predictions) -> Tensor:
    return (p.alternate - p.reference).square().sum(0).sqrt()


def _centre(p: Predictions) -> Tensor:
    assert p.centre_width is not None, "the scorer refuses `centre` without a track table"
    half = p.centre_width // 2
    bins = torch.arange(len(p.reference), device=p.reference.device)[:, None]
    starts = p.first_bin + p.bin * bins
    near = (starts <= half) & (starts + p.bin > -half)
    reference = torch.where(near, p.reference, 0).sum(0)
    sad = torch.where(near, p.alternate - p.reference, 0).sum(0)
    return torch.log1p(sad / (reference + 1)) / math.log(2)


_REDUCTIONS: dict[Statistic, Callable[[Predictions], Tensor]] = {
    "sad": _sad,
    "log2_ratio": _log2_ratio,
    "log_sad": _log_sad,
    "sax": _sax,
    "d2": _d2,
    "centre": _centre,
    "ref": lambda p: p.reference.sum(0),
    "alt": lambda p: p.alternate.sum(0),
}


def reduce_predictions(predictions: Predictions, statistics: Sequence[Statistic]) -> Tensor:
    """Reduce two predictions to scores.

    With r and a the float64 predictions of a track and b its bins (docs/scores.md):
    `sad` = sum_b (a - r); `log2_ratio` = log2((sum_b a + 1) / (sum_b r + 1)), altar's SADR;
    `log_sad` = sum_b [log2(a + 1) - log2(r + 1)], basenji's logSAD; `sax` = a - r in the bin of the largest |a - r|;
    `d2` = sqrt(sum_b (a - r)^2); `centre` = log2_ratio over the bins that touch the 501 or 2,001 bp around the
    variant's first base; `ref`, `alt` = the sums. Logarithms of ratios are taken as log1p of the relative difference,
    since the difference of two logarithms would lose the digits that matter.

    Returns:
        (statistics, tracks) float64, on the device of the predictions.
    """
    exact = Predictions(
        predictions.reference.double(),
        predictions.alternate.double(),
        predictions.first_bin,
        predictions.bin,
        predictions.centre_width,
    )
    return torch.stack([_REDUCTIONS[statistic](exact) for statistic in statistics])


_FROM: dict[Statistic, tuple[Statistic, ...]] = {
    "log2_ratio": ("sad", "ref"),
    "alt": ("ref", "sad"),
    "ref": ("alt", "sad"),
}


def stored_for(statistic: Statistic, stored: Collection[str], shifts: int) -> tuple[Statistic, ...] | None:
    """What a statistic is read from: itself where it is stored, else what it follows from; None if it does not.

    Args:
        statistic: which one.
        stored: statistics that there are.
        shifts: windows that they are means of.
    """
    if statistic in stored:
        return (statistic,)
    needed = _FROM.get(statistic)
    if needed is None or not set(needed) <= set(stored) or (statistic == "log2_ratio" and shifts > 1):
        return None
    return needed


def derive(statistic: Statistic, tables: list[pa.Table], tracks: list[str]) -> pa.Table:
    """A table of a statistic from tables of what it follows from, as `stored_for` has them.

    Args:
        statistic: which one.
        tables: of the same rows.
        tracks: columns of scores.
    """
    if len(tables) == 1:
        return tables[0]
    result = tables[0]
    for name in tracks:
        first, second = (table.column(name).to_numpy().astype(np.float64) for table in tables)
        if statistic == "log2_ratio":
            values = np.log1p(first / (second + 1)) / math.log(2)
        else:
            values = first + second if statistic == "alt" else first - second
        field = result.schema.field(name)
        result = result.set_column(
            result.schema.get_field_index(name), field, pa.array(values.astype(np.float32), field.type)
        )
    return result


KEY_COLUMNS = ("variant_id", "chromosome", "position", "reference_allele", "alternate_allele")


def score_tables(
    variants: Sequence[Variant],
    conventions: Sequence[str],
    statistics: Sequence[str],
    tracks: Sequence[int],
    scores: NDArray,  # type: ignore[type-arg]
    more: Mapping[str, pa.Array] | None = None,
) -> dict[str, pa.Table]:
    """Tables of scores, one a statistic.

    Args:
        variants: the rows.
        conventions: `indel_convention` of each row.
        statistics: names, in the order of the first axis of `scores`.
        tracks: indices of the tracks in the head, in the order of the last axis.
        scores: (statistics, variants, tracks).
        more: further columns of each row, before the tracks.
    """
    keys = {
        "variant_id": pa.array([v.variant_id for v in variants], pa.string()),
        "chromosome": pa.array([v.chromosome for v in variants], pa.string()),
        "position": pa.array([v.position for v in variants], pa.int32()),
        "reference_allele": pa.array([v.reference_allele for v in variants], pa.string()),
        "alternate_allele": pa.array([v.alternate_allele for v in variants], pa.string()),
        "indel_convention": pa.array(conventions, pa.string()),
        **(more or {}),
    }
    names = [column_name(track) for track in tracks]
    tables = {}
    for statistic, values in zip(statistics, scores, strict=True):
        columns = dict(zip(names, (pa.array(column.copy()) for column in values.T), strict=True))
        tables[statistic] = pa.table({**keys, **columns})
    return tables
