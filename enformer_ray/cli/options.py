"""Options of commands, made from the models that they fill: name, type, choices, bounds, default and help."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from enformer_ray.config import (
    HOW,
    WHAT,
    WHERE,
    JobConfig,
    Schedule,
    Setting,
    build_config,
    check_model,
    fields_of,
    settings,
)
from enformer_ray.definitions import choices
from enformer_ray.errors import ConfigError
from enformer_ray.job_file import load_job_file

_JOB = {
    setting.name: setting
    for setting in (*settings(JobConfig), *settings(Schedule, "schedule."))
    if setting.option is not None
}
"""All options of a job file by name."""

Derive = Callable[[dict[str, Any]], dict[str, Any]]
"""Takes options of a command's own out of its arguments, and returns what they mean in the job file: key -> value."""


def job_command(
    function: Callable[..., None],
    without: Collection[str] = (),
    derive: Derive = lambda _: {},
    also: Collection[str] = (),
) -> Callable[..., None]:
    """Give a command the options of a job; it is called with the checked `JobConfig` as its first argument.

    Args:
        function: the command.
        without: options of all jobs that it does not have.
        derive: what options of its own mean in the job file; those that it takes, `function` does not get.
        also: options of some jobs that it has.
    """
    return with_job_options(function, job_from, without, derive, also)


def with_job_options(
    function: Callable[..., None],
    build: Callable[[Path | None, dict[str, Any], Mapping[str, Any]], Any],
    without: Collection[str] = (),
    derive: Derive = lambda _: {},
    also: Collection[str] = (),
) -> Callable[..., None]:
    """Give a command the options of a job.

    Args:
        function: called with what `build` returns as its first argument.
        build: takes the job file, the options (None where not given), and what is derived.
        without: options of all jobs that the command does not have.
        derive: as in `job_command`.
        also: options of some jobs that the command has.
    """
    offered = [
        name for name, setting in _JOB.items() if name in also or (_of_all_jobs(setting) and name not in without)
    ]
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

    @functools.wraps(function)
    def command(**values: Any) -> None:
        derived = derive(values)
        config: Path | None = values.pop("config")
        options = {name: values.pop(name) for name in offered}
        function(build(config, options, derived), **values)

    config = typer.Option(help="job file (YAML); options given here override it", rich_help_panel=WHAT)
    parameters = [_parameter("config", Annotated[Path | None, config], None)]
    # Defaults are not passed on: the job file comes before them.
    parameters += [_parameter(name, _annotation(_JOB[name], default_in_help=True), None) for name in offered]
    return _with_signature(command, [*parameters, *own])


def _of_all_jobs(setting: Setting) -> bool:
    return setting.option is not None and setting.option.panel in (WHAT, HOW, WHERE)


def model_options(function: Callable[..., None], without: Collection[str] = ()) -> Callable[..., None]:
    """Give a command, in place of each parameter whose type is a model, the options of that model.

    Args:
        function: called with the models, checked.
        without: options that the command does not have; their fields keep the defaults.
    """
    # Annotations are text where a module has `from __future__ import annotations`.
    own = list(inspect.signature(function, eval_str=True).parameters.values())
    offered = {
        parameter.name: [s for s in settings(parameter.annotation) if s.option is not None and s.name not in without]
        for parameter in own
        if fields_of(parameter.annotation)
    }
    models = {parameter.name: parameter.annotation for parameter in own if parameter.name in offered}

    @functools.wraps(function)
    def command(**values: Any) -> None:
        for name, model in models.items():
            fields: dict[str, Any] = {}
            for setting in offered[name]:
                _set(fields, setting, values.pop(setting.name), origin_of(None))
            values[name] = check_model(model, fields, origin_of(None))
        function(**values)

    parameters = []
    for parameter in own:
        if parameter.name not in offered:
            parameters.append(parameter)
        for setting in offered.get(parameter.name, ()):
            annotation = _annotation(setting, default_in_help=False)
            parameters.append(_parameter(setting.name, annotation, _default(setting)))
    return _with_signature(command, parameters)


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _with_signature(command: Callable[..., None], parameters: list[inspect.Parameter]) -> Callable[..., None]:
    # Typer reads both the signature and the annotations; click passes every value by name.
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _default(setting: Setting) -> Any:
    if setting.field.is_required():
        return inspect.Parameter.empty
    value = setting.field.get_default(call_default_factory=True)
    if _in_one(setting.kind):
        return ",".join(value)
    return value if value not in ((), {}) else None


def _annotation(setting: Setting, default_in_help: bool) -> Any:
    """Type and typer's option for a field of a model.

    Args:
        setting: the field.
        default_in_help: whether the help states the default; typer adds those that it is given itself.
    """
    option, kind = setting.option, _option_type(setting.kind)
    assert option is not None
    text = option.help or setting.field.description or ""
    if _in_one(setting.kind):
        text += f", separated by commas: {', '.join(choices(get_args(setting.kind)[0]))}"
    if get_origin(kind) is list:
        text += "; may be repeated"
    if setting.default and (default_in_help or option.unset):
        text += f" (default: {setting.default})"
    flags = [setting.flag] if kind is bool and not option.negatable else []
    bounds = _bounds(setting, kind)
    return Annotated[
        kind | None,
        typer.Option(*flags, help=text, rich_help_panel=option.panel, metavar=option.metavar, **bounds),
    ]


def _option_type(kind: Any) -> Any:
    """Type of an option that takes values of a field's type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Union:
        # One value or a list of them: the model reads the commas.
        return str if any(get_origin(argument) is tuple for argument in arguments) else _option_type(arguments[0])
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return list[str]
    if origin is Literal and not all(isinstance(choice, str) for choice in arguments):
        return type(arguments[0])
    if origin is tuple:
        return str if _in_one(kind) else list[_option_type(arguments[0])]  # type: ignore[misc]
    return kind


def _in_one(kind: Any) -> bool:
    """Whether a list is one value with commas: words that have none."""
    return get_origin(kind) is tuple and get_origin(get_args(kind)[0]) is Literal


def _bounds(setting: Setting, kind: Any) -> dict[str, Any]:
    """Bounds that a value may equal: typer knows no others, and half a range in the help would mislead."""
    limits = setting.limits
    if kind not in (int, float) or "gt" in limits or "lt" in limits:
        return {}
    return {name: limits[limit] for name, limit in (("min", "ge"), ("max", "le")) if limit in limits}


def job_from(config: Path | None, options: dict[str, Any], derived: Mapping[str, Any] | None = None) -> JobConfig:
    """The job that a job file and the options of the command line (None where not given) state together.

    Args:
        config: the job file.
        options: by name.
        derived: further values by their key in the job file.

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
        _set(values, _JOB[name], value, origin_of(config))
    for key, value in (derived or {}).items():
        _set_key(values, key, value, origin_of(config))
    return values


def origin_of(config: Path | None) -> str:
    """What an error about a job names."""
    return f"the job file {config}" if config else "the command line"


def _set(values: dict[str, Any], setting: Setting, value: Any, origin: str) -> None:
    """Set the key of an option, if it is given."""
    if value is None or value == []:
        return
    if _in_one(setting.kind):
        value = value.split(",")
    elif isinstance(value, list) and get_origin(setting.kind) is not tuple:
        value = dict(pair.partition("=")[::2] for pair in value)
    _set_key(values, setting.key, value, origin)


def _set_key(values: dict[str, Any], key: str, value: Any, origin: str) -> None:
    *sections, last = key.split(".")
    for name in sections:
        section = values.get(name) or {}  # YAML reads a section without a line as None
        if not isinstance(section, dict):
            raise ConfigError(f"{origin}: `{name}` must hold `key: value` lines, not {section!r}.")
        values[name] = section
        values = section
    values[last] = value
