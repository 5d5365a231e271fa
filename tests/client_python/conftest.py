"""Both clients through one interface, so that every test runs with either."""
import asyncio

import pytest
from fake_server import FakeServer
from lectern_client import AsyncClient, Client, RetryPolicy

QUICK = RetryPolicy(first_wait=0.001, longest_wait=0.002)
TEXT = b"At 03:14 the relief valve failed."


class Blocking:
    """Client's calls, run to their ends."""

    @property
    def replicas(self):
        return self._client._calls._targets.replicas

    def __init__(self, target, **arguments):
        self._client = Client(target, **{"retry": QUICK, "timeout": 60, **arguments})

    def events(self, *arguments, **settings):
        return list(self._client.ask(*arguments, **settings))

    def result(self, *arguments, **settings):
        return self._client.ask(*arguments, **settings).result()

    def many(self, *arguments, **settings):
        return self._client.ask_many(*arguments, **settings).results()

    def close(self):
        self._client.close()

    def __getattr__(self, name):
        return getattr(self._client, name)


class Asyncio:
    """AsyncClient's calls, run to their ends on a separate event loop."""

    replicas = Blocking.replicas

    def __init__(self, target, **arguments):
        self._loop = asyncio.new_event_loop()
        self._client = AsyncClient(target, **{"retry": QUICK, "timeout": 60, **arguments})

    def run(self, coroutine):
        return self._loop.run_until_complete(coroutine)

    def events(self, *arguments, **settings):
        async def collect():
            return [event async for event in self._client.ask(*arguments, **settings)]
        return self.run(collect())

    def result(self, *arguments, **settings):
        return self.run(self._client.ask(*arguments, **settings).result())

    def many(self, *arguments, **settings):
        return self.run(self._client.ask_many(*arguments, **settings).results())

    def close(self):
        self.run(self._client.close())
        self.run(self._loop.shutdown_asyncgens())
        self._loop.close()

    def __getattr__(self, name):
        return lambda *arguments, **settings: self.run(
            getattr(self._client, name)(*arguments, **settings))


@pytest.fixture
def server():
    fake = FakeServer()
    yield fake
    fake.stop()


@pytest.fixture
def other():
    fake = FakeServer()
    yield fake
    fake.stop()


@pytest.fixture(params=[Blocking, Asyncio], ids=["blocking", "asyncio"])
def connect(request):
    """Makes clients and closes them at the end."""
    made = []

    def make(target, **arguments):
        made.append(request.param(target, **arguments))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(connect, server):
    return connect(server.target)
