"""Importance of bases and logos, on a run whose scores are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from enformer_ray.analysis import saturation as sites_module
from enformer_ray.analysis.saturation import SiteReader, write_importance
from enformer_ray.dataset.dataset import open_scores
from enformer_ray.publish.verify import verify
from enformer_ray.rundir.store import LocalStore
from tests.analysis.saturation.planted import FIRST, LAST, MOTIF, PLANTED, Planted
from tests.dataset.test_dataset import upload
from tests.end_to_end.conftest import Command, command

__all__ = ["command"]


def test_the_account_holds_every_base(planted: Planted) -> None:
    inputs = open_scores(planted.run).inputs().to_pandas()
    bases = LAST - FIRST + 1
    assert len(inputs) == 4 * (bases - 1) + 1
    unknown = inputs[inputs.reason == "unknown_base"]
    assert unknown.original_position.tolist() == [3101]
    assert set(inputs.status) == {"scored", "duplicate", "rejected"}
    # Deletions in a run of one base are one variant.
    repeats = sum(
        a == b for a, b in zip(planted.bases[FIRST - 2 : LAST - 1], planted.bases[FIRST - 1 : LAST], strict=True)
    )
    assert (inputs.status == "duplicate").sum() == repeats > 10


def test_files_hold_the_formulas(planted: Planted) -> None:
    dataset, store = open_scores(planted.run), LocalStore(planted.run)
    written = write_importance(dataset, store)
    assert written.paths == ("saturation/importance-sad.parquet", "saturation/centred-sad.parquet")
    assert (written.bases, written.incomplete, written.without) == (LAST - FIRST, 0, ("d2",))
    scores = dataset.to_arrow("sad").to_pandas()
    single = scores[(scores.reference_allele.str.len() == 1) & (scores.alternate_allele.str.len() == 1)]
    expected = -single.groupby("position")[["track_0000", "track_0001", "track_0002"]].sum() / 3
    table = pq.read_table(planted.run / written.paths[0]).to_pandas()
    assert table.reference_base.tolist() == [b for b in planted.bases[FIRST - 1 : LAST] if b != "N"]
    np.testing.assert_allclose(table[expected.columns], expected.loc[table.position], rtol=1e-5, atol=1e-5)
    centred = pq.read_table(planted.run / written.paths[1]).to_pandas()
    np.testing.assert_allclose(centred.groupby("position").track_0000.sum(), 0, atol=1e-3)
    at_reference = centred[centred.base == centred.reference_base]
    np.testing.assert_allclose(at_reference.track_0000, 0.75 * table.track_0000, rtol=1e-5)
    other = centred[centred.base != centred.reference_base].reset_index()
    gap = other.track_0000 - np.repeat(at_reference.track_0000.to_numpy(), 3)
    np.testing.assert_allclose(gap, single.track_0000, rtol=1e-4, atol=1e-3)
    assert verify(store).unlisted == ()


def test_the_planted_motif_stands_out(planted: Planted) -> None:
    write_importance(open_scores(planted.run), LocalStore(planted.run))
    table = pq.read_table(planted.run / "saturation/importance-sad.parquet").to_pandas().set_index("position")
    strongest = table.track_0000.nlargest(len(MOTIF)).sort_index()
    assert strongest.index.tolist() == list(range(PLANTED, PLANTED + len(MOTIF)))
    assert "".join(table.reference_base[strongest.index]) == MOTIF
    assert strongest.min() > 5 * table.track_0000.drop(strongest.index).abs().max()
    assert (table.track_0001[strongest.index] < 0).all()


@pytest.mark.parametrize("values", [2, 500, 2**22])
def test_batches_do_not_cut_bases(planted: Planted, monkeypatch: pytest.MonkeyPatch, values: int) -> None:
    monkeypatch.setattr(sites_module, "_BATCH_VALUES", values)
    reader = SiteReader(open_scores(planted.run), "sad")
    found = np.concatenate([part.position for part in reader])
    assert found.tolist() == [p for p in range(FIRST, LAST + 1) if p != 3101]
    assert reader.incomplete == 0


def test_bases_without_all_substitutions_are_counted(planted: Planted) -> None:
    dataset = open_scores(planted.run)
    ids = dataset.to_arrow("sad", []).column("variant_id").to_pylist()
    reader = SiteReader(dataset.where(variant_ids=[i for i in ids if not i.startswith("1_3010_")] + ids[:1]), "sad")
    short = SiteReader(dataset.where(variant_ids=[i for i in ids if not i.startswith("1_3010_A_C")][4:]), "sad")
    assert 3010 not in np.concatenate([part.position for part in reader])
    assert reader.incomplete == 0
    list(short)
    assert short.incomplete == (planted.bases[3009] == "A")


@pytest.mark.parametrize("ending", [".png", ".svg", ".pdf"])
def test_a_logo(command: Command, planted: Planted, tmp_path: Path, ending: str) -> None:
    done = command("plot", "logo", planted.run, "--tracks", "DNASE:activated", "--output", tmp_path / f"logo{ending}")
    assert done.status == 0, done.error
    content = (tmp_path / f"logo{ending}").read_bytes()
    assert content.startswith({".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[ending])
    if ending == ".svg":
        assert "DNASE:activated (sad)" in content.decode()
    if ending == ".png":
        with Image.open(tmp_path / "logo.png") as image:
            colours = {colour for number, colour in image.convert("RGB").getcolors(2**20) if number > 50}
        assert {(0x00, 0x9E, 0x73), (0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00), (0xD5, 0x5E, 0x00)} <= colours


def test_a_logo_of_each_track(command: Command, planted: Planted, tmp_path: Path) -> None:
    options = ["--region", f"chr1:{PLANTED - 5}-{PLANTED + 15}", "--line", "10", "--output", tmp_path / "logo.svg"]
    done = command("plot", "logo", planted.run, *options)
    assert done.status == 0, done.error
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["logo.track_0000.svg", "logo.track_0001.svg", "logo.track_0002.svg"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--output", "logo.gif"], "none of these endings"),
        (["--output", "logo.png", "--statistic", "d2"], "signed change"),
        (["--output", "logo.png", "--region", "chr1:1-2"], "no base there"),
    ],
)
def test_what_cannot_be_drawn_is_said(command: Command, planted: Planted, options: list[str], said: str) -> None:
    done = command("plot", "logo", planted.run, *options)
    assert done.status == 2
    assert said in " ".join(done.error.split())


def test_importance_of_a_run_on_an_object_store(planted: Planted, bucket: str) -> None:
    store = upload(planted.run, bucket)
    written = write_importance(open_scores(bucket), store)
    write_importance(open_scores(planted.run), LocalStore(planted.run))
    for path in written.paths:
        assert store.read_bytes(path) == (planted.run / path).read_bytes()
