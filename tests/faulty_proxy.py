"""An HTTP proxy in front of a server that does to requests what networks and busy servers do."""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

FAULTS = ("slow_down", "delay", "cut_before", "cut_body", "lost_answer")
"""503 SlowDown; an answer that takes a while; a connection closed without the server having seen the request; one
closed in the middle of the body; one closed after the server has done what was asked."""

_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_HOP = {"connection", "transfer-encoding", "content-length", "server", "date"}


class FaultyProxy:
    """Listens on a port of loopback while it is entered.

    Which request meets which fault depends on the seed, the request's method and path and how often it was made, but
    not on the order in which threads come.

    Args:
        upstream: endpoint of the server.
        rates: share of requests by fault.
        seed: of the choice.
        delay: seconds of a `delay`.
        ignore_conditions: drop If-None-Match from requests, as a server that does not know it.
        refuse_conditions: answer them with 501, as a server that knows that it does not know it.

    Attributes:
        endpoint: URL of the proxy.
        injected: how often each fault was.
        requests: how many came in.
        sent: bytes of bodies that went back.
    """

    def __init__(
        self,
        upstream: str,
        rates: Mapping[str, float] | None = None,
        seed: int = 0,
        delay: float = 0.3,
        ignore_conditions: bool = False,
        refuse_conditions: bool = False,
    ) -> None:
        assert set(rates or {}) <= set(FAULTS)
        self.upstream, self.rates, self.seed, self.delay = urlsplit(upstream), dict(rates or {}), seed, delay
        self.ignore_conditions, self.refuse_conditions = ignore_conditions, refuse_conditions
        self.injected: Counter[str] = Counter()
        self.requests = self.sent = 0
        self._seen: Counter[str] = Counter()
        self._ordered: list[tuple[str, str, str]] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> FaultyProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def inject(self, fault: str, method: str, path: str = "", times: int = 1) -> None:
        """Let the next requests of a method whose path contains a text meet a fault."""
        assert fault in FAULTS
        with self._lock:
            self._ordered += [(fault, method, path)] * times

    def choose(self, method: str, path: str) -> str | None:
        """The fault of a request that came in."""
        with self._lock:
            self.requests += 1
            self._seen[f"{method} {path}"] += 1
            for order in self._ordered:
                if order[1] == method and order[2] in path:
                    self._ordered.remove(order)
                    return order[0]
            drawn = random.Random(f"{self.seed} {method} {path} {self._seen[f'{method} {path}']}").random()
            for fault, rate in self.rates.items():
                drawn -= rate
                if drawn < 0:
                    return fault
            return None

    def count_sent(self, size: int) -> None:
        with self._lock:
            self.sent += size

    def count(self, fault: str) -> None:
        with self._lock:
            self.injected[fault] += 1


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultyProxy
    protocol_version = "HTTP/1.1"

    def serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        proxy, path = self.proxy, self.path
        fault = proxy.choose(self.command, path)
        if fault == "cut_before":
            return self._cut(fault)
        if fault == "slow_down":
            proxy.count(fault)
            return self._answer(503, {"Content-Type": "application/xml"}, _SLOW_DOWN)
        if proxy.refuse_conditions and "If-None-Match" in self.headers:
            return self._answer(501, {}, b"<Error><Code>NotImplemented</Code></Error>")
        status, headers, content = self._forward(body)
        if fault == "delay":
            proxy.count(fault)
            time.sleep(proxy.delay)
        if fault == "lost_answer" and self.command in ("PUT", "POST", "DELETE"):
            return self._cut(fault)
        if fault == "cut_body" and len(content) > 1:
            return self._answer(status, headers, content, cut=True)
        return self._answer(status, headers, content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = serve  # noqa: N815

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        if self.proxy.ignore_conditions:
            headers.pop("if-none-match", None)
        assert self.proxy.upstream.hostname is not None
        connection = http.client.HTTPConnection(self.proxy.upstream.hostname, self.proxy.upstream.port, timeout=60)
        try:
            connection.request(self.command, self.path, body, headers)
            response = connection.getresponse()
            answered = {name: value for name, value in response.getheaders() if name.lower() not in _HOP}
            if self.command == "HEAD" and response.getheader("Content-Length"):
                answered["Content-Length"] = response.headers["Content-Length"]
            return response.status, answered, response.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: Mapping[str, str], content: bytes, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers and status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        sent = content[: len(content) // 2] if cut else content
        self.proxy.count_sent(len(sent))
        self.wfile.write(sent)
        if cut:
            self.wfile.flush()
            self._cut("cut_body")

    def _cut(self, fault: str) -> None:
        self.proxy.count(fault)
        self.close_connection = True
        # Half of the time politely, half of the time as a connection that is reset.
        if sum(self.proxy.injected.values()) % 2:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            self.connection.shutdown(socket.SHUT_RDWR)

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass
