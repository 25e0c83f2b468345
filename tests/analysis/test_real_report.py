"""The report of real summary statistics: lifted, harmonised, scored with the weights of the parity folder."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from enformer_ray.analysis.report.page import collect, render
from enformer_ray.config import CatalogueConfig, JobConfig, ScoringConfig
from enformer_ray.planning.plan import make_plan
from enformer_ray.publish.finalise import finalise
from enformer_ray.rundir.store import LocalStore
from tests.analysis.browser import chromium, find_chromium
from tests.analysis.test_report_page import INKED, POINT
from tests.run_fixtures import score_without_ray

ROWS = 300
TRACKS = 531


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_report_of_real_summary_statistics(shared: Path, tmp_path: Path) -> None:
    find_chromium()
    data = shared / "data"
    with gzip.open(data / "sumstats" / "b37_EAR-LENGTH.epacts.gz", "rt") as file:
        lines = file.readlines()
    (tmp_path / "study.epacts").write_text("".join(lines[: ROWS + 1]))
    header, *targets = (data / "tracks" / "targets_human.txt").read_text().splitlines()
    rows = [row.split("\t", 1)[1] for row in targets[: 10 * TRACKS : 10]]
    (tmp_path / "tracks.txt").write_text("\n".join([header, *(f"{i}\t{row}" for i, row in enumerate(rows))]) + "\n")
    job = JobConfig(
        variants=(str(tmp_path / "study.epacts"),),
        reference=data / "reference" / "grch38_demo_chr1_chr20_chr22.npad.fa.gz",
        weights=str(shared / "parity" / "hf_mini"),
        sequence_length=16_384,
        target_length=64,
        tracks_table=tmp_path / "tracks.txt",
        output=str(tmp_path / "run"),
        scoring=ScoringConfig(device="cpu", threads=1, placement="shared"),
        catalogue=CatalogueConfig(chain=data / "chains" / "hg19ToHg38.over.chain.gz"),
    )
    store = LocalStore(tmp_path / "run")
    make_plan(job, store)
    score_without_ray(store)
    finalise(store)
    gtf = data / "genes" / "grch38_chr1_gencode_v29.head.gtf.gz"
    report = collect(store, profiles=2, gtf=gtf)
    page = tmp_path / "report.html"
    page.write_text(render(report), encoding="utf-8")
    assert ("lifted", "forward", ROWS) in report.tables["changes"]
    assert any(profile["genes"] for profile in report.figures["profiles"])
    with chromium(tmp_path / "profile") as browser:
        browser.open(page)
        assert browser.messages == []
        assert browser.requests == [page.as_uri()]
        assert all(colours > 2 for colours in browser.evaluate(INKED))
        browser.evaluate("document.getElementById('plot-manhattan').scrollIntoView({block: 'center'})")
        (highest,) = [
            i for i, y in enumerate(report.figures["manhattan"]["y"]) if y == max(report.figures["manhattan"]["y"])
        ][:1]
        browser.move(*browser.evaluate(f"{POINT}({highest})"))
        assert report.figures["manhattan"]["id"][highest] in browser.evaluate("tip.innerText")
        assert browser.messages == []
