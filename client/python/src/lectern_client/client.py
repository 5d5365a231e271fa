"""The blocking client."""
from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Generic, Self, TypeVar, Unpack

from .blocking import BlockingTransport
from .calls import AskManyRun, AskRun, Calls, make_targets
from .errors import cancelled
from .events import Event, Reply
from .progress import ProgressOption, observer
from .records import Answer, Document, ModelInfo, ServerStatus, TokenCount
from .requests import AskSettings, UploadSettings
from .retries import RetryPolicy
from .transport import next_of, run

Item = TypeVar("Item")


class _Stream(Generic[Item]):
    """An iterator over the events of a call. close() ends the call, from any thread; so does leaving a
    `with`, or dropping the iterator."""

    def __init__(self, running: AskRun | AskManyRun, items: AsyncIterator[Item]) -> None:
        self._running = running
        self._items = items
        self._closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Item:
        if self._closed:
            raise StopIteration
        try:
            return run(next_of(self._items))
        except StopAsyncIteration:
            self._closed = True
        raise StopIteration

    def close(self) -> None:
        """Cancels the call if it is still running. A thread that waits for the next item gets
        CallCancelledError."""
        self._closed = True
        self._running.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


class AskStream(_Stream[Event]):
    """The events of one answer; the last is the Answer. Iterating raises LecternError."""

    def __init__(self, running: AskRun) -> None:
        super().__init__(running, running.events())
        self._ask = running

    def result(self) -> Answer:
        """Consumes the remaining events and returns the answer."""
        for _ in self:
            pass
        if self._ask.answer is None:
            raise cancelled()
        return self._ask.answer


class AskManyStream(_Stream[Reply]):
    """The replies to many questions, in the order in which they complete."""

    def results(self) -> list[Reply]:
        """Consumes the remaining replies and returns them in the order of the questions."""
        return sorted(self, key=lambda reply: reply.index)


class Client:
    """A client of one or several Lectern servers. Thread-safe.

        with Client("127.0.0.1:8001") as client:
            document = client.upload("report.txt")
            for event in client.ask(document, "Which valve failed first?"):
                ...

    `target` is HOST:PORT, several replicas as a list or "127.0.0.1:8001,127.0.0.1:8003", or any gRPC
    target ("dns:///lectern-headless:8001"). Calls go in turn to those that report they are serving.
    A replica that lacks a document receives it from `Document.source`; an answer that breaks off
    because a replica goes away is resumed on another one. See RetryPolicy.

    `timeout` (seconds, retries included) applies to each call that sets none; without any, the timeouts
    of the service config apply to each attempt (300 s for questions, 600 s for uploads).
    `tenant` identifies the caller, [A-Za-z0-9._-]{1,64}.
    `tls_ca`, `tls_cert`, `tls_key` are PEM files: the authority that signed the server's certificate,
    and the client's certificate and key; `tls_server_name` is the name in the server's certificate if
    it is not the target's host. TLS is used if one of them is given, or with tls=True and the
    authorities that come with gRPC. `token` is sent as "authorization: Bearer" with each call; without
    TLS it is refused unless all targets are on this machine.

    Errors are LecternError (errors.py). Wrong combinations of arguments are TypeError or ValueError.
    """

    def __init__(self, target: str | Sequence[str] = "127.0.0.1:8001", *, tenant: str = "",
                 timeout: float | None = None, retry: RetryPolicy | None = None,
                 tls: bool | None = None, tls_ca: str | os.PathLike[str] | None = None,
                 tls_cert: str | os.PathLike[str] | None = None,
                 tls_key: str | os.PathLike[str] | None = None, tls_server_name: str | None = None,
                 token: str | None = None) -> None:
        targets = make_targets(target, tls=tls, tls_ca=tls_ca, tls_cert=tls_cert, tls_key=tls_key,
                               tls_server_name=tls_server_name, token=token)
        self._transport = BlockingTransport(targets)
        self._calls = Calls(self._transport, targets, timeout=timeout, tenant=tenant, retry=retry)

    def upload(self, source: str | os.PathLike[str] | bytes | None = None, *,
               text: str | None = None, title: str | None = None, progress: ProgressOption = True,
               timeout: float | None = None, **settings: Unpack[UploadSettings]) -> Document:
        """Sends a document and waits until the server has read it. `source` is the path of a UTF-8 file,
        or its bytes; or give the text as `text`. The title is the file's name unless given. The Document
        remembers path or text, so that it can be sent again."""
        running = self._calls.upload(source, text, title, timeout, dict(settings))
        events = running.events()
        with observer(progress) as observe:
            try:
                while True:
                    observe(run(next_of(events)))
            except StopAsyncIteration:
                pass
            finally:
                running.cancel()
        assert running.document is not None
        return running.document

    def ask(self, document: Document | str | None, question: str, *, text: str | None = None,
            timeout: float | None = None, **settings: Unpack[AskSettings]) -> AskStream:
        """Asks about a document (or its id, which cannot be sent again), or with None about `text`,
        which is read for this answer only. The call begins when the first event is requested."""
        return AskStream(self._calls.ask(document, question, text, timeout, dict(settings)))

    def ask_many(self, document: Document | str | None, questions: Iterable[str], *,
                 text: str | None = None, max_open: int = 16, timeout: float | None = None,
                 **settings: Unpack[AskSettings]) -> AskManyStream:
        """Asks all `questions` on one stream, at most `max_open` at a time. The next one is
        taken from the iterator as replies are consumed. Each fails alone: see Reply."""
        running = self._calls.ask_many(document, questions, text, max_open, timeout, dict(settings))
        return AskManyStream(running, running.replies())

    def document(self, document: Document | str) -> Document:
        """Returns the server's current record of a document."""
        return run(self._calls.document(document))

    def documents(self, model: str = "") -> list[Document]:
        """Returns all documents of the server, or those of one model, ordered by id."""
        return run(self._calls.documents(model))

    def delete(self, document: Document | str) -> int:
        """Deletes a document and returns the number of bytes freed immediately."""
        return run(self._calls.delete(document))

    def count_tokens(self, document: Document | str | None = None, *, text: str | None = None,
                     model: str = "") -> TokenCount:
        """Counts the tokens of a document (or its id) or of `text`, and says how it is read. A text is
        not stored."""
        return run(self._calls.count_tokens(document, text, model))

    def models(self) -> list[ModelInfo]:
        """Returns the loaded models; the first is the default."""
        return run(self._calls.models())

    def status(self) -> ServerStatus:
        """Returns the state of the server; also works while it is loading or draining."""
        return run(self._calls.status())

    def close(self) -> None:
        """Cancels running calls and closes the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()
