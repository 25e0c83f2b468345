"""Requests to a bucket of S3 or Google Cloud Storage: connections, retries, and errors that name the remedy."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from obstore.exceptions import AlreadyExistsError, BaseError, NotSupportedError
from obstore.store import GCSStore, S3Store

from enformer_ray.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

T = TypeVar("T")

PATIENCE = 300.0
"""Seconds after which a request that fails again and again is given up."""

_FIRST_CONTACT = 20.0
"""The same for an address that never answered: more likely a wrong one than an outage."""

_ANSWERS = (FileNotFoundError, AlreadyExistsError)
"""Exceptions that are an answer to the question, for callers to understand."""

_ENDPOINTS = {"s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"), "gs": ("GOOGLE_BASE_URL",)}
_PASSING_CODES = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


class UnsupportedError(StoreError):
    """A request that the server, or the library for it, does not know."""


class Bucket:
    """A prefix of a bucket, for two kinds of requests: small ones, which are soon given up and tried again, and bulk.

    `patience`: seconds after which a request that fails again and again is given up.
    """

    def __init__(self, uri: str, patience: float = PATIENCE) -> None:
        self._scheme, self.name, self.prefix = _parse(uri)
        self.uri = f"{self._scheme}://{self.name}/{self.prefix}".rstrip("/")
        names = _ENDPOINTS[self._scheme]
        self._endpoint = next((value for name in names if (value := os.environ.get(name))), "")
        self._patience, self._reached, self._confirmed = patience, False, False
        # read_timeout ends a transfer that stalls; a large file as a whole may take long.
        self.small = self._connect({"timeout": "20s"})
        self.bulk = self._connect({"timeout": "1h", "read_timeout": "120s"})

    def call(self, what: str, path: str, request: Callable[[], T]) -> T:
        """Make a request, which must be repeatable, again and again while its failure may pass.

        Args:
            what: the request does, for a message: "read".
            path: in the run directory, for a message.
            request: makes it.

        Raises:
            FileNotFoundError, AlreadyExistsError: the store's answer.
            UnsupportedError: it cannot do such a thing.
            StoreError: anything else that does not pass.
        """
        began, pause = time.monotonic(), 0.1
        while True:
            try:
                result = request()
            except _ANSWERS as answer:
                if _lacks_bucket(answer):
                    raise self.explained(what, path, answer) from None
                # NoSuchUpload: an upload in parts was completed, or discarded, and the answer lost. It is made again.
                if not _code(answer, "NoSuchUpload") or not self._worthwhile(answer, began):
                    self._reached = True
                    raise
            except NotImplementedError as error:
                raise self._unsupported(what, path, error) from None
            except BaseError as error:
                if isinstance(error, NotSupportedError) or _status(error) == 501:
                    raise self._unsupported(what, path, error) from None
                if not self._worthwhile(error, began):
                    raise self.explained(what, path, error) from None
            else:
                self._reached = self._confirmed = True
                return result
            # At random times: workers that a server refused at one moment must not come back at one moment.
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, 10.0)

    def check(self) -> None:
        """Raise StoreError when the bucket does not exist: asked for an object, a store may say just 'not found'."""
        if not self._confirmed:
            self.call("listed", "", lambda: next(iter(self.small.list(chunk_size=1)), None))

    def explained(self, what: str, path: str, error: Exception) -> StoreError:
        """The error to show, which says where, what and what to do."""
        where = f"{self.uri}/{path}" if path else self.uri
        return StoreError(
            f"the run directory {self.uri} cannot be used: {where} cannot be {what} ({_reason(error)}). "
            f"{self._advice(error)}"
        )

    def _unsupported(self, what: str, path: str, error: Exception) -> UnsupportedError:
        return UnsupportedError(
            f"the run directory {self.uri} cannot be used: {self.uri}/{path} cannot be {what} ({_reason(error)}): this "
            "server does not know such a request. Use another one, or a local or mounted path."
        )

    def _worthwhile(self, error: Exception, began: float) -> bool:
        status = _status(error)
        if _without_credentials(error):
            # Where they worked before, the metadata server that renews them may be out of reach for a moment.
            return self._reached and time.monotonic() - began < self._patience
        if not (status is None or status in _PASSING_CODES or _code(error, "RequestTimeout", "NoSuchUpload")):
            return False
        known = self._reached or status is not None
        # obstore itself repeats a request for `_FIRST_CONTACT` before it reports a failure.
        return time.monotonic() - began < (self._patience if known else min(self._patience, _FIRST_CONTACT) / 2)

    def _connect(self, timeouts: ClientConfig) -> S3Store | GCSStore:
        backoff = {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=5), "base": 2}
        retry: RetryConfig = {
            "max_retries": 8,
            "backoff": backoff,  # type: ignore[typeddict-item]
            "retry_timeout": timedelta(seconds=min(self._patience, _FIRST_CONTACT)),
        }
        client: ClientConfig = {"connect_timeout": "5s", "allow_http": self._allows_http(), **timeouts}
        common: dict[str, Any] = {"prefix": self.prefix or None, "client_options": client, "retry_config": retry}
        if self._endpoint.startswith("http://") and not client["allow_http"]:
            raise StoreError(
                f"the run directory {self.uri} cannot be used: its server is {self._endpoint}, which takes credentials "
                "and data without encryption. Set AWS_ALLOW_HTTP=true if that is meant, or give an https:// address."
            )
        try:
            return S3Store(self.name, **common) if self._scheme == "s3" else GCSStore(self.name, **common)
        except (BaseError, ValueError, OSError) as error:
            raise self.explained("opened", "", error) from None

    def _allows_http(self) -> bool:
        if self._scheme == "s3":
            return os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes", "on")
        return self._endpoint.startswith("http://")  # Google's libraries have no such switch

    def _advice(self, error: Exception) -> str:
        s3, status = self._scheme == "s3", _status(error)
        credentials = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" if s3 else "GOOGLE_APPLICATION_CREDENTIALS"
        address = f"the server at {self._endpoint}" if self._endpoint else ("Amazon S3", "Google Cloud Storage")[not s3]
        if _without_credentials(error):
            return f"Set {credentials}, or run where the machine has a role that may use the bucket."
        if _lacks_bucket(error):
            return f"There is no bucket {self.name!r} at {address}; create it or correct the name."
        if status in (401, 403):
            return (
                f"Check {credentials}, and that their owner may list, read, write and delete objects under "
                f"{self.prefix or 'all of the bucket'} at {address}."
            )
        if status == 301:
            return "The bucket is in another region; set AWS_REGION to it."
        setting = "AWS_ENDPOINT_URL" if s3 else "GOOGLE_BASE_URL"
        return (
            f"Requests to {address} were repeated without success; check the network and {setting}, then run the same "
            "command again."
        )


def _parse(uri: str) -> tuple[str, str, str]:
    parsed = re.fullmatch(r"(s3|gs)://([^/]+)(?:/(.*?))?/*", uri)
    if parsed is None:
        raise ConfigError(f"the run directory {uri!r} names no bucket; give s3://bucket/prefix or gs://bucket/prefix.")
    scheme, bucket, prefix = parsed[1], parsed[2], parsed[3] or ""
    parts = prefix.split("/") if prefix else []
    if not re.fullmatch(r"[A-Za-z0-9._-]+", bucket) or any(not re.fullmatch(r"[\w.@=+-]+", part) for part in parts):
        raise ConfigError(
            f"the run directory {uri!r} has characters in it that programs read as patterns, or an empty folder name; "
            "use letters, digits and -_.@=+ between single slashes."
        )
    if {".", ".."} & set(parts):
        raise ConfigError(
            f"the run directory {uri!r} has a folder named . or .. in it, which object stores do not know."
        )
    return scheme, bucket, prefix


def _status(error: Exception) -> int | None:
    """HTTP status in a message of obstore; None when no answer came."""
    found = re.search(r"status code: (\d{3})", str(error))
    return int(found[1]) if found else None


def _code(error: Exception, *codes: str) -> bool:
    """Whether S3's answer has one of these error codes."""
    return any(f"<Code>{code}</Code>" in str(error) for code in codes)


def _lacks_bucket(error: Exception) -> bool:
    return _code(error, "NoSuchBucket")


def _without_credentials(error: Exception) -> bool:
    # The last resort for credentials is the metadata server of a cloud machine, on this address.
    text = str(error).partition("\n")[0]
    return (
        "169.254.169.254" in text
        or "metadata.google.internal" in text
        or re.search("Missing ?[A-Za-z]*Key", text) is not None
    )


def _reason(error: Exception) -> str:
    """The sentence of an obstore message, without its debugging trace, addresses of retries and XML."""
    if _without_credentials(error):
        return "no credentials were found"
    text = str(error).partition("\n\nDebug source")[0]
    code = re.search(r"<Code>([^<]+)</Code>", text)
    message = re.search(r"<Message>([^<]+)</Message>", text)
    status = _status(error)
    if status is not None:
        words = [f"status {status}", *(found[1] for found in (code, message) if found)]
        return ", ".join(words).rstrip(".")
    return " ".join(re.split(r" - |: <", text)[-1].split())[:300]
