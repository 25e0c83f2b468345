"""The commands themselves: options, what they print, exit statuses."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tests.analysis.exports.conftest import World, scores
from tests.dataset.generated import finished_run
from tests.end_to_end.conftest import Command, command

__all__ = ["command"]


def test_exports(world: World, command: Command, tmp_path: Path) -> None:
    (tmp_path / "s.bed").write_text("chr1\t0\t9000\tG\n")
    common = [world.run, "--statistic", "sad", "--tracks", "assay:CAGE", "--output"]
    for form, name, more in (
        ("ldsc", "l", ["--thin"]),
        ("polyfun", "p", ["--ids", "colon"]),
        ("sldp", "s", []),
        ("regenie", "r", ["--ids", "colon", "--sets", tmp_path / "s.bed", "--threshold", "0.5", "--threshold", "0.9"]),
        ("tsv", "t.tsv.gz", []),
        ("vcf", "v.vcf.gz", ["--prefix", "EF"]),
    ):
        done = command("export", form, *common, tmp_path / name, *more)
        assert (done.status, done.error) == (0, "")
        assert done.out.startswith("Wrote ")
        assert str(tmp_path / name) in done.out
        again = command("export", form, *common, tmp_path / name, *more)
        assert (again.status, again.out) == (2, "")
        assert "--force" in again.error
        assert command("export", form, *common, tmp_path / name, *more, "--force").status == 0


def test_exports_that_are_asked_for_wrongly(world: World, command: Command, tmp_path: Path) -> None:
    common = [world.run, "--statistic", "sad", "--output", tmp_path / "x"]
    assert "either --gtf or --sets" in command("export", "regenie", *common).error
    wrong = command("export", "ldsc", *common, "--ids", "rs")
    assert wrong.status == 2
    assert "--ids" in wrong.error
    assert "'rs' is not one of" in wrong.error
    assert command("export", "tsv", *common).status == 2
    assert (
        "no statistic 'sax'"
        in command("export", "ldsc", world.run, "--statistic", "sax", "--output", tmp_path / "x").error
    )
    assert list(tmp_path.iterdir()) == []


def test_calibration_from_background_to_quantiles(world: World, command: Command, tmp_path: Path) -> None:
    background = tmp_path / "b.vcf.gz"
    drawn = command(
        "calibrate", "background", "--reference", world.fasta, "--like", world.vcf, "--n", 200, "--output", background
    )
    assert (drawn.status, drawn.error) == (0, "")
    assert "Wrote 200 SNVs matched to 48" in drawn.out
    assert "12 alleles" in drawn.out
    run = finished_run(tmp_path, [background], world.fasta, world.weights, scores, ("sad", "d2"))
    table = tmp_path / "t.parquet"
    made = command("calibrate", run, "--output", table)
    assert "quantiles of 5 tracks (sad, d2) over 200 variants" in made.out
    assert command("calibrate", run, "--output", table).status == 2
    assert command("calibrate", "--output", table, run, "--force").status == 0
    applied = command(
        "calibrate", "apply", world.run, "--table", table, "--output", tmp_path / "q", "--statistic", "sad"
    )
    assert "51 variants on 5 tracks (sad)" in applied.out
    assert len(pd.read_parquet(tmp_path / "q" / "sad")) == 51
