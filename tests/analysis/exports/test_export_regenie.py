from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from enformer_ray.analysis.exports.regenie import GeneSet, export_regenie, read_bed, read_gtf
from enformer_ray.analysis.exports.source import ExportSource
from enformer_ray.dataset import rows as rows_module
from enformer_ray.dataset.dataset import open_scores
from enformer_ray.errors import AnalysisError, ConfigError
from tests.analysis.exports.conftest import World, score_of
from tests.analysis.exports.strict import regenie_sets

BED = """track name=x
chr1\t2000\t2200\tA
chr1\t2150\t2400\tA\t0\t+
chr1\t3000\t3100\tA
chr1\t2299\t2300\tINSIDE
2\t0\t6000\tB
chr2\t100\t110\tEMPTY
chr7\t9\t10\tELSEWHERE
"""


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
        export_regenie(source, tmp_path / "r", [GeneSet("G", "1", ((1, 12_000),))], names="variant")
    sets, annotations, masks = regenie_sets(tmp_path / "r")
    assert masks == {"all": ["scored"]}
    assert set(annotations.values()) == {"scored"}
    assert len(sets["G"]) == 25


def test_names_that_two_variants_share_are_refused(world: World, tmp_path: Path) -> None:
    genes = [GeneSet("G", "1", ((1, 12_000),))]
    with ExportSource(str(world.run), "sad", ["0"]) as source:
        with pytest.raises(AnalysisError, match=r"3 variants of the set G are called multi1.*--ids colon"):
            export_regenie(source, tmp_path / "r", genes)
        assert list(tmp_path.iterdir()) == []
        export_regenie(source, tmp_path / "r", [GeneSet("G", "1", ((1, 3900),))])
    assert "rs11" in regenie_sets(tmp_path / "r")[0]["G"]


@pytest.mark.parametrize("thresholds", [[0.0], [-1.0], [0.5, 0.5], [float("nan")], list(np.arange(1, 64))])
def test_thresholds_that_will_not_do(world: World, tmp_path: Path, thresholds: list[float]) -> None:
    with ExportSource(str(world.run), "sad", ["0"]) as source, pytest.raises(ConfigError, match="--threshold"):
        export_regenie(source, tmp_path / "r", [GeneSet("G", "1", ((1, 12_000),))], thresholds)


def test_genes_of_a_gtf(tmp_path: Path) -> None:
    lines = [
        "#!genome-build GRCh38",
        'chr1\tX\tgene\t100\t200\t.\t+\t.\tgene_id "G1.2"; gene_name "ONE"; gene_type "protein_coding";',
        'chr1\tX\texon\t100\t150\t.\t+\t.\tgene_id "G1.2";',
        'chrM\tX\tgene\t5\t9\t.\t-\t.\tgene_id "G2"; gene_name "TWO"; gene_biotype "lncRNA";',
    ]
    path = tmp_path / "a.gtf"
    path.write_text("\n".join(lines) + "\n")
    assert read_gtf(path) == [GeneSet("G1.2", "1", ((100, 200),)), GeneSet("G2", "MT", ((5, 9),))]
    assert read_gtf(path, "gene_name", 10, "lncRNA") == [GeneSet("TWO", "MT", ((1, 19),))]
    with pytest.raises(AnalysisError, match="holds no genes of the type snRNA"):
        read_gtf(path, gene_type="snRNA")
    with pytest.raises(AnalysisError, match=r"line 2: the gene has no symbol; --gene-key"):
        read_gtf(path, "symbol")
    path.write_text(lines[1] + "\n" + lines[1].replace("chr1", "chr2"))
    with pytest.raises(AnalysisError, match=r"line 2: G1\.2 is on chromosome 2 and on 1"):
        read_gtf(path)


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
    assert len(genes) == 119
    assert genes[0] == GeneSet("ENSG00000223972.5", "1", ((11_869, 14_409),))
