from __future__ import annotations

from pathlib import Path

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


@settings(deadline=None)
@given(st.text("AN", min_size=1, max_size=30))
def test_runs_of_unknown_bases_are_those_of_the_reference(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    reference = make_reference(tmp_path_factory.mktemp("fasta"), {"1": text})
    found, expected = ContigBases(reference, "1").unknown_runs(), reference.unknown_runs("1")
    assert [runs.tolist() for runs in found] == [runs.tolist() for runs in expected]


def test_runs_go_on_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enformer_ray.genome.contig._STEP", 4)
    text = "NNNNNANAANNNNNNNNNNAAAAAAAAAAN"
    reference = make_reference(tmp_path, {"1": text})
    found, expected = ContigBases(reference, "1").unknown_runs(), reference.unknown_runs("1")
    assert [runs.tolist() for runs in found] == [runs.tolist() for runs in expected]
