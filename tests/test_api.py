"""The functions of `enformer_ray.api`: values, errors, callbacks, and nothing printed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import enformer_ray as e
from enformer_ray import api
from enformer_ray.engine.progress import Progress, RunOutcome
from enformer_ray.errors import (
    ConfigError,
    InputFileError,
    LeaseHeldError,
    MismatchError,
    PreviousRunError,
    RunIncompleteError,
    VariantFileError,
)
from enformer_ray.planning.plan import Plan
from enformer_ray.publish.finalise import FinaliseProgress
from enformer_ray.rundir.lease import hold
from enformer_ray.rundir.store import LocalStore
from enformer_ray.schedule import BegunRelease, FoundReleases, ReleaseResult
from tests.run_fixtures import ALLELES


def keywords(job: e.JobConfig, **changed: Any) -> dict[str, Any]:
    """A job as a caller would write it, with paths as they come."""
    scoring = job.scoring.model_dump(include=job.scoring.model_fields_set)
    files = {"variants": Path(job.variants[0]), "reference": job.reference, "weights": Path(job.weights)}
    return {**files, "output": job.output, "scoring": scoring, "shard_size": job.shard_size, **changed}


def test_scoring_returns_values_calls_back_and_prints_nothing(
    job: e.JobConfig, finished_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[object] = []
    finished = e.score(**keywords(job, output=tmp_path / "run"), on_progress=steps.append)
    assert finished.content_hash == e.verify(finished_folder).content_hash
    assert (finished.uri, finished.failed, finished.failures) == (str(tmp_path / "run"), 0, ())
    assert sum(line.alleles for line in finished.account) == ALLELES
    assert finished.audit.variants > 0
    assert finished.scores().to_arrow("sad").num_rows == finished.manifest.rows
    assert f"content hash {finished.content_hash}" in str(finished)
    kinds = list(dict.fromkeys(type(step) for step in steps))
    assert kinds == [Plan, Progress, RunOutcome, FinaliseProgress, api.FinishedRun]
    assert steps[-1] is finished

    steps.clear()
    again = e.score(job.model_copy(update={"output": str(tmp_path / "run")}), on_progress=steps.append)
    assert again.manifest == finished.manifest
    assert [step.shards for step in steps if isinstance(step, RunOutcome)] == [0]
    with pytest.raises(MismatchError, match="statistics"):
        e.score(**keywords(job, output=tmp_path / "run", scoring={"statistics": ["sad"], "device": "cpu"}))
    assert capsys.readouterr() == ("", "")


def test_a_run_in_three_steps(scored: LocalStore, job: e.JobConfig, finished_folder: Path) -> None:
    job = job.model_copy(update={"output": scored.uri})
    assert e.plan(job).document.planned == e.status(scored.uri).variants_total
    progress: list[Progress] = []
    assert e.run(scored.root, on_progress=progress.append).shards == 0
    assert progress[-1].variants_done == progress[-1].variants_total
    finished = e.finalise(scored.root)
    assert e.finalise(scored.root).manifest == finished.manifest
    assert e.verify(scored.root).content_hash == e.verify(finished_folder).content_hash
    assert e.status(scored.root).finished


def test_a_job_and_its_keywords_are_the_same_plan(job: e.JobConfig, tmp_path: Path) -> None:
    whole = e.plan(job.model_copy(update={"output": str(tmp_path / "a")}))
    by_key = e.plan(**keywords(job, output=tmp_path / "b"))
    assert by_key.document.fingerprint == whole.document.fingerprint
    assert e.JobConfig(**{**job.model_dump(), "output": "a"}) == job.model_copy(update={"output": "a"})


def test_a_preview_counts_and_writes_nothing(job: e.JobConfig, tmp_path: Path) -> None:
    seen = e.preview(**keywords(job, output=tmp_path / "run"))
    assert (seen.alleles, seen.tracks, seen.reuse) == (ALLELES, 3, None)
    assert not (tmp_path / "run").exists()


def test_everything_is_taken_from_a_previous_run(again: e.JobConfig, finished_folder: Path) -> None:
    expected = e.preview(again, kind="reprocess")
    assert expected.reuse is not None
    assert (expected.variants, expected.reuse.origins["reused"]) == (0, e.verify(finished_folder).manifest.rows)
    assert e.reprocess(again).content_hash == e.verify(finished_folder).content_hash


def test_keys_are_checked_as_those_of_a_job_file(job: e.JobConfig) -> None:
    for function in (e.score, e.plan, e.reprocess, e.saturate, e.score_genes, e.preview):
        with pytest.raises(ConfigError, match=r"shfits: unknown key, perhaps `scoring\.shifts`") as caught:
            function(**keywords(job, shfits=4))
        assert caught.value.exit_status == 2
    with pytest.raises(ConfigError, match=r"output: missing: .*"):
        e.score(variants="a.vcf", reference="a.fa")
    with pytest.raises(ConfigError, match="a job and keys of one"):
        e.score(job, output="elsewhere")
    with pytest.raises(ConfigError, match="worker: unknown key"):
        e.releases(schedule={"releases": "a", "runs": "b"}, reference="a.fa", worker=3)


def test_what_the_command_line_refuses_is_refused_with_the_same_error(job: e.JobConfig, tmp_path: Path) -> None:
    here = keywords(job, output=tmp_path / "run")
    with pytest.raises(ConfigError, match="reprocess needs at least one finished run"):
        e.reprocess(**here)
    with pytest.raises(PreviousRunError):
        e.reprocess(**here, previous=tmp_path / "nothing")
    with pytest.raises(ConfigError, match="no section `genes`"):
        e.score_genes(**here)
    with pytest.raises(ConfigError, match="makes its own variants"):
        e.saturate(**here)
    with pytest.raises(ConfigError, match="a picture is written as"):
        e.saturate(**here, regions=["chr1:1-9"], logo="logo.txt")
    with pytest.raises(VariantFileError, match="nowhere"):
        e.score(**{**here, "variants": tmp_path / "nowhere.vcf"})
    for function in (e.run, e.finalise, e.verify):
        with pytest.raises(RunIncompleteError):
            function(tmp_path / "run")
    with pytest.raises(InputFileError):
        e.releases(schedule={"releases": str(tmp_path / "gone"), "runs": str(tmp_path)}, reference="a.fa")


def test_a_run_directory_with_another_driver_is_refused(scored: LocalStore) -> None:
    with hold(scored):
        for function in (e.run, e.finalise):
            with pytest.raises(LeaseHeldError, match="--take-over"):
                function(scored.root)


def test_an_error_of_a_release_is_its_result(job: e.JobConfig, tmp_path: Path) -> None:
    folder = tmp_path / "releases"
    folder.mkdir()
    (folder / "bad.vcf").write_text("no variants")
    (folder / "good.vcf").write_bytes(Path(job.variants[0]).read_bytes())
    schedule = {"releases": folder, "runs": tmp_path / "runs", "settle": 0}
    options = keywords(job, schedule=schedule)
    del options["variants"], options["output"]
    steps: list[object] = []
    seen = e.releases(**options, dry_run=True, on_progress=steps.append)
    bad, good = seen.results
    assert isinstance(bad.error, VariantFileError)
    assert (bad.outcome, good.error) == (None, None)
    assert good.outcome is not None
    assert [release.state for release in seen.found.releases] == ["new", "new"]
    assert [type(step) for step in steps] == [FoundReleases, *[BegunRelease, ReleaseResult] * 2]
    assert not (tmp_path / "runs").exists()


def test_reading_needs_neither_torch_nor_ray(finished_folder: Path) -> None:
    code = (
        "import sys, enformer_ray as e\n"
        f"e.open_scores({str(finished_folder)!r}).to_arrow('sad')\n"
        "e.score\n"
        "print(sorted({'torch', 'ray'} & set(sys.modules)), hasattr(e, 'nothing'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] False\n"
