"""The counter of launches, copies and waits: what counts, and what today's scorer asks for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from gpu.counting import DeviceWork, WorkCounter
from gpu.others import counted
from gpu.report import Report
from gpu.world import BINNED, INSERTIONS, SHARED, Case, World
from torch import Tensor

from tests.benchmarks.conftest import FOLDER


@pytest.fixture(params=[False, True], ids=["grad mode", "inference mode"])
def mode(request: pytest.FixtureRequest) -> Iterator[None]:
    """In inference mode torch hands operations over that consist of others."""
    with torch.inference_mode(request.param):
        yield


def work_of(body: object, *tensors: Tensor, device: str = "meta") -> DeviceWork:
    with WorkCounter(device) as counter:
        body(*tensors)  # type: ignore[operator]
    return counter.work


def on_meta(*shape: int) -> Tensor:
    return torch.zeros(shape, device="meta")


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize(
    ("body", "launches"),
    [
        (lambda x: x + 1, 1),
        (lambda x: x.add_(1).mul_(2), 2),
        (lambda x: x.view(2, 8).transpose(0, 1)[1:, None].unbind(0), 0),
        (lambda x: x.T.contiguous(), 1),
        (lambda x: x.contiguous().reshape(-1).detach(), 0),
        (lambda x: x.double(), 1),
        (lambda x: x.to(torch.float32), 0),
        (torch.empty_like, 0),
        (torch.zeros_like, 1),
        (lambda x: torch.cat([x, x]), 1),
        (lambda x: x @ x, 1),
        (lambda x: torch.nn.functional.linear(x, x, x[0]), 1),
        (lambda x: x.new_empty(4, 4).copy_(x), 1),
    ],
)
def test_launches(body: object, launches: int) -> None:
    work = work_of(body, on_meta(4, 4))
    assert work.launches == launches, work.operations
    assert (work.to_device, work.to_host, work.waits) == (0, 0, 0)


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (lambda: torch.ones(3).to("meta"), (0, 1, 0, 1)),
        (lambda: torch.ones(3).to("meta").long(), (1, 1, 0, 1)),
        (lambda: on_meta(3).cpu().numpy(), (1, 0, 1, 1)),
        (lambda: on_meta(3).copy_(torch.ones(3)), (1, 1, 0, 1)),
        (lambda: torch.ones(3) + 1, (0, 0, 0, 0)),
        (lambda: on_meta(3).sum().item(), (2, 0, 1, 1)),
    ],
)
def test_copies_and_waits(body: object, expected: tuple[int, int, int, int]) -> None:
    work = work_of(body)
    assert (work.launches, work.to_device, work.to_host, work.waits) == expected, work.operations


@pytest.mark.usefixtures("mode")
def test_it_changes_no_result() -> None:
    x = torch.arange(12.0).view(3, 4)
    with WorkCounter("cpu") as counter:
        counted_sum = (x @ x.T).relu().sum()
    assert counted_sum == (x @ x.T).relu().sum()
    assert counter.work.launches == 3


@pytest.mark.parametrize(
    ("case", "launches", "to_device"), [(SHARED, 169, 1.41), (BINNED, 391, 3.52), (INSERTIONS, 286, 2.41)]
)
@pytest.mark.slow
def test_what_the_scorer_asks_for(tmp_path: object, case: Case, launches: float, to_device: float) -> None:
    """Of the published geometry at batch 32; RESULTS.md has the table."""
    world = World(torch.device("cpu"), False, Report(FOLDER / "unwritten.json", {"began": 0.0}), 1.0)
    values = counted(world, case, 32)
    assert values["launches"] == pytest.approx(launches, rel=0.03)
    assert values["to_device"] == pytest.approx(to_device, abs=0.03)
    assert values["to_host"] == 1
    assert values["waits"] == pytest.approx(to_device + 1, abs=0.03)
