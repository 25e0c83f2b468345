from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from enformer_ray.analysis import calibration as module
from enformer_ray.analysis.background import make_background
from enformer_ray.analysis.calibration import apply_calibration, calibrate, reference_digests
from enformer_ray.catalogue.variant import Variant
from enformer_ray.dataset.calibration import CalibrationTable, family
from enformer_ray.dataset.dataset import open_scores
from enformer_ray.dataset.finished import FinishedRun
from enformer_ray.errors import InputFileError, MismatchError, OutputExistsError, RunIncompleteError
from enformer_ray.rundir.store import LocalStore
from tests.analysis.exports.conftest import TRACKS, World, score_of
from tests.dataset.generated import finished_run

VARIANTS = 400


def skewed(variants: Sequence[Variant]) -> NDArray[np.float32]:
    """Scores of a background: track t spreads as 10^t, one is never negative, one hardly ever anything but 0."""
    values = np.array([[[score_of(v.variant_id, t, s) for t in range(TRACKS)] for v in variants] for s in range(2)])
    values *= 10.0 ** np.arange(TRACKS)
    values[1] = np.abs(values[1])
    values[:, :, 2] *= np.abs(values[:, :, 2]) > 97
    return values.astype(np.float32)


@pytest.fixture(scope="module")
def background(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("background")
    make_background(world.fasta, world.vcf, VARIANTS, 1, folder / "b.vcf.gz")
    inputs = [folder / "b.vcf.gz"], world.fasta, world.weights
    return finished_run(folder, *inputs, skewed, ("sad", "d2"), world.fasta.with_name("tracks.txt"))


@pytest.fixture(scope="module")
def table(background: Path) -> Path:
    calibrate(str(background), background.parent / "table.parquet")
    return background.parent / "table.parquet"


@pytest.mark.parametrize("values", [2**26, 1000])
def test_grids_are_exact_quantiles(
    background: Path, tmp_path: Path, values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH_VALUES", values)  # of all tracks at once, or of two
    made = calibrate(str(background), tmp_path / "t.parquet", points=101)
    assert (made.tracks, made.variants, made.statistics) == (TRACKS, VARIANTS, ("sad", "d2"))
    found = pd.read_parquet(tmp_path / "t.parquet").set_index(["statistic", "column"])
    assert len(found) == 2 * TRACKS
    for statistic in ("sad", "d2"):
        scores = open_scores(background).to_arrow(statistic).to_pandas()
        for track in range(TRACKS):
            row, of_track = found.loc[(statistic, f"track_{track:04d}")], scores[f"track_{track:04d}"].to_numpy()
            grid = np.linspace(0, 1, 101)
            np.testing.assert_allclose(row.absolute, np.quantile(np.abs(of_track), grid), rtol=1e-6)
            np.testing.assert_allclose(row.signed, np.quantile(of_track, grid), rtol=1e-6, atol=1e-6 * 10**track)
            assert (row.variants, row.identifier) == (VARIANTS, f"ENC{track}")


def test_quantiles_of_a_run_are_shares_of_the_background(
    world: World, background: Path, table: Path, tmp_path: Path
) -> None:
    applied = apply_calibration(str(world.run), table, tmp_path / "q")
    assert (applied.statistics, applied.tracks) == (("sad", "d2"), TRACKS)
    for statistic in ("sad", "d2"):
        found = pd.read_parquet(tmp_path / "q" / statistic)
        scores = open_scores(world.run).to_arrow(statistic).to_pandas()
        assert list(found) == list(scores)
        keys = [name for name in scores if not name.startswith("track_")]
        pd.testing.assert_frame_equal(found[keys], scores[keys])
        of_background = open_scores(background).to_arrow(statistic).to_pandas()
        for track in range(TRACKS):
            name = f"track_{track:04d}"
            others = np.sort(np.abs(of_background[name].to_numpy()))
            mine = np.abs(scores[name].to_numpy())
            shares = (np.searchsorted(others, mine, "left") + np.searchsorted(others, mine, "right")) / 2 / VARIANTS
            values = found[name].to_numpy()
            assert np.abs(np.abs(values) - shares).max() < 2 / VARIANTS
            assert (np.sign(values) * np.sign(scores[name]) >= 0).all()
            assert (np.abs(values) < 1).all()
            order = np.argsort(scores[name].to_numpy())
            assert (np.diff(values[order]) >= 0).all()
    origin = json.loads((tmp_path / "q" / "calibration.json").read_text())
    assert origin["table"]["content_hash"] == open_scores(background).manifest.content_hash


def test_some_tracks_of_one_statistic(world: World, table: Path, tmp_path: Path) -> None:
    apply_calibration(str(world.run), table, tmp_path / "q", ["sad"], ["assay:CAGE"])
    apply_calibration(str(world.run), table, tmp_path / "all")
    assert sorted(path.name for path in (tmp_path / "q").iterdir()) == ["calibration.json", "sad"]
    some, every = (pd.read_parquet(tmp_path / name / "sad") for name in ("q", "all"))
    pd.testing.assert_frame_equal(some, every[list(some)])
    with duckdb.connect() as connection:
        count = connection.sql(f"SELECT count(track_0003) FROM '{tmp_path}/q/sad/*.parquet'").fetchall()
    assert count == [(len(every),)]


def test_a_run_of_another_kind_is_refused(world: World, table: Path) -> None:
    store = LocalStore(world.run)
    parts, reference = dict(FinishedRun(store).parts), reference_digests(store)
    opened = CalibrationTable(table)
    opened.refuse_other_family(parts, reference, "run")
    for same in ("catalogue", "reference", "tracks", "device", "batch_size", "threads", "compile"):
        opened.refuse_other_family(parts | {same: "other"}, reference, "run")
    for name in set(family(parts)):
        with pytest.raises(MismatchError, match=f'What differs: {name}: table .*, run "other"'):
            opened.refuse_other_family(parts | {name: "other"}, reference, "run")
    needed = {
        "weights",
        "geometry",
        "head",
        "placement",
        "stride",
        "indel",
        "reverse_complement",
        "shifts",
        "precision",
    }
    assert needed | {"scorer_version", "unknown_base"} == set(family(parts))
    with pytest.raises(MismatchError, match="reference: other bases on 2"):
        opened.refuse_other_family(parts, reference | {"2": "0"}, "run")


def changed(table: Path, target: Path, change: dict[str, object]) -> Path:
    content = pq.read_table(table)
    origin = json.loads(content.schema.metadata[b"enformer_ray.calibration"])
    origin["family"] |= change
    pq.write_table(content.replace_schema_metadata({b"enformer_ray.calibration": json.dumps(origin).encode()}), target)
    return target


def test_a_table_of_another_kind_leaves_nothing_behind(world: World, table: Path, tmp_path: Path) -> None:
    other = changed(table, tmp_path / "other.parquet", {"shifts": 8, "weights": "0" * 64})
    with pytest.raises(MismatchError, match="shifts: table 8, run 1; weights: table"):
        apply_calibration(str(world.run), other, tmp_path / "q")
    assert [path.name for path in tmp_path.iterdir()] == ["other.parquet"]


def test_what_a_table_lacks_is_named(world: World, background: Path, table: Path, tmp_path: Path) -> None:
    calibrate(str(background), tmp_path / "sad.parquet", ["sad"])
    with pytest.raises(MismatchError, match=r"no quantiles of d2 .*What differs: statistics"):
        apply_calibration(str(world.run), tmp_path / "sad.parquet", tmp_path / "q")
    apply_calibration(str(world.run), tmp_path / "sad.parquet", tmp_path / "q", ["sad"])
    content = pq.read_table(table)
    pq.write_table(content.slice(0, 3), tmp_path / "few.parquet")
    with pytest.raises(MismatchError, match=r"2 of the run's tracks \(track_0003, track_0004\).*tracks"):
        apply_calibration(str(world.run), tmp_path / "few.parquet", tmp_path / "r", ["sad"])
    names = content.column("description").to_pylist()
    renamed = content.set_column(5, content.schema.field(5), [[f"{name}, new" for name in names]])
    pq.write_table(renamed, tmp_path / "renamed.parquet")
    with pytest.raises(MismatchError, match="'DNASE:liver, new', the run 'DNASE:liver'"):
        apply_calibration(str(world.run), tmp_path / "renamed.parquet", tmp_path / "r")


def test_what_is_no_table_or_no_background(world: World, table: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no table")
    for path in (tmp_path / "text", tmp_path / "absent", world.run / "tracks.parquet"):
        with pytest.raises(InputFileError, match="is no calibration table"):
            CalibrationTable(path)
    with pytest.raises(InputFileError, match="scores of 51 variants, too few"):
        calibrate(str(world.run), tmp_path / "t.parquet")
    with pytest.raises(OutputExistsError):
        calibrate(str(table.parent / "run"), table)
    shutil.copytree(world.run, tmp_path / "run")
    (tmp_path / "run" / "manifest.json").unlink()
    with pytest.raises(RunIncompleteError):
        calibrate(str(tmp_path / "run"), tmp_path / "t.parquet")


def test_a_folder_that_holds_something_is_kept(world: World, table: Path, tmp_path: Path) -> None:
    (tmp_path / "q").mkdir()
    apply_calibration(str(world.run), table, tmp_path / "q", ["sad"])  # it was empty
    (tmp_path / "q" / "mine").write_text("mine")
    with pytest.raises(OutputExistsError, match="--force"):
        apply_calibration(str(world.run), table, tmp_path / "q", ["sad"])
    assert (tmp_path / "q" / "mine").exists()
    apply_calibration(str(world.run), table, tmp_path / "q", ["sad"], force=True)
    assert sorted(path.name for path in tmp_path.glob("*")) == ["q"]
    assert not (tmp_path / "q" / "mine").exists()
