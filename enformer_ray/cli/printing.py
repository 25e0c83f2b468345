"""What commands print: tables and a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Self, TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from enformer_ray.cli.terminal import Table, Text, console, print_line, standard_output

if TYPE_CHECKING:
    import pyarrow as pa

    from enformer_ray.api import FinishedRun, Saturation, Step
    from enformer_ray.engine.progress import Progress, RunOutcome
    from enformer_ray.model.enformer import Enformer
    from enformer_ray.planning.plan import Plan
    from enformer_ray.planning.preview import Preview
    from enformer_ray.planning.reuse import Origin, ReuseAccount
    from enformer_ray.publish.audit import AuditReport
    from enformer_ray.publish.documents import FailedVariant
    from enformer_ray.publish.finalise import FinaliseProgress
    from enformer_ray.publish.verify import Verified, VerifyProgress
    from enformer_ray.readers.table_use import TableUse
    from enformer_ray.rundir.manifest import AccountLine


def duration(seconds: float) -> str:
    """Seconds as `2 h 5 min`, `3 min 20 s` or `7.5 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s" if seconds < 10 else f"{rest} s"


Counts = TypeVar("Counts")

SECONDS_BETWEEN_LINES = 10
_FAILURES = 10

_ORIGINS: dict[Origin, str] = {
    "reused": "taken from a previous run",
    "new": "in no previous run",
    "changed": "scored before, but in another way or from other bases",
    "failed": "could not be scored before",
}


def cut(text: str, length: int = 80) -> str:
    """The beginning of a text that is too long for a table."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def print_plan(plan: Plan) -> None:
    """Print the account of a plan, and its size."""
    document = plan.document
    print_tables(document.tables)
    print_account(document.account)
    print_changes(document.changes)
    if document.reuse is not None:
        print_reuse(document.reuse)
    variants = counted(document.planned_variants, "variant")
    at_tss = "" if document.config.genes is None else f" at transcription starts (of {variants})"
    to_score = "" if document.reuse is None else f", {document.to_score:,} of them to score,"
    print_line(
        f"Planned {counted(document.planned, 'variant')}{at_tss}{to_score} in {counted(document.shards, 'shard')}: "
        f"{document.config.output} "
        f"({len(document.tracks):,} tracks, {', '.join(document.config.scoring.statistics)}; "
        f"fingerprint {document.fingerprint[:12]})"
    )


def print_tables(tables: Iterable[TableUse]) -> None:
    """Print which columns of tables are read, and which are not."""
    for table in tables:
        other = table.used.get("other_allele") or table.used.get("reference_allele")
        alleles = table.effect_allele + (f", other allele {other}" if other else "")
        used = ", ".join(dict.fromkeys(table.used.values()))
        ignored = f"ignored: {', '.join(table.ignored)}" if table.ignored else "none is ignored"
        print_line(f"{table.file} ({table.format}): effect allele {alleles}; columns used: {used}; {ignored}.")
        if table.rule:
            print_line(f"  Here {table.rule}.")


def print_account(account: Iterable[AccountLine]) -> None:
    """Print how many input alleles have each status; the lines add up to the input."""
    console.print(account_table(account))


def print_changes(changes: Mapping[str, Mapping[str, int]]) -> None:
    """Print how many input alleles were harmonised and lifted over, by kind of change."""
    for name, counts in changes.items():
        ways = ", ".join(f"{n:,} {way}" for way, n in sorted(counts.items(), key=lambda item: -item[1]))
        print_line(f"{name}: {ways}")


def counted(number: int, what: str) -> str:
    """A number and what it counts."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def account_table(account: Iterable[AccountLine]) -> Table:
    """How many input alleles have each status; the lines add up to the input."""
    lines = list(account)
    table = Table("alleles", "status", "reason")
    table.columns[0].justify = "right"
    for line in lines:
        table.add_row(f"{line.alleles:,}", line.status, line.reason or "")
    table.add_row(f"{sum(line.alleles for line in lines):,}", "in all", "")
    return table


def print_preview(preview: Preview, rate: float) -> None:
    """Print what a job would do and cost on a device of `rate` TFLOP/s."""
    print_tables(preview.tables)
    print_account(preview.account)
    print_changes(preview.changes)
    if preview.reuse is not None:
        print_reuse(preview.reuse)
    table = Table(
        "placement",
        "reference windows",
        "passes",
        "trunk tiles",
        "TFLOP",
        "of two plain passes",
    )
    table.add_column(f"hours at {rate:g} TFLOP/s")
    for column in table.columns[1:]:
        column.justify = "right"
    for cost in preview.costs:
        table.add_row(
            f"{cost.placement}{' *' if cost.placement == preview.placement else ''}",
            f"{cost.windows:,}",
            f"{cost.passes:,}",
            f"{cost.tiles:,}",
            f"{cost.teraflop:,.2f}",
            f"1/{preview.direct_teraflop / cost.teraflop:.1f}" if cost.teraflop else "-",
            f"{cost.teraflop / rate / 3600:,.4g}",
        )
    console.print(table)
    audit = preview.audited * preview.direct_teraflop / max(1, preview.variants)
    print_line(f"The audit adds {audit:,.2f} TFLOP: {preview.audited:,} of them scored again by plain passes.")
    print_line(
        f"* this job: {preview.variants:,} variants, {preview.tracks:,} tracks x {preview.statistics} statistics "
        f"({_bytes(preview.output_bytes)} before compression) on {preview.device}, batches of {preview.batch_size}. "
        "Nothing was written."
    )


def print_outcome(outcome: RunOutcome) -> None:
    """Print what a run did."""
    if outcome.shards == 0:
        print_line("Nothing was left to score.")
        return
    print_line(
        f"Scored {counted(outcome.variants, 'variant')} in {counted(outcome.shards, 'shard')} on {outcome.workers} "
        f"{'worker' if outcome.workers == 1 else 'workers'}: {duration(outcome.seconds)}, "
        f"{outcome.variants / outcome.seconds:.3g} variants/s."
    )


def print_audit(audit: AuditReport) -> None:
    """Print how far the scores differ from plain float32 passes, and how many are noise."""
    if not audit.variants and not audit.seconds:
        print_line("Audit: none, as nothing was scored; those of the previous runs stand.")
        return
    if not audit.variants:
        print_line("Audit: no variant of its sample could be scored, so none was scored again.")
        return
    print_line(
        f"Audit: {audit.variants:,} {'variant' if audit.variants == 1 else 'variants'} scored again by plain float32 "
        f"passes, {audit.direct_seconds:.3g} s each; the run took {audit.seconds:.3g} s a variant and worker."
    )
    table = Table("statistic", "largest deviation", "median", "of the bound")
    table.add_column("scores below noise")
    table.add_column("rank correlation")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, found in audit.statistics.items():
        table.add_row(
            name,
            f"{found.largest_deviation:.3g}",
            f"{found.median_deviation:.3g}",
            f"{found.largest_of_bound:.3g}",
            f"{found.below_floor:.2%}",
            "-" if found.rank_correlation is None else f"{found.rank_correlation:.5f}",
        )
    console.print(table)
    if audit.precision != "float32":
        print_line(f"That is what {audit.precision} costs: a score below its track's floor in audit.parquet is noise.")


def print_failures(run_directory: str, failures: Sequence[FailedVariant], number: int) -> None:
    """Print the first variants without a score, and where all `number` of them are listed."""
    table = Table("failed variant", "reason", "attempts", "detail")
    for failed in failures[:_FAILURES]:
        detail = " ".join(failed.detail.split())
        cells = (_short(failed.variant_id, 40), failed.reason, str(failed.attempts), _short(detail, 80))
        table.add_row(*map(Text, cells))
    console.print(table)
    print_line(
        f"{number:,} {'variant has' if number == 1 else 'variants have'} no score, all others do. All of them: "
        f"status `failed` in {run_directory}/variants; with details: `failures` in {run_directory}/run.json."
    )


def print_verified(verified: Verified) -> None:
    """Print that a dataset is complete, and which files in its folders do not belong to it."""
    manifest = verified.manifest
    size = _bytes(sum(file.bytes for file in manifest.files))
    print_line(
        f"Whole: {manifest.rows:,} variants ({manifest.failed:,} failed) x {len(manifest.statistics)} statistics in "
        f"{len(manifest.files):,} files, {size}."
    )
    for path in verified.unlisted:
        print_line(f"Not part of the dataset, but read by whoever globs the folder: {path}")
    print_line(f"content hash {verified.content_hash}")


def print_paths(paths: Iterable[str]) -> None:
    """Print paths for other programs: as they are, one a line."""
    output = standard_output()
    sys.stdout.flush()
    for path in paths:
        output.write(f"{path}\n".encode(errors="surrogateescape"))


def print_top(top: pa.Table, statistic: str) -> None:
    """Print the variants with the largest scores; long alleles are cut, the dataset holds them whole."""
    genes = ["gene", "from its start"] if "gene_name" in top.column_names else []
    numbers = {statistic: "score"} | {name: name for name in ("quantile", "z") if name in top.column_names}
    table = Table("variant", *genes, "indel", "track", "description")
    for name in numbers:
        table.add_column(name, justify="right")
    for row in top.to_pylist():
        alleles = f"{_short(row['reference_allele'])}>{_short(row['alternate_allele'])}"
        variant = f"{row['chromosome']}:{row['position']} {alleles}"
        gene = (_short(row["gene_name"], 30), f"{row['tss_distance']:+,} bp") if genes else ()
        cells = (variant, *gene, row["indel_convention"], row["track"], row["description"] or "")
        values = {name: row[key] for name, key in numbers.items()}
        formats = (f"{value:.{6 if name == 'quantile' else 4}g}" for name, value in values.items())
        table.add_row(*map(Text, cells), *formats)
    console.print(table)


def _short(allele: str, most: int = 10) -> str:
    return allele if len(allele) <= most else f"{allele[: most - 4]}..({len(allele)})"


def print_weights(source: str, model: Enformer) -> None:
    """Print the geometry and the digest of weights."""
    config = model.config
    heads = ", ".join(f"{name} {tracks:,} tracks" for name, tracks in config.output_heads.items())
    print_line(f"{source}: {config.sequence_length:,} bp, {config.bins:,} bins, {config.channels:,} channels, {heads}")
    print_line(f"digest {model.digest}")


@contextmanager
def progress_reporter() -> Iterator[Callable[[Progress], None]]:
    """A function that shows progress: a bar on a terminal, a line every ten seconds elsewhere."""
    if not console.is_terminal:
        yield _LineReporter()
        return
    with Bar(
        TextColumn("scoring"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("variants, {task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        redirect_stderr=sys.stderr.isatty(),  # warnings go above the bar, but into a file if they were sent there
    ) as bar:
        task = bar.add_task("", total=None, rate="starting")

        def show(progress: Progress) -> None:
            rate = f"{progress.variants_per_second:.3g}/s" if progress.variants_per_second else "starting"
            bar.update(task, total=progress.variants_total, completed=progress.variants_done, rate=rate)

        yield show


def now_and_then(line: Callable[[Counts], str]) -> Callable[[Counts], None]:
    """A function that prints a line of progress every ten seconds, and none if all takes less."""
    last = [time.monotonic()]

    def show(progress: Counts) -> None:
        if time.monotonic() - last[0] >= SECONDS_BETWEEN_LINES:
            last[:] = [time.monotonic()]
            print_line(line(progress))
            sys.stdout.flush()

    return show


class StepPrinter:
    """Prints the steps that `enformer_ray.api` reports; a context, at whose end no progress bar is left."""

    def __init__(self) -> None:
        self._bar = ExitStack()
        self._report: Callable[[Progress], None] | None = None
        self._finalising = now_and_then(finalise_line)

    def __enter__(self) -> Self:
        """Nothing is shown yet: a run may be refused before its first step."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bar."""
        self.stop_bar()

    def __call__(self, step: Step) -> None:
        """Print a step; of those that come often, one now and then."""
        # Whoever reports a step has imported its class; the command line itself starts without them.
        from enformer_ray import api
        from enformer_ray.engine.progress import Progress, RunOutcome
        from enformer_ray.planning.plan import Plan
        from enformer_ray.publish.finalise import FinaliseProgress

        match step:
            case Plan():
                print_plan(step)
            case Progress():
                if self._report is None:
                    self._report = self._bar.enter_context(progress_reporter())
                self._report(step)
            case RunOutcome():
                self.stop_bar()
                print_outcome(step)
                self._finalising = now_and_then(finalise_line)
            case FinaliseProgress():
                self._finalising(step)
            case api.FinishedRun():
                print_finished(step)
            case api.Saturation():
                print_importance(step)

    def stop_bar(self) -> None:
        """Let what is printed next be the last thing on the screen."""
        self._bar.close()
        self._report = None


def print_finished(run: FinishedRun) -> None:
    """Print the audit, where the dataset is, and what could not be scored."""
    print_audit(run.audit)
    print_line(f"Finished: {run.uri}/scores (content hash {run.content_hash})")
    if run.failed:
        print_failures(run.uri, run.failures, run.failed)


def print_importance(saturated: Saturation) -> None:
    """Print the files of importance, and which bases and statistics have none."""
    written = saturated.importance
    for path in written.paths:
        print_line(f"Wrote {written.bases:,} bases: {saturated.run.uri}/{path}")
    if written.incomplete:
        print_line(f"{written.incomplete:,} bases have fewer than three substitutions in the run and are left out.")
    for statistic in written.without:
        print_line(f"{statistic} is no signed change, so that no importance follows from it.")


def finalise_line(progress: FinaliseProgress) -> str:
    """Progress of a finalise."""
    return f"finalising: {progress.files:,} files, {progress.rows:,} of {progress.rows_total:,} rows of all statistics"


def verify_line(progress: VerifyProgress) -> str:
    """Progress of a verification."""
    return (
        f"verifying: {progress.files:,} of {progress.files_total:,} files, "
        f"{_bytes(progress.bytes)} of {_bytes(progress.bytes_total)}"
    )


class _LineReporter:
    """Prints a line at the start, at the end, and at most every ten seconds between."""

    def __init__(self) -> None:
        self._last = -float("inf")

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last < SECONDS_BETWEEN_LINES and progress.variants_done < progress.variants_total:
            return
        self._last = now
        left = "" if progress.seconds_left is None else f", {duration(progress.seconds_left)} left"
        rate = f", {progress.variants_per_second:.3g} variants/s" if progress.variants_per_second else ""
        print_line(
            f"{progress.variants_done:,} of {progress.variants_total:,} variants, "
            f"{progress.shards_done:,} of {progress.shards_total:,} shards{rate}{left}"
        )
        sys.stdout.flush()


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def print_reuse(account: ReuseAccount) -> None:
    """Print how many variants have scores in previous runs, and which runs could not be used and why."""
    table = Table("variants", "")
    table.columns[0].justify = "right"
    for name, meaning in _ORIGINS.items():
        table.add_row(f"{account.origins[name]:,}", Text(f"{name}: {meaning}"))
    table.add_row(f"{account.gone:,}", Text("gone: in a previous run, not in this release"))
    console.print(table)
    for run in account.runs:
        if run.differs:
            why = f"nothing, since its scores are made in another way ({'; '.join(run.differs)})"
        else:
            why = f"{run.reused:,} of its {run.rows:,} variants"
            if run.other_reference:
                why += f"; {run.other_reference:,} have other bases in their windows now"
        if run.derived and run.reused:
            why += f"; {', '.join(run.derived)} computed from what it has"
        console.print(Text(f"from {run.uri}: {why}"))
    if not account.to_score:
        console.print(Text("Nothing new: every variant has its score already, and none is scored."))
