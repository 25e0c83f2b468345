"""Tables of the page: what was asked, what produced it, what became of it. The template escapes every cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from enformer_ray.analysis.genes import Gene
from enformer_ray.analysis.plots import style
from enformer_ray.analysis.plots.style import genome_axis
from enformer_ray.analysis.profiles import Profile, nearest_genes, top_variants
from enformer_ray.analysis.report.embed import rounded, shortened
from enformer_ray.analysis.report.timeline import Timeline
from enformer_ray.analysis.sweep import Distribution, Swept
from enformer_ray.catalogue.variant import Variant
from enformer_ray.dataset.tracks import labels

Rows = list[tuple[str, str]]

_LONG = 300
_DIGESTS = ("weights", "reference", "catalogue")


def asked(run: Mapping[str, Any]) -> Rows:
    """The job, an option a row; options that were left at their default and are empty are left out."""
    config = dict(run["config"])
    rows: Rows = []
    for room in ("", "scoring", "catalogue", "genes"):
        own = {name: value for name, value in config.items() if not isinstance(value, dict)}
        options = (config.pop(room, None) or {}) if room else own
        rows += [(f"{room}.{name}".lstrip("."), _in_words(value)) for name, value in options.items() if _is_said(value)]
    return rows


def produced(run: Mapping[str, Any], swept: Swept) -> Rows:
    """Versions, digests, devices."""
    manifest = swept.run.manifest
    rows = [(name.replace("_", "-"), str(version)) for name, version in run["versions"].items()]
    rows += [("devices", _in_words(run["devices"])), ("hosts", _in_words(run["hosts"]))]
    rows += [("planned", str(run["planned"])), ("finished", manifest.created)]
    rows += [(f"digest of {name}", str(run["parts"][name])) for name in _DIGESTS if name in run["parts"]]
    rows += [("fingerprint", str(run["fingerprint"])), ("content hash", manifest.content_hash)]
    earlier = (run.get("reuse") or {}).get("runs", ())
    rows += [(f"rows taken from {one['uri']}", f"{one['reused']:,}") for one in earlier]
    return [(name, shortened(value, _LONG)) for name, value in rows]


def account(swept: Swept) -> list[dict[str, Any]]:
    """Input alleles by status and reason, with their share."""
    lines = swept.run.manifest.account
    alleles = sum(line.alleles for line in lines)
    return [
        {
            "status": line.status,
            "reason": (line.reason or "").replace("_", " "),
            "alleles": line.alleles,
            "share": line.alleles / alleles if alleles else 0,
        }
        for line in lines
    ]


def changes(run: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """How alleles were harmonised and lifted."""
    return [
        (name, way.replace("_", " "), number)
        for name, counts in run.get("changes", {}).items()
        for way, number in sorted(counts.items(), key=lambda item: -item[1])
    ]


def top(swept: Swept, gtf: Path | None) -> list[dict[str, Any]]:
    """The variants with the largest scores."""
    names = labels(swept.tracks)
    variants = top_variants(swept)
    genes = nearest_genes(variants, gtf) if gtf is not None and not has_genes(swept) else [None] * len(variants)
    return [
        {
            "variant": variant_label(variant),
            "source": shortened(row["source_id"]),
            "indel": row["indel_convention"],
            "track": shortened(names[row["track"]], 120),
            "score": f"{row['score']:.4g}",
            "p": "" if not swept.study.has_p or row["height"] != row["height"] else _p_value(row["height"]),
            "gene": _own_gene(row) if gene is None else f"{shortened(gene[0].name, 40)} ({gene[1]:,} bp)",
        }
        for row, variant, gene in zip(swept.top.to_pylist(), variants, genes, strict=True)
    ]


def has_genes(swept: Swept) -> bool:
    """Whether the scores are those of genes, which rows name themselves."""
    return swept.run.manifest.genes is not None


def _own_gene(row: Mapping[str, Any]) -> str:
    """Gene of a row of gene scores, and how far from its start the variant is; empty in others."""
    return f"{shortened(row['gene_name'], 40)} ({row['tss_distance']:+,} bp)" if "gene_name" in row else ""


def variant_label(variant: Variant) -> str:
    """A variant as it is written for people; long alleles are cut."""
    alleles = f"{shortened(variant.reference_allele, 30)}>{shortened(variant.alternate_allele, 30)}"
    return f"{shortened(variant.chromosome, 40)}:{variant.position:,} {alleles}"


def _p_value(minus_log10: float) -> str:
    """A p-value from its logarithm, also where it is too small for a float."""
    exponent = int(-(-minus_log10 // 1))
    mantissa = 10 ** (exponent - minus_log10)
    if mantissa >= 9.95:
        mantissa, exponent = mantissa / 10, exponent - 1
    return f"{10**-minus_log10:.3g}" if exponent <= 3 else f"{mantissa:.1f}e-{exponent}"


def _is_said(value: Any) -> bool:
    return value is not None and value not in ([], {}, "")


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return shortened("; ".join(f"{key}: {item}" for key, item in value.items()), _LONG)
    if isinstance(value, list | tuple):
        more = f" and {len(value) - 8:,} more" if len(value) > 8 else ""
        return ", ".join(shortened(str(item), _LONG) for item in value[:8]) + more
    return shortened(str(value), _LONG)


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
    breaks = style.limits(np.abs(score))
    top = set(swept.top.column("variant").to_pylist())
    shown = [shortened(label) for label in labels(swept.tracks)]
    used, track = np.unique(points.column("track").to_numpy(), return_inverse=True)
    return {
        "stretches": [asdict(stretch) for stretch in stretches],
        "stretch": numbers.tolist(),
        "x": x.tolist(),
        "y": [rounded(value) for value in points.column("height").to_pylist()],
        "score": [rounded(value, 4) for value in score.tolist()],
        "class": style.classes(score, breaks).tolist(),
        "track": track.tolist(),
        "tracks": [shown[number] for number in used.tolist()],
        "id": [shortened(name, _ID) for name in points.column("variant_id").to_pylist()],
        "source": [shortened(name, _ID) for name in points.column("source_id").to_pylist()],
        "top": [i for i, variant in enumerate(points.column("variant").to_pylist()) if variant in top],
        "limits": breaks,
        "colours": list(style.CLASSES),
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
