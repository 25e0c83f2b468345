"""Score statistics: from two predictions, reference and alternate, to one number a track.

Everything is summed in float64: SAD is a small difference of large sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from enformer_ray.definitions import Statistic, current_name


@dataclass(frozen=True)
class Predictions:
    """Reference and alternate predictions of one variant in one window.

    Attributes:
        reference: (bins, tracks).
        alternate: (bins, tracks).
        first_bin: offset of output bin 0 from the first base of the variant, bp (usually negative).
        bin: width of an output bin, bp.
        centre_width: (tracks,) int64, width in bp of the region that `centre_log2_ratio` sums over, odd; None without
            a table.
    """

    reference: Tensor
    alternate: Tensor
    first_bin: int
    bin: int
    centre_width: Tensor | None = None


def _sad(p: Predictions) -> Tensor:
    return (p.alternate - p.reference).sum(0)


def _log2_ratio(p: Predictions) -> Tensor:
    # log2 of a ratio as log1p of the relative difference: the difference of two logarithms, nearly equal for most
    # variants, would lose the digits that matter.
    return torch.log1p(_sad(p) / (p.reference.sum(0) + 1)) / math.log(2)


def _log_sad(p: Predictions) -> Tensor:
    return torch.log1p((p.alternate - p.reference) / (p.reference + 1)).sum(0) / math.log(2)


def _sax(p: Predictions) -> Tensor:
    difference = p.alternate - p.reference
    return difference.gather(0, difference.abs().argmax(0, keepdim=True))[0]


def _d2(p: Predictions) -> Tensor:
    return (p.alternate - p.reference).square().sum(0).sqrt()


def _centre_log2_ratio(p: Predictions) -> Tensor:
    assert p.centre_width is not None, "the target refuses `centre_log2_ratio` without a track table"
    half = p.centre_width // 2
    # (bins, tracks): the region differs by track, so bins are masked and not sliced.
    bins = torch.arange(len(p.reference), device=p.reference.device)[:, None]
    starts = p.first_bin + p.bin * bins
    near = (starts <= half) & (starts + p.bin > -half)
    reference = torch.where(near, p.reference, 0).sum(0)
    sad = torch.where(near, p.alternate - p.reference, 0).sum(0)
    return torch.log1p(sad / (reference + 1)) / math.log(2)


_REDUCTIONS: dict[str, Callable[[Predictions], Tensor]] = {
    "sad": _sad,
    "log2_ratio": _log2_ratio,
    "log_sad": _log_sad,
    "sax": _sax,
    "d2": _d2,
    "centre_log2_ratio": _centre_log2_ratio,
    "ref": lambda p: p.reference.sum(0),
    "alt": lambda p: p.alternate.sum(0),
}


def reduce_predictions(predictions: Predictions, statistics: Sequence[Statistic]) -> Tensor:
    """Reduce two predictions to scores.

    With r and a the float64 predictions of a track and b its bins (docs/scores.md):
    `sad` = sum_b (a - r); `log2_ratio` = log2((sum_b a + 1) / (sum_b r + 1)), altar's SADR;
    `log_sad` = sum_b [log2(a + 1) - log2(r + 1)], basenji's logSAD; `sax` = a - r in the bin of the largest |a - r|;
    `d2` = sqrt(sum_b (a - r)^2); `centre_log2_ratio` = log2_ratio over the bins that touch the 501 or 2,001 bp around
    the variant's first base; `ref`, `alt` = the sums. Logarithms of ratios are taken as log1p of the relative
    difference, since the difference of two logarithms would lose the digits that matter.

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
    return torch.stack([_REDUCTIONS[current_name(statistic)](exact) for statistic in statistics])
