"""Where a variant is scored: around its own first base, or around the transcription start of a gene.

A target says where the window of a row is placed, which flank a change of length leaves in place, and over which output
bins the statistics run. A scorer takes one target, and does the same work for either.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from enformer_ray.catalogue.variant import GENE_FIELDS, GeneVariant, Variant
from enformer_ray.config import ScoringConfig
from enformer_ray.definitions import name_among
from enformer_ray.errors import ConfigError
from enformer_ray.genome.coordinates import BIN, shift_offsets
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.model.geometry import EnformerConfig
from enformer_ray.model.tracks import TrackTable
from enformer_ray.scoring.edits import Strand, edit_on


def check_centre(config: ScoringConfig, has_track_table: bool) -> None:
    """Raise ConfigError if the statistic `centre_log2_ratio` is to be computed without a track table."""
    if _asks_for_centre(config) and not has_track_table:
        raise ConfigError(
            "the statistic `centre_log2_ratio` sums over 501 or 2,001 bp by the assay of a track, so it needs a track "
            "table: give --tracks-table (tracks_table in a job file), or leave it out of the statistics."
        )


def _asks_for_centre(config: ScoringConfig) -> bool:
    return name_among("centre_log2_ratio", config.statistics) is not None


class Target(ABC):
    """What a scorer has to know of the place that its rows are scored at."""

    at_tss: ClassVar[bool]
    """Whether that is a transcription start: see `genome.coordinates.window_start`."""

    @abstractmethod
    def predicted_bins(self, geometry: EnformerConfig, scoring: ScoringConfig) -> range:
        """Output bins that some row may need, as many on either side of the middle of the window.

        Raises:
            ConfigError: the options ask for what cannot be scored here.
        """

    @abstractmethod
    def scored_bins(self, variant: Variant, start: int, geometry: EnformerConfig) -> range:
        """Output bins of the window at `start` (0-based) over which the statistics of a row run."""

    @abstractmethod
    def first_base(self, variant: Variant) -> int:
        """The base (0-based) that the window of a row is placed around."""

    @abstractmethod
    def right_stays(self, variant: Variant, reference: ReferenceGenome) -> bool:
        """Whether a change of length leaves the flank towards higher coordinates in place, and moves the other one."""

    @abstractmethod
    def centre_widths(self, tracks: Sequence[int]) -> list[int] | None:
        """Width (bp) of the region that `centre_log2_ratio` sums over, by track; None where that is not scored."""

    @abstractmethod
    def key_columns(self, variants: Sequence[Variant]) -> Mapping[str, pa.Array]:
        """Columns that identify a row, besides those of its variant."""


@dataclass(frozen=True)
class VariantTarget(Target):
    """Around the variant, over all output bins.

    Attributes:
        track_table: what the tracks are; needed by the statistic `centre_log2_ratio` alone.
    """

    at_tss: ClassVar[bool] = False

    track_table: TrackTable | None = None

    def predicted_bins(self, geometry: EnformerConfig, scoring: ScoringConfig) -> range:
        """All.

        Raises:
            ConfigError: `centre_log2_ratio` is asked for without a track table.
        """
        check_centre(scoring, self.track_table is not None)
        return range(geometry.bins)

    def scored_bins(self, variant: Variant, start: int, geometry: EnformerConfig) -> range:  # noqa: ARG002
        """All."""
        return range(geometry.bins)

    def first_base(self, variant: Variant) -> int:
        """First base of the reference allele."""
        return variant.start

    def right_stays(self, variant: Variant, reference: ReferenceGenome) -> bool:  # noqa: ARG002
        """Never: the left flank stays, as in the published notebook."""
        return False

    def centre_widths(self, tracks: Sequence[int]) -> list[int] | None:
        """501 or 2,001, by the assay of each track."""
        return None if self.track_table is None else [self.track_table.centre_width(track) for track in tracks]

    def key_columns(self, variants: Sequence[Variant]) -> Mapping[str, pa.Array]:  # noqa: ARG002
        """None."""
        return {}


@dataclass(frozen=True)
class TssTarget(Target):
    """Around a transcription start, over the bins next to it; every row is a `GeneVariant`.

    The sequence is anchored at the start. An edit before it (towards lower coordinates) moves only what is before the
    edit, an edit after it only what follows; one that takes or replaces the start itself keeps the bases upstream in
    place, which the transcription machinery is assembled on.

    Attributes:
        bins: output bins over which the statistics run, an odd number: that of the start in their middle.
    """

    at_tss: ClassVar[bool] = True

    bins: int = 3

    def predicted_bins(self, geometry: EnformerConfig, scoring: ScoringConfig) -> range:
        """Those that can be next to a transcription start: see `bins_near_tss`."""
        return bins_near_tss(geometry, scoring, self.bins)

    def scored_bins(self, variant: Variant, start: int, geometry: EnformerConfig) -> range:
        """The bin of the start, and as many on either side of it."""
        middle = (self.first_base(variant) - start) // BIN - geometry.crop
        first = middle - self.bins // 2
        return range(first, first + self.bins)

    def first_base(self, variant: Variant) -> int:
        """The transcription start."""
        return _gene_row(variant).tss_position - 1

    def right_stays(self, variant: Variant, reference: ReferenceGenome) -> bool:
        """Whether the edit ends before the transcription start, or takes that of a gene on the minus strand."""
        edit = edit_on(Strand(reference, variant.chromosome, reverse=False), variant)
        start = self.first_base(variant)
        if edit.start <= start < edit.end:
            return _gene_row(variant).gene_strand == "-"
        return edit.end <= start

    def centre_widths(self, tracks: Sequence[int]) -> list[int] | None:  # noqa: ARG002
        """None: `predicted_bins` refuses `centre_log2_ratio`."""
        return None

    def key_columns(self, variants: Sequence[Variant]) -> Mapping[str, pa.Array]:
        """The gene, its strand, its transcription start, and the distance to that."""
        rows = [_gene_row(variant) for variant in variants]
        return {field.name: pa.array([getattr(row, field.name) for row in rows], field.type) for field in GENE_FIELDS}


def _gene_row(variant: Variant) -> GeneVariant:
    # Rows come from a plan, and only at run time is it known whether that is one of genes.
    if not isinstance(variant, GeneVariant):
        raise TypeError(f"{variant.variant_id} has no transcription start; a TssTarget scores rows of GeneVariant")
    return variant


def bins_near_tss(geometry: EnformerConfig, scoring: ScoringConfig, count: int) -> range:
    """Output bins that can be next to a transcription start, as many on either side of the middle of the window.

    Args:
        geometry: of the network.
        scoring: placement, stride and shifts decide where in its window a transcription start is.
        count: output bins over which the statistics run.

    Raises:
        ConfigError: the window has not so many, or `centre_log2_ratio` is asked for.
    """
    if _asks_for_centre(scoring):
        raise ConfigError(
            "the statistic `centre_log2_ratio` looks at the bins around a variant; scores of genes look at those "
            "around a transcription start. Leave it out of --statistics: log2_ratio is the same over these bins."
        )
    bins = _symmetric_bins(geometry, scoring, count)
    if bins.start < 0:
        raise ConfigError(
            f"{count} bins around a transcription start do not fit into the {geometry.bins} output bins of the "
            "network with this --placement and --stride: give fewer bins (--bins) or a smaller stride."
        )
    return bins


def bins_fit(geometry: EnformerConfig, scoring: ScoringConfig, around: int) -> bool:
    """Whether the window has all bins that `bins_near_tss` asks for."""
    return _symmetric_bins(geometry, scoring, around).start >= 0


def _symmetric_bins(geometry: EnformerConfig, scoring: ScoringConfig, around: int) -> range:
    # How far, bp, a placement may put the start from the middle of its window: see genome.coordinates.window_start.
    half = BIN // 2 * scoring.stride
    lowest, highest = {"centred": (0, 0), "binned": (0, BIN - 1), "shared": (-half, half - 1)}[scoring.placement]
    middle, radius = geometry.sequence_length // 2, around // 2
    # Shifts move the window back, and so the start forward in it.
    offsets = shift_offsets(scoring.shifts)
    first = (middle + lowest + min(offsets)) // BIN - geometry.crop - radius
    last = (middle + highest + max(offsets)) // BIN - geometry.crop + radius
    # Predictions of the reverse strand are flipped: the same bins have to be there on both sides.
    first = min(first, geometry.bins - 1 - last)
    return range(first, geometry.bins - first)
