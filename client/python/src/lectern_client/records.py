"""The server's messages as frozen dataclasses. The fields are those of proto/lectern/v1, whose comments
are the reference. Durations are seconds, times are aware datetimes, enum values are lower-case names
("stop", "chunks") without the enum's prefix."""
from __future__ import annotations

import dataclasses
import datetime
from dataclasses import dataclass, field
from typing import Any, TypeVar

from google.protobuf.message import Message

from .source import Source

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class AttentionPolicy:
    """Which keys each query keeps."""

    exact: bool
    top_k: int
    tail: str
    layer_top_k: tuple[int, ...]
    ffn_top_k: int
    max_error: float
    fall_back_to_exact: bool
    page_budget: int
    dense_up_to: int


@dataclass(frozen=True, slots=True)
class Document:
    """A document that a server has read. `source` is where its text came from: a server that lacks
    the document receives it from there. None: only the id is known."""

    id: str
    title: str
    model: str
    bytes: int
    tokens: int
    chunks: int
    device_bytes: int
    sha256: str
    create_time: datetime.datetime | None
    last_use_time: datetime.datetime | None
    expire_time: datetime.datetime | None
    pinned: bool
    reading: str
    read_under: tuple[AttentionPolicy, ...]
    source: Source | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class TokenCount:
    """The tokens of a text, and how it is read: "whole" or in "chunks"."""

    model: str
    tokens: int
    reading: str
    chunks: int
    """Parts that are read independently; 1: read whole."""
    chunk_tokens: int
    """Texts of up to this many tokens are read whole by default."""
    context_length: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """Whole sentences of the document that the question attended to: bytes `start` to `end` (one past
    the last) of the original text, which are `text`. `attention` is their share of the question's
    attention to the document, 0 to 1."""

    start: int = field(metadata={"proto": "begin_byte"})
    end: int = field(metadata={"proto": "end_byte"})
    text: str
    attention: float
    chunk: int


@dataclass(frozen=True, slots=True)
class Exactness:
    """The share of dense attention that the kept keys hold."""

    exact: bool
    kept_mass_mean: float
    kept_mass_min: float
    policy: AttentionPolicy | None
    fell_back_to_exact: bool
    numerics: str
    kv_cache: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer."""

    document_tokens: int
    question_tokens: int
    generated_tokens: int
    tokens_computed: int
    tokens_reused: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds, and tokens per second."""

    queue: float | None
    prefill: float | None
    time_to_first_text: float | None
    decode: float | None
    total: float | None
    prefill_tokens_per_second: float
    decode_tokens_per_second: float


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is complete; also the last event of a stream of events."""

    text: str
    finish_reason: str
    """"stop", "length", "stop_string" or "no_answer"."""
    stop_string: str
    document_id: str
    model: str
    evidence: tuple[Evidence, ...]
    """Best first."""
    no_evidence: bool
    """The document does not seem to answer the question."""
    null_score_difference: float | None = field(metadata={"optional": True})
    """For a span reader: the score of "no answer" minus the best span's."""
    question_coverage: float
    evidence_strength: float
    considered_ratio: float
    reading: str
    usage: Usage | None
    exactness: Exactness | None
    timings: Timings | None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that the server has loaded."""

    name: str
    family: str
    kind: str
    format: str
    quantization: str
    numerics: str
    fingerprint: str
    parameters: int
    weight_bytes: int
    window: int
    vocabulary: int
    layers: int
    kv_bytes_per_token: int
    default_policy: AttentionPolicy | None
    supports_ffn_top_k: bool
    supports_sampling: bool
    load_time: float | None
    no_answer_threshold: float | None = field(metadata={"optional": True})
    """A span reader finds no answer above this score difference. None: it always answers."""
    prompt_format: str
    """The format in which a generative model is prompted; empty for other models."""
    prompt_format_reason: str


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the server."""

    max_document_bytes: int
    max_question_bytes: int
    max_new_tokens: int
    default_max_new_tokens: int
    max_top_k: int
    max_evidence_spans: int
    max_stop_strings: int
    max_message_bytes: int
    max_open_asks_per_stream: int


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """State of one server: "loading", "warming_up", "serving" or "draining", and its load."""

    state: str
    explanation: str
    version: str
    uptime: float | None
    requests_running: int
    requests_waiting: int
    queue_capacity: int
    documents: int
    kv_bytes_used: int
    kv_bytes_capacity: int
    limits: Limits | None
    default_policy: AttentionPolicy | None
    isa: str
    threads: int


RECORDS: dict[str, type] = {
    "AttentionPolicy": AttentionPolicy, "Document": Document, "EvidenceSpan": Evidence,
    "Exactness": Exactness, "Usage": Usage, "Timings": Timings, "Answer": Answer,
    "ModelInfo": ModelInfo, "Limits": Limits, "CountTokensResponse": TokenCount,
    "ServerStatus": ServerStatus,
}
"""The dataclasses, by the name of the message that they are made from."""


def enum_name(enum: Any, number: int) -> str:
    """Returns the value's name in lower case without the prefix that all values share: "stop". A number that
    this version does not know stays a number."""
    value = enum.values_by_number.get(number)
    if value is None:
        return str(number)
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return str(value.name.removeprefix(prefix).lower())


def seconds(duration: Any) -> float:
    return float(duration.ToNanoseconds()) / 1e9


def _value_of(message: Message, descriptor: Any, value: Any) -> Any:
    if descriptor.enum_type is not None:
        return enum_name(descriptor.enum_type, value)
    if descriptor.message_type is None:
        return value
    if not message.HasField(descriptor.name):
        return None
    if descriptor.message_type.full_name == "google.protobuf.Duration":
        return seconds(value)
    if descriptor.message_type.full_name == "google.protobuf.Timestamp":
        return value.ToDatetime(tzinfo=datetime.timezone.utc)
    return record(RECORDS[descriptor.message_type.name], value)


def record(cls: type[Record], message: Message) -> Record:
    """Returns `message` as the dataclass `cls`; an unset message field is None."""
    values: dict[str, Any] = {}
    for item in dataclasses.fields(cls):  # type: ignore[arg-type]
        descriptor = message.DESCRIPTOR.fields_by_name.get(item.metadata.get("proto", item.name))
        if descriptor is None:
            continue  # not the server's: Document.source
        if item.metadata.get("optional") and not message.HasField(descriptor.name):
            values[item.name] = None
            continue
        value = getattr(message, descriptor.name)
        if not isinstance(value, (str, bytes)) and hasattr(value, "__len__"):
            values[item.name] = tuple(
                record(RECORDS[descriptor.message_type.name], each)
                if descriptor.message_type is not None else each for each in value)
        else:
            values[item.name] = _value_of(message, descriptor, value)
    return cls(**values)
