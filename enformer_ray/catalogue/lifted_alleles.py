"""Alleles of lifted records against the new assembly: is its reference what the file calls the alternate?

Within a block of a chain both assemblies are taken to have the same bases, single ones excepted, which the comparison
with the FASTA finds. Where one block ends they differ, and an insertion or a deletion there may be what the new
assembly has already. In a repeat a change has more than one place (bcftools +liftover extends alleles over the whole
repeat for the same reason, https://doi.org/10.1093/bioinformatics/btae038); if one of these touches the end of the
block, the chain does not say what the new assembly has in its stead.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.catalogue.allele_match import flags, reverse_complement
from enformer_ray.catalogue.chain import Chain, Surroundings
from enformer_ray.catalogue.indels import changed_stretch
from enformer_ray.catalogue.liftover import contigs_of, replaced
from enformer_ray.catalogue.normalise import REASON_CODES
from enformer_ray.errors import UnknownContigError
from enformer_ray.genome.contig import ContigBases
from enformer_ray.genome.reference import ReferenceGenome

IN_PIECES, NEW_REFERENCE = "lifted_in_pieces", "alternate_is_new_reference"

_SEQUENCE = "^[ACGTNacgtn]+$"


def name_new_references(batch: pa.RecordBatch, chain: Chain, reference: ReferenceGenome) -> pa.RecordBatch:
    """A batch of `lift_batch` in which some records that were not lifted get another reason: NEW_REFERENCE.

    They are those whose reference allele the new assembly has not in one piece, if it has the alternate in its place.
    """
    missing = pc.is_in(batch.column("reason"), value_set=pa.array([IN_PIECES, "unlifted"]))
    rows = np.flatnonzero(flags(missing) & _are_sequences(batch))
    if not len(rows):
        return batch
    chosen = batch.take(pa.array(rows))
    lengths = pc.utf8_length(chosen.column("reference_allele")).to_numpy().astype(np.int64)
    there = chain.across(
        contigs_of(chosen.column("chromosome"), chain), chosen.column("position").to_numpy() - 1, lengths
    )
    renamed = np.zeros(len(batch), dtype=np.bool_)
    for i in np.flatnonzero(there.found).tolist():
        alternate = chosen.column("alternate_allele")[i].as_py().upper()
        start, end = int(there.start[i]), int(there.end[i])
        if end - start != len(alternate):
            continue
        try:
            bases = reference.bases(reference.resolve(chain.targets[there.target[i]]), start, end)
        except UnknownContigError:
            continue
        renamed[rows[i]] = bases == (reverse_complement(alternate) if there.reverse[i] else alternate)
    return _with_reason(batch, renamed, NEW_REFERENCE)


def refuse_torn_indels(batch: pa.RecordBatch, chain: Chain, bases: ContigBases) -> pa.RecordBatch:
    """A batch of one contig, harmonised, in which lifted insertions and deletions at an end of a block get a reason.

    It is IN_PIECES, or NEW_REFERENCE where the new assembly has the alternate allele there. Records whose reference
    allele is not what the FASTA has are left to normalisation.
    """
    indel = pc.not_equal(
        pc.utf8_length(batch.column("reference_allele")), pc.utf8_length(batch.column("alternate_allele"))
    )
    unrefused = pc.and_(batch.column("reason").is_null(), batch.column("lifted").is_valid())
    rows = np.flatnonzero(flags(pc.and_(indel, unrefused)) & _are_sequences(batch))
    torn, renamed = np.zeros((2, len(batch)), dtype=np.bool_)
    names = ["block", "position", "reference_allele", "alternate_allele"]
    chosen = batch.select(names).take(pa.array(rows))
    for name in names[2:]:
        chosen = chosen.set_column(names.index(name), name, pc.utf8_upper(chosen.column(name)))
    blocks: dict[int, Surroundings] = {}
    for row, values in zip(rows.tolist(), chosen.to_pylist(), strict=True):
        number, position, ref, alt = values.values()
        if number not in blocks:
            blocks[number] = chain.surroundings(number)
        block, start = blocks[number], position - 1
        if bases.bases(bases.name, start, start + len(ref)) != ref:
            continue
        first, end = changed_stretch(bases.name, start, ref, alt, bases)
        if first < block.start or end > block.end:
            has_it = _is_inserted(start, ref, alt, block, bases)
            torn[row], renamed[row] = not has_it, has_it
    return _with_reason(_with_reason(batch, torn, IN_PIECES), renamed, NEW_REFERENCE)


def name_swapped(
    batch: pa.RecordBatch, mismatches: NDArray[np.int64], reasons: NDArray[np.int8], bases: ContigBases
) -> None:
    """Give those `mismatches` (rows) the reason NEW_REFERENCE that were lifted to where the FASTA has the alternate."""
    names = ("lifted", "position", "reference_allele", "alternate_allele")
    columns = (batch.column(name).take(pa.array(mismatches)).to_pylist() for name in names)
    for row, lifted, position, ref, alt in zip(mismatches.tolist(), *columns, strict=True):
        # Of alleles of two lengths, the shorter may be there by being the beginning of the longer.
        start, same_length = position - 1, len(ref) == len(alt)
        if lifted and same_length and bases.bases(bases.name, start, start + len(alt)) == alt.upper():
            reasons[row] = REASON_CODES[NEW_REFERENCE]


def _is_inserted(start: int, ref: str, alt: str, block: Surroundings, bases: ContigBases) -> bool:
    """Whether a record is the insertion of those bases which only the new assembly has, beside the block.

    Without these bases, what is behind (before) the block is the same in both assemblies. So the record is continued
    with the block's bases to its end on either side, where the new assembly must have the alternate allele.
    """
    contig, grows, end = bases.name, len(alt) - len(ref), start + len(ref)
    behind, before = block.inserted_behind, block.inserted_before
    if behind is not None and behind - block.end == grows:
        continued = alt + bases.bases(contig, end, block.end)
        if bases.bases(contig, start, behind) == continued:
            return True
    if before is not None and block.start - before == grows:
        continued = bases.bases(contig, block.start, start) + alt
        return bases.bases(contig, before, end) == continued
    return False


def _are_sequences(batch: pa.RecordBatch) -> NDArray[np.bool_]:
    """Which records have a reference and an alternate allele that are sequences of bases."""
    both = (pc.match_substring_regex(batch.column(f"{name}_allele"), _SEQUENCE) for name in ("reference", "alternate"))
    return flags(pc.and_(*both))


def _with_reason(batch: pa.RecordBatch, rows: NDArray[np.bool_], reason: str) -> pa.RecordBatch:
    if not rows.any():
        return batch
    index = batch.schema.get_field_index("reason")
    column = replaced(batch.column(index), rows, pa.array([reason] * int(rows.sum())))
    return batch.set_column(index, batch.schema.field(index), column)
