"""Data of the page's plots, as JSON values; the page's script draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from enformer_ray.analysis import colours
from enformer_ray.analysis.chosen_tracks import labels
from enformer_ray.analysis.distributions import Distribution
from enformer_ray.analysis.genes import Gene
from enformer_ray.analysis.genome_axis import genome_axis
from enformer_ray.analysis.profiles import Profile
from enformer_ray.analysis.report.embed import rounded, shortened
from enformer_ray.analysis.report.timeline import Timeline
from enformer_ray.analysis.sweep import Swept

SHOWN_GENES = 40
"""Genes of one profile at most; protein-coding ones come first."""

_ID = 60


def height_label(swept: Swept) -> str:
    """What the y axis of the Manhattan plot is."""
    return "-log10 p" if swept.study.has_p else f"|{swept.statistic}|"


def manhattan(swept: Swept) -> dict[str, Any]:
    """Points column by column, in genome order."""
    points = swept.points
    stretches, numbers, x = genome_axis(points)
    score = points.column("score").to_numpy()
    breaks = colours.limits(np.abs(score))
    top = set(swept.top.column("variant").to_pylist())
    shown = [shortened(label) for label in labels(swept.tracks)]
    used, track = np.unique(points.column("track").to_numpy(), return_inverse=True)
    return {
        "stretches": [asdict(stretch) for stretch in stretches],
        "stretch": numbers.tolist(),
        "x": x.tolist(),
        "y": [rounded(value) for value in points.column("height").to_pylist()],
        "score": [rounded(value, 4) for value in score.tolist()],
        "class": colours.classes(score, breaks).tolist(),
        "track": track.tolist(),
        "tracks": [shown[number] for number in used.tolist()],
        "id": [shortened(name, _ID) for name in points.column("variant_id").to_pylist()],
        "source": [shortened(name, _ID) for name in points.column("source_id").to_pylist()],
        "top": [i for i, variant in enumerate(points.column("variant").to_pylist()) if variant in top],
        "limits": breaks,
        "colours": list(colours.CLASSES),
        "height": height_label(swept),
        "statistic": swept.statistic,
    }


def distribution(found: Distribution) -> dict[str, Any]:
    """One histogram."""
    return {
        "assay": found.assay,
        "edges": found.edges,
        "up": found.up,
        "down": found.down,
        "floor": None if not found.floor else float(np.log10(found.floor)),
    }


def timeline(found: Timeline) -> dict[str, Any]:
    """Bars of workers and the curve of throughput."""
    return {
        "workers": [shortened(name) for name in found.workers],
        "bars": [(bar[0], round(bar[1], 3), round(bar[2], 3), *bar[3:]) for bar in found.bars],
        "seconds": found.seconds,
        "rates": found.rates,
    }


def profile(found: Profile, label: str, names: Sequence[str], genes: Sequence[Gene] | None) -> dict[str, Any]:
    """Reference and alternate tracks around one variant, and genes there."""
    shown = sorted(genes or (), key=lambda gene: (gene.kind != "protein_coding", gene.start))[:SHOWN_GENES]
    return {
        "label": shortened(label),
        "start": found.start,
        "bin": found.bin,
        "variant": found.variant.position,
        "chromosome": shortened(found.variant.chromosome, 40),
        "tracks": [
            {
                "name": shortened(name),
                "reference": [rounded(v) for v in found.reference[:, i].tolist()],
                "alternate": [rounded(v) for v in found.alternate[:, i].tolist()],
                "difference": [rounded(v, 4) for v in (found.alternate - found.reference)[:, i].tolist()],
            }
            for i, name in enumerate(names)
        ],
        "genes": [
            {
                "name": shortened(gene.name, 40),
                "strand": gene.strand,
                "start": gene.start,
                "end": gene.end,
                "exons": gene.exons,
            }
            for gene in sorted(shown, key=lambda gene: gene.start)
        ],
    }
