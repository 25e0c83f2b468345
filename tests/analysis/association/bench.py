"""How often `associate` finds what is not there, and what is: python -m tests.analysis.association.bench --traits 2000

A line a cell: of each p-value by what it is (j: jackknife, s: shifts, -: none; in percent of traits where they differ)
and the rates of p < 0.05 and p < 0.001 in percent. `assay_` are those of the assay's mean, all marginal statistics
together; `family_` the smallest family-wise one of a study, all statistics together. Then power of the causal track,
beside that of the rule of `equal_blocks`.

A trait is a pair of a study and a track; a study has five tracks, independent of each other.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from tests.analysis.association import equal_blocks
from tests.analysis.association.made import run
from tests.analysis.association.simulated_studies import World

LEVELS = (0.05, 0.001)
CHECKED = (0.05, 0.01, 0.001)
"""A few hundred shifts have no p below 0.001, so that 0.01 shows what is wrong with them."""

LOCI, NEIGHBOURS = (4, 5, 10, 20, 30, 100), (0.0, 0.7, 0.95)
CAUSAL = 0.7
"""Share of hits that act through the causal track where power is measured."""

MANY = 100
"""Traits of a cell below which its rates say nothing by themselves."""

POOLED = ("assay_", "family_")
OLD = "equal_blocks_"


def cell_name(world: World) -> str:
    design = "fine-mapped" if world.fine_mapped else "genome-wide"
    kind = "causal" if world.causal else "polygenic" if world.polygenic else "null"
    return f"{design} {kind} loci={world.loci} ar={world.neighbours:g}"


NULL = {
    cell_name(world): world
    for world in (
        *(World(design, loci, ar) for design in (False, True) for loci in LOCI for ar in NEIGHBOURS),
        *(World(False, loci, 0.95, polygenic=True) for loci in (0, 10, 100)),
    )
}
POWER = {
    cell_name(world): world
    for world in (World(design, loci, 0.7, causal=CAUSAL) for design in (False, True) for loci in (30, 100))
}


@dataclass
class Tally:
    """P-values of a cell.

    Attributes:
        p_values: by name of the statistic.
        by: how often each statistic's were by what.
        by_method: p-values of tracks by (jackknife or shifts, name of the statistic).
        studies: so far.
        unexplained: studies where a statistic had no p-value and no sentence said why.
    """

    p_values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    by: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    by_method: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    studies: int = 0
    unexplained: int = 0

    def add(self, world: World, random: np.random.Generator, old: bool) -> None:
        """Analyse one more study; of a causal trait only the causal track counts."""
        study, scores = world.draw(random)
        found = run(study, scores, prior_tracks=1)
        if world.causal:
            scores = scores[:, :1]
        self.studies += 1
        methods, notes = found.summary["p_values"], found.summary["notes"]
        columns = [column[: -len("_p_by")] for column in found.tracks.column_names if column.endswith("_p_by")]
        for name in columns:
            by = methods.get(name, {"by": None})["by"]
            self.by[name][by[0] if by else "-"] += 1
            of_tracks = found.tracks.column(f"{name}_p").to_numpy()[: scores.shape[1]]
            if by is None:
                enrichment = name.endswith("log_odds")
                said = any(note.startswith(name) or (enrichment and "No enrichment" in note) for note in notes)
                self.unexplained += not said or not np.isnan(of_tracks).all()
                continue
            self.p_values[name] += list(of_tracks[~np.isnan(of_tracks)])
            self.by_method[by, name] += list(of_tracks[~np.isnan(of_tracks)])
            if not world.causal:
                families = found.tracks[f"{name}_family_p"].to_pylist()
                self._add_others(name, found.assays[f"{name}_p"].to_pylist(), families)
        if old:
            for name, values in equal_blocks.p_values(study, scores, random).items():
                self.p_values[OLD + name] += list(values[~np.isnan(values)])

    def _add_others(self, name: str, assay: Iterable[float | None], family: Iterable[float | None]) -> None:
        self.p_values[f"assay_{name}"] += [p for p in assay if p is not None]
        smallest = [p for p in family if p is not None]
        self.p_values[f"family_{name}"] += [min(smallest)] if smallest else []

    def pooled(self) -> dict[str, list[float]]:
        """P-values with those of assays, and those of families, together."""
        found: dict[str, list[float]] = defaultdict(list)
        for name, values in self.p_values.items():
            found[next((prefix for prefix in POOLED if name.startswith(prefix)), name)] += values
        return found

    def line(self) -> str:
        parts = []
        values = self.pooled()
        for name in [*self.by, *(other for other in values if other not in self.by)]:
            rates = "/".join(f"{100 * share(values[name], level):.2f}" for level in LEVELS) if values[name] else "none"
            parts.append(f"{name}{self._by(name)} {rates}")
        count = max((len(v) for n, v in self.p_values.items() if not n.startswith(POOLED)), default=0)
        return f"n={count} of {self.studies} studies: " + ", ".join(parts)

    def _by(self, name: str) -> str:
        found = self.by.get(name)
        if not found:
            return ""
        if len(found) == 1:
            return f"[{next(iter(found))}]"
        return "[" + " ".join(f"{by}{100 * count / self.studies:.0f}" for by, count in found.most_common()) + "]"


def share(p_values: list[float], level: float) -> float:
    """Share of p-values below a level."""
    return float(np.mean(np.array(p_values) < level)) if p_values else np.nan


def too_many(tally: Tally, chance: float = 1e-4) -> list[str]:
    """Statistics of which more p-values are below a level than a calibrated test would have.

    `chance` is that of any of the statistics of a calibrated analysis to be among them, if p-values are independent.
    """
    tested = [(name, level) for name, values in tally.p_values.items() for level in CHECKED if values]
    found = []
    for name, level in tested:
        values = tally.p_values[name]
        below = int((np.array(values) < level).sum())
        if stats.binom.sf(below - 1, len(values), level) < chance / len(tested):
            found.append(f"{name}: {below} of {len(values)} below {level:g}")
    return found


def tally_cells(
    cells: Mapping[str, World], studies: int, seconds: float = np.inf, old: bool = False, seed: int = 16
) -> dict[str, Tally]:
    """Analyse so many studies of each cell or, as long as time allows, the cell on which least has been spent."""
    tallies = {name: Tally() for name in cells}
    spent = dict.fromkeys(cells, 0.0)
    end = time.monotonic() + seconds
    while spent and time.monotonic() < end:
        name = min(spent, key=spent.__getitem__)
        start = time.process_time()
        random = np.random.default_rng([seed, zlib.crc32(name.encode()), tallies[name].studies])
        tallies[name].add(cells[name], random, old)
        spent[name] += time.process_time() - start
        if tallies[name].studies == studies:
            del spent[name]
    return tallies


def print_overview(tallies: Mapping[str, Tally]) -> None:
    """Rates of each statistic in all cells together, by what they are, and the largest of a cell with many traits."""
    for by, name in sorted({key for tally in tallies.values() for key in tally.by_method}):
        cells = [tally.by_method[by, name] for tally in tallies.values() if (by, name) in tally.by_method]
        every = [p for values in cells for p in values]
        text = []
        for level in CHECKED:
            worst = max((share(values, level) for values in cells if len(values) >= MANY), default=np.nan)
            text.append(f"p<{level:g}: {100 * share(every, level):.2f}% (worst cell {100 * worst:.2f}%)")
        print(f"{by} {name}: {len(every)} in {len(cells)} cells, " + ", ".join(text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traits", type=int, default=2000, help="null traits of a cell")
    parser.add_argument("--power-traits", type=int, default=200, help="causal traits of a cell, each a study")
    parser.add_argument("--cells", default="all", help="all, or a part of the names of the cells to be run")
    parser.add_argument("--minutes", type=float, default=np.inf, help="end earlier: a fifth of it is for power")
    parser.add_argument("--seed", type=int, default=16)
    given = parser.parse_args()
    null, power = (
        {name: world for name, world in cells.items() if given.cells == "all" or given.cells in name}
        for cells in (NULL, POWER)
    )
    powers = tally_cells(power, given.power_traits, given.minutes * 12, old=True, seed=given.seed)
    for name, tally in powers.items():
        print(name, tally.line(), flush=True)
    studies = -(-given.traits // World(False, 4).tracks)
    tallies = tally_cells(null, studies, given.minutes * (48 if power else 60), seed=given.seed)
    for name, tally in tallies.items():
        print(name, tally.line(), flush=True)
    print_overview(tallies)
    for name, tally in tallies.items():
        for finding in too_many(tally):
            print(f"TOO MANY in {name}: {finding}")


if __name__ == "__main__":
    main()
