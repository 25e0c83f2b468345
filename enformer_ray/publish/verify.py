"""Verifies a finished dataset against its manifest: every byte, row and score; and lists its files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from enformer_ray.catalogue.checks import Counts, count_statuses
from enformer_ray.errors import DatasetCorruptError
from enformer_ray.rundir import layout
from enformer_ray.rundir.layout import ContentHash, blocks, combined, row_digests, score_schema
from enformer_ray.rundir.manifest import Manifest, ManifestFile, damaged, finished_manifest
from enformer_ray.rundir.store import RunStore, open_with_digest

_BATCH_VALUES = 2**24  # 64 MiB of scores


@dataclass(frozen=True)
class VerifyProgress:
    """Progress of a verification, in files and bytes of the dataset."""

    files: int
    files_total: int
    bytes: int
    bytes_total: int


@dataclass(frozen=True)
class Verified:
    """A dataset that agrees with its manifest.

    Attributes:
        manifest: of the dataset.
        content_hash: computed from its data, and equal to that of the manifest.
        unlisted: files in scores/ and variants/ that the manifest does not list.
    """

    manifest: Manifest
    content_hash: str
    unlisted: tuple[str, ...]


def verify(store: RunStore, on_progress: Callable[[VerifyProgress], None] = lambda _: None) -> Verified:
    """Check a finished dataset against its manifest: files, sizes, sha256, schemas, rows, scores, account.

    Args:
        store: the run directory.
        on_progress: called after each file.

    Raises:
        RunIncompleteError: the run is not finished.
        DatasetCorruptError: a file is not the one that was published; the message names it.
    """
    manifest = finished_manifest(store)
    check = _Verification(store, manifest)
    read, total = 0, sum(file.bytes for file in manifest.files)
    # sorted is stable: tracks.parquet, which gives the columns of scores, comes first, all others stay in their order.
    for number, file in enumerate(sorted(manifest.files, key=lambda file: file.path != layout.TRACKS), 1):
        check.file(file)
        read += file.bytes
        on_progress(VerifyProgress(number, len(manifest.files), read, total))
    content_hash = check.content_hash()
    listed = {file.path for file in manifest.files}
    found = store.list(layout.SCORES) + store.list(layout.VARIANTS)
    return Verified(manifest, content_hash, tuple(path for path in found if path not in listed))


def dataset_paths(store: RunStore, statistic: str | None = None, variants: bool = False) -> list[str]:
    """Paths or URIs of the files of a finished dataset, in the order of their rows.

    Args:
        store: the run directory.
        statistic: only the files of its scores.
        variants: only the files of the input records, or these after those of a statistic.

    Raises:
        RunIncompleteError: the run is not finished.
        DatasetCorruptError: a file is missing or has another size.
        ConfigError: the dataset has no such statistic.
    """
    manifest = finished_manifest(store)
    files: list[ManifestFile] = []
    if statistic is not None:
        files += manifest.under(f"{layout.SCORES}/{manifest.statistic(statistic, store.uri)}")
    files += manifest.under(layout.VARIANTS) if variants else []
    selected = manifest.files if statistic is None and not variants else files
    return [f"{store.uri}/{file.path}" for file in selected]


class _Verification:
    def __init__(self, store: RunStore, manifest: Manifest) -> None:
        self._store, self._manifest = store, manifest
        self._schema = pa.schema([])
        self._hashes: dict[str, ContentHash] = {}
        self._rows: Counter[str] = Counter()
        self._unscored: Counter[str] = Counter()
        self._statuses: Counts = Counter()

    def file(self, file: ManifestFile) -> None:
        """Check one file; tracks.parquet is the first, and files of scores follow in the order of their rows."""
        # The rows are read from the bytes of which this is the sha256: an object is downloaded once.
        with open_with_digest(self._store, file.path) as (source, sha256):
            if sha256 != file.sha256:
                raise damaged(self._store, file.path, f"has the sha256 {sha256} instead of {file.sha256}")
            if not file.path.endswith(".parquet"):
                return
            try:
                with pq.ParquetFile(source) as table:
                    self._table(file, table)
            except pa.ArrowInvalid as error:
                raise damaged(self._store, file.path, f"cannot be read ({error})") from None

    def content_hash(self) -> str:
        """The hash of all scores, once every file has been seen and the sums agree."""
        manifest = self._manifest
        expected = Counter({(line.status, line.reason): line.alleles for line in manifest.account})
        if self._statuses != expected:
            raise self._disagrees(f"{layout.VARIANTS}/ holds other numbers of alleles by status than its account")
        by_status: Counter[str] = Counter()
        for (status, _), number in expected.items():
            by_status[status] += number
        genes = manifest.genes
        expected_numbers = (manifest.rows, manifest.failed) if genes is None else (genes.variants, genes.failed)
        if (by_status["scored"] + by_status["failed"], by_status["failed"]) != expected_numbers:
            raise self._disagrees("its account does not add up to its rows")
        for name, content_hash in manifest.statistics.items():
            if self._rows[name] != manifest.rows or self._unscored[name] != manifest.failed:
                raise self._disagrees(
                    f"the files of {name} hold {self._rows[name]} rows, {self._unscored[name]} of them without a "
                    f"score; it says {manifest.rows} and {manifest.failed}"
                )
            if name not in self._hashes or self._hashes[name].hexdigest() != content_hash:
                raise self._disagrees(f"the scores of {name} have another content hash")
        found = combined({name: content.hexdigest() for name, content in self._hashes.items()})
        if found != manifest.content_hash:
            raise self._disagrees(f"the content hash of its scores is {found} instead of {manifest.content_hash}")
        return found

    def _table(self, file: ManifestFile, table: pq.ParquetFile) -> None:
        if table.metadata.num_rows != file.rows:
            raise damaged(self._store, file.path, f"has {table.metadata.num_rows} rows instead of {file.rows}")
        if file.path == layout.TRACKS:
            tracks = table.read(columns=["index"]).column("index").to_pylist()
            self._schema = score_schema(tracks, self._manifest.genes is not None)
        elif file.path.startswith(f"{layout.VARIANTS}/"):
            for batch in table.iter_batches(columns=["status", "reason"]):
                self._statuses.update(count_statuses(batch))
        elif file.path.startswith(f"{layout.SCORES}/"):
            self._scores(file, table)

    def _scores(self, file: ManifestFile, table: pq.ParquetFile) -> None:
        if not table.schema_arrow.equals(self._schema):
            raise damaged(self._store, file.path, f"has other columns than {layout.TRACKS} lists")
        statistic = file.path.split("/")[1]
        content = self._hashes.setdefault(statistic, ContentHash(self._schema))
        for batch in table.iter_batches(batch_size=max(1, _BATCH_VALUES // len(self._schema))):
            for rows, scores in blocks(pa.Table.from_batches([batch])):
                content.update(row_digests(rows, scores))
                self._unscored[statistic] += int(np.count_nonzero(np.isnan(scores).any(axis=1)))
        self._rows[statistic] += table.metadata.num_rows

    def _disagrees(self, what: str) -> DatasetCorruptError:
        return DatasetCorruptError(
            f"{self._store.uri}/{layout.MANIFEST} does not belong to its files: {what}. One of them has been changed. "
            "Copy the run directory again from where it is whole, or score the variants again in a new one."
        )
