"""Shards that were scored in parts, and variants that could not be scored."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from enformer_ray.cli.main import main
from enformer_ray.dataset.dataset import open_scores
from enformer_ray.errors import AuditError, DatasetCorruptError, RunIncompleteError
from enformer_ray.planning.shards import whole_part
from enformer_ray.publish import documents
from enformer_ray.publish.finalise import finalise
from enformer_ray.publish.verify import verify
from enformer_ray.rundir import layout
from enformer_ray.rundir.manifest import AccountLine
from enformer_ray.rundir.receipts import Failure, read_receipt
from enformer_ray.rundir.store import LocalStore
from tests.publish.test_finalise import published
from tests.receipts import publish_failure, publish_halves, replace, restage, shard_number
from tests.run_fixtures import ALLELES, SNVS

INSERTION = 13
"""`variant` of the insertion at chr1:9001."""


def undisturbed(store: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    shutil.copytree(store.root, folder)
    return finalise(LocalStore(folder)).content_hash


def statuses(store: LocalStore) -> dict[tuple[str, str | None], int]:
    table = pq.read_table(store.local_path("variants"))
    found = list(zip(table.column("status").to_pylist(), table.column("reason").to_pylist(), strict=True))
    return {key: found.count(key) for key in set(found)}


def test_parts_give_the_dataset_of_the_whole_shard(
    scored: LocalStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    expected = undisturbed(scored, tmp_path_factory)
    for shard in (1, 4):
        _, right = publish_halves(scored, whole_part(shard_number(scored, shard)))
        publish_halves(scored, right)
        for name in ("", right.path):
            (scored.root / layout.receipt(shard, name)).unlink()
    assert finalise(scored).content_hash == expected
    assert json.loads(scored.read_bytes(layout.RUN))["bisected_shards"] == 2
    assert verify(scored).content_hash == expected


def test_the_whole_shard_wins_over_stale_parts(scored: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A late receipt of the whole shard and one of a half that was reported as failed."""
    expected = undisturbed(scored, tmp_path_factory)
    left, _ = publish_halves(scored, whole_part(shard_number(scored, 2)))
    receipt = read_receipt(scored, 2, left.path)
    scored.local_path(receipt.files["sad"].path).write_bytes(b"cut")
    manifest = finalise(scored)
    assert (manifest.content_hash, manifest.failed) == (expected, 0)
    assert json.loads(scored.read_bytes(layout.RUN))["bisected_shards"] == 0


def test_a_missing_half_is_missing(scored: LocalStore) -> None:
    left, _ = publish_halves(scored, whole_part(shard_number(scored, 2)))
    for name in ("", left.path):
        (scored.root / layout.receipt(2, name)).unlink()
    with pytest.raises(RunIncompleteError, match=r"1 of 6 shards have no receipt, or not of all.*\(2\)"):
        finalise(scored)
    assert published(scored) == []


def test_failed_variants_are_rows_without_scores(scored: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> None:
    expected = undisturbed(scored, tmp_path_factory)
    publish_failure(scored, 0, "timed_out")
    publish_failure(scored, INSERTION, "worker_crashed")
    publish_failure(scored, 19, "worker_crashed")
    manifest = finalise(scored)
    assert (manifest.rows, manifest.failed) == (SNVS + 1, 3)
    assert manifest.content_hash != expected
    planned = pa.concat_tables([pq.read_table(scored.local_path(layout.plan_variants(c))) for c in ("1", "2")])
    for statistic in ("sad", "log2_ratio"):
        table = open_scores(scored.root).to_arrow(statistic)
        assert table.column("variant_id").to_pylist() == planned.column("variant_id").to_pylist()
        for track in ("track_0000", "track_0001", "track_0004"):
            missing = table.column(track).is_null().to_numpy()
            assert np.flatnonzero(missing).tolist() == [0, INSERTION, 19]
        assert [i for i, c in enumerate(table.column("indel_convention").to_pylist()) if c == "local"] == [INSERTION]
    assert statuses(scored) == {
        ("scored", None): SNVS - 2,
        ("failed", "timed_out"): 1,
        ("failed", "worker_crashed"): 2,
        ("duplicate", None): 1,
        ("rejected", "unknown_contig"): 1,
        ("rejected", "reference_mismatch"): 1,
    }
    assert manifest.account[:3] == (
        AccountLine(status="scored", reason=None, alleles=SNVS - 2),
        AccountLine(status="failed", reason="worker_crashed", alleles=2),
        AccountLine(status="failed", reason="timed_out", alleles=1),
    )
    assert sum(line.alleles for line in manifest.account) == ALLELES
    assert verify(scored).manifest == manifest


def test_run_json_lists_failures(scored: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "FAILURES_LISTED", 1)
    publish_failure(scored, 3)
    publish_failure(scored, 12)
    finalise(scored)
    document = json.loads(scored.read_bytes(layout.RUN))
    variant_id = pq.read_table(scored.local_path(layout.plan_variants("1"))).column("variant_id")[3].as_py()
    assert document["failures"] == [
        {"variant_id": variant_id, "reason": "scoring_error", "detail": "of variant 3", "attempts": 3}
    ]
    assert document["failed"] == 2


def test_a_duplicate_of_a_failed_variant_stays_a_duplicate(scored: LocalStore) -> None:
    inputs = pq.read_table(scored.local_path(layout.plan_inputs("1"))).to_pylist()
    twice = next(row["variant"] for row in inputs if row["status"] == "duplicate")
    publish_failure(scored, twice)
    finalise(scored)
    finished = pq.read_table(scored.local_path(layout.variants("1"))).to_pylist()
    assert [(r["status"], r["reason"]) for r in finished if r["variant"] == twice] == [
        ("failed", "scoring_error"),
        ("duplicate", None),
    ]


def test_all_may_fail(scored: LocalStore) -> None:
    for variant in range(SNVS + 1):
        publish_failure(scored, variant)
    manifest = finalise(scored)
    assert (manifest.rows, manifest.failed) == (SNVS + 1, SNVS + 1)
    assert [line.status for line in manifest.account] == ["failed", "duplicate", "rejected", "rejected"]
    verify(scored)
    assert open_scores(scored.root).top("sad", 3).num_rows == 0


def test_top_leaves_failed_variants_out(scored: LocalStore) -> None:
    publish_failure(scored, 7)
    finalise(scored)
    top = open_scores(scored.root).top("sad", 100)
    assert top.num_rows == SNVS
    assert not np.isnan(top.column("score").to_numpy()).any()


def test_a_failure_of_several_variants_is_refused(scored: LocalStore) -> None:
    failure = Failure(reason="scoring_error", detail="d", attempts=3)
    replace(scored, read_receipt(scored, 1).model_copy(update={"failure": failure}))
    with pytest.raises(DatasetCorruptError, match=r"receipts/00001\.json is of a failure"):
        finalise(scored)


def test_a_score_that_is_null_is_no_score(scored: LocalStore) -> None:
    def emptied(table: pa.Table) -> pa.Table:
        return table.set_column(6, table.schema.field(6), pa.array([None] * table.num_rows, pa.float32()))

    restage(scored, 0, emptied)
    with pytest.raises(AuditError, match="nothing was published"):
        finalise(scored)


def test_a_receipt_of_other_rows_is_refused(scored: LocalStore) -> None:
    receipt = read_receipt(scored, 0)
    replace(scored, receipt.model_copy(update={"rows": 3}))
    with pytest.raises(DatasetCorruptError, match=r"receipts/00000\.json is of 3 variants.* 4 from row 0 were planned"):
        finalise(scored)


def test_the_command_exits_with_3(scored: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    publish_failure(scored, 4)
    with pytest.raises(SystemExit) as ended:
        main(["finalise", str(scored.root)])
    assert ended.value.code == 3
    printed = capsys.readouterr().out
    assert "scoring_error" in printed
    assert f"status `failed` in {scored.root}/variants" in printed
