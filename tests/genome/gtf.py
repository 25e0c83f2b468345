"""Writing small GTF files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Written(NamedTuple):
    """A gene with its transcripts, as (first, last) 1-based positions."""

    chromosome: str
    gene_id: str
    strand: str
    transcripts: Sequence[tuple[int, int]]
    name: str = ""
    kind: str = "protein_coding"


def write_gtf(path: Path, genes: Sequence[Written], feature: str = "transcript") -> Path:
    """Genes with a line `gene` each, and one for each transcript with the feature."""
    lines = ["##description: small"]
    for gene in genes:
        said = f'gene_id "{gene.gene_id}"; gene_type "{gene.kind}";'
        said += f' gene_name "{gene.name}";' if gene.name else ""
        extent = (min(first for first, _ in gene.transcripts), max(last for _, last in gene.transcripts))
        rows = [("gene", *extent, said)]
        rows += [
            (feature, first, last, f'{said} transcript_id "{gene.gene_id}.{i}";')
            for i, (first, last) in enumerate(gene.transcripts)
        ]
        lines += [
            f"chr{gene.chromosome}\ttest\t{name}\t{first}\t{last}\t.\t{gene.strand}\t.\t{text}"
            for name, first, last, text in rows
        ]
    path.write_text("\n".join(lines) + "\n")
    return path
