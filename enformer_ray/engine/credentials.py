"""Credentials do not belong in a job: it is stored in the run directory, on the cluster's head and in logs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from enformer_ray.config import JobConfig
from enformer_ray.errors import ConfigError

_LOOKS_SECRET = {
    "a user name or password in a URI": re.compile(r"://[^/?#\s]*@"),
    "an AWS access key": re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"),
    "a signed URL": re.compile(
        r"[?&](X-Amz-(Signature|Credential|Security-Token)|X-Goog-Signature|AWSAccessKeyId|Signature|sig)=", re.I
    ),
    "a key or token in a URI": re.compile(
        r"[?&;](access_?key|secret_?key|aws_[a-z_]+|session_?token|token|password|api_?key)[^=&]*=", re.I
    ),
    "a Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{20,}"),
    "a GitHub token": re.compile(r"\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,})"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
}


def refuse_credentials(job: JobConfig) -> None:
    """Refuse a job with a value that looks like a credential.

    Raises:
        ConfigError: naming the keys, never the values.
    """
    found = [
        f"  {key}: {name}"
        for key, text in _strings(job.model_dump(mode="json"))
        for name, pattern in _LOOKS_SECRET.items()
        if pattern.search(text)
    ]
    if found:
        raise ConfigError(
            "the job holds what looks like a credential:\n" + "\n".join(found) + "\nA job is kept in the run "
            "directory, on the cluster and in logs. Take it out; machines get credentials from their own environment "
            "(instance role, service account, Secret: see cluster/README.md)."
        )


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _strings(item, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, key)
