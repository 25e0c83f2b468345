"""What --working-dir ships: nothing hidden, nothing from outside, and no more than a job may bring along."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from enformer_ray.config import JobConfig
from enformer_ray.engine import package
from enformer_ray.engine.package import JOB_FILE, MAX_PACKAGE_BYTES, entries_of, packed
from enformer_ray.errors import ConfigError


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.vcf", "deep/er/b.vcf", "deep/c.bed"):
        write(tmp_path / "inputs" / name, name)
    return tmp_path / "inputs"


def job(output: Path | str = "/shared/run", **more: Any) -> JobConfig:
    return JobConfig(**({"variants": ("/data/a.vcf",), "reference": "/data/a.fa", "output": str(output)} | more))


def shipped(folder: Path, **more: Any) -> dict[str, str]:
    """Content by path of what Ray would pack, which follows every link that it finds."""
    with packed(job(**more), folder, ship_code=False) as made:
        found = {}
        for parent, _, names in os.walk(made, followlinks=True):
            for name in names:
                path = Path(parent, name)
                found[path.relative_to(made).as_posix()] = path.read_text()
    del found[JOB_FILE]
    return found


def test_files_go_along_under_their_names(folder: Path) -> None:
    (folder / "empty").mkdir()
    assert shipped(folder) == {name: name for name in ("a.vcf", "deep/er/b.vcf", "deep/c.bed")}


@pytest.mark.parametrize(
    "name",
    [
        ".env",
        "deep/.env",
        "deep/er/.aws/credentials",
        "deep/.git/config",
        ".git/objects/ab/cd",
        ".venv/lib/python3.11/site-packages/a.py",
        "deep/.ssh/sub/id_rsa",
        "deep/.cache/x/y/z",
    ],
)
def test_nothing_hidden_goes_along_at_any_depth(name: str, folder: Path) -> None:
    write(folder / name, "secret")
    assert "secret" not in shipped(folder).values()
    assert set(shipped(folder)) == {"a.vcf", "deep/er/b.vcf", "deep/c.bed"}


def test_what_is_hidden_is_neither_counted_nor_looked_at(folder: Path, tmp_path: Path) -> None:
    with write(folder / "deep/.cache/big").open("wb") as file:
        file.truncate(2 * MAX_PACKAGE_BYTES)
    (folder / ".link").symlink_to(tmp_path)
    os.mkfifo(folder / "deep/.pipe")
    assert len(shipped(folder)) == 3


def to_file(folder: Path) -> str:
    (folder / "deep/link").symlink_to(write(folder.parent / "outside.txt"))
    return "outside.txt"


def to_folder(folder: Path) -> str:
    write(folder.parent / "other/x")
    (folder / "link").symlink_to(folder.parent / "other")
    return "other"


def relative(folder: Path) -> str:
    write(folder.parent / "outside.txt")
    (folder / "deep/er/link").symlink_to("../../../outside.txt")
    return "outside.txt"


def through_another(folder: Path) -> str:
    (folder / "first").symlink_to("deep/second")
    (folder / "deep/second").symlink_to(write(folder.parent / "outside.txt"))
    return "outside.txt"


def to_a_similar_name(folder: Path) -> str:
    (folder / "link").symlink_to(write(folder.parent / "inputs-2/x"))
    return "inputs-2"


def to_what_is_hidden(folder: Path) -> str:
    (folder / "deep/link").symlink_to(write(folder / ".env"))
    return "hidden, .env"


def to_below_what_is_hidden(folder: Path) -> str:
    write(folder / "deep/.git/config")
    (folder / "link").symlink_to("deep/.git/config")
    return "hidden, deep/.git/config"


def to_nothing(folder: Path) -> str:
    (folder / "link").symlink_to("gone.txt")
    return "gone.txt, where there is nothing"


def to_itself(folder: Path) -> str:
    (folder / "link").symlink_to("link")
    return "where there is nothing"


def to_the_folder(folder: Path) -> str:
    (folder / "deep/link").symlink_to("..")
    return "which it lies in"


def in_a_circle(folder: Path) -> str:
    (folder / "deep/to").symlink_to("../wide")
    (folder / "wide").mkdir()
    (folder / "wide/link").symlink_to("../deep")
    return "which it lies in"


def pipe(folder: Path) -> str:
    os.mkfifo(folder / "deep/link")
    return "no file"


def to_a_device(folder: Path) -> str:
    (folder / "link").symlink_to("/dev/zero")
    return "/dev/zero"


def named_in_other_bytes(folder: Path) -> str:
    Path(os.fsdecode(os.fsencode(folder) + b"/link\xff")).touch()
    return "not UTF-8"


REFUSED = [
    *(to_file, to_folder, relative, through_another, to_a_similar_name, to_what_is_hidden, to_below_what_is_hidden),
    *(to_nothing, to_itself, to_the_folder, in_a_circle, pipe, to_a_device, named_in_other_bytes),
]


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_a_folder_that_cannot_go_along_is_refused_by_the_name(make: Callable[[Path], str], folder: Path) -> None:
    why = make(folder)
    with pytest.raises(ConfigError, match="--working-dir: ") as refused:
        entries_of(folder)
    assert why in str(refused.value)
    assert any(name in str(refused.value) for name in ("link", "first", "second"))


def test_a_socket_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("listening")
        with pytest.raises(ConfigError, match="listening is a pipe, a socket"):
            entries_of(folder)


def test_what_cannot_be_read_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Asked of the system, which says yes to root whatever the mode is.
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("c.bed") and allowed(path, mode))
    with pytest.raises(ConfigError, match=r"deep/c\.bed cannot be read"):
        entries_of(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any folder")
def test_a_folder_that_cannot_be_read_is_refused(folder: Path) -> None:
    (folder / "deep/er").chmod(0)
    try:
        with pytest.raises(ConfigError, match="deep/er"):
            entries_of(folder)
    finally:
        (folder / "deep/er").chmod(0o755)


def test_links_within_the_folder_go_along_as_what_they_lead_to(folder: Path) -> None:
    (folder / "link.vcf").symlink_to("deep/er/b.vcf")
    (folder / "again").symlink_to(folder / "deep")
    os.link(folder / "a.vcf", folder / "deep/hard.vcf")
    found = shipped(folder)
    assert found["link.vcf"] == found["again/er/b.vcf"] == "deep/er/b.vcf"
    assert found["deep/hard.vcf"] == "a.vcf"


def test_a_working_directory_that_is_a_link_itself(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    (folder / "inside").symlink_to("a.vcf")
    assert shipped(tmp_path / "link")["inside"] == "a.vcf"


def test_the_run_directory_stays_where_it_is(folder: Path) -> None:
    write(folder / "runs/mine/plan/plan.json")
    write(folder / "runs/other/x")
    found = shipped(folder, output=folder / "runs/mine")
    assert "runs/other/x" in found
    assert not [name for name in found if name.startswith("runs/mine")]
    with pytest.raises(ConfigError, match="is the run directory"):
        entries_of(folder, str(folder))


def test_size_is_counted_before_anything_is_copied(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(*_: Any, **__: Any) -> None:
        raise AssertionError("something was copied")

    monkeypatch.setattr(package, "TemporaryDirectory", copy)
    for name, size in (("deep/largest.bam", 60), ("large.bam", 50), ("small.bam", 1)):
        with (folder / name).open("wb") as file:
            file.truncate(size * 2**20)
    with pytest.raises(ConfigError, match="111 MiB, more than the 100 MiB") as refused:
        packed(job(), folder, ship_code=False).__enter__()
    named = str(refused.value)
    assert named.index("deep/largest.bam 60.0 MiB") < named.index("large.bam 50.0 MiB") < named.index("small.bam")


def test_a_file_counts_as_often_as_it_goes_along(folder: Path) -> None:
    with (folder / "big").open("wb") as file:
        file.truncate(60 * 2**20)
    entries_of(folder)
    (folder / "again").symlink_to("big")
    with pytest.raises(ConfigError, match="120 MiB"):
        entries_of(folder)


def test_many_files_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "MAX_PACKAGE_FILES", 20)
    for number in range(30):
        write(folder / f"deep/{number}")
    with pytest.raises(ConfigError, match="more than 20 files"):
        entries_of(folder)


def test_links_that_multiply_are_refused(folder: Path) -> None:
    """Twenty folders, of which each holds two links to the next: a million paths."""
    for number in range(20):
        (folder / f"f{number}").mkdir()
        for name in "ab":
            (folder / f"f{number}" / name).symlink_to(f"../f{number + 1}")
    (folder / "f20").mkdir()
    with pytest.raises(ConfigError, match="files and folders"):
        entries_of(folder)


@pytest.mark.parametrize("path", ["a.vcf", "./a.vcf", "deep/er/b.vcf", "deep//er/b.vcf", "deep/*/*.vcf", "**/b.vcf"])
def test_paths_of_the_job_that_go_along(path: str, folder: Path) -> None:
    shipped(folder, variants=(path,))


@pytest.mark.parametrize("path", ["../outside.vcf", ".hidden/a.vcf", "deep/.env", "gone.vcf", "*.bcf", ".hid*/a.vcf"])
def test_paths_of_the_job_that_do_not(path: str, folder: Path) -> None:
    write(folder.parent / "outside.vcf")
    write(folder / ".hidden/a.vcf")
    write(folder / "deep/.env")
    with pytest.raises(ConfigError, match=r"variants: .* is not among what goes along"):
        shipped(folder, variants=(path,))
