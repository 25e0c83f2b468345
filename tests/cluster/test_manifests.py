"""What stands in cluster/ is what Kubernetes, Ray, the shell and Docker take."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import fillout_defaults, validate_config

from enformer_ray.config import build_config
from tests.cluster.crd import errors, schema, with_value

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
SBATCH = CLUSTER / "slurm/score_variants.sbatch"
FILL_IN = "FILL IN"


def documents(name: str) -> dict[str, dict[str, Any]]:
    """Manifests of a file by kind."""
    return {d["kind"]: d for d in yaml.safe_load_all((CLUSTER / "kuberay" / name).read_text())}


@pytest.mark.parametrize(
    ("file", "kind", "definition"),
    [
        ("rayjob.yaml", "RayJob", "ray.io_rayjobs.yaml"),
        ("raycluster.yaml", "RayCluster", "ray.io_rayclusters.yaml"),
    ],
)
def test_manifest_fits_its_definition(shared: Path, file: str, kind: str, definition: str) -> None:
    manifest = documents(file)[kind]
    rule = schema(shared / "schemas" / definition, manifest["apiVersion"].removeprefix("ray.io/"))
    assert list(errors(manifest, rule)) == []


def test_the_check_finds_mistakes(shared: Path) -> None:
    rule = schema(shared / "schemas/ray.io_rayjobs.yaml", "v1")
    good = documents("rayjob.yaml")["RayJob"]
    for path, value in {
        "spec.backOffLimit": 5,  # a typing mistake that the API server would drop
        "spec.backoffLimit": "5",
        "spec.shutdownAfterJobFinishes": 1,
        "spec.rayClusterSpec.authOptions.mode": "tokens",
        "spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus": 0,
        "spec.rayClusterSpec.headGroupSpec.template.spec.nodeselector": {},
        "spec.rayClusterSpec.workerGroupSpecs": [{"groupName": "gpu"}],
    }.items():
        assert any(path in error for error in errors(with_value(good, path, value), rule)), path


def test_both_clusters_are_alike() -> None:
    job = documents("rayjob.yaml")["RayJob"]["spec"]["rayClusterSpec"]
    for group in job["workerGroupSpecs"]:
        spec = group["template"]["spec"]
        spec["volumes"] = [volume for volume in spec["volumes"] if volume["name"] != "job"]
        for container in spec["containers"]:
            container["volumeMounts"] = [mount for mount in container["volumeMounts"] if mount["name"] != "job"]
    assert job == documents("raycluster.yaml")["RayCluster"]["spec"]


def test_driver_is_off_the_head_and_spot_nodes_and_clusters_want_a_token() -> None:
    job = documents("rayjob.yaml")["RayJob"]["spec"]
    cluster = job["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["authOptions"]["mode"] == "token"
    wanted = yaml.safe_load(job["entrypointResources"])
    (group,) = (g for g in cluster["workerGroupSpecs"] if wanted.keys() <= g.get("resources", {}).keys())
    assert group["minReplicas"] == 1
    assert "nodeSelector" not in group["template"]["spec"]


def test_job_of_the_rayjob_is_one() -> None:
    values = yaml.safe_load(documents("rayjob.yaml")["ConfigMap"]["data"]["job.yaml"])
    build_config(values, "rayjob.yaml")
    script = documents("rayjob.yaml")["RayJob"]["spec"]["entrypoint"].split()[1]
    assert (ROOT / script.removeprefix("/opt/enformer-ray/")).is_file()


def test_ray_version_is_that_of_the_constraints() -> None:
    (pinned,) = re.findall(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert documents("raycluster.yaml")["RayCluster"]["spec"]["rayVersion"] == pinned


def test_aws_fits_rays_schema() -> None:
    config = yaml.safe_load((CLUSTER / "aws.yaml").read_text())
    validate_config(fillout_defaults(copy.deepcopy(config)))
    types = config["available_node_types"]
    assert types[config["head_node_type"]]["resources"] == {"CPU": 0}
    assert types["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    for line in (config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]):
        assert "RAY_AUTH_MODE=token" in line
    config["available_node_typs"] = {}
    with pytest.raises(Exception, match="available_node_typs"):
        validate_config(fillout_defaults(config))


def test_slurm_script_is_bash() -> None:
    subprocess.run(["bash", "-n", str(SBATCH)], check=True)
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck here (Debian: shellcheck)")
    done = subprocess.run(["shellcheck", str(SBATCH)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_image_copies_what_there_is() -> None:
    text = (CLUSTER / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    copied = [source for words in lines if words[0] == "COPY" for source in words[1:-1]]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
    constrained = [words[i + 1] for words in lines for i, word in enumerate(words) if word == "--constraint"]
    assert set(constrained) == {"constraints.txt"}
    assert "constraints.txt" in copied
    assert [words for words in lines if words[0] == "USER"] == [["USER", "enformer"]]


def test_readme_tells_every_value_to_fill_in() -> None:
    readme = (CLUSTER / "README.md").read_text()
    for file in (*CLUSTER.glob("kube*/*.yaml"), CLUSTER / "aws.yaml"):
        for line in file.read_text().splitlines():
            if FILL_IN in line and '"FILL IN"' not in line:
                found = re.match(r"[\s{-]*([\w./-]+): ", line) or re.search(r"(s3://\S+)", line)
                assert found, line
                assert f"`{found[1]}`" in readme, f"{file.name}: {line.strip()}"


def test_no_credential_in_cluster_or_jobs() -> None:
    for file in [f for folder in (CLUSTER, ROOT / "jobs") for f in folder.rglob("*") if f.is_file()]:
        text = file.read_text()
        assert not re.search(r"AKIA[A-Z0-9]{12}|hf_[A-Za-z0-9]{20}|PRIVATE KEY|://[^/\s]+:[^/\s]+@", text), file
