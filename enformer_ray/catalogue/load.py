"""The first pass: parts of variant files, read and divided by contig into scratch files."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.catalogue.liftover import chain_of, lift_batch
from enformer_ray.catalogue.orientation import Orientation
from enformer_ray.catalogue.prepare import prepared
from enformer_ray.catalogue.scratch import SCRATCH_SCHEMA, ScratchWriter
from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import UnknownContigError, VariantFileError
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.readers.parts import Part, PartReader

Item = TypeVar("Item")

_AHEAD = 3


@dataclass
class LoadedPart:
    """A part in its scratch folder.

    Attributes:
        part: what was read.
        folder: where its scratch files are.
        rows: alleles.
        records: records of the file; numbers of a part begin at 1.
        lines: lines of a part that is not a whole file, numbered from 1.
        problems: records that could not be read.
        contigs: alleles by number of the contig in the FASTA; behind its last one are those on none of them.
        unknown: alleles by name of a contig that the FASTA does not have.
        orientation: where its first records have the reference allele, if the file does not say.
    """

    part: Part
    folder: Path
    rows: int = 0
    records: int = 0
    lines: int = 0
    problems: int = 0
    contigs: Counter[int] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    orientation: Orientation = field(default_factory=Orientation)


def load_part(part: Part, reference: ReferenceGenome, config: CatalogueConfig, folder: Path) -> LoadedPart:
    """Read a part of a variant file into scratch files.

    Args:
        part: what to read.
        reference: the FASTA.
        config: how files are read.
        folder: made for the part.

    Raises:
        VariantFileError: the file cannot be read.
        ChainFileError: the chain file that lifts it cannot be read.
    """
    folder.mkdir(parents=True)
    loaded, writer = LoadedPart(part, folder), ScratchWriter(folder)
    names, chain = _ContigNumbers(reference), chain_of(part.path, config)
    reader = PartReader(part, config)
    for batch in ahead(iter(reader), _AHEAD):
        records = prepared(batch)
        records = lift_batch(records, chain) if chain else records
        loaded.orientation.look(records, reference)
        numbers = np.arange(loaded.rows, loaded.rows + len(batch))
        loaded.rows += len(batch)
        loaded.records = batch.column("record")[-1].as_py()
        loaded.problems += len(batch) - batch.column("problem").null_count
        contigs = names.numbers(records, loaded)
        writer.add(pa.record_batch([*records.columns, pa.array(numbers)], schema=SCRATCH_SCHEMA), contigs)
    writer.flush()
    loaded.lines = reader.lines
    return loaded


def load_parts(
    parts: Sequence[Part], load: Callable[[Sequence[Part], Path], Iterable[LoadedPart]], folder: Path
) -> list[LoadedPart]:
    """Load parts, so that numbers, order and errors are those of files that are read in one go.

    What is said of a bad record names its line, which a part does not know: a file with any is read again, whole.

    Args:
        parts: of all files, in order.
        load: loads parts into folders of their own under a folder, in their order.
        folder: for them.

    Raises:
        VariantFileError: a file cannot be read.
    """
    loaded: list[LoadedPart] = []
    for number, group in groupby(parts, key=lambda part: part.file):
        pieces = list(group)
        try:
            found = list(load(pieces, folder / f"{number}-parts"))
        except VariantFileError:
            if len(pieces) == 1:
                raise
            found = []
        if len(pieces) > 1 and (not found or any(part.problems for part in found)):
            shutil.rmtree(folder / f"{number}-parts", ignore_errors=True)
            found = list(load([Part(number, pieces[0].path)], folder / f"{number}-whole"))
        loaded += found
    return loaded


class _ContigNumbers:
    """Numbers of contigs in the FASTA, by the names that files use."""

    def __init__(self, reference: ReferenceGenome) -> None:
        self._reference = reference
        self._numbers = {name: number for number, name in enumerate(reference.chromosomes)}
        self._known: dict[str | None, int] = {None: len(self._numbers)}

    def numbers(self, batch: pa.RecordBatch, loaded: LoadedPart) -> NDArray[np.int32]:
        """Contig of each record, counted in `loaded`."""
        column = batch.column("chromosome")
        if column.null_count:  # what could not be read has no place either
            column = column.fill_null("")
        encoded = pc.dictionary_encode(column)
        names = encoded.dictionary.to_pylist()
        counts = np.bincount(encoded.indices.to_numpy(), minlength=len(names)).tolist()
        numbers = np.array([self._number(name) for name in names], dtype=np.int32)
        for name, number, count in zip(names, numbers.tolist(), counts, strict=True):
            loaded.contigs[number] += count
            if number == len(self._numbers) and name:
                loaded.unknown[name] += count
        of_records: NDArray[np.int32] = numbers[encoded.indices.to_numpy()]
        return of_records

    def _number(self, name: str) -> int:
        if name not in self._known:
            try:
                self._known[name] = self._numbers[self._reference.resolve(name)]
            except UnknownContigError:
                self._known[name] = len(self._numbers)
        return self._known[name]


def ahead(items: Iterator[Item], most: int) -> Iterator[Item]:
    """Items, of which a few are made in another thread before they are asked for."""
    ended = object()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        waiting = [pool.submit(next, items, ended) for _ in range(most)]
        try:
            while (item := waiting.pop(0).result()) is not ended:
                waiting.append(pool.submit(next, items, ended))
                yield item  # type: ignore[misc]  # `ended` was ruled out
        finally:
            for future in waiting:
                future.cancel()
