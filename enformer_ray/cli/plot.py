"""`enformer-ray plot`: pictures of a finished run for papers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from enformer_ray.cli.report import Gtf, Statistic, Tracks

plot_app = typer.Typer(help="Pictures of a finished run for papers: PNG, SVG or PDF.", no_args_is_help=True)

Run = Annotated[str, typer.Argument(metavar="RUN", help="run directory")]
Output = Annotated[Path, typer.Option(help="file to write: .png, .svg or .pdf")]
Width = Annotated[float, typer.Option(min=2, max=40, help="width of the picture, inches")]


@plot_app.command("manhattan")
def plot_manhattan(
    run_directory: Run, output: Output, statistic: Statistic = None, tracks: Tracks = None, width: Width = 7.2
) -> None:
    """Variants along the genome: -log10 p where the study has it, else |score|; coloured by score."""
    from enformer_ray.analysis.plots.manhattan import draw_manhattan
    from enformer_ray.analysis.plots.style import save
    from enformer_ray.analysis.sweep import sweep
    from enformer_ray.rundir.store import open_store

    save(output, lambda: draw_manhattan(sweep(open_store(run_directory), statistic, tracks or []), width))
    _tell(output)


@plot_app.command("heatmap")
def plot_heatmap(
    run_directory: Run,
    output: Output,
    statistic: Statistic = None,
    tracks: Tracks = None,
    top: Annotated[int, typer.Option(min=1, max=200, help="variants with the largest scores")] = 20,
    most_tracks: Annotated[
        int, typer.Option(min=1, max=200, help="tracks at most: those with the largest scores of these variants")
    ] = 40,
    width: Width = 7.2,
) -> None:
    """Scores of the top variants in the tracks where they are largest."""
    from enformer_ray.analysis.plots.heatmap import draw_heatmap
    from enformer_ray.analysis.plots.style import save
    from enformer_ray.analysis.sweep import sweep
    from enformer_ray.rundir.store import open_store

    swept = sweep(open_store(run_directory), statistic, tracks or [], top)
    save(output, lambda: draw_heatmap(swept, most_tracks, width))
    _tell(output)


@plot_app.command("track")
def plot_track(
    run_directory: Run,
    output: Output,
    variant: Annotated[
        str | None, typer.Option(help="variant_id, such as 1_1024_A_C (default: the one with the largest score)")
    ] = None,
    statistic: Statistic = None,
    tracks: Tracks = None,
    gtf: Gtf = None,
    around: Annotated[
        int | None, typer.Option(min=128, help="bp on each side of the variant (default: all that is predicted)")
    ] = None,
    width: Width = 7.2,
) -> None:
    """Reference and alternate tracks around a variant, their difference, and genes; predicted again with the model."""
    from enformer_ray.analysis.plots.style import save
    from enformer_ray.analysis.plots.track import draw_profile
    from enformer_ray.analysis.sweep import sweep
    from enformer_ray.analysis.top_profiles import pick_one, pick_top, top_profiles
    from enformer_ray.rundir.store import open_store

    store, selectors = open_store(run_directory), tracks or []
    if variant is None:
        picked = pick_top(sweep(store, statistic, selectors, top=1), 1)
    else:
        picked = pick_one(store, variant, statistic, selectors)
    save(output, lambda: draw_profile(top_profiles(picked, gtf)[0], picked.rows.statistic, around, width))
    _tell(output)


@plot_app.command("logo")
def plot_logo(
    run_directory: Run,
    output: Output,
    statistic: Statistic = None,
    tracks: Tracks = None,
    region: Annotated[
        list[str] | None, typer.Option(help="chr8:1000-1200, 1-based, both ends included (default: all of the run)")
    ] = None,
    line: Annotated[int, typer.Option(min=10, max=1000, help="bases of a line")] = 100,
    width: Width = 7.2,
) -> None:
    """Sequence logo of a saturated run: letters as tall as what their base contributes; a picture a track."""
    from enformer_ray.analysis.saturation.logos import draw_logos
    from enformer_ray.dataset.dataset import open_scores

    scores = open_scores(run_directory)
    scores = scores.where(region=region) if region else scores
    scores = scores.tracks(*tracks) if tracks else scores
    for path in draw_logos(scores, output, statistic, line, width):
        _tell(path)


def _tell(output: Path) -> None:
    from enformer_ray.cli.printing import print_line

    print_line(f"Wrote {output}.")
