"""The command `associate`: its options, and the tables that it prints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from enformer_ray.cli.console import console

if TYPE_CHECKING:
    import pyarrow as pa

    from enformer_ray.analysis.association.associate import Association

_STUDY, _CASES, _OUTPUT = "The study", "Enrichment and covariates", "Output"
_SHOWN_SETS = 5


def _option(help_text: str, panel: str, **more: Any) -> Any:
    return typer.Option(help=help_text, rich_help_panel=panel, **more)


def associate(
    run_directory: Annotated[str, typer.Argument(metavar="RUN", help="directory of a finished run")],
    output: Annotated[Path, _option("new or empty folder for the tables", _OUTPUT)],
    sumstats: Annotated[
        list[str] | None,
        _option("summary statistics; may be repeated (default: the study columns of the run's own inputs)", _STUDY),
    ] = None,
    statistic: Annotated[str | None, _option("statistic of the run (default: its first)", _STUDY)] = None,
    format: Annotated[str | None, _option("format of --sumstats (default: by what they hold)", _STUDY)] = None,
    study: Annotated[str | None, _option("sample of a GWAS-VCF that holds several", _STUDY)] = None,
    columns: Annotated[
        list[str] | None, _option("column of --sumstats, as `beta=BETA`; may be repeated", _STUDY)
    ] = None,
    chain: Annotated[Path | None, _option("chain file from the assembly of --sumstats to the run's", _STUDY)] = None,
    reference: Annotated[Path | None, _option("the run's FASTA, if it has been moved since", _STUDY)] = None,
    gtf: Annotated[Path | None, _option("genes (GTF), for the distance to the nearest TSS", _CASES)] = None,
    ld_scores: Annotated[str | None, _option("LD scores of LDSC; a glob, or @ for the chromosome", _CASES)] = None,
    cases: Annotated[str, _option("auto, credible-sets or p-value", _CASES)] = "auto",
    min_pip: Annotated[float | None, _option("lowest PIP of a case (default: any member of a set)", _CASES)] = None,
    p_threshold: Annotated[float, _option("largest p-value of a case", _CASES)] = 5e-8,
    control_p: Annotated[float, _option("controls of low p have a larger one than this", _CASES)] = 0.05,
    controls: Annotated[int, _option("matched controls for each case, at most", _CASES, min=1)] = 10,
    blocks: Annotated[int, _option("genomic blocks of the jackknife, at most", _CASES, min=10)] = 200,
    prior_tracks: Annotated[int, _option("tracks that re-weight credible sets", _CASES, min=1)] = 10,
    seed: Annotated[int, _option("of the draw of controls", _CASES, min=0)] = 0,
    top: Annotated[int, _option("tracks to print", _OUTPUT, min=1)] = 10,
    force: Annotated[bool, _option("replace an earlier analysis in --output", _OUTPUT)] = False,
) -> None:
    """Relate scores to GWAS or fine-mapping results: correlation, enrichment, re-weighted credible sets."""
    from enformer_ray.analysis.association import associate as analyse
    from enformer_ray.analysis.association.options import AssociationOptions, SumstatsOptions, check_cases
    from enformer_ray.analysis.association.write import check_folder, write_association

    read = SumstatsOptions(
        files=tuple(sumstats or ()),
        format=format,
        study=study,
        columns=dict(pair.partition("=")[::2] for pair in columns or ()),
        chain=chain,
        reference=reference,
    )
    options = AssociationOptions(
        statistic=statistic,
        sumstats=read,
        gtf=gtf,
        ld_scores=ld_scores,
        cases=check_cases(cases),
        min_pip=min_pip,
        p_threshold=p_threshold,
        control_p=control_p,
        controls=controls,
        blocks=blocks,
        prior_tracks=prior_tracks,
        seed=seed,
    )
    check_folder(output, force)
    association = analyse(run_directory, options)
    write_association(association, output)
    print_association(association, top)
    console.print(Text(f"Wrote {output}: tracks.parquet, assays.parquet, credible_sets.parquet, association.json"))


def print_association(association: Association, top: int) -> None:
    """Print what became of records and variants, the strongest tracks, all assays, and the first credible sets.

    Args:
        association: what was found.
        top: tracks to print.
    """
    summary = association.summary
    _print_counts("records", summary["records"])
    _print_counts("variants", summary["variants"])
    enrichment = summary["enrichment"]
    adjusted = ", ".join(enrichment["covariates"]) or "nothing"
    console.print(Text(f"cases are {enrichment['cases_are']}; adjusted for {adjusted}"))
    _print_counts("enrichment", {k: v for k, v in enrichment.items() if type(v) is int})
    if not enrichment["computed"]:
        console.print(Text("enrichment was not computed: there are too few cases or controls"))
    key = "log_odds_p" if enrichment["computed"] else "abs_spearman_p"
    best = association.tracks.sort_by([(key, "ascending")]).slice(0, top)
    console.print(_statistics_table(best, ["column", "description"]))
    console.print(_statistics_table(association.assays, ["assay", "tracks"]))
    _print_sets(association.credible_sets)


def _print_counts(what: str, counts: Mapping[str, int]) -> None:
    listed = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())
    console.print(Text(f"{what}: {listed}"))


def _statistics_table(rows: pa.Table, names: list[str]) -> Table:
    table = Table(*names, "|score| ~ chi2", "p", "score ~ z", "p", "log odds / SD", "p", "q", box=None, pad_edge=False)
    for column in table.columns[len(names) :]:
        column.justify = "right"
    for row in rows.to_pylist():
        cells = [Text("" if row[name] is None else str(row[name])[:50]) for name in names]
        for name in ("abs_spearman", "signed_spearman", "log_odds"):
            value, error = row[name], row[f"{name}_se"]
            cells.append(Text("-" if value is None else f"{value:.3f} +- {_number(error)}"))
            cells.append(Text(_number(row[f"{name}_p"])))
        table.add_row(*cells, Text(_number(row["log_odds_q"])))
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _print_sets(sets: pa.Table) -> None:
    """The first variant of each of the first credible sets by the first track."""
    if not sets.num_rows:
        return
    table = Table("credible set", "variants", "variant", "PIP", "track", "score", "posterior", box=None, pad_edge=False)
    shown: set[str] = set()
    for row in sets.slice(0, 10_000).to_pylist():
        if row["credible_set"] not in shown and len(shown) < _SHOWN_SETS:
            shown.add(row["credible_set"])
            values = (row["variants"], row["variant_id"], _number(row["pip"]), row["track"], _number(row["score"]))
            cells = (str(row["credible_set"])[:40], *values, _number(row["posterior"]))
            table.add_row(*(Text(str(cell)) for cell in cells))
    console.print(table)
