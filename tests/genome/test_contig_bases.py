from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enformer_ray.errors import UnknownContigError
from enformer_ray.genome.contig import ContigBases
from enformer_ray.genome.coordinates import decode
from tests.catalogue.worlds import make_reference


def test_the_bases_of_the_contig_and_no_other(tmp_path: Path) -> None:
    contigs = {"chr1": "ACGTNRacgtn" * 60_000, "chr2": "A"}
    bases = ContigBases(make_reference(tmp_path, contigs, {"one": "chr1"}), "1")
    expected = contigs["chr1"].upper().replace("R", "N")
    assert decode(bases.codes) == expected
    assert bases.bases("1", 300_000, 300_030) == expected[300_000:300_030]
    assert bases.lengths == {"1": 660_000}
    assert bases.resolve("1") == "1"
    with pytest.raises(UnknownContigError):
        bases.resolve("2")


@settings(deadline=None, max_examples=60)
@given(
    pieces=st.lists(st.tuples(st.booleans(), st.integers(1, 3_000) | st.sampled_from([1, 1024, 2048])), max_size=8),
    soft=st.booleans(),
    step=st.sampled_from([1, 4, 2048, 1 << 22]),
)
def test_unknown_runs_are_those_of_the_string(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[bool, int]], soft: bool, step: int
) -> None:
    bases = "".join(("N" if unknown else "A") * length for unknown, length in pieces) or "C"
    bases = bases.lower() if soft else bases
    reference = make_reference(tmp_path_factory.mktemp("runs"), {"1": bases})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("enformer_ray.genome.contig._STEP", step)
        starts, ends = ContigBases(reference, "1").unknown_runs()
    covered = [position for start, end in zip(starts, ends, strict=True) for position in range(start, end)]
    assert covered == [position for position, base in enumerate(bases) if base in "Nn"]
    assert all(end < start for end, start in zip(ends[:-1], starts[1:], strict=True)), "runs that touch are one run"
    assert (starts < ends).all()
    assert starts.dtype == ends.dtype == np.int64
