"""Columns and types of the tables that the scorer returns."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import ScoringConfig
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.scoring.scorer import ReuseScorer
from tests.scoring.world import float32_model, random_genome, table_values, tiny_model, write_genome

GENOME = random_genome(51)
KEYS = {
    "variant_id": pa.string(),
    "chromosome": pa.string(),
    "position": pa.int32(),
    "reference_allele": pa.string(),
    "alternate_allele": pa.string(),
    "indel_convention": pa.string(),
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> ReferenceGenome:
    return write_genome(GENOME, tmp_path_factory.mktemp("genome"))


@pytest.mark.parametrize("count", [0, 2])
def test_columns(reference: ReferenceGenome, count: int) -> None:
    bases = GENOME["X"]
    variants = [Variant("X", 100, bases[99], bases[99] + "GG"), Variant("X", 300, bases[299:301], "TT")][:count]
    scorer = ReuseScorer(float32_model(), reference, ScoringConfig(statistics=("d2", "sad")), [6, 0])
    tables = scorer.score(variants)
    assert list(tables) == ["d2", "sad"]
    for table in tables.values():
        types = dict(zip(table.schema.names, table.schema.types, strict=True))
        assert types == {**KEYS, "track_0006": pa.float32(), "track_0000": pa.float32()}
        assert all(column.null_count == 0 for column in table.columns)
        keys = table.select(list(KEYS)).to_pylist()
        assert keys == [
            {
                "variant_id": f"X_{v.position}_{v.reference_allele}_{v.alternate_allele}",
                "chromosome": "X",
                "position": v.position,
                "reference_allele": v.reference_allele,
                "alternate_allele": v.alternate_allele,
                "indel_convention": convention,
            }
            for v, convention in zip(variants, ["local", "none"], strict=False)
        ]


def test_a_float64_model_gives_float64_columns(reference: ReferenceGenome) -> None:
    variant = Variant("X", 100, GENOME["X"][99], "A" if GENOME["X"][99] != "A" else "T")
    table = ReuseScorer(tiny_model(), reference, ScoringConfig(), [0]).score([variant])["sad"]
    assert table.schema.field("track_0000").type == pa.float64()
    assert np.isfinite(table_values(table)).all()
