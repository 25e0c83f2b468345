"""Chain files: which stretch of one assembly is which of another, for spans of bases.

A chain file (UCSC's format, https://genome.ucsc.edu/goldenPath/help/chain.html) says which stretch of one assembly
corresponds to which of another: a chain is a list of blocks, in which every base of the source assembly has its base in
the target assembly, with gaps between the blocks. Held as arrays, it lifts millions of positions a second.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyliftover.chainfile import LiftOverChain

from enformer_ray.errors import InputFileError, resource_error
from enformer_ray.files import open_bounded
from enformer_ray.genome.coordinates import canonical_name

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
        block: number of the block that holds the span; undefined where it is not lifted.
    """

    target: Integers
    start: Integers
    reverse: NDArray[np.bool_]
    outcome: Integers
    block: Integers


class Replacements(NamedTuple):
    """What the target assembly has in place of spans of the source assembly; one entry for each span.

    Attributes:
        found: whether it has something there, be it no base at all; the others are undefined where not.
        target: index in `Chain.targets`.
        start: 0-based first base on the forward strand.
        end: exclusive.
        reverse: whether it is on the reverse strand.
    """

    found: NDArray[np.bool_]
    target: Integers
    start: Integers
    end: Integers
    reverse: NDArray[np.bool_]


class Surroundings(NamedTuple):
    """A block in the target assembly, and what is on either side of it; 0-based half-open, forward strand.

    Attributes:
        start: its first base; one less where the contigs of both assemblies begin with it.
        end: its exclusive end; one more where the contigs of both assemblies end with it.
        inserted_before: the first of the bases before it that only the target assembly has, if those are all that is
            between it and the block before of the same chain; else None.
        inserted_behind: the exclusive end of the same behind it.
    """

    start: int
    end: int
    inserted_before: int | None
    inserted_behind: int | None


class _Blocks(NamedTuple):
    """Blocks of all chains, 0-based half-open. The contigs of the source are concatenated on one axis."""

    start: Integers  # on the axis of the source
    end: Integers
    target: Integers
    target_start: Integers  # counted along the strand of the chain
    reverse: NDArray[np.bool_]
    chain: Integers


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
        return Lift(target, lifted, reverse, outcome, block)

    def surroundings(self, block: int) -> Surroundings:
        """A block by its number, as `Lift` has it."""
        blocks, reverse = self._blocks, bool(self._blocks.reverse[block])
        contig = int(np.searchsorted(self._offsets, blocks.start[block], side="right")) - 1
        size = int(self._target_sizes[blocks.target[block]])
        start = int(blocks.target_start[block])
        end = start + int(blocks.end[block] - blocks.start[block])
        before, behind = self._inserted(block - 1, block), self._inserted(block, block + 1)
        # Along the strand of the chain, the end of a contig is an end of both assemblies.
        start -= int(start == 0 and blocks.start[block] == self._offsets[contig])
        end += int(end == size and blocks.end[block] == self._offsets[contig] + self._sizes[contig])
        if not reverse:
            return Surroundings(start, end, before and before[0], behind and behind[1])
        return Surroundings(size - end, size - start, behind and size - behind[1], before and size - before[0])

    def _inserted(self, left: int, right: int) -> tuple[int, int] | None:
        """Bases along the strand of a chain that only the target has, if they are all that is between two blocks."""
        blocks = self._blocks
        if left < 0 or right == len(blocks.start) or blocks.chain[left] != blocks.chain[right]:
            return None
        if blocks.end[left] != blocks.start[right]:
            return None
        return int(blocks.target_start[left] + blocks.end[left] - blocks.start[left]), int(blocks.target_start[right])

    def across(self, contig: Integers, start: Integers, length: Integers) -> Replacements:
        """What the target has in place of spans that are not in one block, but begin and end in one chain.

        At either end the span's own base is in a block of the chain, or else the base beside it is.

        Args:
            contig: numbers by `contig`.
            start: 0-based first bases, within the contig.
            length: bp, at least 1.
        """
        blocks, first = self._blocks, self._offsets[contig] + start
        end = first + length
        # At an end of the contig no base is beside the span: its own is taken twice.
        beside = first - (start > 0), end - (start + length == self._sizes[contig])
        left, right = self._block_at(first), self._block_at(end - 1)
        left = np.where(left < 0, self._block_at(beside[0]), left)
        right = np.where(right < 0, self._block_at(beside[1]), right)
        found = (left >= 0) & (right >= 0) & (blocks.chain[left] == blocks.chain[right])
        # An edge that is right behind a block is as far from its start as one within.
        there = blocks.target_start[left] + first - blocks.start[left]
        there_end = blocks.target_start[right] + end - blocks.start[right]
        target, reverse = blocks.target[left], blocks.reverse[left]
        size = self._target_sizes[target]
        starts, ends = np.where(reverse, size - there_end, there), np.where(reverse, size - there, there_end)
        return Replacements(found & (starts <= ends), target, starts, ends, reverse)

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
        for number, chain in enumerate(chains):
            target = numbers.setdefault(canonical_name(chain.target_name), len(numbers))
            if target == len(self.targets):
                self.targets.append(chain.target_name)
            start, end, target_start = np.array(chain.blocks, dtype=np.int64).reshape(-1, 3).T
            filled = start < end  # some programs end a chain with a block of no bases
            offset = self._offsets[self._numbers[canonical_name(chain.source_name)]]
            constants = [np.full(filled.sum(), value) for value in (target, chain.target_strand == "-", number)]
            columns.append((start[filled] + offset, end[filled] + offset, target_start[filled], *constants))
        self._target_sizes = np.array([self.target_lengths[canonical_name(name)] for name in self.targets])
        starts, ends, target_starts, targets, reverse, numbers_of_chains = map(
            np.concatenate, zip(*columns, strict=True)
        )
        return _Blocks(starts, ends, targets, target_starts, reverse.astype(bool), numbers_of_chains)


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
