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
from .records import Answer, Document, ModelInfo, ServerStatus
from .requests import AskSettings, UploadSettings
from .retries import RetryPolicy
from .transport import next_of, run

Item = TypeVar("Item")


class _Stream(Generic[Item]):
    """An iterator over what a call tells. close() ends the call, from any thread; so does leaving a
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
        """Cancels the call if it still runs. A thread that waits for the next item gets
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
        """The answer, after going through what is left of the events."""
        for _ in self:
            pass
        if self._ask.answer is None:
            raise cancelled()
        return self._ask.answer


class AskManyStream(_Stream[Reply]):
    """The replies to many questions, in the order in which they are complete."""

    def results(self) -> list[Reply]:
        """Goes through the rest and returns it in the order of the questions."""
        return sorted(self, key=lambda reply: reply.index)


class Client:
    """A client of one or several Lectern servers. Thread-safe.

        with Client("127.0.0.1:8001") as client:
            document = client.upload("report.txt")
            for event in client.ask(document, "Which valve failed first?"):
                ...

    `target` is HOST:PORT, several replicas as a list or "127.0.0.1:8001,127.0.0.1:8003", or any gRPC
    target ("dns:///lectern-headless:8001"). Calls go to those that say they are serving, in turn.
    A replica that does not have a document is given it from `Document.source`; an answer that breaks
    off because a replica goes away is taken up on another one. See RetryPolicy.

    `timeout` (seconds, retries included) holds for each call that has none of its own; without any the
    service config's hold for each attempt (300 s for questions, 600 s for uploads).
    `tenant` says who asks, [A-Za-z0-9._-]{1,64}.
    `tls_ca`, `tls_cert`, `tls_key` are PEM files: the authority that signed the server's certificate,
    and the client's own certificate; `tls_server_name` is the name in the server's, where it is not the
    target's host. TLS is used when one of them is given, or with tls=True and the authorities that gRPC
    brings along. `token` goes as "authorization: Bearer" with each call; without
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
        """Sends a document and waits until it is read. `source` is the path of a file of UTF-8, or its
        bytes; or give the text as `text`. The title is the file's name unless given. The Document
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
        which is read for this answer only. The call begins with the first event that is taken."""
        return AskStream(self._calls.ask(document, question, text, timeout, dict(settings)))

    def ask_many(self, document: Document | str | None, questions: Iterable[str], *,
                 text: str | None = None, max_open: int = 16, timeout: float | None = None,
                 **settings: Unpack[AskSettings]) -> AskManyStream:
        """Asks all `questions` on one stream, at most `max_open` at a time. They are drawn as replies
        are taken. Each fails alone: see Reply."""
        running = self._calls.ask_many(document, questions, text, max_open, timeout, dict(settings))
        return AskManyStream(running, running.replies())

    def document(self, document: Document | str) -> Document:
        """What the server knows of a document now."""
        return run(self._calls.document(document))

    def documents(self, model: str = "") -> list[Document]:
        """All documents of the server, or those of a model, by id."""
        return run(self._calls.documents(model))

    def delete(self, document: Document | str) -> int:
        """Deletes a document; returns the bytes that were freed at once."""
        return run(self._calls.delete(document))

    def models(self) -> list[ModelInfo]:
        """The models that are loaded; the first is the default."""
        return run(self._calls.models())

    def status(self) -> ServerStatus:
        """Works also while the server is loading or draining."""
        return run(self._calls.status())

    def close(self) -> None:
        """Cancels what runs and closes the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()
