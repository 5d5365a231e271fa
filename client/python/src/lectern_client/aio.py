"""The asyncio client: the methods of client.py as coroutines, their streams as asynchronous iterators.
The docstrings there apply here."""
from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Generic, Self, TypeVar, Unpack

from .asyncio_io import AsyncTransport
from .calls import AskManyRun, AskRun, Calls, make_targets
from .errors import cancelled
from .events import Event, Reply
from .progress import ProgressOption, observer
from .records import Answer, Document, ModelInfo, ServerStatus, TokenCount
from .requests import AskSettings, UploadSettings
from .retries import RetryPolicy

Item = TypeVar("Item")


class _AsyncStream(Generic[Item]):
    """An asynchronous iterator over the events of a call. close() ends the call; so does leaving an
    `async with`, dropping the iterator, or cancelling the task that waits for it."""

    def __init__(self, running: AskRun | AskManyRun, items: AsyncIterator[Item]) -> None:
        self._running = running
        self._items = items
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        if self._closed:
            raise StopAsyncIteration
        return await anext(self._items)

    def close(self) -> None:
        """Cancels the call if it is still running. A task that waits for the next item gets
        CallCancelledError."""
        self._closed = True
        self._running.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        self.close()


class AsyncAskStream(_AsyncStream[Event]):
    """The events of one answer; the last is the Answer. Iterating raises LecternError."""

    def __init__(self, running: AskRun) -> None:
        super().__init__(running, running.events())
        self._ask = running

    async def result(self) -> Answer:
        """Consumes the remaining events and returns the answer."""
        async for _ in self:
            pass
        if self._ask.answer is None:
            raise cancelled()
        return self._ask.answer


class AsyncAskManyStream(_AsyncStream[Reply]):
    """The replies to many questions, in the order in which they complete."""

    async def results(self) -> list[Reply]:
        """Consumes the remaining replies and returns them in the order of the questions."""
        return sorted([reply async for reply in self], key=lambda reply: reply.index)


class AsyncClient:
    """Client for asyncio, with the same arguments and methods. Belongs to the event loop of its first
    call.

        async with AsyncClient("127.0.0.1:8001") as client:
            document = await client.upload("report.txt")
            async for event in client.ask(document, "Which valve failed first?"):
                ...
    """

    def __init__(self, target: str | Sequence[str] = "127.0.0.1:8001", *, tenant: str = "",
                 timeout: float | None = None, retry: RetryPolicy | None = None,
                 tls: bool | None = None, tls_ca: str | os.PathLike[str] | None = None,
                 tls_cert: str | os.PathLike[str] | None = None,
                 tls_key: str | os.PathLike[str] | None = None, tls_server_name: str | None = None,
                 token: str | None = None) -> None:
        targets = make_targets(target, tls=tls, tls_ca=tls_ca, tls_cert=tls_cert, tls_key=tls_key,
                               tls_server_name=tls_server_name, token=token)
        self._transport = AsyncTransport(targets)
        self._calls = Calls(self._transport, targets, timeout=timeout, tenant=tenant, retry=retry)

    async def upload(self, source: str | os.PathLike[str] | bytes | None = None, *,
               text: str | None = None, title: str | None = None, progress: ProgressOption = True,
               timeout: float | None = None, **settings: Unpack[UploadSettings]) -> Document:
        """Sends a document and waits until the server has read it."""
        running = self._calls.upload(source, text, title, timeout, dict(settings))
        with observer(progress) as observe:
            try:
                async for event in running.events():
                    observe(event)
            finally:
                running.cancel()
        assert running.document is not None
        return running.document

    def ask(self, document: Document | str | None, question: str, *, text: str | None = None,
            timeout: float | None = None, **settings: Unpack[AskSettings]) -> AsyncAskStream:
        """Asks about a document (or its id, which cannot be sent again), or with None about `text`,
        which is read for this answer only."""
        return AsyncAskStream(self._calls.ask(document, question, text, timeout, dict(settings)))

    def ask_many(self, document: Document | str | None, questions: Iterable[str], *,
                 text: str | None = None, max_open: int = 16, timeout: float | None = None,
                 **settings: Unpack[AskSettings]) -> AsyncAskManyStream:
        """Asks all `questions` on one stream, at most `max_open` at a time."""
        running = self._calls.ask_many(document, questions, text, max_open, timeout, dict(settings))
        return AsyncAskManyStream(running, running.replies())

    async def document(self, document: Document | str) -> Document:
        """Returns the server's current record of a document."""
        return await self._calls.document(document)

    async def documents(self, model: str = "") -> list[Document]:
        """Returns all documents of the server, or those of one model, ordered by id."""
        return await self._calls.documents(model)

    async def delete(self, document: Document | str) -> int:
        """Deletes a document and returns the number of bytes freed immediately."""
        return await self._calls.delete(document)

    async def count_tokens(self, document: Document | str | None = None, *, text: str | None = None,
                           model: str = "") -> TokenCount:
        """Counts the tokens of a document (or its id) or of `text`, and says how it is read. A text is
        not stored."""
        return await self._calls.count_tokens(document, text, model)

    async def models(self) -> list[ModelInfo]:
        """Returns the loaded models; the first is the default."""
        return await self._calls.models()

    async def status(self) -> ServerStatus:
        """Returns the state of the server; also works while it is loading or draining."""
        return await self._calls.status()

    async def close(self) -> None:
        """Cancels running calls and closes the connections."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        await self.close()
