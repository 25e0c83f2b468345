"""However busy the machine is, a command that refuses ends with its documented status: no signal, no hanging."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from enformer_ray.config import JobConfig
from enformer_ray.rundir.store import LocalStore, open_store
from tests.end_to_end.conftest import PROGRAM, run_program

Words = list[str | Path]

_AT_A_TIME = 2
_BUSY = 2


@pytest.fixture
def busy() -> Iterator[None]:
    """Other processes that take the machine's cores."""
    with ExitStack() as stack:
        for _ in range(_BUSY):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(process.kill)
        yield


@pytest.fixture(scope="module")
def refusing(job: JobConfig, finished_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Words]:
    """Command lines that are refused, by their first word."""
    damaged = tmp_path_factory.mktemp("damaged") / "run"
    shutil.copytree(finished_folder, damaged)
    file = next(damaged.glob("scores/sad/*.parquet"))
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    inputs: Words = ["--variants", job.variants[0], "--reference", job.reference, "--weights", job.weights]
    commands: list[Words] = [
        ["show", finished_folder, "--track", "liver"],
        ["query", finished_folder, "SELECT nothing FROM sad"],
        ["verify", damaged],
        ["plan", *inputs, "--output", finished_folder, "--placement", "centred"],
    ]
    return {str(words[0]): words for words in commands}


DOCUMENTED = {"show": 2, "query": 2, "verify": 1, "plan": 4}


def statuses(words: Words, times: int, folder: Path) -> Counter[int]:
    """Exit statuses of a refusing command; where it was not killed, it gave its reason."""

    def once(_: int) -> int:
        done = run_program(*words, cwd=folder, timeout=3600)
        assert done.status < 0 or done.error.startswith("error: "), done.error
        return done.status

    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        return Counter(pool.map(once, range(times)))


@pytest.mark.parametrize("name", DOCUMENTED)
def test_refusals_end_with_their_status(refusing: dict[str, Words], name: str, busy: None, tmp_path: Path) -> None:
    times = 3 if name == "plan" else 6
    assert statuses(refusing[name], times, tmp_path) == {DOCUMENTED[name]: times}


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", DOCUMENTED)
def test_200_refusals_end_with_their_status(refusing: dict[str, Words], name: str, busy: None, tmp_path: Path) -> None:
    assert statuses(refusing[name], 200, tmp_path) == {DOCUMENTED[name]: 200}


@pytest.fixture
def remote_run(bucket: str, finished_folder: Path) -> str:
    local, store = LocalStore(finished_folder), open_store(bucket)
    for path in local.list(""):
        store.replace(path, local.read_bytes(path))
    return bucket


LEFT = """
import sys
from enformer_ray import open_scores
{statement}
sys.exit(3)
"""


@pytest.mark.parametrize(
    "statement",
    [
        "for batch in open_scores(sys.argv[1]).to_batches('sad', rows=1): break",
        "batches = open_scores(sys.argv[1]).to_batches('sad', rows=1); next(batches)",
        "batches = open_scores(sys.argv[1]).to_batches('sad', rows=1); next(batches); 1 / 0",
    ],
    ids=["left", "kept", "failed"],
)
def test_a_scan_of_an_object_store_that_is_left_ends_with_the_program(remote_run: str, statement: str) -> None:
    """Arrow reads ahead, through Python; its threads were waited for, and waited for an interpreter that was gone."""
    for _ in range(4):
        done = subprocess.run(
            [sys.executable, "-c", LEFT.format(statement=statement), remote_run],
            timeout=120,
            capture_output=True,
            text=True,
            check=False,
        )
        failed = "1 / 0" in statement
        assert done.returncode == (1 if failed else 3), done.stderr
        assert ("ZeroDivisionError" in done.stderr) == failed


ENDLESS = [
    "SELECT sum(range) FROM range(1000000000000)",
    "SELECT range FROM range(1000000000000) WHERE range < 3000 OR range = -1",
]
"""Before the first batch, and between batches."""


@pytest.mark.parametrize("sql", ENDLESS, ids=["sum", "batches"])
def test_ctrl_c_ends_a_query(sql: str, finished_folder: Path) -> None:
    status, error = _interrupted([PROGRAM, "query", finished_folder, sql], lambda process: _uses_processor(process, 4))
    assert status == 130, error
    assert error == ""


def _uses_processor(process: subprocess.Popen[str], seconds: float) -> bool:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") > seconds


def _interrupted(words: Words, when: Callable[[subprocess.Popen[str]], bool]) -> tuple[int, str]:
    # Where the tests run in the background of a shell, Ctrl-C is ignored by what they start, too.
    words = ["env", "--default-signal=INT", *map(str, words)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            while process.poll() is None and not when(process):
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=120)
        finally:
            process.kill()
        return process.returncode, error


def test_a_reader_that_has_seen_enough_ends_a_query(finished_folder: Path) -> None:
    for _ in range(3):
        query = subprocess.Popen(
            [PROGRAM, "query", finished_folder, "SELECT s.* FROM sad s, range(10000000)"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with query:
            assert query.stdout is not None
            assert query.stderr is not None
            assert "variant_id" in query.stdout.readline()
            query.stdout.close()
            assert query.wait(120) == 0
            assert query.stderr.read() == ""
