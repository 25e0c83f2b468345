from __future__ import annotations

import gzip
import random
import re
from pathlib import Path

import liftover
import numpy as np
import pyliftover
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enformer_ray.catalogue.chain import OUTCOMES, Chain, Lift
from enformer_ray.errors import InputFileError
from tests.catalogue.chains import World, random_world, write

CHAIN = "chains/hg19ToHg38.over.chain.gz"
# 0-based: chr1 10-29 -> chrA 20-39, then a gap of 5 against 10, chr1 35-59 -> chrA 50-74;
# chr2 0-9 -> chrA 199-190 (reverse)
SMALL = "chain 9 chr1 100 + 10 60 chrA 200 + 20 75 1\n20 5 10\n25\n\nchain 5 2 10 + 0 10 chrA 200 - 0 10 2\n10\n"


def lift(chain: Chain, *spans: tuple[str, int, int]) -> Lift:
    names, starts, lengths = zip(*spans, strict=True)
    contigs = np.array([chain.contig(name) for name in names], dtype=np.int64)
    return chain.lift(contigs, np.array(starts, dtype=np.int64), np.array(lengths, dtype=np.int64))


def one(chain: Chain, name: str, start: int, length: int) -> tuple[str, int, bool] | str | None:
    target, there, reverse, outcome = (column[0] for column in lift(chain, (name, start, length))[:4])
    return OUTCOMES[outcome] or (chain.targets[target], int(there), bool(reverse))


@pytest.fixture
def small(tmp_path: Path) -> Chain:
    return Chain(write(tmp_path / "small.chain", SMALL))


@pytest.mark.parametrize(
    ("name", "start", "length", "expected"),
    [
        ("chr1", 10, 1, ("chrA", 20, False)),
        ("1", 29, 1, ("chrA", 39, False)),
        ("1", 10, 20, ("chrA", 20, False)),
        ("1", 9, 1, "unlifted"),
        ("1", 9, 2, "lifted_in_pieces"),  # begins before the block
        ("1", 29, 2, "lifted_in_pieces"),  # ends behind it
        ("1", 30, 1, "unlifted"),
        ("1", 30, 5, "unlifted"),
        ("1", 29, 7, "lifted_in_pieces"),  # both ends lift, what is between them changed its length
        ("1", 35, 25, ("chrA", 50, False)),
        ("1", 60, 1, "unlifted"),
        ("1", -1, 1, "position_outside_contig"),
        ("1", 99, 1, "unlifted"),
        ("1", 99, 2, "position_outside_contig"),
        ("1", 10**18, 1, "position_outside_contig"),
        ("chr2", 0, 1, ("chrA", 199, True)),
        ("chr2", 9, 1, ("chrA", 190, True)),
        ("2", 2, 3, ("chrA", 195, True)),  # 2, 3, 4 -> 197, 196, 195
        ("2", 10, 1, "position_outside_contig"),
        ("3", 0, 1, "chain_without_contig"),
    ],
)
def test_edges_of_blocks_and_contigs(
    small: Chain, name: str, start: int, length: int, expected: tuple[str, int, bool] | str
) -> None:
    assert one(small, name, start, length) == expected


def test_a_chain_file_says_which_contigs_it_lifts(tmp_path: Path) -> None:
    path = tmp_path / "small.chain.gz"
    path.write_bytes(gzip.compress(SMALL.replace("\n", "\r\n").encode()))
    chain = Chain(path, {"NC_1": "chr1"})
    assert chain.source_lengths == {"1": 100, "2": 10}
    assert chain.target_lengths == {"A": 200}
    assert chain.targets == ["chrA"]
    assert one(chain, "NC_1", 10, 1) == ("chrA", 20, False)


def test_a_file_with_one_block_and_a_last_block_of_no_bases(tmp_path: Path) -> None:
    chain = Chain(write(tmp_path / "c", "chain 1 chr22 40001 + 0 40001 chrY 40001 + 0 40001 2\n40001\t0\t0\n0\n"))
    assert one(chain, "22", 40_000, 1) == ("chrY", 40_000, False)
    assert one(chain, "7", 40_000, 1) == "chain_without_contig"


def expected(world: World, name: str, start: int, length: int) -> set[tuple[str, int, bool]] | str:
    """By the mapping of single bases: the places to which one block takes the whole span, or why there is none."""
    spans = [world.places.get((name, start + i), []) for i in range(length)]
    blocks = {place[3] for place in spans[0]}.intersection(*[{place[3] for place in places} for places in spans])
    if blocks:
        ends = [[place for place in places if place[3] in blocks] for places in (spans[0], spans[-1])]
        return {(a[0], min(a[1], b[1]), a[2] == "-") for a, b in zip(*ends, strict=True)}
    return "lifted_in_pieces" if spans[0] or spans[-1] else "unlifted"


@given(seed=st.integers(0, 10**6))
def test_spans_of_a_random_world_lift_as_its_bases_do(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    world, rng = random_world(seed), random.Random(seed)
    chain = Chain(write(tmp_path_factory.mktemp("c") / "c.chain", world.forth))
    for name, bases in world.source.items():
        for start in range(len(bases)):
            length = rng.randint(1, min(rng.choice([1, 2, 12]), len(bases) - start))
            found, want = one(chain, name, start, length), expected(world, name, start, length)
            assert ({found} if isinstance(found, tuple) else found) == want


@given(seed=st.integers(0, 10**6))
def test_spans_under_several_chains(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    rng = random.Random(seed)
    world = World({"1": "N" * 60}, {"A": "N" * 200})
    for _ in range(rng.randint(2, 4)):
        blocks = [(rng.randint(1, 9), rng.randint(0, 3), rng.randint(0, 3)) for _ in range(rng.randint(1, 3))]
        world.add_chain(("1", rng.randint(0, 60 - 36)), ("A", rng.randint(0, 164)), rng.choice("+-"), blocks)
    chain = Chain(write(tmp_path_factory.mktemp("c") / "c.chain", world.forth))
    for start in range(60):
        length = rng.randint(1, min(4, 60 - start))
        found, want = one(chain, "1", start, length), expected(world, "1", start, length)
        covering = {place[3] for place in world.places.get(("1", start), [])}
        whole = [
            b
            for b in covering
            if all(b in {p[3] for p in world.places.get(("1", start + i), [])} for i in range(length))
        ]
        if len(whole) > 1:
            assert found == "lifted_to_many"
        else:
            assert ({found} if isinstance(found, tuple) else found) == want


def test_agreement_with_two_libraries_on_the_real_chains(shared: Path) -> None:
    path = shared / "data" / CHAIN
    chain, rng = Chain(path), random.Random(5)
    theirs, other = liftover.ChainFile(str(path)), pyliftover.LiftOver(str(path))
    blocks = [
        (c.source_name, edge) for c in other.chain_file.chains for start, end, _ in c.blocks for edge in (start, end)
    ]
    names, sizes = list(chain.source_lengths), list(chain.source_lengths.values())
    spans = [
        (f"chr{name}".replace("chrMT", "chrM"), rng.randrange(chain.source_lengths[name]), 1)
        for name in rng.choices(names, sizes, k=60_000)
    ]
    spans += [(name, edge + rng.choice([-1, 0, 1]), 1) for name, edge in rng.choices(blocks, k=40_000)]
    spans = [
        (name, start, 1)
        for name, start, _ in spans
        if 0 <= start < chain.source_lengths[re.sub("^chr", "", name).replace("M", "MT")]
    ]
    found = lift(chain, *spans)
    ours = [
        (chain.targets[target], int(there), "-" if reverse else "+") if not outcome else OUTCOMES[outcome]
        for target, there, reverse, outcome in zip(*found[:4], strict=True)
    ]
    assert len(spans) > 99_900
    assert {outcome for outcome in ours if isinstance(outcome, str)} == {"unlifted"}
    assert sum(isinstance(place, tuple) and place[2] == "-" for place in ours) > 1_000
    unmapped: list[tuple[str, int, str]] = []
    assert [[place] if isinstance(place, tuple) else unmapped for place in ours] == [
        theirs.query(name, start) for name, start, _ in spans
    ]
    assert [[place] if isinstance(place, tuple) else unmapped for place in ours[::10]] == [
        [place[:3] for place in other.convert_coordinate(name, start)] for name, start, _ in spans[::10]
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no chain in"),
        ("##fileformat=VCFv4.2\n#CHROM\n1\t5\n", "line 3: b'1\\\\t5\\\\n' does not begin with `chain`"),
        (SMALL.replace("20 5 10\n25\n", "20 5 10\n"), "Expecting one number on the last line"),
        (SMALL.replace("20 5 10\n25\n", "20 5 10\n24\n"), "do not match specified block sizes"),
        (SMALL.replace("20 5 10\n", "20 x 10\n"), "invalid literal"),
        (SMALL.replace("20 5 10\n25\n", "50 -25 -20\n25\n"), "negative length"),
        (SMALL.replace("chr1 100", "chr1 50"), "it leaves its contig chr1"),
        (SMALL.replace("2 10 + 0 10 chrA 200", "2 10 + 0 10 chrA 9"), "it leaves its contig chrA"),
        (SMALL.replace("2 10 + 0 10 chrA 200", "2 10 + 0 10 chrA 201"), "chrA has 201 bp here and 200 bp in a chain"),
        (SMALL.replace("chain 9 chr1", "chain 9"), "cannot be used"),
        ("chain\n", "cannot be used"),
    ],
)
def test_what_is_no_chain_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "bad.chain", text)
    with pytest.raises(InputFileError, match=message) as caught:
        Chain(path)
    assert str(path) in str(caught.value)


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"nowhere\.chain .*does not exist"):
        Chain(tmp_path / "nowhere.chain")
    with pytest.raises(InputFileError, match="is not a file"):
        Chain(tmp_path)
    packed = gzip.compress((SMALL * 500).encode() + random.Random(1).randbytes(5_000))
    for damaged in (packed[: len(packed) // 2], packed[:40] + b"\0" * 9 + packed[49:]):
        path = tmp_path / "damaged.chain.gz"
        path.write_bytes(damaged)
        with pytest.raises(InputFileError, match=r"damaged\.chain\.gz.* download it again"):
            Chain(path)
