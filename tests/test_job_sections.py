"""Sections of a job file that are empty or hold something else than keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from enformer_ray.cli.options import job_values
from enformer_ray.config import build_config
from enformer_ray.errors import ConfigError


def test_an_empty_section_takes_an_option(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("scoring:\nreference: a.fa\n")
    assert job_values(job, {"device": "cpu"})["scoring"] == {"device": "cpu"}


def test_a_section_that_holds_no_keys_is_refused(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("scoring: cpu\nreference: a.fa\n")
    with pytest.raises(ConfigError, match="`scoring` must hold"):
        job_values(job, {"device": "cpu"})
    values = {"variants": "a.vcf", "reference": "a.fa", "output": "run", "genes": {"gtf": "a.gtf"}, "scoring": "cpu"}
    with pytest.raises(ConfigError, match="scoring"):
        build_config(values, "here")
