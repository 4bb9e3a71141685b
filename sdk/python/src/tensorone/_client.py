"""The clients: TensorOneClient blocks, AsyncTensorOneClient is awaited."""

from __future__ import annotations

import asyncio
import functools
import ssl
from typing import Any, AsyncIterator, Callable, Mapping, Optional, TypeVar

from ._http import Settings, Transport
from ._jobs import Endpoints, Jobs
from ._models import JobStatus
from ._stream import StatusStream

_T = TypeVar("_T")


class TensorOneClient:
    """A client of one cluster; safe for use by several threads.

    base_url is with or without /v2; several addresses are separated by commas and tried in turn. What is left out comes
    from TENSORONE_API_KEY and TENSORONE_BASE_URL. timeout is for one attempt of a request, in seconds.
    """

    def __init__(
        self,
        api_key: Optional[str] = None,
        base_url: Optional[str] = None,
        timeout: float = 60.0,
        max_retries: int = 4,
        headers: Optional[Mapping[str, str]] = None,
        ssl_context: Optional[ssl.SSLContext] = None,
    ) -> None:
        self._transport = Transport(Settings(api_key, base_url, timeout, max_retries, headers, ssl_context))
        self.jobs = Jobs(self._transport)
        self.endpoints = Endpoints(self._transport, self.jobs)

    def close(self) -> None:
        """Close the connections that are kept."""
        self._transport.close()

    def __enter__(self) -> "TensorOneClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Awaited:
    """Each method of a part of the client, run in a thread and awaited."""

    def __init__(self, part: object) -> None:
        self._part = part

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._part, name)
        if name.startswith("_") or not callable(method):
            raise AttributeError(name)

        @functools.wraps(method)
        async def call(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(method, *args, **kwargs)

        return call


class AsyncJobs(_Awaited):
    """Jobs with methods to await; streams and lists are for `async for`."""

    def __init__(self, jobs: Jobs) -> None:
        super().__init__(jobs)
        self._jobs = jobs

    def watch_status(self, job_id: str) -> StatusStream:
        """Return the status now and at every change; it ends after a terminal one."""
        return self._jobs.watch_status(job_id)

    stream_status = watch_status

    async def all(self, **filters: Any) -> AsyncIterator[JobStatus]:
        """Yield every job of a list, page after page."""
        while True:
            page = await asyncio.to_thread(self._jobs.list, **filters)
            for job in page:
                yield job
            if not page.next_cursor:
                return
            filters["cursor"] = page.next_cursor


class AsyncTensorOneClient:
    """TensorOneClient with methods to await; takes the same arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._client = TensorOneClient(*args, **kwargs)
        self.jobs = AsyncJobs(self._client.jobs)
        self.endpoints = _Awaited(self._client.endpoints)

    async def close(self) -> None:
        """Close the connections that are kept."""
        self._client.close()

    async def __aenter__(self) -> "AsyncTensorOneClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
