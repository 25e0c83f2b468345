"""Scores as files that other programs read; docs/exports.md has the layouts and their sources."""

from enformer_ray.analysis.exports.ld import AnnotationOptions, export_ldsc, export_polyfun, export_sldp
from enformer_ray.analysis.exports.regenie import GeneSet, export_regenie, read_bed, read_gtf
from enformer_ray.analysis.exports.source import ExportSource, ExportSummary
from enformer_ray.analysis.exports.text import export_tsv
from enformer_ray.analysis.exports.vcf import export_vcf

__all__ = [
    "AnnotationOptions",
    "ExportSource",
    "ExportSummary",
    "GeneSet",
    "export_ldsc",
    "export_polyfun",
    "export_regenie",
    "export_sldp",
    "export_tsv",
    "export_vcf",
    "read_bed",
    "read_gtf",
]
