"""Names of the files of a run directory: paths relative to it, with forward slashes."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

PLAN = "plan/plan.json"
PLAN_FOLDER = "plan"
GONE = "plan/gone.parquet"
SHARDS = "plan/shards.parquet"
REFERENCE = "plan/reference.parquet"
TRACK_TABLE = "plan/track_table.txt"
TRACKS = "tracks.parquet"
LEASE = "lease"
EVENTS = "events.jsonl"
RECEIPTS = "receipts"
STAGING = "staging"
FINALISING = "staging/finalise"
SCORES = "scores"
VARIANTS = "variants"
RUN = "run.json"
AUDIT = "audit.parquet"
MANIFEST = "manifest.json"

_RECEIPT = re.compile(rf"{RECEIPTS}/(?P<shard>\d{{5,}})(\.(?P<part>[01](\.[01])*))?\.json")
_LEASE = re.compile(rf"{LEASE}/(?P<epoch>\d{{6,}})\.json")

PLANNING = frozenset({PLAN_FOLDER, TRACKS, LEASE, EVENTS})
"""All that a directory may hold in which planning was interrupted."""


def plan_inputs(chromosome: str) -> str:
    """Input records of a chromosome, or of `other` for contigs that the FASTA does not have."""
    return f"plan/inputs/chr-{_file_name(chromosome)}.parquet"


def plan_variants(chromosome: str) -> str:
    """Unique planned variants of a chromosome."""
    return f"plan/variants/chr-{_file_name(chromosome)}.parquet"


def plan_scored(chromosome: str) -> str:
    """Those of the planned variants of a chromosome that are scored, where earlier runs have others."""
    return f"plan/scored/chr-{_file_name(chromosome)}.parquet"


def shard_name(shard: int) -> str:
    """Shard number as it stands in file names."""
    return f"{shard:05d}"


def staged(shard: int, attempt: str, statistic: str) -> str:
    """Scores of one statistic as one attempt at a shard left them."""
    return f"{STAGING}/{shard_name(shard)}/{attempt}/{statistic}.parquet"


def part_name(shard: int, part: str) -> str:
    """A shard, or a part of one (`run/parts.py`), as it stands in file names: `00012` or `00012.0.1`."""
    return f"{shard_name(shard)}.{part}" if part else shard_name(shard)


def receipt(shard: int, part: str = "") -> str:
    """Receipt of a shard, or of a part of one: what it lists is scored."""
    return f"{RECEIPTS}/{part_name(shard, part)}.json"


def shard_and_part(path: str) -> tuple[int, str] | None:
    """Shard and part of a receipt's path; None for a file that is no receipt."""
    found = _RECEIPT.fullmatch(path)
    return (int(found["shard"]), found["part"] or "") if found else None


def lease(epoch: int) -> str:
    """Claim of one driver on the run directory."""
    return f"{LEASE}/{epoch:06d}.json"


def heartbeat(epoch: int) -> str:
    """Last sign of life of the driver of an epoch."""
    return f"{LEASE}/{epoch:06d}.heartbeat"


def lease_epoch(path: str) -> int | None:
    """Epoch of a claim's path; None for another file."""
    found = _LEASE.fullmatch(path)
    return int(found["epoch"]) if found else None


def scores(statistic: str, chromosome: str, number: int) -> str:
    """Finished scores of one statistic on one chromosome, piece by piece."""
    return f"{SCORES}/{statistic}/chr-{_file_name(chromosome)}-{number}.parquet"


def scored_chromosome(path: str) -> str:
    """Chromosome of the path of finished scores."""
    return unquote(path.rpartition("/")[2].removeprefix("chr-").rpartition("-")[0])


def compacted(path: str, key: str) -> str:
    """Folder in which the finished file `path` is built from just the receipts that `key` stands for."""
    return f"{FINALISING}/{path.removesuffix('.parquet')}/{key}"


def variants(chromosome: str) -> str:
    """Finished input records of a chromosome."""
    return f"{VARIANTS}/chr-{_file_name(chromosome)}.parquet"


def _file_name(chromosome: str) -> str:
    # Contigs may be called anything (HLA*01:01, a/b): nothing but letters, digits and -._ reaches a file name.
    return quote(chromosome, safe="").replace("~", "%7E")
