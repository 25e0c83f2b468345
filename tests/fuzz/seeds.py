"""A good small file of each format: what the fuzz targets change."""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pysam

from enformer_ray.readers.known_dialects import DIALECTS

_PAGE = (Path(__file__).resolve().parents[2] / "docs" / "inputs.md").read_text()
_VCF = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
_FIELDS = "".join(f'##FORMAT=<ID={key},Number=A,Type=Float,Description="x">\n' for key in ("ES", "SE", "LP"))
_END = '##INFO=<ID=END,Number=1,Type=Integer,Description="End">'  # pysam writes it for a symbolic allele
_SITES = (
    ("1", 1024, "rs5", "G", "A"),
    ("chr1", 1030, ".", "AC", "A,ACC"),
    ("2", 7, "rs7", "T", "<DEL>"),
    ("X", 2_000_000_000, "rs9", "C", "*"),
)


def _vcf() -> bytes:
    return (_VCF + "".join("\t".join(map(str, site)) + "\t.\tPASS\tDP=3\n" for site in _SITES)).encode()


def _gwas_vcf() -> bytes:
    header = _VCF.replace("#CHROM", _FIELDS + "#CHROM").rstrip("\n") + "\tFORMAT\tstudy\n"
    values = ("0.05:0.01:6.2", "0.1,-0.2:0.01,.:6,7", ".:.:400", "1e-3:.:0")
    rows = zip(_SITES, values, strict=True)
    return (header + "".join("\t".join(map(str, s)) + f"\t.\t.\t.\tES:SE:LP\t{v}\n" for s, v in rows)).encode()


def _pvar() -> bytes:
    return ("#CHROM\tID\tPOS\tALT\tREF\n" + "".join(f"{c}\t{i}\t{p}\t{a}\t{r}\n" for c, p, i, r, a in _SITES)).encode()


def _table(separator: str) -> Callable[[], bytes]:
    def table() -> bytes:
        names = ["chrom", "pos", "ref", "alt", "id", "beta"]
        rows = [[c, str(p), r, f'"{a}"' if "," in a else a, i, "0.5"] for c, p, i, r, a in _SITES]
        return "".join(separator.join(row) + "\n" for row in [names, *rows]).encode()

    return table


def _bcf() -> bytes:
    header = pysam.VariantHeader()
    header.add_line(_END)
    for contig in ("1", "2", "X"):
        header.contigs.add(contig, length=2_000_000_001)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed.bcf"
        with pysam.VariantFile(str(path), "wb", header=header) as out:
            for contig, position, name, ref, alt in _SITES:
                site = header.new_record(contig.removeprefix("chr"), position - 1, position - 1 + len(ref))
                site.id, site.alleles = name, (ref, *alt.split(","))
                out.write(site)
        with pysam.BGZFile(str(path), "rb", None) as packed:
            return packed.read()


def _gwas_bcf() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        text, path = Path(folder) / "seed.vcf", Path(folder) / "seed.bcf"
        declared = "".join(f"##contig=<ID={name}>\n" for name in ("1", "chr1", "2", "X")) + f"{_END}\n"
        text.write_bytes(_gwas_vcf().replace(b"#CHROM", declared.encode() + b"#CHROM"))
        with pysam.VariantFile(str(text)) as source, pysam.VariantFile(str(path), "wb", header=source.header) as out:
            for site in source:
                out.write(site)
        with pysam.BGZFile(str(path), "rb", None) as packed:
            return packed.read()


def _parquet() -> bytes:
    columns = {
        "chromosome": ["1", "chr1", "2", None],
        "position": [1024, 1030, 7, 9],
        "reference_allele": ["G", "AC", "T", "C"],
        "alternate_allele": ["A", "A", None, "*"],
        "beta": [0.5, None, 1.0, float("nan")],
    }
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="none")
    return sink.getvalue()


def _parquet_of_a_study() -> bytes:
    columns = {"chromosome": [1, 1, 23, None], "base_pair_location": [1024, 1030, 7, 9], "beta": [0.5, None, 1, 2]}
    columns |= {"standard_error": [0.1] * 4, "effect_allele_frequency": [0.5] * 4, "p_value": [0.1] * 4}
    sink = io.BytesIO()
    table = pa.table({**columns, "effect_allele": ["A", "C", "T", "A"], "other_allele": ["G", "A", "C", None]})
    pq.write_table(table, sink, compression="none")
    return sink.getvalue()


def _example(key: str) -> Callable[[], bytes]:
    """The example that the documentation has of a dialect, its row three times."""

    def example() -> bytes:
        found = re.search(rf"^`{re.escape(key)}`[^\n]*\n\n((?:    [^\n]+\n)+)", _PAGE, re.MULTILINE)
        assert found, f"docs/inputs.md has no example of {key}"
        lines = ["\t".join(line.split()) for line in found[1].splitlines()]
        return ("\n".join([*lines, lines[-1], lines[-1]]) + "\n").encode()

    return example


def _sumstats(*lines: str, separator: str = "\t") -> Callable[[], bytes]:
    """A table of results of no known program."""
    return lambda: "".join(separator.join(line.split()) + "\n" for line in lines).encode()


def contigs() -> dict[str, str]:
    """Bases of a reference that the seeds fit on: contig 1 has GAC.. where most of their records are."""
    bases = ("ACGTACAAAT" * 205)[:2048]
    one = bases[:1023] + "G" + bases[1024:1029] + "AC" + bases[1031:]
    return {"1": one, "2": "ACGGTAT" + "ACGT" * 100, "X": "N" * 50 + "ACGT" * 20}


SEEDS: dict[str, Callable[[], bytes]] = {
    "vcf": _vcf,
    "pvar": _pvar,
    "gwas-vcf": _gwas_vcf,
    "bcf": _bcf,
    "gwas-bcf": _gwas_bcf,
    "parquet": _parquet,
    "parquet-gwas-ssf": _parquet_of_a_study,
    "table-tsv": _table("\t"),
    "table-csv": _table(","),
    "sumstats": _sumstats(
        "CHROM POS REF ALT EA BETA SE P N AF",
        "1 1024 G A G 0.5 0.1 1e-9 1000 0.3",
        "1 1024 G A A 0.5 0.1 0 1000 0.3",
        "X 60 T C . inf 0 1e-400 NA 1.5",
    ),
    "sumstats-variant": _sumstats(
        "variant A1 A2 Z N TEST",
        "1:1024:G:A A G 3.5 1000 ADD",
        "chr1_1030_AC_A C T -0.5 NA ADD",
        "rs5 a g nan 7 DOM",
        separator="  ",
    ),
    "regenie-traits": _sumstats(
        "CHROM GENPOS ID ALLELE0 ALLELE1 A1FREQ N TEST BETA.Y1 SE.Y1 LOG10P.Y1 BETA.Y2 SE.Y2 LOG10P.Y2",
        *["1 1024 rs5 G A 0.2 1000 ADD 0.05 0.01 6.2 0.5 0.1 350.5"] * 3,
        separator=" ",
    ),
    "table-numbers": _sumstats("variantId AF N PIP", "1:1024:G:A 0.2 1000 0.5", "chr1_1030_AC_A 2 -1 0.5"),
    **{dialect.key: _example(dialect.key) for dialect in DIALECTS},
}
"""Name of a target -> makes its file, unpacked."""
