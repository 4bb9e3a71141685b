"""Jobs and endpoints of the native dialect."""

from __future__ import annotations

import time
import urllib.parse
import uuid
import warnings
from collections import OrderedDict
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence

from ._errors import WaitTimeout
from ._http import UNSENT, Request, Transport
from ._models import BatchStatus, Explanation, JobStatus, LogLine, Page, Submitted
from ._stream import StatusStream

_LONG_POLL = 30.0  # seconds; the server's own bound is above it
_READS_UNTIL_WARNING = 3
_REMEMBERED = 100  # jobs whose reads after their end are counted


def _quoted(what: str, value: str) -> str:
    if not value:
        raise ValueError(f"cannot address {what}: its id is empty")
    return urllib.parse.quote(value, safe="")


class Jobs:
    """Reads and steers jobs."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._terminal_reads: "OrderedDict[str, int]" = OrderedDict()

    def get_status(
        self,
        job_id: str,
        include: Optional[Sequence[str]] = None,
        format: Optional[str] = None,
        wait: Optional[float] = None,
        revision: Optional[str] = None,
        consistency: Optional[str] = None,
    ) -> JobStatus:
        """Read one status document.

        With wait (seconds) and revision the answer is held until the job's revision is another one. consistency="stale"
        answers from any coordinator, also without a leader.
        """
        status = self._status(job_id, include, format, wait, revision, consistency)
        self._warn(status)
        return status

    def _status(
        self,
        job_id: str,
        include: Optional[Sequence[str]],
        format: Optional[str],
        wait: Optional[float],
        revision: Optional[str],
        consistency: Optional[str] = None,
    ) -> JobStatus:
        query = {
            "include": ",".join(include) if include else None,
            "format": format,
            "wait": f"{wait:g}s" if wait else None,
            "revision": revision,
            "consistency": consistency,
        }
        path = f"/v2/jobs/{_quoted('a job', job_id)}/status"
        return JobStatus(self._transport.json(Request("GET", path, query=query, hold=wait or 0)))

    def watch_status(self, job_id: str) -> StatusStream:
        """Return the status now and at every change, for `for` and for `async for`; it ends after a terminal one."""
        return StatusStream(self._transport, f"/v2/jobs/{_quoted('a job', job_id)}/status/stream")

    def stream_status(self, job_id: str) -> StatusStream:
        """watch_status under its other name."""
        return self.watch_status(job_id)

    def get_batch_status(self, job_ids: Sequence[str], include: Optional[Sequence[str]] = None) -> BatchStatus:
        """Read up to 1,000 jobs in one request: a list in the order asked, with errors beside it."""
        body: Dict[str, Any] = {"jobIds": list(job_ids)}
        if include:
            body["include"] = list(include)
        answer = self._transport.json(Request("POST", "/v2/jobs/status/batch", body=body))
        return BatchStatus([JobStatus(job) for job in answer["jobs"]], answer.get("errors") or [])

    def wait(self, job_id: str, timeout: Optional[float] = None, include: Optional[Sequence[str]] = None) -> JobStatus:
        """Return the terminal status; after timeout seconds raise WaitTimeout, which is a TimeoutError."""
        end = None if timeout is None else time.monotonic() + timeout
        revision: Optional[str] = None
        while True:
            hold = _LONG_POLL if end is None else min(_LONG_POLL, max(1.0, end - time.monotonic()))
            status = self._status(job_id, include, None, hold, revision)
            if status.done:
                return status
            if end is not None and time.monotonic() >= end:
                raise WaitTimeout(f"job {job_id} is still {status.status} after {timeout:g} s")
            revision = status.revision

    def list(
        self,
        status: Optional[str] = None,
        endpoint: Optional[str] = None,
        tags: Optional[Mapping[str, str]] = None,
        priority: Optional[str] = None,
        idempotency_key: Optional[str] = None,
        limit: Optional[int] = None,
        cursor: Optional[str] = None,
    ) -> "Page[JobStatus]":
        """Return one page, newest first."""
        query: Dict[str, Any] = {
            "status": status, "endpoint": endpoint, "priority": priority, "idempotencyKey": idempotency_key, "limit": limit, "cursor": cursor,
        }
        query.update({f"tag.{key}": value for key, value in (tags or {}).items()})
        answer = self._transport.json(Request("GET", "/v2/jobs", query=query))
        return Page([JobStatus(job) for job in answer["data"]], answer.get("nextCursor"))

    def all(self, **filters: Any) -> Iterator[JobStatus]:
        """Yield every job of a list, page after page."""
        while True:
            page = self.list(**filters)
            yield from page
            if not page.next_cursor:
                return
            filters["cursor"] = page.next_cursor

    def cancel(self, job_id: str) -> JobStatus:
        """End a job; on an ended one it changes nothing."""
        return self._post(job_id, "cancel")

    def pause(self, job_id: str) -> JobStatus:
        """Hold a queued job in its place, or ask a running one for a checkpoint."""
        return self._post(job_id, "pause")

    def resume(self, job_id: str) -> JobStatus:
        """Let a paused job run."""
        return self._post(job_id, "resume")

    def retry(self, job_id: str) -> JobStatus:
        """Run an ended job again under the same id."""
        path = f"/v2/jobs/{_quoted('a job', job_id)}/retry"
        return JobStatus(self._transport.json(Request("POST", path, UNSENT, body={})))

    def _post(self, job_id: str, verb: str) -> JobStatus:
        return JobStatus(self._transport.json(Request("POST", f"/v2/jobs/{_quoted('a job', job_id)}/{verb}", body={})))

    def _get(self, job_id: str, what: str) -> Any:
        return self._transport.json(Request("GET", f"/v2/jobs/{_quoted('a job', job_id)}/{what}"))

    def explain(self, job_id: str) -> Explanation:
        """Say where a job stands and why it waits."""
        return Explanation(self._get(job_id, "explain"))

    def logs(self, job_id: str) -> "Page[LogLine]":
        """Return the kept lines of a job's log."""
        answer = self._get(job_id, "logs")
        return Page([LogLine(line) for line in answer.get("data") or []], answer.get("nextCursor"))

    def output(self, job_id: str) -> Any:
        """Return what the handler returned, however large."""
        return self._get(job_id, "output")

    def _warn(self, status: JobStatus) -> None:
        """A loop that polls until completed, failed or cancelled never ends on a job that timed out: say so once."""
        if not status.done:
            return
        reads = self._terminal_reads.pop(status.job_id, 0) + 1
        self._terminal_reads[status.job_id] = reads
        if len(self._terminal_reads) > _REMEMBERED:
            self._terminal_reads.popitem(last=False)
        if reads == _READS_UNTIL_WARNING:
            warnings.warn(
                f"job {status.job_id} is {status.status} and stays so; end the polling loop on status.done, or call jobs.wait", stacklevel=3
            )


class Endpoints:
    """Submits jobs and manages what runs them."""

    def __init__(self, transport: Transport, jobs: Jobs) -> None:
        self._transport = transport
        self._jobs = jobs

    def execute_async(
        self,
        endpoint_id: str,
        input: Any,
        callback_url: Optional[str] = None,
        tags: Optional[Mapping[str, str]] = None,
        priority: Optional[str] = None,
        idempotency_key: Optional[str] = None,
        policy: Optional[Mapping[str, Any]] = None,
    ) -> Submitted:
        """Submit a job and return at once.

        A key is made when none is given, so that a request that is sent again never makes two jobs. policy holds
        executionTimeout and ttl in milliseconds.
        """
        body: Dict[str, Any] = {"input": input}
        optional = {"callbackUrl": callback_url, "tags": tags, "priority": priority, "policy": policy}
        body.update({key: value for key, value in optional.items() if value is not None})
        headers = {"Idempotency-Key": idempotency_key or f"py-{uuid.uuid4()}"}
        path = f"/v2/endpoints/{_quoted('an endpoint', endpoint_id)}/runasync"
        return Submitted(self._transport.json(Request("POST", path, headers=headers, body=body)))

    def execute(self, endpoint_id: str, input: Any, timeout: Optional[float] = None, **options: Any) -> JobStatus:
        """Submit a job and wait for its end; timeout in seconds bounds the wait, not the job."""
        return self._jobs.wait(self.execute_async(endpoint_id, input, **options).job_id, timeout)

    def list(self) -> Any:
        """Return the endpoint documents of the organisation."""
        return self._transport.json(Request("GET", "/v2/endpoints"))["data"]

    def get(self, endpoint_id: str) -> Any:
        """Return one endpoint document."""
        return self._transport.json(Request("GET", self._path(endpoint_id)))

    def put(self, endpoint: Mapping[str, Any]) -> Any:
        """Create or change an endpoint; with revision only if it is still that one."""
        return self._transport.json(Request("PUT", self._path(str(endpoint.get("id", ""))), body=dict(endpoint)))

    def delete(self, endpoint_id: str) -> None:
        """Remove an endpoint that has no live jobs."""
        self._transport.json(Request("DELETE", self._path(endpoint_id), UNSENT))

    def pause(self, endpoint_id: str) -> Any:
        """Stop handing out jobs; submits are still taken."""
        return self._transport.json(Request("POST", self._path(endpoint_id) + "/pause", body={}))

    def resume(self, endpoint_id: str) -> Any:
        """Hand out jobs again."""
        return self._transport.json(Request("POST", self._path(endpoint_id) + "/resume", body={}))

    def purge(self, endpoint_id: str) -> Any:
        """Cancel every queued job; the answer says how many."""
        return self._transport.json(Request("POST", self._path(endpoint_id) + "/purge", body={}))

    @staticmethod
    def _path(endpoint_id: str) -> str:
        return f"/v2/endpoints/{_quoted('an endpoint', endpoint_id)}"
