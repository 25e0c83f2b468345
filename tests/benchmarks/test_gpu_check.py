"""`make gpu-check`: every step runs at toy size or says why it cannot, and nothing passes by not running."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from gpu.report import CheckFailedError, NotHereError, Report, Step, run_steps
from gpu.speed import read_trace

from tests.benchmarks.conftest import FOLDER

PROGRAM = FOLDER / "gpu_check.py"
SCHEMA = json.loads(Path(__file__).with_name("gpu_check.schema.json").read_text())
CPU = torch.device("cpu")

Steps = dict[tuple[str, str], dict[str, Any]]


def validated(path: Path) -> Steps:
    content = json.loads(path.read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(content)
    return {(step["section"], step["step"]): step for step in content["steps"]}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Steps, str]:
    """Steps and output of the whole check on the CPU, at toy size."""
    folder = tmp_path_factory.mktemp("gpu-check")
    command = [sys.executable, "-W", "error", str(PROGRAM), "--tiny", "--device", "cpu", "--output", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return validated(folder / "gpu-check.json"), done.stdout


def test_every_step_runs_or_says_why(tiny: tuple[Steps, str]) -> None:
    steps, out = tiny
    reasons = {where: step["reason"] for where, step in steps.items() if step["status"] == "not run"}
    for (section, name), step in steps.items():
        if "tf32" in name:
            assert step["reason"] == "a CPU has no TensorFloat-32"
        elif section == "kernels":
            assert step["reason"].startswith("no CUDA device, so no kernels; ")
        elif section == "peer":
            assert step["status"] == "done" or "enformer-pytorch cannot be imported" in step["reason"]
        else:
            assert step["status"] == "done", (section, name, step["reason"])
    assert {section for section, _ in steps} == set(SCHEMA["$defs"]["step"]["properties"]["section"]["enum"])
    for (section, name), reason in reasons.items():
        (line,) = [line for line in out.splitlines() if line.startswith(f"{section:<11} {name:<34}")]
        assert "not run" in line
        assert reason in line


def test_what_the_steps_measure(tiny: tuple[Steps, str]) -> None:
    steps, _ = tiny
    assert steps["memory", "a batch that does not fit"]["values"]["batch"] == 8
    assert 0 < steps["parity", "float32"]["values"]["largest deviation of the reference sum"] <= 5e-6
    digests = steps["bits", "two processes"]["values"]["digests"]
    assert all(row["first"] == row["second"] for row in digests)
    assert len({row["first"] for row in digests}) == len(digests) == 4
    assert steps["tail", "8192 rows"]["values"]["MB"] > 0.05
    throughput = [step["values"] for (section, _), step in steps.items() if section == "throughput" and step["values"]]
    assert len(throughput) == 12
    assert all(values["variants/s"] > 0 and values["TFLOP/s"] > 0 for values in throughput)


def test_it_needs_what_scoring_needs() -> None:
    """A rented card's machine has torch and little else."""
    code = f"import json, sys; sys.path.insert(0, {str(FOLDER)!r}); import gpu_check; print(json.dumps([*sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(json.loads(done.stdout))
    others = {
        "ray",
        "duckdb",
        "polars",
        "typer",
        "rich",
        "obstore",
        "pysam",
        "scipy",
        "huggingface_hub",
        "transformers",
    }
    assert not others & modules
    packages = {name.split(".")[1] for name in modules if name.startswith("enformer_ray.")}
    assert not packages & {"runtime", "plan", "engine", "publish", "dataset", "analysis", "cli"}


def new_report(folder: Path) -> Report:
    return Report(folder / "report.json", {"began": time.time()})


def fails() -> dict[str, Any]:
    raise ArithmeticError("no such number")


def is_wrong() -> dict[str, Any]:
    raise CheckFailedError("too far off", {"deviation": float("nan")})


def cannot() -> dict[str, Any]:
    raise NotHereError("no such device")


def test_a_step_that_fails_is_reported_and_the_rest_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = new_report(tmp_path)
    steps = [
        Step("card", "raises", 0, fails),
        Step("card", "wrong", 0, is_wrong),
        Step("card", "absent", 0, cannot),
        Step("card", "long", 1000, lambda: {"value": 1}),
        Step("card", "works", 0, lambda: {"value": 2.5}),
    ]
    report.plan(steps)
    assert run_steps(report, steps, 100, CPU)
    content = json.loads(report.path.read_text())
    assert [step["status"] for step in content["steps"]] == ["failed", "failed", "not run", "not run", "done"]
    assert content["counts"] == {"done": 1, "failed": 2, "not run": 2}
    reasons = [step["reason"] for step in content["steps"]]
    assert reasons[0].startswith("ArithmeticError: no such number (test_gpu_check.py:")
    assert reasons[1:3] == ["too far off", "no such device"]
    assert content["steps"][1]["values"] == {"deviation": "nan"}
    assert "s left, it takes about 1000" in reasons[3]
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 5
    assert "value 2.5" in out


def test_a_run_that_is_killed_keeps_what_it_had(tmp_path: Path) -> None:
    code = (
        f"import os, sys, time; sys.path.insert(0, {str(FOLDER)!r}); import torch; from pathlib import Path; "
        "from gpu.report import Report, Step, run_steps; "
        f"report = Report(Path({str(tmp_path / 'report.json')!r}), {{'began': time.time()}}); "
        "steps = [Step('card', 'a', 0, lambda: {'value': 1}), Step('card', 'b', 0, lambda: os._exit(9)), "
        "Step('card', 'c', 0, lambda: {'value': 1})]; "
        "report.plan(steps); run_steps(report, steps, 100, torch.device('cpu'))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 9
    report = Report.resumed(tmp_path / "report.json")
    found = [(step["status"], step["reason"]) for step in report.steps]
    assert found == [
        ("done", ""),
        ("failed", "the process ended in this step"),
        ("not run", "the run ended before it"),
    ]


def test_a_new_process_goes_on_where_the_device_was_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an illegal access every call of the process fails."""

    def lost(_: torch.device) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "synchronize", lost)
    ran: list[str] = []
    steps = [
        Step("card", "a", 0, lambda: ran.append("a") or {"value": 1}),  # type: ignore[func-returns-value]
        Step("card", "b", 0, fails),
        Step("card", "c", 0, lambda: ran.append("c") or {"value": 1}),  # type: ignore[func-returns-value]
    ]
    report = new_report(tmp_path)
    report.plan(steps)
    assert not run_steps(report, steps, 100, torch.device("cuda"))
    again = Report.resumed(report.path)
    again.plan(steps)
    assert run_steps(again, steps, 100, torch.device("cuda"))
    assert ran == ["a", "c"]
    assert again.counts == {"done": 2, "failed": 1, "not run": 0}
    assert again.values("card", "c") == {"value": 1}


def test_a_trace_of_the_profiler() -> None:
    """As torch 2.6 to 2.13 write it: device events overlap, and the host's own are not among them."""

    def event(category: str, name: str, begin: float, length: float) -> dict[str, Any]:
        return {"ph": "X", "cat": category, "name": name, "ts": begin, "dur": length}

    seen = read_trace(
        [
            event("cpu_op", "aten::mm", 0, 100),
            event("kernel", "sgemm", 10, 40),
            event("kernel", "sgemm", 30, 40),
            event("kernel", "silu", 90, 10),
            event("gpu_memcpy", "Memcpy HtoD (Pageable -> Device)", 0, 5),
            event("gpu_memcpy", "Memcpy DtoH (Device -> Pageable)", 200, 5),
            event("gpu_memset", "Memset (Device)", 300, 5),
            event("gpu_user_annotation", "step", 0, 1000),
            event("cuda_runtime", "cudaLaunchKernel", 0, 1),
            event("cuda_runtime", "cudaStreamSynchronize", 0, 1),
            {"ph": "M", "name": "process_name", "args": {}},
        ]
    )
    assert seen.busy == pytest.approx((60 + 10 + 15) / 1e6)
    assert (seen.kernels, seen.to_device, seen.to_host, seen.waits) == (3, 1, 1, 1)
    assert seen.largest[0] == {"kernel": "sgemm", "share": 80 / 105, "times": 2}
