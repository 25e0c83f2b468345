"""Benchmarks are programs beside each other in a folder, which finds its own modules when one of them is started."""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"

sys.path.insert(0, str(FOLDER))
