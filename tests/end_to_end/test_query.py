"""The command `query` on a finished run: formats, files, a terminal, and what it says when something is wrong."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.dataset.study import Study, make_study
from tests.dataset.test_dataset import upload
from tests.end_to_end.conftest import PROGRAM, Command

SITES = [("1", 2000 + 50 * i, f"rs{i}", f"1e-{i}") for i in range(9)]
MORE = [("1", 2400, "again", "0.1"), ("2", 2000, 'a "b", c', "0.1")]
SQL = "SELECT rsid, track_0003 FROM inputs JOIN sad USING (variant) ORDER BY rsid LIMIT 2"
FOUND = [{"rsid": "rs0", "track_0003": 302000.0}, {"rsid": "rs1", "track_0003": 302050.0}]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def run(study: Study) -> Path:
    return study.run("run", SITES)


def test_formats_hold_the_same(command: Command, run: Path, tmp_path: Path) -> None:
    done = command("query", run, SQL)
    assert done == (0, "rsid,track_0003\nrs0,302000\nrs1,302050\n", "")
    assert command("query", run, SQL, "--format", "tsv").out == done.out.replace(",", "\t")
    assert json.loads(command("query", run, SQL, "--format", "json").out) == FOUND
    for name in ("a.csv", "a.tsv", "a.json", "a.parquet"):
        assert command("query", run, SQL, "--output", tmp_path / name) == (0, "", "")
    assert (tmp_path / "a.csv").read_text() == done.out
    assert json.loads((tmp_path / "a.json").read_text()) == FOUND
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == FOUND
    assert len(list(tmp_path.iterdir())) == 4


def test_sql_from_a_file_and_from_standard_input(
    command: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "q.sql").write_text(f"-- two of them\n{SQL};\n")
    expected = command("query", run, SQL)
    assert command("query", run, "--file", tmp_path / "q.sql") == expected
    monkeypatch.setattr(sys, "stdin", io.StringIO(SQL))
    assert command("query", run, "-") == expected


def test_awkward_values(command: Command, run: Path) -> None:
    sql = (
        "SELECT NULL AS n, '' AS e, 'a,\"b\"' AS q, 0.1::FLOAT AS f, 1e-300 AS d, [1, NULL] AS l, {'a': 'x'} AS s, "
        "true AS b, DATE '2020-01-02' AS t, 'nan'::FLOAT AS x, 12345678901234567890::HUGEINT AS h"
    )
    names, cells = csv.reader(io.StringIO(command("query", run, sql).out))
    assert dict(zip(names, cells, strict=True)) == {
        **{"n": "", "e": "", "q": 'a,"b"', "f": "0.1", "d": "1e-300", "l": "[1, null]", "s": '{"a": "x"}'},
        **{"b": "true", "t": "2020-01-02", "x": "nan", "h": "12345678901234567890"},
    }
    row = json.loads(command("query", run, sql, "--format", "json").out)[0]
    assert (row["n"], row["x"], row["l"], row["s"]) == (None, None, [1, None], {"a": "x"})
    assert command("query", run, "SELECT 1 AS a WHERE false", "--format", "json").out == "[]\n"
    assert command("query", run, "SELECT 1 AS a WHERE false").out == "a\n"


def test_several_runs_and_a_bucket(command: Command, run: Path, study: Study, bucket: str) -> None:
    also = study.run("more", MORE)
    done = command("query", run, "--also", upload(also, bucket).uri, "SELECT rsid, variant FROM inputs ORDER BY rsid")
    assert done.status == 0, done.error
    rows = list(csv.reader(io.StringIO(done.out)))[1:]
    assert [(name, int(number)) for name, number in rows] == [
        ('a "b", c', 10),
        ("again", 8),
        *((f"rs{i}", i) for i in range(9)),
    ]


def test_a_terminal_shows_some_rows_and_columns_and_says_so(run: Path) -> None:
    leader, follower = pty.openpty()
    sql = "SELECT rsid, '[red]' || rsid AS m, s.* FROM inputs JOIN sad s USING (variant) ORDER BY rsid"
    command = [str(PROGRAM), "query", str(run), sql, "--rows", "3"]
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm"}
    with subprocess.Popen(command, stdout=follower, env=environment) as process:
        os.close(follower)
        text = b""
        while True:
            try:
                text += os.read(leader, 65_536)
            except OSError:  # what Linux says when the other side is closed
                break
    os.close(leader)
    assert process.returncode == 0
    shown = text.decode()
    assert "[red]rs2" in shown
    assert "rs3" not in shown
    assert "the first 3 rows" in shown
    assert "the first 6 of 14 columns" in shown


def test_a_reader_that_has_seen_enough(run: Path) -> None:
    sql = "SELECT s.* FROM sad s, range(20000)"
    command = [str(PROGRAM), "query", str(run), sql]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"variant,")
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["SELECT nothing FROM sad"], "SHOW TABLES"),
        (["COPY sad TO 'x'"], "only read"),
        ([], "--file"),
        (["SELECT 1", "--file", "x.sql"], "--file"),
        (["--file", "absent.sql"], "absent.sql cannot be read"),
        (["SELECT 1", "--output", "x.xlsx"], ".parquet"),
    ],
)
def test_what_is_wrong_is_said_in_one_paragraph(
    command: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], match: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command("query", run, *arguments)
    assert (done.status, done.out) == (2, "")
    assert match in done.error
    assert done.error.startswith("error: ")
    assert done.error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_and_one_that_fails_leave_nothing(
    command: Command, run: Path, tmp_path: Path
) -> None:
    assert "cannot be written" in command("query", run, SQL, "--output", tmp_path / "no" / "a.csv").error
    (tmp_path / "a.csv").write_text("before")
    failing = "SELECT CASE WHEN position < 2400 THEN 1 ELSE error('stop') END FROM sad"
    assert "stop" in command("query", run, failing, "--output", tmp_path / "a.csv").error
    assert (tmp_path / "a.csv").read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_unfinished_run_says_what_to_do(command: Command, tmp_path: Path) -> None:
    done = command("query", tmp_path, "SELECT 1")
    assert done.status == 1
    assert "enformer-ray finalise" in done.error


@pytest.mark.parametrize("arguments", [["query", "RUN", "SHOW TABLES"], ["show", "RUN", "--top", "1"], ["--help"]])
def test_nothing_is_loaded_that_only_scoring_needs(run: Path, arguments: list[str]) -> None:
    words = [str(run) if word == "RUN" else word for word in arguments]
    code = (
        "import sys\nfrom enformer_ray.cli.main import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "print('loaded:', *sorted({'torch', 'ray', 'pysam'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == ["loaded:"]
    assert len(done.stdout.splitlines()) > 1
