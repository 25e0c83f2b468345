"""The fingerprint of a plan: everything that can change a number, and what to say when it differs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from enformer_ray.config import GenesConfig, ScoringConfig
from enformer_ray.errors import PlanMismatchError, shortened
from enformer_ray.genome.annotation import Annotation
from enformer_ray.genome.coordinates import UNKNOWN
from enformer_ray.model.geometry import EnformerConfig
from enformer_ray.model.tracks import TrackTable
from enformer_ray.scoring import SCORER_VERSION

Parts = dict[str, Any]


def model_parts(weights_digest: str, geometry: EnformerConfig) -> Parts:
    """Parts that the weights and their geometry make."""
    return {"weights": weights_digest, "geometry": asdict(geometry)}


def scoring_parts(scoring: ScoringConfig, tracks: Sequence[int], table: TrackTable | None) -> Parts:
    """Parts that the scoring options make.

    Args:
        scoring: the options, with device, batch size and threads resolved.
        tracks: selected indices in the head.
        table: the track table; it changes a number only where `centre` is computed.
    """
    parts: Parts = {
        "head": scoring.head,
        "tracks": ranges(tracks),
        "statistics": sorted(scoring.statistics),
        "placement": scoring.placement,
        # The stride of other placements changes nothing.
        "stride": scoring.stride if scoring.placement == "shared" else None,
        "indel": scoring.indel,
        "reverse_complement": scoring.reverse_complement,
        "shifts": scoring.shifts,
        "unknown_base": UNKNOWN,
        "precision": scoring.precision,
        "device": scoring.device,
        "batch_size": scoring.batch_size,
        "threads": scoring.threads,
        "compile": scoring.compile,
        "scorer_version": SCORER_VERSION,
    }
    if "centre" in scoring.statistics and table is not None:
        widths = ",".join(str(table.centre_width(track)) for track in tracks)
        parts["centre_widths"] = hashlib.sha256(widths.encode()).hexdigest()
    return parts


def gene_parts(genes: GenesConfig, annotation: Annotation) -> Parts:
    """Parts that a job with genes has besides: its transcription starts, and what is looked at around them."""
    return {"genes": {"starts": annotation.digest, "bins": genes.bins, "max_distance": genes.max_distance}}


def fingerprint(parts: Mapping[str, Any]) -> str:
    """Hex sha256 of the parts; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def refuse_if_other(existing: Mapping[str, Any], asked: Mapping[str, Any], where: str) -> None:
    """Compare the parts of a plan that is there with those that are asked for.

    Args:
        existing: parts in the plan.
        asked: parts of the job; what it leaves out is not compared.
        where: the run directory, for the message.

    Raises:
        PlanMismatchError: naming each part that differs, with both values.
    """
    differences = differing(existing, asked)
    if differences:
        lines = [f"{part}: planned {there}, asked {wanted}" for part, there, wanted in differences]
        raise PlanMismatchError(
            f"the run directory {where} holds another plan than the one asked for; scores of both must not mix. "
            f"What differs: {'; '.join(lines)}. Give the job another --output, or run it as it was planned."
        )


def differing(existing: Mapping[str, Any], asked: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name and both values, in words, of each part that differs; what `asked` leaves out is not compared."""
    there, wanted = _flat(existing), _flat(asked)
    compared = [part for part in there | wanted if part.split(".")[0] in asked]
    return [
        (part, _short(there.get(part)), _short(wanted.get(part)))
        for part in compared
        if there.get(part) != wanted.get(part)
    ]


def ranges(numbers: Sequence[int]) -> str:
    """Sorted numbers in short, for example `0-3,7`."""
    breaks = [(before, n) for before, n in pairwise(numbers) if n != before + 1]
    starts = [*numbers[:1], *(n for _, n in breaks)]
    ends = [*(before for before, _ in breaks), *numbers[-1:]]
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def _flat(parts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in parts.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def _short(value: object) -> str:
    return shortened(json.dumps(value))
