"""What the command `demo` prints of its own: how well scores agree with the world's rule, and what comes next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from enformer_ray.cli.console import console
from enformer_ray.cli.printing import print_line
from enformer_ray.config import OFFICIAL_WEIGHTS, JobConfig

if TYPE_CHECKING:
    from enformer_ray.demo.truth import Agreement


def print_agreement(agreement: Agreement) -> None:
    """Print the agreement of predicted (sad) with true effects, on sequence that the network has never seen."""
    console.print(Text("Predicted (sad) against true effects, on sequence that the network never saw:", style="bold"))
    table = Table("track", "variants that bear on it", "Spearman", "of all variants", "large effects", "right sign")
    table.box, table.pad_edge = None, False
    for column in table.columns[1:]:
        column.justify = "right"
    for track in agreement.tracks:
        figures = (f"{track.touched}", f"{track.spearman:.3f}", f"{track.spearman_all:.3f}", f"{track.large}")
        table.add_row(Text(track.description), *figures, _share(track.right_sign, track.large))
    console.print(table)
    for kind, (right, of) in agreement.signs.items():
        print_line(f"right sign of large effects on binding, {kind}s: {_share(right, of)} ({right} of {of})")
    right, of = agreement.distal
    print_line(
        f"breaking an enhancer 5 kb and more from its promoter lowers its expression: {_share(right, of)} ({right} of "
        f"{of} large losses); Spearman of the loss, all variants in enhancers: {agreement.distal_spearman:.3f}"
    )


def analyse(run: str, genes: Path, output: Path) -> None:
    """Relate the scores to the simulated study, print it, and write the report."""
    from enformer_ray.cli.associate import associate
    from enformer_ray.cli.report import report
    from enformer_ray.demo.study import CAUSAL

    print_line(f"The simulated trait acts through {' and '.join(CAUSAL)}; `enformer-ray associate` finds:")
    associate(run, output, gtf=genes, top=5, force=True)
    report(run, gtf=genes, profiles=3)


def print_demo_end(job: JobConfig) -> None:
    """Print what the demo is worth, where its files are, and how to score real variants."""
    print_line("")
    console.print(
        Text("This is a toy: a generated genome, nine tracks by a rule, a small network trained on it.", "bold")
    )
    print_line(f"The dataset: {job.output}/scores; every input allele: {job.output}/variants")
    print_line("With real weights and hg38:")
    print_line(
        f"  enformer-ray score --variants my.vcf.gz --reference hg38.fa --weights {OFFICIAL_WEIGHTS} --output runs/my"
    )


def _share(right: int, of: int) -> str:
    return f"{right / of:.1%}" if of else "-"
