"""Background variants for calibration: random SNVs that match given variants in chromosome, context and allele."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.analysis.exports.text import BGZIP_SUFFIXES, open_output, write_index
from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import InputFileError, UnknownContigError
from enformer_ray.files import Outputs, refuse_inputs
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.readers.formats import read_batches

_BASES = "ACGT"
_CONTEXTS = 64  # trinucleotides
_CHUNK = 1 << 20  # bases in memory at a time
_LINES = 1 << 16  # lines in memory at a time


@dataclass(frozen=True)
class Background:
    """The background that was written.

    Attributes:
        files: the VCF, and its index when it is packed.
        variants: number of drawn variants.
        like: number of SNVs that they match.
        skipped: alleles of the given variants that are no SNVs of the FASTA.
        short: variants missing, since the genome has too few places of some context.
    """

    files: list[Path]
    variants: int
    like: int
    skipped: int
    short: int


@dataclass
class _GivenSnvs:
    """Given SNVs of one chromosome: (contexts, 4) counts by trinucleotide and alternate base; sorted 0-based starts."""

    counts: NDArray[np.int64]
    starts: NDArray[np.int64]


def make_background(
    reference_path: Path, like: Path, count: int, seed: int, output: Path, force: bool = False
) -> Background:
    """Write random SNVs as a VCF: as many, in proportion, of each chromosome, trinucleotide and alternate base.

    The trinucleotide is that of the forward strand around the base. Positions of the given variants are not drawn, and
    no position twice. The same seed draws the same.

    Args:
        reference_path: FASTA.
        like: variants to match, in any format of docs/inputs.md that says which allele is the reference.
        count: how many to draw.
        seed: of the random numbers.
        output: .vcf or .vcf.gz to write.
        force: overwrite an existing file.

    Raises:
        VariantFileError: `like` cannot be read.
        InputFileError: it holds no SNVs of the FASTA.
        OutputExistsError: the file exists.
    """
    refuse_inputs([output], [like, reference_path])
    records = read_batches(like, CatalogueConfig())
    return draw_background(ReferenceGenome(reference_path), records, str(like), count, seed, output, force=force)


def draw_background(
    reference: ReferenceGenome,
    like: Iterable[pa.RecordBatch],
    origin: str,
    count: int,
    seed: int,
    output: Path,
    note: str = "",
    force: bool = False,
) -> Background:
    """The same of variants that were read already: chromosome, position, reference_allele, alternate_allele.

    Args:
        reference: the genome.
        like: variants to match.
        origin: what they are of, for errors.
        count: how many to draw.
        seed: of the random numbers.
        output: .vcf or .vcf.gz to write.
        note: line of the header, without `##`; none by default.
        force: overwrite an existing file.

    Raises:
        InputFileError: they hold no SNVs of the FASTA.
        OutputExistsError: the file exists.
    """
    matched, skipped = _read_like(like, reference)
    total = sum(int(snvs.counts.sum()) for snvs in matched.values())
    if not total:
        raise InputFileError(f"{origin} holds no SNVs whose reference base is that of {reference.path}; check both.")
    random = np.random.default_rng(seed)
    quotas = _quotas({name: snvs.counts for name, snvs in matched.items()}, count, random)
    drawn = max_position = 0
    with Outputs(output, force) as outputs:
        path = outputs.path()
        with open_output(path) as target:
            target.write(_header(reference, list(matched), note))
            for name, snvs in matched.items():
                starts, alternates = _draw(reference, name, quotas[name], snvs.starts, random)
                drawn += len(starts)
                max_position = max(max_position, int(starts[-1]) + 1 if len(starts) else 0)
                for lines in _lines(reference, name, starts, alternates):
                    target.write(lines)
        if path.suffix in BGZIP_SUFFIXES and drawn:
            write_index(outputs, path, max_position)
    return Background(outputs.written, drawn, total, skipped, count - drawn)


def _read_like(like: Iterable[pa.RecordBatch], reference: ReferenceGenome) -> tuple[dict[str, _GivenSnvs], int]:
    """SNVs by chromosome, in the order of the FASTA, and the number of other alleles."""
    found: dict[str, list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]] = {}
    skipped = 0
    for batch in like:
        names = pc.fill_null(batch.column("chromosome"), "").to_pylist()
        ref, alt = (_base_codes(batch.column(f"{kind}_allele")) for kind in ("reference", "alternate"))
        position = pc.fill_null(batch.column("position"), 0).to_numpy().astype(np.int64)
        snv = (ref >= 0) & (alt >= 0) & (ref != alt)
        kept = 0
        for name in dict.fromkeys(names):
            on_contig = snv & np.array([other == name for other in names])
            starts = position[on_contig] - 1
            chromosome, good, contexts = _contexts_of(reference, name, starts, ref[on_contig])
            kept += int(np.count_nonzero(good))
            if good.any():
                found.setdefault(chromosome, []).append((starts[good], contexts[good], alt[on_contig][good]))
        skipped += len(batch) - kept
    matched = {}
    for name in (name for name in reference.chromosomes if name in found):
        starts, context, alternate = (np.concatenate(pieces) for pieces in zip(*found[name], strict=True))
        counts = np.bincount(4 * context + alternate, minlength=4 * _CONTEXTS).reshape(_CONTEXTS, 4)
        matched[name] = _GivenSnvs(counts, np.unique(starts))
    return matched, skipped


def _base_codes(alleles: pa.Array) -> NDArray[np.int64]:
    """0..3 for A, C, G, T, -1 for anything else."""
    found = pc.index_in(pc.utf8_upper(alleles), pa.array(list(_BASES)))
    return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), np.int64)


def _contexts_of(
    reference: ReferenceGenome, contig: str, starts: NDArray[np.int64], ref: NDArray[np.int64]
) -> tuple[str, NDArray[np.bool_], NDArray[np.int64]]:
    """Chromosome, which of the starts have that reference base and a known context, and the contexts."""
    good, contexts = np.zeros(len(starts), np.bool_), np.zeros(len(starts), np.int64)
    try:
        name = reference.resolve(contig)
    except UnknownContigError:
        return contig, good, contexts
    order = np.argsort(starts, kind="stable")
    ordered = starts[order]
    inside = slice(*np.searchsorted(ordered, [0, reference.lengths[name]]))
    order, ordered = order[inside], ordered[inside]
    for chunk in np.unique(ordered // _CHUNK).tolist():
        some = slice(*np.searchsorted(ordered, [chunk * _CHUNK, (chunk + 1) * _CHUNK]))
        first, places = int(ordered[some][0]), order[some]
        codes = reference.codes(name, first - 1, int(ordered[some][-1]) + 2).astype(np.int64)
        around = codes[ordered[some, None] - first + np.arange(3)]
        good[places] = (around.max(axis=1) < 4) & (around[:, 1] == ref[places])
        contexts[places] = np.where(good[places], around @ (16, 4, 1), 0)
    return name, good, contexts


def _quotas(
    counts: dict[str, NDArray[np.int64]], count: int, random: np.random.Generator
) -> dict[str, NDArray[np.int64]]:
    """`count` divided in proportion to the counts; the shares with the largest remainders are rounded up.

    Many remainders are equal where counts are small: chance decides among them, not the order of chromosomes.
    """
    stacked = np.stack(list(counts.values()))
    exact = stacked.ravel() * (count / stacked.sum())
    shares = np.floor(exact).astype(np.int64)
    order = np.lexsort((random.random(len(exact)), shares - exact))
    shares[order[: count - int(shares.sum())]] += 1
    return dict(zip(counts, shares.reshape(stacked.shape), strict=True))


def _contexts(
    reference: ReferenceGenome, name: str, taken: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Start and contexts of consecutive chunks of a chromosome; 255 where a base is unknown or the place is taken."""
    for start in range(0, reference.lengths[name], _CHUNK):
        end = min(start + _CHUNK, reference.lengths[name])
        codes = reference.codes(name, start - 1, end + 1)
        context = 16 * codes[:-2] + 4 * codes[1:-1] + codes[2:]
        context[(codes[:-2] > 3) | (codes[1:-1] > 3) | (codes[2:] > 3)] = 255
        inside = taken[np.searchsorted(taken, start) : np.searchsorted(taken, end)]
        context[inside - start] = 255
        yield start, context


def _draw(
    reference: ReferenceGenome,
    name: str,
    quotas: NDArray[np.int64],
    taken: NDArray[np.int64],
    random: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts (0-based, ascending) and alternate bases, drawn in two passes over the chromosome.

    The first pass counts the free places of each context, of which ranks are drawn; the second finds them, so that
    places need not be held in memory.
    """
    free = np.zeros(256, np.int64)
    for _, contexts in _contexts(reference, name, taken):
        free += np.bincount(contexts, minlength=256)
    ranks, alternates = [], []
    for context in range(_CONTEXTS):
        drawn = random.permutation(np.repeat(np.arange(4), quotas[context]))[: free[context]]
        ranks.append(np.sort(random.choice(free[context], len(drawn), replace=False, shuffle=False)))
        alternates.append(drawn)
    found: list[list[NDArray[np.int64]]] = [[] for _ in range(_CONTEXTS)]
    passed = np.zeros(_CONTEXTS, np.int64)
    for start, contexts in _contexts(reference, name, taken):
        for context in np.flatnonzero(quotas.sum(axis=1)).tolist():
            places = np.flatnonzero(contexts == context)
            first, last = np.searchsorted(ranks[context], [passed[context], passed[context] + len(places)])
            found[context].append(places[ranks[context][first:last] - passed[context]] + start)
            passed[context] += len(places)
    starts = np.concatenate([piece for pieces in found for piece in pieces] or [np.zeros(0, np.int64)])
    order = np.argsort(starts, kind="stable")
    return starts[order], np.concatenate(alternates)[order]


def _header(reference: ReferenceGenome, names: list[str], note: str) -> bytes:
    contigs = "".join(f"##contig=<ID={reference.contigs[name]},length={reference.lengths[name]}>\n" for name in names)
    columns = "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"])
    noted = f"##{note}\n" if note else ""
    return f"##fileformat=VCFv4.3\n{noted}{contigs}{columns}\n".encode()


def _lines(
    reference: ReferenceGenome, name: str, starts: NDArray[np.int64], alternates: NDArray[np.int64]
) -> Iterator[bytes]:
    contig = reference.contigs[name]
    for first in range(0, len(starts), _LINES):
        cut = slice(first, first + _LINES)
        rows = (
            f"{contig}\t{start + 1}\t.\t{reference.bases(name, start, start + 1)}\t{_BASES[alternate]}\t.\t.\t.\n"
            for start, alternate in zip(starts[cut].tolist(), alternates[cut].tolist(), strict=True)
        )
        yield "".join(rows).encode()
