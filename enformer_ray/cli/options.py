"""Options that several commands share, and how they and a job file become one `JobConfig`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from enformer_ray.config import (
    BadRecords,
    Device,
    IndelConvention,
    JobConfig,
    Placement,
    Precision,
    build_config,
    load_job_file,
)
from enformer_ray.errors import ConfigError

_WHAT, _HOW, _WHERE = "What is scored", "How it is scored", "Where it runs"


def _option(help_text: str, panel: str, *names: str) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel=panel)


# name of the parameter -> (place in the job file, type, option). Defaults stand in the job file's schema alone.
_OPTIONS: dict[str, tuple[str, Any, Any]] = {
    "variants": (
        "variants",
        list[str] | None,
        _option("VCF, BCF, TSV, CSV or Parquet; - for standard input; a glob in quotes; may be repeated", _WHAT),
    ),
    "previous": (
        "previous",
        list[str] | None,
        _option("finished run; what it has scored in the same way is not scored again; may be repeated", _WHAT),
    ),
    "reference": ("reference", Path | None, _option("reference FASTA, plain or bgzip", _WHAT)),
    "weights": (
        "weights",
        str | None,
        _option("folder, safetensors file or Hugging Face id; the published Enformer by default", _WHAT),
    ),
    "revision": ("revision", str | None, _option("revision of a Hugging Face id", _WHAT)),
    "output": ("output", str | None, _option("run directory", _WHAT)),
    "format": ("catalogue.format", str | None, _option("format of the variants (default: by what they hold)", _WHAT)),
    "study": ("catalogue.study", str | None, _option("sample of a GWAS-VCF that holds several", _WHAT)),
    "on_bad_record": (
        "catalogue.on_bad_record",
        BadRecords | None,
        _option("fail (default), or keep records that cannot be read as rejected", _WHAT),
    ),
    "columns": (
        "catalogue.columns",
        list[str] | None,
        _option("column of a table, as `position=BP`; may be repeated", _WHAT),
    ),
    "contig_aliases": ("catalogue.contig_aliases", Path | None, _option("TSV: name in the variants, contig", _WHAT)),
    "chain": (
        "catalogue.chain",
        Path | None,
        _option("chain file (UCSC) from the variants' assembly to the reference's", _WHAT),
    ),
    "max_allele_length": (
        "catalogue.max_allele_length",
        int | None,
        _option("longest allele, bp (default: 1024)", _WHAT),
    ),
    "max_unknown": (
        "catalogue.max_unknown",
        int | None,
        _option("unknown bases allowed in a window (default: any)", _WHAT),
    ),
    "max_ref_mismatch": (
        "catalogue.max_ref_mismatch",
        float | None,
        _option("share of REF mismatches that stops the plan (default: 0.1)", _WHAT),
    ),
    "head": ("scoring.head", str | None, _option("human or mouse (default: human)", _HOW)),
    "tracks": (
        "scoring.tracks",
        list[str] | None,
        _option("5, 0,3,10-20, assay:CAGE, regex:liver or file:PATH; may be repeated (default: all)", _HOW),
    ),
    "tracks_table": ("tracks_table", Path | None, _option("targets table: names and assays of the tracks", _HOW)),
    "statistics": (
        "scoring.statistics",
        str | None,
        _option("of sad, log2_ratio, log_sad, sax, d2, centre, ref, alt (default: sad,log2_ratio)", _HOW),
    ),
    "placement": (
        "scoring.placement",
        Placement | None,
        _option("where windows lie: binned (default), centred, shared", _HOW),
    ),
    "stride": ("scoring.stride", int | None, _option("bins between windows of `shared` (default: 32)", _HOW)),
    "indel": ("scoring.indel", IndelConvention | None, _option("convention for indels (default: local)", _HOW)),
    "reverse_complement": ("scoring.reverse_complement", bool | None, _option("average both strands", _HOW)),
    "shifts": ("scoring.shifts", int | None, _option("average over 1, 2, 4, ... 64 window starts (default: 1)", _HOW)),
    "precision": ("scoring.precision", Precision | None, _option("of the network (default: float32)", _HOW)),
    "sequence_length": ("sequence_length", int | None, _option("input length, bp (default: the weights' own)", _HOW)),
    "target_length": ("target_length", int | None, _option("output bins (default: the weights' own)", _HOW)),
    "device": ("scoring.device", Device | None, _option("auto, cpu or cuda (default: auto)", _WHERE)),
    "batch_size": ("scoring.batch_size", int | None, _option("sequences in one pass (default: from memory)", _WHERE)),
    "threads": ("scoring.threads", int | None, _option("CPU threads of a worker (default: cores / workers)", _WHERE)),
    "shard_size": (
        "shard_size",
        int | None,
        _option("variants in a shard at most (default: 64; on CUDA 1024)", _WHERE),
    ),
    "audit": ("audit", int | None, _option("variants scored again plainly, at most (default: 32, or 1%)", _WHERE)),
    "token_cache_mb": (
        "token_cache_mb",
        int | None,
        _option("memory of a worker for trunk tokens, MiB (default: 512)", _WHERE),
    ),
    "compile": ("scoring.compile", bool | None, _option("let torch.compile fuse operations", _WHERE, "--compile")),
    "workers": ("workers", int | None, _option("worker processes at most (default: 1; on CUDA one a GPU)", _WHERE)),
    "gpus_per_worker": (
        "gpus_per_worker",
        float | None,
        _option("share of a GPU that a worker asks for (default: 1)", _WHERE),
    ),
    "shard_timeout": (
        "shard_timeout",
        float | None,
        _option("seconds after which a shard counts as hung (default: 20 times what it should take)", _WHERE),
    ),
    "address": ("address", str | None, _option("Ray cluster to join (default: a local one)", _WHERE)),
    "offline": ("offline", bool | None, _option("download nothing", _WHERE, "--offline")),
}
_LISTS_IN_ONE = ("statistics",)


Derive = Callable[[dict[str, Any]], dict[str, Any]]
"""Takes options of a command's own out of its arguments, and says what they are in the job file: place -> value."""


def job_command(
    function: Callable[..., None], without: Collection[str] = (), derive: Derive = lambda _: {}
) -> Callable[..., None]:
    """Give a command all job options; it is called with the checked `JobConfig` as its first argument.

    Args:
        function: the command.
        without: job options that it does not have.
        derive: what options of its own mean in the job file; those that it takes, `function` does not get.
    """
    return with_job_options(function, job_from, without, derive)


def with_job_options(
    function: Callable[..., None],
    build: Callable[[Path | None, dict[str, Any], Mapping[str, Any]], Any],
    without: Collection[str] = (),
    derive: Derive = lambda _: {},
) -> Callable[..., None]:
    """Give a command the job options.

    Args:
        function: called with what `build` returns as its first argument.
        build: takes the job file, the options (None where not given), and what is derived.
        without: options that the command does not have.
        derive: as in `job_command`.
    """
    offered = {name: option for name, option in _OPTIONS.items() if name not in without}
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

    @functools.wraps(function)
    def command(**values: Any) -> None:
        derived = derive(values)
        config: Path | None = values.pop("config")
        options = {name: values.pop(name) for name in offered}
        function(build(config, options, derived), **values)

    parameters = [
        inspect.Parameter(
            "config",
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[Path | None, _option("job file (YAML); options given here override it", _WHAT)],
        )
    ]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])
        for name, (_, kind, option) in offered.items()
    ]
    parameters += [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def job_from(config: Path | None, options: dict[str, Any], derived: Mapping[str, Any] | None = None) -> JobConfig:
    """The job that a job file and the options of the command line (None where not given) state together.

    Args:
        config: the job file.
        options: by name.
        derived: further values by their place in the job file.

    Raises:
        ConfigError: naming each key that is unknown, missing or wrong.
    """
    return build_config(job_values(config, options, derived), origin_of(config))


def job_values(
    config: Path | None, options: dict[str, Any], derived: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Keys of a job file, with what the command line says in their place, as for `job_from`; not checked.

    Raises:
        ConfigError: the job file cannot be read, or what should be a section of it is none.
    """
    values = load_job_file(config) if config else {}
    for name, value in options.items():
        if value is None or value == []:
            continue
        _set(values, _OPTIONS[name][0], _split(name, value), origin_of(config))
    for place, value in (derived or {}).items():
        _set(values, place, value, origin_of(config))
    return values


def origin_of(config: Path | None) -> str:
    """What an error about a job names."""
    return f"the job file {config}" if config else "the command line"


def _set(values: dict[str, Any], place: str, value: Any, origin: str) -> None:
    *rooms, key = place.split(".")
    for room in rooms:
        section = values.get(room) or {}  # a section without a line is none
        if not isinstance(section, dict):
            raise ConfigError(f"{origin}: `{room}` must hold `key: value` lines, not {section!r}.")
        values[room] = section
        values = section
    values[key] = value


def _split(name: str, value: Any) -> Any:
    if name == "columns":
        return dict(pair.partition("=")[::2] for pair in value)
    return value.split(",") if name in _LISTS_IN_ONE else value
