"""One call over all of its attempts: chooses the replica for the next attempt and uploads the document to
it if needed. It serves the blocking and the asyncio client alike (transport.py)."""
from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import Message

from . import errors
from ._proto.lectern.v1 import server_pb2
from .channels import Targets, host_of, port_of
from .errors import LecternError
from .events import Progress, UploadEvent, from_progress
from .records import Document, record
from .requests import call_metadata, document_metadata
from .retries import ANY, Retries, RetryPolicy
from .source import Source, document_id, upload_requests
from .transport import Call, Scope, Transport


@dataclass(frozen=True)
class CallOptions:
    """The options of every call of a client."""

    timeout: float | None = None
    tenant: str = ""
    request_id: str = ""
    retry: RetryPolicy = field(default_factory=RetryPolicy)


class Session:
    """Not thread-safe, except for `scope`."""

    def __init__(self, transport: Transport, targets: Targets, options: CallOptions,
                 document_id: str = "", source: Source | None = None) -> None:
        self._metadata = (call_metadata(options.tenant, options.request_id)
                          + targets.token_metadata())
        self._transport = transport
        self._targets = targets
        self._source = source
        self._deadline = (None if options.timeout is None
                          else time.monotonic() + options.timeout)
        self.document_id = document_id
        self.retries = Retries(options.retry, self._deadline, source is not None)
        self.scope: Scope = transport.new_scope()
        self._replica: str | None = None  # of the last or the next attempt; None: not chosen yet

    def open(self, method: str, requests: Message | Iterable[Message] | None,
             lane: tuple[str, Any], about: str | None = None) -> Call:
        """Begins a call about the document `about`; None: the session's document, if any."""
        if self.scope.cancelled:
            raise errors.cancelled()
        left = None if self._deadline is None else self._deadline - time.monotonic()
        if left is not None and left <= 0:
            raise errors.deadline_passed()
        metadata = self._metadata + document_metadata(self.document_id if about is None else about)
        call = self._transport.open(lane, method, requests, metadata, left)
        self.scope.attach(call)
        return call

    async def begin(self, method: str, requests: Message | Iterable[Message] | None,
                    about: str | None = None) -> Call:
        """Begins an attempt on the next replica."""
        if self._replica is None:
            await self._resolve()
            self._replica = self._targets.replicas.pick()
        return self.open(method, requests, self._targets.lane(self._replica), about)

    async def unary(self, method: str, request: Message, lane: tuple[str, Any] | None = None) -> Any:
        """Makes a call with one response, which only gRPC itself retries."""
        call = self.open(method, request, lane or self._targets.lane(ANY))
        try:
            return await call.read()
        finally:
            call.cancel()

    async def upload(self) -> AsyncIterator[Progress | Document]:
        """Makes one attempt to send the document. The last event is the Document."""
        assert self._source is not None
        text = await self._transport.load(self._source)
        about = self.document_id or await self._id_of(text, self._source.metadata.model)
        call = await self.begin("UploadDocument", upload_requests(text, self._source.metadata), about)
        document = None
        try:
            while (response := await call.read()) is not None:
                if response.HasField("progress"):
                    yield from_progress(response.progress)
                if response.HasField("document"):
                    document = record(Document, response.document)
        finally:
            call.cancel()
        if document is None:
            raise errors.no_last_message("document")
        assert self._replica is not None
        self.retries.uploaded(self._replica)
        if document.id != about:
            self._targets.fingerprints.clear()  # models have been replaced
        yield document

    async def _id_of(self, text: bytes, model: str) -> str:
        """Returns the id that `text` will have; "" if the server does not list its models."""
        known = self._targets.fingerprints
        if not known:
            try:
                answer = await self.unary("ListModels", server_pb2.ListModelsRequest())
            except LecternError:
                return ""
            for info in answer.models:
                known.setdefault("", info.fingerprint)  # the first model is the default
                known[info.name] = info.fingerprint
        fingerprint = known.get(model, "")
        return document_id(fingerprint, text) if fingerprint else ""

    async def provide(self) -> AsyncIterator[UploadEvent]:
        """Uploads the question's document to the replica that will be asked."""
        async for event in self.upload():
            if not isinstance(event, Document):
                yield event
            elif event.id != self.document_id:
                raise errors.invalid_argument(
                    "document", f"{self.document_id} was uploaded from another text: its source "
                    f"holds {event.id} now")

    async def recover(self, failed: LecternError) -> AsyncIterator[UploadEvent]:
        """Waits, uploads a missing document, and ends when the call should be repeated. Raises the error
        to report if it should not."""
        while True:
            if self.scope.cancelled:
                raise errors.cancelled()
            replica = self._replica or ANY
            if failed.code is grpc.StatusCode.UNAVAILABLE:
                self._targets.replicas.failed(replica)
            retry = self.retries.again(failed, replica)
            if retry is None:
                raise failed
            yield retry
            await self.scope.wait(retry.wait)
            if self.scope.cancelled:
                raise errors.cancelled()
            if not retry.uploads:
                self._replica = None
                return
            if replica == ANY:
                self._replica = self._targets.replicas.pick_one()
            try:
                async for event in self.provide():
                    yield event
                return
            except LecternError as error:
                failed = error

    async def _resolve(self) -> None:
        """Resolves a dns:/// target to its addresses."""
        name = self._targets.name
        if name is None or not self._targets.replicas.all_failed():
            return
        try:
            addresses = await self._transport.resolve(host_of(name), port_of(name))
        except OSError:
            return  # gRPC resolves it again and reports the error
        self._targets.replicas.replace(addresses if len(addresses) > 1 else [])


class Delivery:
    """Passes on the pieces of an answer over several attempts, so that each piece is seen once. Repeating a
    request gives the same answer: an answer that broke off is requested again, and the text that was
    already delivered is compared and left out."""

    def __init__(self) -> None:
        self._delivered = ""
        self._position = 0  # this attempt's position in the text

    def restart(self) -> None:
        self._position = 0

    def take(self, text: str) -> str:
        """Returns the new part of the next piece. AbortedError if the answer differs from the first one."""
        old = min(len(text), len(self._delivered) - self._position)
        if self._delivered[self._position:self._position + old] != text[:old]:
            raise self._differs()
        self._position += len(text)
        self._delivered += text[old:]
        return text[old:]

    def end(self) -> None:
        """Checks that the complete answer has all the text already delivered."""
        if self._position < len(self._delivered):
            raise self._differs()

    @staticmethod
    def _differs() -> LecternError:
        return errors.make_error(
            grpc.StatusCode.ABORTED, "the answer broke off, and the repeated request gave a different answer",
            errors.Details("RESUME_DIFFERS"))


def source_of(document: Any) -> tuple[str, Source | None]:
    """Returns the id and, for a Document, the source."""
    if isinstance(document, Document):
        return document.id, document.source
    if isinstance(document, str):
        return document, None
    raise TypeError(f"a Document or its id, not {type(document).__name__}")
