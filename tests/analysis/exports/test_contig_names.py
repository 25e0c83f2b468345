"""How exports spell contigs: as the FASTA where files are joined by position, plain where programs want numbers."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow.parquet as pq
import pytest

from enformer_ray.analysis.exports.ld import export_ldsc, export_polyfun, export_sldp
from enformer_ray.analysis.exports.source import ExportSource
from enformer_ray.analysis.exports.text import export_tsv
from enformer_ray.analysis.exports.vcf import export_vcf
from enformer_ray.dataset.finished import FinishedRun
from enformer_ray.planning.plan import load_plan
from enformer_ray.rundir.contigs import ContigNames
from enformer_ray.rundir.store import LocalStore
from tests.analysis.exports.conftest import HEADER, World, scores, vcf_lines, write_table_of_tracks
from tests.dataset.generated import finished_run
from tests.end_to_end.conftest import Command, command
from tests.run_fixtures import edit_plan, write_genome, write_weights

__all__ = ["command"]

TRACK = "enformer_sad_track_0003"


class Named(NamedTuple):
    """A run whose FASTA and VCF name their contigs in one way."""

    run: Path
    vcf: Path


def named_run(folder: Path, names: dict[str, str], normalised: bool = False, **catalogue: object) -> Named:
    """The variants of the world, or those of them that a normalised file has, with other names of contigs."""
    folder.mkdir()
    genome = write_genome(folder / "chr.fa", 1)
    write_weights(folder / "weights.safetensors", 1)
    write_table_of_tracks(folder / "tracks.txt")
    lines = HEADER.splitlines() + vcf_lines(genome)
    if normalised:
        lines = [line for line in lines if line[0] == "#" or is_normalised(line)]
    text, fasta = "\n".join(lines) + "\n", (folder / "chr.fa").read_text()
    for old, new in names.items():
        text = text.replace(f"{old}\t", f"{new}\t").replace(f"ID={old},", f"ID={new},")
        fasta = fasta.replace(f">{old}\n", f">{new}\n")
    (folder / "in.vcf").write_text(text)
    (folder / "genome.fa").write_text(fasta)
    run = finished_run(
        folder,
        [folder / "in.vcf"],
        folder / "genome.fa",
        folder / "weights.safetensors",
        scores,
        ("sad", "d2"),
        folder / "tracks.txt",
        **catalogue,
    )
    return Named(run, folder / "in.vcf")


def is_normalised(line: str) -> bool:
    """Whether a record of the world is one that `bcftools norm` would leave, and that is scored."""
    contig, _, name, ref, *_ = line.split("\t")
    return (
        contig != "chrUn" and not name.startswith(("del", "site", "mismatch")) and "ACGTTGCA" not in line and ref != ""
    )


def contigs_of(table: Path) -> list[str]:
    return list(dict.fromkeys(pd.read_csv(table, sep="\t", dtype={"#chromosome": str})["#chromosome"]))


def bcftools(*arguments: object, text: bytes | None = None) -> bytes:
    return subprocess.run(["bcftools", *map(str, arguments)], input=text, capture_output=True, check=True).stdout


def both_values(vcf: bytes) -> list[list[str]]:
    """Of each record the score that the export has put there, and the one of the table."""
    found = bcftools("query", "-f", f"%INFO/{TRACK} %INFO/FROM_TABLE\n", text=vcf)
    return [line.split() for line in found.decode().splitlines()]


@pytest.mark.parametrize("normalised", [True, False])
def test_bcftools_annotates_every_record_of_the_exported_vcf(tmp_path: Path, normalised: bool) -> None:
    if shutil.which("bcftools") is None:
        pytest.skip("bcftools is not on the PATH")
    named = named_run(tmp_path / "run", {}, normalised)
    table, vcf, header = tmp_path / "s.tsv.gz", tmp_path / "s.vcf.gz", tmp_path / "header.txt"
    with ExportSource(str(named.run), "sad", ["3"]) as source:
        export_tsv(source, table)
        summary = export_vcf(source, vcf)
    header.write_text('##INFO=<ID=FROM_TABLE,Number=A,Type=Float,Description="of the table">\n')
    annotate = ["annotate", "-a", table, "-c", "CHROM,POS,REF,ALT,-,-,-,FROM_TABLE", "-h", header]
    if normalised:
        assert summary.rows == summary.scored == 44
        found = both_values(bcftools(*annotate, vcf))
        assert len(found) == 44
        assert all(set(theirs.split(",")) - {"."} <= set(ours.split(",")) != {"."} for ours, theirs in found)
        assert all(theirs != "." for _, theirs in found)
    # The table has normalised variants: of several alternates bcftools takes one line, and an indel may have moved.
    norm = bcftools("norm", "-m-any", "-c", "x", "-f", named.run.parent / "genome.fa", text=only_known(vcf))
    found = [(ours, theirs) for ours, theirs in both_values(bcftools(*annotate, "-", text=norm)) if ours != "."]
    assert len(found) == (48 if normalised else 52)
    assert all(theirs == ours for ours, theirs in found)


def only_known(vcf: Path) -> bytes:
    """Without the contig that the FASTA lacks, at which `bcftools norm` would stop."""
    return bcftools("view", "-e", 'CHROM="chrUn"', vcf)


@pytest.mark.parametrize(
    ("names", "fasta"),
    [
        ({}, ["chr1", "chr2"]),
        ({"chr1": "1", "chr2": "2"}, ["1", "2"]),
        ({"chr1": "NC_000001.11", "chr2": "chrM"}, ["NC_000001.11", "chrM"]),
    ],
)
def test_a_table_names_contigs_as_the_fasta_does(
    command: Command, tmp_path: Path, names: dict[str, str], fasta: list[str]
) -> None:
    named = named_run(tmp_path / "run", names)
    common = ["export", "tsv", named.run, "--statistic", "sad", "--output"]
    done = command(*common, tmp_path / "f.tsv.gz")
    assert done.status == 0, done.error
    assert contigs_of(tmp_path / "f.tsv.gz") == fasta
    assert command(*common, tmp_path / "p.tsv.gz", "--contig-names", "plain").status == 0
    plain = ["MT" if name == "chrM" else name.removeprefix("chr") for name in fasta]
    assert contigs_of(tmp_path / "p.tsv.gz") == plain
    rows = [gzip.decompress((tmp_path / f"{name}.tsv.gz").read_bytes()).split(b"\n") for name in "fp"]
    assert [row.partition(b"\t")[2] for row in rows[0]] == [row.partition(b"\t")[2] for row in rows[1]]
    wrong = command(*common, tmp_path / "w.tsv.gz", "--contig-names", "ucsc")
    assert wrong.status == 2


def test_a_fasta_decides_where_the_input_has_other_names(tmp_path: Path) -> None:
    """And further names of the contigs are recorded with the run, for files that are joined with it later."""
    (tmp_path / "aliases.tsv").write_text("NC_000001.11\tchr1\nNC_000002.12\tchr2\nchrOne\tchr1\n")
    folder = tmp_path / "run"
    named = named_run(folder, {}, contig_aliases=tmp_path / "aliases.tsv")
    (tmp_path / "aliases.tsv").unlink()
    recorded = {
        "1": ContigNames(fasta="chr1", aliases=("NC_000001.11", "chrOne")),
        "2": ContigNames(fasta="chr2", aliases=("NC_000002.12",)),
    }
    store = LocalStore(named.run)
    assert load_plan(store).document.contigs == FinishedRun(store).contigs == recorded
    aliases = {"NC_000001.11": "chr1", "chrOne": "chr1", "NC_000002.12": "chr2"}
    assert load_plan(store).document.contig_aliases == FinishedRun(store).contig_aliases == aliases


def forget_contigs(run: Path) -> None:
    """Make of a run one of an older program, which did not record how contigs are spelled."""
    edit_plan(run, lambda document: document.pop("contigs"))
    document = json.loads((run / "run.json").read_text())
    del document["contigs"]
    (run / "run.json").write_text(json.dumps(document))
    manifest = json.loads((run / "manifest.json").read_text())
    (entry,) = (file for file in manifest["files"] if file["path"] == "run.json")
    content = (run / "run.json").read_bytes()
    entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (run / "manifest.json").write_text(json.dumps(manifest))


def test_a_run_of_an_older_program_has_the_names_of_its_input(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.run, tmp_path / "run")
    forget_contigs(tmp_path / "run")
    with ExportSource(str(tmp_path / "run"), "sad", ["0"]) as source:
        summary = export_tsv(source, tmp_path / "s.tsv.gz")
        assert source.contig_aliases == {}
    assert contigs_of(tmp_path / "s.tsv.gz") == ["chr1", "chr2"]
    assert "does not record how its FASTA spells contigs" in summary.notes[0]


def test_the_table_of_aliases_serves_a_run_of_an_older_program_while_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "aliases.tsv").write_text("NC_000001.11\tchr1\n")
    named = named_run(tmp_path / "run", {}, contig_aliases=tmp_path / "aliases.tsv")
    forget_contigs(named.run)
    store = LocalStore(named.run)
    assert FinishedRun(store).contig_aliases == load_plan(store).document.contig_aliases == {"NC_000001.11": "chr1"}
    (tmp_path / "aliases.tsv").unlink()
    assert FinishedRun(store).contig_aliases == {}


def test_annotations_have_plain_numbers_whatever_the_fasta_has(tmp_path: Path) -> None:
    """LDSC, SLDP and PolyFun compare numbers of chromosomes with those of a .bim."""
    files: list[dict[str, bytes]] = []
    for name, names in (("chr", {}), ("plain", {"chr1": "1", "chr2": "2"})):
        named = named_run(tmp_path / name, names)
        with ExportSource(str(named.run), "sad") as source:
            export_ldsc(source, tmp_path / name / "l")
            export_sldp(source, tmp_path / name / "s")
            export_polyfun(source, tmp_path / name / "p")
        written = sorted((tmp_path / name).glob("[lsp].*"))
        files.append({path.name: path.read_bytes() for path in written})
    assert files[0] == files[1]
    assert len(files[0]) == 9  # of LDSC also the standard deviations
    assert gzip.decompress(files[0]["l.1.annot.gz"]).splitlines()[1].startswith(b"1\t2001\t1_2001_")
    assert set(pq.read_table(tmp_path / "chr" / "p.2.annot.parquet").column("CHR").to_pylist()) == {2}
