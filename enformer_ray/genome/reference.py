"""The reference genome: random access to a FASTA as sequence codes, with the digests that pin it."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyfaidx

from enformer_ray.errors import ConfigError, InputFileError, MismatchError, UnknownContigError, resource_error
from enformer_ray.files import read_small, refuse_large
from enformer_ray.genome.coordinates import UNKNOWN, Codes, canonical_name, decode, encode_bytes

BLOCK = 1024
"""Bases under one digest."""

BLOCK_DIGEST_BYTES = 16
_CHUNK = 256 * BLOCK  # bases read, checked and cached at a time
_CACHED_CHUNKS = 64
MAX_ALIASES_BYTES = 64 * 2**20
MAX_INDEX_BYTES = 512 * 2**20
"""Of the .fai and .gzi beside a FASTA, which pyfaidx reads whole: ten million contigs."""

_DAMAGE = (pyfaidx.FastaIndexingError, OSError, ValueError, RuntimeError, struct.error, zlib.error)
"""What pyfaidx and Biopython raise on a file that is not a FASTA, is truncated, or has another file's index."""


def block_digests(codes: Codes) -> list[bytes]:
    """Digests (16 bytes each) of consecutive blocks of 1,024 bases; soft-masking and IUPAC codes do not matter."""
    data = codes.tobytes()
    return [
        hashlib.blake2b(data[i : i + BLOCK], digest_size=BLOCK_DIGEST_BYTES).digest()
        for i in range(0, len(data), BLOCK)
    ]


class ReferenceGenome:
    """Bases of a plain or bgzip FASTA, by canonical chromosome name and 0-based half-open coordinates.

    Lower case reads as bases. N, IUPAC codes and everything beyond a contig read as unknown. Not thread-safe.

    Args:
        path: FASTA; a missing `.fai` (and `.gzi`) is built in its folder.
        aliases: further names of contigs: name in the variants -> contig of the FASTA.

    Raises:
        InputFileError: the file is missing, no FASTA, gzip but not bgzip, or its index cannot be built.

    Attributes:
        path: the FASTA.
        contigs: name of each contig in the FASTA by its canonical name, in the order of the FASTA.
        lengths: bp, by canonical name.
        aliases: as given.
    """

    def __init__(self, path: Path, aliases: Mapping[str, str] | None = None) -> None:
        self.path = path
        self._fasta = _open_fasta(path)
        self.contigs: dict[str, str] = {}
        for contig in self._fasta.keys():  # noqa: SIM118 (iterating a Fasta yields records, not names)
            name = canonical_name(contig)
            if name in self.contigs:
                raise InputFileError(
                    f"{path} holds both {self.contigs[name]!r} and {contig!r}, which are the same chromosome {name!r} "
                    "to this program; leave one of them out."
                )
            self.contigs[name] = contig
        if not self.contigs:
            raise InputFileError(
                f"{path} holds no contigs by its index; delete the .fai (and .gzi) beside it so that it is built again."
            )
        self.lengths = {name: len(self._fasta[contig]) for name, contig in self.contigs.items()}
        self.aliases = dict(aliases or {})
        self._check_aliases()
        self._chunks: OrderedDict[tuple[str, int], Codes] = OrderedDict()
        self._expected: dict[str, list[bytes]] = {}

    def _check_aliases(self) -> None:
        unknown = sorted({contig for contig in self.aliases.values() if canonical_name(contig) not in self.lengths})
        if unknown:
            raise InputFileError(
                f"the contig alias table names {', '.join(unknown[:5])}, which {self.path} does not hold; its contigs "
                f"are {self._some_contigs()}."
            )

    def _some_contigs(self) -> str:
        names = list(self.contigs.values())
        return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")

    @property
    def chromosomes(self) -> list[str]:
        """Canonical names in the order of the FASTA."""
        return list(self.contigs)

    def resolve(self, name: str) -> str:
        """Canonical name of a contig as a variant file calls it (`chr1`, `1`, or an alias).

        Raises:
            UnknownContigError: the FASTA has no such contig.
        """
        canonical = canonical_name(name, self.aliases)
        if canonical not in self.lengths:
            raise UnknownContigError(
                f"{self.path} has no contig {name!r}; it holds {self._some_contigs()}. A table of contig aliases "
                "(contig_aliases) can give further names."
            )
        return canonical

    def codes(self, chromosome: str, start: int, end: int) -> Codes:
        """Codes (uint8) of bases `start`..`end` (0-based half-open); bases beyond the contig are unknown.

        Raises:
            MismatchError: expected digests were given (`expect`) and the bases differ from them.
        """
        codes = np.full(max(0, end - start), UNKNOWN, dtype=np.uint8)
        inside_start, inside_end = max(0, start), min(end, self.lengths[chromosome])
        for chunk in range(inside_start // _CHUNK, -(-inside_end // _CHUNK) if inside_end > inside_start else 0):
            first = max(inside_start, chunk * _CHUNK)
            last = min(inside_end, (chunk + 1) * _CHUNK)
            codes[first - start : last - start] = self._chunk(chromosome, chunk)[
                first - chunk * _CHUNK : last - chunk * _CHUNK
            ]
        return codes

    def bases(self, chromosome: str, start: int, end: int) -> str:
        """Upper-case bases `start`..`end` (0-based half-open); unknown ones and those beyond the contig are N."""
        return decode(self.codes(chromosome, start, end))

    def iterate_chunks(self, chromosome: str) -> Iterator[Codes]:
        """Codes of a whole chromosome in consecutive pieces of 262,144 bases."""
        for chunk in range(-(-self.lengths[chromosome] // _CHUNK)):
            yield self._chunk(chromosome, chunk)

    def digests(self, chromosome: str) -> list[bytes]:
        """Digests of a chromosome's blocks of 1,024 bases, in order."""
        return [digest for codes in self.iterate_chunks(chromosome) for digest in block_digests(codes)]

    def expect(self, chromosome: str, digests: list[bytes]) -> None:
        """From now on check every base read from this chromosome against the digests in a plan.

        Raises:
            MismatchError: the chromosome is missing, or is shorter or longer than the digests say.
        """
        blocks = -(-self.lengths.get(chromosome, 0) // BLOCK)
        if len(digests) != blocks:
            raise MismatchError(
                f"{self.path}: chromosome {chromosome} has {blocks} blocks of {BLOCK} bases, but the plan was made "
                f"with {len(digests)}. Give every worker the same FASTA, or plan again in a new directory."
            )
        self._expected[chromosome] = digests
        self._chunks.clear()

    def _chunk(self, chromosome: str, chunk: int) -> Codes:
        key = (chromosome, chunk)
        if key in self._chunks:
            self._chunks.move_to_end(key)
            return self._chunks[key]
        start = chunk * _CHUNK
        end = min(start + _CHUNK, self.lengths[chromosome])
        try:
            codes = encode_bytes(self._read(self.contigs[chromosome], start, end))
        except _DAMAGE as error:
            raise resource_error(error) or InputFileError(
                f"{self.path}: contig {self.contigs[chromosome]} cannot be read behind base {start}: {error}. The "
                "file is damaged or cut short (fetch it again), or its index belongs to another file (delete the .fai "
                "and .gzi beside it so that they are built again)."
            ) from None
        if len(codes) != end - start:
            raise InputFileError(
                f"{self.path}: contig {self.contigs[chromosome]} ends at base {start + len(codes)}, but its index "
                f"says {self.lengths[chromosome]}; delete the .fai (and .gzi) beside it so that it is built again."
            )
        self._check(chromosome, start, codes)
        self._chunks[key] = codes
        if len(self._chunks) > _CACHED_CHUNKS:
            self._chunks.popitem(last=False)
        return codes

    def _read(self, contig: str, start: int, end: int) -> bytes:
        """Letters of the bases `start`..`end` of a contig, with line ends among them if the FASTA is plain."""
        index = self._fasta.faidx
        if not isinstance(index.file, io.BufferedReader):  # bgzip
            return str(self._fasta[contig][start:end]).encode("latin-1", "replace")
        entry = index.index[contig]  # reading by offset: pyfaidx takes five times as long to join the lines

        def offset(base: int) -> int:
            return int(entry.offset + base // entry.lenc * entry.lenb + base % entry.lenc)

        index.file.seek(offset(start))
        lines: bytes = index.file.read(offset(end - 1) + 1 - offset(start))
        return lines

    def _check(self, chromosome: str, start: int, codes: Codes) -> None:
        expected = self._expected.get(chromosome)
        if expected is None:
            return
        first = start // BLOCK
        for block, digest in enumerate(block_digests(codes), first):
            if block >= len(expected) or expected[block] != digest:
                raise MismatchError(
                    f"{self.path}: the bases {chromosome}:{block * BLOCK + 1}-{(block + 1) * BLOCK} are not those that "
                    "the plan was made with. Give every worker the same FASTA, or plan again in a new directory."
                )


def _open_fasta(path: Path) -> pyfaidx.Fasta:
    if not path.is_file():
        raise InputFileError(f"the reference FASTA {path} does not exist or is not a file.")
    for suffix in (".fai", ".gzi"):
        refuse_large(Path(f"{path}{suffix}"), MAX_INDEX_BYTES, "the index of a FASTA", InputFileError)
    try:
        return pyfaidx.Fasta(str(path), as_raw=True, build_index=True)
    except _DAMAGE as error:
        if _index_refused(error):
            raise InputFileError(
                f"the reference FASTA {path} has no index that can be used, and none can be written beside it. "
                f"Run `samtools faidx {path.name}` where the folder can be written, or copy the FASTA to such a folder."
            ) from None
        raise resource_error(error) or InputFileError(
            f"the reference FASTA {path} cannot be read: {str(error).rstrip('.')}. It must be a FASTA with lines of "
            "one length, plain or compressed with bgzip (not gzip); `bgzip` and `samtools faidx` make one. If it is, "
            "the .fai or .gzi beside it is damaged: delete it, and it is built again."
        ) from None


def _index_refused(error: BaseException) -> bool:
    """Whether an index cannot be read or written; pyfaidx hides that in the context of an OSError of its own."""
    causes = (error, error.__context__)
    return isinstance(error, pyfaidx.IndexNotFoundError) or any(
        isinstance(cause, OSError) and str(cause.filename).endswith((".fai", ".gzi")) for cause in causes
    )


def read_contig_aliases(path: Path) -> dict[str, str]:
    """Read a TSV of two columns: a name in the variant files, then the contig of the FASTA; # begins a comment line.

    Raises:
        ConfigError: the file cannot be read, a line does not have two columns, or a name is given two contigs.
    """
    try:
        lines = read_small(path, MAX_ALIASES_BYTES, "a table of contig aliases", ConfigError).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the table of contig aliases {path} (contig_aliases) cannot be read: {error}.") from None
    aliases: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) != 2 or not all(cells):
            raise ConfigError(
                f"{path}, line {number}: {line[:60]!r} is not two columns with a tab between them: the name in the "
                "variant files, then the contig of the FASTA, for example NC_000001.11 and chr1."
            )
        name, contig = cells
        if aliases.setdefault(name, contig) != contig:
            raise ConfigError(
                f"{path}, line {number}: {name} stands for {aliases[name]} and for {contig}; leave one of the lines."
            )
    return aliases
