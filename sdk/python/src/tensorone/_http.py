"""Requests to the addresses of one cluster, and when they are repeated."""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import ssl
import threading
import time
import urllib.parse
import urllib.request
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ._errors import APIError, ConnectionFailed, UnavailableError, api_error
from ._version import __version__

DEFAULT_BASE = "http://127.0.0.1:7400"
_PLACEHOLDER = "your_api_key"  # of the documentation: it gives way to the environment, so that a pasted example runs
_FIRST_WAIT = 0.25  # doubled each time: half a second of failover fits into the first three
_LONGEST_WAIT = 8.0
_LONGEST_RETRY_AFTER = 30.0  # a longer one is the caller's to wait for
_IDLE = 60.0  # the server drops a silent connection after two minutes
_POOL = 16  # idle connections kept for one address

#: When a call may be sent again.
SAFE = "safe"  # it has the same effect however often it arrives
UNSENT = "unsent"  # only while it surely had none


class Request:
    """One call; hold is how long the server may keep it, silence how long a stream may say nothing, in seconds."""

    def __init__(
        self,
        method: str,
        path: str,
        repeat: str = SAFE,
        query: Optional[Mapping[str, Any]] = None,
        headers: Optional[Mapping[str, str]] = None,
        body: Any = None,
        hold: float = 0,
        silence: Optional[float] = None,
    ) -> None:
        self.method = method
        self.path = path
        self.repeat = repeat
        self.query = {k: v for k, v in (query or {}).items() if v is not None}
        self.headers = dict(headers or {})
        self.body = None if body is None else json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8")
        self.hold = hold
        self.silence = silence

    def target(self) -> str:
        return self.path + ("?" + urllib.parse.urlencode(self.query) if self.query else "")


class Settings:
    """What a client was given, completed from the environment."""

    def __init__(
        self,
        api_key: Optional[str],
        base_url: Optional[str],
        timeout: float,
        max_retries: int,
        headers: Optional[Mapping[str, str]],
        ssl_context: Optional[ssl.SSLContext],
    ) -> None:
        known = os.environ.get("TENSORONE_API_KEY")
        key = known if not api_key or (api_key == _PLACEHOLDER and known) else api_key
        if not key:
            raise ValueError("cannot make a client: no API key; give api_key or set TENSORONE_API_KEY")
        self.api_key = key
        given = base_url or os.environ.get("TENSORONE_BASE_URL") or DEFAULT_BASE
        self.bases = [_base(text) for text in given.split(",")]
        self.timeout = timeout
        self.max_retries = max_retries
        self.headers = dict(headers or {})
        self.ssl_context = ssl_context


def _base(text: str) -> urllib.parse.SplitResult:
    trimmed = text.strip().rstrip("/")
    if trimmed.endswith("/v2"):
        trimmed = trimmed[: -len("/v2")]
    parts = urllib.parse.urlsplit(trimmed)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"cannot use base URL {text!r}: it must begin with http:// or https://, for example {DEFAULT_BASE}")
    return parts


class Exchange:
    """One request on one connection, of whose answer only the header was read."""

    def __init__(self, connection: http.client.HTTPConnection, sock: Optional[socket.socket], response: http.client.HTTPResponse) -> None:
        self.connection = connection
        self.response = response
        self._sock = sock  # the connection forgets it when the server will close

    def abort(self) -> None:
        """End the exchange, also while another thread reads its answer."""
        if self._sock is not None:
            try:
                self._sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self) -> None:
        self.response.close()
        self.connection.close()


class Transport:
    """Sends requests; safe for use by several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._current = 0  # the address that answered last
        self._idle: Dict[int, List[Tuple[float, http.client.HTTPConnection]]] = {}
        self._closed = False

    def close(self) -> None:
        """Close the idle connections; later ones are closed when their answer was read."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for _, connection in connections:
                connection.close()

    def json(self, request: Request) -> Any:
        """Send a request and return the parsed answer; None for 204 and 304."""
        status, body = self._repeated(request)
        if status in (204, 304):
            return None
        try:
            return json.loads(body)
        except ValueError:
            raise APIError(status, {"error": "BAD_ANSWER", "message": f"The server's answer is no JSON: {body[:200]!r}"}) from None

    def _repeated(self, request: Request) -> Tuple[int, bytes]:
        failures = 0
        while True:
            index = self._current
            try:
                exchange = self.open(index, request)
                body = self._read(index, exchange, request)
                status = exchange.response.status
                if status < 300 or status == 304:
                    return status, body
                raise api_error(status, error_body(exchange.response, body))
            except (APIError, ConnectionFailed) as error:
                wait = self._wait(request, error, failures)
                if wait is None:
                    raise
                if isinstance(error, (ConnectionFailed, UnavailableError)):
                    self.move_on(index)
            failures += 1
            time.sleep(wait)

    @property
    def current(self) -> int:
        """The address that answered last."""
        return self._current

    def move_on(self, index: int) -> None:
        """Ask another address than this one next."""
        with self._lock:
            if self._current == index:
                self._current = (index + 1) % len(self._settings.bases)

    def _wait(self, request: Request, error: Exception, failures: int) -> Optional[float]:
        if failures >= self._settings.max_retries:
            return None
        backoff = random.uniform(0, min(_LONGEST_WAIT, _FIRST_WAIT * 2**failures))
        if isinstance(error, ConnectionFailed):
            return backoff if request.repeat == SAFE or not error.sent else None
        assert isinstance(error, APIError)
        after = error.retry_after or 0
        if after > _LONGEST_RETRY_AFTER:
            return None
        if error.status == 429:
            return after + backoff
        safe = request.repeat == SAFE or (error.status == 503 and error.details.get("outcome") == "none")
        return after + backoff if safe and error.status in (502, 503, 504) else None

    def open(self, index: int, request: Request) -> Exchange:
        """Send a request to one address."""
        connection, kept = self._take(index)
        timeout = request.silence or self._settings.timeout + request.hold
        sent = False
        try:
            if not kept:
                connection.timeout = timeout
                connection.connect()
                connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock = connection.sock
            sock.settimeout(timeout)
            sent = True
            connection.request(request.method, self._target(index, request), request.body, self._headers(request))
            return Exchange(connection, sock, connection.getresponse())
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            name = urllib.parse.urlunsplit(self._settings.bases[index])
            raise ConnectionFailed(f"cannot reach {name}: {error or type(error).__name__}", sent) from error

    def _target(self, index: int, request: Request) -> str:
        base = self._settings.bases[index]
        target = base.path + request.target()
        proxied = base.scheme == "http" and self._proxy(base) is not None
        return f"http://{base.netloc}{target}" if proxied else target

    def _headers(self, request: Request) -> Dict[str, str]:
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": f"tensorone-python/{__version__}",
            **self._settings.headers,
            "Authorization": f"Bearer {self._settings.api_key}",
            **request.headers,
        }
        if request.body is None and request.method != "GET":
            headers["Content-Length"] = "0"
        return headers

    def _take(self, index: int) -> Tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            connections = self._idle.get(index, [])
            while connections:
                since, connection = connections.pop()
                if time.monotonic() - since < _IDLE:
                    return connection, True
                connection.close()
        return self._new(index), False

    def _new(self, index: int) -> http.client.HTTPConnection:
        base = self._settings.bases[index]
        host, port = base.hostname or "", base.port
        proxy = self._proxy(base)
        if base.scheme == "http":
            target = proxy or base
            return http.client.HTTPConnection(target.hostname or "", target.port)
        context = self._settings.ssl_context or ssl.create_default_context()
        if proxy is None:
            return http.client.HTTPSConnection(host, port, context=context)
        connection = http.client.HTTPSConnection(proxy.hostname or "", proxy.port, context=context)
        connection.set_tunnel(host, port or 443)
        return connection

    @staticmethod
    def _proxy(base: urllib.parse.SplitResult) -> Optional[urllib.parse.SplitResult]:
        proxy = urllib.request.getproxies().get(base.scheme)
        if not proxy or urllib.request.proxy_bypass(base.hostname or ""):
            return None
        return urllib.parse.urlsplit(proxy if "://" in proxy else "http://" + proxy)

    def _read(self, index: int, exchange: Exchange, request: Request) -> bytes:
        try:
            body = exchange.response.read()
        except (OSError, http.client.HTTPException) as error:
            exchange.close()
            raise ConnectionFailed(f"the answer to {request.method} {request.path} broke off: {error or type(error).__name__}", True) from error
        with self._lock:
            idle = self._idle.setdefault(index, [])
            if not exchange.response.will_close and not self._closed and len(idle) < _POOL:
                idle.append((time.monotonic(), exchange.connection))
                return body
        exchange.close()
        return body


def error_body(response: http.client.HTTPResponse, body: bytes) -> Dict[str, Any]:
    """Read an error document; a proxy's page becomes its message."""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        text = body[:200].decode("utf-8", "replace").strip()
        document = {"message": f"status {response.status}: {text}" if text else None}
    after = response.headers.get("Retry-After", "")
    if after.isdigit():
        details = dict(document.get("details") or {})
        details.setdefault("retryAfter", int(after))
        document["details"] = details
    return document
