"""run.json: what was asked, and everything that produced the numbers."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Sequence
from typing import Any

import enformer_ray
from enformer_ray.errors import DatasetCorruptError
from enformer_ray.plan.plan import Plan
from enformer_ray.publish.audit import AuditReport
from enformer_ray.publish.totals import FailedVariant, RunTotals
from enformer_ray.rundir import layout
from enformer_ray.rundir.account import AccountLine
from enformer_ray.rundir.store import RunStore

_PACKAGES = ("torch", "ray", "pyarrow", "numpy", "duckdb")


def run_document(plan: Plan, totals: RunTotals, account: Sequence[AccountLine], audit: AuditReport) -> dict[str, Any]:
    """The content of run.json."""
    reuse = plan.document.reuse
    return {
        "format_version": plan.document.format_version,
        "fingerprint": plan.document.fingerprint,
        "parts": plan.document.parts,
        "config": plan.document.config.model_dump(mode="json"),
        "planned": plan.document.created,
        "versions": {
            "enformer_ray": enformer_ray.__version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        "devices": sorted(totals.devices),
        "hosts": sorted(totals.hosts),
        "workers": len(totals.workers),
        "seconds": round(totals.seconds["score"], 3),
        "timings": {step: round(seconds, 3) for step, seconds in totals.seconds.items()},
        "bisected_shards": totals.bisected,
        "indel_conventions": dict(sorted(totals.conventions.items())),
        "account": [line.model_dump() for line in account],
        "changes": {name: dict(counts) for name, counts in plan.document.changes.items()},
        "reuse": reuse.model_dump(mode="json") if reuse is not None else None,
        "audit": audit.model_dump(mode="json"),
        "failed": totals.failed,
        "failures": [failure.model_dump() for failure in totals.failures],
    }


def read_failures(store: RunStore) -> list[FailedVariant]:
    """The first failed variants of a finished run.

    Raises:
        DatasetCorruptError: its run.json does not list them.
    """
    try:
        listed = json.loads(store.read_bytes(layout.RUN))["failures"]
        return [FailedVariant.model_validate(failure) for failure in listed]
    except (KeyError, ValueError):
        raise DatasetCorruptError(
            f"{store.uri}/{layout.RUN} lists no failures in the way of this version of enformer-ray; "
            f"{layout.VARIANTS} has them with the status `failed`."
        ) from None
