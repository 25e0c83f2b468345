from __future__ import annotations

from pathlib import Path

import pytest

from enformer_ray.errors import ConfigError
from enformer_ray.genome.reference import read_contig_aliases


def test_two_columns_comments_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "aliases.tsv"
    path.write_text("# RefSeq\nNC_000001.11\tchr1\n\nNC_000002.12\tchr2\nchr_one\tchr1\nNC_000001.11\tchr1\n")
    assert read_contig_aliases(path) == {"NC_000001.11": "chr1", "NC_000002.12": "chr2", "chr_one": "chr1"}


@pytest.mark.parametrize("line", ["NC_1 chr1", "NC_1\tchr1\t1", "NC_1\t", "\tchr1"])
def test_a_line_of_other_columns_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "aliases.tsv"
    path.write_text(f"a\tb\n{line}\n")
    with pytest.raises(ConfigError, match=r"aliases\.tsv, line 2: .*is not two columns with a tab"):
        read_contig_aliases(path)


def test_a_name_with_two_contigs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "aliases.tsv"
    path.write_text("a\tchr1\na\tchr2\n")
    with pytest.raises(ConfigError, match="line 2: a stands for chr1 and for chr2"):
        read_contig_aliases(path)


def test_a_table_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.tsv \(contig_aliases\) cannot be read"):
        read_contig_aliases(tmp_path / "no.tsv")
    (tmp_path / "no.tsv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"no\.tsv \(contig_aliases\) cannot be read"):
        read_contig_aliases(tmp_path / "no.tsv")
