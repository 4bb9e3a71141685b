"""Client for Windlass and for code written for the TensorOne API. Standard library only."""

from ._client import AsyncJobs, AsyncTensorOneClient, TensorOneClient
from ._errors import (
    APIError,
    AuthenticationError,
    ConflictError,
    ConnectionFailed,
    InsufficientCreditsError,
    NotFoundError,
    PermissionDenied,
    QueueFullError,
    RateLimitError,
    SignatureError,
    StorageLimitError,
    TensorOneError,
    UnavailableError,
    ValidationError,
    WaitTimeout,
)
from ._jobs import Endpoints, Jobs
from ._models import (
    BatchStatus,
    ColdStart,
    CPUUsage,
    Execution,
    Explanation,
    GPUUsage,
    JobError,
    JobStatus,
    LogLine,
    Model,
    OutputFile,
    Page,
    Resources,
    Submitted,
)
from ._stream import StatusStream
from ._version import __version__
from ._webhook import verify_webhook

__all__ = [
    "APIError", "AsyncJobs", "AsyncTensorOneClient", "AuthenticationError", "BatchStatus", "CPUUsage", "ColdStart",
    "ConflictError", "ConnectionFailed", "Endpoints", "Execution", "Explanation", "GPUUsage", "InsufficientCreditsError",
    "JobError", "JobStatus", "Jobs", "LogLine", "Model", "NotFoundError", "OutputFile", "Page", "PermissionDenied", "QueueFullError",
    "RateLimitError", "Resources", "SignatureError", "StatusStream", "StorageLimitError", "Submitted", "TensorOneClient",
    "TensorOneError", "UnavailableError", "ValidationError", "WaitTimeout", "__version__", "verify_webhook",
]
