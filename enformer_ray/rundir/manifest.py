"""The manifest of a finished dataset: its files, rows and hashes. It is written last: a run with one is finished."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from enformer_ray.definitions import name_among
from enformer_ray.errors import ConfigError, DatasetCorruptError, RunIncompleteError
from enformer_ray.rundir import layout
from enformer_ray.rundir.store import RunStore, read_document

if TYPE_CHECKING:
    from enformer_ray.catalogue.build import Catalogue


class AccountLine(BaseModel):
    """How many input alleles ended in one way."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: str
    reason: str | None
    alleles: int


def account(catalogue: Catalogue) -> tuple[AccountLine, ...]:
    """Counts of a catalogue, scored ones first, then by number."""
    lines = [AccountLine(status=s, reason=r or None, alleles=n) for (s, r), n in catalogue.counts.items()]
    order = ["planned", "duplicate", "rejected"]
    return tuple(sorted(lines, key=lambda line: (order.index(line.status), -line.alleles, line.reason or "")))


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ManifestFile(_Frozen):
    """One finished file; `rows` is None where it is no table."""

    path: str
    rows: int | None
    bytes: int
    sha256: str


class ScoredGenes(_Frozen):
    """Variants of gene scores, of which each has a row for every transcription start.

    Attributes:
        variants: unique ones with rows.
        failed: those of which a row has no score.
    """

    variants: int
    failed: int


class Manifest(_Frozen):
    """The content of manifest.json.

    Attributes:
        format_version: as in plan.json.
        fingerprint: of the plan.
        content_hash: hex sha256 over all statistics.
        statistics: content hash of each statistic.
        rows: of each statistic: variants, or variants at transcription starts.
        failed: how many of them have no score.
        account: input alleles by final status and reason.
        genes: counts of variants, where scores are those of genes and rows are more.
        files: every file of the dataset, in the order of its rows.
        created: time, UTC.
    """

    format_version: int
    fingerprint: str
    content_hash: str
    statistics: Mapping[str, str]
    rows: int
    failed: int
    account: tuple[AccountLine, ...]
    genes: ScoredGenes | None = None
    files: tuple[ManifestFile, ...]
    created: str

    def statistic(self, name: str | None, uri: str) -> str:
        """The statistic of that name, which may be its older or its current one, as the run has it.

        The first one when None; ConfigError, which names `uri`, if the run has none of that name.
        """
        if name is None:
            return next(iter(self.statistics))
        stored = name_among(name, self.statistics)
        if stored is None:
            raise ConfigError(
                f"{uri} has no statistic {name!r}; it has {', '.join(self.statistics)}. --statistic names one of "
                "these; other ones need a run of their own."
            )
        return stored

    def refuse_genes(self, uri: str) -> None:
        """Raise ConfigError, which names `uri`, where scores are those of genes: a caller needs one row a variant."""
        if self.genes is not None:
            raise ConfigError(
                f"{uri} has scores of genes, a row for each variant and transcription start, and this needs one score "
                "a variant. Select what you need with `enformer-ray query`, or score the variants with `enformer-ray "
                "score`."
            )

    def under(self, folder: str) -> list[ManifestFile]:
        """Files of one folder of the run directory."""
        return [file for file in self.files if file.path.startswith(f"{folder}/")]


def read_manifest(store: RunStore) -> Manifest | None:
    """The manifest of a run directory; None while the run is not finished."""
    if not store.exists(layout.MANIFEST):
        return None
    return read_document(
        store,
        layout.MANIFEST,
        Manifest.model_validate_json,
        lambda why: DatasetCorruptError(
            f"{store.uri}/{layout.MANIFEST} is not a manifest of this version of enformer-ray ({why}); it has been "
            "changed, or another version wrote it."
        ),
    )


def finished_manifest(store: RunStore) -> Manifest:
    """The manifest of a finished run, whose files exist with their sizes.

    Raises:
        RunIncompleteError: the run is not finished.
        DatasetCorruptError: a listed file is missing or has another size, or the manifest is none.
    """
    manifest = read_manifest(store)
    if manifest is None:
        raise RunIncompleteError(
            f"{store.uri} holds no finished dataset ({layout.MANIFEST} is missing). `enformer-ray status` shows how "
            "far the run is; `enformer-ray run` scores what is left and `enformer-ray finalise` publishes the dataset."
        )
    folders = (layout.SCORES, layout.VARIANTS)
    sizes = {path: size for folder in folders for path, size in store.sizes(folder).items()}
    for file in manifest.files:
        size = sizes.get(file.path) if file.path.startswith(folders) else store.size(file.path)
        if size != file.bytes:
            found = "is missing" if size is None else f"has {size} bytes instead of {file.bytes}"
            raise damaged(store, file.path, found)
    return manifest


def damaged(store: RunStore, path: str, found: str) -> DatasetCorruptError:
    """The error for a finished file that is not as the manifest lists it."""
    return DatasetCorruptError(
        f"{store.uri}/{path} {found}: it is not the file that {layout.MANIFEST} lists. Copy it again from where the "
        "dataset is whole, or score the variants again in a new run directory."
    )
