from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from enformer_ray.cli import printing
from enformer_ray.config import JobConfig
from enformer_ray.definitions import Statistic
from enformer_ray.errors import AuditError, DatasetCorruptError, MismatchError
from enformer_ray.genome.coordinates import window_start
from enformer_ray.planning.plan import Plan, load_plan, make_plan
from enformer_ray.planning.variants import audited_in, audited_variants
from enformer_ray.publish import audit
from enformer_ray.publish.audit import BOUND, read_audit
from enformer_ray.publish.finalise import finalise
from enformer_ray.rundir import layout
from enformer_ray.rundir.receipts import read_receipt
from enformer_ray.rundir.store import LocalStore
from enformer_ray.scoring.edits import Strand
from enformer_ray.scoring.tokens import WindowTokens
from tests.publish.test_finalise import published
from tests.receipts import publish_failure, restage
from tests.run_fixtures import GEOMETRY, SNVS, score_without_ray


def run_of(job: JobConfig, folder: Path, **scoring: object) -> LocalStore:
    store = LocalStore(folder)
    make_plan(job.model_copy(update={"scoring": job.scoring.model_copy(update=scoring)}), store)
    score_without_ray(store)
    return store


def sampled_shard(store: LocalStore) -> int:
    plan = load_plan(store)
    return next(
        shard.shard
        for shard in plan.shards()
        if audited_in(audited_variants(plan), shard.first_variant, shard.variants)
    )


@given(planned=st.integers(1, 10**8), most=st.integers(1, 40), fingerprint=st.integers(0, 2**64 - 1))
def test_the_sample_is_small_and_the_same_for_everyone(planned: int, most: int, fingerprint: int) -> None:
    class Document:
        pass

    document = Document()
    vars(document).update(to_score=planned, config=JobConfig(variants="v", reference="r", output="o", audit=most))
    vars(document).update(fingerprint=f"{fingerprint:016x}" + "0" * 48)
    plan = Plan(None, document)  # type: ignore[arg-type]
    sample = audited_variants(plan)
    assert len(sample) == len(set(sample.tolist())) == min(most, -(-planned // 100))
    assert sample.tolist() == sorted(sample.tolist()) == audited_variants(plan).tolist()
    assert sample[0] >= 0
    assert sample[-1] < planned


def test_every_audited_variant_is_in_one_shard(scored: LocalStore) -> None:
    plan = load_plan(scored)
    sample = np.arange(plan.document.planned)
    rows = [
        row + shard.first_variant
        for shard in plan.shards()
        for row in audited_in(sample, shard.first_variant, shard.variants)
    ]
    assert rows == sample.tolist()


def test_the_audit_is_published_with_the_dataset(scored: LocalStore) -> None:
    finalise(scored)
    found = read_audit(scored)
    assert (found.variants, found.precision) == (1, "float32")
    assert list(found.statistics) == ["sad", "log2_ratio"]
    for name, statistic in found.statistics.items():
        assert 0 < statistic.median_deviation <= statistic.largest_deviation, "something was compared with itself"
        assert 0 < statistic.largest_of_bound < 1
        assert 0 <= statistic.below_floor < 0.5
        assert statistic.rank_correlation is None
        scores, floors = pq.read_table(scored.local_path(f"scores/{name}")), pq.read_table(scored.root / layout.AUDIT)
        below = [
            (np.abs(scores.column(column).to_numpy()) < floor).mean()
            for column, floor in zip(floors["column"].to_pylist(), floors[name].to_pylist(), strict=True)
        ]
        assert statistic.below_floor == pytest.approx(np.mean(below), rel=1e-3, abs=1e-9)
    assert floors.column("column").to_pylist() == ["track_0000", "track_0001", "track_0004"]


def test_a_wrong_tile_fails_the_run(job: JobConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute = WindowTokens._compute_tile
    audited = 3
    finalise(run_of(job, tmp_path / "right"))
    store = LocalStore(tmp_path / "right")
    variant = pq.read_table(store.local_path(layout.plan_variants("1"))).slice(audited, 1).to_pylist()[0]
    centre = window_start(variant["position"] - 1, GEOMETRY.sequence_length, "binned") // 128 + GEOMETRY.tokens // 2
    corrupted = []

    def one_wrong(self: WindowTokens, strand: Strand, phase: int, tile: int) -> torch.Tensor:
        tokens = compute(self, strand, phase, tile)
        if (strand.chromosome, tile) == ("1", centre // self.tile):
            corrupted.append(tile)
            tokens += 0.01
        return tokens

    monkeypatch.setattr("enformer_ray.publish.staged.audited_variants", lambda _: np.array([audited]))
    monkeypatch.setattr("enformer_ray.engine.worker.audited_variants", lambda _: np.array([audited]))
    monkeypatch.setattr(WindowTokens, "_compute_tile", one_wrong)
    store = run_of(job, tmp_path / "wrong")
    with pytest.raises(
        AuditError, match=r"the audit failed, and nothing was published\. sad of 1_.* in track_000"
    ) as e:
        finalise(store)
    assert "delete the run directory" in str(e.value)
    assert corrupted == [centre // 2]
    assert e.value.exit_status == 1
    assert published(store) == []


def test_a_score_that_is_no_number_fails_the_run(scored: LocalStore) -> None:
    def broken(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index("track_0001")
        values = np.full(table.num_rows, np.nan, np.float32)
        return table.set_column(at, table.schema.field(at), pa.array(values))

    restage(scored, sampled_shard(scored), broken)
    with pytest.raises(AuditError, match="in track_0001 is nan"):
        finalise(scored)


def test_a_receipt_without_its_audit_is_refused(scored: LocalStore) -> None:
    shard = sampled_shard(scored)
    receipt = read_receipt(scored, shard)
    (scored.root / layout.receipt(shard)).write_text(receipt.model_copy(update={"audit": {}}).model_dump_json())
    with pytest.raises(DatasetCorruptError, match="lists no file of the audit of sad"):
        finalise(scored)
    assert published(scored) == []


def test_other_audited_variants_are_refused(scored: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = load_plan(scored)
    sample = audited_variants(plan)
    monkeypatch.setattr(
        "enformer_ray.publish.staged.audited_variants", lambda _: sample + 1 if sample[0] < SNVS else sample - 1
    )
    with pytest.raises(DatasetCorruptError, match=r"audited variants than the plan's sample|no file of the audit"):
        finalise(scored)


def test_a_score_outside_of_the_sample_must_be_a_number(scored: LocalStore) -> None:
    plan = load_plan(scored)
    sample = audited_variants(plan)
    other = next(s.shard for s in plan.shards() if not audited_in(sample, s.first_variant, s.variants))

    def broken(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index("track_0004")
        values = np.full(table.num_rows, np.inf, np.float32)
        return table.set_column(at, table.schema.field(at), pa.array(values))

    restage(scored, other, broken)
    with pytest.raises(AuditError, match="in track_0004 is inf, and nothing was published"):
        finalise(scored)
    assert published(scored) == []


def test_another_audit_is_refused_on_resume(scored: LocalStore, job: JobConfig) -> None:
    with pytest.raises(MismatchError, match="audit: planned 32, asked 7"):
        make_plan(job.model_copy(update={"audit": 7}), scored)


def test_a_lower_precision_is_told_and_not_refused(
    job: JobConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = run_of(job, tmp_path / "run", precision="bfloat16")
    finalise(store)
    found = read_audit(store)
    assert found.precision == "bfloat16"
    largest = found.statistics["sad"].largest_of_bound
    assert largest > 10
    assert found.statistics["sad"].below_floor > 0
    printing.print_audit(found)
    printed = capsys.readouterr().out
    assert "Audit: 1 variant scored again by plain float32 passes, " in printed
    assert "That is what bfloat16 costs" in printed


def test_bounds_by_hand() -> None:
    reference, alternate = np.array([[0.0, 99.0]]), np.array([[9.0, 49.0]])

    def bound(statistic: Statistic) -> list[float]:
        return audit._bound(statistic, reference, alternate, {"target_length": 896})[0].tolist()

    assert BOUND == 1e-5, "each of two computations is within 5e-6"
    for statistic in ("sad", "d2", "sax"):
        assert bound(statistic) == [10 * BOUND, 100 * BOUND]
    assert bound("log2_ratio") == pytest.approx([10 * BOUND / np.log(2), 2 * BOUND / np.log(2)])
    assert bound("ref") == bound("alt") == [80 * BOUND, 800 * BOUND]


def test_a_right_run_passes_with_every_statistic(
    job: JobConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every variant audited, in each statistic that needs no track table."""
    everything = lambda plan: np.arange(plan.document.planned)  # noqa: E731
    monkeypatch.setattr("enformer_ray.publish.staged.audited_variants", everything)
    monkeypatch.setattr("enformer_ray.engine.worker.audited_variants", everything)
    statistics = ("sad", "log2_ratio", "log_sad", "sax", "d2", "ref", "alt")
    for indel in ("local", "anchored"):
        store = run_of(job, tmp_path / indel, statistics=statistics, reverse_complement=True, indel=indel)
        finalise(store)
        found = read_audit(store)
        assert found.variants == SNVS + 1
        assert list(found.statistics) == list(statistics)
        for statistic in found.statistics.values():
            assert statistic.largest_of_bound < 0.7
            assert statistic.rank_correlation is not None
            assert statistic.rank_correlation > 0.99


def test_of_sax_the_size_is_compared() -> None:
    """Two bins that differ by as much, one up and one down."""
    one, other = np.array([[3.0, 1.0]]), np.array([[-3.0, 2.0]])
    assert audit._deviation("sax", one, other).tolist() == [[0.0, 1.0]]
    assert audit._deviation("sad", one, other).tolist() == [[6.0, 1.0]]


def test_rank_correlation_is_the_median_over_tracks() -> None:
    one = np.array([[1.0, 1.0, 1.0, 7.0], [2.0, 2.0, 2.0, 7.0], [3.0, 3.0, 3.0, 7.0]])
    other = np.array([[10.0, 3.0, 1.0, 1.0], [20.0, 2.0, 9.0, 2.0], [90.0, 1.0, 5.0, 3.0]])
    assert audit._rank_correlation(one, other) == 0.5, "of 1, -1 and 0.5; the last track has no order"
    assert audit._rank_correlation(one[:, :2], other[:, :2]) == 0
    assert audit._rank_correlation(one[:, 3:], other[:, 3:]) is None
    assert audit._rank_correlation(one[:2], other[:2]) is None


def test_run_json_without_an_audit_is_named(scored: LocalStore) -> None:
    finalise(scored)
    document = json.loads(scored.read_bytes(layout.RUN))
    del document["audit"]
    (scored.root / layout.RUN).write_text(json.dumps(document))
    with pytest.raises(DatasetCorruptError, match=r"run\.json holds no audit"):
        read_audit(scored)


def test_an_audited_variant_that_failed_is_left_out(
    scored: LocalStore, job: JobConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    (audited,) = audited_variants(load_plan(scored)).tolist()
    publish_failure(scored, audited)
    finalise(scored)
    found = read_audit(scored)
    assert (found.variants, dict(found.statistics), found.direct_seconds > 0) == (0, {}, True)
    floors = pq.read_table(scored.root / layout.AUDIT)
    assert floors.column("sad").null_count == floors.num_rows == 3
    printing.print_audit(found)
    assert "no variant of its sample could be scored" in capsys.readouterr().out


def test_other_audited_variants_than_failed_ones_are_compared(
    job: JobConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = lambda _: np.array([2, 5, 6])  # noqa: E731
    monkeypatch.setattr("enformer_ray.publish.staged.audited_variants", three)
    monkeypatch.setattr("enformer_ray.engine.worker.audited_variants", three)
    store = run_of(job, tmp_path / "run")
    publish_failure(store, 5)
    finalise(store)
    assert read_audit(store).variants == 2
