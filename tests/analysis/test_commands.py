"""`report` and `plot` by the command line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from enformer_ray.dataset.dataset import open_scores
from enformer_ray.publish.verify import verify
from enformer_ray.rundir.store import LocalStore
from tests.end_to_end.conftest import Command, command

__all__ = ["command"]

KINDS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


def test_the_report_goes_into_the_run_and_disturbs_nothing(command: Command, demo: Path) -> None:
    done = command("report", demo, "--profiles", "0", "--tracks", "assay:CAGE", "--statistic", "centre", "--top", "3")
    assert done.status == 0, done.error
    page = (demo / "report" / "report.html").read_text(encoding="utf-8")
    assert "of 12</small>" in page
    assert verify(LocalStore(demo)).unlisted == ()
    assert open_scores(demo).statistics == ["sad", "log2_ratio", "centre_log2_ratio"]


@pytest.mark.parametrize("ending", KINDS)
@pytest.mark.parametrize("picture", ["manhattan", "heatmap", "track"])
def test_pictures(command: Command, hostile: Path, tmp_path: Path, picture: str, ending: str) -> None:
    """Of a run with names that are markup and formulas; the same command writes the same file."""
    files = [tmp_path / f"{number} <b>{ending}" for number in range(2 if ending == ".png" else 1)]
    for file in files:
        done = command("plot", picture, hostile, "--output", file, "--width", "4")
        assert done.status == 0, done.error
    content = files[0].read_bytes()
    assert content.startswith(KINDS[ending])
    if ending == ".png":
        assert content == files[1].read_bytes()
        with Image.open(files[0]) as image:
            assert image.width > 800
            assert len(np.unique(np.asarray(image.convert("L")))) > 20
    if ending == ".svg":
        text = content.decode()
        assert "<script" not in text
        assert {"manhattan": "-log10 p", "heatmap": "rs\u2028", "track": "reference"}[picture] in text


def test_a_track_of_a_named_variant_with_genes(command: Command, demo: Path, gtf: Path, tmp_path: Path) -> None:
    name = open_scores(demo).to_arrow("sad", [0]).column("variant_id")[3].as_py()
    svg = tmp_path / "t.svg"
    options = ["--variant", name, "--tracks", "CAGE:brain", "--gtf", gtf, "--around", "40000", "--output", svg]
    done = command("plot", "track", demo, *options)
    assert done.status == 0, done.error
    text = svg.read_text(encoding="utf-8")
    assert "CAGE:brain" in text
    assert f"{int(name.split('_')[1]):,}" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plot", "manhattan", "RUN", "--output", "x.gif"], r"\.png, \.svg, \.pdf"),
        (["plot", "manhattan", "RUN", "--output", "x.png", "--tracks", "liver"], "no track 'liver'"),
        (["plot", "track", "RUN", "--output", "x.png", "--variant", "rs5"], "has no variant 'rs5'"),
        (["report", "RUN", "--statistic", "d2"], "has no statistic 'd2'"),
        (["report", "s3://bucket/run"], "--output"),
    ],
)
def test_what_cannot_be_is_said(command: Command, hostile: Path, arguments: list[str], said: str) -> None:
    done = command(*(hostile if argument == "RUN" else argument for argument in arguments))
    assert done.status == 2
    assert re.search(said, " ".join(done.error.split()))
