"""Scores as files that other programs read; docs/exports.md has the layouts and their sources."""

from enformer_ray.analysis.exports.annotation import AnnotationOptions
from enformer_ray.analysis.exports.gene_sets import GeneSet, read_bed, read_gtf
from enformer_ray.analysis.exports.ldsc import export_ldsc
from enformer_ray.analysis.exports.polyfun import export_polyfun
from enformer_ray.analysis.exports.regenie import export_regenie
from enformer_ray.analysis.exports.sldp import export_sldp
from enformer_ray.analysis.exports.source import ExportSource
from enformer_ray.analysis.exports.summary import ExportSummary
from enformer_ray.analysis.exports.tsv import export_tsv
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
