"""Checks and counts of a catalogue: files and FASTA of the same assembly, known contigs, variants left to score.

The assembly is judged by reference alleles and by contig lengths. Lengths decide only where they are those of a whole
human chromosome: a FASTA that is cut down to a region has lengths of no assembly.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.catalogue.chain import Chain
from enformer_ray.catalogue.files import LoadedPart
from enformer_ray.catalogue.normalise import REASONS
from enformer_ray.errors import CatalogueError, UnknownContigError, shortened
from enformer_ray.genome.contig import ContigBases
from enformer_ray.genome.coordinates import canonical_name
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.readers.bcf import bcf_header, is_bcf
from enformer_ray.readers.text import open_text, read_head
from enformer_ray.readers.vcf import is_vcf

Counts = Counter[tuple[str, str | None]]
"""Input alleles by status and reason."""

Changes = dict[str, Counter[str]]

CHANGES = ("harmonisation", "lifted")
"""Columns of the input records on how their alleles and coordinates were found."""

MIN_MISMATCHES = 5
"""Fewer mismatches stop no plan, unless no record of the file matches: one bad record of three is no other assembly."""

MIN_ALLELES = 20
"""Where at least so many alleles were compared and agree, a header that names another assembly is out of date."""

MAX_UNKNOWN_CONTIG_SHARE = 0.9
"""Share of records on contigs that the FASTA does not have, above which no plan is made."""

_EXAMPLES = 3
_MISMATCHES = ("reference_mismatch", "alternate_is_new_reference")
_NOT_COMPARED = frozenset(REASONS) - {*_MISMATCHES, "allele_too_long"}
_NOT_COMPARED_CODES = np.array([code for code, reason in enumerate(REASONS) if reason in _NOT_COMPARED], dtype=np.int8)
_CODES = ("forward", "swapped", "flipped", "flipped_swapped", "palindromic", "indel_ambiguous", "unmatched")

_CHROMOSOMES = (*map(str, range(1, 23)), "X", "Y")
# fmt: off
_LENGTHS = {
    "GRCh37": (
        249250621, 243199373, 198022430, 191154276, 180915260, 171115067, 159138663, 146364022, 141213431, 135534747,
        135006516, 133851895, 115169878, 107349540, 102531392, 90354753, 81195210, 78077248, 59128983, 63025520,
        48129895, 51304566, 155270560, 59373566,
    ),
    "GRCh38": (
        248956422, 242193529, 198295559, 190214555, 181538259, 170805979, 159345973, 145138636, 138394717, 133797422,
        135086622, 133275309, 114364328, 107043718, 101991189, 90338345, 83257441, 80373285, 58617616, 64444167,
        46709983, 50818468, 156040895, 57227415,
    ),
    "T2T-CHM13": (
        248387328, 242696752, 201105948, 193574945, 182045439, 172126628, 160567428, 146259331, 150617247, 134758134,
        135127769, 133324548, 113566686, 101161492, 99753195, 96330374, 84276897, 80542538, 61707364, 66210255,
        45090682, 51324926, 154259566, 62460029,
    ),
}
# fmt: on
ASSEMBLIES = {name: dict(zip(_CHROMOSOMES, lengths, strict=True)) for name, lengths in _LENGTHS.items()}
"""Lengths (bp) of the primary chromosomes, by canonical name; the mitochondrion distinguishes none."""

_CONTIG_LINE = re.compile(r"##contig=<(?:.*[,<])?ID=(?P<name>[^,>]+)")
_LENGTH = re.compile(r"[,<]length=(?P<length>[0-9]{1,12})[,>]")


@dataclass(frozen=True)
class Agreement:
    """How the alleles of a file agree with the FASTA.

    Attributes:
        compared: number of alleles (records, where the reference allele is not known) that could be compared.
        wrong: number of those that are not what the FASTA has.
        examples: descriptions of a few wrong ones.
        harmonised: the file does not say which allele is the reference, so `wrong` counts records of which neither
            allele is what the FASTA has.
    """

    compared: int
    wrong: int
    examples: Sequence[str] = ()
    harmonised: bool = False

    def exceeds(self, share: float) -> bool:
        """Whether more than this share is wrong, and at least `MIN_MISMATCHES` or all of them are."""
        return self.wrong > share * self.compared and self.wrong >= min(MIN_MISMATCHES, self.compared)


def agreement_of_codes(codes: Mapping[str, int], examples: Sequence[str] = ()) -> Agreement:
    """Agreement of summary statistics, from the number of records by harmonisation code.

    Of A/G or C/T some allele matches any base on one strand or the other, so a record which matches only when
    complemented (`flipped`) is evidence against the assembly, too. But a file may have mixed strands. Then palindromic
    SNPs and indels, which are the same on both, match nevertheless; at wrong positions about half of them do not.
    """
    counts = {code: codes.get(code, 0) for code in _CODES}
    unmatched = counts["unmatched"]
    strandless = counts["palindromic"] + counts["indel_ambiguous"] + unmatched
    mixed_strands = strandless >= MIN_ALLELES and 4 * unmatched < strandless
    wrong = unmatched if mixed_strands else unmatched + counts["flipped"] + counts["flipped_swapped"]
    return Agreement(sum(counts.values()), wrong, examples, harmonised=True)


def name_assembly(lengths: Mapping[str, int]) -> str | None:
    """The human assembly that has one of these contig lengths (by any name); None where none or several have."""
    canonical = {canonical_name(name): length for name, length in lengths.items()}
    named = [name for name, known in ASSEMBLIES.items() if known.items() & canonical.items()]
    return named[0] if len(named) == 1 else None


def header_lengths(path: Path) -> dict[str, int]:
    """Contig lengths that the header of a VCF or BCF states; empty for other files and for folders."""
    if path.is_dir():
        return {}
    head = read_head(path)
    if is_bcf(head):
        return contig_lengths(bcf_header(path).splitlines())
    if not is_vcf(head):
        return {}
    with open_text(path) as text:
        lines = (line for _, line in iter(text.line, None))
        return contig_lengths(takewhile(lambda line: line.startswith("##"), lines))


def contig_lengths(lines: Iterable[str]) -> dict[str, int]:
    """Contig lengths that the header lines of a VCF state, `##contig=<ID=chr1,length=248956422>`."""
    found = ((_CONTIG_LINE.match(line), _LENGTH.search(line)) for line in lines)
    return {str(name["name"]): int(length["length"]) for name, length in found if name and length}


def check_assembly(
    path: Path,
    agreement: Agreement,
    reference: ReferenceGenome,
    max_ref_mismatch: float,
    header: Mapping[str, int] | None = None,
    chain: Chain | None = None,
) -> None:
    """Raise CatalogueError, with the evidence, when a file is of another assembly than the FASTA.

    It is when more than `max_ref_mismatch` of its alleles disagree (after lifting by `chain`, if any); or when contig
    lengths (`header`: those that the file states) are of different assemblies, and too few alleles show the contrary.
    """
    statements, contradiction = _length_evidence(path, header or {}, reference, chain)
    too_many = agreement.exceeds(max_ref_mismatch)
    if not too_many and not (contradiction and agreement.compared < MIN_ALLELES):
        return
    what = "records in" if agreement.harmonised else "reference alleles in"
    are = "have neither allele as" if agreement.harmonised else "are not what"
    share = f" ({agreement.wrong / agreement.compared:.1%})" if agreement.compared else ""
    evidence = f"{agreement.wrong:,} of {agreement.compared:,} {what} {path}{share}"
    if chain:
        evidence += f", after lifting by {chain.path},"
    evidence += f" {are} {reference.path} has {'it' if agreement.harmonised else 'at their positions'}"
    if too_many:
        evidence += f"; more than {max_ref_mismatch:.1%} stop the plan"
    sentences = [evidence, "; ".join(agreement.examples), *statements]
    raise CatalogueError(
        ". ".join(sentence for sentence in sentences if sentence)
        + ". "
        + _advice(too_many, agreement.harmonised, chain)
    )


def _length_evidence(
    path: Path, header: Mapping[str, int], reference: ReferenceGenome, chain: Chain | None
) -> tuple[list[str], bool]:
    """Sentences on the assemblies that contig lengths are of, and whether these differ."""
    of_file, of_fasta = name_assembly(header), name_assembly(reference.lengths)
    statements = [
        f"By the contig lengths {where} is of {name} ({_lengths(lengths, name)})"
        for where, name, lengths in (
            (f"in its header, {path.name}", of_file, header),
            ("in its index, the FASTA", of_fasta, reference.lengths),
        )
        if name
    ]
    if chain is None:
        return statements, bool(of_file and of_fasta and of_file != of_fasta)
    start, end = name_assembly(chain.source_lengths), name_assembly(chain.target_lengths)
    if start and end:
        statements.append(f"By the contig lengths in it, the chain file lifts from {start} to {end}")
    pairs = ((of_file, start), (end, of_fasta))
    return statements, any(bool(left and right and left != right) for left, right in pairs)


def _lengths(lengths: Mapping[str, int], assembly: str) -> str:
    known = ASSEMBLIES[assembly]
    fitting = [(name, bp) for name, bp in lengths.items() if known.get(canonical_name(name)) == bp]
    return ", ".join(f"{name}: {bp:,} bp" for name, bp in fitting[:3]) + (", ..." if len(fitting) > 3 else "")


def _advice(too_many: bool, harmonised: bool, chain: Chain | None) -> str:
    if not too_many:
        return (
            "Too few alleles can be compared to tell which is right. Give the FASTA of the file's assembly or "
            + ("the chain file between the two" if chain else "lift the file over with --chain")
            + "; if the header is out of date, correct its ##contig lines (`bcftools reheader --fai`)."
        )
    other = "has alleles of mixed strands" if harmonised else "has REF and ALT swapped"
    if chain:
        why = f"The chain file is probably not the one between the file's assembly and the FASTA's, or the file {other}"
        todo = "Give the chain file of this pair of assemblies, or none if the file is of the FASTA's already"
    else:
        why = f"The file is probably of another assembly (GRCh37 against GRCh38), or {other}"
        todo = "Give the FASTA of the file's assembly or lift the file over with a chain file (--chain)"
    return (
        f"{why}, or the FASTA is hard-masked. {todo}; if the mismatches are expected, raise the share with "
        "--max-ref-mismatch: each is then rejected by itself."
    )


@dataclass
class FileTally:
    """Counts of one file's records after normalisation.

    Attributes:
        path: of the file.
        accepted: number of accepted records.
        rejected: number of records by reason.
        codes: number of records by harmonisation code, of those whose reference allele the file does not say.
        mismatches: number and description of the first few records whose reference allele is not the FASTA's.
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
            in_fasta = bases.bases(bases.name, position - 1, position - 1 + len(allele))
            text = f"record {record} ({contig}:{position}) has REF {shortened(allele.upper(), 40)} where the FASTA has "
            self.mismatches.append((record, text + shortened(in_fasta, 40)))
        self.mismatches = sorted(self.mismatches)[:_EXAMPLES]

    @property
    def compared(self) -> int:
        """Number of records whose reference allele was compared with the FASTA."""
        return self.accepted + sum(n for reason, n in self.rejected.items() if reason not in _NOT_COMPARED)

    @property
    def agreement(self) -> Agreement:
        """How the file's alleles agree with the FASTA."""
        examples = [text for _, text in self.mismatches]
        if self.codes:
            return agreement_of_codes(self.codes, examples)
        return Agreement(self.compared, sum(self.rejected[reason] for reason in _MISMATCHES), examples)


def check_contigs(loaded: Sequence[LoadedPart], files: Sequence[str], total: int, reference: ReferenceGenome) -> None:
    """Raise UnknownContigError when more than nine in ten records are on contigs that the FASTA does not have."""
    contigs = sum((part.unknown for part in loaded), Counter())
    unknown = contigs.total()
    if unknown <= MAX_UNKNOWN_CONTIG_SHARE * total:
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
    """Raise CatalogueError, with the account, when nothing is left to score."""
    files = _some([str(path) for path in paths])
    if not counts:
        raise CatalogueError(
            f"there is no record in {files}: only a header or blank lines. Check that the file was written to its end."
        )
    if not planned:
        raise CatalogueError(
            f"nothing is left to score of {files}: {describe(counts)}. Correct the records, or the options that decide "
            "(--max-allele-length, --max-unknown)."
        )


def describe(counts: Mapping[tuple[str, str | None], int]) -> str:
    """The account as text: `1,329 records: 1,300 planned, 29 rejected (29 reference_mismatch: ...)`."""
    by_status: Counter[str] = Counter()
    for (status, _), number in counts.items():
        by_status[status] += number
    statuses = ", ".join(f"{by_status[s]:,} {s}" for s in ("planned", "duplicate", "rejected") if by_status[s])
    reasons = sorted(((n, r) for (_, r), n in counts.items() if r is not None), reverse=True)
    why = "; ".join(f"{number:,} {reason}: {REASONS[reason]}" for number, reason in reasons)
    return f"{by_status.total():,} records: {statuses}" + (f" ({why})" if why else "")


def count_statuses(records: pa.RecordBatch | pa.Table) -> Counts:
    """Input records by status and reason."""
    statuses = pa.table({name: records[name] for name in ("status", "reason")})
    # On this thread: those of Arrow let go of memory of Python too late (readers/in_memory.py).
    groups = statuses.group_by(["status", "reason"], use_threads=False).aggregate([([], "count_all")])
    return Counter({(row["status"], row["reason"]): row["count_all"] for row in groups.to_pylist()})


def count_changes(written: pa.RecordBatch, changes: Changes) -> None:
    """Count input records by the values, other than null, of each of the columns `CHANGES`, and p-values of 0."""
    for name in CHANGES:
        column = written.column(name)
        if column.null_count < len(column):
            for count in column.drop_null().value_counts().to_pylist():
                changes.setdefault(name, Counter())[count["values"]] += count["counts"]
    zeros = pc.sum(pc.equal(written.column("p_value"), 0.0)).as_py()
    if zeros:
        changes.setdefault("p_value", Counter())["p_underflow"] += zeros


def _some(names: Sequence[str], count: int = 8) -> str:
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")
