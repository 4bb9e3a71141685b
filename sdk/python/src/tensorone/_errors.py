"""The errors of this package. What the server refuses is an APIError of the class that fits its code."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Type


class TensorOneError(Exception):
    """Base of every error that this package raises on purpose."""


class ConnectionFailed(TensorOneError):
    """No answer: the connection failed, or nothing came within the timeout."""

    def __init__(self, message: str, sent: bool) -> None:
        super().__init__(message)
        #: Whether the request may have reached the server.
        self.sent = sent


class WaitTimeout(TensorOneError, TimeoutError):
    """A job had not ended within the time that a wait was given."""


class SignatureError(TensorOneError):
    """A webhook signature that does not fit the body, or is too old."""


class APIError(TensorOneError):
    """An answer other than success: ``{error, message, details, requestId}``."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        #: Human text.
        self.message: str = str(body.get("message") or f"The server answered with status {status}")
        super().__init__(self.message)
        #: HTTP status.
        self.status = status
        #: Stable name in upper snake case, for example QUEUE_FULL; HTTP_502 for an answer that is not ours.
        self.code: str = str(body.get("error") or f"HTTP_{status}")
        details = body.get("details")
        self.details: Dict[str, Any] = details if isinstance(details, dict) else {}
        self.request_id: Optional[str] = body.get("requestId")

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    @property
    def retry_after(self) -> Optional[float]:
        """Seconds that the server asks to wait for, if it does."""
        value = self.details.get("retryAfter")
        return float(value) if isinstance(value, (int, float)) else None

    @property
    def may_have_happened(self) -> bool:
        """Whether the call may have had an effect although it was not confirmed."""
        return self.details.get("outcome") == "unknown"


class AuthenticationError(APIError):
    """401: no key, or one that is not known, expired or revoked."""


class InsufficientCreditsError(APIError):
    """402: not enough credits; details hold balance and required."""


class PermissionDenied(APIError):
    """403: the key lacks details["requiredPermission"]."""


class NotFoundError(APIError):
    """404: no such job, endpoint or path, or not of this organisation."""


class ConflictError(APIError):
    """409: the state of the thing does not allow it."""


class ValidationError(APIError):
    """422: details has field, value and reason; details["errors"] has every finding."""


class RateLimitError(APIError):
    """429: more calls than the key may make; retry_after says when to come back."""


class QueueFullError(APIError):
    """429: the queue is full; details["limit"] says which one."""


class UnavailableError(APIError):
    """503: no leader, or the server is about to stop."""


class StorageLimitError(APIError):
    """507: the storage quota is used up."""


def api_error(status: int, body: Mapping[str, Any]) -> APIError:
    """Return the error of the class that fits status and code."""
    if body.get("error") == "QUEUE_FULL":
        return QueueFullError(status, body)
    kinds: Dict[int, Type[APIError]] = {
        401: AuthenticationError,
        402: InsufficientCreditsError,
        403: PermissionDenied,
        404: NotFoundError,
        409: ConflictError,
        422: ValidationError,
        429: RateLimitError,
        503: UnavailableError,
        507: StorageLimitError,
    }
    return kinds.get(status, APIError)(status, body)
