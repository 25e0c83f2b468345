"""The job file: its models, which state each option once, and the errors about a job that cannot be used.

The command line (`cli.options`), the reference page (docs/job_file.md) and the messages below are made from the fields.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from enformer_ray.definitions import Shifts, Statistic, Statistics, choices
from enformer_ray.errors import ConfigError, shortened
from enformer_ray.shown import credentials_in, texts_in

Placement = Literal["centred", "binned", "shared"]
IndelConvention = Literal["local", "anchored"]
Precision = Literal["float32", "tf32", "bfloat16"]
Device = Literal["auto", "cpu", "cuda"]
BadRecords = Literal["fail", "keep"]
Palindromic = Literal["keep", "frequency", "drop"]

DEFAULT_STRIDE = 32
"""Bins between two windows of the placement `shared`."""

OFFICIAL_WEIGHTS = "EleutherAI/enformer-official-rough"

WHAT, HOW, WHERE = "What is scored", "How it is scored", "Where it runs"
"""Headings of the options of all jobs in `--help`."""


@dataclass(frozen=True)
class Option:
    """How the command line offers a field of a model; a field without one can be set in a job file only.

    Type, choices, bounds, default and help are those of the field.

    Attributes:
        panel: heading in `--help`.
        name: of the option, where it is not that of the field.
        unset: what holds where nothing is given, if the default does not say it.
        negatable: whether a switch has the form --no-....
        help: help text, where the description fits a job file only.
        metavar: what a value is called in `--help`, where its type does not say it.
    """

    panel: str | None = None
    name: str = ""
    unset: str = ""
    negatable: bool = False
    help: str = ""
    metavar: str | None = None


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ScoringConfig(_Section):
    """What is computed for a variant: everything here can change a number and is part of the fingerprint."""

    head: Annotated[str, Option(HOW)] = Field("human", description="human or mouse")
    tracks: Annotated[tuple[str, ...], Option(HOW, unset="all")] = Field(
        (), description="5, 0,3,10-20, assay:CAGE, regex:liver or file:PATH"
    )
    statistics: Annotated[Statistics, Option(HOW)] = Field(
        ("sad", "log2_ratio"), min_length=1, description="what is computed from the two alleles' outputs"
    )
    placement: Annotated[Placement, Option(HOW)] = Field("binned", description="where windows are placed")
    stride: Annotated[int, Option(HOW)] = Field(DEFAULT_STRIDE, ge=1, description="bins between windows of `shared`")
    indel: Annotated[IndelConvention, Option(HOW)] = Field("local", description="convention for indels")
    reverse_complement: Annotated[bool, Option(HOW, negatable=True)] = Field(False, description="average both strands")
    shifts: Annotated[Shifts, Option(HOW, metavar="N|BP,BP,...")] = Field(
        1, description="average over 1, 2, 4, ... 64 window starts, or over those moved back by a list of bp: 0,1,-1"
    )
    precision: Annotated[Precision, Option(HOW)] = Field("float32", description="of the network")
    device: Annotated[Device, Option(WHERE)] = Field("auto", description="auto, cpu or cuda")
    batch_size: Annotated[int | None, Option(WHERE, unset="from memory")] = Field(
        None, ge=1, le=4096, description="sequences in one pass"
    )
    threads: Annotated[int | None, Option(WHERE, unset="cores / workers")] = Field(
        None, ge=1, le=1024, description="CPU threads of a worker"
    )
    compile: Annotated[bool, Option(WHERE)] = Field(False, description="let torch.compile fuse operations")

    @field_validator("statistics")
    @classmethod
    def _each_once(cls, value: tuple[Statistic, ...]) -> tuple[Statistic, ...]:
        if len(set(value)) != len(value):
            raise ValueError("a statistic is named twice")
        return value


class CatalogueConfig(_Section):
    """How variant files are read; everything here can change which variants are scored."""

    format: Annotated[str | None, Option(WHAT, unset="by what they hold")] = Field(
        None, description="format of the variants"
    )
    study: Annotated[str | None, Option(WHAT)] = Field(None, description="sample of a GWAS-VCF that holds several")
    trait: Annotated[str | None, Option(WHAT)] = Field(None, description="trait of a REGENIE file that holds several")
    on_bad_record: Annotated[BadRecords, Option(WHAT)] = Field(
        "fail", description="fail, or keep records that cannot be read as rejected"
    )
    columns: Annotated[dict[str, str], Option(WHAT, help="column of a table, as `position=BP`")] = Field(
        default_factory=dict,
        description="columns of a table, as `position: BP`: chromosome, position, reference_allele, alternate_allele, "
        "source_id, variant, or effect_allele, other_allele, beta, odds_ratio, ...; docs/inputs.md lists them",
    )
    palindromic: Palindromic = Field("keep", description="A/T and C/G SNPs of files that do not say what REF is")
    palindromic_frequencies: Path | None = Field(
        None, description="summary statistics or table of allele frequencies on the forward strand, for `frequency`"
    )
    palindromic_threshold: float = Field(
        0.42, gt=0, lt=0.5, description="highest minor allele frequency at which `frequency` decides the strand"
    )
    contig_aliases: Annotated[Path | None, Option(WHAT)] = Field(
        None, description="TSV: name in the variants or the genes, contig of the FASTA"
    )
    chain: Annotated[
        Path | dict[str, Path] | None,
        Option(WHAT, help="chain file (UCSC) from the variants' assembly to the reference's"),
    ] = Field(
        None,
        description="chain file (UCSC) from the variants' assembly to the reference's; or one for each variant file: "
        "`old.vcf.gz: hg19ToHg38.over.chain.gz`",
    )
    max_allele_length: Annotated[int, Option(WHAT)] = Field(1024, ge=1, le=100_000, description="longest allele, bp")
    max_unknown: Annotated[int | None, Option(WHAT, unset="any")] = Field(
        None, ge=0, description="unknown bases allowed in a window"
    )
    saturate_deletions: Annotated[bool, Option(name="deletions", unset="no", negatable=True)] = Field(
        False, description="delete each base, too"
    )
    max_ref_mismatch: Annotated[float, Option(WHAT)] = Field(
        0.10, ge=0, le=1, description="share of REF mismatches that stops the plan"
    )


class GenesConfig(_Section):
    """Genes whose transcription starts variants are scored at; everything here can change a number."""

    gtf: Annotated[Path, Option("Genes")] = Field(description="genes of the reference's assembly (GTF, plain or gzip)")
    bins: Annotated[int, Option("Genes")] = Field(
        3, ge=1, description="output bins around a transcription start, an odd number"
    )
    max_distance: Annotated[int | None, Option("Genes", unset="the whole window")] = Field(
        None, ge=0, description="bp between variant and transcription start at most"
    )
    gene_types: Annotated[tuple[str, ...], Option("Genes", name="gene_type", unset="all")] = Field(
        (), description="gene_type, such as protein_coding"
    )
    genes: Annotated[tuple[str, ...], Option("Genes", name="gene", unset="all")] = Field(
        (), description="gene_id or gene_name"
    )

    @field_validator("bins")
    @classmethod
    def _around_one(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("the bins lie around one in the middle, so their number is odd")
        return value


class Schedule(_Section):
    """Where releases come from and go to, for `enformer-ray releases` alone (docs/schedule.md)."""

    releases: Annotated[str, Option(metavar="DIR_OR_GLOB")] = Field(
        description="folder of releases, or a glob in quotes: each file or folder is one"
    )
    runs: Annotated[str, Option(metavar="DIR")] = Field(description="folder of run directories, one a release")
    settle: Annotated[float | None, Option(metavar="SECONDS", unset="300; with a done_file 0")] = Field(
        None, ge=0, description="seconds without a change after which a release counts as whole"
    )
    done_file: Annotated[str | None, Option(metavar="NAME")] = Field(
        None, min_length=1, description="wait for this file; * stands for the name of the release, as in '*.done'"
    )


GENE_DEFAULTS: dict[str, Any] = {"statistics": ("log2_ratio",), "placement": "centred", "indel": "anchored"}
"""Scoring options of a job with genes, where it does not say otherwise."""


class JobConfig(_Section):
    """One scoring job, as the command line and `jobs/*.yaml` state it."""

    variants: Annotated[tuple[str, ...], Option(WHAT)] = Field(
        min_length=1, description="VCF, BCF, TSV, CSV or Parquet; - for standard input; a glob in quotes"
    )
    previous: Annotated[tuple[str, ...], Option(WHAT)] = Field(
        (), description="finished run; what it has scored in the same way is not scored again"
    )
    reference: Annotated[Path, Option(WHAT)] = Field(description="reference FASTA, plain or bgzip")
    output: Annotated[str, Option(WHAT)] = Field(description="run directory")
    weights: Annotated[str, Option(WHAT, unset="the published Enformer")] = Field(
        OFFICIAL_WEIGHTS, description="folder, safetensors file or Hugging Face id"
    )
    revision: Annotated[str | None, Option(WHAT, unset="the pinned one")] = Field(
        None, description="revision of a Hugging Face id"
    )
    sequence_length: Annotated[int | None, Option(HOW, unset="the weights' own")] = Field(
        None, ge=128, description="input length, bp"
    )
    target_length: Annotated[int | None, Option(HOW, unset="the weights' own")] = Field(
        None, ge=1, description="output bins"
    )
    tracks_table: Annotated[Path | None, Option(HOW)] = Field(
        None, description="targets table: names and assays of the tracks"
    )
    scoring: ScoringConfig = ScoringConfig()
    catalogue: CatalogueConfig = CatalogueConfig()
    genes: GenesConfig | None = None
    shard_size: Annotated[int | None, Option(WHERE, unset="64; on CUDA 1024")] = Field(
        None, ge=1, le=8192, description="variants in a shard at most"
    )
    audit: Annotated[int, Option(WHERE, unset="32, or 1%")] = Field(
        32, ge=1, description="variants scored again plainly, at most"
    )
    token_cache_mb: Annotated[int, Option(WHERE)] = Field(
        512, ge=0, description="memory of a worker for trunk tokens, MiB"
    )
    workers: Annotated[int | None, Option(WHERE, unset="1; on CUDA one a GPU")] = Field(
        None, ge=1, description="worker processes at most"
    )
    gpus_per_worker: Annotated[float, Option(WHERE)] = Field(
        1, gt=0, le=1, description="share of a GPU that a worker asks for"
    )
    shard_timeout: Annotated[float | None, Option(WHERE, unset="20 times what it should take")] = Field(
        None, gt=0, description="seconds after which a shard counts as hung"
    )
    address: Annotated[str | None, Option(WHERE, unset="a local one")] = Field(None, description="Ray cluster to join")
    offline: Annotated[bool, Option(WHERE)] = Field(False, description="download nothing")

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
            raise ValueError("scores at transcription starts are not taken from previous runs: leave `previous` out")
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
        ConfigError: with one line for each key that is unknown, missing, has a wrong value or holds a credential.
    """
    refuse_credentials(values, origin)
    return check_model(JobConfig, values, origin)


def refuse_credentials(values: Any, origin: str) -> None:
    """Raise ConfigError for a job, or values of one, in which something looks like a credential.

    It names keys and never values: a job is kept in its run directory, goes to a cluster and is shown by many commands.
    """
    found = [f"  {key}: {kind}" for key, text in texts_in(values) for kind in credentials_in(text)]
    if found:
        raise ConfigError(
            f"{origin} holds what looks like a credential:\n" + "\n".join(found[:20]) + "\nA job is kept in the run "
            "directory, on the cluster and in logs. Take it out; machines get credentials from their own environment "
            "(instance role, service account, Secret: see cluster/README.md)."
        )


Model = TypeVar("Model")


def check_model(model: type[Model], values: Mapping[str, Any], origin: str, section: str = "") -> Model:
    """Check a mapping against a pydantic model or dataclass.

    Args:
        model: the class.
        values: its fields; models in it are mappings.
        origin: what to name in an error.
        section: of the job file that the model is.

    Raises:
        ConfigError: with one line for each key that is unknown, missing or has a wrong value.
    """
    try:
        return TypeAdapter(model).validate_python(values)
    except ValidationError as error:
        # A value of several possible types has an error for each.
        lines = dict.fromkeys(_error_line(model, details, section) for details in error.errors())
        raise ConfigError(f"{origin} cannot be used:\n" + "\n".join(lines)) from None


def _error_line(model: type, details: ErrorDetails, section: str) -> str:
    keys, setting = _locate(model, details["loc"])
    key = ".".join([section] * bool(section) + keys)
    if details["type"] == "extra_forbidden":
        return f"  {key}: unknown key{_similar(model, keys[-1], section)}; docs/job_file.md lists the keys"
    if details["type"] == "value_error":  # raised by a validator above
        text = str(details["ctx"]["error"])
    elif setting is None:
        text = f"must be `key: value` lines; it is {shortened(repr(details['input']))}"
    elif details["type"] == "missing":
        text = f"missing: {setting.field.description or setting.expected}"
    else:
        found = "it has" if len(details["loc"]) > len(keys) and isinstance(details["loc"][-1], int) else "it is"
        text = f"must be {setting.expected}; {found} {shortened(repr(details['input']))}"
    if setting is not None and setting.option is not None:
        text += f" (option {setting.flag})"
    return f"  {key}: {text}" if key else f"  {text}"


def _locate(model: Any, location: Sequence[int | str]) -> tuple[list[str], Setting | None]:
    """The part of pydantic's location that is keys of a job file, and the field there."""
    keys: list[str] = []
    setting = None
    for key in map(str, location):
        fields = fields_of(model)
        if not fields:
            break
        keys.append(key)
        if key not in fields:
            return keys, None
        setting = Setting(".".join(keys), fields[key])
        model = setting.kind
    return keys, setting


def _similar(model: type, key: str, section: str) -> str:
    keys = {setting.key.rpartition(".")[2]: setting.key for setting in settings(model, f"{section}." * bool(section))}
    near = difflib.get_close_matches(key, keys, n=1)
    return f", perhaps `{keys[near[0]]}` is meant" if near else ""


class Setting(NamedTuple):
    """A field of a model, or of a model in that: what the command line and the reference page show of it.

    Attributes:
        key: as in the job file, with that of its section: `scoring.shifts`.
        field: what the model states.
    """

    key: str
    field: FieldInfo

    @property
    def option(self) -> Option | None:
        """How the command line offers it."""
        return next((entry for entry in self.field.metadata if isinstance(entry, Option)), None)

    @property
    def name(self) -> str:
        """Of the option: `gene_type`."""
        return (self.option and self.option.name) or self.key.rpartition(".")[2]

    @property
    def flag(self) -> str:
        """As it is written on the command line: `--gene-type`."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def kind(self) -> Any:
        """Type of a value that is given: without None."""
        annotation = self.field.annotation
        if get_origin(annotation) not in (Union, types.UnionType):
            return annotation
        return Union[tuple(kind for kind in get_args(annotation) if kind is not type(None))]  # noqa: UP007 (computed)

    @property
    def default(self) -> str:
        """What holds where nothing is given; empty where that is nothing."""
        value = self.field.default
        if self.option is not None and self.option.unset:
            return self.option.unset
        if value is PydanticUndefined or value is False or value in (None, ()):
            return ""
        return ",".join(value) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else str(value)

    @property
    def limits(self) -> dict[str, float]:
        """Bounds of a number by pydantic's names: ge, gt, le, lt."""
        return {name: getattr(entry, name) for entry in self.field.metadata for name in _LIMITS if hasattr(entry, name)}

    @property
    def expected(self) -> str:
        """What a value has to be: `a whole number, at least 1`."""
        noun = _noun(self.kind)
        if any(getattr(entry, "min_length", 0) for entry in self.field.metadata):
            noun = noun.replace("a list", "a list (not empty)") if "a list" in noun else f"{noun}, not empty"
        limits = [f"{words} {self.limits[name]:,g}" for name, words in _LIMITS.items() if name in self.limits]
        return f"{noun}, {' and '.join(limits)}" if limits else noun


_LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
_NOUNS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}


def _noun(kind: Any) -> str:
    arguments = get_args(kind)
    origin = get_origin(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, choices(kind)))}"
    if origin is tuple:
        noun = "whole numbers" if arguments[0] is int else _noun(arguments[0]).removeprefix("one of ")
        return f"a list of {noun}"
    if origin in (Union, types.UnionType):
        return " or ".join(map(_noun, arguments))
    return _NOUNS.get(kind, "`key: value` lines")


def fields_of(model: Any) -> Mapping[str, FieldInfo]:
    """Fields of a pydantic model or dataclass; none of another type."""
    fields: Mapping[str, FieldInfo] = getattr(model, "__pydantic_fields__", {})
    return fields


def settings(model: Any, section: str = "") -> Iterator[Setting]:
    """The fields of a model in order, with those of the models in it in their place."""
    for name, field in fields_of(model).items():
        setting = Setting(f"{section}{name}", field)
        if fields_of(setting.kind):
            yield from settings(setting.kind, f"{setting.key}.")
        else:
            yield setting
