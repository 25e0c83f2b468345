"""The command on a finished run whose causal variants act through two known tracks."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from scipy import stats

from enformer_ray.analysis.association.associate import Association, associate
from enformer_ray.analysis.options import AssociationOptions, SumstatsOptions
from enformer_ray.catalogue.variant import Variant
from enformer_ray.cli.main import main
from enformer_ray.errors import (
    AnalysisError,
    ConfigError,
    DatasetCorruptError,
    EnformerRayError,
    RunIncompleteError,
)
from tests.analysis.association.world import (
    CAUSAL_TRACKS,
    TRACKS,
    Simulated,
    make_genome,
    make_run,
    make_scores,
    simulate,
    write_sumstats,
    write_weights,
)
from tests.dataset.generated import finished_run
from tests.dataset.test_dataset import upload
from tests.run_fixtures import edit_plan

LOCAL = {"block_size": 2_000, "clump_distance": 1_000}
"""Of a world whose contigs are shorter than a default block, and whose LD reaches a few hundred bases."""


class World(NamedTuple):
    folder: Path
    run: Path
    variants: list[Variant]
    scores: NDArray[np.float32]
    study: Simulated
    inputs: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("association")
    variants = make_genome(folder)
    scores = make_scores(len(variants))
    study = simulate(scores)
    inputs = write_sumstats(folder / "study.tsv", variants, study)
    return World(folder, make_run(folder, variants, scores, inputs), variants, scores, study, inputs)


@pytest.fixture(scope="module")
def found(world: World) -> Association:
    return associate(str(world.run), AssociationOptions(**LOCAL))


def of_files(world: World, *files: Path, **options: object) -> Association:
    sumstats = SumstatsOptions(files=tuple(map(str, files)))
    return associate(str(world.run), AssociationOptions(sumstats=sumstats, **(LOCAL | options)))  # type: ignore[arg-type]


def test_causal_tracks_are_ranked_first(found: Association) -> None:
    best = found.tracks.sort_by("log_odds_p")
    assert set(best.column("index").to_pylist()[:2]) == set(CAUSAL_TRACKS)
    assert max(best.column("log_odds_p").to_pylist()[:2]) < 1e-6
    assert max(best.column("log_odds_q").to_pylist()[:2]) < 1e-5
    assert min(best.column("log_odds").to_pylist()[:2]) > 0
    # Their neighbours share a part of their scores, as tracks of one cell type do; the others have nothing to show.
    null = [row for row in best.to_pylist() if row["index"] // 4 not in {t // 4 for t in CAUSAL_TRACKS}]
    assert len(null) == TRACKS - 8
    assert min(row["log_odds_q"] for row in null) > 0.01


@pytest.mark.parametrize("name", ["abs_spearman", "marginal_signed_spearman", "abs_pearson", "marginal_signed_pearson"])
def test_correlations_are_those_of_scipy_and_rank_causal_tracks_first(
    world: World, found: Association, name: str
) -> None:
    scores, z = world.scores.astype(np.float64), world.study.z
    x, y = (np.abs(scores), z**2) if name.startswith("abs") else (scores, z)
    if name.endswith("pearson"):
        bound = np.quantile(np.abs(scores), 0.999, axis=0, method="inverted_cdf")
        x = np.clip(x, -bound, bound)
    statistic = stats.pearsonr if name.endswith("pearson") else stats.spearmanr
    expected = [statistic(x[:, track], y).statistic for track in range(TRACKS)]
    np.testing.assert_allclose(found.tracks.column(name).to_numpy(), expected, atol=1e-6)
    best = np.argsort(found.tracks.column(f"{name}_p").to_numpy()).tolist()
    assert best[0] in CAUSAL_TRACKS
    if name != "abs_spearman":  # ranks care little for the few large effects that matter here
        assert set(best[:2]) == set(CAUSAL_TRACKS)


def test_assays_of_causal_tracks_come_first(found: Association) -> None:
    rows = {row["assay"]: row for row in found.assays.to_pylist()}
    assert {name: row["tracks"] for name, row in rows.items()} == {
        **dict.fromkeys(("ATAC", "CAGE", "CHIP", "DNASE"), 5),
        "all": TRACKS,
    }
    assert max(rows[name]["log_odds_p"] for name in ("CAGE", "DNASE")) < rows["CHIP"]["log_odds_p"]  # tracks 7 and 12
    assert rows["all"]["log_odds_p"] < 1e-4


def test_counts_add_up(world: World, found: Association) -> None:
    summary = found.summary
    assert summary["records"] == {"used": len(world.variants)}
    assert summary["variants"]["with_chi_square"] == summary["variants"]["with_direction"] == len(world.variants)
    members = sum(map(bool, world.study.credible_set))
    assert summary["variants"]["in_credible_sets"] == members
    enrichment = summary["enrichment"]
    assert enrichment["cases"] + enrichment.get("cases_without_matching_control", 0) == members
    assert enrichment["controls"] > 3 * enrichment["cases"]
    assert enrichment["covariates"] == ["minor_allele_frequency", "indel"]


def same(one: Association, other: Association) -> None:
    for a, b in ((one.tracks, other.tracks), (one.assays, other.assays), (one.credible_sets, other.credible_sets)):
        assert a.schema == b.schema
        for name in a.column_names:
            if pa.types.is_floating(a.schema.field(name).type):
                x, y = (t.column(name).to_numpy(zero_copy_only=False).astype(float) for t in (a, b))
                np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12, err_msg=name)
            else:
                assert a.column(name).equals(b.column(name)), name


@pytest.mark.parametrize("which", ["all", "some SNVs"])
def test_turning_effect_alleles_round_changes_nothing(
    world: World, found: Association, tmp_path: Path, which: str
) -> None:
    snv = np.array([not variant.length_change for variant in world.variants])
    flipped = np.ones(len(snv), dtype=bool) if which == "all" else snv & (np.arange(len(snv)) % 3 == 0)
    turned = write_sumstats(tmp_path / "turned.tsv", world.variants, world.study, flipped)
    assert turned.read_text() != world.inputs.read_text()
    if which == "all":
        same(of_files(world, turned), found)
    else:  # indels of a file that goes both ways cannot be told apart, and are left out
        there = write_sumstats(
            tmp_path / "straight.tsv",
            [v for v, s in zip(world.variants, snv, strict=True) if s],
            _subset(world.study, snv),
        )
        turned = write_sumstats(
            tmp_path / "turned.tsv",
            [v for v, s in zip(world.variants, snv, strict=True) if s],
            _subset(world.study, snv),
            flipped[snv],
        )
        same(of_files(world, turned), of_files(world, there))


def _subset(study: Simulated, rows: NDArray[np.bool_]) -> Simulated:
    sets = [name for name, kept in zip(study.credible_set, rows, strict=True) if kept]
    return Simulated(study.z[rows], study.frequency[rows], study.pip[rows], sets, study.causal)


def test_files_give_what_the_runs_own_columns_give(world: World, found: Association) -> None:
    same(of_files(world, world.inputs), found)


def test_a_run_in_a_bucket_gives_the_same(world: World, found: Association, bucket: str) -> None:
    same(associate(upload(world.run, bucket).uri, AssociationOptions(**LOCAL)), found)


def test_a_gwas_and_its_fine_mapping_may_be_two_files(world: World, found: Association, tmp_path: Path) -> None:
    gwas = write_sumstats(tmp_path / "gwas.tsv", world.variants, world.study, fine_mapping=False)
    members = [i for i, name in enumerate(world.study.credible_set) if name]
    lines = ["chromosome\tposition\teffect_allele\tother_allele\tpip\tcredible_set\n"]
    for i in members:
        v = world.variants[i]
        alleles = f"{v.alternate_allele}\t{v.reference_allele}"
        lines.append(
            f"{v.chromosome}\t{v.position}\t{alleles}\t{world.study.pip[i]:.6g}\t{world.study.credible_set[i]}\n"
        )
    (tmp_path / "sets.tsv").write_text("".join(lines))
    same(of_files(world, gwas, tmp_path / "sets.tsv"), found)


def test_records_that_are_of_no_use_are_counted(world: World, tmp_path: Path) -> None:
    lines = world.inputs.read_text().splitlines()
    rows = [line.split("\t") for line in lines[1:101]]
    rows[3][4] = rows[3][7] = "#NA"  # neither beta nor p
    rows[3][10] = rows[3][11] = "#NA"
    rows += [["2", "5", "A", "C", *rows[0][4:]], ["9", "5", "A", "C", *rows[0][4:]], rows[7]]
    (tmp_path / "some.tsv").write_text("\n".join([lines[0], *("\t".join(row) for row in rows)]) + "\n")
    with pytest.raises(AnalysisError, match="too few"):
        few_rows(world, tmp_path, lines, 5)
    records = of_files(world, tmp_path / "some.tsv").summary["records"]
    assert records["no_statistics"] == 1
    assert records["unknown_contig"] == 1
    assert records["another_record_used"] + records["used"] == 100
    assert records.get("not_in_run", 0) + records.get("reference_mismatch", 0) == 1
    assert sum(records.values()) == 103


def few_rows(world: World, folder: Path, lines: list[str], rows: int) -> Association:
    few = [line.rsplit("\t", 2)[0] for line in lines[: rows + 1]]  # without fine-mapping
    (folder / "few.tsv").write_text("\n".join(few) + "\n")
    return of_files(world, folder / "few.tsv")


def test_low_p_values_as_cases(world: World) -> None:
    found = of_files(world, world.inputs, cases="p-value", p_threshold=1e-6)
    low = stats.norm.sf(np.abs(world.study.z)) * 2 <= 1e-6
    enrichment = found.summary["enrichment"]
    assert enrichment["cases"] + enrichment.get("cases_without_matching_control", 0) == low.sum()
    best = found.tracks.sort_by("log_odds_p").column("index").to_pylist()[:2]
    assert set(best) == set(CAUSAL_TRACKS)


def test_genes_and_ld_scores_are_covariates(world: World, tmp_path: Path) -> None:
    with gzip.open(tmp_path / "genes.gtf.gz", "wt") as file:
        for chromosome in "12":
            for start in range(5_000, 110_000, 20_000):
                file.write(f'chr{chromosome}\tx\tgene\t{start}\t{start + 900}\t.\t-\t.\tgene_id "g{start}";\n')
    for chromosome in "12":
        with gzip.open(tmp_path / f"ld.{chromosome}.l2.ldscore.gz", "wt") as file:
            file.write("CHR\tSNP\tBP\tL2\n")
            for i, v in enumerate(world.variants):
                if v.chromosome == chromosome and i % 10:
                    file.write(f"{chromosome}\trs{i}\t{v.position}\t{1 + i % 17}\n")
    found = of_files(world, world.inputs, gtf=tmp_path / "genes.gtf.gz", ld_scores=f"{tmp_path}/ld.@.l2.ldscore.gz")
    enrichment = found.summary["enrichment"]
    assert enrichment["covariates"] == ["minor_allele_frequency", "ld_score", "tss_distance", "indel"]
    without = enrichment["cases_without_covariate"] + enrichment["controls_without_covariate"]
    assert without == len(world.variants) // 10
    assert set(found.tracks.sort_by("log_odds_p").column("index").to_pylist()[:2]) == set(CAUSAL_TRACKS)


def test_scores_raise_causal_variants_in_their_sets(world: World, found: Association) -> None:
    causal = {world.variants[i].variant_id for i in world.study.causal}
    sets = found.credible_sets
    assert sets.column("track").to_pylist()[0] in {f"track_{t:04d}" for t in CAUSAL_TRACKS}
    rows = [row for row in sets.to_pylist() if row["track"] == sets.column("track")[0].as_py()]
    assert len(rows) == sum(map(bool, world.study.credible_set))
    mine = [row for row in rows if row["variant_id"] in causal and row["variants"] > 1]
    assert len(mine) > 10
    assert np.mean([row["posterior"] for row in mine]) > np.mean([row["pip"] for row in mine])
    sums: dict[str, list[float]] = {}
    for row in rows:
        total = sums.setdefault(row["credible_set"], [0.0, 0.0])
        total[0] += row["pip"]
        total[1] += row["posterior"]
    np.testing.assert_allclose(*np.array(list(sums.values())).T, rtol=1e-9)


def test_the_command_writes_prints_and_does_not_overwrite(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["associate", str(world.run), "--output", str(tmp_path / "out"), "--top", "3"]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert f"{len(world.variants):,} used" in printed
    assert "cell7" in printed
    assert "locus0" in printed
    assert json.loads((tmp_path / "out" / "association.json").read_text())["statistic"] == "sad"
    assert pq.read_table(tmp_path / "out" / "tracks.parquet").num_rows == TRACKS
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 1
    assert "--force" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--force"])
    assert ended.value.code == 0
    (tmp_path / "out" / "thesis.doc").write_text("x")
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--force"])
    assert ended.value.code == 1
    assert "thesis.doc" in capsys.readouterr().err
    assert (tmp_path / "out" / "association.json").exists()


def test_what_cannot_be_used_is_refused_in_words(world: World, tmp_path: Path) -> None:
    with pytest.raises(RunIncompleteError):
        associate(str(tmp_path / "none"), AssociationOptions())
    with pytest.raises(ConfigError, match="it has sad"):
        associate(str(world.run), AssociationOptions(statistic="sax"))
    with pytest.raises(AnalysisError, match="--gtf"):
        associate(str(world.run), AssociationOptions(gtf=tmp_path / "none.gtf"))
    (tmp_path / "other.gtf").write_text("chr9\tx\tgene\t5\t9\t.\t+\t.\tg\n")
    with pytest.raises(AnalysisError, match="no gene on 1, 2"):
        associate(str(world.run), AssociationOptions(gtf=tmp_path / "other.gtf"))
    (tmp_path / "ld.txt").write_text("CHR SNP BP L2\n9 rs1 5 1.0\n")
    with pytest.raises(AnalysisError, match="no variant of the study"):
        associate(str(world.run), AssociationOptions(ld_scores=str(tmp_path / "ld.txt")))
    (tmp_path / "ld.txt").write_text("CHR SNP BP SCORE\n")
    with pytest.raises(AnalysisError, match="no column L2"):
        associate(str(world.run), AssociationOptions(ld_scores=str(tmp_path / "ld.txt")))
    vcf = [
        f"chr{v.chromosome}\t{v.position}\t.\t{v.reference_allele}\t{v.alternate_allele}\t.\t.\t."
        for v in world.variants
    ]
    (tmp_path / "plain.vcf").write_text(
        "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n" + "\n".join(vcf) + "\n"
    )
    with pytest.raises(AnalysisError, match="no record of a scored variant"):
        of_files(world, tmp_path / "plain.vcf")


def test_real_summary_statistics_lifted_to_the_runs_assembly(shared: Path, tmp_path: Path) -> None:
    """999 variants of GRCh37 on GRCh38: the run's own columns and the same file again give the same."""
    epacts, chain = shared / "data/sumstats/b37_EAR-LENGTH.epacts.gz", shared / "data/chains/hg19ToHg38.over.chain.gz"
    reference = shared / "data/reference/grch38_demo_chr1_chr20_chr22.npad.fa.gz"
    gtf = shared / "data/genes/grch38_chr1_gencode_v29.head.gtf.gz"

    def scores(variants: Sequence[Variant]) -> NDArray[np.float32]:
        return np.array([[np.random.default_rng(v.position).laplace(size=TRACKS) for v in variants]], np.float32)

    weights = write_weights(tmp_path / "weights.safetensors")
    run = finished_run(tmp_path, [epacts], reference, weights, scores, chain=chain)
    options = AssociationOptions(gtf=gtf, cases="p-value", p_threshold=0.05, control_p=0.2)
    own = associate(str(run), options)
    assert own.summary["records"] == {"used": 868, "no_statistics": 131}  # NA: too rare to be tested
    assert own.summary["enrichment"]["covariates"] == ["tss_distance"]
    assert own.summary["enrichment"]["computed"]
    assert own.assays.column("assay").to_pylist() == ["other"]
    again = associate(str(run), replace(options, sumstats=SumstatsOptions(files=(str(epacts),), chain=chain)))
    same(own, again)
    with pytest.raises(EnformerRayError, match="assembly"):
        associate(str(run), replace(options, sumstats=SumstatsOptions(files=(str(epacts),))))


def test_scores_in_another_order_are_refused(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.run, tmp_path / "run")
    edit_plan(tmp_path / "run", lambda document: document.pop("files"))  # as of an earlier version, without digests
    path = tmp_path / "run" / "plan" / "variants" / "chr-1.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(3, "position", pc.add(table.column("position"), 1).cast(pa.int32())), path)
    with pytest.raises(DatasetCorruptError, match="not the variants of the plan"):
        associate(str(tmp_path / "run"), AssociationOptions())
