"""Liftover: records moved from the assembly of their file to that of the FASTA, by a chain file.

A chain file (UCSC's format, https://genome.ucsc.edu/goldenPath/help/chain.html) says which stretch of one assembly
corresponds to which of another: a chain is a list of blocks, in which every base of the source assembly has its base in
the target assembly, with gaps between the blocks. Held as arrays, it lifts millions of positions a second.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyliftover.chainfile import LiftOverChain

from enformer_ray.catalogue.allele_match import reverse_complement
from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import ConfigError, InputFileError, resource_error
from enformer_ray.files import open_bounded
from enformer_ray.genome.coordinates import canonical_name
from enformer_ray.genome.reference import read_contig_aliases

Integers = NDArray[np.int64]

OUTCOMES = (
    None,
    "chain_without_contig",
    "position_outside_contig",
    "unlifted",
    "lifted_in_pieces",
    "lifted_to_many",
    "indel_on_reverse_strand",
)
"""Outcomes of lifting a span: None where it is lifted, else a key of `normalise.REASONS`."""

LIFT_SCHEMA = pa.schema(
    {
        "original_chromosome": pa.string(),
        "original_position": pa.int64(),
        "original_reference_allele": pa.string(),
        "original_alternate_allele": pa.string(),
        "lifted": pa.string(),
        "reason": pa.string(),
    }
)
"""Columns that `lift_batch` adds or replaces.

    original_*: what the file had, of lifted records; null where the record's own columns still hold it. Where the
        reference allele is not known, the other and the effect allele.
    lifted: `forward` or `reverse`, the strand of the new assembly; null where the record was not lifted.
    reason: key of `normalise.REASONS` of a record that cannot be lifted.
"""

_ALLELES = ("reference_allele", "alternate_allele", "effect_allele", "other_allele")

# Instead of the index of a block: no chain covers the bases, or several do, or several do but none the whole span.
_NONE, _MANY, _PARTS = -1, -2, -3
MAX_CHAIN_BYTES = 512 * 2**20
"""Of a chain file, unpacked, which is held in memory; those between human and mouse have 150 MB."""


class Lift(NamedTuple):
    """Where spans of the source assembly are in the target assembly; one entry for each span.

    Attributes:
        target: index in `Chain.targets`; undefined for a span that is not lifted, as are the next two.
        start: 0-based first base on the forward strand.
        reverse: whether the span is on the reverse strand.
        outcome: index in `OUTCOMES`, 0 where the span is lifted.
    """

    target: Integers
    start: Integers
    reverse: NDArray[np.bool_]
    outcome: Integers


class _Blocks(NamedTuple):
    """Blocks of all chains, 0-based half-open. The contigs of the source are concatenated on one axis."""

    start: Integers  # on the axis of the source
    end: Integers
    target: Integers
    target_start: Integers  # counted along the strand of the chain
    reverse: NDArray[np.bool_]


class Chain:
    """A chain file in memory.

    Attributes:
        path: of the file.
        source_lengths: bp of each contig that it lifts from, by canonical name.
        target_lengths: bp of each contig that it lifts to, by canonical name.
        targets: contigs that it lifts to, as the file names them.

    Args:
        path: `.chain`, plain or packed with gzip or bgzip.
        aliases: further names of contigs: name in the variants -> contig.

    Raises:
        InputFileError: the file is missing, damaged, or no chain file.
    """

    def __init__(self, path: Path, aliases: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.source_lengths: dict[str, int] = {}
        self.target_lengths: dict[str, int] = {}
        self.targets: list[str] = []
        chains = [self._registered(chain) for chain in _read_chains(path)]
        if not chains:
            raise InputFileError(
                f"there is no chain in {path}; a chain file holds lines that begin with `chain`, such as those of "
                "hg19ToHg38.over.chain.gz. Check that it was downloaded whole."
            )
        self._aliases = dict(aliases or {})
        self._numbers = {name: number for number, name in enumerate(self.source_lengths)}
        self._sizes = np.array(list(self.source_lengths.values()), dtype=np.int64)
        self._offsets = np.concatenate([[0], np.cumsum(self._sizes)[:-1]]).astype(np.int64)
        self._blocks = self._collect(chains)
        self._edges, self._block_after = _sweep(self._blocks)

    def contig(self, name: str) -> int:
        """Number of a contig of the source assembly (`chr1`, `1` or an alias); -1 where the file does not have it."""
        return self._numbers.get(canonical_name(name, self._aliases), -1)

    def lift(self, contig: Integers, start: Integers, length: Integers) -> Lift:
        """Lift spans. Each must be in one block, first base to last, of exactly one chain.

        Args:
            contig: numbers by `contig`.
            start: 0-based first bases.
            length: bp, at least 1.
        """
        blocks = self._blocks
        known = contig >= 0
        inside = known & (start >= 0) & (start <= self._sizes[contig] - length)
        first = np.where(inside, self._offsets[contig] + start, 0)
        last = first + np.where(inside, length, 1) - 1
        block = self._block_at(first)
        for row in np.flatnonzero((block == _MANY) & (length > 1)):
            block[row] = self._among_many(int(first[row]), int(last[row]))
        at = np.maximum(block, 0)  # an index of spans without a block, too; their results are never used
        whole = inside & (block >= 0) & (last < blocks.end[at])
        outcome = np.zeros(len(contig), dtype=np.int64)
        rest = np.flatnonzero(~whole)
        neither = (block[rest] == _NONE) & (self._block_at(last[rest]) == _NONE)
        outcome[rest] = np.where(neither, OUTCOMES.index("unlifted"), OUTCOMES.index("lifted_in_pieces"))
        outcome[block == _MANY] = OUTCOMES.index("lifted_to_many")
        outcome[~inside] = OUTCOMES.index("position_outside_contig")
        outcome[~known] = OUTCOMES.index("chain_without_contig")
        lifted = blocks.target_start[at] + first - blocks.start[at]
        target, reverse = blocks.target[at], blocks.reverse[at]
        # Coordinates of a reverse chain count from the end of the contig.
        lifted = np.where(reverse, self._target_sizes[target] - lifted - length, lifted)
        return Lift(target, lifted, reverse, outcome)

    def _block_at(self, positions: Integers) -> Integers:
        return self._block_after[np.searchsorted(self._edges, positions, side="right") - 1]

    def _among_many(self, first: int, last: int) -> int:
        """The one block that holds a whole span whose first base is in several; rare, so every block is tried."""
        holds = np.flatnonzero((self._blocks.start <= first) & (last < self._blocks.end))
        return int(holds[0]) if len(holds) == 1 else (_MANY if len(holds) else _PARTS)

    def _registered(self, chain: LiftOverChain) -> LiftOverChain:
        """Check that the chain agrees with the others on how long its contigs are."""
        for lengths, name, size in (
            (self.source_lengths, chain.source_name, chain.source_size),
            (self.target_lengths, chain.target_name, chain.target_size),
        ):
            if lengths.setdefault(canonical_name(name), size) != size:
                raise InputFileError(
                    f"{self.path}, chain {chain.id}: contig {name} has {size:,} bp here and "
                    f"{lengths[canonical_name(name)]:,} bp in a chain before. The file mixes assemblies; give the "
                    "chain file of one pair of them."
                )
        return chain

    def _collect(self, chains: list[LiftOverChain]) -> _Blocks:
        numbers: dict[str, int] = {}
        columns: list[tuple[Integers, ...]] = []
        for chain in chains:
            target = numbers.setdefault(canonical_name(chain.target_name), len(numbers))
            if target == len(self.targets):
                self.targets.append(chain.target_name)
            start, end, target_start = np.array(chain.blocks, dtype=np.int64).reshape(-1, 3).T
            filled = start < end  # some programs end a chain with a block of no bases
            offset = self._offsets[self._numbers[canonical_name(chain.source_name)]]
            constants = [np.full(filled.sum(), value) for value in (target, chain.target_strand == "-")]
            columns.append((start[filled] + offset, end[filled] + offset, target_start[filled], *constants))
        self._target_sizes = np.array([self.target_lengths[canonical_name(name)] for name in self.targets])
        starts, ends, target_starts, targets, reverse = map(np.concatenate, zip(*columns, strict=True))
        return _Blocks(starts, ends, targets, target_starts, reverse.astype(bool))


def _sweep(blocks: _Blocks) -> tuple[Integers, Integers]:
    """Positions where blocks begin or end, in order, and the block from each on (or none, or many)."""
    number = np.arange(len(blocks.start), dtype=np.int64)
    positions = np.concatenate([[-1], blocks.start, blocks.end])
    depth = np.concatenate([[0], np.ones_like(number), -np.ones_like(number)])
    open_numbers = np.concatenate([[0], number, -number])
    order = np.argsort(positions, kind="stable")
    positions, depth, open_numbers = positions[order], np.cumsum(depth[order]), np.cumsum(open_numbers[order])
    final = np.append(positions[1:] != positions[:-1], True)  # once all edges at a position are counted
    # Where one block alone is open, the sum of the numbers of open blocks is its number.
    block_after = np.where(depth == 1, open_numbers, np.where(depth == 0, _NONE, _MANY))
    return positions[final].astype(np.int64), block_after[final].astype(np.int64)


def _read_chains(path: Path) -> Iterator[LiftOverChain]:
    if not path.is_file():
        raise InputFileError(f"the chain file {path} (catalogue.chain, --chain) does not exist or is not a file.")
    number = 0
    try:
        with open_bounded(path, MAX_CHAIN_BYTES, "a chain file", InputFileError) as stream:
            for line in stream:
                number += 1
                if line.startswith(b"chain"):
                    chain = _parse(line, stream, path)
                    number += len(chain.blocks)
                    yield chain
                elif line.strip() and not line.startswith(b"#"):
                    raise InputFileError(
                        f"{path}, line {number}: {line[:60]!r} does not begin with `chain` where a chain should "
                        "begin. The file is no chain file, or damaged: download it again."
                    )
    except (EOFError, zlib.error, OSError) as error:
        raise InputFileError(
            f"the chain file {path} cannot be read: {str(error).rstrip('.')}. It is truncated or damaged: download it "
            "again."
        ) from None


def _parse(header: bytes, stream: BinaryIO, path: Path) -> LiftOverChain:
    try:
        chain = LiftOverChain(header, stream)
    except (EOFError, zlib.error, OSError, InputFileError):
        raise
    except Exception as error:  # noqa: BLE001 (the library raises nothing narrower)
        raise resource_error(error) or _bad_chain(path, header, str(error)) from None
    edges = [edge for start, end, _ in chain.blocks for edge in (start, end)]
    if edges != sorted(edges) or any(start < chain.target_start for _, _, start in chain.blocks):
        raise _bad_chain(path, header, "a block or a gap has a negative length")
    if not (0 <= chain.source_start < chain.source_end <= chain.source_size):
        raise _bad_chain(path, header, f"it leaves its contig {chain.source_name}")
    if not (0 <= chain.target_start < chain.target_end <= chain.target_size):
        raise _bad_chain(path, header, f"it leaves its contig {chain.target_name}")
    return chain


def _bad_chain(path: Path, header: bytes, why: str) -> InputFileError:
    return InputFileError(
        f"{path}: the chain {header.decode('ascii', 'replace').strip()[:120]!r} cannot be used: {why.rstrip('.')}. The "
        "file is truncated or damaged, or not in UCSC's chain format: download it again."
    )


def chain_of(path: Path, config: CatalogueConfig) -> Chain | None:
    """The chain file that lifts a variant file by `catalogue.chain`; None for a file that is not lifted.

    The setting is one chain file for all variant files, or a mapping from patterns, of which the first that matches
    counts. A pattern is a path or the end of one (`old.vcf.gz`, `old/*.vcf.gz`). A process reads a chain file once.

    Raises:
        InputFileError: the chain file cannot be read.
    """
    file = next((chain for pattern, chain in _by_pattern(config).items() if path.match(pattern)), None)
    if file is None:
        return None
    state = file.stat() if file.exists() else None
    return _read(file, config.contig_aliases, state and (state.st_mtime_ns, state.st_size))


def check_chain_patterns(paths: Sequence[Path], config: CatalogueConfig) -> None:
    """Raise ConfigError for a pattern of `catalogue.chain` that matches no variant file, so that it lifts nothing."""
    for pattern in _by_pattern(config):
        if not any(path.match(pattern) for path in paths):
            raise ConfigError(
                f"catalogue.chain: {pattern!r} fits none of the variant files ({', '.join(map(str, paths[:5]))}"
                f"{', ...' if len(paths) > 5 else ''}). Give a path or the end of one, such as old.vcf.gz or *.bcf."
            )


def _by_pattern(config: CatalogueConfig) -> Mapping[str, Path]:
    return config.chain if isinstance(config.chain, Mapping) else {"*": config.chain} if config.chain else {}


@lru_cache(maxsize=4)
def _read(path: Path, aliases: Path | None, state: tuple[int, int] | None) -> Chain:  # noqa: ARG001 (a changed file is read anew)
    return Chain(path, read_contig_aliases(aliases) if aliases else None)


def lift_batch(batch: pa.RecordBatch, chain: Chain) -> pa.RecordBatch:
    """Lift records; row for row, in the same order.

    A record that cannot be lifted keeps its coordinates and gets a reason. One with a `problem`, or with a reason
    already, stays as it is.

    Args:
        batch: `RECORD_SCHEMA`, with or without the columns of `LIFT_SCHEMA`; further columns are kept.
        chain: from the assembly of the file to that of the FASTA.

    Returns:
        The batch with chromosome, position and alleles (all four) of the new assembly, and the columns of
        `LIFT_SCHEMA`.
    """
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    for field in LIFT_SCHEMA:
        columns.setdefault(field.name, pa.nulls(len(batch), field.type))
    usable = pc.and_(
        pc.and_(columns["problem"].is_null(), columns["reason"].is_null()),
        pc.and_(columns["chromosome"].is_valid(), columns["position"].is_valid()),
    ).to_numpy(zero_copy_only=False)
    length, unclear = _spans(columns)
    contig = _contigs(columns["chromosome"], chain)
    start = columns["position"].fill_null(1).to_numpy() - 1
    lift = chain.lift(contig, start, length)
    lift.outcome[(lift.outcome == 0) & lift.reverse & unclear] = OUTCOMES.index("indel_on_reverse_strand")
    done = usable & (lift.outcome == 0)
    reasons = pa.array(OUTCOMES, pa.string()).take(pa.array(lift.outcome[usable]))
    columns["reason"] = _replaced(columns["reason"], usable, reasons)
    if done.any():
        _move(columns, lift.target, lift.start, lift.reverse, done, chain)
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def _move(
    columns: dict[str, pa.Array],
    target: Integers,
    start: Integers,
    reverse: NDArray[np.bool_],
    done: NDArray[np.bool_],
    chain: Chain,
) -> None:
    """Give the records of `done` their new coordinates, and what the file had to the original_* columns."""
    known = columns["reference_allele"].is_valid()
    originals = (
        columns["chromosome"],
        columns["position"],
        pc.if_else(known, columns["reference_allele"], columns["other_allele"]),
        pc.if_else(known, columns["alternate_allele"], columns["effect_allele"]),
    )
    for name, original in zip(LIFT_SCHEMA.names, originals, strict=False):
        # A record that was changed already keeps what the file had.
        kept = pc.coalesce(columns[name], original)
        columns[name] = _replaced(columns[name], done, kept.filter(pa.array(done)))
    contigs = pa.array(chain.targets, pa.string()).take(pa.array(target[done]))
    columns["chromosome"] = _replaced(columns["chromosome"], done, contigs)
    columns["position"] = _replaced(columns["position"], done, pa.array(start[done] + 1))
    strand = pa.array(["forward", "reverse"]).take(pa.array(reverse[done].astype(np.int8)))
    columns["lifted"] = _replaced(columns["lifted"], done, strand)
    reversed_rows = done & reverse
    if reversed_rows.any():
        for name in _ALLELES:
            complements = _reverse_complements(columns[name].filter(pa.array(reversed_rows)))
            columns[name] = _replaced(columns[name], reversed_rows, complements)


def _spans(columns: dict[str, pa.Array]) -> tuple[Integers, NDArray[np.bool_]]:
    """Bases that each record spans, and whether that is unclear for want of a reference allele.

    Where it is not known which allele is the reference, the longer one must be lifted whole.
    """
    reference, effect, other = (
        pc.utf8_length(columns[name]).fill_null(0).to_numpy().astype(np.int64)
        for name in ("reference_allele", "effect_allele", "other_allele")
    )
    known = columns["reference_allele"].is_valid().to_numpy(zero_copy_only=False)
    length = np.maximum(1, np.where(known, reference, np.maximum(effect, other)))
    return length, ~known & (effect != other) & (effect > 0) & (other > 0)


def _contigs(chromosome: pa.Array, chain: Chain) -> Integers:
    encoded = chromosome.dictionary_encode()
    numbers = np.array([chain.contig(name) for name in encoded.dictionary.to_pylist()] or [-1], dtype=np.int64)
    contigs: Integers = numbers[encoded.indices.fill_null(0).to_numpy()]
    return contigs


def _replaced(column: pa.Array, where: NDArray[np.bool_], values: pa.Array) -> pa.Array:
    return pc.replace_with_mask(column, pa.array(where), values.cast(column.type))


def _reverse_complements(alleles: pa.Array) -> pa.Array:
    """Alleles reverse-complemented; what is no sequence (`<DEL>`, `*`, `.`) as it is."""
    encoded = alleles.dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    complements = [text if text.strip("ACGTNacgtn") else reverse_complement(text) for text in texts]
    return pa.array(complements, pa.string()).take(encoded.indices)
