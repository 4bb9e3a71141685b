"""Server-sent events of a job's status, for `for` and for `async for`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import http.client
import json
import random
import threading
from typing import AsyncIterator, Iterator, List, Optional, Tuple

from ._errors import APIError, ConnectionFailed, api_error
from ._http import Exchange, Request, Transport, error_body
from ._models import JobStatus

_SILENCE = 45.0  # the server writes at least every 15 s; three missed are a lost connection
_LONGEST_BREAK = 8.0
_AHEAD = 16  # statuses read ahead of a slow loop
_LOOK = 0.1  # how often a reader that waits for the loop looks whether the loop was left
_WAITED = (TimeoutError, concurrent.futures.TimeoutError)  # two classes before Python 3.11


class _Ended(Exception):
    """The server has nothing more to say."""


class StatusStream:
    """The status now and at every change, until a terminal one.

    A broken connection is resumed where it was. Leaving the loop, or close(), closes it. One stream serves one loop.
    """

    def __init__(self, transport: Transport, path: str) -> None:
        self._transport = transport
        self._path = path
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._exchange: Optional[Exchange] = None

    def close(self) -> None:
        """End the stream, also while another thread waits in it."""
        self._closed.set()
        with self._lock:
            if self._exchange is not None:
                self._exchange.abort()

    def __enter__(self) -> "StatusStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[JobStatus]:
        try:
            yield from self._statuses()
        finally:
            self.close()

    def _statuses(self) -> Iterator[JobStatus]:
        last: Optional[str] = None
        failures = 0
        while not self._closed.is_set():
            try:
                for event_id, kind, data in self._events(last):
                    failures = 0
                    last = event_id or last
                    if kind != "status":
                        continue
                    status = JobStatus(json.loads(data))
                    yield status
                    if status.done:
                        return
            except _Ended:
                return
            except APIError as error:
                if error.status not in (429, 502, 503, 504):
                    raise
            except ConnectionFailed:
                self._transport.move_on(self._transport.current)
            self._closed.wait(random.uniform(0, min(_LONGEST_BREAK, 0.25 * 2**failures)))
            failures += 1

    def _events(self, last: Optional[str]) -> Iterator[Tuple[str, str, str]]:
        headers = {"Accept": "text/event-stream"}
        if last is not None:
            headers["Last-Event-ID"] = last
        request = Request("GET", self._path, headers=headers, silence=_SILENCE)
        exchange = self._transport.open(self._transport.current, request)
        response = exchange.response
        try:
            if response.status == 204:
                raise _Ended
            if response.status != 200:
                raise api_error(response.status, error_body(response, response.read()))
            with self._lock:
                self._exchange = exchange
            if not self._closed.is_set():
                yield from _parse(response)
        except (OSError, http.client.HTTPException) as error:
            if not self._closed.is_set():
                raise ConnectionFailed(f"the stream broke off: {error or type(error).__name__}", True) from error
        finally:
            with self._lock:
                self._exchange = None
            exchange.close()

    async def __aiter__(self) -> AsyncIterator[JobStatus]:
        loop = asyncio.get_running_loop()
        queue: "asyncio.Queue[object]" = asyncio.Queue(_AHEAD)
        reader = threading.Thread(target=self._feed, args=(loop, queue), name="tensorone-stream", daemon=True)
        reader.start()
        try:
            while True:
                item = await queue.get()
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                assert isinstance(item, JobStatus)
                yield item
        finally:
            self.close()

    def _feed(self, loop: asyncio.AbstractEventLoop, queue: "asyncio.Queue[object]") -> None:
        def put(item: object) -> None:
            # A loop that has gone, or a reader that has left, wants nothing more.
            try:
                pending = asyncio.run_coroutine_threadsafe(queue.put(item), loop)
            except RuntimeError:
                self._closed.set()
                return
            while not self._closed.is_set():
                try:
                    pending.result(timeout=_LOOK)
                    return
                except _WAITED:
                    continue
                except Exception:
                    return
            pending.cancel()

        try:
            for status in self._statuses():
                put(status)
            put(None)
        except BaseException as error:  # the loop raises it
            put(error)


def _parse(response: http.client.HTTPResponse) -> Iterator[Tuple[str, str, str]]:
    event_id, kind = "", "message"
    data: List[str] = []
    while True:
        raw = response.readline()
        if not raw.endswith(b"\n"):
            return  # an event that breaks off in the middle is dropped
        line = raw.rstrip(b"\r\n").decode("utf-8", "replace")
        if not line:
            if data:
                yield event_id, kind, "\n".join(data)
            event_id, kind, data = "", "message", []
            continue
        field, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if field == "id":
            event_id = value
        elif field == "event":
            kind = value
        elif field == "data":
            data.append(value)
