"""Variants that could not be scored: rows without scores in what is exported, and nothing in a background."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from enformer_ray.analysis import calibration
from enformer_ray.analysis.calibration import apply_calibration
from enformer_ray.analysis.exports.gene_sets import GeneSet, GeneSets
from enformer_ray.analysis.exports.ld import export_ldsc, export_polyfun
from enformer_ray.analysis.exports.regenie import export_regenie
from enformer_ray.analysis.exports.source import ExportSource
from enformer_ray.analysis.exports.text import export_tsv
from enformer_ray.analysis.exports.vcf import export_vcf
from enformer_ray.analysis.options import AnnotationOptions
from enformer_ray.config import JobConfig
from enformer_ray.dataset.dataset import open_scores
from enformer_ray.publish.finalise import finalise
from enformer_ray.rundir.store import LocalStore
from tests.analysis.exports.strict import regenie_sets
from tests.receipts import publish_failure
from tests.run_fixtures import job, scored_folder

__all__ = ["job", "scored_folder"]


@pytest.fixture
def run(scored_folder: Path, tmp_path: Path) -> str:
    """A finished run whose first variant, chr1:2001, and fourteenth, the insertion, failed."""
    shutil.copytree(scored_folder, tmp_path / "run")
    store = LocalStore(tmp_path / "run")
    publish_failure(store, 0, "timed_out")
    publish_failure(store, 13, "worker_crashed")
    finalise(store)
    return store.uri


def test_exports_say_that_there_is_no_score(run: str, job: JobConfig, tmp_path: Path) -> None:
    with ExportSource(run, "sad", ["0", "4"]) as source:
        table = export_tsv(source, tmp_path / "t.tsv.gz")
        export_ldsc(source, tmp_path / "l", AnnotationOptions(missing=-1))
        export_polyfun(source, tmp_path / "p")
        sets = GeneSets(Path("g.gtf"), [GeneSet("G", "1", ((1, 12_000),))])
        export_regenie(source, tmp_path / "r", sets, names="variant")
        annotated = export_vcf(source, tmp_path / "v.vcf")
    assert table.rows - table.scored == 2
    frame = pd.read_csv(tmp_path / "t.tsv.gz", sep="\t", keep_default_na=False, dtype=str)
    assert frame.index[frame.track_0004 == "NA"].tolist() == [0, 13]
    assert pd.read_csv(tmp_path / "l.1.annot.gz", sep="\t").track_0004.tolist().count(-1) == 2
    assert pd.read_parquet(tmp_path / "p.1.annot.parquet").track_0000.tolist().count(0) == 2
    sets, _, _ = regenie_sets(tmp_path / "r")
    assert set(frame.variant_id[(frame["#chromosome"] == "chr1") & (frame.track_0000 != "NA")]) == set(sets["G"])
    records = [line.split("\t") for line in (tmp_path / "v.vcf").read_text().splitlines() if line[0] != "#"]
    untouched = [int(fields[1]) for fields in records if fields[7] == "."]
    assert untouched.count(2001) == 3  # the first variant, the same once more, and the REF mismatch
    assert 9001 in untouched
    assert annotated.scored == len(records) - len(untouched)


def test_quantiles_are_of_those_that_have_scores(run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "MIN_VARIANTS", 10)
    made = calibration.calibrate(run, tmp_path / "t.parquet", points=11)
    scores = open_scores(run).to_arrow("sad").to_pandas()
    assert made.variants == len(scores) - 2
    row = pd.read_parquet(tmp_path / "t.parquet").query("statistic == 'sad' and column == 'track_0004'").iloc[0]
    assert row.variants == made.variants
    np.testing.assert_allclose(row.signed, np.nanquantile(scores.track_0004, np.linspace(0, 1, 11)), rtol=1e-5)
    apply_calibration(run, tmp_path / "t.parquet", tmp_path / "q")
    found = pd.read_parquet(tmp_path / "q" / "sad")
    assert found.index[found.track_0004.isna()].tolist() == [0, 13]
