"""The input and output that the calls need, provided by two modules: blocking.py and asyncio_io.py.

The calls themselves (calls.py, session.py) are coroutines over these protocols. Those of blocking.py
never suspend, so that run() runs a coroutine over them to its end.
"""
from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from ._proto.lectern.v1 import ask_pb2, document_pb2, document_qa_pb2, server_pb2
from .channels import Kind
from .source import Source

Result = TypeVar("Result")

_RESPONSES: dict[str, type[Message]] = {
    each.__name__: each for each in (
        ask_pb2.AskManyResponse, ask_pb2.AskResponse, document_pb2.CountTokensResponse,
        document_pb2.DeleteDocumentResponse,
        document_pb2.Document, document_pb2.ListDocumentsResponse,
        document_pb2.UploadDocumentResponse, server_pb2.ListModelsResponse, server_pb2.ServerStatus)
}


class Scope(Protocol):
    """Cancels the calls that use it. cancel() may be called at any time; in the blocking one, from any
    thread."""

    @property
    def cancelled(self) -> bool: ...

    def cancel(self) -> None:
        """Ends the attached call, every later one, and any wait."""

    def attach(self, call: Any) -> None:
        """Attaches the running `call`; there is one at a time."""

    async def wait(self, duration: float) -> None:
        """Waits for `duration` seconds or until cancel()."""


class Call(Protocol):
    """One attempt of one call."""

    async def read(self) -> Any:
        """Returns the next response; None at the end. Raises LecternError."""

    def write(self, request: Message) -> None:
        """Sends one more request of a call that was opened without requests. Does not wait."""

    def done_writing(self) -> None: ...

    def cancel(self) -> None:
        """Ends the call if it has not ended."""


class Transport(Protocol):
    def new_scope(self) -> Scope: ...

    def open(self, lane: tuple[str, Kind], method: str, requests: Message | Iterable[Message] | None,
             metadata: list[tuple[str, str]], timeout: float | None) -> Call:
        """Begins a call of DocumentQA. `requests` is None for a stream that is written to."""

    async def load(self, source: Source) -> bytes:
        """Returns source.load() without blocking the event loop."""

    async def resolve(self, host: str, port: int) -> list[str]:
        """Returns the addresses of a host, as HOST:PORT."""


def stub_of(channel: Any, method: str) -> tuple[Any, str]:
    """Returns the multi-callable of `method` on a channel of grpc or grpc.aio, and its kind."""
    service = document_qa_pb2.DESCRIPTOR.services_by_name["DocumentQA"]
    descriptor = service.methods_by_name[method]
    kind = (("stream" if descriptor.client_streaming else "unary") + "_"
            + ("stream" if descriptor.server_streaming else "unary"))
    response = _RESPONSES[descriptor.output_type.name]
    return getattr(channel, kind)(f"/{service.full_name}/{method}",
                                  request_serializer=lambda message: message.SerializeToString(),
                                  response_deserializer=response.FromString), kind


def address_of(host: str, port: int) -> str:
    """`host` is an address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def next_of(items: AsyncIterator[Result]) -> Result:
    """anext() as a coroutine."""
    return await anext(items)


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Runs a coroutine over a blocking transport."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: Result = done.value
        return result
    coroutine.close()
    raise RuntimeError("a blocking transport suspended")
