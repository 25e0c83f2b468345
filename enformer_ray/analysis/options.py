"""Options of the association analysis and of exports: the models from which the command line makes its options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from enformer_ray.config import Option

CaseKind = Literal["auto", "credible-sets", "lead", "p-value"]

Names = Literal["source", "variant", "colon"]
"""What a variant is called: by the input's identifier where it has one, `1_1024_A_C`, or `1:1024:A:C`."""

ContigNaming = Literal["fasta", "plain"]
"""What a contig is called: as the run's FASTA has it (`chr1`, `NC_000001.11`), or as its dataset (`1`, `MT`)."""

DEFAULT_MIN_PIP = 0.1
"""Lowest PIP of a case where a study has PIPs but no credible sets."""

_STUDY, _CASES, _TESTS = "The study", "Enrichment and covariates", "Standard errors and p-values"
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class SumstatsOptions:
    """How files of summary statistics are read; see docs/inputs.md.

    Attributes:
        files: paths or globs; none means that the study columns of the run's own inputs are used.
        format: format of the files; by what they hold when None.
        study: sample of a GWAS-VCF that holds several.
        trait: trait of a REGENIE file that holds several.
        columns: which column is which, as in a job file.
        chain: chain file from the files' assembly to the reference's.
        reference: the run's FASTA where it is no longer at the path of the plan.
    """

    files: Annotated[
        tuple[str, ...], Option(_STUDY, name="sumstats", unset="the study columns of the run's own inputs")
    ] = Field(default=(), description="summary statistics")
    format: Annotated[str | None, Option(_STUDY, unset="by what they hold")] = Field(
        default=None, description="format of --sumstats"
    )
    study: Annotated[str | None, Option(_STUDY)] = Field(
        default=None, description="sample of a GWAS-VCF that holds several"
    )
    trait: Annotated[str | None, Option(_STUDY)] = Field(
        default=None, description="trait of a REGENIE file that holds several"
    )
    columns: Annotated[Mapping[str, str] | None, Option(_STUDY)] = Field(
        default=None, description="column of --sumstats, as `beta=BETA`"
    )
    chain: Annotated[Path | None, Option(_STUDY)] = Field(
        default=None, description="chain file from the assembly of --sumstats to the run's"
    )
    reference: Annotated[Path | None, Option(_STUDY)] = Field(
        default=None, description="the run's FASTA, if it has been moved since"
    )


@dataclass(frozen=True, config=_STRICT)
class AssociationOptions:
    """What is computed, and from what.

    Attributes:
        statistic: of the run; its first one when None.
        sumstats: summary statistics.
        gtf: genes, for the distance to the nearest transcription start.
        ld_scores: LD scores in LDSC's layout; a path, a glob, or a path with @ for the chromosome.
        baseline: table of annotations that conditional statistics are adjusted for, in the layout of LDSC's .annot.
        cases: credible-set members, the lead variant of each locus, all variants of low p-value; or, with auto, the
            first where a study has PIPs or sets, else the second.
        min_pip: lowest PIP of a case; with sets any member by default, without sets `DEFAULT_MIN_PIP`.
        p_threshold: largest p-value of a case of low p.
        control_p: smallest p-value of a control of those.
        clump_distance: bases around a lead variant within which variants of low p-value are of its locus.
        ld_table: table of PLINK with r^2 of pairs of variants, which takes the part of the distance.
        clump_r2: r^2 in it from which they are of its locus.
        controls: controls for each case, at most.
        blocks_bed: independent blocks of the genome.
        block_size: length of a block in bases, without `blocks_bed`.
        permutations: circular shifts; None means 10,000 where few blocks hold information, 0 never, another number that
            all p-values are found by them.
        prior_tracks: tracks whose scores re-weight credible sets: those with the strongest enrichment.
        seed: of the draw of controls.
    """

    statistic: Annotated[str | None, Option(_STUDY, unset="its first")] = Field(
        default=None, description="statistic of the run"
    )
    sumstats: SumstatsOptions = SumstatsOptions()
    gtf: Annotated[Path | None, Option(_CASES)] = Field(
        default=None, description="genes (GTF), for the distance to the nearest TSS"
    )
    ld_scores: Annotated[str | None, Option(_CASES)] = Field(
        default=None, description="LD scores of LDSC; a glob, or @ for the chromosome"
    )
    baseline: Annotated[str | None, Option(_CASES)] = Field(
        default=None, description="annotations (LDSC's .annot; a glob, or @) that conditional results are given"
    )
    cases: Annotated[CaseKind, Option(_CASES)] = Field(
        default="auto", description="auto, credible-sets, lead (one a locus) or p-value (all)"
    )
    min_pip: Annotated[float | None, Option(_CASES, unset="any member of a set")] = Field(
        default=None, description="lowest PIP of a case"
    )
    p_threshold: Annotated[float, Option(_CASES)] = Field(default=5e-8, description="largest p-value of a case")
    control_p: Annotated[float, Option(_CASES)] = Field(
        default=0.05, description="controls of low p have a larger one than this"
    )
    clump_distance: Annotated[int, Option(_CASES)] = Field(
        default=1_000_000, ge=1, description="bases around a lead variant that are its locus"
    )
    ld_table: Annotated[Path | None, Option(_CASES)] = Field(
        default=None, description="r^2 of pairs (plink --r2, plink2 --r2-phased): loci by LD, not by distance"
    )
    clump_r2: Annotated[float, Option(_CASES)] = Field(
        default=0.1, gt=0, le=1, description="r^2 in --ld-table from which variants are of one locus"
    )
    controls: Annotated[int, Option(_CASES)] = Field(
        default=10, ge=1, description="matched controls for each case, at most"
    )
    blocks_bed: Annotated[Path | None, Option(_TESTS)] = Field(
        default=None, description="independent LD blocks (BED), in the place of --block-size"
    )
    block_size: Annotated[int, Option(_TESTS)] = Field(
        default=2_000_000, ge=1, description="bases of a block of the jackknife"
    )
    permutations: Annotated[int | None, Option(_TESTS, unset="10,000 where few blocks hold information")] = Field(
        default=None, ge=0, description="circular shifts that p-values are found by; 0: never"
    )
    prior_tracks: Annotated[int, Option(_CASES)] = Field(
        default=10, ge=1, description="tracks that re-weight credible sets"
    )
    seed: Annotated[int, Option(_CASES)] = Field(default=0, ge=0, description="of the draw of controls")


@dataclass(frozen=True, config=_STRICT)
class ExportOptions:
    """What every export takes from a finished dataset, and whether it may replace files.

    Attributes:
        statistic: its name.
        tracks: selectors, as in `choose_tracks`; none means all.
        force: write over files that exist.
    """

    statistic: Annotated[str, Option()] = Field(description="statistic to export")
    tracks: Annotated[tuple[str, ...], Option(unset="all")] = Field(
        default=(), description="5, 10-20, assay:CAGE, regex:liver, file:PATH, a column or an identifier"
    )
    force: Annotated[bool, Option()] = Field(default=False, description="write over files that are there")


@dataclass(frozen=True, config=_STRICT)
class AnnotationOptions:
    """What an annotation of SNPs holds.

    Attributes:
        bim: reference panel whose SNPs and order are kept; None: the variants of the dataset.
        signed: scores of A1 against A2 instead of absolute ones.
        missing: value of SNPs without a score.
        names: what SNPs are called that are not those of a .bim.
    """

    bim: Annotated[str | None, Option()] = Field(
        default=None, description=".bim of a reference panel (with @ for the chromosome): its SNPs, in its order"
    )
    signed: Annotated[bool, Option()] = Field(
        default=False, description="signed scores (A1 against A2), not absolute ones"
    )
    missing: Annotated[float, Option()] = Field(default=0.0, description="value of SNPs without a score")
    names: Annotated[Names, Option(name="ids")] = Field(
        default="source", description="what variants are called: source (as in the input), variant (1_1024_A_C), colon"
    )
