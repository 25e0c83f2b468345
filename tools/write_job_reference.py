"""Writes docs/job_file.md, the reference page of the job file, from the models that check job files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from enformer_ray.config import (
    GENE_DEFAULTS,
    CatalogueConfig,
    GenesConfig,
    JobConfig,
    Schedule,
    ScoringConfig,
    Setting,
    settings,
)

PAGE = Path(__file__).parents[1] / "docs/job_file.md"

_INTRODUCTION = """\
# The job file

`--config job.yaml` gives `score`, `plan`, `submit`, `reprocess`, `genes`, `saturate` and `releases` a job from a YAML
file; options of the command line override it. [jobs/score_variants.yaml](../jobs/score_variants.yaml) and
[jobs/reprocess_release.yaml](../jobs/reprocess_release.yaml) are examples to copy. A key that is not below is an error.

This page is written by `make docs-reference` from the models in `enformer_ray/config.py`; change it there.
"""

_SECTIONS = {
    "scoring": ScoringConfig,
    "catalogue": CatalogueConfig,
    "genes": GenesConfig,
    "schedule": Schedule,
}

_NOTHING = {bool: "false"}


def page() -> str:
    """The page."""
    top = [setting for setting in settings(JobConfig) if "." not in setting.key]
    parts = [_INTRODUCTION, "## The job\n", *_table(top), ""]
    for name, model in _SECTIONS.items():
        about = " ".join((model.__doc__ or "").split())
        parts += [f"## Section `{name}`\n", about + "\n"]
        if name == "genes":
            parts.append(_gene_defaults())
        parts += [*_table(list(settings(model))), ""]
    return "\n".join(parts[:-1]) + "\n"


def _gene_defaults() -> str:
    keys = [f"`{key}` is {','.join(v) if isinstance(v, tuple) else v}" for key, v in GENE_DEFAULTS.items()]
    return (
        f"In a job with this section, {', '.join(keys)}, and `tracks` is assay:CAGE if\n"
        "there is a `tracks_table`, where its section `scoring` does not say otherwise.\n"
    )


def _table(rows: list[Setting]) -> Iterator[str]:
    yield "| key | value | default | option | meaning |"
    yield "|---|---|---|---|---|"
    for setting in rows:
        default = "**required**" if setting.field.is_required() else setting.default or _NOTHING.get(setting.kind, "")
        option = f"`{setting.flag}`" if setting.option is not None else ""
        cells = (f"`{setting.key}`", setting.expected, default, option, setting.field.description or "")
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"Wrote {PAGE}.")
