"""The calls of both clients, as coroutines and asynchronous generators over a transport.
Client runs them with transport.run(), AsyncClient awaits them."""
from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

import grpc

from . import errors
from ._proto.lectern.v1 import ask_pb2, document_pb2, server_pb2
from .channels import Targets, read_security
from .errors import LecternError
from .events import Event, Reply, Text, UploadEvent, from_progress, from_queued
from .records import Answer, Document, ModelInfo, ServerStatus, TokenCount, record
from .requests import make_ask_request, make_upload_metadata
from .retries import RetryPolicy
from .session import CallOptions, Delivery, Session, source_of
from .source import Source, make_source
from .transport import Transport

_PAGE_SIZE = 1000


def make_targets(target: str | Sequence[str], *, tls: bool | None,
                 tls_ca: str | os.PathLike[str] | None, tls_cert: str | os.PathLike[str] | None,
                 tls_key: str | os.PathLike[str] | None, tls_server_name: str | None,
                 token: str | None) -> Targets:
    return Targets(target, read_security(tls, tls_ca, tls_cert, tls_key, tls_server_name, token))


class Calls:
    """The calls of a client. Every method returns a call that has not begun yet."""

    def __init__(self, transport: Transport, targets: Targets, *, timeout: float | None, tenant: str,
                 retry: RetryPolicy | None) -> None:
        self._transport = transport
        self._targets = targets
        self._options = CallOptions(timeout, tenant, retry=retry or RetryPolicy())
        Session(transport, targets, self._options)  # refuses a wrong tenant at once

    def upload(self, source: str | os.PathLike[str] | bytes | None, text: str | None,
               title: str | None, timeout: float | None, settings: dict[str, Any]) -> UploadRun:
        if title is None:
            named = isinstance(source, (str, os.PathLike))
            title = os.path.basename(os.fspath(source)) if named else ""  # type: ignore[arg-type]
        kept = make_source(source, text, make_upload_metadata(title, settings))
        return UploadRun(self._session(timeout, "", kept), kept)

    def ask(self, document: Document | str | None, question: str, text: str | None,
            timeout: float | None, settings: dict[str, Any]) -> AskRun:
        document_id, source = self._about(document, text)
        request = make_ask_request(question, document_id, text, settings)
        return AskRun(self._session(timeout, document_id, source), request)

    def ask_many(self, document: Document | str | None, questions: Iterable[str], text: str | None,
                 max_open: int, timeout: float | None, settings: dict[str, Any]) -> AskManyRun:
        document_id, source = self._about(document, text)
        if isinstance(questions, str):
            raise TypeError("questions must be several strings")
        if max_open < 1:
            raise errors.invalid_argument("max_open", "must be at least 1")
        like = make_ask_request("", document_id, text, settings)
        return AskManyRun(self._session(timeout, document_id, source), iter(questions), like, max_open)

    async def document(self, document: Document | str) -> Document:
        document_id, source = source_of(document)
        found = await self._session(document_id=document_id).unary(
            "GetDocument", document_pb2.GetDocumentRequest(id=document_id))
        return dataclasses.replace(record(Document, found), source=source)

    async def documents(self, model: str) -> list[Document]:
        session = self._session()
        request = document_pb2.ListDocumentsRequest(page_size=_PAGE_SIZE, model=model)
        found: list[Document] = []
        while True:
            page = await session.unary("ListDocuments", request)
            found += [record(Document, each) for each in page.documents]
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def delete(self, document: Document | str) -> int:
        document_id = source_of(document)[0]
        request = document_pb2.DeleteDocumentRequest(id=document_id)
        session = self._session(document_id=document_id)
        return int((await session.unary("DeleteDocument", request)).freed_bytes)

    async def count_tokens(self, document: Document | str | None, text: str | None,
                           model: str) -> TokenCount:
        document_id, _ = self._about(document, text)
        request = document_pb2.CountTokensRequest(model=model)
        if text is not None:
            request.text = text
        else:
            request.document_id = document_id
        session = self._session(document_id=document_id)
        return record(TokenCount, await session.unary("CountTokens", request))

    async def models(self) -> list[ModelInfo]:
        found = await self._session().unary("ListModels", server_pb2.ListModelsRequest())
        return [record(ModelInfo, each) for each in found.models]

    async def status(self) -> ServerStatus:
        return record(ServerStatus, await self._session().unary(
            "GetServerStatus", server_pb2.GetServerStatusRequest(), self._targets.unchecked()))

    def _session(self, timeout: float | None = None, document_id: str = "",
                 source: Source | None = None) -> Session:
        options = self._options
        if timeout is not None:
            options = dataclasses.replace(options, timeout=timeout)
        return Session(self._transport, self._targets, options, document_id, source)

    @staticmethod
    def _about(document: Document | str | None, text: str | None) -> tuple[str, Source | None]:
        if (document is None) == (text is None):
            raise TypeError("give either a document, or None and text=")
        return source_of(document) if document is not None else ("", None)


class UploadRun:
    """An upload. events() may be iterated once and sets `document`."""

    def __init__(self, session: Session, source: Source) -> None:
        self._session = session
        self._source = source
        self.document: Document | None = None

    def cancel(self) -> None:
        self._session.scope.cancel()

    async def events(self) -> AsyncIterator[UploadEvent]:
        try:
            while self.document is None:
                try:
                    async for event in self._session.upload():
                        if isinstance(event, Document):
                            self.document = dataclasses.replace(event, source=self._source)
                        else:
                            yield event
                except LecternError as failed:
                    async for retry in self._session.recover(failed):
                        yield retry
        finally:
            self._session.scope.cancel()


class AskRun:
    """A question. events() may be iterated once and sets `answer`. cancel() ends it."""

    def __init__(self, session: Session, request: ask_pb2.AskRequest) -> None:
        self._session = session
        self._request = request
        self._delivery = Delivery()
        self.answer: Answer | None = None

    def cancel(self) -> None:
        self._session.scope.cancel()

    async def events(self) -> AsyncIterator[Event]:
        try:
            while self.answer is None:
                try:
                    async for event in self._attempt():
                        if isinstance(event, Answer):
                            self.answer = event
                        else:
                            yield event
                except LecternError as failed:
                    async for retry in self._session.recover(failed):
                        yield retry
            yield self.answer
        finally:
            self._session.scope.cancel()

    async def _attempt(self) -> AsyncIterator[Event]:
        self._delivery.restart()
        answer: Answer | None = None
        call = await self._session.begin("Ask", self._request)
        try:
            while (response := await call.read()) is not None:
                if response.HasField("queued"):
                    yield from_queued(response.queued)
                elif response.HasField("progress"):
                    yield from_progress(response.progress)
                elif response.HasField("delta"):
                    if text := self._delivery.take(response.delta.text):
                        yield Text(text, response.delta.tokens)
                elif response.HasField("answer"):
                    self._delivery.end()
                    answer = record(Answer, response.answer)
        finally:
            call.cancel()
        if answer is None:
            raise errors.no_last_message("answer")
        yield answer


class AskManyRun:
    """Many questions on one stream. At most `max_open` are with the server at a time; the next one is
    taken from `questions` when one has ended and its reply was consumed, so that the server does not
    run ahead of a slow reader. replies() may be iterated once. cancel() ends it."""

    def __init__(self, session: Session, questions: Iterator[str], like: ask_pb2.AskRequest,
                 max_open: int) -> None:
        self._session = session
        self._questions = questions
        self._like = like
        self._max_open = max_open
        self._drawn = 0
        self._texts: dict[int, str] = {}  # the questions without a reply, by index
        self._to_ask: collections.deque[int] = collections.deque()
        self._waiting: set[int] = set()  # sent to the server
        self._failed: dict[int, LecternError] = {}  # to be retried when none is waiting

    def cancel(self) -> None:
        self._session.scope.cancel()

    async def replies(self) -> AsyncIterator[Reply]:
        try:
            while self._to_ask or self._draw():
                try:
                    async for reply in self._round():
                        yield reply
                except LecternError as broken:
                    if self._session.scope.cancelled:
                        raise
                    if not self._session.retries.retryable(broken):
                        for reply in self._give_up(broken):
                            yield reply
                        return
                    self._failed.update(dict.fromkeys((*self._waiting, *self._to_ask), broken))
                    self._waiting.clear()
                if self._failed:
                    for reply in await self._recover():
                        yield reply
        finally:
            self._session.scope.cancel()

    async def _round(self) -> AsyncIterator[Reply]:
        """Asks on one stream until every question has its reply or only failed ones remain to be retried."""
        call = await self._session.begin("AskMany", None)
        try:
            while True:
                while (not self._failed and len(self._waiting) < self._max_open
                       and (self._to_ask or self._draw())):
                    call.write(self._request(self._to_ask.popleft()))
                if not self._waiting:
                    break
                response = await call.read()
                if response is None:
                    raise errors.no_last_message("answer")
                reply = self._take(response)
                if reply is not None:
                    yield reply
            call.done_writing()
            while await call.read() is not None:
                pass
        finally:
            call.cancel()

    async def _recover(self) -> list[Reply]:
        """Queues failed questions again, or returns their replies."""
        # The failure that requests the longest wait represents all of them.
        cause = max(self._failed.values(), key=lambda error: error.details.retry_after or 0.0)
        failed, self._failed = self._failed, {}
        self._to_ask = collections.deque(sorted({*failed, *self._to_ask}))
        try:
            async for _ in self._session.recover(cause):
                pass
        except LecternError as final:
            if self._session.scope.cancelled:
                raise
            # Each question keeps its own error, unless recovery failed with another one.
            self._to_ask = collections.deque(i for i in self._to_ask if i not in failed)
            return [self._reply(index, error=failed[index] if final is cause else final)
                    for index in sorted(failed)]
        return []

    def _draw(self) -> bool:
        """Takes the next question, if any."""
        question = next(self._questions, None)
        if question is None:
            return False
        self._texts[self._drawn] = question
        self._to_ask.append(self._drawn)
        self._drawn += 1
        return True

    def _request(self, index: int) -> ask_pb2.AskManyRequest:
        request = ask_pb2.AskManyRequest(tag=str(index), ask=self._like)
        request.ask.question = self._texts[index]
        self._waiting.add(index)
        return request

    def _take(self, response: ask_pb2.AskManyResponse) -> Reply | None:
        """Returns the reply that `response` completes, if any."""
        index = int(response.tag) if response.tag.isdecimal() else -1
        if index not in self._waiting:
            raise errors.make_error(grpc.StatusCode.INTERNAL, "the server answered a question that "
                                    f"was not asked: {response.tag}")
        if response.HasField("error"):
            self._waiting.remove(index)
            error = errors.from_status(response.error.code, response.error.message,
                                       response.error.status)
            if not self._session.retries.retryable(error):
                return self._reply(index, error=error)
            self._failed[index] = error
        elif response.response.HasField("answer"):
            self._waiting.remove(index)
            self._session.retries.restart()  # the call makes progress: earlier failures no longer count
            return self._reply(index, answer=record(Answer, response.response.answer))
        return None

    def _reply(self, index: int, answer: Answer | None = None,
               error: LecternError | None = None) -> Reply:
        return Reply(index, self._texts.pop(index), answer, error)

    def _give_up(self, error: LecternError) -> Iterator[Reply]:
        """Returns `error` as the reply of every question that has none."""
        while self._texts or self._draw():
            yield self._reply(min(self._texts), error=error)
