"""The archive of old runs: where it is, how it is unpacked, and on what machine its scores were computed."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

FOLDER = Path(__file__).parent
ARCHIVE = FOLDER / "old_runs.tar.xz"
EXPECTED = FOLDER / "expected.json"

EARLIER_NAMES = FOLDER / "earlier_names.tar.xz"
"""Two more jobs and their runs, which `make_earlier_names.py` made."""

PLACE = "/tmp/old-runs"
"""Where the runs were made: plans hold absolute paths, since workers elsewhere start in another folder."""


def unpack(folder: Path, *more: Path) -> Path:
    """Unpack the archive and others, and let their plans name their inputs and previous runs at their new place.

    plan.json is no part of a finished dataset, and paths are no part of a fingerprint.
    """
    # The first releases of Python 3.11 have no filters, and later ones warn without: the archive is our own either way.
    filtered: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    for path in (ARCHIVE, *more):
        with tarfile.open(path) as archive:
            archive.extractall(folder, **filtered)
    plans = list(folder.glob("runs/*/plan/plan.json"))
    assert plans
    for plan in plans:
        plan.write_text(plan.read_text().replace(f'"{PLACE}/', f'"{folder}/'))
    return folder


def machine() -> dict[str, Any]:
    """What decides on the last bits of a score: the processor, and what computes on it."""
    fields = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines())
    processor = {name.strip(): value.strip() for name, value in fields.items()}
    kept = ("vendor_id", "cpu family", "model", "model name", "stepping")
    return {
        **{name: processor.get(name) for name in kept},
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
