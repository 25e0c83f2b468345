"""The account of a catalogue: how many records end how, and when that says that all of them are wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from enformer_ray.errors import EmptyCatalogueError, UnknownContigError
from enformer_ray.genome import ReferenceGenome
from enformer_ray.variants import assembly
from enformer_ray.variants.chain import Chain
from enformer_ray.variants.normalise import REASONS
from enformer_ray.variants.readers.record import InputRecord

Counts = dict[tuple[str, str | None], int]

UNKNOWN_CONTIG_SHARE = 0.9
_EXAMPLES = 3
_NOT_COMPARED = frozenset(REASONS) - {"reference_mismatch", "allele_too_long"}


@dataclass
class FileTally:
    """What became of the records of one file in the first pass."""

    path: Path
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    unknown_contigs: Counter[str] = field(default_factory=Counter)
    mismatches: list[str] = field(default_factory=list)

    def reject(self, record: InputRecord, reason: str, reference: ReferenceGenome) -> None:
        """Count a rejected record and keep the first examples of what may concern them all."""
        self.rejected[reason] += 1
        if reason == "unknown_contig":
            self.unknown_contigs[record.chromosome] += 1
        if reason == "reference_mismatch" and len(self.mismatches) < _EXAMPLES:
            chromosome, allele = reference.resolve(record.chromosome), record.reference_allele
            start = record.position - 1
            there = reference.bases(chromosome, start, start + len(allele))
            self.mismatches.append(
                f"record {record.record} ({record.chromosome}:{record.position}) has REF {_shorten(allele)} where the "
                f"FASTA has {_shorten(there)}"
            )

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
    agreement = assembly.Agreement(tally.compared, tally.rejected["reference_mismatch"], tally.mismatches)
    assembly.check_assembly(tally.path, agreement, reference, max_ref_mismatch, header, chain)


def check_contigs(tallies: Sequence[FileTally], total: int, reference: ReferenceGenome) -> None:
    """Stop when hardly any record lies on a contig that the FASTA has.

    Raises:
        UnknownContigError: more than nine in ten records do not.
    """
    contigs = sum((tally.unknown_contigs for tally in tallies), Counter())
    unknown = contigs.total()
    if unknown <= UNKNOWN_CONTIG_SHARE * total:
        return
    files = _some([str(tally.path) for tally in tallies if tally.unknown_contigs])
    raise UnknownContigError(
        f"{unknown:,} of {total:,} records lie on contigs that {reference.path} does not have. Unknown contigs in "
        f"{files}: {_some([name for name, _ in contigs.most_common()])}; the FASTA has "
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


def _some(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _shorten(allele: str) -> str:
    return allele if len(allele) <= 20 else f"{allele[:20]}... ({len(allele)} bp)"
