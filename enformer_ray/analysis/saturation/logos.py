"""Sequence logos of a saturated run, a picture a track."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from enformer_ray.analysis.plots.logo import LogoLine, draw_logo
from enformer_ray.analysis.plots.style import FORMATS, save
from enformer_ray.analysis.saturation.importance import UNSIGNED, importance
from enformer_ray.analysis.saturation.sites import SiteReader, Sites
from enformer_ray.dataset.dataset import ScoreDataset
from enformer_ray.errors import ConfigError

MOST_TRACKS = 50
MOST_BASES = 5000
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
    if table.num_rows > MOST_TRACKS:
        raise ConfigError(
            f"a logo is drawn of one track, and {table.num_rows:,} are selected; --tracks names at most {MOST_TRACKS}."
        )
    sites: list[Sites] = []
    for part in SiteReader(dataset, name):
        sites.append(part)
        if sum(len(one.position) for one in sites) > MOST_BASES:
            raise ConfigError(f"a logo has room for {MOST_BASES:,} bases, and more are selected; --region names fewer.")
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
