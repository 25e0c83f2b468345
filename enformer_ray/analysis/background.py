"""A background to calibrate by: random SNVs that are matched to given variants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.analysis.exports.text import MAX_TBI_POSITION, Writer, bgzip_writer, index
from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import CalibrationError, UnknownContigError
from enformer_ray.files import Outputs, refuse_inputs
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.readers.formats import read_batches

_BASES = "ACGT"
_CONTEXTS = 64
_CHUNK = 1 << 20
_PACKED = {".gz", ".bgz"}


@dataclass(frozen=True)
class Background:
    """What was drawn.

    Attributes:
        files: the VCF, and its index when it is packed.
        variants: drawn.
        like: SNVs that they are matched to.
        skipped: alleles that are no SNVs of the FASTA, and were not looked at.
        short: variants fewer than asked for, since the genome has no more places of some context.
    """

    files: list[Path]
    variants: int
    like: int
    skipped: int
    short: int


@dataclass
class _Matched:
    """SNVs of one chromosome: how many of each context (reference) and alternate base, and where they are."""

    counts: NDArray[np.int64]
    places: NDArray[np.int64]


def make_background(
    reference_path: Path, like: Path, count: int, seed: int, output: Path, force: bool = False
) -> Background:
    """Write random SNVs as a VCF: as many, in proportion, of each chromosome, trinucleotide and alternate base.

    The trinucleotide is that of the forward strand around the base. Places of the given variants are not drawn, and no
    place twice. The same seed draws the same.

    Args:
        reference_path: FASTA.
        like: variants that are matched, in any format of docs/inputs.md that says which allele is the reference.
        count: how many to draw.
        seed: of the random numbers.
        output: .vcf or .vcf.gz to write.
        force: write over a file that is there.

    Raises:
        VariantFileError: `like` cannot be read.
        CalibrationError: it holds no SNVs of the FASTA.
        OutputExistsError: the file is there.
    """
    reference = ReferenceGenome(reference_path)
    refuse_inputs([output], [like, reference_path])
    matched, skipped = _read_like(like, reference)
    total = sum(int(one.counts.sum()) for one in matched.values())
    if not total:
        raise CalibrationError(f"{like} holds no SNVs whose reference base is that of {reference_path}; check both.")
    quotas = _quotas({name: one.counts for name, one in matched.items()}, count)
    random = np.random.default_rng(seed)
    drawn = longest = 0
    with Outputs(output, force) as outputs:
        path = outputs.path()
        packed: AbstractContextManager[Writer] = bgzip_writer(path) if path.suffix in _PACKED else path.open("wb")
        with packed as target:
            target.write(_header(reference, list(matched)))
            for name, one in matched.items():
                places, alternates = _draw(reference, name, quotas[name], one.places, random)
                drawn += len(places)
                longest = max(longest, int(places[-1]) + 1 if len(places) else 0)
                for lines in _lines(reference, name, places, alternates):
                    target.write(lines)
        if path.suffix in _PACKED and drawn:
            outputs.path(".csi" if longest >= MAX_TBI_POSITION else ".tbi")
            index(path, longest, chromosome=0, start=1)
    return Background(outputs.written, drawn, total, skipped, count - drawn)


def _read_like(like: Path, reference: ReferenceGenome) -> tuple[dict[str, _Matched], int]:
    """SNVs by chromosome, in the order of the FASTA, and the number of other alleles."""
    found: dict[str, list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]] = {}
    skipped = 0
    for batch in read_batches(like, CatalogueConfig()):
        names = pc.fill_null(batch.column("chromosome"), "").to_pylist()
        ref, alt = (_base_codes(batch.column(f"{kind}_allele")) for kind in ("reference", "alternate"))
        position = pc.fill_null(batch.column("position"), 0).to_numpy().astype(np.int64)
        snv = (ref >= 0) & (alt >= 0) & (ref != alt)
        kept = 0
        for name in dict.fromkeys(names):
            here = snv & np.array([other == name for other in names])
            starts = position[here] - 1
            chromosome, good, contexts = _places(reference, name, starts, ref[here])
            kept += int(np.count_nonzero(good))
            if good.any():
                found.setdefault(chromosome, []).append((starts[good], contexts[good], alt[here][good]))
        skipped += len(batch) - kept
    matched = {}
    for name in (name for name in reference.chromosomes if name in found):
        places, context, alternate = (np.concatenate(parts) for parts in zip(*found[name], strict=True))
        counts = np.bincount(4 * context + alternate, minlength=4 * _CONTEXTS).reshape(_CONTEXTS, 4)
        matched[name] = _Matched(counts, np.unique(places))
    return matched, skipped


def _base_codes(alleles: pa.Array) -> NDArray[np.int64]:
    """0..3 for A, C, G, T, -1 for anything else."""
    found = pc.index_in(pc.utf8_upper(alleles), pa.array(list(_BASES)))
    return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), np.int64)


def _places(
    reference: ReferenceGenome, contig: str, starts: NDArray[np.int64], ref: NDArray[np.int64]
) -> tuple[str, NDArray[np.bool_], NDArray[np.int64]]:
    """Chromosome, which places have that reference base and a known context, and the contexts."""
    good, contexts = np.zeros(len(starts), np.bool_), np.zeros(len(starts), np.int64)
    try:
        name = reference.resolve(contig)
    except UnknownContigError:
        return contig, good, contexts
    for i, start in enumerate(starts.tolist()):
        if 0 <= start < reference.lengths[name]:
            codes = reference.codes(name, start - 1, start + 2).astype(np.int64)
            good[i] = codes.max() < 4 and codes[1] == ref[i]
            contexts[i] = codes @ (16, 4, 1) if good[i] else 0
    return name, good, contexts


def _quotas(counts: dict[str, NDArray[np.int64]], count: int) -> dict[str, NDArray[np.int64]]:
    """Shares of `count` in proportion to the counts, those with the largest remainders rounded up."""
    every = np.stack(list(counts.values()))
    exact = every.ravel() * (count / every.sum())
    shares = np.floor(exact).astype(np.int64)
    order = np.argsort(shares - exact, kind="stable")
    shares[order[: count - int(shares.sum())]] += 1
    return dict(zip(counts, shares.reshape(every.shape), strict=True))


def _contexts(
    reference: ReferenceGenome, name: str, taken: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """First base and contexts of stretches of a chromosome; 255 where one is unknown or the place is taken."""
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
    """Places (0-based, rising) and alternate bases, drawn in two passes over the chromosome."""
    there = np.zeros(256, np.int64)
    for _, contexts in _contexts(reference, name, taken):
        there += np.bincount(contexts, minlength=256)
    ranks, alternates = [], []
    for context in range(_CONTEXTS):
        wanted = random.permutation(np.repeat(np.arange(4), quotas[context]))[: there[context]]
        ranks.append(np.sort(random.choice(there[context], len(wanted), replace=False, shuffle=False)))
        alternates.append(wanted)
    places: list[list[NDArray[np.int64]]] = [[] for _ in range(_CONTEXTS)]
    passed = np.zeros(_CONTEXTS, np.int64)
    for start, contexts in _contexts(reference, name, taken):
        for wanting in np.flatnonzero(quotas.sum(axis=1)).tolist():
            at = np.flatnonzero(contexts == wanting)
            first, last = np.searchsorted(ranks[wanting], [passed[wanting], passed[wanting] + len(at)])
            places[wanting].append(at[ranks[wanting][first:last] - passed[wanting]] + start)
            passed[wanting] += len(at)
    place = np.concatenate([piece for pieces in places for piece in pieces] or [np.zeros(0, np.int64)])
    alternate = np.concatenate(alternates)
    order = np.argsort(place, kind="stable")
    return place[order], alternate[order]


def _header(reference: ReferenceGenome, names: list[str]) -> bytes:
    contigs = "".join(f"##contig=<ID={name},length={reference.lengths[name]}>\n" for name in names)
    columns = "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"])
    return f"##fileformat=VCFv4.3\n{contigs}{columns}\n".encode()


def _lines(
    reference: ReferenceGenome, name: str, places: NDArray[np.int64], alternates: NDArray[np.int64]
) -> Iterator[bytes]:
    for first in range(0, len(places), 1 << 16):
        pairs = zip(
            places[first : first + (1 << 16)].tolist(), alternates[first : first + (1 << 16)].tolist(), strict=True
        )
        rows = (
            f"{name}\t{at + 1}\t.\t{reference.bases(name, at, at + 1)}\t{_BASES[alt]}\t.\t.\t.\n" for at, alt in pairs
        )
        yield "".join(rows).encode()
