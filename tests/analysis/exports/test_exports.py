from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from enformer_ray.analysis.exports.ld import export_ldsc, export_polyfun, export_sldp
from enformer_ray.analysis.exports.source import ExportSource
from enformer_ray.analysis.exports.text import bgzip_writer, export_tsv
from enformer_ray.analysis.options import AnnotationOptions
from enformer_ray.dataset import rows as rows_module
from enformer_ray.dataset.dataset import open_scores
from enformer_ray.errors import (
    AnalysisError,
    ConfigError,
    DiskError,
    OutputExistsError,
    RunIncompleteError,
    SelectionError,
)
from tests.analysis.exports.conftest import World, score_of
from tests.analysis.exports.strict import ldsc_annotation, polyfun_annotation, read_bim, sldp_annotation
from tests.dataset.test_dataset import upload


@pytest.fixture(params=["whole", "in pieces"])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether batches hold all rows or seven."""
    if request.param == "in pieces":
        monkeypatch.setattr(rows_module, "_MAX_ROWS", 7)


def write_bim(path: Path, world: World) -> pd.DataFrame:
    """Every other scored variant and some more, in an order of its own within chromosomes, A1 now ALT, now REF."""
    frame = open_scores(world.run).to_arrow("sad", [0]).to_pandas()
    lines = []
    for i, row in enumerate(frame.itertuples()):
        alleles = [row.alternate_allele, row.reference_allele][:: 1 if i % 3 else -1]
        if i % 2:
            lines.append((row.chromosome, f"snp{i}", f"0.{i:02d}", row.position, *alleles))
        else:
            lines.append((row.chromosome, f"absent{i}", "0", row.position + 1, *alleles))
    # As the VCF had it: an insertion that moves to the left when it is normalised.
    at = 1500 + 20 * 97 + 50
    lines.append(("2", "moved", "1", at, world.genome["2"][at - 1] + "ACGTTGCA", world.genome["2"][at - 1]))
    lines.sort(key=lambda line: (line[0], -line[3]))
    path.write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))
    return read_bim(path)


def expected(world: World, bim: pd.DataFrame, track: int) -> np.ndarray:
    """Score of A1 against A2 of each SNP of a panel; 0 of those without one."""
    known = {}
    for row in open_scores(world.run).to_arrow("sad", [0]).to_pandas().itertuples():
        score = score_of(row.variant_id, track)
        known[row.chromosome, row.position, row.alternate_allele, row.reference_allele] = score
        known[row.chromosome, row.position, row.reference_allele, row.alternate_allele] = -score
    moved = bim[bim.SNP == "moved"].iloc[0]
    insertion = next(key for key in known if key[0] == "2" and len(key[2]) == 9)
    assert insertion[1] == moved.BP - 1
    known["2", moved.BP, moved.A1, moved.A2] = known[insertion]
    return np.array([known.get((str(r.CHR), r.BP, r.A1, r.A2), 0.0) for r in bim.itertuples()])


def test_a_table_is_read_by_tabix_polars_and_pandas(world: World, tmp_path: Path, pieces: None) -> None:
    with ExportSource(str(world.run), "sad", ["assay:CAGE", "0"]) as source:
        summary = export_tsv(source, tmp_path / "new" / "s.tsv.gz")
    table = tmp_path / "new" / "s.tsv.gz"
    assert summary.files == [table, Path(f"{table}.tbi")]
    assert sorted(path.name for path in table.parent.iterdir()) == ["s.tsv.gz", "s.tsv.gz.tbi"]
    frame = pd.read_csv(table, sep="\t", dtype={"#chromosome": str})
    wanted = open_scores(world.run).to_arrow("sad", [0, 3, 4]).to_pandas()
    assert frame["#chromosome"].tolist() == ("chr" + wanted.chromosome).tolist()
    for name in ("variant_id", "position", "indel_convention"):
        assert frame[name].tolist() == wanted[name].tolist()
    for name in ("track_0000", "track_0003", "track_0004"):
        assert frame[name].astype(np.float32).tolist() == wanted[name].tolist()
    assert (frame.name == frame.variant_id).sum() == 2 * (4 + 1)  # records without an identifier
    assert pl.read_csv(table, separator="\t").height == summary.rows == summary.scored == len(wanted)
    if shutil.which("tabix") is None:
        pytest.skip("tabix is not on the PATH")
    found = subprocess.run(["tabix", str(table), "chr2:3000-3500"], capture_output=True, text=True, check=True).stdout
    there = wanted[(wanted.chromosome == "2") & wanted.position.between(3000, 3500)]
    assert [line.split("\t")[4] for line in found.splitlines()] == there.variant_id.tolist()


@pytest.mark.parametrize("thin", [False, True])
def test_ldsc_keeps_the_rows_of_a_panel(world: World, tmp_path: Path, thin: bool, pieces: None) -> None:
    bim = write_bim(tmp_path / "panel.bim", world)
    options = AnnotationOptions(bim=str(tmp_path / "panel.bim"))
    with ExportSource(str(world.run), "sad", ["3-4"]) as source:
        summary = export_ldsc(source, tmp_path / "a", options, thin)
    assert summary.rows == len(bim)
    assert "the others have 0" in summary.notes[0]
    for chromosome, snps in bim.groupby("CHR"):
        found = ldsc_annotation(tmp_path / f"a.{chromosome}.annot.gz", snps, thin)
        for track in (3, 4):
            wanted = np.abs(expected(world, bim, track))[chromosome == bim.CHR]
            np.testing.assert_allclose(found[f"track_{track:04d}"], wanted, rtol=1e-6)
            assert (wanted > 0).any()


def read_annotations(tmp_path: Path, name: str) -> pd.DataFrame:
    tables = [ldsc_annotation(tmp_path / f"{name}.{chromosome}.annot.gz", None, False) for chromosome in (1, 2)]
    return pd.concat(tables, ignore_index=True)


@pytest.mark.parametrize("signed", [False, True])
def test_standard_deviations_and_the_base_column_are_numpys(
    world: World, tmp_path: Path, signed: bool, pieces: None
) -> None:
    bim = write_bim(tmp_path / "panel.bim", world)
    options = AnnotationOptions(bim=str(tmp_path / "panel.bim"), signed=signed, missing=0.125)
    with ExportSource(str(world.run), "sad") as source:
        summary = export_ldsc(source, tmp_path / "a", options)
        export_ldsc(source, tmp_path / "b", options, base=False)
    found = read_annotations(tmp_path, "a")
    tracks = [f"track_{i:04d}" for i in range(5)]
    assert list(found) == ["base", *tracks]
    assert (found.base.to_numpy() == np.ones(len(bim))).all()
    pd.testing.assert_frame_equal(read_annotations(tmp_path, "b"), found[tracks])
    assert summary.files[-1] == tmp_path / "a.sd.tsv"
    table = pd.read_csv(tmp_path / "a.sd.tsv", sep="\t").set_index("column")
    assert list(table.index) == list(found)
    assert (table.snps == len(bim)).all()
    for name in found:
        values = found[name].to_numpy(np.float32).astype(np.float64)  # the text is the shortest of a float32
        assert table["mean"][name] == pytest.approx(np.mean(values), rel=1e-12, abs=1e-12)
        assert table.sd[name] == pytest.approx(np.std(values), rel=1e-12)


def test_quantile_bins_are_numpys(world: World, tmp_path: Path, pieces: None) -> None:
    write_bim(tmp_path / "panel.bim", world)
    options = AnnotationOptions(bim=str(tmp_path / "panel.bim"))
    with ExportSource(str(world.run), "sad", ["3-4"]) as source:
        export_ldsc(source, tmp_path / "a", options)
        summary = export_ldsc(source, tmp_path / "q", options, quantile_bins=8)
    values, found = read_annotations(tmp_path, "a"), read_annotations(tmp_path, "q")
    assert list(found) == ["base", *(f"track_{t:04d}_q{k}" for t in (3, 4) for k in range(2, 9))]
    for track in ("track_0003", "track_0004"):
        scores = values[track].to_numpy(np.float32).astype(np.float64)
        edges = np.quantile(scores, np.arange(1, 8) / 8)
        for k in range(2, 9):
            above, below = scores > edges[k - 2], (scores <= edges[k - 1]) if k < 8 else True
            np.testing.assert_array_equal(found[f"{track}_q{k}"], (above & below).astype(int))
    # Half of the panel has no score and the value 0: bins 2 to 4 hold nothing, which is said.
    assert (values.track_0003 == 0).mean() == 0.5
    assert "6 bins hold no SNPs" in summary.notes[-1]
    deviations = pd.read_csv(tmp_path / "q.sd.tsv", sep="\t").set_index("column").sd
    assert deviations.track_0004_q8 == pytest.approx(np.std(found.track_0004_q8.to_numpy()))


def test_panels_may_be_a_file_a_chromosome(world: World, tmp_path: Path) -> None:
    bim = write_bim(tmp_path / "panel.bim", world)
    for chromosome, snps in bim.groupby("CHR"):
        snps.to_csv(tmp_path / f"p.{chromosome}.bim", sep=" ", header=False, index=False)
    results = []
    for pattern in ("panel.bim", "p.@.bim"):
        with ExportSource(str(world.run), "sad", ["0"]) as source:
            export_ldsc(source, tmp_path / pattern, AnnotationOptions(bim=str(tmp_path / pattern)), thin=True)
        results.append([gzip.decompress((tmp_path / f"{pattern}.{c}.annot.gz").read_bytes()) for c in (1, 2)])
    assert results[0] == results[1]


def test_polyfun_finds_every_snp(world: World, tmp_path: Path) -> None:
    with ExportSource(str(world.run), "d2") as source:
        export_polyfun(source, tmp_path / "p", AnnotationOptions(names="colon"))
    for chromosome in ("1", "2"):
        frame = open_scores(world.run).to_arrow("d2").to_pandas().query(f"chromosome == '{chromosome}'")
        keys = (
            frame.chromosome
            + ":"
            + frame.position.astype(str)
            + ":"
            + frame.reference_allele
            + ":"
            + frame.alternate_allele
        )
        bim = pd.DataFrame({"CHR": int(chromosome), "SNP": keys, "BP": frame.position, "A1": frame.reference_allele})
        bim["A2"] = frame.alternate_allele
        bim.loc[bim.index[::2], ["A1", "A2"]] = bim.loc[bim.index[::2], ["A2", "A1"]].to_numpy()
        found = polyfun_annotation(tmp_path / f"p.{chromosome}.annot.parquet", bim)
        tracks = [name for name in frame if name.startswith("track_")]
        np.testing.assert_array_equal(found[tracks], frame[tracks].abs())
        sums = np.array((tmp_path / f"p.{chromosome}.l2.M").read_text().split(), float)
        np.testing.assert_allclose(sums, found[tracks].sum().to_numpy(), rtol=1e-5)
        assert pl.read_parquet(tmp_path / f"p.{chromosome}.annot.parquet").schema["CHR"] == pl.Int64


@pytest.mark.parametrize("with_panel", [False, True])
def test_sldp_gets_the_score_of_a1(world: World, tmp_path: Path, with_panel: bool) -> None:
    bim = write_bim(tmp_path / "panel.bim", world)
    bim = bim[bim.SNP != "moved"]
    with ExportSource(str(world.run), "sad", ["2"]) as source:
        if with_panel:
            export_sldp(source, tmp_path / "s", AnnotationOptions(bim=str(tmp_path / "panel.bim")))
            export_sldp(source, tmp_path / "thin", AnnotationOptions(bim=str(tmp_path / "panel.bim")), thin=True)
        else:
            export_sldp(source, tmp_path / "s", AnnotationOptions(names="variant"))
            ids = open_scores(world.run).to_arrow("sad", [0]).to_pandas()
            names = {f"snp{i}": row.variant_id for i, row in enumerate(ids.itertuples())}
            bim = bim.assign(SNP=bim.SNP.map(lambda name: names.get(name, name)))
    for chromosome, snps in bim.groupby("CHR"):
        found = sldp_annotation(tmp_path / f"s.{chromosome}.sannot.gz", snps)["track_0002"].to_numpy()
        ambiguous = [
            {a, b} in ({"A", "T"}, {"C", "G"}) or len(a + b) > 2 for a, b in zip(snps.A1, snps.A2, strict=True)
        ]
        scored = read_bim(tmp_path / "panel.bim")
        wanted = pd.Series(expected(world, scored, 2), scored.index)[snps.index].to_numpy()
        np.testing.assert_allclose(found, np.where(ambiguous, 0, wanted), rtol=1e-6)
        assert (found < 0).any()
        assert (found > 0).any()
        if with_panel:
            thin = pd.read_csv(tmp_path / f"thin.{chromosome}.sannot.gz")["track_0002"].to_numpy()
            rows = (scored[chromosome == scored.CHR].SNP != "moved").to_numpy()
            np.testing.assert_allclose(thin[rows], wanted, rtol=1e-6)


def test_unsigned_statistics_make_no_signed_annotation(world: World, tmp_path: Path) -> None:
    with ExportSource(str(world.run), "d2") as source, pytest.raises(ConfigError, match="d2 has no sign"):
        export_sldp(source, tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 rs 0 5 A\n", r"line 1: not a line of a \.bim"),
        ("1 rs 0 5 A C\n1 rs 0 x A C\n", "line 2"),
        ("1 a 0 5 A C\n2 b 0 5 A C\n1 c 0 6 A C\n", "goes back to chromosome 1"),
        ("\n", "holds no lines"),
    ],
)
def test_bad_panels_are_refused(world: World, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.bim").write_text(text)
    with ExportSource(str(world.run), "sad") as source, pytest.raises(AnalysisError, match=message):
        export_ldsc(source, tmp_path / "a", AnnotationOptions(bim=str(tmp_path / "p.bim")))
    assert [path.name for path in tmp_path.iterdir()] == ["p.bim"]
    with ExportSource(str(world.run), "sad") as source, pytest.raises(AnalysisError, match="there is no such file"):
        export_ldsc(source, tmp_path / "a", AnnotationOptions(bim=str(tmp_path / "absent.@.bim")))


def test_files_that_exist_are_kept(world: World, tmp_path: Path) -> None:
    (tmp_path / "a.2.annot.gz").write_text("mine")
    with ExportSource(str(world.run), "sad", ["0"]) as source:
        with pytest.raises(OutputExistsError, match=r"a\.2\.annot\.gz is there already.*--force"):
            export_ldsc(source, tmp_path / "a")
        assert [path.name for path in tmp_path.iterdir()] == ["a.2.annot.gz"]
        assert (tmp_path / "a.2.annot.gz").read_text() == "mine"
        export_ldsc(source, tmp_path / "a", force=True)
    assert gzip.decompress((tmp_path / "a.2.annot.gz").read_bytes()).startswith(b"CHR\tBP")


def test_only_finished_runs_and_what_they_have(world: World, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(world.run, copy)
    with pytest.raises(ConfigError, match="no statistic 'sax'; it has sad, d2"):
        ExportSource(str(copy), "sax")
    with pytest.raises(SelectionError, match="'assay:ATAC' matches no track; assays of this head: DNASE, CHIP, CAGE"):
        ExportSource(str(copy), "sad", ["assay:ATAC"])
    (copy / "manifest.json").unlink()
    with pytest.raises(RunIncompleteError):
        ExportSource(str(copy), "sad")


@pytest.mark.parametrize(
    ("selector", "columns"),
    [
        ("0,3-4", [0, 3, 4]),
        ("assay:cage", [3, 4]),
        ("regex:liver$", [0, 2, 3]),
        ("track_0001", [1]),
        ("ENC2", [2]),
        ("CAGE:brain", [4]),
        ("file:chosen", [1, 2, 4]),
    ],
)
def test_tracks_are_chosen_in_many_ways(
    world: World, tmp_path: Path, selector: str, columns: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chosen").write_text("ENC4\n1-2  # two\n\n")
    monkeypatch.chdir(tmp_path)
    source = ExportSource(str(world.run), "sad", [selector])
    assert source.columns == [f"track_{index:04d}" for index in columns]


def test_an_export_from_an_object_store_is_the_same(world: World, tmp_path: Path, bucket: str) -> None:
    upload(world.run, bucket)
    for name, where in (("local", str(world.run)), ("store", bucket)):
        with ExportSource(where, "sad", ["1"]) as source:
            export_tsv(source, tmp_path / f"{name}.tsv.gz")
    assert gzip.decompress((tmp_path / "local.tsv.gz").read_bytes()) == gzip.decompress(
        (tmp_path / "store.tsv.gz").read_bytes()
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_said_in_words(capfd: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(DiskError, match=r"full cannot be written in .*the disk is full"),
        bgzip_writer(Path("/dev/full")) as file,
    ):
        file.write(np.random.default_rng(1).bytes(1 << 20))
    with pytest.raises(DiskError, match="the disk is full"), bgzip_writer(Path("/dev/full")) as file:
        file.write(b"found out when it is closed")
    assert capfd.readouterr().err == ""
