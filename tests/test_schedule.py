from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from enformer_ray.config import Schedule
from enformer_ray.errors import ConfigError, DatasetCorruptError, InputFileError
from enformer_ray.rundir import layout
from enformer_ray.rundir.store import open_store
from enformer_ray.schedule import Seen, finished_runs, look, scheduled_job
from tests.dataset.study import Study, make_study
from tests.dataset.test_dataset import upload

SITES = [("1", 2000 + 50 * i, f"rs{i}", "0.1") for i in range(4)]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def finished(study: Study) -> Path:
    return study.run("run", SITES)


@pytest.fixture
def releases(tmp_path: Path) -> Path:
    folder = tmp_path / "releases"
    folder.mkdir()
    return folder


def schedule(folder: Path, **more: Any) -> Schedule:
    return Schedule(**{"releases": str(folder), "runs": str(folder.parent / "runs"), "settle": 0, **more})


def states(asked: Schedule) -> dict[str, str]:
    return {seen.release.name: seen.state for seen in look(asked)}


def only(asked: Schedule) -> Seen:
    (seen,) = look(asked)
    return seen


def test_a_release_is_whole_when_nothing_has_changed_for_a_while(releases: Path) -> None:
    file = releases / "2026-11.vcf"
    file.write_text("x")
    long_ago = time.time() - 1e6
    os.utime(file, (long_ago, long_ago))  # as copying with times does, to a file that it has just written
    seen = only(schedule(releases, settle=1000))
    assert (seen.state, "1 bytes" in seen.why, "--settle is 1000 s" in seen.why) == ("arriving", True, True)
    assert states(schedule(releases, settle=None)) == {"2026-11.vcf": "arriving"}
    assert states(schedule(releases)) == {"2026-11.vcf": "new"}
    ahead = time.time() + 1e6
    os.utime(file, (ahead, ahead))
    assert "ahead of this machine's clock" in only(schedule(releases)).why


def test_a_done_file_says_that_a_release_is_whole(releases: Path) -> None:
    (releases / "a.vcf").write_text("x")
    (releases / "b").mkdir()
    (releases / "b/chr1.vcf").write_text("x")
    asked = schedule(releases, settle=None, done_file="*.done")
    assert states(asked) == {"a.vcf": "arriving", "b": "arriving"}
    assert f"there is no {releases}/a.vcf.done yet" in look(asked)[0].why
    (releases / "a.vcf.done").touch()
    assert states(asked) == {"a.vcf": "new", "b": "arriving"}
    (releases / "b/b.done").touch()
    assert states(asked) == {"a.vcf": "new", "b": "new"}
    assert look(asked)[1].release.files == (releases / "b/chr1.vcf",)
    assert states(schedule(releases, settle=1000, done_file="*.done")) == {"a.vcf": "arriving", "b": "arriving"}


def test_a_done_file_of_one_name_is_one_of_folders(releases: Path) -> None:
    (releases / "b").mkdir()
    (releases / "b/chr1.vcf").write_text("x")
    asked = schedule(releases, settle=None, done_file="_SUCCESS")
    assert states(asked) == {"b": "arriving"}
    (releases / "b/_SUCCESS").touch()
    assert only(asked).release.files == (releases / "b/chr1.vcf",)
    assert only(asked).state == "new"
    (releases / "a.vcf").write_text("x")
    with pytest.raises(ConfigError, match=r"put a \* where the name of the release stands"):
        look(asked)


def test_a_folder_is_one_release_of_its_variant_files(releases: Path) -> None:
    folder = releases / "2026-11"
    folder.mkdir()
    assert only(schedule(releases)).why == "it holds no variant file yet"
    for name in ("chr2.vcf.gz", "chr1.vcf.gz", "chr1.vcf.gz.tbi", "chr2.vcf.gz.csi", ".hidden", "md5.md5"):
        (folder / name).write_text(name)
    seen = only(schedule(releases))
    assert [file.name for file in seen.release.files] == ["chr1.vcf.gz", "chr2.vcf.gz"]
    assert (seen.state, seen.run) == ("new", str(releases.parent / "runs/2026-11"))
    (folder / "chr3.vcf.gz.part").touch()
    assert only(schedule(releases)).why == "chr3.vcf.gz.part is still being copied"


def test_names_that_are_no_releases_are_set_aside(releases: Path) -> None:
    for name in ("a.vcf.gz", "a.vcf.gz.tbi", ".a.vcf.gz.Xy12", "b.vcf.gz.part", "b.vcf.tmp", "a.vcf.gz.md5"):
        (releases / name).write_text("x")
    assert states(schedule(releases)) == {"a.vcf.gz": "new"}
    assert states(schedule(releases, releases=f"{releases}/*.gz")) == {"a.vcf.gz": "new"}
    assert states(schedule(releases, releases=f"{releases}/*.bcf")) == {}


def test_a_release_with_a_finished_run_is_scored_until_it_is_written_to_again(releases: Path, finished: Path) -> None:
    file = releases / "2026-11.vcf"
    file.write_text("x")
    runs = releases.parent / "runs"
    shutil.copytree(finished, runs / "2026-11.vcf")
    before = time.time() - 1e6
    os.utime(file, (before, before))
    assert only(schedule(releases, settle=1000)).state == "scored"
    after = time.time() + 10
    os.utime(file, (after, after))
    seen = only(schedule(releases))
    assert (seen.state, "written to again at" in seen.why) == ("changed", True)


def test_earlier_runs_are_the_finished_ones(releases: Path, finished: Path) -> None:
    for name in ("2026-10.vcf", "2026-11.vcf", "2026-12.vcf"):
        (releases / name).write_text("x")
        os.utime(releases / name, (1, 1))
    runs = releases.parent / "runs"
    shutil.copytree(finished, runs / "2026-10.vcf")
    shutil.copytree(finished, runs / "by_hand")
    (runs / "schedule.log").write_text("not a run")
    (runs / layout.LEASE).mkdir()
    shutil.copytree(finished / layout.PLAN_FOLDER, runs / "2026-11.vcf" / layout.PLAN_FOLDER)
    asked = schedule(releases)
    assert list(states(asked).values()) == ["scored", "started", "new"]
    values = {"reference": "a.fa", "previous": "elsewhere", "schedule": asked.model_dump()}
    job = scheduled_job(values, "here")
    new = job.job(look(asked)[2])
    assert new.previous == ("elsewhere", str(runs / "by_hand"), str(runs / "2026-10.vcf"))
    assert (new.variants, new.output) == ((str(releases / "2026-12.vcf"),), str(runs / "2026-12.vcf"))
    # What is resumed keeps to the previous runs of its plan, whatever has been finished since: here there were none.
    assert job.job(look(asked)[1]).previous == ()


def test_a_folder_that_got_an_old_file_after_its_run_has_changed(releases: Path, finished: Path) -> None:
    shutil.copytree(finished, releases.parent / "runs/2026-10")
    folder = releases / "2026-10"
    (folder / ".partial").mkdir(parents=True)
    (read,) = json.loads((finished / layout.PLAN).read_bytes())["config"]["variants"]
    for name, state in ((Path(read).name, "scored"), (".partial/half.vcf", "scored"), ("chr2.vcf", "changed")):
        (folder / name).write_text("x")
        os.utime(folder / name, (1, 1))
        assert only(schedule(releases)).state == state
    assert "holds other files" in only(schedule(releases)).why
    (releases.parent / "runs/2026-10" / layout.PLAN).write_text("[]")
    with pytest.raises(DatasetCorruptError, match="is not the plan of a run"):
        look(schedule(releases))


def test_genes_take_nothing_from_earlier_runs(releases: Path, finished: Path) -> None:
    (releases / "2026-12.vcf").write_text("x")
    shutil.copytree(finished, releases.parent / "runs/2026-10.vcf")
    asked = schedule(releases)
    values = {"reference": "a.fa", "genes": {"gtf": "a.gtf"}, "schedule": asked.model_dump()}
    assert scheduled_job(values, "here").job(only(asked)).previous == ()


def test_runs_may_be_in_an_object_store(releases: Path, finished: Path, bucket: str) -> None:
    for name in ("2026-10.vcf", "2026-11.vcf"):
        (releases / name).write_text("x")
        os.utime(releases / name, (1, 1))
    done = upload(finished, bucket)
    runs, _, name = done.uri.rpartition("/")
    (releases / "2026-10.vcf").rename(releases / name)
    asked = schedule(releases, runs=f"{runs}/")
    assert sorted(states(asked).items()) == sorted({name: "scored", "2026-11.vcf": "new"}.items())
    assert done.uri in finished_runs(runs)
    assert open_store(f"{runs}/2026-11.vcf").entries() == []


def test_names_of_run_directories_hold_no_special_characters(releases: Path) -> None:
    (releases / "a b#1?.vcf").write_text("x")
    assert only(schedule(releases)).run.endswith("/runs/a=20b=231=3F.vcf")


def test_releases_that_cannot_be_told_apart_or_found_are_refused(releases: Path) -> None:
    for name in ("10", "11"):
        (releases / name).mkdir()
        (releases / name / "all.vcf").write_text("x")
    with pytest.raises(InputFileError, match=r"10/all\.vcf and .*11/all\.vcf have the same name"):
        look(schedule(releases, releases=f"{releases}/*/all.vcf"))
    with pytest.raises(InputFileError, match="is no folder"):
        look(schedule(releases, releases=f"{releases}/12"))
    (releases / "lease").touch()
    with pytest.raises(InputFileError, match="cannot be called 'lease'"):
        look(schedule(releases))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schedule": {"releases": "a", "runs": "b"}, "variants": ["x.vcf"]}, "has the key 'variants'"),
        ({"schedule": {"releases": "a", "runs": "b"}, "output": "x"}, "has the key 'output'"),
        ({"schedule": {"releases": "a"}}, r"schedule\.runs: missing: .*\(option --runs\)"),
        (
            {"schedule": {"releases": "a", "runs": "b", "setle": 3}},
            r"schedule\.setle: unknown key, perhaps `schedule\.settle`",
        ),
        ({"schedule": {"releases": "a", "runs": "b"}, "worker": 3}, "worker: unknown key"),
        ({}, r"schedule\.releases: missing: .*\(option --releases\)"),
    ],
)
def test_a_job_file_that_cannot_be_used(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        scheduled_job({"reference": "a.fa", **values}, "the job file j.yaml")


def test_a_file_that_goes_away_while_it_is_looked_at_is_no_error(releases: Path) -> None:
    (releases / "a").mkdir()
    (releases / "a/chr1.vcf").symlink_to(releases / "nowhere")
    assert only(schedule(releases)).state == "arriving"
