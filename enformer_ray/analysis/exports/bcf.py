"""The same for BCF, record by record by htslib."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pysam

from enformer_ray.analysis.exports.fields import InfoField, VcfCounts, differs
from enformer_ray.analysis.exports.records import MISSING, RecordScores
from enformer_ray.errors import ExportError
from enformer_ray.variants.readers.bcf import quiet_htslib

_MODES = {".bcf": "wb", ".vcf": "w", ".gz": "wz", ".bgz": "wz"}


def write_bcf(
    path: Path, records: Iterator[RecordScores], fields: list[InfoField], written: Path, counts: VcfCounts
) -> None:
    """Write a BCF again with scores in INFO, as BCF or VCF.

    Args:
        path: the BCF.
        records: scores of its records, in order.
        fields: of the tracks.
        written: what is written: .bcf, .vcf or .vcf.gz.
        counts: records are counted there.

    Raises:
        ExportError: it is not the file that was scored, has fields of these names, or cannot be read.
    """
    try:
        with quiet_htslib(), pysam.VariantFile(str(path)) as source:
            for field in fields:
                if field.name in source.header.info:
                    raise ExportError(f"{path} declares the INFO field {field.name} already; give another --prefix.")
                source.header.add_line(field.declaration)
            with pysam.VariantFile(str(written), _MODES[written.suffix], header=source.header) as target:
                for site in source:
                    _annotate(site, next(records, None), fields, path, counts)
                    target.write(site)
    except (OSError, ValueError) as error:
        if isinstance(error, ExportError):
            raise
        raise ExportError(f"the BCF {path} cannot be annotated behind record {counts.records}: {error}.") from None
    if (left := next(records, None)) is not None:
        raise ExportError(f"{path} ends before record {left.record}, which the run has read: it is another file.")


def _annotate(
    site: pysam.VariantRecord, known: RecordScores | None, fields: list[InfoField], path: Path, counts: VcfCounts
) -> None:
    alternates = tuple(site.alts or ())
    if known is None or differs(
        known, site.chrom, site.pos, site.ref or "", () if alternates == (".",) else alternates
    ):
        raise ExportError(
            f"{path}, record {counts.records + 1}: not the one that the run has read; --input names the file that was "
            "scored."
        )
    counts.add(site.chrom, site.pos, known.scores is not None)
    if known.scores is not None:
        for field, values in zip(fields, known.scores, strict=True):
            site.info[field.name] = [None if value == MISSING else float(value) for value in values]
