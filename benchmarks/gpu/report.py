"""Steps that are run one by one, each guarded, and the report that keeps their results."""

from __future__ import annotations

import gc
import json
import math
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

FORMAT = 1
"""Of the JSON file; tests/benchmarks/gpu_check.schema.json says what is in it."""

NOT_REACHED = "the run ended before it"

MAX_MESSAGE = 500
"""Characters of an error that are kept."""

Values = dict[str, Any]


class NotHereError(Exception):
    """A step cannot run on this machine; the message says why."""


class CheckFailedError(Exception):
    """What a step measured is not what it must be.

    Args:
        message: what is wrong.
        values: what was measured.
    """

    def __init__(self, message: str, values: Values) -> None:
        super().__init__(message)
        self.values = values


@dataclass(frozen=True)
class Step:
    """One line of the table.

    Attributes:
        section: what it belongs to.
        name: of the step in its section.
        seconds: that it takes on a data-centre GPU, about; with less left it is not begun.
        run: measures, and returns numbers and words by name.
    """

    section: str
    name: str
    seconds: float
    run: Callable[[], Values]


class Report:
    """Results of all steps, in a JSON file that is written anew after each.

    Args:
        path: of the file.
        header: what the file says besides the steps.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path, self.header = path, dict(header)
        self.steps: list[dict[str, Any]] = []

    @classmethod
    def resumed(cls, path: Path) -> Report:
        """The report of a process that had to be given up."""
        content = json.loads(path.read_text())
        report = cls(path, {key: value for key, value in content.items() if key not in ("steps", "counts", "seconds")})
        report.steps = content["steps"]
        return report

    @property
    def elapsed(self) -> float:
        """Seconds since the check began, in whatever process."""
        return time.time() - float(self.header["began"])

    @property
    def counts(self) -> dict[str, int]:
        """Steps by status."""
        statuses = [step["status"] for step in self.steps]
        return {status: statuses.count(status) for status in ("done", "failed", "not run")}

    def plan(self, steps: Sequence[Step]) -> None:
        """List steps as not run, so that the report of a run that is killed names what it left out."""
        known = {(step["section"], step["step"]) for step in self.steps}
        self.steps += [_entry(step, "not run", NOT_REACHED) for step in steps if (step.section, step.name) not in known]
        self.write()

    def put(self, step: Step, entry: dict[str, Any]) -> None:
        """Keep the result of a step."""
        places = [(known["section"], known["step"]) for known in self.steps]
        self.steps[places.index((step.section, step.name))] = entry
        self.write()

    def values(self, section: str, step: str) -> Values:
        """What a step gave; nothing if it did not run."""
        return next((s["values"] for s in self.steps if (s["section"], s["step"]) == (section, step)), {})

    def is_open(self, step: Step) -> bool:
        """Whether a step is still to be run."""
        entry = next(s for s in self.steps if (s["section"], s["step"]) == (step.section, step.name))
        return bool(entry["reason"] == NOT_REACHED)

    def write(self) -> None:
        """Write the file; a reader sees an old one or a new one."""
        content = {**self.header, "seconds": round(self.elapsed, 2), "counts": self.counts, "steps": self.steps}
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
        temporary.replace(self.path)


def run_steps(report: Report, steps: Sequence[Step], budget: float, device: torch.device) -> bool:
    """Run what is still open, printing one line a step.

    Args:
        report: takes every result; lists all steps.
        steps: in order of worth.
        budget: seconds from the beginning of the check.
        device: that the steps use.

    Returns:
        Whether the device still answers: False means that a new process must go on.
    """
    for step in steps:
        if not report.is_open(step):
            continue
        left = budget - report.elapsed
        if left < step.seconds:
            entry = _entry(step, "not run", f"{max(0, left):.0f} s left, it takes about {step.seconds:.0f}")
        else:
            # Were the process to end in it, the file would say where.
            report.put(step, _entry(step, "failed", "the process ended in this step"))
            entry = _run(step)
        report.put(step, entry)
        print(line(entry), flush=True)
        if entry["status"] == "failed" and not _answers(device):
            return False
    return True


def _run(step: Step) -> dict[str, Any]:
    began = time.monotonic()
    try:
        entry = _entry(step, "done", "", step.run())
    except NotHereError as error:
        entry = _entry(step, "not run", str(error))
    except CheckFailedError as error:
        entry = _entry(step, "failed", str(error), error.values)
    except Exception as error:  # noqa: BLE001 (whatever a card answers belongs in the report, and the rest goes on)
        where = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__}: {error}"[:MAX_MESSAGE] + f" ({Path(where.filename).name}:{where.lineno})"
        entry = _entry(step, "failed", message)
    # Tensors that an error held are free only now.
    gc.collect()
    torch.cuda.empty_cache()
    entry["seconds"] = round(time.monotonic() - began, 3)
    return entry


def _entry(step: Step, status: str, reason: str, values: Values | None = None) -> dict[str, Any]:
    return {
        "section": step.section,
        "step": step.name,
        "status": status,
        "reason": reason,
        "seconds": 0.0,
        "values": _finite(values or {}),
    }


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become words."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


def _answers(device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        return False
    return True


def line(entry: Mapping[str, Any]) -> str:
    """One result as a line of the table."""
    head = f"{entry['section']:<11} {entry['step']:<34} {entry['status']:<8}"
    values = ", ".join(f"{name} {_shown(value)}" for name, value in entry["values"].items() if _is_short(value))
    details = [text for text in (entry["reason"], values) if text]
    more = [f"{'':14}{_shown(row)}" for value in entry["values"].values() if not _is_short(value) for row in value]
    return "\n".join([f"{head} {'; '.join(details)}", *more])


def _is_short(value: object) -> bool:
    return not (isinstance(value, list) and value and isinstance(value[0], dict))


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return " to ".join(map(_shown, value))
    return str(value)
