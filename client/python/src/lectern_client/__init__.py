"""Client of Lectern: questions over long documents, answered with evidence.

    from lectern_client import Client, Text

    with Client("127.0.0.1:8001") as client:
        document = client.upload("report.txt")
        answer = client.ask(document, "Which valve failed first?").result()
        for evidence in answer.evidence:
            print(evidence.start, evidence.end, evidence.text)

AsyncClient is the same for asyncio.
"""
from .aio import AsyncAskManyStream, AsyncAskStream, AsyncClient
from .client import AskManyStream, AskStream, Client
from .errors import (AbortedError, CallCancelledError, DeadlineExceededError, Details,
                     FailedPreconditionError, FieldViolation, InvalidArgumentError, LecternError,
                     NotFoundError, PermissionDeniedError, ResourceExhaustedError,
                     UnauthenticatedError, UnavailableError)
from .events import Event, Progress, Queued, Reply, Retry, Text, UploadEvent
from .records import (Answer, AttentionPolicy, Document, Evidence, Exactness, Limits, ModelInfo,
                      ServerStatus, Timings, TokenCount, Usage)
from .requests import AskSettings, UploadSettings
from .retries import RetryPolicy
from .source import Source

__all__ = [
    "AbortedError", "Answer", "AskManyStream", "AskSettings", "AskStream", "AsyncAskManyStream",
    "AsyncAskStream", "AsyncClient", "AttentionPolicy", "CallCancelledError", "Client",
    "DeadlineExceededError", "Details", "Document", "Event", "Evidence", "Exactness",
    "FailedPreconditionError", "FieldViolation", "InvalidArgumentError", "LecternError", "Limits",
    "ModelInfo", "NotFoundError", "PermissionDeniedError", "Progress", "Queued", "Reply",
    "ResourceExhaustedError", "Retry", "RetryPolicy", "ServerStatus", "Source", "Text", "Timings",
    "TokenCount", "UnauthenticatedError", "UnavailableError", "UploadEvent", "UploadSettings", "Usage",
]
