"""The report in a browser: nothing is loaded, nothing of the run is run, plots are drawn, hover shows the variant."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from enformer_ray.analysis.report import contents
from enformer_ray.analysis.report.contents import Disturbances, timeline
from enformer_ray.analysis.report.page import collect, render
from enformer_ray.analysis.sweep import sweep
from enformer_ray.rundir.store import LocalStore
from tests.analysis.browser import Browser, chromium, find_chromium
from tests.analysis.hostile import NAMES

POINT = """(i => {
  const u = reportPlots.manhattan, box = u.over.getBoundingClientRect();
  return [box.left + u.valToPos(u.data[0][i], "x"), box.top + u.valToPos(u.data[1][i], "y")];
})"""

INKED = """(() => [...document.querySelectorAll("canvas")].map(c => {
  const pixels = new Uint32Array(c.getContext("2d").getImageData(0, 0, c.width, c.height).data.buffer);
  return new Set(pixels).size;
}))()"""
"""How many colours each plot has."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    find_chromium()
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


def test_hostile_names_do_no_harm(browser: Browser, hostile: Path, tmp_path: Path) -> None:
    page = tmp_path / "report <b>.html"
    report = collect(LocalStore(hostile), top=60, profiles=2)
    page.write_text(render(report), encoding="utf-8")
    browser.open(page)
    assert browser.messages == []
    assert browser.requests == [page.as_uri()]
    assert browser.evaluate("document.title") == "run - enformer-ray report"
    assert browser.evaluate("document.querySelectorAll('img, svg, iframe, object').length") == 0
    assert browser.evaluate("document.querySelectorAll('script').length") == 2
    text = browser.evaluate("document.body.innerText")
    assert "onerror=\"document.title='hacked'\"> & 'run' 🧬" in text
    assert all(name in text for name in NAMES[:5])
    assert "(5,000 characters)" in text
    assert "x" * 100 not in page.read_text(encoding="utf-8")
    assert all(colours > 2 for colours in browser.evaluate(INKED))
    browser.evaluate("document.getElementById('plot-manhattan').scrollIntoView({block: 'center'})")
    data = report.figures["manhattan"]
    for name in NAMES[:2]:
        at = data["source"].index(name)
        browser.move(*browser.evaluate(f"{POINT}({at})"))
        assert browser.evaluate("document.getElementById('tip').innerText").startswith(f"{name} {data['id'][at]}")
    assert browser.messages == []


def test_a_hidden_script_would_be_found(browser: Browser, hostile: Path, tmp_path: Path) -> None:
    """The page's policy stops what the tests above would otherwise not notice."""
    page = tmp_path / "report.html"
    text = render(collect(LocalStore(hostile), profiles=0))
    page.write_text(text.replace("<h1>", "<h1><script>document.title='hacked'</script><img src='http://x.test/a'>", 1))
    browser.open(page)
    assert browser.evaluate("document.title") == "run - enformer-ray report"
    assert len([m for m in browser.messages if "Content Security Policy" in m]) == 2


def test_the_demo_with_genes_and_profiles(browser: Browser, demo: Path, gtf: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    report = collect(LocalStore(demo), top=10, profiles=2, gtf=gtf)
    page.write_text(render(report), encoding="utf-8")
    browser.open(page)
    assert browser.messages == []
    assert browser.requests == [page.as_uri()]
    assert browser.evaluate("reportPlots.profiles.map(p => p.length)") == [7, 7]  # three tracks, differences, genes
    assert all(colours > 2 for colours in browser.evaluate(INKED))
    places = "reportPlots.profiles[0].map(u => { const b = u.over.getBoundingClientRect(); return [b.left, b.width]; })"
    assert len(set(map(tuple, browser.evaluate(places)))) == 1  # one above the other
    browser.evaluate("document.getElementById('plot-profile-0').scrollIntoView()")
    at = """(() => { const u = reportPlots.profiles[0][0], b = u.over.getBoundingClientRect();
      return [b.left + b.width * 0.51, b.top + 20, b.left + b.width * 0.6]; })()"""
    x, y, right = browser.evaluate(at)
    browser.move(x, y)
    assert re.search(r"reference .*\nalternate .*\ndifference ", browser.evaluate("tip.innerText"))
    browser.drag((x, y), (right, y))
    spans = browser.evaluate("reportPlots.profiles[0].map(u => u.scales.x.max - u.scales.x.min)")
    assert len(set(spans)) == 1  # all plots of a variant zoom together
    assert spans[0] < 64 * 128 / 5
    assert browser.messages == []


def test_a_hundred_thousand_points(browser: Browser, hostile: Path, tmp_path: Path) -> None:
    """With names as long as they come the file is below 25 MB, and the plot zooms and finds the variant."""
    points = 100_000
    random = np.random.default_rng(1)
    overview = sweep(LocalStore(hostile))
    table = pa.table(
        {
            "variant": np.arange(points),
            "chromosome": ["1"] * (points // 2) + ["2"] * (points // 2),
            "position": pa.array(np.tile(np.sort(random.choice(240_000_000, points // 2, False)), 2), pa.int32()),
            "variant_id": [f"{i}_" + "A" * 100 for i in range(points)],
            "height": random.exponential(1, points),
            "score": random.normal(size=points).astype(np.float32),
            "track": pa.array(random.integers(0, 5, points), pa.int32()),
            "source_id": [f"rs{i}" + "0" * 100 for i in range(points)],
        }
    )
    report = collect(LocalStore(hostile), profiles=0)
    report.figures["manhattan"] = contents.manhattan(replace(overview, points=table))
    page = tmp_path / "report.html"
    page.write_text(render(report), encoding="utf-8")
    assert page.stat().st_size < 25e6
    browser.open(page)
    browser.evaluate("document.getElementById('plot-manhattan').scrollIntoView({block: 'center'})")
    highest = int(np.argmax(table.column("height").to_numpy()))
    x, y = browser.evaluate(f"{POINT}({highest})")
    browser.move(x, y)
    assert f"rs{highest}0000" in browser.evaluate("tip.innerText")
    assert browser.evaluate("reportPlots.manhattan.drawn") == points
    browser.drag((x - 40, y - 8), (x + 40, y + 60))
    assert browser.evaluate("reportPlots.manhattan.drawn") < points / 4
    x, y = browser.evaluate(f"{POINT}({highest})")
    browser.move(x, y)
    assert f"rs{highest}0000" in browser.evaluate("tip.innerText")
    browser.evaluate("document.getElementById('zoom-out').click()")
    browser.move(x, y)
    assert browser.evaluate("reportPlots.manhattan.drawn") == points
    assert browser.messages == []


def test_a_run_in_which_everything_went_wrong(browser: Browser, hostile: Path, tmp_path: Path) -> None:
    """Failed variants, lost workers, no audit, and not one point to draw."""
    page = tmp_path / "report.html"
    report = collect(LocalStore(hostile), profiles=0)
    line = {"at": "t", "event": "worker_lost", "part": "", "worker": NAMES[0], "cause": "lost", "detail": NAMES[1]}
    failure = {"part": "00000.0", "variant_id": NAMES[2], "reason": "timed_out", "attempts": "2", "detail": NAMES[3]}
    report.tables.update(
        failures=[failure],
        disturbances=Disturbances([("worker_lost", "lost", 1234)], [line], 3),
        bisected=2,
        audit={"variants": 0},
        top=[],
        changes=[],
    )
    overview = sweep(LocalStore(hostile))
    nothing = replace(overview, points=overview.points.slice(0, 0), top=overview.top.slice(0, 0))
    report.figures.update(manhattan=contents.manhattan(nothing), timeline=contents.timeline_figure(timeline([])))
    page.write_text(render(report), encoding="utf-8")
    browser.open(page)
    assert browser.messages == []
    text = browser.evaluate("document.body.innerText")
    assert "1,234 x worker lost: lost" in text
    assert "2 shards halved" in text
    assert "3 drivers" in text
    assert "none was scored again" in text
    assert all(name in text for name in NAMES[:4])


def test_it_prints(browser: Browser, demo: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(render(collect(LocalStore(demo), profiles=0)), encoding="utf-8")
    browser.open(page)
    printed = browser.pdf()
    assert printed.startswith(b"%PDF")
    assert b"/Image" in printed  # canvases
    browser.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert browser.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
        assert browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    finally:
        browser.call("Emulation.setEmulatedMedia", media="")


def test_the_data_of_the_page_are_those_of_the_run(hostile: Path) -> None:
    text = render(collect(LocalStore(hostile), profiles=0))
    (block,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    data = json.loads(block)["manhattan"]
    assert len(data["x"]) == 60
    assert data["height"] == "-log10 p"
    assert sorted(data["y"]) == pytest.approx([number / 4 for number in range(60)], abs=1e-4)
