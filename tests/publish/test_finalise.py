from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from enformer_ray.config import JobConfig
from enformer_ray.errors import DatasetCorruptError, RunIncompleteError, RunInterruptedError
from enformer_ray.files import sha256_of
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.model.hub import load_enformer
from enformer_ray.planning.plan import load_plan
from enformer_ray.planning.shards import whole_part
from enformer_ray.planning.variants import PlannedVariants
from enformer_ray.publish.finalise import finalise
from enformer_ray.publish.verify import verify
from enformer_ray.rundir import layout
from enformer_ray.rundir.receipts import Receipt, publish, read_receipt
from enformer_ray.rundir.store import LocalStore
from enformer_ray.scoring.scorer import ReuseScorer
from tests.receipts import restage
from tests.run_fixtures import ALLELES, SNVS, edit_plan


def published(store: LocalStore) -> list[str]:
    return [
        p
        for p in store.list("")
        if p.split("/")[0] in {"scores", "variants", "manifest.json", "run.json", "audit.parquet"}
    ]


def test_the_dataset_holds_every_variant_with_its_own_scores(scored: LocalStore, job: JobConfig) -> None:
    manifest = finalise(scored)
    table = pq.read_table(scored.local_path("scores/sad"))
    model, reference = load_enformer(job.weights), ReferenceGenome(job.reference)
    plan = load_plan(scored)
    variants = [v for shard in plan.shards() for v in PlannedVariants(plan).variants(whole_part(shard))]
    assert table.column("variant_id").to_pylist() == [variant.variant_id for variant in variants]
    scorer = ReuseScorer(model, reference, job.scoring, [4])
    for row in (0, 7, len(variants) - 1):
        alone = scorer.score([variants[row]])["sad"].column("track_0004")[0].as_py()
        assert table.column("track_0004")[row].as_py() == pytest.approx(alone, rel=1e-4, abs=1e-7)
    assert len(set(table.column("track_0004").to_pylist())) == len(variants)
    assert manifest.rows == len(variants) == SNVS + 1


def test_every_input_allele_has_its_final_status(scored: LocalStore) -> None:
    manifest = finalise(scored)
    table = pq.read_table(scored.local_path("variants"))
    assert sorted(table.column("input").to_pylist()) == list(range(ALLELES))
    status = table.column("status").to_pylist()
    assert {s: status.count(s) for s in set(status)} == {"scored": SNVS + 1, "duplicate": 1, "rejected": 2}
    assert sum(line.alleles for line in manifest.account) == ALLELES


def test_manifest_lists_every_file_as_it_is(scored: LocalStore) -> None:
    manifest = finalise(scored)
    assert {file.path for file in manifest.files} | {layout.MANIFEST} == {*published(scored), layout.TRACKS}
    for file in manifest.files:
        path = scored.local_path(file.path)
        assert (path.stat().st_size, sha256_of(path)) == (file.bytes, file.sha256)
        if path.suffix == ".parquet":
            assert pq.read_metadata(path).num_rows == file.rows
    assert scored.list(layout.STAGING) == []
    run = json.loads(scored.read_bytes(layout.RUN))
    assert run["fingerprint"] == manifest.fingerprint == load_plan(scored).document.fingerprint
    assert run["versions"]["torch"]
    assert run["devices"] == [read_receipt(scored, 0).device]
    assert (run["workers"], run["bisected_shards"], run["failed"], run["failures"]) == (1, 0, 0, [])
    assert run["indel_conventions"] == {"none": SNVS, "local": 1}
    steps = [read_receipt(scored, shard).timings.score for shard in range(6)]
    assert run["seconds"] == run["timings"]["score"] == pytest.approx(sum(steps), abs=1e-3)


def test_score_files_are_laid_out_for_reading_one_track(scored: LocalStore) -> None:
    finalise(scored)
    row_group = pq.read_metadata(scored.local_path("scores/sad/chr-1-0.parquet")).row_group(0)
    columns = {row_group.column(i).path_in_schema: row_group.column(i) for i in range(row_group.num_columns)}
    assert "BYTE_STREAM_SPLIT" in columns["track_0004"].encodings
    assert not columns["track_0004"].is_stats_set
    assert columns["position"].statistics.min > 0
    assert {column.compression for column in columns.values()} == {"ZSTD"}


def test_finalise_again_returns_the_manifest(scored: LocalStore) -> None:
    manifest = finalise(scored)
    (scored.root / layout.STAGING).mkdir()
    assert finalise(scored) == manifest
    assert not (scored.root / layout.STAGING).exists()


def test_content_hash_does_not_depend_on_the_shards_or_attempts(
    scored: LocalStore, job: JobConfig, tmp_path: Path
) -> None:
    from enformer_ray.planning.plan import make_plan
    from tests.run_fixtures import score_without_ray

    other = LocalStore(tmp_path / "other")
    make_plan(job.model_copy(update={"shard_size": 7}), other)
    score_without_ray(other)
    assert finalise(other).content_hash == finalise(scored).content_hash


def test_a_missing_receipt_is_refused(scored: LocalStore) -> None:
    (scored.root / layout.receipt(2)).unlink()
    (scored.root / layout.receipt(4)).unlink()
    with pytest.raises(RunIncompleteError, match=r"2 of 6 shards have no receipt.*\(2, 4\)"):
        finalise(scored)
    assert published(scored) == []


def test_files_without_a_receipt_are_not_taken(scored: LocalStore) -> None:
    """A killed worker's file proves nothing, however well it reads."""
    receipt = read_receipt(scored, 0)
    (scored.root / layout.receipt(0)).unlink()
    assert scored.exists(receipt.files["sad"].path)
    with pytest.raises(RunIncompleteError):
        finalise(scored)


@pytest.mark.parametrize("offset", [100, -20])
def test_a_flipped_byte_is_refused(scored: LocalStore, offset: int) -> None:
    staged = read_receipt(scored, 3).files["log2_ratio"]
    data = bytearray(scored.read_bytes(staged.path))
    data[offset] ^= 1
    scored.local_path(staged.path).write_bytes(data)
    with pytest.raises(DatasetCorruptError, match=r"receipts/00003\.json.*sha256"):
        finalise(scored)
    assert published(scored) == []


def test_a_lost_file_is_refused(scored: LocalStore) -> None:
    scored.local_path(read_receipt(scored, 1).files["sad"].path).unlink()
    with pytest.raises(DatasetCorruptError, match=r"receipts/00001\.json.*not there"):
        finalise(scored)


def test_swapped_rows_are_refused(scored: LocalStore) -> None:
    restage(scored, 1, lambda table: table.take([0, 2, 1, 3]))
    with pytest.raises(DatasetCorruptError, match=r"row 2 is 1_\d+_._. where 1_\d+_._. was planned"):
        finalise(scored)
    assert published(scored) == []


@pytest.mark.parametrize("column", ["position", "alternate_allele", "chromosome"])
def test_one_other_key_is_refused(scored: LocalStore, column: str) -> None:
    def change(table: pa.Table) -> pa.Table:
        cells = table.column(column).to_pylist()
        cells[-1] = cells[-1] + 1 if column == "position" else "N"
        field = table.schema.field(column)
        return table.set_column(table.schema.get_field_index(column), field, pa.array(cells, field.type))

    restage(scored, 0, change)
    with pytest.raises(DatasetCorruptError, match=rf"row 4 .*\({column} differs\)"):
        finalise(scored)


def test_a_shard_with_a_row_less_is_refused(scored: LocalStore) -> None:
    restage(scored, 0, lambda table: table.slice(1))
    with pytest.raises(DatasetCorruptError, match="with 3 rows, but 4 variants were planned"):
        finalise(scored)


def test_rows_that_moved_between_shards_are_refused(scored: LocalStore) -> None:
    """The sum is right, the shards are not."""
    restage(scored, 0, lambda table: table.slice(1))
    restage(scored, 1, lambda table: pa.concat_tables([table, table.slice(0, 1)]))
    with pytest.raises(DatasetCorruptError, match="with 3 rows, but 4 variants were planned"):
        finalise(scored)


def test_other_columns_are_refused(scored: LocalStore) -> None:
    restage(scored, 0, lambda table: table.drop_columns("track_0004"))
    with pytest.raises(DatasetCorruptError, match="columns are not those of the plan"):
        finalise(scored)


def test_an_input_record_that_is_gone_is_refused(scored: LocalStore) -> None:
    edit_plan(scored.root, lambda document: document.pop("files"))  # as of an earlier version, without digests
    path = scored.local_path(layout.plan_inputs("1"))
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(DatasetCorruptError, match="does not add up"):
        finalise(scored)
    assert published(scored) == []


def test_an_interrupted_finalise_is_repeated(scored: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the first file that has its final name and the last one."""
    move, left = LocalStore.move, iter(range(3))

    def stop_at_the_third(store: LocalStore, source: str, target: str) -> None:
        if next(left) == 2:
            raise KeyboardInterrupt
        move(store, source, target)

    monkeypatch.setattr(LocalStore, "move", stop_at_the_third)
    with pytest.raises(RunInterruptedError, match="enformer-ray finalise") as interrupted:
        finalise(scored)
    assert interrupted.value.exit_status == 130
    monkeypatch.undo()
    assert not scored.exists(layout.MANIFEST)
    assert len(published(scored)) == 2
    (scored.root / "scores" / "sad" / "chr-1-9.parquet").write_bytes(b"left by another version")
    manifest = finalise(scored)
    assert {file.path for file in manifest.files} | {layout.MANIFEST} == {*published(scored), layout.TRACKS}
    verify(scored)


def test_the_first_receipt_wins(scored: LocalStore) -> None:
    first = read_receipt(scored, 0)
    late = Receipt.model_validate({**first.model_dump(), "attempt": "late"})
    assert publish(scored, late).attempt == "first"
    assert read_receipt(scored, 0) == first


def test_a_receipt_that_is_none_is_named(scored: LocalStore) -> None:
    (scored.root / layout.receipt(0)).write_text("{}")
    with pytest.raises(DatasetCorruptError, match=r"receipts/00000\.json"):
        finalise(scored)


def test_scores_are_the_staged_floats_bit_by_bit(scored: LocalStore) -> None:
    staged = [pq.read_table(scored.local_path(read_receipt(scored, i).files["sad"].path)) for i in range(6)]
    expected = pa.concat_tables(staged).column("track_0001").to_numpy()
    finalise(scored)
    found = pq.read_table(scored.local_path("scores/sad")).column("track_0001").to_numpy()
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))
