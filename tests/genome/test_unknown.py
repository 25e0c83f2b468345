from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enformer_ray.config import Placement
from enformer_ray.genome.contig import ContigBases, UnknownBases
from enformer_ray.genome.coordinates import window_start
from enformer_ray.genome.reference import ReferenceGenome
from tests.catalogue.worlds import make_reference

PIECES = st.lists(st.tuples(st.sampled_from("ACN"), st.integers(1, 90)), min_size=1, max_size=12)


@settings(deadline=None)
@given(
    PIECES,
    st.sampled_from([128, 256, 384]),
    st.sampled_from(["centred", "binned", "shared"]),
    st.integers(1, 6),
    st.booleans(),
)
def test_counts_are_those_of_the_bases_themselves(
    tmp_path_factory: pytest.TempPathFactory,
    pieces: list[tuple[str, int]],
    length: int,
    placement: Placement,
    stride: int,
    at_tss: bool,
) -> None:
    bases = "".join(base * count for base, count in pieces)
    reference: ReferenceGenome = make_reference(tmp_path_factory.mktemp("fasta"), {"1": bases})
    positions = np.arange(1, len(bases) + 1)
    runs = ContigBases(reference, "1").unknown_runs()
    counts = UnknownBases(runs, len(bases), length, placement, stride, at_tss).in_windows(positions)
    assert counts.dtype == np.int32
    starts = [window_start(int(p) - 1, length, placement, 0, stride, at_tss) for p in positions]
    assert counts.tolist() == [reference.bases("1", s, s + length).count("N") for s in starts]
