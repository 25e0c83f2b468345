"""The demo, and everything that reads what it leaves."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from scipy import stats

from enformer_ray.analysis.association.associate import associate
from enformer_ray.analysis.association.statistics import CONDITIONAL, MARGINAL
from enformer_ray.analysis.options import AssociationOptions, SumstatsOptions
from enformer_ray.demo import rule
from enformer_ray.demo.rule import compare
from enformer_ray.demo.world import BLOCK_SIZE, CAUSAL, MadeVariant, write_study
from tests.end_to_end.conftest import Finished, run_program

MADE = 1177
"""Variants of the demo's world; each is in the VCF and in the study, one is twice in the VCF, and three are bad."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def demo(folder: Path) -> Finished:
    return run_program("demo", cwd=folder)


@pytest.fixture(scope="module")
def run(demo: Finished, folder: Path) -> Path:
    assert demo.status == 0, demo.error
    return folder / "demo-run" / "run"


def test_says_what_it_did_and_what_the_numbers_are_worth(demo: Finished, run: Path) -> None:
    assert "This is a toy" in demo.out
    assert f"Planned {MADE:,} variants" in demo.out
    assert "demo-run/run/scores" in demo.out
    assert "Audit: 12 variants scored again by plain float32 passes" in demo.out
    assert "--weights EleutherAI/enformer-official-rough" in demo.out
    assert "Traceback" not in demo.error
    assert (run / "manifest.json").is_file()
    assert f"Wrote {run / 'report' / 'report.html'}".replace(f"{run.parents[1]}/", "") in demo.out
    assert "</html>" in (run / "report" / "report.html").read_text()


def test_scores_agree_with_the_truth(run: Path) -> None:
    agreement = compare(str(run), run.parent / "input" / "truth.parquet")
    for track in list(agreement.tracks)[: len(rule.BINDING)]:
        assert track.affected >= 100
        assert track.spearman >= 0.8
    for right, of in agreement.signs.values():
        assert of >= 100
        assert right / of >= 0.95
    right, of = agreement.distal
    assert of >= 50
    assert right / of >= 0.9


def test_the_study_leads_to_the_tracks_that_it_acts_through(run: Path) -> None:
    found = pq.read_table(run.parent / "association" / "tracks.parquet").sort_by("log_odds_p")
    first = found.slice(0, len(CAUSAL)).to_pylist()
    assert {track["description"] for track in first} == set(CAUSAL)
    assert all(track["log_odds_p"] < 1e-6 and track["log_odds"] > 0 for track in first)


def test_conditional_results_drop_tracks_that_only_go_along(run: Path) -> None:
    tracks = pq.read_table(run.parent / "association" / "tracks.parquet").to_pylist()
    causal = [track for track in tracks if track["description"] in CAUSAL]
    others = [track for track in tracks if track["description"] not in CAUSAL]
    # DNase signal follows binding, so that its marginal correlation is as certain as that of the causal tracks.
    for name in ("abs_spearman", "marginal_signed_spearman"):
        assert min(track[f"{name}_p"] for track in others if track[name] > 0) < 1e-6
    for name in ("conditional_abs_spearman", "conditional_log_odds"):
        assert all(track[name] > 0 and track[f"{name}_p"] < 1e-5 for track in causal)
        assert all(track[name] < 0 for track in others)
    document = json.loads((run.parent / "association" / "association.json").read_text())
    assert document["blocks"]["count"] > 100
    assert {method["by"] for method in document["p_values"].values()} == {"jackknife"}


def test_every_reader_opens_the_dataset(run: Path) -> None:
    for statistic in ("sad", "log2_ratio", "centre_log2_ratio"):
        by_pandas = pd.read_parquet(run / "scores" / statistic)
        by_polars = pl.scan_parquet(run / "scores" / statistic / "*.parquet").collect()
        (by_duckdb,) = duckdb.sql(f"SELECT count(*) FROM '{run}/scores/{statistic}/*.parquet'").fetchall()
        assert len(by_pandas) == len(by_polars) == by_duckdb[0] == MADE
        assert list(by_pandas.columns)[:6] == [
            "variant_id",
            "chromosome",
            "position",
            "reference_allele",
            "alternate_allele",
            "indel_convention",
        ]
        assert by_pandas.chromosome.tolist() == by_polars["chromosome"].to_list()
        assert by_pandas.filter(like="track_").to_numpy().std() > 0


def test_every_input_allele_is_accounted_for(run: Path) -> None:
    rows = duckdb.sql(f"SELECT status, reason, count(*) FROM '{run}/variants/*.parquet' GROUP BY ALL").fetchall()
    assert sum(count for _, _, count in rows) == 2 * MADE + 4
    assert {(status, reason) for status, reason, _ in rows} == {
        ("scored", None),
        ("duplicate", None),
        ("rejected", "reference_mismatch"),
        ("rejected", "symbolic_allele"),
        ("rejected", "unknown_contig"),
    }
    account = json.loads((run / "run.json").read_text())["account"]
    assert sum(line["alleles"] for line in account) == 2 * MADE + 4


def test_show_and_status_read_the_run(run: Path, folder: Path) -> None:
    shown = run_program("show", run, "--statistic", "log2_ratio", "--top", "3", cwd=folder)
    assert shown.status == 0, shown.error
    assert len(re.findall(r"^[12]:\d+ ", shown.out, re.MULTILINE)) == 3
    by_track = run_program("show", run, "--track", "CAGE:K562", "--top", "2", cwd=folder)
    assert by_track.out.count("track_0007") == 2
    status = run_program("status", run, cwd=folder)
    assert "20 of 20" in status.out
    assert "finished" in status.out


def calibrate(run: Path, folder: Path, variants: int) -> Path:
    """A copy of the run, calibrated by so many matched SNVs."""
    calibrated = folder / f"calibrated-{variants}" / "run"
    shutil.copytree(run, calibrated)
    done = run_program("calibrate", calibrated, "--background", "auto", "--n", variants, cwd=folder, timeout=900)
    assert done.status == 0, done.error
    assert f"is calibrated by {variants:,} variants" in done.out
    return calibrated


def test_a_calibrated_run_is_ranked_by_quantile(run: Path, folder: Path) -> None:
    calibrated = calibrate(run, folder, 120)
    shown = run_program("show", calibrated, "--top", "3", cwd=folder)
    assert re.search(r"sad +quantile +z$", shown.out, re.MULTILINE)
    assert len(re.findall(r"0\.99\d+ +-?[\d.]+$", shown.out, re.MULTILINE)) == 3
    asked = run_program("query", calibrated, "SELECT max(track_0000) FROM sad_quantile", cwd=folder)
    assert float(asked.out.split()[1]) == pytest.approx(120 / 121)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_quantiles_of_fresh_matched_snvs_are_uniform(run: Path, folder: Path) -> None:
    """Prints the Kolmogorov-Smirnov p-value of |quantile| of each statistic and track (pytest -s)."""
    calibrated, world, fresh = calibrate(run, folder, 2000), run.parent / "input", folder / "fresh"
    given = ("--reference", world / "genome.fa", "--like", world / "variants.vcf", "--n", "400", "--seed", "99")
    drawn = run_program("calibrate", "background", *given, "--output", folder / "fresh.vcf", cwd=folder)
    assert drawn.status == 0, drawn.error
    options = ("--weights", world / "model.safetensors", "--tracks-table", world / "tracks.tsv", "--reverse-complement")
    options = (*options, "--statistics", "sad,log2_ratio,centre", "--threads", "1", "--workers", "2")
    inputs = ("--variants", folder / "fresh.vcf", "--reference", world / "genome.fa", "--output", fresh)
    scored = run_program("score", *inputs, *options, cwd=folder, timeout=900)
    assert scored.status == 0, scored.error
    table = calibrated / "calibration" / "table.parquet"
    applied = run_program("calibrate", "apply", fresh, "--table", table, "--output", folder / "quantiles", cwd=folder)
    assert applied.status == 0, applied.error
    ks = {}
    for statistic in ("sad", "log2_ratio", "centre"):
        quantiles = pd.read_parquet(folder / "quantiles" / statistic).filter(like="track_").abs()
        assert quantiles.shape == (400, len(rule.TRACKS))
        ks |= {(statistic, name): float(stats.kstest(quantiles[name], "uniform").pvalue) for name in quantiles}
    print(ks)
    assert min(ks.values()) > 0.01, ks


def test_the_same_command_again_scores_nothing(run: Path, folder: Path) -> None:
    before = written(run)
    again = run_program("demo", cwd=folder)
    assert again.status == 0, again.error
    assert "Nothing was left to score" in again.out
    assert written(run) == before


def written(run: Path) -> dict[Path, int]:
    """When each file of a run was written; leases and the report are made anew."""
    kept = (path for path in run.rglob("*") if path.is_file() and path.parent.name not in {"lease", "report"})
    return {path: path.stat().st_mtime_ns for path in kept}


def test_another_effect_allele_changes_no_association(run: Path, tmp_path: Path) -> None:
    study = run.parent / "input" / "trait.glm.linear"
    header, *records = [line.split("\t") for line in study.read_text().splitlines()]
    place = {name: i for i, name in enumerate(header)}
    for record in records[::3]:
        record[place["A1"]] = record[place["ALT"]]
        record[place["A1_FREQ"]] = f"{1 - float(record[place['A1_FREQ']]):.4f}"
        for name in ("BETA", "T_STAT"):
            record[place[name]] = str(-float(record[place[name]]))
    snvs = [r for r in records if len(r[place["REF"]]) == len(r[place["ALT"]])]
    tables = []
    for name, kept in (("turned", snvs), ("as it was", [r for r in _records(study) if r[2] in {s[2] for s in snvs}])):
        path = tmp_path / f"{name}.glm.linear"
        path.write_text("".join("\t".join(r) + "\n" for r in (header, *kept)))
        found = associate(str(run), AssociationOptions(sumstats=SumstatsOptions(files=(str(path),))))
        tables.append(found.tracks)
    assert tables[0].equals(tables[1])


@pytest.mark.slow
def test_p_values_of_traits_without_causes_are_uniform(run: Path, tmp_path: Path) -> None:
    """Prints the Kolmogorov-Smirnov p-value of each statistic (pytest -s)."""
    variants = _made_variants(run.parent / "input" / "variants.vcf")
    p_values: dict[str, list[float]] = {}
    for number in range(200):
        random = np.random.default_rng(number)
        path = tmp_path / "null.glm.linear"
        write_study(random, {c: (v, np.zeros((len(v), len(rule.TRACKS)))) for c, v in variants.items()}, path)
        options = AssociationOptions(
            sumstats=SumstatsOptions(files=(str(path),)),
            cases="p-value",
            p_threshold=0.05,
            clump_distance=1,
            block_size=BLOCK_SIZE,
        )
        row = associate(str(run), options).tracks.to_pylist()[number % len(rule.TRACKS)]
        for name in (*MARGINAL, *CONDITIONAL):
            p_values.setdefault(name, []).append(row[f"{name}_p"])
    ks = {name: float(stats.kstest(values, "uniform").pvalue) for name, values in p_values.items()}
    print(ks)
    assert min(ks.values()) > 0.01, ks


def _records(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text().splitlines()[1:]]


def _made_variants(path: Path) -> dict[str, list[MadeVariant]]:
    made: dict[str, list[MadeVariant]] = {}
    for line in path.read_text().splitlines():
        if line.startswith("chr") and "\tdemo" in line:
            chromosome, position, _, ref, alt, *_ = line.split("\t")
            variant = MadeVariant(int(position) - 1, ref, alt, "neutral")
            if variant not in made.setdefault(chromosome, []):
                made[chromosome].append(variant)
    return made
