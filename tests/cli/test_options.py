"""Options of commands that are made from models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import Field
from pydantic.dataclasses import dataclass
from typer.testing import CliRunner

from enformer_ray.cli.options import job_command, model_options
from enformer_ray.config import JobConfig, Option
from enformer_ray.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    columns: Annotated[dict[str, str] | None, Option()] = Field(default=None, description="pairs")
    files: Annotated[tuple[Path, ...], Option(name="file", unset="none")] = Field(default=(), description="files")


@dataclass(frozen=True)
class Outer:
    name: Annotated[str, Option()] = Field(description="a name")
    inner: Inner = Inner()
    kind: Annotated[Literal["one", "two"], Option("Kinds")] = Field(default="one", description="which")
    count: Annotated[int, Option()] = Field(default=3, ge=1, le=5, description="how many")
    share: Annotated[float, Option()] = Field(default=0.5, gt=0, description="how much")
    fast: Annotated[bool, Option()] = Field(default=False, description="hurry")
    exact: Annotated[bool, Option(negatable=True)] = Field(default=False, description="no rounding")
    parts: Annotated[tuple[Literal["a", "b"], ...], Option()] = Field(default=("a",), description="parts")
    hidden: int = 7


def run(command: Callable[..., None], *arguments: str) -> Any:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "NO_COLOR": "1"})


def outer(*arguments: str) -> Outer:
    seen: list[Outer] = []

    @model_options
    def command(options: Outer, loud: bool = False) -> None:
        assert not loud
        seen.append(options)

    done = run(command, *arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert seen, done.output
    return seen[0]


def test_what_is_not_given_has_the_default_of_the_model() -> None:
    assert outer("--name", "x") == Outer(name="x")


def test_every_kind_of_value() -> None:
    given = ["--columns", "a=b", "--columns", "c=d", "--file", "f", "--file", "g", "--kind", "two", "--count", "5"]
    found = outer("--name", "x", *given, "--share", "1", "--fast", "--exact", "--parts", "b,a")
    inner = Inner(columns={"a": "b", "c": "d"}, files=(Path("f"), Path("g")))
    assert found == Outer(name="x", inner=inner, kind="two", count=5, share=1, fast=True, exact=True, parts=("b", "a"))
    assert outer("--name", "x", "--no-exact").exact is False


@pytest.mark.parametrize("wrong", [["--kind", "three"], ["--count", "6"], ["--no-fast"], ["--hidden", "1"], []])
def test_what_is_wrong_is_refused_with_its_name(wrong: list[str]) -> None:
    @model_options
    def command(options: Outer) -> None:
        pytest.fail("called")

    done = run(command, *(["--name", "x"] if wrong else []), *wrong)
    assert done.exit_code == 2
    assert (wrong or ["--name"])[0] in done.output


def test_what_the_model_alone_checks_names_the_option_too() -> None:
    with pytest.raises(ConfigError, match=r"share: must be a number, above 0; it is 0.0 \(option --share\)"):
        outer("--name", "x", "--share", "0")
    with pytest.raises(ConfigError, match=r"parts: must be a list of a, b; it has 'c' \(option --parts\)"):
        outer("--name", "x", "--parts", "a,c")


def test_help_shows_what_the_model_states() -> None:
    @model_options
    def command(options: Outer) -> None:
        """Do it."""

    text = run(command, "--help").output
    for words in (
        "<one|two>",
        "[1<=x<=5]",
        "[default: 3]",
        "files; may be repeated (default: none)",
        "parts, separated by commas: a, b",
        "Kinds",
        "--no-exact",
    ):
        assert words in text, words


def test_job_options_leave_defaults_to_the_job_file(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("variants: a.vcf\nreference: a.fa\noutput: run\nscoring: {stride: 16, shifts: 4}\n")
    seen: list[JobConfig] = []

    def command(job: JobConfig) -> None:
        seen.append(job)

    assert run(job_command(command), "--config", str(file), "--shifts", "2").exit_code == 0
    assert (seen[0].scoring.stride, seen[0].scoring.shifts) == (16, 2)
    assert run(job_command(command), "--config", str(file), "--shifts", "-1,0,1").exit_code == 0
    assert seen[1].scoring.shifts == (-1, 0, 1)
    assert "--gtf" not in run(job_command(command), "--help").output
    with_genes = job_command(command, without=("previous",), also=("gtf", "gene_type"))
    assert (
        run(with_genes, "--config", str(file), "--gtf", "g.gtf", "--gene-type", "a", "--gene-type", "b").exit_code == 0
    )
    assert seen[2].genes is not None
    assert (seen[2].genes.gtf, seen[2].genes.gene_types) == (Path("g.gtf"), ("a", "b"))
    assert "--previous" not in run(with_genes, "--help").output
