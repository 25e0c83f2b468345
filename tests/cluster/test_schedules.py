"""What starts `enformer-ray releases` again and again is what KubeRay, Kubernetes, Slurm and cron take."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from enformer_ray.cli.main import app
from enformer_ray.cli.score import ARRIVING
from enformer_ray.config import build_config
from enformer_ray.schedule import scheduled_job
from tests.cluster.crd import errors, schema, with_value
from tests.cluster.test_manifests import CLUSTER, ROOT, documents

_FIELD = r"(\*|\d+(-\d+)?)(/\d+)?(,\d+(-\d+)?)*"
CRON = re.compile(rf"{_FIELD}( {_FIELD}){{4}}")
RAYCRONJOB, CRONJOB = CLUSTER / "kuberay/raycronjob.yaml", CLUSTER / "kubernetes/cronjob.yaml"


def manifests(path: Path) -> dict[str, dict[str, Any]]:
    """Manifests of a file by kind."""
    return {d["kind"]: d for d in yaml.safe_load_all(path.read_text())}


def an(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def cronjob_schema(pod_template: dict[str, Any]) -> dict[str, Any]:
    """The API server's rules of a CronJob (batch/v1), as far as they are used here, around those of a pod."""
    whole, text = {"type": "integer", "minimum": 0}, {"type": "string"}
    codes = an(
        {
            "containerName": text,
            "operator": {"type": "string", "enum": ["In", "NotIn"]},
            "values": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 255},
        },
        "operator",
        "values",
    )
    rule = an(
        {
            "action": {"type": "string", "enum": ["FailJob", "FailIndex", "Ignore", "Count"]},
            "onExitCodes": codes,
            "onPodConditions": {"type": "array", "items": an({"type": text, "status": text}, "type")},
        },
        "action",
    )
    policy = an({"rules": {"type": "array", "items": rule, "maxItems": 20}}, "rules")
    job = an({"backoffLimit": whole, "podFailurePolicy": policy, "template": pod_template}, "template")
    spec = an(
        {
            "schedule": text,
            "timeZone": text,
            "concurrencyPolicy": {"type": "string", "enum": ["Allow", "Forbid", "Replace"]},
            "startingDeadlineSeconds": whole,
            "successfulJobsHistoryLimit": whole,
            "failedJobsHistoryLimit": whole,
            "suspend": {"type": "boolean"},
            "jobTemplate": an({"spec": job}, "spec"),
        },
        "schedule",
        "jobTemplate",
    )
    return an({"apiVersion": text, "kind": text, "metadata": {"type": "object"}, "spec": spec}, "spec")


def pod_template(shared: Path) -> dict[str, Any]:
    """What the definition of a RayJob says of the template of a pod: a copy of Kubernetes's own."""
    rule = schema(shared / "schemas/ray.io_rayjobs.yaml", "v1")
    for name in ("spec", "rayClusterSpec", "headGroupSpec", "template"):
        rule = rule["properties"][name]
    return rule


def test_raycronjob_fits_its_definition(shared: Path) -> None:
    rule = schema(shared / "schemas/ray.io_raycronjobs.yaml", "v1")
    good = manifests(RAYCRONJOB)["RayCronJob"]
    assert list(errors(good, rule)) == []
    for name, value in {"concurrencyPolicy": "Forbid", "schedule": 3, "jobTemplate": {"spec": {}}}.items():
        bad = copy.deepcopy(good)
        bad["spec"][name] = value
        assert any(f"spec.{name}" in error for error in errors(bad, rule)), name


def test_cronjob_fits_what_kubernetes_takes(shared: Path) -> None:
    rule = cronjob_schema(pod_template(shared))
    good = manifests(CRONJOB)["CronJob"]
    assert list(errors(good, rule)) == []
    for path, value in {
        "spec.concurencyPolicy": "Forbid",
        "spec.jobTemplate.spec.backoffLimit": "3",
        "spec.jobTemplate.spec.template.spec.restartpolicy": "Never",
        "spec.jobTemplate.spec.template.spec.containers": [{"image": "a"}],
    }.items():
        assert any(path in error for error in errors(with_value(good, path, value), rule)), path


def test_raycronjob_starts_the_cluster_of_the_rayjob() -> None:
    one = documents("rayjob.yaml")["RayJob"]["spec"]["rayClusterSpec"]
    again = manifests(RAYCRONJOB)["RayCronJob"]["spec"]["jobTemplate"]["rayClusterSpec"]
    for volume in (volume for group in again["workerGroupSpecs"] for volume in group["template"]["spec"]["volumes"]):
        if volume["name"] == "job":
            volume["configMap"] = {"name": "enformer-job"}
    assert again == one


@pytest.mark.parametrize("file", [RAYCRONJOB, CRONJOB])
def test_job_of_a_schedule_is_one(file: Path) -> None:
    found = manifests(file)
    spec = next(found[kind]["spec"] for kind in ("RayCronJob", "CronJob") if kind in found)
    assert CRON.fullmatch(spec["schedule"])
    job = scheduled_job(yaml.safe_load(found["ConfigMap"]["data"]["job.yaml"]), file.name)
    build_config({**job.values, "variants": "a.vcf", "output": job.schedule.runs}, file.name)
    words = yaml.dump(spec["jobTemplate"])
    (script,) = set(re.findall(r"/opt/enformer-ray/(\S+?\.py)", words))
    assert (ROOT / script).is_file()
    assert "/etc/enformer-ray/job.yaml" in words
    assert found["ConfigMap"]["metadata"]["name"] in words


def test_exit_statuses_that_no_attempt_would_change_end_a_kubernetes_job() -> None:
    job = manifests(CRONJOB)["CronJob"]["spec"]["jobTemplate"]["spec"]
    (failing,) = [rule for rule in job["podFailurePolicy"]["rules"] if rule["action"] == "FailJob"]
    assert failing["onExitCodes"]["values"] == [1, 2, 3, 4, ARRIVING]
    assert failing["onExitCodes"]["containerName"] == job["template"]["spec"]["containers"][0]["name"]
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # else Kubernetes refuses the policy


def test_job_file_of_the_script_is_a_schedule() -> None:
    values = yaml.safe_load((ROOT / "jobs/reprocess_release.yaml").read_text())
    assert scheduled_job(values, "jobs/reprocess_release.yaml").schedule.releases == "/data/releases"


@pytest.mark.parametrize("file", ["crontab", "slurm/releases.scrontab"])
def test_crontab_lines(file: str) -> None:
    lines = [line for line in (CLUSTER / file).read_text().splitlines() if line and not line.startswith("#")]
    (entry,) = [line for line in lines if not re.match(r"[A-Z_]+=", line)]
    schedule, command = " ".join(entry.split()[:5]), " ".join(entry.split()[5:])
    assert CRON.fullmatch(schedule)
    assert "%" not in command  # cron's end of line
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    if file == "crontab":
        words = command.split("&&")[1].split()
        assert words[1] in commands
        assert words[2:4] == ["--config", "reprocess_release.yaml"]
    else:
        variables = dict(line.split("=", 1) for line in lines if line is not entry)
        assert variables.keys() <= set(
            re.findall(r"\$\{(\w+):-", (CLUSTER / "slurm/score_variants.sbatch").read_text())
        )
        assert variables["ENFORMER_RAY_COMMAND"] in commands
        assert command.startswith("exec bash ")  # so that the signal before the time limit reaches the script
        assert (ROOT / command.split()[2].removeprefix("/home/ME/enformer-ray/")).is_file()


def test_crontab_is_taken_by_cron(tmp_path: Path) -> None:
    if shutil.which("crontab") is None:
        pytest.skip("no crontab here (Debian: cron)")
    asked = subprocess.run(["crontab", "-h"], capture_output=True, text=True, check=False)
    if "dry run: checks the syntax" not in asked.stdout + asked.stderr:
        pytest.skip("this crontab cannot check a file without installing it")
    check = ["crontab", "-n"]
    done = subprocess.run([*check, str(CLUSTER / "crontab")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    bad = tmp_path / "bad"
    bad.write_text("30 25 * * * true\n")
    assert subprocess.run([*check, str(bad)], capture_output=True, check=False).returncode != 0
