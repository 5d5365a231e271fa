"""Closing what runs."""
import asyncio
import threading
import time

import grpc
import pytest
from conftest import QUICK, TEXT
from fake_server import Failure, delta
from lectern_client import AsyncClient, CallCancelledError, Client, Retry, RetryPolicy, Text

HOUR = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_REQUESTS", 3_600_000)
LONG = 60  # seconds: a test that fails, not one that waits
# What a reader sees of a close(): an error if it waited already, else the end.
ENDED = (CallCancelledError, StopIteration, StopAsyncIteration)


def threads():
    """The number of threads other than those of the fake server's pool, which grows when calls overlap."""
    return sum(not thread.name.startswith("ThreadPoolExecutor") for thread in threading.enumerate())


def wait_for_threads(before):
    """gRPC's writing threads end a moment after their calls."""
    for _ in range(200):
        if threads() <= before:
            return
        time.sleep(0.05)
    assert threads() <= before


@pytest.fixture
def held(server):
    """A server that says one word and then nothing until the test ends."""
    release = threading.Event()

    def before(number, request):
        yield delta("At")
        release.wait(LONG)
    server.before = before
    yield server
    release.set()


def raise_hour(number, request):
    raise HOUR


def test_closing_the_iterator_cancels_the_call(held):
    with Client(held.target, retry=QUICK) as client:
        with client.ask(client.upload(TEXT), "When?") as stream:
            assert next(stream) == Text("At", 1)
        assert held.cancelled.wait(LONG)
        assert list(stream) == []
        with pytest.raises(CallCancelledError):
            stream.result()


def test_dropping_the_iterator_cancels_the_call(held):
    with Client(held.target, retry=QUICK) as client:
        for event in client.ask(client.upload(TEXT), "When?"):
            assert event == Text("At", 1)
            break
        del event
        assert held.cancelled.wait(LONG)


def test_closing_from_another_thread_ends_the_wait(held):
    with Client(held.target, retry=QUICK) as client:
        stream = client.ask(client.upload(TEXT), "When?")
        assert next(stream) == Text("At", 1)
        closer = threading.Timer(0.05, stream.close)
        closer.start()
        with pytest.raises(ENDED):
            next(stream)
        closer.join()
        assert held.cancelled.wait(LONG)


def test_closing_ends_the_wait_before_an_attempt(server):
    server.before = raise_hour
    with Client(server.target, retry=RetryPolicy(when_full=True)) as client:
        stream = client.ask(client.upload(TEXT), "When?")
        assert isinstance(next(stream), Retry)
        closer = threading.Timer(0.05, stream.close)
        closer.start()
        with pytest.raises(ENDED):
            next(stream)
        closer.join()
    assert server.asks == 1


def test_closing_many_questions_cancels_the_stream(held):
    cancelled = threading.Event()

    def many(requests, context):
        context.add_callback(cancelled.set)
        next(requests)
        cancelled.wait(LONG)
        yield from ()
    with Client(held.target, retry=QUICK) as client:
        document = client.upload(TEXT)
        held.before = None
        client.ask_many(document, ["a"]).results()
        before = threads()
        held.many = many
        stream = client.ask_many(document, iter(str, None))
        closer = threading.Timer(0.05, stream.close)
        closer.start()
        with pytest.raises(ENDED):
            next(stream)
        closer.join()
        assert cancelled.wait(LONG)
        wait_for_threads(before)


def test_cancelling_the_task_cancels_the_call(held):
    async def main():
        async with AsyncClient(held.target, retry=QUICK) as client:
            document = await client.upload(TEXT)
            began = asyncio.Event()

            async def ask():
                async for _ in client.ask(document, "When?"):
                    began.set()
            task = asyncio.create_task(ask())
            await began.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(held.cancelled.wait, LONG)
    asyncio.run(main())


def test_dropping_the_asynchronous_iterator_cancels_the_call(held):
    async def main():
        async with AsyncClient(held.target, retry=QUICK) as client:
            async for event in client.ask(await client.upload(TEXT), "When?"):
                assert event == Text("At", 1)
                break
            assert await asyncio.to_thread(held.cancelled.wait, LONG)
    asyncio.run(main())


def test_closing_from_another_task_ends_the_wait(held):
    async def main():
        async with AsyncClient(held.target, retry=QUICK) as client:
            stream = client.ask(await client.upload(TEXT), "When?")
            assert await anext(stream) == Text("At", 1)
            asyncio.get_running_loop().call_later(0.05, stream.close)
            with pytest.raises(ENDED):
                await anext(stream)
            assert await asyncio.to_thread(held.cancelled.wait, LONG)
    asyncio.run(main())


def test_closing_ends_the_wait_of_a_task_before_an_attempt(server):
    server.before = raise_hour

    async def main():
        async with AsyncClient(server.target, retry=RetryPolicy(when_full=True)) as client:
            stream = client.ask(await client.upload(TEXT), "When?")
            assert isinstance(await anext(stream), Retry)
            asyncio.get_running_loop().call_later(0.05, stream.close)
            with pytest.raises(ENDED):
                await anext(stream)
    asyncio.run(main())
    assert server.asks == 1


def test_no_thread_is_left_behind(server):
    with Client(server.target, retry=QUICK) as client:
        document = client.upload(TEXT)
        client.ask_many(document, ["a", "b"]).results()
        before = threads()
        for _ in range(5):
            client.ask_many(document, ["a", "b"]).results()
            client.ask(document, "When?").result()
            client.upload(TEXT)
        wait_for_threads(before)


def test_a_closed_client_refuses(server):
    client = Client(server.target)
    client.close()
    with pytest.raises(ValueError, match="closed"):
        client.models()
