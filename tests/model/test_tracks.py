from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enformer_ray.errors import InputFileError, SelectionError
from enformer_ray.model.tracks import HISTONE_MARKS, TrackTable, column_name, read_track_table, select_tracks

DESCRIPTIONS = ("DNASE:liver", "ATAC:K562", "CHIP:H3K27ac:liver", "CHIP:HDAC2:HepG2", "CAGE:Liver, adult", "RNA:brain")


@pytest.fixture
def table(tmp_path: Path) -> TrackTable:
    rows = [f"id{i}\tmean\t{description}" for i, description in enumerate(DESCRIPTIONS)]
    (tmp_path / "tracks.tsv").write_text("\n".join(["identifier\tsum_stat\tdescription", *rows]) + "\n")
    return read_track_table(tmp_path / "tracks.tsv", "human", len(DESCRIPTIONS))


def test_table_of_ones_own(table: TrackTable) -> None:
    assert table.description == DESCRIPTIONS
    assert table.identifier[3] == "id3"
    assert table.assay == ("DNASE", "ATAC", "CHIP", "CHIP", "CAGE", "")
    assert set(table.genome) == {"human"}
    assert [table.centre_width(i) for i in range(len(table))] == [501, 501, 2001, 501, 501, 501]


def test_published_tables(shared: Path) -> None:
    human = read_track_table(shared / "data" / "tracks" / "targets_human.txt", "human", 5313)
    mouse = read_track_table(shared / "data" / "tracks" / "targets_mouse.txt", "mouse", 1643)
    assert human.identifier[:2] == ("ENCFF833POA", "ENCFF110QGM")
    assert mouse.identifier[0] == "ENCFF866ZTV"
    both = human.assay + mouse.assay
    assert {assay: both.count(assay) for assay in set(both)} == {"DNASE": 775, "ATAC": 137, "CHIP": 5049, "CAGE": 995}
    cage = select_tracks(["assay:CAGE"], 5313, human)
    assert len(cage) == 638
    assert all(human.description[i].startswith("CAGE:") for i in cage)


def test_every_histone_mark_of_the_published_tables_is_listed_and_nothing_else(shared: Path) -> None:
    targets: set[str] = set()
    for head, count in (("human", 5313), ("mouse", 1643)):
        table = read_track_table(shared / "data" / "tracks" / f"targets_{head}.txt", head, count)
        targets |= {d.split(":")[1] for d, assay in zip(table.description, table.assay, strict=True) if assay == "CHIP"}
    assert targets >= HISTONE_MARKS
    others = {t for t in targets - HISTONE_MARKS if t.upper().startswith(("H1", "H2", "H3", "H4", "HIST"))}
    assert others == set()
    assert not HISTONE_MARKS & {"HDAC2", "HNF4A", "HCFC1", "EZH2"}


@pytest.mark.parametrize(
    ("content", "count", "named"),
    [
        ("identifier\tdescription\na\tCAGE:x\n", 2, "has 1 rows, but the mouse head of the network has 2 tracks"),
        ("identifier description\na CAGE:x\n", 1, "no column identifier and no column description"),
        ("identifier\tname\na\tCAGE:x\n", 1, "no column description"),
        ("identifier\tdescription\na\n", 1, "line 2"),
        ("index\tidentifier\tdescription\n7\ta\tx\n9\tb\ty\n", 2, "line 3 of the track table"),
        ("index\tidentifier\tdescription\nx\ta\tx\n", 1, "'x'"),
        ("", 1, "no column"),
    ],
)
def test_table_that_does_not_fit_is_refused(tmp_path: Path, content: str, count: int, named: str) -> None:
    path = tmp_path / "tracks.tsv"
    path.write_text(content)
    with pytest.raises(InputFileError) as caught:
        read_track_table(path, "mouse", count)
    assert named in str(caught.value)
    assert str(path) in str(caught.value)


def test_table_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="cannot be read"):
        read_track_table(tmp_path / "absent.tsv", "human", 3)
    (tmp_path / "binary.tsv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputFileError, match="cannot be read"):
        read_track_table(tmp_path / "binary.tsv", "human", 3)


def test_column_names() -> None:
    assert [column_name(i) for i in (0, 5, 5312)] == ["track_0000", "track_0005", "track_5312"]


@pytest.mark.parametrize(
    ("selectors", "expected"),
    [
        ([], [0, 1, 2, 3, 4, 5]),
        (["5"], [5]),
        (["1-3"], [1, 2, 3]),
        (["4, 0,2-3", "3"], [0, 2, 3, 4]),
        (["assay:CHIP"], [2, 3]),
        (["assay:cage", "0"], [0, 4]),
        (["regex:liver"], [0, 2, 4]),
        (["regex:^CHIP:H3.*:liver$"], [2]),
        (["regex:Liver, adult"], [4]),
    ],
)
def test_selectors(table: TrackTable, selectors: list[str], expected: list[int]) -> None:
    assert select_tracks(selectors, 6, table) == expected


def test_selector_file(table: TrackTable, tmp_path: Path) -> None:
    path = tmp_path / "wanted.txt"
    path.write_text("# wanted\n4\n\nid1   # by identifier\n2-3\n")
    assert select_tracks([f"file:{path}"], 6, table) == [1, 2, 3, 4]
    path.write_text("0\n2\n")
    assert select_tracks([f"file:{path}"], 6, None) == [0, 2]


@pytest.mark.parametrize(
    "selector",
    ["6", "2-6", "3-2", "-1", "1.5", "", "1,,2", "liver", "assay:RNA", "assay:", "regex:xyz", "regex:(", "track:3"],
)
def test_bad_selector_is_named(table: TrackTable, selector: str) -> None:
    with pytest.raises(SelectionError) as caught:
        select_tracks(["0", selector], 6, table)
    assert repr(selector) in str(caught.value)
    assert caught.value.exit_status == 2


def test_bad_selector_file_is_named(table: TrackTable, tmp_path: Path) -> None:
    path = tmp_path / "wanted.txt"
    for content, named in (("0\n99\n", f"line 2 of {path}"), ("nothing\n", "'nothing'"), ("# none\n", "single track")):
        path.write_text(content)
        with pytest.raises(SelectionError, match=named):
            select_tracks([f"file:{path}"], 6, table)
    with pytest.raises(SelectionError, match="cannot be read"):
        select_tracks([f"file:{tmp_path / 'absent'}"], 6, table)


def test_selectors_that_need_a_table_say_so(tmp_path: Path) -> None:
    (tmp_path / "wanted.txt").write_text("ENCFF833POA\n")
    for selector in ("assay:CAGE", "regex:liver", f"file:{tmp_path / 'wanted.txt'}"):
        with pytest.raises(SelectionError, match="needs a track table"):
            select_tracks([selector], 6, None)


@given(st.sets(st.integers(0, 400), min_size=1), st.randoms())
def test_any_set_of_indices_can_be_written(indices: set[int], random: object) -> None:
    runs: list[list[int]] = []
    for index in sorted(indices):
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    parts = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    random.shuffle(parts)  # type: ignore[attr-defined]
    assert select_tracks([",".join(parts)], 401, None) == sorted(indices)
    assert select_tracks(parts, 401, None) == sorted(indices)
