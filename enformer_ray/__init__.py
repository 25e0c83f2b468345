"""enformer-ray: ref-vs-alt effect scores of genetic variants with Enformer, as a batch job on Ray."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enformer_ray.api import (
        FinishedRun,
        finalise,
        plan,
        preview,
        releases,
        reprocess,
        run,
        saturate,
        score,
        score_genes,
        status,
        verify,
    )
    from enformer_ray.config import JobConfig
    from enformer_ray.dataset.dataset import open_scores
    from enformer_ray.model.hub import load_enformer

else:
    # Looked up when they are used: reading finished scores should not wait for torch, nor a worker for all of this.
    _MODULES = {
        "FinishedRun": "api",
        "JobConfig": "config",
        "finalise": "api",
        "load_enformer": "model.hub",
        "open_scores": "dataset.dataset",
        "plan": "api",
        "preview": "api",
        "releases": "api",
        "reprocess": "api",
        "run": "api",
        "saturate": "api",
        "score": "api",
        "score_genes": "api",
        "status": "api",
        "verify": "api",
    }

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


__version__ = "0.1.0"

__all__ = [
    "FinishedRun",
    "JobConfig",
    "__version__",
    "finalise",
    "load_enformer",
    "open_scores",
    "plan",
    "preview",
    "releases",
    "reprocess",
    "run",
    "saturate",
    "score",
    "score_genes",
    "status",
    "verify",
]
