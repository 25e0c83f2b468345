"""Clumping of hits around lead variants, by distance and by a table of LD."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from enformer_ray.analysis.association.loci import find_loci, read_ld_table
from enformer_ray.analysis.association.study import Study
from enformer_ray.errors import AnalysisError
from tests.analysis.association.test_parts import simple_study


def study_at(places: list[tuple[int, int]], log_p: list[float], chi_square: list[float] | None = None) -> Study:
    return simple_study(
        len(places),
        chromosome=np.array([c for c, _ in places]),
        position=np.array([p for _, p in places]),
        log_p=np.array(log_p),
        chi_square=np.array(chi_square or [1.0] * len(places)),
        names=("1", "2"),
    )


def test_a_lead_takes_the_hits_within_the_distance() -> None:
    places = [(0, 100), (0, 1_100), (0, 1_101), (0, 2_000), (1, 100), (1, 150)]
    study = study_at(places, [-50, -20, -20, -60, -30, -10])
    hits = np.array([True, True, True, True, True, False])
    loci = find_loci(study, hits, 1_000, None)
    # 2,000 first, which takes 1,100 and 1,101; then 100, which is left alone; then the other chromosome's.
    assert loci.leads.tolist() == [3, 0, 4]
    assert loci.spans.tolist() == [[1, 3], [0, 0], [4, 4]]
    assert len(find_loci(study, hits, 1, None).leads) == 4  # 1,100 and 1,101 are one
    assert find_loci(study, np.zeros(6, dtype=bool), 1_000, None).spans.shape == (0, 2)


def test_of_equal_p_values_the_larger_chi_square_leads() -> None:
    study = study_at([(0, 1), (0, 2), (0, 3)], [-744.4] * 3, [1500, 9000, 1600])
    assert find_loci(study, np.ones(3, dtype=bool), 10, None).leads.tolist() == [1]


PLINK_1 = " CHR_A BP_A SNP_A CHR_B BP_B SNP_B R2\n 1 100 a 1 5000000 d 0.9\n 1 100 a 1 200 b 0.05\n"
PLINK_2 = "#CHROM_A\tPOS_A\tID_A\tCHROM_B\tPOS_B\tID_B\tPHASED_R2\nchr1\t100\ta\tchr1\t5000000\td\t0.9\n"


@pytest.mark.parametrize("table", [PLINK_1, PLINK_2])
def test_a_table_of_ld_takes_the_part_of_the_distance(tmp_path: Path, table: str) -> None:
    study = study_at([(0, 100), (0, 200), (0, 5_000_000)], [-50, -40, -30])
    (tmp_path / "ld").write_text(table)
    hits = np.ones(3, dtype=bool)
    loci = find_loci(study, hits, 1_000_000, read_ld_table(tmp_path / "ld", study, hits, 0.1))
    assert loci.leads.tolist() == [0, 1]
    assert loci.spans.tolist() == [[0, 2], [1, 1]]


def test_a_table_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    study, hits = study_at([(0, 100), (0, 200)], [-50, -40]), np.ones(2, dtype=bool)
    path = tmp_path / "ld"
    with pytest.raises(AnalysisError, match="does not exist"):
        read_ld_table(path, study, hits, 0.1)
    path.write_text("SNP_A SNP_B R\n")
    with pytest.raises(AnalysisError, match=r"PLINK 1\.9"):
        read_ld_table(path, study, hits, 0.1)
    path.write_text(PLINK_2 + "chr1\tx\ta\tchr1\t7\td\t0.9\n")
    with pytest.raises(AnalysisError, match="line 3"):
        read_ld_table(path, study, hits, 0.1)
    path.write_text(PLINK_2)
    with pytest.raises(AnalysisError, match="no pair"):
        read_ld_table(path, study, hits, 0.1)
