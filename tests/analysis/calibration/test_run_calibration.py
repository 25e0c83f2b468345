"""One command calibrates a run, and what reads it gives quantiles and z: as numpy computes them of the background."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from enformer_ray.analysis.calibration import apply_calibration
from enformer_ray.analysis.exports.source import ExportSource
from enformer_ray.analysis.exports.text import export_tsv
from enformer_ray.analysis.exports.vcf import export_vcf
from enformer_ray.analysis.report.page import collect, render
from enformer_ray.analysis.run_calibration import calibrate_run
from enformer_ray.config import JobConfig
from enformer_ray.dataset.dataset import open_scores
from enformer_ray.dataset.query import run_query
from enformer_ray.errors import ConfigError, InputFileError, MismatchError, OutputExistsError, SelectionError
from enformer_ray.publish.verify import verify
from enformer_ray.rundir.store import open_store
from tests.analysis.calibration.test_calibration import skewed
from tests.analysis.exports.conftest import TRACKS, World
from tests.dataset.generated import finished_run
from tests.dataset.test_dataset import upload

VARIANTS = 300
COLUMNS = [f"track_{i:04d}" for i in range(TRACKS)]
Score = Callable[[JobConfig], object]


@pytest.fixture(scope="module")
def score(world: World) -> Score:
    """Scores a job of the world without its network: the further a track, the larger its scores."""

    def finish(job: JobConfig) -> Path:
        folder, variants = Path(job.output).parent, [Path(name) for name in job.variants]
        return finished_run(folder, variants, job.reference, world.weights, skewed, ("sad", "d2"), job.tracks_table)

    return finish


@pytest.fixture(scope="module")
def calibrated(world: World, score: Score, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("calibrated") / "run"
    shutil.copytree(world.run, run)
    calibrate_run(str(run), score, count=VARIANTS)
    return run


def by_numpy(run: Path, statistic: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Scores of a run, and their quantiles and z from the scores of its background."""
    scores = open_scores(run).to_arrow(statistic).to_pandas()[COLUMNS]
    background = open_scores(run / "calibration" / "run").to_arrow(statistic).to_pandas()[COLUMNS]
    quantiles, z = scores.copy(), scores.copy()
    for name in COLUMNS:
        others, mine = np.abs(background[name].to_numpy()), scores[name].to_numpy()
        below = (others < np.abs(mine)[:, None]).mean(axis=1) + (others == np.abs(mine)[:, None]).mean(axis=1) / 2
        quantiles[name] = np.sign(mine) * np.minimum(below, VARIANTS / (VARIANTS + 1))
        wide = background[name].to_numpy(np.float64)
        z[name] = (mine - np.mean(wide)) / np.std(wide, ddof=1)
    return scores, quantiles, z


def same_quantiles(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Within one background variant where the grid is read; exactly in the tail of 100."""
    found_, expected_ = found.to_numpy(np.float64), expected.to_numpy(np.float64)
    assert np.abs(found_ - expected_).max() <= 1 / VARIANTS
    tail = np.abs(expected_) > 1 - 98 / VARIANTS
    assert tail.any()
    np.testing.assert_allclose(found_[tail], expected_[tail], rtol=1e-6)


def test_one_command_draws_scores_and_attaches(calibrated: Path, score: Score) -> None:
    lines = [line.split("\t") for line in (calibrated / "calibration" / "background.vcf").read_text().splitlines()]
    drawn = [line for line in lines if line[0][0] != "#"]
    assert len(drawn) == VARIANTS
    assert "enformer_ray_background=" in lines[1][0]
    keys = open_scores(calibrated).to_arrow("sad", [0]).to_pandas()
    # The run has as many variants on both chromosomes, and the background has none of their places.
    snvs = keys[(keys.reference_allele.str.len() == 1) & (keys.alternate_allele.str.len() == 1)]
    on_first = (snvs.chromosome == "1").mean()
    assert np.mean([line[0].removeprefix("chr") == "1" for line in drawn]) == pytest.approx(on_first, abs=0.02)
    places = {(line[0].removeprefix("chr"), int(line[1])) for line in drawn}
    assert places.isdisjoint(zip(snvs.chromosome, snvs.position, strict=True))
    verify(open_store(str(calibrated)))
    again = calibrate_run(str(calibrated), lambda _: pytest.fail("scored again"), count=VARIANTS)
    assert (again.made, again.variants) == (False, VARIANTS)
    with pytest.raises(OutputExistsError, match=r"another background already .variants 300, seed 1.; --force"):
        calibrate_run(str(calibrated), score, count=VARIANTS + 1)


def test_the_largest_rows_are_those_of_numpy(calibrated: Path) -> None:
    scores, quantiles, z = by_numpy(calibrated, "sad")
    rows = np.arange(len(scores))
    size, spread = np.abs(quantiles.to_numpy()), np.abs(z.to_numpy())
    # |quantile|, and |z| where it is equal: first of the tracks of a variant, then of variants.
    tracks = np.array([max(range(TRACKS), key=lambda t: (size[row, t], spread[row, t])) for row in rows])
    order = sorted(rows, key=lambda row: (-size[row, tracks[row]], -spread[row, tracks[row]]))[:12]
    top = open_scores(calibrated).top("sad", 12)
    assert top.column("track").to_pylist() == [COLUMNS[tracks[row]] for row in order]
    np.testing.assert_array_equal(top.column("score").to_numpy(), scores.to_numpy()[order, tracks[order]])
    np.testing.assert_allclose(top.column("quantile").to_numpy(), quantiles.to_numpy()[order, tracks[order]], rtol=1e-6)
    np.testing.assert_allclose(top.column("z").to_numpy(), z.to_numpy()[order, tracks[order]], rtol=1e-5)
    in_one = open_scores(calibrated).top("sad", 3, "ENC1")
    assert set(in_one.column("track").to_pylist()) == {"track_0001"}


def test_ranks_by_score_are_as_before(calibrated: Path, world: World) -> None:
    plain = open_scores(world.run).top("sad", 7)
    ranked = open_scores(calibrated).top("sad", 7, by="score")
    assert ranked.drop_columns(["quantile", "z"]).equals(plain)
    _, quantiles, _ = by_numpy(calibrated, "sad")
    ids = open_scores(calibrated).to_arrow("sad", [0]).column("variant_id").to_pylist()
    for row in ranked.to_pylist():
        expected = quantiles[row["track"]][ids.index(row["variant_id"])]
        assert row["quantile"] == pytest.approx(expected, abs=1 / VARIANTS)
    with pytest.raises(InputFileError, match=r"is not calibrated.*--background auto"):
        open_scores(world.run).top("sad", 7, by="quantile")


def test_a_table_has_them_beside_the_scores(calibrated: Path, tmp_path: Path) -> None:
    scores, quantiles, z = by_numpy(calibrated, "sad")
    with ExportSource(str(calibrated), "sad", (), ("score", "quantile", "z")) as source:
        export_tsv(source, tmp_path / "t.tsv.gz")
    found = pd.read_csv(tmp_path / "t.tsv.gz", sep="\t")
    assert list(found)[7:13] == [
        *(f"track_0000{end}" for end in ("", "_quantile", "_z")),
        *(f"track_0001{end}" for end in ("", "_quantile", "_z")),
    ]
    np.testing.assert_array_equal(found[COLUMNS].to_numpy(np.float32), scores.to_numpy())
    same_quantiles(found[[f"{name}_quantile" for name in COLUMNS]], quantiles)
    np.testing.assert_allclose(found[[f"{name}_z" for name in COLUMNS]], z, rtol=1e-5, atol=1e-6)


def test_a_vcf_has_them_beside_the_scores(calibrated: Path, tmp_path: Path) -> None:
    with ExportSource(str(calibrated), "sad", ["2"], ("score", "z")) as source:
        export_vcf(source, tmp_path / "v.vcf")
        export_tsv(source, tmp_path / "t.tsv.gz")
    lines = (tmp_path / "v.vcf").read_text().splitlines()
    assert sum("##INFO=<ID=enformer_sad_track_0002_z,Number=A,Type=Float" in line for line in lines) == 1
    infos = [
        dict(pair.partition("=")[::2] for pair in line.split("\t")[7].split(";")) for line in lines if line[0] != "#"
    ]
    pairs = {
        pair
        for info in infos
        if "enformer_sad_track_0002" in info
        for pair in zip(*(info[f"enformer_sad_track_0002{end}"].split(",") for end in ("", "_z")), strict=True)
    }
    table = pd.read_csv(tmp_path / "t.tsv.gz", sep="\t", dtype=str, keep_default_na=False)
    assert pairs - {(".", ".")} == set(zip(table.track_0002, table.track_0002_z, strict=True))


def test_queries_have_tables_of_them(calibrated: Path, world: World) -> None:
    scores, quantiles, z = by_numpy(calibrated, "d2")
    names = ", ".join(f"{one}.{name}" for name in COLUMNS for one in ("s", "q", "z"))
    sql = f"SELECT {names} FROM d2 s JOIN d2_quantile q USING (variant) JOIN d2_z z USING (variant) ORDER BY variant"
    with run_query(open_scores(calibrated), sql) as result:
        found = pd.concat([batch.to_pandas() for batch in result.batches]).to_numpy()
    np.testing.assert_array_equal(found[:, 0::3], scores.to_numpy())
    same_quantiles(pd.DataFrame(found[:, 1::3]), quantiles)
    np.testing.assert_allclose(found[:, 2::3], z, rtol=1e-5, atol=1e-6)
    with run_query(open_scores(calibrated), "SELECT * FROM sad_z WHERE chromosome = '2' LIMIT 3") as result:
        assert result.schema.names[1:8] == list(open_scores(calibrated).to_arrow("sad", [0]).column_names)
    with pytest.raises(SelectionError, match="sad_z"), run_query(open_scores(world.run), "SELECT * FROM sad_z"):
        pass


def test_parquet_has_them_in_columns_or_in_their_place(calibrated: Path, tmp_path: Path) -> None:
    scores, quantiles, z = by_numpy(calibrated, "sad")
    apply_calibration(str(calibrated), None, tmp_path / "all", ["sad"], values=("score", "quantile", "z"))
    apply_calibration(str(calibrated), None, tmp_path / "z", ["sad"], values=("z",))
    found, alone = (pd.read_parquet(tmp_path / name / "sad") for name in ("all", "z"))
    pd.testing.assert_frame_equal(found[COLUMNS], scores)
    same_quantiles(found[[f"{name}_quantile" for name in COLUMNS]], quantiles)
    np.testing.assert_allclose(alone[COLUMNS], z, rtol=1e-5, atol=1e-6)
    assert list(alone) == list(open_scores(calibrated).to_arrow("sad").column_names)


@pytest.mark.parametrize("rank_by", [None, "quantile", "score"])
def test_reports_list_what_show_lists(calibrated: Path, rank_by: str | None) -> None:
    report = collect(open_store(str(calibrated)), "sad", top=6, profiles=0, rank_by=rank_by)  # type: ignore[arg-type]
    top = open_scores(calibrated).top("sad", 6, by=rank_by).to_pylist()  # type: ignore[arg-type]
    listed = [(row["score"], row["quantile"], row["z"]) for row in report.tables["top"]]
    assert listed == [(f"{r['score']:.4g}", f"{r['quantile']:.6g}", f"{r['z']:.4g}") for r in top]
    assert "<th>quantile</th><th>z</th>" in render(report)


def test_reports_of_other_runs_have_no_quantiles(world: World) -> None:
    page = render(collect(open_store(str(world.run)), "sad", top=2, profiles=0))
    assert "<th>quantile</th>" not in page


def test_an_interrupted_calibration_goes_on(world: World, score: Score, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(world.run, run)

    def stop(_: JobConfig) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate_run(str(run), stop, count=VARIANTS)
    assert "quantile" not in open_scores(run).top("sad", 1).column_names
    drawn = (run / "calibration" / "background.vcf").stat().st_mtime_ns
    with pytest.raises(OutputExistsError, match=r"whose scoring was not finished.*--force"):
        calibrate_run(str(run), score, count=VARIANTS, seed=2)
    assert calibrate_run(str(run), score, count=VARIANTS).made
    assert (run / "calibration" / "background.vcf").stat().st_mtime_ns == drawn
    assert calibrate_run(str(run), score, count=VARIANTS, seed=2, force=True).made
    assert (run / "calibration" / "background.vcf").stat().st_mtime_ns != drawn


def test_any_finished_run_of_the_same_kind_is_a_background(calibrated: Path, world: World, bucket: str) -> None:
    """Here for a run in a bucket."""
    background = str(calibrated / "calibration" / "run")
    uri = f"{bucket}/run"
    upload(world.run, uri)
    made = calibrate_run(uri, pytest.fail, background)
    assert (made.table, made.variants) == (f"{uri}/calibration/table.parquet", VARIANTS)
    assert open_scores(uri).top("sad", 20).equals(open_scores(calibrated).top("sad", 20))


def test_a_background_of_another_kind_calibrates_nothing(calibrated: Path, world: World, tmp_path: Path) -> None:
    run, background = tmp_path / "run", tmp_path / "other"
    shutil.copytree(world.run, run)
    shutil.copytree(calibrated / "calibration" / "run", background)
    document = (background / "run.json").read_text()
    (background / "run.json").write_text(document.replace('"shifts": 1', '"shifts": 8'))
    with pytest.raises(MismatchError, match="shifts: table 8, run 1"):
        calibrate_run(str(run), pytest.fail, str(background))
    assert not (run / "calibration").exists()
    with pytest.raises(ConfigError, match="is the run itself"):
        calibrate_run(str(run), pytest.fail, str(run))


def test_the_table_of_another_run_is_refused(calibrated: Path, world: World, score: Score, tmp_path: Path) -> None:
    other = tmp_path / "run"
    shutil.copytree(calibrated / "calibration" / "run", other)
    (other / "calibration").mkdir()
    shutil.copy(calibrated / "calibration" / "table.parquet", other / "calibration")
    with pytest.raises(MismatchError, match="calibrates another run"):
        open_scores(other).top("sad", 1)
