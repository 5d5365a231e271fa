"""The transport of AsyncClient: grpc.aio."""
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message

from . import errors
from .channels import Kind, Targets
from .source import Source
from .transport import address_of, stub_of


class AsyncScope:
    """See transport.Scope. Belongs to one event loop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._call: AsyncCall | None = None

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def cancel(self) -> None:
        self._event.set()
        if self._call is not None:
            self._call.cancel()

    def attach(self, call: AsyncCall) -> None:
        self._call = call
        if self.cancelled:
            call.cancel()

    async def wait(self, duration: float) -> None:
        try:
            await asyncio.wait_for(self._event.wait(), duration)
        except TimeoutError:
            pass


class _Outbox:
    """Requests for gRPC's writing task, which waits here for the next one."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Message | None] = asyncio.Queue()

    def put(self, request: Message | None) -> None:
        self._queue.put_nowait(request)

    async def __aiter__(self) -> AsyncIterator[Message]:
        while (request := await self._queue.get()) is not None:
            yield request


class AsyncCall:
    """See transport.Call."""

    def __init__(self, stub: Any, kind: str, requests: Message | Iterable[Message] | None,
                 metadata: list[tuple[str, str]], timeout: float | None) -> None:
        self._outbox = _Outbox() if requests is None else None
        sent = self._outbox.__aiter__() if self._outbox is not None else requests
        self._call = stub(sent, metadata=tuple(metadata), timeout=timeout)
        self._responses = None if kind == "unary_unary" else self._call.__aiter__()
        self._ended = False
        self._cancelled = False

    async def read(self) -> Any:
        if self._ended:
            return None
        try:
            if self._responses is None:
                self._ended = True
                return await self._call
            response = await anext(self._responses, None)
            if response is None:
                self.done_writing()
            return response
        except grpc.aio.AioRpcError as error:
            self.done_writing()
            trailers: Any = error.trailing_metadata() or ()
            raise errors.from_trailers(error.code(), error.details() or "", trailers) from None
        except asyncio.CancelledError:
            # Either cancel() was called, or the task that waits here was cancelled.
            task = asyncio.current_task()
            if self._cancelled and not (task is not None and task.cancelling()):
                raise errors.cancelled() from None
            raise

    def write(self, request: Message) -> None:
        assert self._outbox is not None
        self._outbox.put(request)

    def done_writing(self) -> None:
        if self._outbox is not None:
            self._outbox.put(None)

    def cancel(self) -> None:
        self._cancelled = True
        self._call.cancel()
        self.done_writing()


class AsyncTransport:
    """See transport.Transport. Belongs to the event loop of its first call."""

    def __init__(self, targets: Targets) -> None:
        self._targets = targets
        self._channels: dict[tuple[str, Kind], grpc.aio.Channel] = {}
        self._closed = False

    def new_scope(self) -> AsyncScope:
        return AsyncScope()

    def open(self, lane: tuple[str, Kind], method: str, requests: Message | Iterable[Message] | None,
             metadata: list[tuple[str, str]], timeout: float | None) -> AsyncCall:
        stub, kind = stub_of(self._channel(lane), method)
        return AsyncCall(stub, kind, requests, metadata, timeout)

    async def load(self, source: Source) -> bytes:
        return await asyncio.to_thread(source.load)

    async def resolve(self, host: str, port: int) -> list[str]:
        found = await asyncio.get_running_loop().getaddrinfo(host, port)
        return sorted({address_of(str(each[4][0]), port) for each in found})

    async def close(self) -> None:
        self._closed = True
        channels = list(self._channels.values())
        self._channels.clear()
        for channel in channels:
            await channel.close()

    def _channel(self, lane: tuple[str, Kind]) -> grpc.aio.Channel:
        if self._closed:
            raise ValueError("the client is closed")
        if lane not in self._channels:
            options = self._targets.options(*lane)
            credentials = self._targets.credentials()
            self._channels[lane] = (
                grpc.aio.insecure_channel(lane[0], options) if credentials is None
                else grpc.aio.secure_channel(lane[0], credentials, options))
        return self._channels[lane]
