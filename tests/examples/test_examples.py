"""Every example runs, on a tiny world; and scores from Python are those of the command line."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import enformer_ray as e
from enformer_ray.cli.main import main
from enformer_ray.demo.world import make_world
from tests.run_fixtures import ALLELES, write_genome, write_vcf, write_weights

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

Example = Callable[..., str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    write_weights(folder / "weights.safetensors", 1)
    write_vcf(folder / "variants.vcf", write_genome(folder / "genome.fa", 1))
    return folder


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Example:
    """Run an example in this process; returns what it printed."""

    def run(name: str, *arguments: str | Path) -> str:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def by_command(variants: Path, reference: Path, weights: Path, output: Path) -> str:
    """Content hash of what the command line makes of the same input."""
    options = {"--variants": variants, "--reference": reference, "--weights": weights, "--output": output}
    words = [str(word) for option in options.items() for word in option]
    with pytest.raises(SystemExit) as stop:
        main(["score", *words, "--threads", "1"])
    assert not stop.value.code
    return e.verify(output).content_hash


def inputs(folder: Path) -> tuple[Path, Path, Path]:
    return folder / "variants.vcf", folder / "genome.fa", folder / "weights.safetensors"


def test_scores_from_python_are_those_of_the_command(folder: Path, example: Example) -> None:
    printed = example("score_from_python.py", *inputs(folder), folder / "run")
    assert f"content hash {by_command(*inputs(folder), folder / 'by-command')}" in printed
    assert sum(int(line.split()[0]) for line in printed.splitlines() if " alleles " in line) == ALLELES


def test_query_and_reprocess(folder: Path, example: Example) -> None:
    lines = (folder / "variants.vcf").read_text().splitlines(keepends=True)
    (folder / "older.vcf").write_text("".join(lines[:10]))
    _, reference, weights = inputs(folder)
    example("score_from_python.py", folder / "older.vcf", reference, weights, folder / "older")
    printed = example("query.py", folder / "older")
    assert "sad, log2_ratio of 5 tracks" in printed
    assert "scored" in printed
    printed = example("reprocess.py", *inputs(folder), folder / "older", folder / "newer")
    assert "'reused': 8" in printed
    assert printed.count("done: ") >= 5
    assert e.status(folder / "newer").variants_reused == 8


def test_custom_reader(folder: Path, example: Example) -> None:
    rows = [line.split("\t") for line in (folder / "variants.vcf").read_text().splitlines() if line.startswith("chr1")]
    own = [f"{c}:g.{position}{ref}>{alt}\t{0.004 * (i + 1)}\n" for i, (c, position, _, ref, alt, *_) in enumerate(rows)]
    (folder / "own.txt").write_text("".join(own[:4]))
    printed = example("custom_reader.py", folder / "own.txt", *inputs(folder)[1:], folder / "own")
    assert "shape: (2, " in printed
    (folder / "own.txt").write_text("chr1:2001\n")
    with pytest.raises(SystemExit, match="line 1"):
        example("custom_reader.py", folder / "own.txt", *inputs(folder)[1:], folder / "other")


def test_saturation(folder: Path, example: Example) -> None:
    printed = example("saturation.py", "chr1:4001-4006", *inputs(folder)[1:], folder / "saturated")
    assert "6 bases" in printed
    assert sum(line.startswith("chr1 40") or line.startswith("1 40") for line in printed.splitlines()) == 5


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_from_python_and_by_command(tmp_path: Path, example: Example) -> None:
    world = make_world(tmp_path / "input")
    files = (world.variants, world.reference, world.weights)
    printed = example("score_from_python.py", *files, tmp_path / "run")
    assert f"content hash {by_command(*files, tmp_path / 'by-command')}" in printed
