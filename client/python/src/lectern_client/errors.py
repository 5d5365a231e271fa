"""The exceptions of failed calls: one class for each kind of failure, with the server's details.

docs/reference/errors.md of the project lists codes and reasons.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

_DETAILS = "grpc-status-details-bin"
_REQUEST_ID = "x-request-id"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field of the request that was refused."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class Details:
    """Details that the server adds to code and message. All of them may be missing."""

    reason: str = ""
    """Stable name of the failure, for example "DOCUMENT_EVICTED". Empty: the failure came from the
    transport or a proxy."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Figures, for example "tokens" and "limit" of DOCUMENT_TOO_LONG."""
    violations: tuple[FieldViolation, ...] = ()
    retry_after: float | None = None
    """Seconds after which the server suggests a retry."""
    resource_type: str = ""
    resource_name: str = ""
    request_id: str = ""
    """The id of the call in the server's log."""


class LecternError(Exception):
    """A call that failed. `code` is the gRPC status, `details` are described in docs/reference/errors.md."""

    def __init__(self, code: grpc.StatusCode, message: str, details: Details | None = None) -> None:
        self.code = code
        self.message = message
        self.details = details or Details()
        super().__init__(str(self))

    @property
    def reason(self) -> str:
        """`details.reason`."""
        return self.details.reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.message, self.details)

    def __str__(self) -> str:
        parts = [f"{self.code.name}: {self.message}"]
        parts += [self.reason] if self.reason else []
        parts += [f"{v.field} {v.description}" for v in self.details.violations]
        parts += [f"{key}={value}" for key, value in sorted(self.details.metadata.items())]
        if self.details.request_id:
            parts.append(f"request {self.details.request_id}")
        return "; ".join(parts)


class InvalidArgumentError(LecternError, ValueError):
    """The request is wrong: `details.violations` names the fields, with what is allowed."""


class NotFoundError(LecternError, LookupError):
    """No such document or model; reason DOCUMENT_EVICTED if the server had the document before."""


class ResourceExhaustedError(LecternError):
    """The server is full, or a quota is used up."""


class UnavailableError(LecternError):
    """No server could be reached, or the server is shutting down."""


class DeadlineExceededError(LecternError, TimeoutError):
    """The call's timeout passed, or would pass before its end."""


class FailedPreconditionError(LecternError):
    """The answer would not be as exact as `max_error` demands."""


class AbortedError(LecternError):
    """An answer that broke off could not be resumed (reason RESUME_DIFFERS)."""


class CallCancelledError(LecternError):
    """The program cancelled the call while it was running."""


class UnauthenticatedError(LecternError):
    """The token is missing or wrong."""


class PermissionDeniedError(LecternError):
    """The token does not allow this."""


_CLASSES: dict[grpc.StatusCode, type[LecternError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhaustedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
    grpc.StatusCode.ABORTED: AbortedError,
    grpc.StatusCode.CANCELLED: CallCancelledError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
}
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def make_error(code: grpc.StatusCode, message: str, details: Details | None = None) -> LecternError:
    """Returns an error of the class for `code`."""
    return _CLASSES.get(code, LecternError)(code, message, details)


def invalid_argument(name: str, description: str) -> LecternError:
    """Returns the error for an argument that the server would refuse."""
    details = Details("INVALID_REQUEST", violations=(FieldViolation(name, description),))
    return make_error(grpc.StatusCode.INVALID_ARGUMENT, f"{name} {description}", details)


def cancelled() -> LecternError:
    return make_error(grpc.StatusCode.CANCELLED, "closed by the caller")


def deadline_passed() -> LecternError:
    return make_error(grpc.StatusCode.DEADLINE_EXCEEDED, "the time given to the call has passed")


def no_last_message(what: str) -> LecternError:
    return make_error(grpc.StatusCode.INTERNAL, f"the server ended the stream without its {what}")


def _parse_details(serialized: bytes, request_id: str) -> Details:
    """Returns the parsed details; those that do not parse are left out."""
    status = status_pb2.Status()
    try:
        status.ParseFromString(serialized)
    except Exception:  # protobuf's DecodeError: details from a proxy must not hide the failure itself
        return Details(request_id=request_id)
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    resource = error_details_pb2.ResourceInfo()
    has_retry = False
    detail: AnyMessage
    for detail in status.details:
        for message in (info, bad, resource):
            detail.Unpack(message)
        has_retry = detail.Unpack(retry) or has_retry
    return Details(
        reason=info.reason,
        metadata=dict(info.metadata),
        violations=tuple(FieldViolation(v.field, v.description) for v in bad.field_violations),
        retry_after=retry.retry_delay.ToNanoseconds() / 1e9 if has_retry else None,
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
        request_id=request_id)


def from_trailers(code: grpc.StatusCode, message: str,
                  trailers: Iterable[tuple[str, str | bytes]]) -> LecternError:
    """Returns the error of a call that ended with `code`, with the details from its trailing metadata."""
    values = {key: value for key, value in trailers}
    request_id = values.get(_REQUEST_ID, "")
    serialized = values.get(_DETAILS, b"")
    return make_error(code, message, _parse_details(
        serialized if isinstance(serialized, bytes) else b"",
        request_id if isinstance(request_id, str) else ""))


def from_status(code: int, message: str, serialized: bytes) -> LecternError:
    """Returns the error of one question of an AskMany stream."""
    # A failed question is never OK, even if the server left the code out.
    status = _CODES.get(code, grpc.StatusCode.UNKNOWN)
    status = grpc.StatusCode.UNKNOWN if status is grpc.StatusCode.OK else status
    return make_error(status, message, _parse_details(serialized, ""))
