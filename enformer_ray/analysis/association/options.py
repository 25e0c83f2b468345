"""What can be chosen about an association analysis."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from enformer_ray.dataset.dataset import ScoreDataset
from enformer_ray.errors import AssociationError, ConfigError, DatasetCorruptError
from enformer_ray.plan.plan import Plan
from enformer_ray.readers.text import open_text
from enformer_ray.rundir import layout

CaseKind = Literal["auto", "credible-sets", "p-value"]


@dataclass(frozen=True)
class SumstatsOptions:
    """How files of summary statistics are read; see docs/inputs.md.

    Attributes:
        files: paths or globs; none means that the study columns of the run's own inputs are used.
        format: format of the files; by what they hold when None.
        study: sample of a GWAS-VCF that holds several.
        columns: which column is which, as in a job file.
        chain: chain file from the files' assembly to the reference's.
        reference: the run's FASTA where it is no longer at the path of the plan.
    """

    files: tuple[str, ...] = ()
    format: str | None = None
    study: str | None = None
    columns: Mapping[str, str] | None = None
    chain: Path | None = None
    reference: Path | None = None


@dataclass(frozen=True)
class AssociationOptions:
    """What is computed, and from what.

    Attributes:
        statistic: of the run; its first one when None.
        sumstats: summary statistics.
        gtf: genes, for the distance to the nearest transcription start.
        ld_scores: LD scores in LDSC's layout; a path, a glob, or a path with @ for the chromosome.
        cases: credible-set members, low p-values, or what the study has.
        min_pip: lowest PIP of a case; with sets any member by default, without sets `DEFAULT_MIN_PIP`.
        p_threshold: largest p-value of a case of low p.
        control_p: smallest p-value of a control of those.
        controls: controls for each case, at most.
        blocks: genomic blocks of the jackknife, at most.
        prior_tracks: tracks whose scores re-weight credible sets: those with the strongest enrichment.
        seed: of the draw of controls.
    """

    statistic: str | None = None
    sumstats: SumstatsOptions = SumstatsOptions()
    gtf: Path | None = None
    ld_scores: str | None = None
    cases: CaseKind = "auto"
    min_pip: float | None = None
    p_threshold: float = 5e-8
    control_p: float = 0.05
    controls: int = 10
    blocks: int = 200
    prior_tracks: int = 10
    seed: int = 0


DEFAULT_MIN_PIP = 0.1
"""Lowest PIP of a case where a study has PIPs but no credible sets."""


def check_cases(text: str) -> CaseKind:
    """The value of --cases.

    Raises:
        ConfigError: it is none.
    """
    for kind in get_args(CaseKind):
        if text == kind:
            known: CaseKind = kind
            return known
    raise ConfigError(f"--cases {text}: cases are chosen by one of {', '.join(get_args(CaseKind))}.")


_BATCH_VALUES = 2**26  # 256 MiB of float32
_MAX_TRACKS = 64


class TrackBatch(NamedTuple):
    """Scores of some tracks.

    Attributes:
        columns: names of the tracks.
        scores: (variants, tracks), signed; NaN for a variant that could not be scored.
    """

    columns: list[str]
    scores: NDArray[np.float32]


Reader = Callable[[Sequence[str], NDArray[np.int64]], Iterator[TrackBatch]]
"""Reads tracks of the variants of these numbers."""


def reader_of(dataset: ScoreDataset, statistic: str) -> Reader:
    """A reader of one statistic of a finished run; it reads the columns that it is asked for and no others."""

    def read(columns: Sequence[str], variants: NDArray[np.int64]) -> Iterator[TrackBatch]:
        size = max(1, min(_MAX_TRACKS, _BATCH_VALUES // max(1, dataset.manifest.rows)))
        for start in range(0, len(columns), size):
            names = list(columns[start : start + size])
            frame = dataset.to_polars(statistic, names).select(names).collect()
            scores = np.empty((len(variants), len(names)), dtype=np.float32, order="F")
            for number, name in enumerate(names):
                scores[:, number] = frame[name].to_numpy()[variants]
            yield TrackBatch(names, scores)

    return read


def check_order(dataset: ScoreDataset, statistic: str, plan: Plan) -> None:
    """Check that row v of the scores is the variant numbered v: studies are joined by number.

    Raises:
        DatasetCorruptError: it is not.
    """
    import polars as pl

    found = dataset.to_polars(statistic, []).select("position").collect()["position"].to_numpy()
    files = [plan.store.local_path(layout.plan_variants(name)) for name in plan.document.variants]
    planned = pl.scan_parquet(files, hive_partitioning=False).select("position").collect()["position"].to_numpy()
    if not np.array_equal(found, planned):
        raise DatasetCorruptError(
            f"{plan.store.uri}: the rows of {layout.SCORES}/{statistic} are not the variants of the plan in their "
            "order. Files of the run directory have been changed; `enformer-ray verify` names the first one."
        )


def read_lines(path: Path, option: str) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each line that is not empty; gzip, bgzip and zstd are unpacked.

    Args:
        path: the file.
        option: that names it.

    Raises:
        AssociationError: there is no such file.
        VariantFileError: it is damaged.
    """
    if not path.is_file():
        raise AssociationError(f"the file {path} ({option}) does not exist; check the path.")
    with open_text(path) as text:
        for block in text:
            for number, line in block.lines():
                if line.strip():
                    yield number, line
