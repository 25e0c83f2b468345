"""The account of a catalogue: how many records end how, and when that says that all of them are wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from enformer_ray.catalogue import assembly
from enformer_ray.catalogue.chain import Chain
from enformer_ray.catalogue.load import LoadedPart
from enformer_ray.catalogue.normalise import REASONS
from enformer_ray.errors import EmptyCatalogueError, UnknownContigError
from enformer_ray.genome.contig_bases import ContigBases
from enformer_ray.genome.reference import ReferenceGenome

Counts = dict[tuple[str, str | None], int]
Changes = dict[str, Counter[str]]

CHANGES = ("harmonisation", "lifted")
"""Columns of the input records that say how their alleles and coordinates were found."""

UNKNOWN_CONTIG_SHARE = 0.9
_EXAMPLES = 3
_NOT_COMPARED = frozenset(REASONS) - {"reference_mismatch", "allele_too_long"}
_NOT_COMPARED_CODES = np.array([code for code, reason in enumerate(REASONS) if reason in _NOT_COMPARED], dtype=np.int8)


@dataclass
class FileTally:
    """What became of the records of one file in normalisation.

    `codes` counts how records were harmonised whose reference allele the file does not say.
    """

    path: Path
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    mismatches: list[tuple[int, str]] = field(default_factory=list)

    def add(self, reasons: NDArray[np.int8]) -> None:
        """Count the records of a batch."""
        counts = np.bincount(reasons.astype(np.int64) + 1, minlength=len(REASONS) + 1).tolist()
        self.accepted += counts[0]
        self.rejected.update({reason: n for reason, n in zip(REASONS, counts[1:], strict=True) if n})

    def add_codes(self, codes: pa.Array, reasons: NDArray[np.int8]) -> None:
        """Count how the records of a batch were harmonised whose alleles were compared with the FASTA."""
        if codes.null_count < len(codes):
            compared = pa.array(~np.isin(reasons, _NOT_COMPARED_CODES))
            for count in codes.filter(compared).drop_null().value_counts().to_pylist():
                self.codes[count["values"]] += count["counts"]

    def keep_examples(self, batch: pa.RecordBatch, rows: NDArray[np.int64], bases: ContigBases) -> None:
        """Keep the first records of the file, by number, whose reference allele is not the FASTA's."""
        names = ["record", "chromosome", "position", "reference_allele"]
        for row in batch.select(names).take(pa.array(rows[:_EXAMPLES])).to_pylist():
            record, contig, position, allele = (row[name] for name in names)
            there = bases.bases(bases.name, position - 1, position - 1 + len(allele))
            text = f"record {record} ({contig}:{position}) has REF {_shorten(allele.upper())} where the FASTA has "
            self.mismatches.append((record, text + _shorten(there)))
        self.mismatches = sorted(self.mismatches)[:_EXAMPLES]

    @property
    def compared(self) -> int:
        """Records whose reference allele was compared with the FASTA."""
        return self.accepted + sum(n for reason, n in self.rejected.items() if reason not in _NOT_COMPARED)


def check_assembly(
    tally: FileTally,
    reference: ReferenceGenome,
    max_ref_mismatch: float,
    header: Mapping[str, int] | None = None,
    chain: Chain | None = None,
) -> None:
    """Stop when too many reference alleles of a file differ from the FASTA, or its contig lengths do.

    Args:
        tally: of the file.
        reference: the FASTA.
        max_ref_mismatch: share of mismatches among the compared records above which the plan stops.
        header: contig lengths that the file states (`assembly.header_lengths`).
        chain: that the file was lifted by.

    Raises:
        AssemblyMismatchError: with the evidence.
    """
    examples = [text for _, text in tally.mismatches]
    agreement = (
        assembly.agreement_of_codes(tally.codes, examples)
        if tally.codes
        else assembly.Agreement(tally.compared, tally.rejected["reference_mismatch"], examples)
    )
    assembly.check_assembly(tally.path, agreement, reference, max_ref_mismatch, header, chain)


def check_contigs(loaded: Sequence[LoadedPart], files: Sequence[str], total: int, reference: ReferenceGenome) -> None:
    """Stop when hardly any record lies on a contig that the FASTA has.

    Raises:
        UnknownContigError: more than nine in ten records do not.
    """
    contigs = sum((part.unknown for part in loaded), Counter())
    unknown = contigs.total()
    if unknown <= UNKNOWN_CONTIG_SHARE * total:
        return
    names = _some(list(dict.fromkeys(files[part.part.file] for part in loaded if part.unknown)))
    raise UnknownContigError(
        f"{unknown:,} of {total:,} records lie on contigs that {reference.path} does not have. Unknown contigs in "
        f"{names}: {_some([name for name, _ in contigs.most_common()])}; the FASTA has "
        f"{_some(reference.chromosomes)} (with or without chr). If they are the same contigs by other names, give a "
        "table of contig aliases (--contig-aliases); if the FASTA is meant to hold only a few contigs, cut the "
        "variants down to them, for example with `bcftools view --targets`."
    )


def check_not_empty(counts: Counts, planned: int, paths: Sequence[Path]) -> None:
    """Stop when nothing is left to score.

    Raises:
        EmptyCatalogueError: with the account.
    """
    files = _some([str(path) for path in paths])
    if not counts:
        raise EmptyCatalogueError(
            f"there is no record in {files}: only a header or blank lines. Check that the file was written to its end."
        )
    if not planned:
        raise EmptyCatalogueError(
            f"nothing is left to score of {files}: {describe(counts)}. Correct the records, or the options that decide "
            "(--max-allele-length, --max-unknown)."
        )


def describe(counts: Mapping[tuple[str, str | None], int]) -> str:
    """The account in words: `1,329 records: 1,300 planned, 29 rejected (29 reference_mismatch: ...)`."""
    by_status: Counter[str] = Counter()
    for (status, _), number in counts.items():
        by_status[status] += number
    statuses = ", ".join(f"{by_status[s]:,} {s}" for s in ("planned", "duplicate", "rejected") if by_status[s])
    reasons = sorted(((n, r) for (_, r), n in counts.items() if r is not None), reverse=True)
    why = "; ".join(f"{number:,} {reason}: {REASONS[reason]}" for number, reason in reasons)
    return f"{by_status.total():,} records: {statuses}" + (f" ({why})" if why else "")


def count_ends(written: pa.RecordBatch, counts: Counts) -> None:
    """Count input records by status and reason."""
    ends = pa.table({"status": written["status"], "reason": written["reason"]})
    for row in ends.group_by(["status", "reason"]).aggregate([([], "count_all")]).to_pylist():
        key = (row["status"], row["reason"])
        counts[key] = counts.get(key, 0) + row["count_all"]


def count_changes(written: pa.RecordBatch, changes: Changes) -> None:
    """Count input records by each of the columns `CHANGES`, those that are not null."""
    for name in CHANGES:
        column = written.column(name)
        if column.null_count < len(column):
            for count in column.drop_null().value_counts().to_pylist():
                changes.setdefault(name, Counter())[count["values"]] += count["counts"]


def _some(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _shorten(allele: str) -> str:
    return allele if len(allele) <= 20 else f"{allele[:20]}... ({len(allele)} bp)"
