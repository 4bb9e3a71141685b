"""The documents of the API.

A Model is a view of the JSON as it was sent: our own fields are attributes in snake case, what was not sent is None, and
``status["jobId"]`` or ``to_dict()`` give the raw. Maps of the user (input, output, tags, metadata ...) are never renamed.
"""

from __future__ import annotations

from typing import Any, ClassVar, Dict, Generic, Iterator, List, Mapping, Optional, Type, TypeVar

_TERMINAL = frozenset(("completed", "failed", "cancelled", "timeout"))


def _camel(name: str) -> str:
    first, *more = name.split("_")
    return first + "".join(part.capitalize() for part in more)


class Model:
    """A view of one JSON object."""

    _nested: ClassVar[Dict[str, Type["Model"]]] = {}

    def __init__(self, raw: Dict[str, Any]) -> None:
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in _fields(type(self)):
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}; the raw document has {sorted(self._raw)}")
        value = self._raw.get(_camel(name))
        kind = self._nested.get(name)
        if kind is None or value is None:
            return value
        if isinstance(value, list):
            return [kind(item) for item in value]
        return kind(value) if isinstance(value, dict) else value

    def __getitem__(self, key: str) -> Any:
        return self._raw[key]

    def __contains__(self, key: object) -> bool:
        return key in self._raw

    def get(self, key: str, default: Any = None) -> Any:
        """Return a field of the raw document by its own name."""
        return self._raw.get(key, default)

    def to_dict(self) -> Dict[str, Any]:
        """Return the document as it was sent."""
        return self._raw

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and type(self) is type(other) and self._raw == other._raw

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._raw!r})"

    def __dir__(self) -> List[str]:
        return [*super().__dir__(), *_fields(type(self))]


def _fields(kind: Type[Model]) -> Mapping[str, Any]:
    return {k: v for c in kind.__mro__ for k, v in vars(c).get("__annotations__", {}).items() if not k.startswith("_")}


class Submitted(Model):
    """The answer to a submit."""

    job_id: str
    task_id: str
    status: str
    endpoint_id: str
    priority: str
    estimated_duration: Optional[float]
    created_at: str
    status_url: str
    tags: Optional[Dict[str, str]]


class JobError(Model):
    """Why a job failed; printed, it is its message."""

    code: str
    message: str
    details: Optional[Dict[str, Any]]

    def __str__(self) -> str:
        return str(self._raw.get("message", ""))


class GPUUsage(Model):
    """One GPU of a job."""

    id: str
    type: Optional[str]
    utilization: Optional[int]
    memory_used: Optional[str]
    memory_used_bytes: Optional[int]
    memory_total: Optional[str]
    memory_total_bytes: Optional[int]
    temperature: Optional[int]
    power_usage: Optional[str]
    power_usage_watts: Optional[float]


class CPUUsage(Model):
    """The processor and memory side of a job."""

    utilization: float
    cores: int
    memory: str
    memory_bytes: int


class Resources(Model):
    """What the job's own processes use; peaks at the end."""

    _nested = {"gpus": GPUUsage, "cpu": CPUUsage}
    gpu_type: Optional[str]
    gpu_utilization: Optional[int]
    memory_usage: Optional[str]
    memory_usage_bytes: Optional[int]
    memory_total: Optional[str]
    memory_total_bytes: Optional[int]
    cpu_usage: Optional[float]
    peak_gpu_utilization: Optional[int]
    peak_memory_usage: Optional[str]
    peak_memory_usage_bytes: Optional[int]
    total_compute_time: Optional[float]
    gpus: Optional[List[GPUUsage]]
    cpu: Optional[CPUUsage]


class Execution(Model):
    """What the job has spent so far; duration in seconds."""

    duration: float
    cost_accrued: Optional[float]
    tokens_processed: Optional[int]
    api_calls: Optional[int]


class ColdStart(Model):
    """How the runtime instance came up, in seconds; the phases add up to the duration."""

    occurred: bool
    duration: float
    phases: Optional[Dict[str, float]]
    cache_hit: Optional[bool]
    optimization_suggestions: Optional[List[str]]


class LogLine(Model):
    """One line of a job's log."""

    time: str
    source: str
    line: str


class OutputFile(Model):
    """A file that a job handed in; its URL needs no key, and is None once the file is deleted."""

    name: str
    size: str
    size_bytes: int
    format: Optional[str]
    url: Optional[str]


class JobStatus(Model):
    """The status document; a field that was not measured is None."""

    _nested = {"error": JobError, "resources": Resources, "execution": Execution, "cold_start": ColdStart, "logs": LogLine, "files": OutputFile}
    job_id: str
    task_id: str
    status: str
    substate: Optional[str]
    progress: Optional[float]
    endpoint_id: str
    priority: str
    created_at: str
    started_at: Optional[str]
    estimated_completion: Optional[str]
    completed_at: Optional[str]
    failed_at: Optional[str]
    cancelled_at: Optional[str]
    timed_out_at: Optional[str]
    execution_time: Optional[float]
    current_step: Optional[str]
    metadata: Optional[Dict[str, Any]]
    throughput: Optional[Dict[str, Any]]
    resources: Optional[Resources]
    execution: Optional[Execution]
    cold_start: Optional[ColdStart]
    output: Any
    output_expires_at: Optional[str]
    files: Optional[List[OutputFile]]
    final_metrics: Optional[Dict[str, Any]]
    result: Any
    error: Optional[JobError]
    partial_results: Any
    retryable: Optional[bool]
    retry_count: Optional[int]
    next_retry_at: Optional[str]
    tags: Optional[Dict[str, str]]
    callback_url: Optional[str]
    logs: Optional[List[LogLine]]
    metrics: Optional[Dict[str, Any]]
    stale_since: Optional[str]
    revision: str

    @property
    def done(self) -> bool:
        """Whether the job has ended: it stays in this state unless somebody retries it."""
        return self._raw.get("status") in _TERMINAL


class Explanation(Model):
    """Where a job stands and why it waits."""

    job_id: str
    status: str
    summary: str
    position: Optional[int]
    ahead: int
    ahead_by_priority: Optional[Dict[str, int]]
    reasons: List[str]
    blocking: Optional[List[Dict[str, Any]]]
    agents: Optional[Dict[str, int]]
    never: Optional[bool]
    eta: Optional[Dict[str, str]]


T = TypeVar("T", bound=Model)


class BatchStatus(List[JobStatus]):
    """The statuses in the order asked; ``errors`` has the ids that could not be answered."""

    def __init__(self, jobs: List[JobStatus], errors: List[Dict[str, Any]]) -> None:
        super().__init__(jobs)
        self.errors = errors


class Page(Generic[T]):
    """One page of a list; next_cursor is None on the last one."""

    def __init__(self, data: List[T], next_cursor: Optional[str]) -> None:
        self.data = data
        self.next_cursor = next_cursor

    def __iter__(self) -> Iterator[T]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)
