from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from enformer_ray.model.enformer import Enformer
from enformer_ray.model.geometry import EnformerConfig
from enformer_ray.model.keys import weight_names


@pytest.fixture(scope="module")
def full_size() -> Enformer:
    with torch.device("meta"):
        return Enformer(EnformerConfig())


def test_names_shapes_and_layouts_equal_the_published_map(parity: Path, full_size: Enformer) -> None:
    with (parity / "name_map.tsv").open(newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))[1:]
    used = {row[0]: row for row in rows if not row[2].startswith("(unused")}
    names = weight_names(full_size.config)
    assert {name.sonnet: (name.hub, name.layout) for name in names} == {
        key: (row[2], row[4]) for key, row in used.items()
    }
    assert {key.rsplit("/", 1)[1] for key in {row[0] for row in rows} - set(used)} == {"_hidden", "_counter"}
    shapes = {key: list(tensor.shape) for key, tensor in full_size.state_dict().items()}
    assert {name.sonnet: shapes[name.module] for name in names} == {key: json.loads(r[3]) for key, r in used.items()}


def test_every_weight_is_named_once(full_size: Enformer) -> None:
    names = weight_names(full_size.config)
    assert sorted(name.module for name in names) == sorted(full_size.state_dict())
    assert len(names) == 269 + 4
    assert len({name.hub for name in names}) == len({name.sonnet for name in names}) == len(names)


def test_full_size_counts(full_size: Enformer) -> None:
    def count(module: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    assert count(full_size) == 251_221_292
    assert sum(buffer.numel() for buffer in full_size.buffers()) == 29_696
    parts = (full_size.stem, full_size.tower, full_size.transformer, full_size.pointwise)
    assert [count(part) for part in parts] == [1_228_800, 49_649_152, 174_242_816, 4_724_736]
    assert [count(head) for head in full_size.heads.values()] == [16_326_849, 5_048_939]
