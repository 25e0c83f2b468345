"""What a user gets wrong: one paragraph, a non-zero exit status, and nothing that a later run takes for data."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Command, Finished
from tests.small_world import World

RUN_FILES = ("plan/plan.json", "manifest.json", "run.json", "scores", "variants", "receipts")


def plan(command: Command, world: World, output: Path, **options: str | Path) -> Finished:
    """Plan the world's variants, with some options in place of the usual ones."""
    usual: dict[str, str | Path] = {
        "variants": world.variants,
        "reference": world.reference,
        "weights": world.weights,
        "output": output,
    }
    named = [word for name, value in {**usual, **options}.items() for word in (f"--{name.replace('_', '-')}", value)]
    return command("plan", *named)


def refused(finished: Finished, output: Path, status: int = 1) -> str:
    """The message of a refusal, checked to be one."""
    assert finished.status == status, finished.error
    message = finished.error.strip()
    assert message.startswith("error: ")
    assert "\n\n" not in message
    assert "Traceback" not in message
    assert not any((output / path).exists() for path in RUN_FILES)
    return message


def vcf(path: Path, *records: str, header: bool = True) -> Path:
    lines = ["##fileformat=VCFv4.3"] * header + ["#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"] * header
    path.write_text("".join(f"{line}\n" for line in [*lines, *records]))
    return path


def test_truncated_vcf(command: Command, world: World, tmp_path: Path) -> None:
    whole = gzip.compress(world.variants.read_bytes())
    for name, data in {"cut.vcf.gz": whole[: len(whole) // 2], "cut.vcf": world.variants.read_bytes()[:-20]}.items():
        (tmp_path / name).write_bytes(data)
        message = refused(plan(command, world, tmp_path / "run", variants=tmp_path / name), tmp_path / "run")
        assert name in message


def test_vcf_without_column_line(command: Command, world: World, tmp_path: Path) -> None:
    file = vcf(tmp_path / "bare.vcf", "chr1\t30000\t.\tA\tC\t.\t.\t.", header=False)
    assert "bare.vcf" in refused(plan(command, world, tmp_path / "run", variants=file), tmp_path / "run")


def test_published_vcf_without_column_line(command: Command, world: World, tmp_path: Path, shared: Path) -> None:
    file = shared / "data/variants/grch38_chr1_gtex_eqtl_baskerville.vcf"
    assert "#CHROM" in refused(plan(command, world, tmp_path / "run", variants=file), tmp_path / "run")


def test_empty_catalogue(command: Command, world: World, tmp_path: Path) -> None:
    file = vcf(tmp_path / "empty.vcf")
    assert "empty.vcf" in refused(plan(command, world, tmp_path / "run", variants=file), tmp_path / "run")


def test_other_assembly(command: Command, world: World, tmp_path: Path, shared: Path) -> None:
    finished = plan(
        command,
        world,
        tmp_path / "run",
        variants=shared / "data/variants/b37_gtex_variants_cimr.vcf.gz",
        reference=shared / "data/reference/grch38_demo_chr1_chr20_chr22.npad.fa.gz",
    )
    message = refused(finished, tmp_path / "run")
    assert "assembly" in message
    assert "--max-ref-mismatch" in message


def test_fasta_without_the_contig(command: Command, world: World, tmp_path: Path) -> None:
    fasta = tmp_path / "other.fa"
    fasta.write_text(">chr9\n" + "ACGT" * 100 + "\n")
    message = refused(plan(command, world, tmp_path / "run", reference=fasta), tmp_path / "run")
    assert "the FASTA has 9" in message
    assert "chr1, chr2" in message


class RunsOnLoad:
    """An object whose pickle makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_pickle_that_runs_code(command: Command, world: World, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "config.json").write_text(
        '{"model_type": "enformer", "dim": 96, "depth": 1, "heads": 8, "attn_dim_key": 64, "dim_divisible_by": 16,'
        ' "num_downsamples": 7, "output_heads": {"human": 4}, "target_length": 64}'
    )
    with (weights / "pytorch_model.bin").open("wb") as file:
        pickle.dump(RunsOnLoad(tmp_path / "ran"), file)
    message = refused(plan(command, world, tmp_path / "run", weights=weights), tmp_path / "run")
    assert "pytorch_model.bin" in message
    assert not (tmp_path / "ran").exists()


def test_output_that_cannot_be_written(command: Command, world: World, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = refused(plan(command, world, tmp_path / "file" / "run"), tmp_path / "file" / "run")
    assert str(tmp_path / "file" / "run") in message


def test_unknown_key_in_the_job_file(command: Command, world: World, tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(f"variants: {world.variants}\nreference: {world.reference}\noutput: {tmp_path / 'run'}\nshfits: 4\n")
    finished = command("plan", "--config", job)
    assert finished.status == 2
    assert "shfits" in finished.error
    assert "job.yaml" in finished.error


def test_weights_that_are_not_here(command: Command, world: World, tmp_path: Path) -> None:
    finished = plan(command, world, tmp_path / "run", weights=tmp_path / "nothing" / "here")
    assert "nothing/here" in refused(finished, tmp_path / "run")


def test_another_plan_is_refused_with_exit_4(command: Command, world: World, tmp_path: Path) -> None:
    run = tmp_path / "run"
    usual = {"threads": "1"}
    assert plan(command, world, run, **usual).status == 0
    assert plan(command, world, run, **usual).status == 0
    kept = (run / "plan/plan.json").read_bytes()

    bases = world.reference.read_text()
    changed = tmp_path / "changed.fa"
    changed.write_text(bases[:-100] + ("A" if bases[-100] != "A" else "C") + bases[-99:])
    others: dict[str, dict[str, str | Path]] = {
        "reference": {"reference": changed},
        "statistics": {"statistics": "sad"},
        "placement": {"placement": "centred"},
    }
    for part, options in others.items():
        finished = plan(command, world, run, **{**usual, **options})
        assert finished.status == 4
        assert part in finished.error
    assert (run / "plan/plan.json").read_bytes() == kept


def test_a_damaged_plan_is_named(command: Command, world: World, tmp_path: Path) -> None:
    run, usual = tmp_path / "run", {"threads": "1"}
    assert plan(command, world, run, **usual).status == 0
    file = run / "plan/variants/chr-1.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    for resumed in (command("run", run), plan(command, world, run, **usual)):
        assert resumed.status == 1
        message = " ".join(resumed.error.split())
        assert "plan/variants/chr-1.parquet has the sha256" in message
        assert "another --output" in message
    assert not (run / "receipts").exists()
    assert plan(command, world, tmp_path / "other", **usual).status == 0
    file.write_bytes(whole)
    assert plan(command, world, run, **usual).status == 0


def test_other_weights_are_refused_with_exit_4(command: Command, world: World, tmp_path: Path) -> None:
    from enformer_ray.model.checkpoint import save_weights
    from enformer_ray.model.hub import load_enformer

    run, weights = tmp_path / "run", tmp_path / "other.safetensors"
    model = load_enformer(world.weights)
    next(model.parameters())[0] += 1
    save_weights(model, weights)
    assert plan(command, world, run).status == 0
    finished = plan(command, world, run, weights=weights)
    assert finished.status == 4
    assert "weights" in finished.error


def test_a_run_that_is_not_finished_is_no_dataset(command: Command, world: World, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert plan(command, world, run).status == 0
    for name in ("show", "finalise"):
        finished = command(name, run)
        assert finished.status == 1
        assert str(run) in finished.error
    assert "not finished" in command("status", run).out


def test_dry_run_writes_nothing(command: Command, world: World, tmp_path: Path) -> None:
    inputs = ["--variants", world.variants, "--reference", world.reference, "--weights", world.weights]
    options = ["--dry-run", "--rate", "2", "--output", tmp_path / "run"]
    finished = command("score", *inputs, *options)
    assert finished.status == 0, finished.error
    for word in ("TFLOP", "variants", "windows", "passes", "hours at 2 TFLOP/s", "reference_mismatch"):
        assert word in finished.out
    assert not (tmp_path / "run").exists()


def test_offline_downloads_nothing(command: Command, tmp_path: Path) -> None:
    finished = command("fetch", "tracks", "--to", tmp_path / "tracks.txt", "--offline")
    assert finished.status == 1
    assert "--offline" in finished.error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_help_needs_no_network_and_no_files(command: Command, word: str) -> None:
    assert command(word).status == 0
