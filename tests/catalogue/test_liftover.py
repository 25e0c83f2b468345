from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enformer_ray.catalogue.chain import OUTCOMES, Chain
from enformer_ray.catalogue.liftover import LIFT_SCHEMA, chain_of, check_chain_patterns, lift_batch
from enformer_ray.catalogue.normalise import REASONS, normalise
from enformer_ray.catalogue.variant import Variant
from enformer_ray.cli.options import job_from
from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import ConfigError, InputFileError
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.readers.schema import RECORD_SCHEMA
from tests.catalogue.chains import World, batch_of, random_world, reverse_complement, write
from tests.catalogue.real_data import CHAIN, ear_length, reference_copy
from tests.catalogue.worlds import make_reference, record, records_of

KEYS = ("chromosome", "position", "reference_allele", "alternate_allele", "lifted", "reason")
# chr1 10-29 (0-based) -> chrA 20-39, a gap, chr1 35-59 -> chrA 50-74; chr2 0-29 -> chrA 199-170 (reverse)
SMALL = "chain 9 chr1 100 + 10 60 chrA 200 + 20 75 1\n20 5 10\n25\n\nchain 5 2 30 + 0 30 chrA 200 - 0 30 2\n30\n"


@pytest.fixture
def small(tmp_path: Path) -> Chain:
    return Chain(write(tmp_path / "small.chain", SMALL))


def variant(chromosome: str, position: int, ref: str | None, alt: str | None, **more: object) -> dict[str, object]:
    return {
        "chromosome": chromosome,
        "position": position,
        "reference_allele": ref,
        "alternate_allele": alt,
        **more,
    }


def rows(batch: pa.RecordBatch, names: tuple[str, ...] = KEYS) -> list[tuple[object, ...]]:
    return [tuple(row[name] for name in names) for row in batch.to_pylist()]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("chr1", 11, "A", "C"), ("chrA", 21, "A", "C", "forward", None)),
        (("1", 28, "ACG", "A"), ("chrA", 38, "ACG", "A", "forward", None)),
        (("1", 30, "A", "ACG"), ("chrA", 40, "A", "ACG", "forward", None)),  # behind the last base of a block
        (("1", 29, "ACG", "A"), ("1", 29, "ACG", "A", None, "lifted_in_pieces")),
        (("1", 30, "ACCCCCG", "AG"), ("1", 30, "ACCCCCG", "AG", None, "lifted_in_pieces")),
        (("1", 31, "A", "C"), ("1", 31, "A", "C", None, "unlifted")),
        (("1", 100, "AA", "C"), ("1", 100, "AA", "C", None, "position_outside_contig")),
        (("1", 0, "A", "C"), ("1", 0, "A", "C", None, "position_outside_contig")),
        (("X", 5, "A", "C"), ("X", 5, "A", "C", None, "chain_without_contig")),
        (("chr2", 1, "A", "c"), ("chrA", 200, "T", "g", "reverse", None)),
        (("2", 3, "ACG", "A"), ("chrA", 196, "CGT", "T", "reverse", None)),
        (("2", 3, "A", "AGN"), ("chrA", 198, "T", "NCT", "reverse", None)),
        (("2", 3, "A", "<DEL>"), ("chrA", 198, "T", "<DEL>", "reverse", None)),
        (("2", 3, "A", "*"), ("chrA", 198, "T", "*", "reverse", None)),
        (("2", 3, "A", None), ("chrA", 198, "T", None, "reverse", None)),
        (("2", 3, "", "A"), ("chrA", 198, "", "T", "reverse", None)),
    ],
)
def test_records_with_a_reference_allele(
    small: Chain, before: tuple[str, int, str, str], after: tuple[object, ...]
) -> None:
    lifted = lift_batch(batch_of([variant(*before)]), small)
    assert rows(lifted) == [after]
    originals = before if after[4] else (None,) * 4
    assert rows(lifted, tuple(LIFT_SCHEMA.names[:4])) == [originals]


@pytest.mark.parametrize(
    ("position", "effect", "other", "after"),
    [
        (3, "A", "C", ("chrA", 198, "T", "G", "reverse", None)),
        (3, "AC", "GT", ("chrA", 197, "GT", "AC", "reverse", None)),
        (3, "AC", "A", ("2", 3, "AC", "A", None, "indel_on_reverse_strand")),
        (3, "D", "I", ("chrA", 198, "D", "I", "reverse", None)),
        (3, None, "C", ("chrA", 198, None, "G", "reverse", None)),
    ],
)
def test_records_without_a_reference_allele(
    small: Chain, position: int, effect: str | None, other: str | None, after: tuple[object, ...]
) -> None:
    batch = batch_of([variant("2", position, None, None, effect_allele=effect, other_allele=other, beta=0.5)])
    lifted = lift_batch(batch, small)
    assert rows(lifted, ("chromosome", "position", "effect_allele", "other_allele", "lifted", "reason")) == [after]
    assert rows(lifted, ("reference_allele", "alternate_allele", "beta")) == [(None, None, 0.5)]
    if after[4]:
        assert rows(lifted, tuple(LIFT_SCHEMA.names[:4])) == [("2", position, other, effect)]


def test_on_the_forward_strand_the_longer_of_two_alleles_must_fit(small: Chain) -> None:
    batch = batch_of([variant("1", p, None, None, effect_allele="A", other_allele="ACG") for p in (28, 29)])
    assert rows(lift_batch(batch, small), ("position", "lifted", "reason")) == [
        (38, "forward", None),
        (29, None, "lifted_in_pieces"),
    ]


def test_the_order_problems_reasons_and_further_columns_are_kept(small: Chain) -> None:
    batch = batch_of(
        [
            variant("2", 1, "A", "C", record=1, line=7, effect_allele="C", other_allele="A"),
            variant("1", 11, "A", "C", record=2, problem="the position is no number"),
            variant("1", 12, "A", "C", record=3),
            {"record": 4, "problem": "nothing could be read"},
            variant("1", 13, "A", "C", record=5),
        ]
    )
    batch = batch.append_column("reason", pa.array([None, None, None, None, "unmatched"], pa.string()))
    lifted = lift_batch(batch.append_column("file", pa.array(list("abcde"))), small)
    assert rows(lifted, ("record", "line", "file", "chromosome", "position", "lifted", "reason", "problem")) == [
        (1, 7, "a", "chrA", 200, "reverse", None, None),
        (2, None, "b", "1", 11, None, None, "the position is no number"),
        (3, None, "c", "chrA", 22, "forward", None, None),
        (4, None, "d", None, None, None, None, "nothing could be read"),
        (5, None, "e", "1", 13, None, "unmatched", None),
    ]
    assert rows(lifted, ("reference_allele", "effect_allele", "other_allele"))[0] == ("T", "G", "T")
    assert lifted.schema.names == [*batch.schema.names, "file", *LIFT_SCHEMA.names[:6]]
    assert [lifted.schema.field(field.name).type for field in RECORD_SCHEMA] == RECORD_SCHEMA.types


def test_an_empty_batch(small: Chain) -> None:
    assert rows(lift_batch(batch_of([]), small)) == []


def random_records(world: World, rng: random.Random) -> list[dict[str, object]]:
    records = []
    for name, bases in world.source.items():
        for start in range(len(bases)):
            ref = bases[start : start + rng.choice([1, 1, 2, 6])]
            alt = rng.choice(["A", "G", ref[0], ref[0] + "".join(rng.choices("ACGT", k=rng.randint(1, 4)))])
            if alt != ref:
                records.append(variant(name, start + 1, ref, alt))
    return records


@given(seed=st.integers(0, 10**6))
def test_forth_and_back_is_the_identity(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    world, folder = random_world(seed), tmp_path_factory.mktemp("c")
    forth, back = (Chain(write(folder / n, text)) for n, text in (("forth", world.forth), ("back", world.back)))
    before = batch_of(random_records(world, random.Random(seed)))
    there = lift_batch(before, forth)
    lifted = there.filter(there["lifted"].is_valid())
    again = lift_batch(lifted.drop_columns(LIFT_SCHEMA.names), back)
    names = KEYS[:4]
    assert rows(again, names) == rows(before.filter(there["lifted"].is_valid()), names)
    assert rows(again, ("lifted", "reason")) == rows(lifted, ("lifted", "reason"))  # the same strand, nothing lost


@given(seed=st.integers(0, 10**6))
def test_a_lifted_record_makes_the_same_change(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The block with the alternate allele in it is found in the target with the lifted, normalised record applied."""
    world = random_world(seed)
    folder = tmp_path_factory.mktemp("c")
    reference = make_reference(folder, world.target)
    before = random_records(world, random.Random(seed))
    after = lift_batch(batch_of(before), Chain(write(folder / "c", world.forth))).to_pylist()
    for old, new in zip(before, after, strict=True):
        if new["lifted"] is None:
            continue
        found = normalise(record(*(new[name] for name in KEYS[:4])), reference, 10**9)
        assert isinstance(found, Variant), (old, new, found)
        contig = world.target[new["chromosome"]]
        changed = contig[: found.start] + found.alternate_allele + contig[found.end :]
        start, source = old["position"] - 1, world.source[old["chromosome"]]
        block = world.places[(old["chromosome"], start)][0][3]
        inside = [p for (name, p), [place] in world.places.items() if place[3] == block and name == old["chromosome"]]
        first, last = min(inside), max(inside)
        alternate = (
            source[first:start] + old["alternate_allele"] + source[start + len(old["reference_allele"]) : last + 1]
        )
        ends = [world.places[(old["chromosome"], p)][0][1] for p in (first, last)]
        text = alternate if new["lifted"] == "forward" else reverse_complement(alternate)
        assert changed == contig[: min(ends)] + text + contig[max(ends) + 1 :]


def test_chains_by_file(tmp_path: Path) -> None:
    one, other = (write(tmp_path / name, SMALL) for name in ("a.chain", "b.chain"))
    paths = [Path("/d/old.vcf.gz"), Path("/d/new.vcf.gz"), Path("/d/b37/x.bcf")]

    def chains(setting: Path | dict[str, Path] | None) -> list[Path | None]:
        config = CatalogueConfig(chain=setting)
        check_chain_patterns(paths, config)
        return [chain and chain.path for chain in (chain_of(path, config) for path in paths)]

    assert chains(None) == [None, None, None]
    assert chains(other) == [other, other, other]
    assert chains({"old.vcf.gz": one, "b37/*": other}) == [one, None, other]
    assert chains({"/d/old.vcf.gz": one, "*": other}) == [one, other, other]
    with pytest.raises(ConfigError, match=r"catalogue\.chain: 'odl\.vcf\.gz' fits none of the variant files \(/d/old"):
        chains({"odl.vcf.gz": other})
    with pytest.raises(InputFileError, match=r"absent\.chain"):
        chains(tmp_path / "absent.chain")


def test_a_changed_chain_file_is_read_anew(tmp_path: Path) -> None:
    config = CatalogueConfig(chain=write(tmp_path / "a.chain", SMALL))
    before = chain_of(Path("v.vcf"), config)
    assert chain_of(Path("w.vcf"), config) is before
    write(tmp_path / "a.chain", SMALL.replace("chrA", "chromosomeA"))
    after = chain_of(Path("v.vcf"), config)
    assert after is not None
    assert after.targets == ["chromosomeA"]


def test_contig_aliases_name_the_contigs_of_a_chain(tmp_path: Path) -> None:
    aliases = write(tmp_path / "aliases.tsv", "NC_000001.10\tchr1\n")
    config = CatalogueConfig(chain=write(tmp_path / "a.chain", SMALL), contig_aliases=aliases)
    chain = chain_of(Path("v.vcf"), config)
    assert chain is not None
    assert rows(lift_batch(batch_of([variant("NC_000001.10", 11, "A", "C")]), chain), KEYS[:2]) == [("chrA", 21)]


def test_every_outcome_is_a_reason_with_an_explanation() -> None:
    assert OUTCOMES[0] is None
    assert set(OUTCOMES[1:]) <= set(REASONS)


def test_real_summary_statistics_lift_and_agree(shared: Path, tmp_path: Path) -> None:
    reference = reference_copy(shared, tmp_path)
    before = batch_of(ear_length(shared))
    after = lift_batch(before, Chain(shared / "data" / CHAIN)).to_pylist()
    there = [reference.bases("1", row["position"] - 1, row["position"] - 1 + len(row["other_allele"])) for row in after]
    assert len(after) == 999
    assert [row["lifted"] for row in after] == ["forward"] * 999
    assert [row["chromosome"] for row in after] == ["chr1"] * 999
    assert there == [row["other_allele"] for row in after]
    assert [row["original_position"] for row in after] == before["position"].to_pylist()


def records(path: Path) -> list[dict[str, object]]:
    return [row._asdict() for row in records_of(path, CatalogueConfig())]


def normalised(row: dict[str, object], reference: ReferenceGenome) -> object:
    return normalise(record(*(row[name] for name in KEYS[:4])), reference, 1024)


def test_real_variants_lifted_are_those_of_the_other_assembly(shared: Path, tmp_path: Path) -> None:
    """GTEx by rsID: what the project itself has in both assemblies."""
    reference = reference_copy(shared, tmp_path)
    variants = shared / "data/variants"
    after = lift_batch(batch_of(records(variants / "b37_gtex_variants_cimr.vcf.gz")), Chain(shared / "data" / CHAIN))
    rows_after = after.to_pylist()
    grch38 = {}
    for row in records(variants / "grch38_gtex_variants_cimr.vcf.gz"):
        grch38.setdefault(row["source_id"], set()).add(normalised(row, reference))
    pairs = [
        (normalised(row, reference), grch38[row["source_id"]])
        for row in rows_after
        if row["source_id"] is not None and row["source_id"] in grch38
    ]
    assert len(pairs) == 475
    assert {row["reason"] for row in rows_after} <= {None, "unlifted", "lifted_in_pieces"}
    assert [(ours, theirs) for ours, theirs in pairs if ours not in theirs] == []


def test_the_setting_on_the_command_line_and_in_a_job_file(tmp_path: Path) -> None:
    needed = {"variants": ["v.vcf"], "reference": "r.fa", "output": "o"}
    assert job_from(None, {**needed, "chain": Path("a.chain")}).catalogue.chain == Path("a.chain")
    job_file = write(tmp_path / "job.yaml", "catalogue:\n  chain: {old.vcf.gz: a.chain, '*.bcf': b.chain}\n")
    assert job_from(job_file, needed).catalogue.chain == {"old.vcf.gz": Path("a.chain"), "*.bcf": Path("b.chain")}
    with pytest.raises(ConfigError, match=r"catalogue\.chain"):
        job_from(write(tmp_path / "bad.yaml", "catalogue:\n  chain: [a.chain]\n"), needed)
