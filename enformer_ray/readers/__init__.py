"""Readers of variant files: VCF, BCF, GWAS-VCF, Parquet, and text tables in the dialects of many programs."""
