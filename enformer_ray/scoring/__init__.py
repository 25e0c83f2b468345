"""Ref against alt: effect scores of variants from a loaded model. No Ray in here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enformer_ray.scoring.edits import convention
    from enformer_ray.scoring.genes import DirectGeneScorer, GeneScorer
    from enformer_ray.scoring.scorer import DirectScorer, VariantScorer

else:
    # Looked up when they are used, as in model/: the columns of score files are asked for without torch.
    _HOMES = {
        "DirectGeneScorer": "gene_scorer",
        "DirectScorer": "direct",
        "GeneScorer": "gene_scorer",
        "VariantScorer": "scorer",
        "convention": "indels",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


SCORER_VERSION = 2
"""Raised whenever a change of this program changes a score; part of a plan's fingerprint."""

__all__ = ["SCORER_VERSION", "DirectGeneScorer", "DirectScorer", "GeneScorer", "VariantScorer", "convention"]
