"""`enformer-ray submit` against a real Ray head with token authentication."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from ray.dashboard.modules.job.pydantic_models import JobDetails

from enformer_ray.engine.submit import exit_status
from enformer_ray.errors import ClusterError
from tests.cluster.conftest import BIN, Head, free_port
from tests.cluster.proxy import Proxy
from tests.end_to_end.conftest import Finished
from tests.small_world import World

# The log is followed over the real interval of the progress lines; nothing here asserts how long it took.
PROGRESS = re.compile(r"^\d+ of 50 variants, \d+ of \d+ shards", re.MULTILINE)


def job_file(path: Path, world: World, output: Path | str, **more: Any) -> Path:
    """A job that scores the world's 50 variants in three shards."""
    job = {
        "variants": str(world.variants),
        "reference": str(world.reference),
        "weights": str(world.weights),
        "output": str(output),
        "scoring": {"statistics": ["sad"], "threads": 1},
        "shard_size": 20,
        "workers": 2,
    }
    path.write_text(yaml.safe_dump(job | more))
    return path


def submit(head: Head, config: Path, *options: str | Path, **environment: str) -> Finished:
    words = [BIN / "enformer-ray", "submit", "--config", config, "--address", head.address, *options]
    done = subprocess.run(
        [str(word) for word in words],
        env={**head.environment, **environment},
        cwd=config.parent,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def ray_job(head: Head, *words: str) -> str:
    line = [str(BIN / "ray"), "job", words[0], "--address", head.address, *words[1:]]
    done = subprocess.run(line, env=head.environment, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr


def refused(finished: Finished, status: int = 1) -> str:
    assert finished.status == status, finished.out + finished.error
    message = finished.error.strip()
    assert message.startswith("error: ")
    assert "Traceback" not in message
    return message


def test_job_succeeds_and_its_log_streams(head: Head, world: World, tmp_path: Path) -> None:
    config = job_file(tmp_path / "job.yaml", world, tmp_path / "run")
    # The address that is given counts, not one that lies about in the environment.
    done = submit(head, config, "--follow", "--driver-resource", "driver", RAY_ADDRESS=f"127.0.0.1:{free_port()}")
    assert done.status == 0, done.out + done.error
    assert PROGRESS.search(done.out)
    assert f"Finished: {tmp_path}/run/scores" in done.out
    assert "exit status 0" in done.out
    assert done.out.count("Planned 50 variants") == 1
    assert len(pd.read_parquet(tmp_path / "run/scores/sad")) == 50


def test_exit_status_is_that_of_the_job(head: Head, world: World, tmp_path: Path) -> None:
    config = job_file(tmp_path / "job.yaml", world, tmp_path / "run")
    assert submit(head, config, "--follow").status == 0
    other_plan = submit(head, config, "--follow", "--statistics", "d2")
    assert other_plan.status == 4, other_plan.out
    assert "error: " in other_plan.out
    gone = submit(head, config, "--follow", "--reference", tmp_path / "gone.fa", "--output", tmp_path / "other")
    assert gone.status == 1, gone.out
    assert "gone.fa" in gone.out


def test_working_directory_and_code_go_along(head: Head, world: World, tmp_path: Path) -> None:
    folder = tmp_path / "inputs"
    folder.mkdir()
    (folder / "mine.vcf").write_bytes(world.variants.read_bytes())
    (folder / "deep").mkdir()
    for name in (".secrets", "deep/.secrets"):
        (folder / name).write_text("stays here")
    config = job_file(tmp_path / "job.yaml", world, tmp_path / "run", variants="mine.vcf")
    assert "mine.vcf" in refused(submit(head, config), 2)
    done = submit(head, config, "--follow", "--working-dir", folder, "--ship-code")
    assert done.status == 0, done.out + done.error
    assert len(pd.read_parquet(tmp_path / "run/scores/sad")) == 50


def test_submission_id_and_no_follow(head: Head, world: World, tmp_path: Path) -> None:
    config = job_file(tmp_path / "job.yaml", world, tmp_path / "run")
    done = submit(head, config, "--submission-id", "once", AWS_SECRET_ACCESS_KEY="do-not-send-me")
    assert done.status == 0, done.error
    assert f"ray job logs --address {head.address} --follow once" in done.out
    assert "once" in refused(submit(head, config, "--submission-id", "once"))
    assert "do-not-send-me" not in ray_job(head, "list")
    ray_job(head, "stop", "once")


def test_ctrl_c_stops_following_and_not_the_job(head: Head, world: World, tmp_path: Path) -> None:
    many_passes = {"statistics": ["sad"], "threads": 1, "shifts": 16, "reverse_complement": True}  # a minute and more
    config = job_file(tmp_path / "job.yaml", world, tmp_path / "run", shard_size=1, workers=1, scoring=many_passes)
    words = [str(BIN / "enformer-ray"), "submit", "--config", str(config), "--address", head.address, "--follow"]
    words += ["--submission-id", "goes-on"]
    # Tests that a script has put into the background ignore SIGINT, and their children would, too.
    words = ["env", "--default-signal=INT", *words]
    with subprocess.Popen(words, env=head.environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if PROGRESS.match(line):
                break
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the job goes on" in out
    assert "ray job stop" in out
    assert "RUNNING" in ray_job(head, "status", "goes-on")
    follow = submit(head, config, "--submission-id", "goes-on")
    assert "already exists" in refused(follow)
    ray_job(head, "stop", "goes-on")


def test_log_is_followed_over_a_lost_connection(head: Head, world: World, tmp_path: Path) -> None:
    some_passes = {"statistics": ["sad"], "threads": 1, "shifts": 4}  # so that it is not through before the cut
    config = job_file(tmp_path / "job.yaml", world, tmp_path / "run", shard_size=1, workers=1, scoring=some_passes)
    with Proxy(int(head.address.rsplit(":", 1)[1])) as proxy:
        words = [str(BIN / "enformer-ray"), "submit", "--config", str(config), "--address", proxy.address, "--follow"]
        with subprocess.Popen(
            words, env=head.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            before = []
            for line in process.stdout:
                before.append(line)
                if PROGRESS.match(line):
                    break
            assert proxy.cut() > 0
            rest, error = process.communicate(timeout=240)
    out = "".join(before) + rest
    assert process.returncode == 0, out + error
    assert out.count("Planned 50 variants") == 1
    assert out.count("0 of 50 variants, 0 of 50 shards") == 1
    assert out.count("Finished: ") == 1


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [("RUNNING", None, None), ("SUCCEEDED", 0, 0), ("FAILED", 3, 3), ("FAILED", -9, 137), ("STOPPED", None, 143)],
)
def test_exit_status_of_every_end(status: str, code: int | None, expected: int | None) -> None:
    details = JobDetails(type="SUBMISSION", status=status, entrypoint="", driver_exit_code=code)
    assert exit_status(details) == expected


def test_a_job_that_the_cluster_lost_is_an_error() -> None:
    message = "Job supervisor actor died: node was terminated"
    with pytest.raises(ClusterError, match=message):
        exit_status(JobDetails(type="SUBMISSION", status="FAILED", entrypoint="", message=message))


def test_wrong_missing_and_unreadable_tokens(head: Head, world: World, tmp_path: Path) -> None:
    config = job_file(tmp_path / "job.yaml", world, tmp_path / "run")
    for environment, word in (
        ({"RAY_AUTH_TOKEN": "wrong" * 8}, "RAY_AUTH_TOKEN"),
        ({"RAY_AUTH_MODE": "disabled"}, "RAY_AUTH_MODE"),
        ({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "no-token")}, "no-token"),
    ):
        message = refused(submit(head, config, **environment))
        assert "token" in message
        assert word in message
        assert "wrongwrong" not in message
    assert not (tmp_path / "run").exists()


def test_no_server_and_wrong_addresses(head: Head, world: World, tmp_path: Path) -> None:
    config = job_file(tmp_path / "job.yaml", world, tmp_path / "run")
    silent = f"http://127.0.0.1:{free_port()}"
    assert silent in refused(submit(Head(silent, head.environment), config))
    for address in ("127.0.0.1:6379", "auto"):
        assert "http://HEAD:8265" in refused(submit(Head(address, head.environment), config), 2)
    message = refused(submit(Head("http://me:secret@127.0.0.1:8265", head.environment), config), 2)
    assert "address: a user name or password" in message
    assert "secret" not in message


@pytest.mark.parametrize(
    "more",
    [
        {"output": "s3://AKIAABCDEFGHIJKLMNOP:hidden-value@bucket/run"},
        {"output": "s3://bucket/run?secret_key=hidden-value"},
        {"variants": ["/data/a.vcf", "https://host/b.vcf?X-Amz-Signature=hidden-value"]},
        {"weights": "hf_hiddenvalue0123456789012345"},
        {"aws_secret_access_key": "hidden-value"},
    ],
)
def test_no_secret_in_a_job(head: Head, world: World, tmp_path: Path, more: dict[str, Any]) -> None:
    output = more.get("output", tmp_path / "run")
    config = job_file(tmp_path / "job.yaml", world, output, **{key: more[key] for key in more if key != "output"})
    message = refused(submit(head, config), 2)
    assert next(iter(more)) in message
    assert "hidden" not in message


def test_relative_run_directory_is_refused(head: Head, world: World, tmp_path: Path) -> None:
    assert "output" in refused(submit(head, job_file(tmp_path / "job.yaml", world, "runs/mine")), 2)
