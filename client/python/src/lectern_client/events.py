"""The events of a running call."""
from __future__ import annotations

from dataclasses import dataclass

from ._proto.lectern.v1 import ask_pb2, document_pb2
from .errors import LecternError
from .records import Answer, enum_name, seconds

# The unit of `done` and `total`, by stage.
_UNITS = {
    "receiving": "bytes", "queued": "jobs ahead", "tokenizing": "bytes", "prefill": "tokens",
    "prefill_document": "tokens", "prefill_question": "tokens", "search": "chunks",
}


@dataclass(frozen=True, slots=True)
class Queued:
    """The question waits for `position` others, about `estimated_wait` seconds (None: not known yet)."""

    position: int
    estimated_wait: float | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a document has been read. Stages of an upload: "receiving", "queued", "tokenizing",
    "prefill"; of a question: "tokenizing", "prefill_document", "prefill_question", "search". `total` is
    0 while it is unknown."""

    stage: str
    done: int
    total: int
    unit: str


@dataclass(frozen=True, slots=True)
class Text:
    """The next piece of the answer, whole characters, made of `tokens` tokens."""

    text: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Retry:
    """The call failed with `cause` and is repeated after `wait` seconds, as attempt number `attempt`;
    `uploads`: the document is uploaded again first."""

    cause: LecternError
    attempt: int
    wait: float
    uploads: bool


@dataclass(frozen=True, slots=True)
class Reply:
    """The result of question number `index` of many: either an answer or an error."""

    index: int
    question: str
    answer: Answer | None = None
    error: LecternError | None = None

    def result(self) -> Answer:
        """Returns the answer, or raises the error."""
        if self.answer is not None:
            return self.answer
        assert self.error is not None
        raise self.error


UploadEvent = Progress | Retry
Event = Queued | Progress | Text | Retry | Answer
"""The events of a question. The last one is the Answer."""


def from_progress(message: ask_pb2.Progress | document_pb2.UploadProgress) -> Progress:
    stage = enum_name(message.DESCRIPTOR.fields_by_name["stage"].enum_type, message.stage)
    return Progress(stage, message.done, message.total, _UNITS.get(stage, ""))


def from_queued(message: ask_pb2.Queued) -> Queued:
    known = message.HasField("estimated_wait")
    return Queued(message.position, seconds(message.estimated_wait) if known else None)
