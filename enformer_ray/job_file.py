"""Reading a job file: YAML of a bounded size, in which nothing stands for more values than a job can have."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from enformer_ray.errors import ConfigError
from enformer_ray.files import read_small

MAX_JOB_BYTES = 4 * 2**20
"""Of a job file: tens of thousands of variant files by name."""

MAX_JOB_VALUES = 200_000
"""Of a job file, each as often as an alias repeats it."""


def load_job_file(path: Path) -> dict[str, Any]:
    """Read a YAML job file into a mapping; `build_config` checks it.

    Raises:
        ConfigError: the file is missing, too large, is not YAML, or is not a mapping.
    """
    try:
        values = yaml.safe_load(read_small(path, MAX_JOB_BYTES, "a job file", ConfigError).decode())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the job file {path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"the job file {path} is not valid YAML: {error}") from None
    except RecursionError:
        raise ConfigError(f"the job file {path} is nested deeper than any job is; it is another file.") from None
    except ValueError as error:  # a date that there is not, a number of thousands of digits
        raise ConfigError(f"the job file {path} holds a value that cannot be read: {error}") from None
    if sum(1 for _ in islice(_values(values), MAX_JOB_VALUES + 1)) > MAX_JOB_VALUES:
        raise ConfigError(f"the job file {path} stands for more than {MAX_JOB_VALUES:,} values; no job has so many.")
    if not isinstance(values, dict):
        raise ConfigError(f"the job file {path} must hold `key: value` lines; jobs/score_variants.yaml is an example")
    return values


def _values(nested: Any) -> Iterator[Any]:
    """Every value in a document; by an alias of YAML one may stand there a billion times, or hold itself."""
    waiting = [nested]
    while waiting:
        value = waiting.pop()
        yield value
        if isinstance(value, dict | list):
            waiting += value.values() if isinstance(value, dict) else value
