"""The file that `query` writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from enformer_ray.cli.dataset import target_of
from enformer_ray.errors import SelectionError, StoreError


def test_errors_of_the_run_are_not_those_of_the_output(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"), target_of(tmp_path / "out.csv"):
        raise StoreError("s3://runs/a cannot be read.")
    with pytest.raises(SelectionError, match=r"--output .*out\.csv cannot be written"), target_of(tmp_path / "out.csv"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []
