from __future__ import annotations

import gzip
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pysam
import pytest

from enformer_ray.analysis.exports.source import ExportSource, ExportSummary
from enformer_ray.analysis.exports.vcf import export_vcf
from enformer_ray.dataset import rows as rows_module
from enformer_ray.dataset.dataset import open_scores
from enformer_ray.errors import AnalysisError, ConfigError, OutputExistsError, VariantFileError
from tests.analysis.exports.conftest import World, score_of, scores
from tests.dataset.generated import finished_run

NAMES = ("enformer_sad_track_0000", "enformer_sad_track_0003")


def annotate(run: Path, output: Path, *tracks: str, **options: object) -> ExportSummary:
    with ExportSource(str(run), "sad", tracks or ("0", "3")) as source:
        return export_vcf(source, output, **options)  # type: ignore[arg-type]


def without_info(data: bytes) -> list[bytes]:
    """Lines of a VCF without the fields of this program in INFO, and without their declarations."""
    lines = []
    for line in data.splitlines(keepends=True):
        if line.startswith(b"##INFO=<ID=enformer_"):
            continue
        body = line.rstrip(b"\r\n")
        cells = body.split(b"\t")
        if not line.startswith(b"#"):
            kept = [field for field in cells[7].split(b";") if not field.startswith(b"enformer_")]
            cells[7] = b";".join(kept) or b"."
        lines.append(b"\t".join(cells) + line[len(body) :])
    return lines


def fields(line: str) -> dict[str, str]:
    return dict(field.partition("=")[::2] for field in line.split("\t")[7].split(";"))


def check_scores(vcf: str, run: Path, track: int, name: str) -> int:
    """Every ALT of every record has its own score, or `.`."""
    scored = set(open_scores(run).to_arrow("sad", [0]).column("variant_id").to_pylist())
    found = 0
    for line in vcf.splitlines():
        if line.startswith("#"):
            continue
        contig, position, _, ref, alts = line.split("\t")[:5]
        values = fields(line).get(name, "").split(",")
        ids = [f"{contig.removeprefix('chr')}_{position}_{ref}_{alt}" for alt in alts.split(",")]
        if not any(values):
            assert scored.isdisjoint(ids)
            continue
        assert len(values) == len(ids)
        for variant_id, value in zip(ids, values, strict=True):
            if variant_id in scored:
                assert float(value) == pytest.approx(score_of(variant_id, track), rel=1e-5)
                found += 1
            else:  # symbolic, *, or an insertion that was moved when it was normalised
                assert value == "." or variant_id.endswith("ACGTTGCA")
    return found


def ids(run: Path) -> list[str]:
    return list(open_scores(run).to_arrow("sad", [0]).column("variant_id").to_pylist())


def bcftools(*arguments: str | Path) -> str:
    if shutil.which("bcftools") is None:
        pytest.skip("bcftools is not on the PATH")
    return subprocess.run(["bcftools", *map(str, arguments)], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("rows", [65_536, 1, 4])
def test_nothing_but_info_changes(world: World, tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "_MAX_ROWS", rows)
    summary = annotate(world.run, tmp_path / "o.vcf")
    written = (tmp_path / "o.vcf").read_bytes()
    assert without_info(written) == world.vcf.read_bytes().splitlines(keepends=True)
    assert check_scores(written.decode(), world.run, 0, NAMES[0]) >= 48
    assert check_scores(written.decode(), world.run, 3, NAMES[1]) >= 48
    records = [line for line in written.decode().splitlines() if not line.startswith("#")]
    assert summary.rows == len(records)
    assert summary.scored == sum("enformer_" in line for line in records) == len(records) - 4
    deletion = next(line for line in records if "\tdel1\t" in line)
    assert fields(deletion)[NAMES[0]].split(",")[1:] == [".", "."]


def test_bcftools_sees_a_difference_in_info_alone(world: World, tmp_path: Path) -> None:
    summary = annotate(world.run, tmp_path / "o.vcf.gz")
    assert [path.name for path in summary.files] == ["o.vcf.gz", "o.vcf.gz.tbi"]
    columns = "%CHROM\t%POS\t%ID\t%REF\t%ALT\t%QUAL\t%FILTER\t%INFO/AF\t%INFO/DB[\t%GT]\n"
    assert bcftools("query", "-f", columns, tmp_path / "o.vcf.gz") == bcftools("query", "-f", columns, world.vcf)
    stripped = bcftools(
        "annotate", "--no-version", "-x", ",".join(f"INFO/{name}" for name in NAMES), tmp_path / "o.vcf.gz"
    )
    assert stripped == bcftools("view", "--no-version", world.vcf)
    values = bcftools(
        "query", "-r", "chr2:3441-3500", "-i", f'{NAMES[0]}!="."', "-f", f"%ID %{NAMES[0]}\n", tmp_path / "o.vcf.gz"
    )
    assert [line.split()[0] for line in values.splitlines()] == ["multi2", "del2", "."]
    assert len(values.split()[1].split(",")) == 3


@pytest.mark.parametrize("pack", [gzip.compress, pysam.tabix_compress], ids=["gzip", "bgzip"])
def test_packed_inputs_and_line_ends_of_windows(
    world: World, tmp_path: Path, pack: Callable[..., bytes | None]
) -> None:
    data = world.vcf.read_bytes().replace(b"\n", b"\r\n")
    (tmp_path / "in.vcf").write_bytes(data)
    if pack is gzip.compress:
        (tmp_path / "in.vcf.gz").write_bytes(gzip.compress(data))
    else:
        pysam.tabix_compress(str(tmp_path / "in.vcf"), str(tmp_path / "in.vcf.gz"))
    run = finished_run(tmp_path, [tmp_path / "in.vcf.gz"], world.fasta, world.weights, scores, ("sad", "d2"))
    annotate(run, tmp_path / "o.vcf.gz")
    written = gzip.decompress((tmp_path / "o.vcf.gz").read_bytes())
    assert check_scores(written.decode(), run, 0, NAMES[0]) >= 48
    # Lines that were added end as the program ends them; all others as they did.
    assert without_info(written) == data.splitlines(keepends=True)


def test_a_bcf_stays_one(world: World, tmp_path: Path) -> None:
    source = tmp_path / "in.bcf"
    bcftools("view", "--no-version", "-Ob", "-o", source, world.vcf)
    run = finished_run(tmp_path, [source], world.fasta, world.weights, scores, ("sad", "d2"))
    summary = annotate(run, tmp_path / "o.bcf")
    assert [path.name for path in summary.files] == ["o.bcf", "o.bcf.csi"]
    removed = ",".join(f"INFO/{field}" for field in NAMES)
    stripped = bcftools("annotate", "--no-version", "-x", removed, tmp_path / "o.bcf")
    assert stripped == bcftools("view", "--no-version", source)
    assert bcftools("view", "-H", "-r", "chr2:3441", tmp_path / "o.bcf").count("\n") == 2
    shown = bcftools("view", "--no-version", tmp_path / "o.bcf")
    assert check_scores(shown, run, 3, NAMES[1]) >= 48
    assert fields(next(line for line in shown.splitlines() if "\tdel2\t" in line))[NAMES[0]].endswith(",.,.")
    with pysam.VariantFile(str(tmp_path / "o.bcf")) as records:
        exact = {record.id: record.info[NAMES[0]] for record in records if NAMES[0] in record.info and record.id}
    assert exact["rs11"] == (score_of(next(i for i in ids(run) if i.startswith("1_2098_")), 0),)
    assert exact["del2"][1:] == (None, None)
    with pytest.raises(ConfigError, match=r"ends in \.bcf"):
        annotate(run, tmp_path / "o.vcf")
    with pytest.raises(AnalysisError, match="declares enformer_sad_track_0000 already"):
        annotate(run, tmp_path / "p.bcf", variants=tmp_path / "o.bcf")


def test_an_unsorted_file_keeps_its_order_without_an_index(world: World, tmp_path: Path) -> None:
    lines = world.vcf.read_text().splitlines(keepends=True)
    header, records = lines[:9], lines[9:]
    (tmp_path / "in.vcf").write_text("".join([*header, *records[::-1]]))
    run = finished_run(tmp_path, [tmp_path / "in.vcf"], world.fasta, world.weights, scores, ("sad", "d2"))
    summary = annotate(run, tmp_path / "o.vcf.gz")
    assert "not sorted" in summary.notes[0]
    assert [path.name for path in summary.files] == ["o.vcf.gz"]
    written = gzip.decompress((tmp_path / "o.vcf.gz").read_bytes())
    assert without_info(written) == (tmp_path / "in.vcf").read_bytes().splitlines(keepends=True)
    assert check_scores(written.decode(), run, 0, NAMES[0]) >= 48


def test_the_file_must_be_the_one_that_was_scored(world: World, tmp_path: Path) -> None:
    data = world.vcf.read_text()
    changed = {
        "position": data.replace("chr1\t2001\t", "chr1\t2002\t"),
        "shorter": "".join(data.splitlines(keepends=True)[:-1]),
        "longer": data + data.splitlines(keepends=True)[-1],
        "alternate": data.replace("<DEL>", "<DUP>"),
    }
    for name, text in changed.items():
        (tmp_path / f"{name}.vcf").write_text(text)
        with pytest.raises(AnalysisError, match="--input names"):
            annotate(world.run, tmp_path / "o.vcf", variants=tmp_path / f"{name}.vcf")
    (tmp_path / "moved.vcf").write_text(data)
    annotate(world.run, tmp_path / "o.vcf", variants=tmp_path / "moved.vcf")
    assert without_info((tmp_path / "o.vcf").read_bytes()) == data.encode().splitlines(keepends=True)


def test_one_of_several_inputs(world: World, tmp_path: Path) -> None:
    other = tmp_path / "other.vcf"
    lines = world.vcf.read_text().splitlines(keepends=True)
    other.write_text("".join([*lines[:9], *lines[15:40]]))
    table = tmp_path / "table.tsv"
    ref = world.genome["1"][8000]
    table.write_text(
        f"chromosome\tposition\treference_allele\talternate_allele\n1\t8001\t{ref}\t{'A' if ref != 'A' else 'C'}\n"
    )
    run = finished_run(tmp_path, [world.vcf, other, table], world.fasta, world.weights, scores, ("sad", "d2"))
    with pytest.raises(AnalysisError, match=r"several files \(.*in\.vcf, .*other\.vcf.*\); --input"):
        annotate(run, tmp_path / "o.vcf")
    annotate(run, tmp_path / "o.vcf", variants=other)
    written = (tmp_path / "o.vcf").read_bytes()
    assert without_info(written) == other.read_bytes().splitlines(keepends=True)
    assert check_scores(written.decode(), run, 0, NAMES[0]) >= 20  # all of them duplicates of the first file's
    with pytest.raises(AnalysisError, match=r"is no VCF or BCF"):
        annotate(run, tmp_path / "p.vcf", variants=table)


def test_names_that_are_taken_and_outputs_that_will_not_do(world: World, tmp_path: Path) -> None:
    annotate(world.run, tmp_path / "o.vcf", "0")
    with pytest.raises(OutputExistsError, match="is there already"):
        annotate(world.run, tmp_path / "o.vcf", "0")
    with pytest.raises(AnalysisError, match="declares the INFO field enformer_sad_track_0000 already"):
        annotate(world.run, tmp_path / "p.vcf", "0", variants=tmp_path / "o.vcf")
    annotate(world.run, tmp_path / "p.vcf", "0", variants=tmp_path / "o.vcf", prefix="again")
    assert without_info((tmp_path / "p.vcf").read_bytes()) != without_info((tmp_path / "o.vcf").read_bytes())
    with pytest.raises(ConfigError, match="--prefix 1x"):
        annotate(world.run, tmp_path / "q.vcf", prefix="1x")
    with pytest.raises(ConfigError, match=r"ends in \.bgz, \.gz, \.vcf"):
        annotate(world.run, tmp_path / "q.bcf")
    copy = tmp_path / "copy.vcf"
    shutil.copyfile(world.vcf, copy)
    with pytest.raises(OutputExistsError, match="is read by this command"):
        annotate(world.run, copy, variants=copy, force=True)


def test_a_damaged_bcf_is_refused(world: World, tmp_path: Path) -> None:
    source = tmp_path / "in.bcf"
    bcftools("view", "--no-version", "-Ob", "-o", source, world.vcf)
    run = finished_run(tmp_path, [source], world.fasta, world.weights, scores, ("sad", "d2"))
    data = bytearray(source.read_bytes())
    data[-200] ^= 255
    source.write_bytes(data)
    with pytest.raises(VariantFileError, match=r"in\.bcf is damaged"):
        annotate(run, tmp_path / "o.bcf")
    assert not (tmp_path / "o.bcf").exists()


def test_a_gwas_vcf_is_annotated(world: World, tmp_path: Path) -> None:
    genome = world.genome["1"]
    other = str.maketrans("ACGT", "CATG")
    head = (
        '##fileformat=VCFv4.2\n##FORMAT=<ID=ES,Number=A,Type=Float,Description="e">\n'
        '##FORMAT=<ID=SE,Number=A,Type=Float,Description="s">\n##FORMAT=<ID=LP,Number=A,Type=Float,Description="l">\n'
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS\n"
    )
    right, wrong = (genome[3000], genome[3000].translate(other)), (genome[3100].translate(other), genome[3100])
    rows = [
        f"1\t{at}\trs{at}\t{ref}\t{alt}\t.\tPASS\t.\tES:SE:LP\t0.1:0.2:3\n"
        for at, (ref, alt) in ((3001, right), (3101, wrong))
    ]
    (tmp_path / "g.vcf").write_text(head + "".join(rows))
    inputs = [tmp_path / "g.vcf"], world.fasta, world.weights
    run = finished_run(tmp_path, *inputs, scores, ("sad", "d2"), max_ref_mismatch=1.0)
    annotate(run, tmp_path / "o.vcf", "0")
    lines = [line for line in (tmp_path / "o.vcf").read_text().splitlines() if line[0] != "#"]
    assert float(fields(lines[0])[NAMES[0]]) == pytest.approx(score_of(f"1_3001_{'_'.join(right)}", 0), rel=1e-6)
    assert f"{lines[1]}\n" == rows[1]  # its reference allele is not that of the FASTA, so it was rejected


@pytest.mark.parametrize("name", ["grch38_chr1_deepvariant_sites.vcf.gz", "grch38_gtex_variants_cimr.vcf.gz"])
def test_real_files(shared: Path, world: World, tmp_path: Path, name: str) -> None:
    fasta = tmp_path / "genome.fa.gz"
    for file in (shared / "data" / "reference").glob("grch38_demo_chr1_chr20_chr22.npad.fa.gz*"):
        shutil.copyfile(file, tmp_path / file.name.replace("grch38_demo_chr1_chr20_chr22.npad.fa.gz", fasta.name))
    source = shared / "data" / "variants" / name
    run = finished_run(tmp_path, [source], fasta, world.weights, scores, ("sad", "d2"))
    summary = annotate(run, tmp_path / "o.vcf.gz")
    written = gzip.decompress((tmp_path / "o.vcf.gz").read_bytes())
    assert without_info(written) == gzip.decompress(source.read_bytes()).splitlines(keepends=True)
    assert summary.rows == written.count(b"\n") - sum(line.startswith(b"#") for line in written.splitlines())
    removed = ",".join(f"INFO/{field}" for field in NAMES)
    stripped = bcftools("annotate", "--no-version", "-x", removed, tmp_path / "o.vcf.gz")
    assert stripped == bcftools("view", "--no-version", source)
    with_scores = bcftools("query", "-i", f'{NAMES[0]}!="."', "-f", "%POS\n", tmp_path / "o.vcf.gz")
    assert with_scores.count("\n") == summary.scored > 500
