"""In silico saturation mutagenesis: importance of each base from the scores of its three substitutions, and logos."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.analysis.plots import BLUE, GREEN, ORANGE, VERMILLION, check_format, new_figure, save
from enformer_ray.dataset.dataset import ScoreDataset
from enformer_ray.definitions import name_among
from enformer_ray.errors import ConfigError
from enformer_ray.rundir.store import RunStore

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path as Outline

BASES = "ACGT"

FOLDER = "saturation"
"""Folder of a run directory; no part of the dataset."""

UNSIGNED = ("d2", "ref", "alt")
"""Statistics that are no signed change from the reference allele to the alternate one."""

MAX_TRACKS = 50
MAX_BASES = 5000

LINE = 100
"""Bases of a line of a logo."""

COLOURS = dict(zip(BASES, (GREEN, BLUE, ORANGE, VERMILLION), strict=True))
"""Of Okabe and Ito, which can be told apart with colour-blindness."""

Values = NDArray[np.float64]

_BATCH_VALUES = 2**22  # 32 MiB of float64
_MIN_LINE_BASES = 20  # width of a line, so that the letters of a short one are not too wide
_CROWDED = 60  # bases of a line above which labels at all ticks would overlap
_SHARE = 0.92  # width of a letter, as a share of its column


@dataclass(frozen=True)
class Sites:
    """Consecutive saturated bases of one chromosome.

    Attributes:
        chromosome: canonical name.
        position: (n,), 1-based, ascending.
        reference: (n,), index of the reference base in `BASES`.
        scores: (n, 4, tracks) float64: of the substitution by each of `BASES`, 0 for the reference base; NaN where a
            variant failed.
    """

    chromosome: str
    position: NDArray[np.int64]
    reference: NDArray[np.int64]
    scores: NDArray[np.float64]


@dataclass
class SiteReader:
    """Reads `Sites` from a dataset.

    Attributes:
        dataset: scores; its tracks are read.
        statistic: name of a statistic.
        incomplete: bases left out so far since they have only one or two substitutions.
    """

    dataset: ScoreDataset
    statistic: str
    incomplete: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[Sites]:
        """All sites, in the order of the dataset."""
        self.dataset.manifest.refuse_genes(self.dataset.uri)
        columns = self.dataset.track_table.column("column").to_pylist()
        kept: pa.Table | None = None
        for batch in self.dataset.to_batches(self.statistic, rows=max(64, _BATCH_VALUES // len(columns))):
            table = _substitutions(batch)
            table = table if kept is None else pa.concat_tables([kept, table])
            if not table.num_rows:
                continue
            groups = _groups(table)
            last = int(groups[-1])  # substitutions of the last base may follow in the next batch
            yield from self._sites(table.slice(0, last), groups[:-1], columns)
            kept = table.slice(last)
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
            cut = slice(start, end)
            yield Sites(str(names[start]), position[cut], reference[first][cut], scores[cut])


def _substitutions(batch: pa.RecordBatch) -> pa.Table:
    single = [pc.is_in(batch.column(name), pa.array(list(BASES))) for name in ("reference_allele", "alternate_allele")]
    return pa.Table.from_batches([batch]).filter(pc.and_(*single))


def _groups(table: pa.Table) -> NDArray[np.int64]:
    """First row of each base; substitutions of one base are consecutive."""
    position = table.column("position").to_numpy()
    names = pc.dictionary_encode(table.column("chromosome").combine_chunks())
    names = names.combine_chunks() if isinstance(names, pa.ChunkedArray) else names
    chromosome = names.indices.to_numpy()
    new = (np.diff(position, prepend=-1) != 0) | (np.diff(chromosome, prepend=-1) != 0)
    return np.flatnonzero(new)


def _codes(table: pa.Table, name: str) -> NDArray[np.int64]:
    found: NDArray[np.int64] = pc.index_in(table.column(name), pa.array(list(BASES))).to_numpy().astype(np.int64)
    return found


def importance(sites: Sites) -> Values:
    """Minus the mean score of the three substitutions, (n, tracks): positive where the base raises the track.

    AlphaGenome's `ism_matrix` has it at the reference base.
    """
    total: Values = sites.scores.sum(axis=1)
    return -total / (len(BASES) - 1)


def centred(sites: Sites) -> Values:
    """Scores less their mean over the four bases, with 0 for the reference base: (n, 4, tracks), sums over bases are 0.

    The value at the reference base is 3/4 of `importance`. Majdandzic et al. 2023 (Genome Biol 24:109) correct
    gradients so; tangermeme and Shrikumar's ISM centre predictions for all four bases so.
    """
    deviations: Values = sites.scores - sites.scores.mean(axis=1, keepdims=True)
    return deviations


@dataclass(frozen=True)
class ImportanceFiles:
    """Tables that `write_importance` wrote.

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


def write_importance(dataset: ScoreDataset, store: RunStore) -> ImportanceFiles:
    """Write `saturation/importance-<statistic>.parquet` and `saturation/centred-<statistic>.parquet` of a run."""
    signed = _signed_statistics(dataset)
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
    return ImportanceFiles(tuple(paths), bases, incomplete, without)


def _write(reader: SiteReader, columns: Sequence[str], files: Sequence[Path]) -> int:
    """Write the two tables of a statistic; returns the number of bases."""
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
    """Values (bases * rows, tracks) with their keys: one row a base, or four with the substituted base."""
    letters = np.array(list(BASES))
    columns = [
        pa.array([sites.chromosome] * len(values), pa.string()),
        pa.array(np.repeat(sites.position, rows).astype(np.int32)),
        pa.array(np.repeat(letters[sites.reference], rows), pa.string()),
    ]
    if rows > 1:
        columns.append(pa.array(np.tile(letters, len(sites.position)), pa.string()))
    return pa.table([*columns, *(pa.array(column) for column in values.T.astype(np.float32))], schema=schema)


def check_logo(output: Path) -> None:
    """Refuse a file name that no picture can have, before anything is scored."""
    check_format(output)


def draw_logos(
    dataset: ScoreDataset, output: Path, statistic: str | None = None, line: int = LINE, width: float = 7.2
) -> list[Path]:
    """Draw a logo of each track of a dataset.

    Args:
        dataset: restricted to the tracks and regions to draw.
        output: file of a single track; with several, each file has the track's column before the ending.
        statistic: to draw; the first signed one of the run by default.
        line: bases of a line.
        width: inches.

    Raises:
        ConfigError: too many tracks or bases, none that is saturated, or a statistic that is no signed change.
    """
    check_format(output)
    name = _signed_statistic(dataset, statistic)
    table = dataset.track_table
    if table.num_rows > MAX_TRACKS:
        raise ConfigError(
            f"a logo is drawn of one track, and {table.num_rows:,} are selected; --tracks names at most {MAX_TRACKS}."
        )
    stretches: list[Sites] = []
    for sites in SiteReader(dataset, name):
        stretches.append(sites)
        if sum(len(stretch.position) for stretch in stretches) > MAX_BASES:
            raise ConfigError(f"a logo has room for {MAX_BASES:,} bases, and more are selected; --region names fewer.")
    if not stretches:
        raise ConfigError(f"{dataset.uri} has no base there of which all three substitutions were scored.")
    columns = table.column("column").to_pylist()
    paths = []
    for track, (column, description) in enumerate(zip(columns, table.column("description").to_pylist(), strict=True)):
        path = output if len(columns) == 1 else output.with_name(f"{output.stem}.{column}{output.suffix}")
        title = f"{description or column} ({name})"
        lines = _lines(stretches, track, line)
        save(path, partial(draw_logo, lines, title, name, width))
        paths.append(path)
    return paths


def _signed_statistics(dataset: ScoreDataset) -> list[str]:
    return [name for name in dataset.statistics if name not in UNSIGNED]


def _signed_statistic(dataset: ScoreDataset, statistic: str | None) -> str:
    signed = _signed_statistics(dataset)
    found = name_among(statistic, signed) if statistic is not None else signed[0] if signed else None
    if found is None:
        raise ConfigError(
            f"a logo needs a statistic that is a signed change from the reference to the alternate allele; "
            f"{dataset.uri} has {', '.join(signed) or 'none'}."
        )
    return found


def _lines(stretches: Sequence[Sites], track: int, width: int) -> list[LogoLine]:
    """Consecutive bases as lines of at most `width` bases."""
    lines = []
    for chromosome in dict.fromkeys(sites.chromosome for sites in stretches):
        on_it = [sites for sites in stretches if sites.chromosome == chromosome]
        position = np.concatenate([sites.position for sites in on_it])
        reference = np.concatenate([sites.reference for sites in on_it])
        heights = np.concatenate([importance(sites)[:, track] for sites in on_it])
        scores = np.concatenate([sites.scores[:, :, track] for sites in on_it])
        borders = [0, *(np.flatnonzero(np.diff(position) != 1) + 1).tolist(), len(position)]
        for begin, end in pairwise(borders):
            for start in range(begin, end, width):
                cut = slice(start, min(start + width, end))
                lines.append(LogoLine(chromosome, int(position[start]), reference[cut], heights[cut], scores[cut]))
    return lines


class LogoLine(NamedTuple):
    """Consecutive bases, drawn from left to right.

    Attributes:
        chromosome: name.
        start: 1-based position of the first base.
        reference: (n,), index in `BASES`.
        importance: (n,), heights of the letters.
        scores: (n, 4), of the substitution by each of `BASES`, 0 for the reference base.
    """

    chromosome: str
    start: int
    reference: NDArray[np.int64]
    importance: NDArray[np.float64]
    scores: NDArray[np.float64]


def draw_logo(lines: Sequence[LogoLine], title: str, statistic: str, width: float) -> Figure:
    """Lines of letters on one scale, and below each line the scores of the substitutions as colours; `width` in inches.

    A letter is as tall as the importance of its base.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    columns = max(_MIN_LINE_BASES, *(len(line.reference) for line in lines))
    heights = np.concatenate([line.importance for line in lines])
    low, high = min(0.0, np.nanmin(heights, initial=0)), max(0.0, np.nanmax(heights, initial=0))
    margin = 0.06 * (high - low or 1)
    largest = max(np.nanmax(np.abs(line.scores), initial=0) for line in lines) or 1.0
    colours = ScalarMappable(Normalize(-largest, largest), "RdBu_r")
    figure = new_figure(width, 0.45 + 1.45 * len(lines))
    panels = figure.subplots(2 * len(lines), 1, squeeze=False, height_ratios=[2.4, 1] * len(lines))[:, 0]
    for number, line in enumerate(lines):
        above, below = panels[2 * number], panels[2 * number + 1]
        _letters(above, line)
        above.set_ylim(low - margin, high + margin)
        above.set_ylabel("importance", fontsize=6.5)
        below.imshow(line.scores.T, cmap=colours.cmap, norm=colours.norm, aspect="auto", interpolation="nearest")
        below.set_yticks(range(len(BASES)), list(BASES), fontsize=5.5)
        _position_axes(above, below, line, columns)
    panels[0].set_title(title, loc="left", fontsize=8)
    bar = figure.colorbar(colours, ax=list(panels), shrink=min(1.0, 1.6 / (1.45 * len(lines))), pad=0.01, aspect=18)
    bar.set_label(f"{statistic} of the substitution", fontsize=6.5)
    bar.ax.tick_params(labelsize=6)
    bar.outline.set_visible(False)
    return figure


def _letters(axes: Axes, line: LogoLine) -> None:
    """Letters from 0 to their height; those below 0 are upright, too."""
    from matplotlib.collections import PathCollection
    from matplotlib.path import Path as Outline

    for code, base in enumerate(BASES):
        glyph = _glyph(base)
        paths = []
        for place in np.flatnonzero((line.reference == code) & np.isfinite(line.importance) & (line.importance != 0)):
            height = float(line.importance[place])
            offset = np.array([place - _SHARE / 2, min(0.0, height)])
            paths.append(Outline(np.asarray(glyph.vertices) * [_SHARE, abs(height)] + offset, glyph.codes))
        axes.add_collection(PathCollection(paths, facecolors=COLOURS[base], linewidths=0), autolim=False)
    axes.plot([-0.5, len(line.reference) - 0.5], [0, 0], color="#1b2430", linewidth=0.5)


def _glyph(base: str) -> Outline:
    """Outline of a letter in the unit square."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path as Outline
    from matplotlib.textpath import TextPath

    outline = TextPath((0, 0), base, size=1, prop=FontProperties(family="DejaVu Sans", weight="bold"))
    box = outline.get_extents()
    return Outline((outline.vertices - [box.x0, box.y0]) / [box.width, box.height], outline.codes)


def _position_axes(above: Axes, below: Axes, line: LogoLine, columns: int) -> None:
    first = -line.start % 10
    ticks = list(range(first, len(line.reference), 10))
    for axes in (above, below):
        axes.set_xlim(-0.5, columns - 0.5)
        axes.set_xticks(ticks, [])
        axes.tick_params(axis="x", length=2)
    above.spines["bottom"].set_visible(False)
    above.tick_params(axis="both", labelsize=6)
    above.tick_params(axis="x", length=0)
    below.spines[:].set_visible(False)
    every = 20 if columns > _CROWDED else 10
    labelled = [tick for tick in ticks if (line.start + tick) % every == 0]
    below.set_xticks(labelled, [f"{line.start + tick:,}" for tick in labelled], fontsize=6)
    last = line.start + len(line.reference) - 1
    below.set_xlabel(f"chromosome {line.chromosome}, {line.start:,} to {last:,}", fontsize=6.5, labelpad=1)
    below.xaxis.set_label_coords(0.0, -0.55)
    below.xaxis.label.set_horizontalalignment("left")
