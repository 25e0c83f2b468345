from __future__ import annotations

import os
import signal
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import JobConfig, Placement
from enformer_ray.engine.status import run_status
from enformer_ray.engine.worker import ScoringWorker
from enformer_ray.errors import ConfigError, MismatchError, RunIncompleteError, RunInterruptedError, StoreError
from enformer_ray.genome.coordinates import window_start
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.model.checkpoint import save_weights
from enformer_ray.model.enformer import Enformer
from enformer_ray.planning import shards as plan_shards
from enformer_ray.planning.plan import Plan, load_plan, make_plan
from enformer_ray.planning.preview import preview
from enformer_ray.planning.shards import Shard, whole_part
from enformer_ray.planning.variants import PlannedVariants
from enformer_ray.rundir import layout
from enformer_ray.rundir.store import LocalStore
from enformer_ray.scoring.scorer import ReuseScorer
from tests.run_fixtures import ALLELES, GEOMETRY, SNVS, edit_plan, write_weights


def scoring_with(job: JobConfig, **changes: object) -> JobConfig:
    return job.model_copy(update={"scoring": job.scoring.model_copy(update=changes)})


def contents(folder: Path) -> dict[str, bytes]:
    """Files of a run directory but for its lease."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not name.startswith("lease/")}


def variants_of(plan: Plan, shard: Shard) -> list[Variant]:
    return PlannedVariants(plan).variants(whole_part(shard))


@pytest.fixture
def planned(job: JobConfig, tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "planned")
    make_plan(job, store)
    return store


def test_every_variant_is_in_one_shard(planned: LocalStore, job: JobConfig) -> None:
    plan = load_plan(planned)
    shards = list(plan.shards())
    rows = [variant for shard in shards for variant in variants_of(plan, shard)]
    assert len(set(rows)) == len(rows) == plan.document.planned == SNVS + 1
    assert [shard.first_variant for shard in shards] == list(np.cumsum([0] + [s.variants for s in shards])[:-1])
    assert max(shard.variants for shard in shards) <= (job.shard_size or 0)
    for shard in shards:
        variants = variants_of(plan, shard)
        assert {variant.chromosome for variant in variants} == {shard.chromosome}
        assert (shard.start, shard.end) == (min(v.start for v in variants), max(v.end for v in variants))
        assert shard.cost > 0


def test_a_plan_that_is_divided_in_pieces(job: JobConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_shards, "_DIVIDED_ROWS", 3)
    store = LocalStore(tmp_path / "run")
    plan = make_plan(job, store)
    test_every_variant_is_in_one_shard(store, job)
    assert max(shard.variants for shard in plan.shards()) == 3
    for chromosome in plan.document.variants:
        written = pq.read_table(store.local_path(layout.plan_variants(chromosome)))
        shards = [s for s in plan.shards() if s.chromosome == chromosome]
        assert written["shard"].to_pylist() == [s.shard for s in shards for _ in range(s.variants)]


def test_the_account_adds_up(planned: LocalStore) -> None:
    document = load_plan(planned).document
    counts = {(line.status, line.reason): line.alleles for line in document.account}
    assert counts["planned", None] == SNVS + 1
    assert counts["duplicate", None] == 1
    assert counts["rejected", "reference_mismatch"] == counts["rejected", "unknown_contig"] == 1
    assert sum(counts.values()) == document.alleles == ALLELES


def test_reference_digests_are_those_of_the_fasta(planned: LocalStore, job: JobConfig) -> None:
    reference = ReferenceGenome(job.reference)
    assert load_plan(planned).reference_digests() == {name: reference.digests(name) for name in ("1", "2")}


def test_tracks_without_a_table_have_column_and_index(planned: LocalStore) -> None:
    tracks = pq.read_table(planned.local_path(layout.TRACKS)).to_pydict()
    assert tracks["column"] == ["track_0000", "track_0001", "track_0004"]
    assert tracks["index"] == [0, 1, 4]
    assert tracks["identifier"] == tracks["description"] == [None] * 3


def test_the_same_job_is_accepted_and_rewrites_nothing(planned: LocalStore, job: JobConfig) -> None:
    before = contents(planned.root)
    again = make_plan(job, planned)
    assert again.document == load_plan(planned).document
    assert contents(planned.root) == before


def test_device_batch_and_threads_on_auto_are_those_of_the_plan(planned: LocalStore, job: JobConfig) -> None:
    open_ended = scoring_with(job, device="auto", threads=None, batch_size=None)
    assert make_plan(open_ended, planned).document.config.scoring == load_plan(planned).document.config.scoring
    with pytest.raises(MismatchError, match="threads: planned 1, asked 3"):
        make_plan(scoring_with(job, threads=3), planned)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"statistics": ("sad",)}, "statistics"),
        ({"tracks": ("0",)}, "tracks"),
        ({"placement": "centred"}, "placement"),
    ],
)
def test_other_options_are_refused(planned: LocalStore, job: JobConfig, changes: dict[str, object], part: str) -> None:
    before = contents(planned.root)
    with pytest.raises(MismatchError, match=f"{part}: planned") as caught:
        make_plan(scoring_with(job, **changes), planned)
    assert caught.value.exit_status == 4
    assert contents(planned.root) == before


def test_other_weights_are_refused(planned: LocalStore, job: JobConfig, tmp_path: Path) -> None:
    write_weights(tmp_path / "other.safetensors", 2)
    with pytest.raises(MismatchError, match="weights: planned"):
        make_plan(job.model_copy(update={"weights": str(tmp_path / "other.safetensors")}), planned)


def test_one_other_base_is_refused_at_plan_and_on_a_worker(planned: LocalStore, job: JobConfig, tmp_path: Path) -> None:
    text = job.reference.read_text()
    at = text.index("\n") + 1 + 4000
    other = tmp_path / "other.fa"
    other.write_text(text[:at] + ("A" if text[at] != "A" else "C") + text[at + 1 :])
    with pytest.raises(MismatchError, match="reference: planned") as caught:
        make_plan(job.model_copy(update={"reference": other}), planned)
    assert "catalogue" not in str(caught.value)
    edit_plan(planned.root, lambda document: document["config"].update(reference=str(other)))
    worker = ScoringWorker(planned.uri)
    worker.open()
    with pytest.raises(ValueError, match="not those that the plan was made with") as changed:
        worker.score(whole_part(next(load_plan(planned).shards())), "a")
    assert getattr(changed.value, "exit_status", None) == 4
    assert planned.list(layout.STAGING) == []


def test_other_weights_are_refused_on_a_worker(planned: LocalStore, job: JobConfig, tmp_path: Path) -> None:
    write_weights(tmp_path / "other.safetensors", 2)
    other = str(tmp_path / "other.safetensors")
    edit_plan(planned.root, lambda document: document["config"].update(weights=other))
    with pytest.raises(MismatchError, match="digest"):
        ScoringWorker(planned.uri).open()


def test_other_variants_are_refused(planned: LocalStore, job: JobConfig, tmp_path: Path) -> None:
    lines = Path(job.variants[0]).read_text().splitlines(keepends=True)
    (tmp_path / "fewer.vcf").write_text("".join(lines[:-1]))
    with pytest.raises(MismatchError, match="catalogue: planned"):
        make_plan(job.model_copy(update={"variants": (str(tmp_path / "fewer.vcf"),)}), planned)


def test_an_interrupted_plan_is_made_anew(planned: LocalStore, job: JobConfig) -> None:
    expected = contents(planned.root)
    (planned.root / layout.PLAN).unlink()
    (planned.root / "plan" / "variants" / "chr-9.parquet").write_bytes(b"PAR1")
    assert not run_status(planned).planned
    with pytest.raises(RunIncompleteError, match="no plan"):
        load_plan(planned)
    make_plan(job, planned)
    assert contents(planned.root).keys() == expected.keys()


def test_a_folder_with_other_things_is_refused(job: JobConfig, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(StoreError, match=r"thesis\.tex"):
        make_plan(job, LocalStore(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_cannot_be_written_is_refused_first(job: JobConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    absent = job.model_copy(update={"reference": tmp_path / "absent.fa"})
    with pytest.raises(StoreError, match="file/run"):
        make_plan(absent, LocalStore(tmp_path / "file" / "run"))


def test_a_stride_beyond_half_the_output_is_refused(job: JobConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--stride is 3 bins.*a stride of 2 at most"):
        make_plan(scoring_with(job, placement="shared", stride=3), LocalStore(tmp_path / "run"))
    assert make_plan(scoring_with(job, placement="shared", stride=2), LocalStore(tmp_path / "run")).document.planned


def test_tokens_of_another_width_are_refused(job: JobConfig, tmp_path: Path) -> None:
    geometry = replace(GEOMETRY, downsamples=5)
    save_weights(Enformer(geometry), tmp_path / "narrow.safetensors")
    with pytest.raises(ConfigError, match="have tokens of 32 bp"):
        make_plan(
            job.model_copy(update={"weights": str(tmp_path / "narrow.safetensors")}), LocalStore(tmp_path / "run")
        )
    with pytest.raises(ConfigError, match="have tokens of 32 bp"):
        ReuseScorer(Enformer(geometry), ReferenceGenome(job.reference), job.scoring, [0])


def test_alleles_that_would_not_fit_the_window_are_rejected(job: JobConfig, tmp_path: Path) -> None:
    """An eighth of 1,024 bp is 128 bp, although alleles of 1,024 bp are allowed."""
    base = ReferenceGenome(job.reference).bases("1", 2999, 3000)
    rows = "".join(f"chr1\t3000\t.\t{base}\t{base}{'A' * n}\t.\t.\t.\n" for n in (127, 128))
    (tmp_path / "long.vcf").write_text(f"##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n{rows}")
    plan = make_plan(job.model_copy(update={"variants": (str(tmp_path / "long.vcf"),)}), LocalStore(tmp_path / "run"))
    assert [(line.status, line.reason, line.alleles) for line in plan.document.account] == [
        ("planned", None, 1),
        ("rejected", "allele_too_long", 1),
    ]


def test_memory_for_tokens_is_that_of_the_run(planned: LocalStore) -> None:
    for asked, expected in ((None, 512), (3, 3), (0, 0)):
        worker = ScoringWorker(planned.uri, asked)
        worker.open()
        assert worker._scorer._tokens._cache_bytes == expected * 2**20


def test_shards_are_cut_by_cost(job: JobConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = list(make_plan(job.model_copy(update={"shard_size": 1000}), LocalStore(tmp_path / "whole")).shards())
    assert [shard.chromosome for shard in large] == ["1", "2"]
    limit = sum(shard.cost for shard in large) / 7
    monkeypatch.setitem(plan_shards.SHARD_FLOPS, "cpu", limit)
    plan = make_plan(job, LocalStore(tmp_path / "cut"))
    shards = list(plan.shards())
    assert all(shard.cost <= limit for shard in shards)
    assert sum(shard.cost for shard in shards) == pytest.approx(sum(shard.cost for shard in large))
    assert [len(variants_of(plan, shard)) for shard in shards] == [shard.variants for shard in shards]
    assert len(shards) < plan.document.planned, "more than one variant fits"


@given(st.lists(st.floats(0.1, 50), min_size=1, max_size=40), st.integers(1, 9), st.floats(1, 100))
def test_cuts_hold_both_bounds_and_waste_nothing(flops: list[float], size: int, limit: float) -> None:
    cuts = plan_shards._cuts(np.array(flops), size, limit)
    assert cuts[0] == 0
    assert cuts[-1] == len(flops)
    for start, end in pairwise(cuts):
        assert 1 <= end - start <= size
        assert end - start == 1 or sum(flops[start:end]) <= limit * (1 + 1e-9)
        full = end == len(flops) or end - start == size
        assert full or sum(flops[start : end + 1]) > limit * (1 - 1e-9)


def test_offsets_that_would_leave_the_window_are_refused(job: JobConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="offset -129, but windows of 1,024 bp may move by 128 bp at most, an eighth"):
        make_plan(scoring_with(job, shifts=(-129, 5)), LocalStore(tmp_path / "run"))
    plan = make_plan(scoring_with(job, shifts=(-128, 5)), LocalStore(tmp_path / "run"))
    assert plan.document.parts["shifts"] == [-128, 5]
    assert plan.document.config.scoring.shifts == (-128, 5)


def test_centre_without_a_track_table_is_refused(job: JobConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--tracks-table"):
        make_plan(scoring_with(job, statistics=("centre_log2_ratio",)), LocalStore(tmp_path / "run"))


def test_centre_with_a_track_table_stands_in_the_plan(job: JobConfig, tmp_path: Path) -> None:
    rows = "".join(f"{i}\tid{i}\tCHIP:H3K27ac:cell {i}\n" for i in range(5))
    (tmp_path / "tracks.txt").write_text("index\tidentifier\tdescription\n" + rows)
    store = LocalStore(tmp_path / "run")
    plan = make_plan(
        scoring_with(job, statistics=("centre_log2_ratio",)).model_copy(
            update={"tracks_table": tmp_path / "tracks.txt"}
        ),
        store,
    )
    (tmp_path / "tracks.txt").unlink()
    worker = ScoringWorker(store.uri)
    worker.open()
    assert worker.score(whole_part(next(plan.shards())), "a")["rows"] == 4
    assert pq.read_table(store.local_path(layout.TRACKS)).column("identifier").to_pylist() == ["id0", "id1", "id4"]


def test_a_preview_counts_and_writes_nothing(planned: LocalStore, job: JobConfig) -> None:
    plan = load_plan(planned)
    variants = [v for shard in plan.shards() for v in variants_of(plan, shard)]

    def windows(placement: Placement) -> int:
        """On both strands, at shifts of 0 and 65 bp."""
        starts = {
            (v.chromosome, shift, window_start(v.start, 1024, placement, shift)) for v in variants for shift in (0, 65)
        }
        return 2 * len(starts)

    counted = preview(scoring_with(job, reverse_complement=True, shifts=2))
    assert sum(line.alleles for line in counted.account) == counted.alleles == ALLELES
    assert counted.variants == SNVS + 1
    by_placement = {cost.placement: cost for cost in counted.costs}
    assert list(by_placement) == ["centred", "binned", "shared"]
    assert counted.placement == "binned"
    assert counted.audited == 1
    for placement, cost in by_placement.items():
        assert cost.windows == windows(placement)
        assert cost.passes == cost.windows + (SNVS + 1) * 4
    teraflop = [by_placement[placement].teraflop for placement in ("shared", "binned", "centred")]
    assert teraflop == sorted(teraflop)
    assert 0 < teraflop[0] < teraflop[2]
    assert counted.direct_teraflop > 0
    assert counted.output_bytes == (SNVS + 1) * 3 * 2 * 4
    assert not Path(job.output).exists()


def test_the_preview_costs_what_the_shards_cost(planned: LocalStore, job: JobConfig) -> None:
    assert sum(shard.cost for shard in load_plan(planned).shards()) / 1e12 == pytest.approx(
        preview(job).costs[1].teraflop
    )


def test_planning_that_is_told_to_stop_leaves_no_plan(
    job: JobConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    store = LocalStore(tmp_path / "run")
    monkeypatch.setattr("enformer_ray.planning.plan.write_tracks", stopped)
    with pytest.raises(RunInterruptedError) as caught:
        make_plan(job, store)
    assert caught.value.exit_status == 143
    monkeypatch.undo()
    assert make_plan(job, store).document.planned
