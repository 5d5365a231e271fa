"""The transport of Client: grpc's blocking calls."""
from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import grpc
from google.protobuf.message import Message

from . import errors
from .channels import Kind, Targets
from .source import Source
from .transport import address_of, stub_of


class BlockingScope:
    """See transport.Scope. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._call: BlockingCall | None = None

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def cancel(self) -> None:
        with self._lock:
            self._event.set()
            call = self._call
        if call is not None:
            call.cancel()

    def attach(self, call: BlockingCall) -> None:
        with self._lock:
            self._call = call
            cancelled = self._event.is_set()
        if cancelled:
            call.cancel()

    async def wait(self, duration: float) -> None:
        self._event.wait(duration)


class _Outbox:
    """Requests for gRPC's writing thread, which waits here for the next one."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Message | None] = queue.SimpleQueue()

    def put(self, request: Message | None) -> None:
        self._queue.put(request)

    def __iter__(self) -> Iterator[Message]:
        while (request := self._queue.get()) is not None:
            yield request


class BlockingCall:
    """See transport.Call."""

    def __init__(self, stub: Any, kind: str, requests: Message | Iterable[Message] | None,
                 metadata: list[tuple[str, str]], timeout: float | None) -> None:
        self._outbox = _Outbox() if requests is None else None
        sent = requests if self._outbox is None else self._outbox
        call = stub.future if kind == "unary_unary" else stub
        self._call = call(sent if isinstance(sent, Message) else iter(sent or ()),
                          metadata=metadata, timeout=timeout)
        self._unary = kind == "unary_unary"
        self._ended = False

    async def read(self) -> Any:
        if self._ended:
            return None
        try:
            if self._unary:
                self._ended = True
                return self._call.result()
            response = next(self._call, None)
            if response is None:
                self.done_writing()
            return response
        except grpc.FutureCancelledError:
            raise errors.cancelled() from None
        except grpc.RpcError:
            self.done_writing()
            raise errors.from_trailers(self._call.code(), self._call.details() or "",
                                       self._call.trailing_metadata() or ()) from None

    def write(self, request: Message) -> None:
        assert self._outbox is not None
        self._outbox.put(request)

    def done_writing(self) -> None:
        if self._outbox is not None:
            self._outbox.put(None)

    def cancel(self) -> None:
        self._call.cancel()
        self.done_writing()


class BlockingTransport:
    """See transport.Transport. Thread-safe."""

    def __init__(self, targets: Targets) -> None:
        self._targets = targets
        self._lock = threading.Lock()
        self._channels: dict[tuple[str, Kind], grpc.Channel] = {}
        self._closed = False

    def new_scope(self) -> BlockingScope:
        return BlockingScope()

    def open(self, lane: tuple[str, Kind], method: str, requests: Message | Iterable[Message] | None,
             metadata: list[tuple[str, str]], timeout: float | None) -> BlockingCall:
        stub, kind = stub_of(self._channel(lane), method)
        return BlockingCall(stub, kind, requests, metadata, timeout)

    async def load(self, source: Source) -> bytes:
        return source.load()

    async def resolve(self, host: str, port: int) -> list[str]:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return sorted({address_of(str(each[4][0]), port) for each in found})

    def close(self) -> None:
        with self._lock:
            self._closed = True
            channels = list(self._channels.values())
            self._channels.clear()
        for channel in channels:
            channel.close()

    def _channel(self, lane: tuple[str, Kind]) -> grpc.Channel:
        with self._lock:
            if self._closed:
                raise ValueError("the client is closed")
            if lane not in self._channels:
                options = self._targets.options(*lane)
                credentials = self._targets.credentials()
                self._channels[lane] = (
                    grpc.insecure_channel(lane[0], options) if credentials is None
                    else grpc.secure_channel(lane[0], credentials, options))
            return self._channels[lane]
