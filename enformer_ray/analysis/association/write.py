"""The folder of an analysis: three tables, and a JSON document that is written last."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from enformer_ray.analysis.association.associate import Association
from enformer_ray.errors import AssociationError

TABLES = ("tracks.parquet", "assays.parquet", "credible_sets.parquet")
DOCUMENT = "association.json"


def check_folder(folder: Path, force: bool) -> None:
    """Refuse to write where something is; before an analysis, which may take long.

    Args:
        folder: for the tables.
        force: an earlier analysis may be replaced; other files may not.

    Raises:
        AssociationError: the folder is not empty, or no folder.
    """
    if folder.exists() and not folder.is_dir():
        raise AssociationError(f"--output {folder} is a file; give a new or empty folder.")
    there = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    foreign = [name for name in there if name not in (*TABLES, DOCUMENT)]
    if foreign:
        raise AssociationError(
            f"the folder {folder} (--output) holds other files ({', '.join(foreign[:5])}), which are never replaced; "
            "give a new or empty folder."
        )
    if there and not force:
        raise AssociationError(
            f"the folder {folder} (--output) holds an earlier analysis; --force replaces it, or give another folder."
        )


def write_association(association: Association, folder: Path) -> None:
    """Write the tables, then the document that says that they are whole.

    Args:
        association: what is written.
        folder: checked by `check_folder`; made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DOCUMENT).unlink(missing_ok=True)
    tables = (association.tracks, association.assays, association.credible_sets)
    for name, table in zip(TABLES, tables, strict=True):
        pq.write_table(table, folder / name, compression="zstd")
    (folder / DOCUMENT).write_text(json.dumps(association.summary, indent=1) + "\n", encoding="utf-8")
