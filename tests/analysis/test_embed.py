from __future__ import annotations

import hashlib
import json
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enformer_ray.analysis.report.page import json_block, policy
from enformer_ray.errors import shortened

UPLOT = {
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}
"""sha256 of the files of uplot 1.6.32 on npm."""


@given(st.text(), st.text())
def test_no_text_can_end_the_block(one: str, other: str) -> None:
    values = {"a": [one, "</script>", "<!--", "\u2028\u2029&"], other: 1}
    block = str(json_block(values))
    assert not set("<>&\u2028\u2029") & set(block)
    assert json.loads(block) == values


def test_numbers_that_are_none_are_null() -> None:
    assert json_block([float("nan"), float("inf"), 1.5, (2, "\ud800")]) == '[null,null,1.5,[2,"?"]]'


def test_the_policy_allows_only_what_is_in_the_page() -> None:
    said = policy(["alert('Hello, world.');"], ["a{}"])
    # The example of the standard: https://www.w3.org/TR/CSP3/#external-hash
    assert "script-src 'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng=';" in said
    assert said.startswith("default-src 'none';")
    assert "unsafe" not in said


@given(st.text(max_size=400), st.integers(40, 120))
def test_shortened_texts_fit(text: str, most: int) -> None:
    short = shortened(text, most)
    assert len(short) <= most
    assert short == text or (len(text) > most and text.startswith(short.partition("...")[0]))


@pytest.mark.parametrize(("name", "sha256"), UPLOT.items())
def test_the_plotting_library_is_the_published_one(name: str, sha256: str) -> None:
    content = files("enformer_ray.analysis.report").joinpath("vendor", name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == sha256
