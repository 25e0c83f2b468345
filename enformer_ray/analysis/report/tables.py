"""Tables of the page: what was asked, what produced it, what became of it. The template escapes every cell."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from enformer_ray.analysis.chosen_tracks import labels
from enformer_ray.analysis.report.embed import shortened
from enformer_ray.analysis.sweep import Swept
from enformer_ray.analysis.top_profiles import nearest_genes, top_variants
from enformer_ray.catalogue.variant import Variant

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
