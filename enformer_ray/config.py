"""The job file: frozen pydantic models read from YAML; an unknown key is an error that names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from enformer_ray.errors import ConfigError

Placement = Literal["centred", "binned", "shared"]
IndelConvention = Literal["local", "anchored"]
Statistic = Literal["sad", "log2_ratio", "log_sad", "sax", "d2", "centre", "ref", "alt"]
Precision = Literal["float32", "tf32", "bfloat16"]
Device = Literal["auto", "cpu", "cuda"]
BadRecords = Literal["fail", "keep"]
Palindromic = Literal["keep", "frequency", "drop"]
ShiftCount = Literal[1, 2, 4, 8, 16, 32, 64]

DEFAULT_STRIDE = 32
"""Bins between two windows of the placement `shared`."""

OFFICIAL_WEIGHTS = "EleutherAI/enformer-official-rough"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ScoringConfig(_Frozen):
    """What is computed for a variant: everything here can change a number and stands in the fingerprint."""

    head: str = Field("human", description="output head of the network")
    tracks: tuple[str, ...] = Field(
        (), description="track selectors: 5, 10-20, assay:CAGE, regex:liver, file:PATH; empty means all"
    )
    statistics: tuple[Statistic, ...] = Field(("sad", "log2_ratio"), min_length=1)
    placement: Placement = "binned"
    stride: int = Field(DEFAULT_STRIDE, ge=1, description="bins between two windows of the placement `shared`")
    indel: IndelConvention = "local"
    reverse_complement: bool = False
    shifts: ShiftCount = 1
    precision: Precision = "float32"
    device: Device = "auto"
    batch_size: int | None = Field(None, ge=1, le=4096, description="sequences in one pass; empty: from device memory")
    threads: int | None = Field(None, ge=1, le=1024, description="CPU threads a worker computes with")
    compile: bool = Field(False, description="let torch.compile fuse the transformer's operations")

    @field_validator("statistics")
    @classmethod
    def _each_once(cls, value: tuple[Statistic, ...]) -> tuple[Statistic, ...]:
        if len(set(value)) != len(value):
            raise ValueError("a statistic is named twice")
        return value


class CatalogueConfig(_Frozen):
    """How variant files are read; everything here can change which variants are scored."""

    format: str | None = Field(None, description="format of the variant files; empty: by what they hold")
    study: str | None = Field(None, description="sample of a GWAS-VCF that is read, where it has several")
    on_bad_record: BadRecords = Field(
        "fail", description="a record that cannot be read stops the plan, or is kept as rejected"
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="column names of a table: chromosome, position, reference_allele, alternate_allele, source_id, or "
        "effect_allele, other_allele, beta, odds_ratio, ...; docs/inputs.md lists them",
    )
    palindromic: Palindromic = Field("keep", description="A/T and C/G SNPs of files that do not say what REF is")
    palindromic_frequencies: Path | None = Field(
        None, description="summary statistics or table of allele frequencies on the forward strand, for `frequency`"
    )
    palindromic_threshold: float = Field(
        0.42, gt=0, lt=0.5, description="highest minor allele frequency at which `frequency` tells the strand"
    )
    contig_aliases: Path | None = Field(None, description="two-column TSV: name in the variants, contig of the FASTA")
    chain: Path | dict[str, Path] | None = Field(
        None,
        description="chain file from the variants' assembly to the FASTA's; or a mapping: variant file, chain file",
    )
    max_allele_length: int = Field(1024, ge=1, le=100_000, description="longest allele that is scored, bp")
    max_unknown: int | None = Field(None, ge=0, description="unknown bases in a window above which it is not scored")
    saturate_deletions: bool = Field(False, description="of `saturate:` sources delete each base, too")
    max_ref_mismatch: float = Field(0.10, ge=0, le=1, description="share of REF mismatches that stops the plan")


class GenesConfig(_Frozen):
    """Genes whose transcription starts variants are scored at; everything here can change a number."""

    gtf: Path
    bins: int = Field(3, ge=1, description="output bins around a transcription start, an odd number")
    max_distance: int | None = Field(
        None, ge=0, description="bp between a variant and a transcription start at most; empty: the whole window"
    )
    gene_types: tuple[str, ...] = Field((), description="values of gene_type, such as protein_coding; empty: all")
    genes: tuple[str, ...] = Field((), description="gene_id or gene_name; empty: all")

    @field_validator("bins")
    @classmethod
    def _around_one(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("the bins lie around one in the middle, so their number is odd")
        return value


GENE_DEFAULTS: dict[str, Any] = {"statistics": ("log2_ratio",), "placement": "centred", "indel": "anchored"}
"""Scoring options of a job with genes, where it does not say otherwise."""


class JobConfig(_Frozen):
    """One scoring job, as the command line and `jobs/*.yaml` state it."""

    variants: tuple[str, ...] = Field(min_length=1)
    previous: tuple[str, ...] = Field(
        (),
        description="earlier runs: what one of them has scored in the same way is taken from it (docs/reprocessing.md)",
    )
    reference: Path
    output: str
    weights: str = OFFICIAL_WEIGHTS
    revision: str | None = Field(None, description="revision of a Hub id; the pinned one when empty")
    sequence_length: int | None = Field(None, ge=128, description="input length, bp; the weights' own when empty")
    target_length: int | None = Field(None, ge=1, description="output bins; the weights' own when empty")
    tracks_table: Path | None = None
    scoring: ScoringConfig = ScoringConfig()
    catalogue: CatalogueConfig = CatalogueConfig()
    genes: GenesConfig | None = Field(None, description="score variants at the transcription starts of genes")
    shard_size: int | None = Field(None, ge=1, le=8192, description="variants in a shard at most")
    audit: int = Field(32, ge=1, description="variants that are scored again by plain passes, at most (and 1%)")
    token_cache_mb: int = Field(512, ge=0, description="memory of a worker for trunk tokens, MiB; changes no score")
    workers: int | None = Field(None, ge=1, description="worker processes at most")
    gpus_per_worker: float = Field(1, gt=0, le=1, description="share of a GPU that a worker asks for")
    shard_timeout: float | None = Field(
        None, gt=0, description="seconds after which a shard counts as hung; empty: from the speed of the others"
    )
    address: str | None = Field(None, description="Ray cluster to join; a local one is started when empty")
    offline: bool = False

    @model_validator(mode="before")
    @classmethod
    def _with_gene_defaults(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not values.get("genes"):
            return values
        scoring = values.get("scoring") or {}
        if isinstance(scoring, ScoringConfig):
            scoring = scoring.model_dump(include=scoring.model_fields_set)
        if not isinstance(scoring, dict):
            return values  # which is refused when it is checked
        if values.get("previous"):
            raise ValueError("scores at transcription starts are not taken from earlier runs: leave `previous` out")
        tracks = {"tracks": ("assay:CAGE",)} if values.get("tracks_table") else {}
        return {**values, "scoring": {**GENE_DEFAULTS, **tracks, **scoring}}

    @field_validator("variants", "previous", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str | Path) else value


def build_config(values: dict[str, Any], origin: str) -> JobConfig:
    """Check a mapping against the job file's schema.

    Args:
        values: keys of the job file.
        origin: what to name in an error: the job file, or "the command line".

    Raises:
        ConfigError: with one line for each key that is unknown, missing or has a wrong value.
    """
    try:
        return JobConfig.model_validate(values)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {_advice(e['type'], e['msg'])}" for e in error.errors()]
        raise ConfigError(f"{origin} cannot be used:\n" + "\n".join(lines)) from None


def load_job_file(path: Path) -> dict[str, Any]:
    """Read a YAML job file into a mapping; `build_config` checks it.

    Raises:
        ConfigError: the file is missing, is not YAML, or is not a mapping.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the job file {path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"the job file {path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"the job file {path} must hold `key: value` lines; jobs/score_variants.yaml is an example")
    return values


def _advice(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "unknown key; see jobs/score_variants.yaml for the keys there are"
    return message
