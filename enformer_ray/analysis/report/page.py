"""The report of a finished run as one HTML page that loads nothing: collecting its contents, and rendering them."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

import enformer_ray
from enformer_ray.analysis import plots
from enformer_ray.analysis.profiles import TopProfile, pick_top, top_profiles
from enformer_ray.analysis.report import contents
from enformer_ray.analysis.report.contents import Timeline, read_disturbances, read_timeline
from enformer_ray.analysis.sweep import Overview, sweep
from enformer_ray.dataset.selection import RankBy
from enformer_ray.errors import shortened
from enformer_ray.rundir import layout
from enformer_ray.rundir.store import MAX_DOCUMENT_BYTES, RunStore

_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}

MAX_FAILURES = 20
"""Failed variants that are listed."""

_COLOURS = {
    "up": plots.ORANGE,
    "down": plots.BLUE,
    "reference": plots.REFERENCE,
    "alternate": plots.ALTERNATE,
    "difference": plots.DIFFERENCE,
    "bar": plots.BLUE,
}
_SCRIPTS = ("helpers", "manhattan", "distributions", "run", "profiles", "page")

_SHARP = (
    'Object.defineProperty(window, "devicePixelRatio", {value: Math.max(2, window.devicePixelRatio), '
    "configurable: true});"
)
"""At least two pixels a screen pixel, which uPlot asks for when it is loaded, so that printed plots are sharp."""


@dataclass(frozen=True)
class Report:
    """Contents of a report.

    Attributes:
        tables: variables of the template.
        figures: data of the plots, as JSON values.
    """

    tables: dict[str, Any]
    figures: dict[str, Any]


def collect(
    store: RunStore,
    statistic: str | None = None,
    tracks: Sequence[str] = (),
    top: int = 10,
    profiles: int = 5,
    gtf: Path | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
    rank_by: RankBy | None = None,
) -> Report:
    """Collect the contents of the report of a finished run, in one pass over its scores.

    Args:
        store: the run directory.
        statistic: name; the first of the run when None.
        tracks: selectors, as in `select_columns`; none means all.
        top: variants with the largest |score| to list.
        profiles: number of these that are predicted again to show their tracks.
        gtf: annotation of genes.
        on_progress: called with the number of predicted profiles.
        rank_by: what the top variants are by; None is `quantile` for a calibrated run, else `score`.

    Raises:
        RunIncompleteError: the run is not finished.
        ConfigError, SelectionError: it has no such statistic or track.
        AnalysisError: weights or reference of the run cannot be used here.
        InputFileError: the annotation cannot be read.
    """
    overview = sweep(store, statistic, tracks, top, rank_by=rank_by)
    run = json.loads(store.read_bytes(layout.RUN, MAX_DOCUMENT_BYTES))
    timeline, listed = read_timeline(store), contents.top(overview, gtf)
    shown = top_profiles(pick_top(overview, min(profiles, top)), gtf, on_progress)
    return Report(
        _head(store, overview)
        | _of_run(store, overview, run, timeline)
        | _of_scores(overview, listed, shown, gtf is not None or contents.has_genes(overview)),
        {
            "manhattan": contents.manhattan(overview),
            "distributions": [contents.distribution(found) for found in overview.distributions],
            "timeline": contents.timeline_figure(timeline),
            "profiles": [
                contents.profile(found.profile, label, found.names, found.genes)
                for label, found in zip(_labels(listed), shown, strict=False)
            ],
            "colours": _COLOURS,
        },
    )


def _head(store: RunStore, overview: Overview) -> dict[str, Any]:
    manifest = overview.run.manifest
    return {
        "title": shortened(store.uri.rstrip("/").rpartition("/")[2] or store.uri),
        "uri": shortened(store.uri, 300),
        "version": enformer_ray.__version__,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "statistic": overview.statistic,
        "tracks": overview.tracks.num_rows,
        "tracks_of": overview.run.track_table.num_rows,
        "manifest": manifest,
        "alleles": sum(line.alleles for line in manifest.account),
    }


def _of_run(store: RunStore, overview: Overview, run: Mapping[str, Any], timeline: Timeline) -> dict[str, Any]:
    failures = run["failures"][:MAX_FAILURES]
    return {
        "job_options": contents.job_options(run),
        "provenance": contents.provenance(run, overview),
        "account": contents.account(overview),
        "changes": contents.changes(run),
        "indels": run["indel_conventions"],
        "failures": [{name: shortened(str(value), 200) for name, value in failure.items()} for failure in failures],
        "timeline": timeline,
        "disturbances": read_disturbances(store),
        "bisected": run["bisected_shards"],
        "audit": run["audit"],
    }


def _of_scores(
    overview: Overview, listed: list[dict[str, Any]], shown: list[TopProfile], has_genes: bool
) -> dict[str, Any]:
    return {
        "distributions": overview.distributions,
        "points": overview.points.num_rows,
        "points_of": overview.points_of,
        "without_p": overview.without_p,
        "has_p": overview.inputs.has_p,
        "limits": plots.limits(abs(overview.points.column("score").to_numpy())),
        "top": listed,
        "ranked_by": overview.ranked_by,
        "calibrated": "quantile" in overview.top.column_names,
        "has_genes": has_genes,
        "profiles": [
            {
                "label": label,
                "variant": row["variant"],
                "tracks": [(shortened(n, 120), f"{s:.4g}") for n, s in zip(found.names, found.scores, strict=True)],
            }
            for label, row, found in zip(_labels(listed), listed, shown, strict=False)
        ],
    }


def _labels(listed: list[dict[str, Any]]) -> list[str]:
    return [row["source"] or row["variant"] for row in listed]


def render(report: Report) -> str:
    """The HTML file."""
    script = _script()
    css = _styles()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_asset("page.html.j2"))
    return template.render(
        **report.tables,
        colours=plots.CLASSES,
        policy=policy([script], [css]),
        script=Markup(script),  # of this package, without data of the run
        style=Markup(css),
        data=json_block(report.figures),
    )


def _script() -> str:
    own = "\n".join(_asset(f"scripts/{name}.js") for name in _SCRIPTS)
    return "\n".join([_SHARP, _asset("vendor/uPlot.iife.min.js"), f'(function () {{\n"use strict";\n{own}}})();'])


def _styles() -> str:
    swatches = "".join(f".class-{i}{{background:{colour}}}" for i, colour in enumerate(plots.CLASSES))
    return "\n".join([_asset("vendor/uPlot.min.css"), _asset("page.css"), swatches])


@cache
def _asset(name: str) -> str:
    return files("enformer_ray.analysis.report").joinpath(name).read_text(encoding="utf-8")


def json_block(values: Any) -> Markup:
    """JSON for a `<script type="application/json">`: what could end the element, or open a comment, is escaped.

    NaN and infinities become null.
    """
    text = json.dumps(_finite(values), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character, escaped in _ESCAPES.items():
        text = text.replace(character, escaped)
    # A lone surrogate, as in file names that are no UTF-8, cannot be encoded.
    return Markup(text.encode("utf-8", "replace").decode())


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def content_hash(text: str) -> str:
    """Source expression of an inline script or style in a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def policy(scripts: list[str], styles: list[str]) -> str:
    """A Content-Security-Policy that allows only these inline scripts and styles, and no loading."""
    return (
        f"default-src 'none'; script-src {' '.join(map(content_hash, scripts))}; "
        f"style-src {' '.join(map(content_hash, styles))}; img-src data:; base-uri 'none'; form-action 'none'"
    )
