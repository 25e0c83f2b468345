"""Metrics as Prometheus would scrape them from a real Ray, and the dashboard that draws them."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from enformer_ray.config import JobConfig
from enformer_ray.engine.driver import run_shards
from enformer_ray.engine.progress import METRICS, RUN_DIGITS, STEPS, WORKER_STATES, Progress, RunMetrics
from enformer_ray.planning.plan import load_plan, make_plan
from enformer_ray.rundir.events import AttemptFailed, PartBegun, PartScored, VariantFailed, WorkerLost
from enformer_ray.rundir.store import LocalStore
from enformer_ray.runtime.cluster import ray_session
from tests.run_fixtures import SNVS

DASHBOARD = Path(__file__).parents[2] / "cluster" / "grafana" / "enformer-ray.json"

SAMPLE = re.compile(r"^(?P<name>\w+)\{(?P<tags>[^}]*)\} (?P<value>\S+)$", re.MULTILINE)
TAG = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Samples = list[tuple[str, dict[str, str], float]]


def exported(name: str) -> tuple[str, ...]:
    """Names under which Prometheus finds a metric."""
    kind = METRICS[name].kind
    if kind == "histogram":
        return tuple(f"ray_{name}_{part}" for part in ("bucket", "count", "sum"))
    return (f"ray_{name}_total" if kind == "counter" else f"ray_{name}",)


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    with ray_session(None, lanes=1):
        yield


def scrape() -> Samples:
    import ray

    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    return [(found["name"], dict(TAG.findall(found["tags"])), float(found["value"])) for found in SAMPLE.finditer(text)]


def scrape_until(names: set[str], run: str) -> Samples:
    """Ray's agent gets metrics every few seconds; the test's time limit ends this where they never come."""
    while True:
        samples = [sample for sample in scrape() if sample[1].get("run") == run]
        if names <= {name for name, _, _ in samples}:
            return samples
        time.sleep(1)


def values(samples: Samples, name: str, tag: str) -> dict[str, float]:
    return {tags[tag]: value for found, tags, value in samples if found == name}


def scored(batch_size: int = 8) -> PartScored:
    steps = dict(zip(STEPS, (1.0, 0.5, 20.0, 2.0, 0.25), strict=True))
    return PartScored(part="00000", rows=7, worker="1.0", batch_size=batch_size, started="", **steps)


def failed(cause: str) -> AttemptFailed:
    return AttemptFailed(part="00001", rows=7, worker="1.0", cause=cause, detail="", own=0, lost=1)


@pytest.mark.usefixtures("ray_here")
def test_every_metric_reaches_prometheus_under_its_name() -> None:
    metrics = RunMetrics("0123456789abcdef", batch_size=8)
    metrics.measure(Progress(1, 10, 5, 100, 0.0, None), ())
    metrics.see(scored())
    metrics.see(scored(batch_size=2))
    metrics.see(PartBegun(part="00001", worker="1.0"))
    metrics.see(VariantFailed(part="00002", reason="timed_out", detail="", attempts=2))
    metrics.see(failed("lost"))
    metrics.see(failed("preempted"))
    metrics.see(WorkerLost(worker="1.0", place=0, cause="lost", detail="", successor=None))
    metrics.measure(Progress(4, 10, 20, 100, 0.5, 160.0), ())
    run = "0123456789abcdef"[:RUN_DIGITS]
    samples = scrape_until({name for metric in METRICS for name in exported(metric)}, run)
    of_run = {name: value for name, _, value in samples}
    assert of_run["ray_enformer_variants_scored_total"] == 14
    assert of_run["ray_enformer_variants_failed_total"] == 1
    assert of_run["ray_enformer_shards_done_total"] == 3
    assert of_run["ray_enformer_shards_left"] == 6
    assert of_run["ray_enformer_variants_left"] == 80
    assert of_run["ray_enformer_seconds_left"] == 160
    assert of_run["ray_enformer_variants_per_second"] == 0.5
    assert of_run["ray_enformer_batch_halvings_total"] == 2
    assert of_run["ray_enformer_score_seconds_count"] == 2
    assert values(samples, "ray_enformer_score_seconds_bucket", "le")["30.0"] == 2
    assert values(samples, "ray_enformer_attempts_failed_total", "cause") == {"lost": 1, "preempted": 1}
    assert values(samples, "ray_enformer_workers_lost_total", "cause") == {"lost": 1}
    assert values(samples, "ray_enformer_worker_seconds_total", "step")["score"] == 40
    assert values(samples, "ray_enformer_workers", "state") == dict.fromkeys(WORKER_STATES, 0)


@pytest.mark.usefixtures("ray_here")
def test_a_run_is_counted(job: JobConfig, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "run")
    make_plan(job, store)
    run_shards(store, workers=1)
    run = load_plan(store).document.fingerprint[:RUN_DIGITS]
    samples = scrape_until({"ray_enformer_variants_scored_total", "ray_enformer_shards_done_total"}, run)
    while values(samples, "ray_enformer_shards_left", "run") != {run: 0}:
        time.sleep(1)
        samples = scrape_until(set(), run)
    assert values(samples, "ray_enformer_variants_scored_total", "run") == {run: SNVS + 1}
    assert values(samples, "ray_enformer_shards_done_total", "run") == {run: 6}


def expressions(dashboard: dict[str, Any]) -> list[str]:
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return [*queries, *(v["definition"] for v in dashboard["templating"]["list"] if v["type"] == "query")]


def test_the_dashboard_names_only_metrics_that_there_are() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    there = {name: metric for metric in METRICS for name in exported(metric)}
    used = set()
    for expression in expressions(dashboard):
        names = re.findall(r"[a-zA-Z_:][\w:]*(?=\s*\{)", expression) + re.findall(r"\bray_\w+", expression)
        assert names, expression
        assert [name for name in names if name not in there] == [], expression
        used |= {there[name] for name in names}
        for name, selector in re.findall(r"(\w+)\{([^}]*)\}", expression):
            assert 'run=~"$run"' in selector
            assert set(re.findall(r"(\w+)\s*=", selector)) - {"run", "le"} <= set(METRICS[there[name]].tags)
    assert used == set(METRICS), "a metric that no panel shows"


def test_the_dashboard_can_be_imported() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["schemaVersion"] >= 36
    assert dashboard["id"] is None
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids)) >= 10
    (source,) = dashboard["__inputs"]
    assert (source["type"], source["pluginId"]) == ("datasource", "prometheus")
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert (variables["datasource"]["type"], variables["run"]["type"]) == ("datasource", "query")
    assert variables["datasource"]["current"]["value"] == f"${{{source['name']}}}"
    for owner in [*dashboard["panels"], *(t for panel in dashboard["panels"] for t in panel["targets"])]:
        assert owner["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    cells = [
        (x, y)
        for panel in dashboard["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells)), "panels overlap"
    assert max(x for x, _ in cells) < 24
