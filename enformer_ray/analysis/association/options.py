"""What can be chosen about an association analysis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from enformer_ray.errors import ConfigError

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
