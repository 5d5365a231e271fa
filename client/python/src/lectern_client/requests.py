"""Keyword arguments of the calls, and the messages made from them."""
from __future__ import annotations

import re
from typing import Any, Literal, TypedDict

from ._proto.lectern.v1 import ask_pb2, attention_pb2, document_pb2
from .errors import invalid_argument

Reading = Literal["auto", "whole", "chunks"]
Tail = Literal["none", "mean"]
Priority = Literal["interactive", "bulk"]


class AttentionSettings(TypedDict, total=False):
    """How the model attends to the document (proto/lectern/v1/attention.proto). Settings
    left out have the server's default."""

    exact: bool
    """Dense attention; excludes the others."""
    top_k: int
    tail: Tail
    layer_top_k: list[int]
    ffn_top_k: int
    max_error: float
    fall_back_to_exact: bool
    page_budget: int
    dense_up_to: int


class UploadSettings(AttentionSettings, total=False):
    """Settings of an upload (UploadMetadata in proto/lectern/v1/document.proto)."""

    model: str
    ttl: float
    """Seconds."""
    pinned: bool
    reading: Reading
    priority: Priority


class AskSettings(AttentionSettings, total=False):
    """Settings of a question (AskRequest in proto/lectern/v1/ask.proto)."""

    model: str
    reading: Reading
    quality: Literal["high", "exact"]
    temperature: float
    top_p: float
    seed: int
    max_new_tokens: int
    stop: list[str]
    max_evidence_spans: int
    disable_reuse: bool
    no_answer_threshold: float
    """A span reader finds no answer above this score difference (Answer.null_score_difference)."""
    answer_id: str
    priority: Priority


_PARTS: dict[str, Any] = {"attention": attention_pb2.AttentionPolicy, "sampling": ask_pb2.Sampling}
"""Messages within a request whose fields are settings."""
_ENUMS: dict[str, Any] = {
    "reading": document_pb2.Reading, "priority": document_pb2.Priority,
    "quality": ask_pb2.AskRequest.Quality, "tail": attention_pb2.AttentionPolicy.Tail,
}
_METADATA_LIMITS = {"tenant": 64, "request_id": 128}


def _number_of(name: str, value: str) -> int:
    names = _ENUMS[name].keys()
    wanted = f"{name}_{value}".upper()
    if wanted not in names:
        allowed = [each.removeprefix(f"{name}_".upper()).lower() for each in names[1:]]
        raise invalid_argument(name, f"must be one of {', '.join(allowed)}")
    return int(_ENUMS[name].Value(wanted))


def _split(cls: type[Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Returns `settings` as arguments of the message `cls`, grouped by its submessages."""
    arguments: dict[str, Any] = {}
    for name, value in settings.items():
        value = _number_of(name, value) if name in _ENUMS else value
        parts = [part for part, message in _PARTS.items() if part in cls.DESCRIPTOR.fields_by_name
                 and name in message.DESCRIPTOR.fields_by_name]
        if parts:
            arguments.setdefault(parts[0], {})[name] = value
        elif name in cls.DESCRIPTOR.fields_by_name:
            arguments[name] = value
        else:
            raise TypeError(f"unknown setting: {name}")
    return arguments


def _make(cls: type[Any], settings: dict[str, Any]) -> Any:
    arguments = _split(cls, settings)
    try:
        for name, part in _PARTS.items():
            if name in arguments:
                arguments[name] = part(**arguments[name])
        return cls(**arguments)
    except (TypeError, ValueError) as error:  # a value of another type or beyond the field's
        raise invalid_argument("settings", f"do not fit the request: {error}") from error


def make_upload_metadata(title: str, settings: dict[str, Any]) -> document_pb2.UploadMetadata:
    ttl = settings.pop("ttl", None)
    metadata: document_pb2.UploadMetadata = _make(document_pb2.UploadMetadata,
                                                  {"title": title, **settings})
    if ttl is not None:
        metadata.ttl.FromNanoseconds(round(ttl * 1e9))
    return metadata


def make_ask_request(question: str, document_id: str, text: str | None,
                     settings: dict[str, Any]) -> ask_pb2.AskRequest:
    request: ask_pb2.AskRequest = _make(ask_pb2.AskRequest, {"question": question, **settings})
    if text is not None:
        request.inline_text = text
    elif document_id:
        request.document_id = document_id
    return request


def call_metadata(tenant: str, request_id: str) -> list[tuple[str, str]]:
    """Returns the metadata of a call. InvalidArgumentError for values that the server would refuse."""
    metadata = []
    for name, value in (("tenant", tenant), ("request_id", request_id)):
        limit = _METADATA_LIMITS[name]
        if value and not re.fullmatch(rf"[A-Za-z0-9._-]{{1,{limit}}}", value):
            raise invalid_argument(name, f"must be [A-Za-z0-9._-]{{1,{limit}}}")
        if value:
            metadata.append(("x-lectern-tenant" if name == "tenant" else "x-request-id", value))
    return metadata


def document_metadata(document_id: str) -> list[tuple[str, str]]:
    """Returns metadata that names the call's document, for proxies. An invalid id is left out here; the
    server refuses it."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", document_id):
        return []
    return [("x-lectern-document", document_id)]
