"""Text as it is shown: no character that acts on a terminal, no credential."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enformer_ray.config import build_config
from enformer_ray.errors import ConfigError, StoreError, UnknownContigError
from enformer_ray.shown import credentials_in, redacted, shown, texts_in, visible

WITH_CREDENTIALS = [
    ("s3://AKIAABCDEFGHIJKLMNOP:geheim/1+2@bucket/run", "s3://***@bucket/run"),
    ("s3:/KEY:geheim@bucket/run", "s3:/***@bucket/run"),  # as pathlib writes it
    ("https://user:geheim@host/a.vcf", "https://***@host/a.vcf"),
    ("https://user:ge@heim@host/a.vcf", "https://***@host/a.vcf"),
    ("https://user:geheim?1@host/a.vcf", "https://***@host/a.vcf"),
    ("redis://:geheim@host:6379/0", "redis://***@host:6379/0"),
    ("s3://b/a?AWSAccessKeyId=geheim1&Signature=geheim2%3D&x=1", "s3://b/a?AWSAccessKeyId=***&Signature=***&x=1"),
    ("https://b/a?X-Amz-Credential=geheim/2026&X-Amz-Signature=geheim", None),
    ("https://b/a?X-Goog-Signature=geheim", None),
    ("https://a.blob.core.windows.net/c?sv=2024&sig=geheim%3D&se=1", None),
    ("https://b/a?token=geheim", None),
    ("https://b/a#access_token=geheim", None),
    ("AccountName=x;AccountKey=geheim==;EndpointSuffix=y", None),
    ("hf_geheimgeheimgeheimgeheim", "***"),
    ("-----BEGIN PRIVATE KEY-----\ngeheim\n-----END PRIVATE KEY-----\nafter", "***\nafter"),
]

WITHOUT = [
    "s3://bucket/run@2/a",
    "http://head:8265/a@b",
    "ray://head:10001",
    "saturate:/me@home/a.bed",
    "file:/data@2024/tracks.txt",
    "1:100:A:G",
    "/data/chr?/key=1/*.vcf.gz",
    "regex:liver|key=value",
    "someone@example.org",
    "EleutherAI/enformer-official-rough",
]


@pytest.mark.parametrize(("text", "expected"), WITH_CREDENTIALS)
def test_credentials_are_left_out(text: str, expected: str | None) -> None:
    for found in (redacted(text), redacted(f"the run {text!r} cannot be used: ({text})"), str(StoreError(text))):
        assert "geheim" not in found
        assert "***" in found
    assert expected is None or redacted(text) == expected
    assert credentials_in(text)
    assert "geheim" not in " ".join(credentials_in(text))


@pytest.mark.parametrize("text", WITHOUT)
def test_what_is_no_credential_stays(text: str) -> None:
    assert redacted(text) == text
    assert credentials_in(text) == []


@given(st.text())
def test_nothing_acts_on_a_terminal(text: str) -> None:
    found = visible(text)
    assert all(c.isprintable() or c in "\n\t" for c in found)
    assert visible(found) == found
    found.encode()  # a file name may hold bytes that are no character


def test_escapes_are_those_of_python() -> None:
    assert visible("a\x1b[31mb\x07\r\x9b\u202e\u2028\udce4\x00") == r"a\x1b[31mb\x07\r\x9b\u202e\u2028\udce4\x00"
    assert shown("ö 肝 🧬\n\tb") == "ö 肝 🧬\n\tb"


def test_errors_hold_no_credential_anywhere() -> None:
    uri = "s3://key:geheim@bucket/run"
    for error in (ConfigError(uri), StoreError(uri), UnknownContigError(uri)):
        assert "geheim" not in str(error)
        assert "geheim" not in str(pickle.loads(pickle.dumps(error)))


def test_texts_of_nested_values_have_dotted_keys() -> None:
    values = {"a": ["x", {"b": Path("y")}], "c": 1, "d": {"e": "z"}}
    assert list(texts_in(values)) == [("a", "x"), ("a.b", "y"), ("d.e", "z")]


@pytest.mark.parametrize("key", ["variants", "previous", "reference", "output", "weights", "tracks_table", "address"])
def test_a_job_with_a_credential_is_refused_by_its_key(key: str) -> None:
    job = {"variants": ["a.vcf"], "reference": "a.fa", "output": "run"}
    for value in ("https://user:geheim@host/x", Path("https://user:geheim@host/x"), ["s3://b/x?sig=geheim"]):
        with pytest.raises(ConfigError) as refused:
            build_config(job | {key: value}, "the job")
        assert f"  {key}: " in str(refused.value)
        assert "geheim" not in str(refused.value)


def test_so_is_one_deep_in_it_or_under_an_unknown_key() -> None:
    job = {"variants": ["a.vcf"], "reference": "a.fa", "output": "run"}
    for more in ({"catalogue": {"chain": {"a.vcf": "https://u:geheim@h/c"}}}, {"unknown": "s3://b?secret=geheim"}):
        with pytest.raises(ConfigError) as refused:
            build_config(job | more, "the job")
        assert "credential" in str(refused.value)
        assert "geheim" not in str(refused.value)
