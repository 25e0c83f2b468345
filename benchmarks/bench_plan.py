"""Planning millions of variants, against `bcftools norm -m-any -f REF | bcftools sort` on the same file.

Prints variants/s of both, and last the ratio with its spread; peak memory of all processes together; and checks that
both give the same set of (chromosome, position, REF, ALT).
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb
from process_memory import Measured, measure
from sites import write_genome, write_sites

from enformer_ray.catalogue.build import build_catalogue
from enformer_ray.config import CatalogueConfig
from enformer_ray.genome.reference import ReferenceGenome


def main() -> None:
    """Generate, measure in turns, compare."""
    arguments = _arguments()
    if arguments.catalogue_only:
        variants, fasta, scratch = arguments.catalogue_only
        reference = ReferenceGenome(Path(fasta))
        build_catalogue([variants], reference, CatalogueConfig(), 196_608, "binned", Path(scratch))
        return
    with tempfile.TemporaryDirectory(prefix="enformer-ray-bench-", dir=arguments.folder) as name:
        folder = Path(name)
        genome = write_genome(folder / "genome.fa", int(arguments.genome_mb * 1e6), arguments.contigs)
        ReferenceGenome(folder / "genome.fa")  # its index
        weights = _tiny_weights(folder / "weights.safetensors")
        for millions in arguments.millions:
            path = folder / "sites.vcf"
            records = write_sites(path, genome, int(millions * 1e6))
            print(
                f"{records:,} records, {path.stat().st_size / 1e6:,.0f} MB, "
                f"genome of {arguments.genome_mb} Mb in {arguments.contigs} contigs"
            )
            _compare(path, folder, weights, records, arguments.turns)


def _tiny_weights(path: Path) -> Path:
    from common import TINY  # brings torch, which the catalogue alone does without

    from enformer_ray.model.checkpoint import save_weights
    from enformer_ray.model.enformer import Enformer

    save_weights(Enformer(TINY), path)
    return path


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=float, nargs="+", default=[1, 3, 10], help="variants")
    parser.add_argument("--genome-mb", type=float, default=300, help="size of the genome")
    parser.add_argument("--contigs", type=int, default=5, help="contigs of it: a plan's memory follows the longest")
    parser.add_argument("--turns", type=int, default=3, help="pairs of runs")
    parser.add_argument("--folder", help="for temporary files")
    parser.add_argument("--catalogue-only", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def _compare(path: Path, folder: Path, weights: Path, records: int, turns: int) -> None:
    from common import spread

    fasta, run, scratch, out = folder / "genome.fa", folder / "run", folder / "scratch", folder / "norm.bcf"
    sort = f"bcftools sort -Ou -T {folder}/sort -o {out}"
    peer = f"set -o pipefail; bcftools norm -m-any -f {fasta} -Ou {path} | {sort}"
    plan = f"{sys.executable} -m enformer_ray plan --variants {path} --reference {fasta} --weights {weights}"
    alone = f"{sys.executable} {__file__} --catalogue-only {path} {fasta} {scratch}"
    results: dict[str, list[Measured]] = {"bcftools": [], "catalogue": [], "plan": []}
    for _ in range(turns):
        shutil.rmtree(run, ignore_errors=True)
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        results["bcftools"].append(measure(["bash", "-c", peer]))
        results["catalogue"].append(measure(shlex.split(alone)))
        results["plan"].append(measure(shlex.split(f"{plan} --output {run}")))
    for name, measured in results.items():
        rates = [records / one.seconds for one in measured]
        print(
            f"  {name}: {spread(rates)} records/s, {spread([one.cpu_seconds for one in measured])} CPU seconds, "
            f"peak {max(one.peak_gib for one in measured):.2f} GiB",
            flush=True,
        )
    _check_same(out, run)
    for name in ("plan", "catalogue"):
        pairs = zip(results["bcftools"], results[name], strict=True)
        ratios = [(theirs.seconds / ours.seconds, theirs.cpu_seconds / ours.cpu_seconds) for theirs, ours in pairs]
        times, cpu = zip(*ratios, strict=True)
        print(f"  {name} / bcftools, records a CPU second: {spread(cpu)}")
        print(f"  {name} / bcftools, records/s: {spread(times)}", flush=True)


def _check_same(bcf: Path, run: Path) -> None:
    query = ["bcftools", "query", "-f", "%CHROM\\t%POS\\t%REF\\t%ALT\\n", "-o", f"{bcf}.tsv", str(bcf)]
    subprocess.run(query, check=True)
    differing, theirs = duckdb.execute(
        f"""
        WITH theirs AS (SELECT DISTINCT c.replace('chr', '') c, p, r, a FROM
                        read_csv('{bcf}.tsv', names=['c', 'p', 'r', 'a'], all_varchar=true, header=false)),
             ours AS (SELECT chromosome c, position::VARCHAR p, reference_allele r, alternate_allele a
                      FROM read_parquet('{run}/plan/variants/*.parquet')),
             differing AS ((FROM theirs EXCEPT ALL FROM ours) UNION ALL (FROM ours EXCEPT ALL FROM theirs))
        SELECT (SELECT count(*) FROM differing), (SELECT count(*) FROM theirs)
        """
    ).fetchall()[0]
    print(f"  {theirs:,} different variants by bcftools; {differing} are only with it or only in the plan")
    if differing:
        raise SystemExit("the sets differ")


if __name__ == "__main__":
    main()
