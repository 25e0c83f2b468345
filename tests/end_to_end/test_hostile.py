"""Hostile names, credentials in URIs and limits of the system, on commands as a user calls them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from enformer_ray import api
from enformer_ray.config import JobConfig
from enformer_ray.errors import ConfigError
from tests.end_to_end.conftest import Command
from tests.small_world import World

ESCAPES = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n" + (
    "\x1b]0;pwn\x07\x1b[31mred[/]\t5\t[link=http://x]a\tA\tG\t.\t.\t.\n"
)


def acts(text: str) -> bool:
    return any(not c.isprintable() and c not in "\n\t" for c in text)


def options(world: World, output: Path) -> list[str | Path]:
    common: list[str | Path] = ["--reference", world.reference, "--weights", world.weights, "--output", output]
    return [*common, "--statistics", "sad", "--threads", "1"]


def test_names_of_a_vcf_are_shown_escaped(command: Command, world: World, tmp_path: Path) -> None:
    path = tmp_path / "terminal_escape.vcf"
    path.write_text(ESCAPES)
    done = command("plan", "--variants", path, *options(world, tmp_path / "run"))
    assert done.status == 1
    assert not acts(done.out + done.error)
    assert r"\x1b]0;pwn\x07\x1b[31mred[/]" in done.error


def test_so_is_the_case_that_was_reported(command: Command, world: World, tmp_path: Path, shared: Path) -> None:
    path = shared / "cases/terminal_escape.vcf"
    if not path.is_file():
        pytest.skip(f"no case {path}")
    done = command("plan", "--variants", path, *options(world, tmp_path / "run"))
    assert not acts(done.out + done.error)
    assert r"\x1b[31mred" in done.error


EVIL = "\x1b[31mevil\x07"


@pytest.mark.parametrize(
    ("option", "name", "content"),
    [
        ("--variants", "a.tsv", f"{EVIL}\t{EVIL}\n1\t2\n"),
        ("--variants", f"{EVIL}.vcf", "no vcf"),
        ("--chain", "a.chain", f"chain 1 {EVIL} 100 + 0 50 {EVIL} 100 + 0 49 1\n1\n"),
        ("--contig-aliases", "aliases.tsv", f"{EVIL}\t{EVIL}\n"),
        ("--tracks-table", "tracks.tsv", f"index\tidentifier\tdescription\n{EVIL}\t{EVIL}\t{EVIL}\n"),
        ("--config", "job.yaml", '"\\e[31mevil\\a": 1\n'),
        ("--config", "job.yaml", f"a: {EVIL}\n"),
        ("--weights", f"{EVIL}.safetensors", "none"),
        ("--reference", f"{EVIL}.fa", "none"),
        ("--tracks", "tracks.txt", EVIL),
        ("--format", EVIL, ""),
        ("--head", EVIL, ""),
        ("--columns", EVIL, ""),
    ],
)
def test_names_everywhere_else(
    option: str, name: str, content: str, command: Command, world: World, tmp_path: Path
) -> None:
    value: str | Path = name
    if content:
        value = tmp_path / name
        value.write_text(content)
    words = {"--variants": world.variants, "--reference": world.reference, "--weights": world.weights}
    words |= {"--output": tmp_path / "run", option: f"file:{value}" if option == "--tracks" else value}  # type: ignore[dict-item]
    done = command("plan", *(word for pair in words.items() for word in pair))
    assert done.status in (1, 2), done.out
    assert not acts(done.out + done.error)
    # The parser of YAML names such a character by its number, and a table by its line.
    assert "evil" in done.error or "#x001b" in done.error or option == "--tracks-table"


SECRETS = [
    "s3://AKIAABCDEFGHIJKLMNOP:gehe/im@bucket/run",
    "https://user:geheim@host/run",
    "s3://b/run?X-Amz-Signature=geheim",
]
COMMANDS: list[list[str]] = [
    *(["status", "{}"], ["show", "{}"], ["verify", "{}"], ["paths", "{}"], ["run", "{}"], ["finalise", "{}"]),
    *(["query", "{}", "SELECT 1"], ["report", "{}", "--output", "x.html"], ["associate", "{}", "--output", "x"]),
    *(["export", "tsv", "{}", "--output", "x.tsv.gz", "--statistic", "sad", "--tracks", "0"],),
    *(["plot", "manhattan", "{}", "--output", "x.png"], ["calibrate", "{}", "--output", "x.parquet"]),
    *(["compare-mpra", "{}", "x.tsv"], ["weights", "show", "{}"], ["fetch", "tracks", "--to", "x", "--head", "{}"]),
    ["score", "--variants", "{}", "--reference", "x.fa", "--output", "x"],
    ["plan", "--variants", "x.vcf", "--reference", "{}", "--output", "x"],
    ["score", "--variants", "x.vcf", "--reference", "x.fa", "--output", "{}"],
    ["reprocess", "--variants", "x.vcf", "--reference", "x.fa", "--output", "x", "--previous", "{}"],
    ["genes", "--variants", "x.vcf", "--reference", "x.fa", "--output", "x", "--gtf", "{}"],
    ["saturate", "--region", "chr1:1-9", "--reference", "x.fa", "--output", "{}"],
    ["releases", "--releases", "{}", "--runs", "{}", "--reference", "x.fa"],
    ["releases", "--releases", ".", "--runs", "{}", "--reference", "x.fa"],
    ["submit", "--variants", "/x.vcf", "--reference", "/x.fa", "--output", "{}", "--address", "http://127.0.0.1:1"],
    ["submit", "--variants", "/x.vcf", "--reference", "/x.fa", "--output", "/x", "--address", "{}"],
]


@pytest.mark.parametrize("secret", SECRETS, ids=["bucket", "user", "signed"])
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_command_shows_or_keeps_a_credential(
    words: list[str], secret: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command(*(word.format(secret) for word in words))
    assert done.status in (1, 2)
    for part in ("geheim", "gehe/im", "gehe", "ABCDEFGHIJKLMNOP"):
        assert part not in done.out + done.error
    assert "error" in done.error.lower()
    for path in tmp_path.rglob("*"):
        assert "gehe" not in str(path)
        assert not path.is_file() or b"gehe" not in path.read_bytes()


def test_the_address_of_a_cluster_is_kept_without_its_password(command: Command, world: World, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert command("plan", "--variants", world.variants, *options(world, run)).status == 0
    done = command("run", run, "--address", "https://user:geheim@127.0.0.1:1")
    assert done.status == 1
    assert "https://***@127.0.0.1:1" in done.error
    kept = [path.read_bytes() for path in run.rglob("*") if path.is_file()]
    assert any(b"https://***@127.0.0.1:1" in content for content in kept)
    assert not any(b"geheim" in content for content in kept)


def test_a_job_made_in_python_is_refused_as_well(tmp_path: Path) -> None:
    job = JobConfig(variants=("a.vcf",), reference=Path("a.fa"), output="s3://key:geheim@bucket/run")
    for function in (api.plan, api.score, api.preview):
        with pytest.raises(ConfigError, match="output: a user name or password"):
            function(job)  # type: ignore[operator]


def test_nor_is_that_of_a_server_shown(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:geheim@127.0.0.1:1")
    done = command("status", "s3://bucket/run")
    assert done.status == 1
    assert "http://***@127.0.0.1:1" in done.error
    assert "geheim" not in done.error


def limited(kilobytes: int, *words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = f'ulimit -c 0; ulimit -v {kilobytes}; exec "$@"'
    program = [sys.executable, "-m", "enformer_ray", *map(str, words)]
    return subprocess.run(
        ["bash", "-c", line, "bash", *program], capture_output=True, text=True, check=False, timeout=240, cwd=cwd
    )


def test_so_does_one_that_ray_would_abort_at(world: World, tmp_path: Path) -> None:
    done = limited(3_500_000, "score", "--variants", world.variants, *options(world, tmp_path / "run"), cwd=tmp_path)
    assert done.returncode == 1, done
    assert done.stderr.startswith("error: this process may use 3.3 GiB")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("kilobytes", [400_000, 1_500_000])
def test_a_limit_on_memory_ends_in_a_sentence(kilobytes: int, world: World, tmp_path: Path) -> None:
    for words in (
        ["plan", "--variants", world.variants, *options(world, tmp_path / "run")],
        ["query", tmp_path / "run", "SELECT 1"],
        ["export", "tsv", tmp_path / "run", "--output", "x"],
    ):
        done = limited(kilobytes, *words, cwd=tmp_path)
        assert done.returncode == 1, done
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert "ulimit -v" in done.stderr


ERRORS = ['RuntimeError("can\'t start new thread")', "MemoryError()", "ImportError('x.so: failed to map segment')"]


@pytest.mark.parametrize("error", ERRORS)
def test_so_does_every_other_resource(error: str, tmp_path: Path) -> None:
    code = (
        "from enformer_ray import api\nfrom enformer_ray.cli.main import main\n"
        f"def fail(_):\n    raise {error}\napi.status = fail\nmain(['status', 'x'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the program got no")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user that has no process yet")
def test_a_limit_on_threads_ends_in_a_sentence(tmp_path: Path) -> None:
    """Of a user who may have one process and no thread, from where the program's libraries are loaded."""
    code = (
        "import os, resource, enformer_ray.cli.main as program, enformer_ray.rundir.store, rich.segment\n"
        "from enformer_ray import api\n"
        "from enformer_ray.files import read_ahead\n"
        "os.setgroups([]); os.setgid(54321); os.setuid(54321)\n"
        "resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))\n"
        "api.status = lambda _: list(read_ahead(int, ['1'], 1))\n"
        "program.main(['status', 'x'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 1, done
    assert done.stderr.startswith("error: the program got no further thread"), done.stderr
    assert "Traceback" not in done.stderr


def test_a_configuration_with_a_billion_layers(command: Command, world: World, tmp_path: Path) -> None:
    values = {"dim": 96, "depth": 10**9, "heads": 8, "attn_dim_key": 64, "dim_divisible_by": 16, "num_downsamples": 7}
    (tmp_path / "weights").mkdir()
    config = values | {"target_length": 64, "output_heads": {"human": 12}}
    (tmp_path / "weights/config.json").write_text(json.dumps(config))
    (tmp_path / "weights/model.safetensors").write_bytes(world.weights.read_bytes())
    done = command("weights", "show", tmp_path / "weights")
    assert done.status == 1
    assert "layers is 1,000,000,000" in done.error
