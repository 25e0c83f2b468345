"""Job files that cannot be used, and the reference page of those that can."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from enformer_ray.cli.options import job_values
from enformer_ray.config import JobConfig, Schedule, ScoringConfig, build_config, check_model, settings
from enformer_ray.definitions import AS_PLANNED
from enformer_ray.errors import ConfigError
from tools.write_job_reference import PAGE, page

NEEDED = {"variants": "a.vcf", "reference": "a.fa", "output": "run"}


def message(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as refused:
        build_config(values, "the job file j.yaml")
    return str(refused.value)


def test_an_empty_section_takes_an_option(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("scoring:\nreference: a.fa\n")
    assert job_values(job, {"device": "cpu"})["scoring"] == {"device": "cpu"}


def test_a_section_that_holds_no_keys_is_refused(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("scoring: cpu\nreference: a.fa\n")
    with pytest.raises(ConfigError, match="`scoring` must hold"):
        job_values(job, {"device": "cpu"})
    refused = message({**NEEDED, "genes": {"gtf": "a.gtf"}, "scoring": "cpu"})
    assert refused.splitlines()[1:] == ["  scoring: must be `key: value` lines; it is 'cpu'"]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"reference": None}, "reference: must be a path; it is None (option --reference)"),
        ({"variants": []}, "variants: must be a list (not empty) of text; it is [] (option --variants)"),
        ({"workers": 0}, "workers: must be a whole number, at least 1; it is 0 (option --workers)"),
        (
            {"shard_size": 8193},
            "shard_size: must be a whole number, at least 1 and at most 8,192; it is 8193 (option --shard-size)",
        ),
        (
            {"gpus_per_worker": 0},
            "gpus_per_worker: must be a number, above 0 and at most 1; it is 0 (option --gpus-per-worker)",
        ),
        ({"offline": "perhaps"}, "offline: must be true or false; it is 'perhaps' (option --offline)"),
        (
            {"scoring": {"shifts": 3}},
            "scoring.shifts: must be one of 1, 2, 4, 8, 16, 32, 64, or a list of offsets, bp, such as 0,1,-1 (at most "
            "64, from -1,024 to 1,024); it is 3 (option --shifts)",
        ),
        ({"scoring": {"shifts": [0, 1, 0]}}, "scoring.shifts: the offset 0 is named twice (option --shifts)"),
        (
            {"scoring": {"device": "tpu"}},
            "scoring.device: must be one of auto, cpu, cuda; it is 'tpu' (option --device)",
        ),
        (
            {"scoring": {"statistics": ["sad", "saad"]}},
            "scoring.statistics: must be a list (not empty) of sad, log2_ratio, log_sad, sax, d2, centre_log2_ratio, "
            "ref, alt; it has 'saad' (option --statistics)",
        ),
        (
            {"scoring": {"statistics": ["d2", "d2"]}},
            "scoring.statistics: a statistic is named twice (option --statistics)",
        ),
        (
            {"catalogue": {"columns": "BP"}},
            "catalogue.columns: must be `key: value` lines; it is 'BP' (option --columns)",
        ),
        (
            {"catalogue": {"chain": 5}},
            "catalogue.chain: must be a path or `key: value` lines; it is 5 (option --chain)",
        ),
        (
            {"catalogue": {"palindromic_threshold": 0.5}},
            "catalogue.palindromic_threshold: must be a number, above 0 and below 0.5; it is 0.5",
        ),
        (
            {"genes": {"bins": 5}},
            "genes.gtf: missing: genes of the reference's assembly (GTF, plain or gzip) (option --gtf)",
        ),
        (
            {"genes": {"gtf": "a", "gene_types": [1]}},
            "genes.gene_types: must be a list of text; it has 1 (option --gene-type)",
        ),
        ({"shfits": 4}, "shfits: unknown key, perhaps `scoring.shifts` is meant; docs/job_file.md lists the keys"),
        ({"scoring": {"zzz": 4}}, "scoring.zzz: unknown key; docs/job_file.md lists the keys"),
    ],
)
def test_a_wrong_value_is_named_with_its_option_and_what_is_allowed(values: dict[str, Any], line: str) -> None:
    assert message({**NEEDED, **values}) == f"the job file j.yaml cannot be used:\n  {line}"


@pytest.mark.parametrize(
    ("shifts", "read"),
    [
        (4, 4),
        ("4", 4),
        ("0,1,-1", (-1, 0, 1)),
        ("-1, 0, +1", (-1, 0, 1)),
        ([0, 1, -1], (-1, 0, 1)),
        ([0, 33, 66, 99], (0, 33, 66, 99)),
        ([1], (1,)),
        ("1,", (1,)),
        (list(range(-32, 32)), tuple(range(-32, 32))),
        ([1024, -1024], (-1024, 1024)),
    ],
)
def test_shifts_are_a_count_or_offsets(shifts: object, read: object) -> None:
    job = build_config({**NEEDED, "scoring": {"shifts": shifts}}, "j")
    assert job.scoring.shifts == read
    assert JobConfig.model_validate_json(job.model_dump_json()) == job


@pytest.mark.parametrize(
    ("shifts", "found"),
    [
        ("0", "it is 0"),
        (True, "it is True"),
        (4.0, "it is 4.0"),
        ("four", "it is 'four'"),
        ("0,1.5", "it has '1.5'"),
        ("0,,1", "it has ''"),
        (",", "it has ''"),
        ("0,--1", "it has '--1'"),
        ("9" * 5000, "it is '9999"),
        ([0, 1.0], "it has 1.0"),
        ([0, True], "it has True"),
        ([0, None], "it has None"),
        ([0, 1025], "it has 1025"),
        ([-1025, 0], "it has -1025"),
        ([], "it has 0"),
        (list(range(65)), "it has 65"),
        ({0: 1}, "it is {0: 1}"),
        (None, "it is None"),
    ],
)
def test_shifts_that_are_neither_are_refused(shifts: object, found: str) -> None:
    refused = message({**NEEDED, "scoring": {"shifts": shifts}})
    assert "scoring.shifts: must be " in refused
    assert "a list of offsets, bp, such as 0,1,-1 (at most 64, from -1,024 to 1,024); " + found in refused
    assert len(refused) < 400


def test_an_older_name_of_a_statistic_is_its_current_one() -> None:
    job = build_config({**NEEDED, "scoring": {"statistics": ["sad", "centre"]}}, "j")
    assert job.scoring.statistics == ("sad", "centre_log2_ratio")
    assert ScoringConfig(statistics=("centre",)).statistics == ("centre_log2_ratio",)
    both = {"statistics": ["centre", "centre_log2_ratio"]}
    assert "scoring.statistics: a statistic is named twice" in message({**NEEDED, "scoring": both})
    assert "centre," not in page().replace("`centre`", "")


def test_a_plan_keeps_the_name_of_its_files() -> None:
    planned = {"statistics": ["centre"]}
    assert ScoringConfig.model_validate(planned, context=AS_PLANNED).statistics == ("centre",)


def test_every_wrong_key_has_a_line() -> None:
    lines = message({"output": 1, "scoring": {"stride": "wide"}, "worker": 2}).splitlines()
    assert [line.split()[0].rstrip(":") for line in lines[1:]] == [
        "variants",
        "reference",
        "output",
        "scoring.stride",
        "worker",
    ]


def test_a_section_of_its_own_names_its_keys_with_the_section() -> None:
    with pytest.raises(ConfigError) as refused:
        check_model(Schedule, {"runs": "r", "settle": -1}, "j.yaml", section="schedule")
    assert str(refused.value).splitlines()[1:] == [
        "  schedule.releases: missing: folder of releases, or a glob in quotes: each file or folder "
        "is one (option --releases)",
        "  schedule.settle: must be a number, at least 0; it is -1 (option --settle)",
    ]


def test_every_field_says_what_it_means() -> None:
    assert [setting.key for setting in settings(JobConfig) if not setting.field.description] == []


def test_the_reference_page_is_what_the_models_give() -> None:
    assert PAGE.read_text() == page(), "run `make docs-reference`"


def test_the_page_has_every_key_of_the_examples() -> None:
    keys = {setting.key.rpartition(".")[2] for setting in (*settings(JobConfig), *settings(Schedule))}
    sections = set(re.findall(r"^## Section `(\w+)`", page(), flags=re.MULTILINE))
    for path in (PAGE.parents[1] / "jobs").glob("*.yaml"):
        # Keys that are commented out are examples, too.
        named = set(re.findall(r"^[# ]*([a-z_]+): ", path.read_text(), flags=re.MULTILINE))
        assert len(named) > 5
        assert named <= keys | sections, path
