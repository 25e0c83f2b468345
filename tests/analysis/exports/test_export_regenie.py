from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from enformer_ray.analysis.exports.gene_sets import GeneSet, GeneSets, read_bed, read_gtf
from enformer_ray.analysis.exports.regenie import export_regenie
from enformer_ray.analysis.exports.source import ExportSource
from enformer_ray.dataset import rows as rows_module
from enformer_ray.dataset.dataset import open_scores
from enformer_ray.errors import AnalysisError, ConfigError
from tests.analysis.exports.conftest import World, score_of
from tests.analysis.exports.strict import regenie_sets
from tests.end_to_end.conftest import Command, command

__all__ = ["command"]

BED = """track name=x
chr1\t2000\t2200\tA
chr1\t2150\t2400\tA\t0\t+
chr1\t3000\t3100\tA
chr1\t2299\t2300\tINSIDE
2\t0\t6000\tB
chr2\t100\t110\tEMPTY
chr7\t9\t10\tELSEWHERE
"""


def one_set(end: int = 12_000) -> GeneSets:
    return GeneSets(Path("g.gtf"), [GeneSet("G", "1", ((1, end),))])


@pytest.mark.parametrize("rows", [65_536, 3])
def test_files_are_what_regenie_reads(world: World, tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "_MAX_ROWS", rows)
    (tmp_path / "sets.bed").write_text(BED)
    with ExportSource(str(world.run), "sad", ["assay:CAGE"]) as source:
        summary = export_regenie(source, tmp_path / "r", read_bed(tmp_path / "sets.bed"), [0.9, 0.5], "colon")
    assert [path.name for path in summary.files] == [f"r.{s}" for s in ("annotations", "setlist", "weights", "masks")]
    sets, annotations, masks = regenie_sets(tmp_path / "r")
    regions = {"A": ("1", [(2001, 2400), (3001, 3100)]), "INSIDE": ("1", [(2300, 2300)]), "B": ("2", [(1, 6000)])}
    table = open_scores(world.run).to_arrow("sad", [0]).to_pylist()
    for name, (chromosome, spans) in regions.items():
        inside = [v for v in table if v["chromosome"] == chromosome and any(a <= v["position"] <= b for a, b in spans)]
        assert sets.get(name, []) == [v["variant_id"].replace("_", ":") for v in inside]
    assert set(sets) == {"A", "B"}
    weights = {}
    for line in (tmp_path / "r.weights").read_text().splitlines():
        variant, name, category, weight = line.split()
        assert annotations[variant, name] == category
        weights[variant, name] = float(weight)
    assert set(weights) == set(annotations)
    for (variant, _), weight in weights.items():
        wanted = max(abs(score_of(variant.replace(":", "_"), track)) for track in (3, 4))
        assert weight == pytest.approx(wanted, rel=1e-6)
    for key, category in annotations.items():
        assert category == ("ge_0.9" if weights[key] >= 0.9 else "ge_0.5" if weights[key] >= 0.5 else "below")
    assert masks == {"ge_0.9": ["ge_0.9"], "ge_0.5": ["ge_0.5", "ge_0.9"], "all": ["below", "ge_0.5", "ge_0.9"]}
    assert summary.rows == len(annotations)
    assert "2 of 5 sets hold variants" in summary.notes[0]


def test_without_thresholds_there_is_one_mask(world: World, tmp_path: Path) -> None:
    with ExportSource(str(world.run), "sad", ["0"]) as source:
        export_regenie(source, tmp_path / "r", one_set(), names="variant")
    sets, annotations, masks = regenie_sets(tmp_path / "r")
    assert masks == {"all": ["scored"]}
    assert set(annotations.values()) == {"scored"}
    assert len(sets["G"]) == 25


def test_names_that_two_variants_share_are_refused(world: World, tmp_path: Path) -> None:
    genes = one_set()
    with ExportSource(str(world.run), "sad", ["0"]) as source:
        with pytest.raises(AnalysisError, match=r"3 variants of the set G are called multi1.*--ids colon"):
            export_regenie(source, tmp_path / "r", genes)
        assert list(tmp_path.iterdir()) == []
        export_regenie(source, tmp_path / "r", one_set(3900))
    assert "rs11" in regenie_sets(tmp_path / "r")[0]["G"]


@pytest.mark.parametrize("thresholds", [[0.0], [-1.0], [0.5, 0.5], [float("nan")], list(np.arange(1, 64))])
def test_thresholds_that_will_not_do(world: World, tmp_path: Path, thresholds: list[float]) -> None:
    with ExportSource(str(world.run), "sad", ["0"]) as source, pytest.raises(ConfigError, match="--threshold"):
        export_regenie(source, tmp_path / "r", one_set(), thresholds)


def test_genes_of_a_gtf(tmp_path: Path) -> None:
    lines = [
        "#!genome-build GRCh38",
        'chr1\tX\tgene\t100\t200\t.\t+\t.\tgene_id "G1.2"; gene_name "ONE"; gene_type "protein_coding";',
        'chr1\tX\texon\t100\t150\t.\t+\t.\tgene_id "G1.2";',
        'chrM\tX\tgene\t5\t9\t.\t-\t.\tgene_id "G2"; gene_name "TWO"; gene_biotype "lncRNA";',
    ]
    path = tmp_path / "a.gtf"
    path.write_text("\n".join(lines) + "\n")
    assert read_gtf(path).sets == [GeneSet("G1.2", "1", ((100, 200),)), GeneSet("G2", "MT", ((5, 9),))]
    assert read_gtf(path, "gene_name", 10, "lncRNA") == GeneSets(path, [GeneSet("TWO", "MT", ((1, 19),))])
    with pytest.raises(AnalysisError, match="holds no genes of the type snRNA"):
        read_gtf(path, gene_type="snRNA")
    with pytest.raises(AnalysisError, match=r"none of 2 genes has a symbol; --gene-key"):
        read_gtf(path, "symbol")


def gene(chromosome: str, start: int, **attributes: str) -> str:
    said = " ".join(f'{name} "{value}";' for name, value in attributes.items())
    return f"{chromosome}\tX\tgene\t{start}\t{start + 99}\t.\t+\t.\t{said}\n"


def test_names_on_several_chromosomes_are_left_out_and_counted(tmp_path: Path) -> None:
    """Genes of the pseudo-autosomal regions and of families such as Y_RNA; and Ensembl's genes without a name."""
    path = tmp_path / "a.gtf"
    path.write_text(
        gene("chr1", 100, gene_id="G1", gene_name="Y_RNA")
        + gene("chr1", 500, gene_id="G2", gene_name="Y_RNA")
        + gene("chr2", 100, gene_id="G3", gene_name="Y_RNA")
        + gene("chrX", 100, gene_id="G4", gene_name="PLCXD1")
        + gene("chrY", 100, gene_id="G4", gene_name="PLCXD1")
        + gene("chr1", 900, gene_id="G5", gene_name="TWICE")
        + gene("chr1", 1900, gene_id="G6", gene_name="TWICE")
        + gene("chr1", 3000, gene_id="G7")
    )
    by_name = read_gtf(path, "gene_name")
    assert by_name.sets == [GeneSet("TWICE", "1", ((900, 999), (1900, 1999)))]
    assert by_name.notes == (
        "1 genes without a gene_name were left out.",
        "2 names lie on more than one chromosome and were left out, since a set of REGENIE has one: Y_RNA, PLCXD1.",
    )
    by_id = read_gtf(path)
    assert [one.name for one in by_id.sets] == ["G1", "G2", "G3", "G5", "G6", "G7"]
    assert by_id.notes[0].startswith("1 names lie")
    (tmp_path / "s.bed").write_text("chr1\t0\t9\tA\nchr2\t0\t9\tA\n")
    with pytest.raises(AnalysisError, match=r"no regions that can be tested\. 1 names lie on more than one"):
        read_bed(tmp_path / "s.bed")


def test_sets_that_match_nothing_are_an_error(world: World, tmp_path: Path) -> None:
    elsewhere = GeneSets(tmp_path / "g.gtf", [GeneSet("G", "NC_000001.11", ((1, 12_000),))])
    with ExportSource(str(world.run), "sad", ["0"]) as source:
        with pytest.raises(AnalysisError, match=r"g\.gtf has sets on NC_000001\.11, and .* 1, 2: they share no chrom"):
            export_regenie(source, tmp_path / "r", elsewhere)
        with pytest.raises(AnalysisError, match=r"no scored variant of .* lies in any of the 1 sets of g\.gtf"):
            export_regenie(source, tmp_path / "r", one_set(9))
    assert list(tmp_path.iterdir()) == []


def test_names_of_contigs_by_a_table(world: World, command: Command, tmp_path: Path) -> None:
    (tmp_path / "aliases.tsv").write_text("NC_000001.11\tchr1\n")
    (tmp_path / "refseq.gtf").write_text(gene("NC_000001.11", 2000, gene_id="G", gene_biotype="protein_coding"))
    (tmp_path / "sets.bed").write_text("NC_000001.11\t1999\t2099\tG\n")
    written = []
    for option, name in (("--gtf", "refseq.gtf"), ("--sets", "sets.bed")):
        common = ["export", "regenie", world.run, "--statistic", "sad", "--output", tmp_path / name, option]
        refused = command(*common, tmp_path / name)
        assert refused.status == 1
        assert "give a table of them (--contig-aliases)" in " ".join(refused.error.split())
        done = command(*common, tmp_path / name, "--contig-aliases", tmp_path / "aliases.tsv")
        assert done.status == 0, done.error
        written.append((tmp_path / f"{name}.setlist").read_text())
    assert written == ["G 1 2000 1_2001_" + written[0].split("1_2001_")[1]] * 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\t5\t9\n", "line 1: 3 columns"),
        ("1\t9\t5\tA\n", "line 1: '9' and '5'"),
        ("1\t5\t9\tA B\n", "'A B'"),
        ("", "no regions"),
    ],
)
def test_sets_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.bed").write_text(text)
    with pytest.raises(AnalysisError, match=message):
        read_bed(tmp_path / "s.bed")


def test_published_genes_are_read(shared: Path) -> None:
    genes = read_gtf(shared / "data" / "genes" / "grch38_chr1_gencode_v29.head.gtf.gz")
    assert len(genes.sets) == 119
    assert genes.sets[0] == GeneSet("ENSG00000223972.5", "1", ((11_869, 14_409),))
