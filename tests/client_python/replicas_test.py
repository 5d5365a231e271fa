"""Several servers used by one client."""
import grpc
import pytest
from conftest import TEXT
from fake_server import Failure, FakeServer, delta, queued
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from lectern_client import Text, UnavailableError
from lectern_client.channels import Security, Targets
from lectern_client.retries import ANY, Replicas

PLAIN = Security(False, None, None, None, None)


def unused_port():
    fake = FakeServer()
    fake.stop()
    return fake.port


def test_the_replica_without_the_document_gets_it(connect, server, other):
    client = connect([server.target, other.target])
    document = client.upload(TEXT)
    assert server.uploads + other.uploads == 1
    for _ in range(4):
        assert client.result(document, "When?").text == "At 03:14."
    assert (server.uploads, other.uploads) == (1, 1)
    assert all(reply.answer for _ in range(2) for reply in client.many(document, ["a", "b"]))
    assert (server.uploads, other.uploads) == (1, 1)


def test_a_draining_replica_is_left_for_another_one(connect, server, other):
    def draining(number, request):
        yield queued()
        yield delta("At ")
        raise Failure(grpc.StatusCode.UNAVAILABLE, "DRAINING")
    other.before = draining
    client = connect(f"{server.target},{other.target}")
    document = client.upload(TEXT)
    for _ in range(4):
        events = client.events(document, "When?")
        assert "".join(e.text for e in events if isinstance(e, Text)) == "At 03:14."
    # It is not asked again at once, after it was left.
    assert other.asks < server.asks


def test_a_replica_that_is_gone_is_left_out(connect, server):
    client = connect([f"127.0.0.1:{unused_port()}", server.target])
    document = client.upload(TEXT)
    for _ in range(4):
        assert client.result(document, "When?").text == "At 03:14."


def test_a_replica_that_is_not_serving_is_not_asked(connect, server):
    servicer = health.HealthServicer()
    servicer.set("lectern.v1.DocumentQA", health_pb2.HealthCheckResponse.NOT_SERVING)
    loading = FakeServer(health=lambda grpc_server: health_pb2_grpc.add_HealthServicer_to_server(
        servicer, grpc_server))
    client = connect([loading.target, server.target])
    document = client.upload(TEXT)
    for _ in range(4):
        client.result(document, "When?")
        client.models()
    assert loading.uploads == loading.asks == 0
    alone = connect(loading.target)
    assert alone.status().state == "draining"
    loading.stop()


def test_a_document_sent_after_all_had_failed_goes_where_it_is_asked_about(connect, server, other):
    client = connect([server.target, other.target])
    for text in (b"one", b"two", b"three"):
        document = client.upload(text)
        server.documents.clear()
        other.documents.clear()
        for fake in (server, other):
            client.replicas.failed(fake.target)
        assert client.result(document, "When?").text == "At 03:14."


def test_names_of_several_hosts(connect, server):
    client = connect([f"localhost:{unused_port()}", f"localhost:{server.port}"])
    assert client.result(client.upload(TEXT), "When?").text == "At 03:14."


def test_a_name_of_dns_stands_for_its_addresses(connect, server):
    client = connect(f"dns:///localhost:{server.port}")
    document = client.upload(TEXT)
    server.documents.clear()
    assert client.result(document, "When?").text == "At 03:14."


def test_a_single_server_may_be_late(connect):
    port = unused_port()
    client = connect(f"127.0.0.1:{port}")
    with pytest.raises(Exception) as caught:
        client.result(None, "When?", text="At 03:14.", timeout=0.3)
    assert caught.value.code.name == "DEADLINE_EXCEEDED"  # waits for it, as the service config says
    late = FakeServer(port=port)
    assert client.result(None, "When?", text="At 03:14.").text == "At 03:14."
    late.stop()


def test_turns():
    now = [100.0]
    replicas = Replicas(["a", "b"], clock=lambda: now[0])
    assert sorted((replicas.pick(), replicas.pick())) == ["a", "b"]
    replicas.failed("a")
    assert [replicas.pick() for _ in range(3)] == ["b", "b", "b"]
    replicas.failed("b")
    assert replicas.pick() == ANY and replicas.pick_one() in ("a", "b")
    now[0] += 10
    assert sorted((replicas.pick(), replicas.pick())) == ["a", "b"]
    assert Replicas([]).pick() == Replicas([]).pick_one() == ANY
    alone = Replicas(["a", "b"], any_works=False)
    alone.failed("a")
    alone.failed("b")
    assert alone.pick() in ("a", "b")


def test_lists_of_addresses_get_their_scheme():
    def lane(*targets):
        return Targets(list(targets), PLAIN).lane(ANY)[0]
    assert lane("127.0.0.1:1") == "127.0.0.1:1"
    assert lane("127.0.0.1:1,127.0.0.2:2") == "ipv4:127.0.0.1:1,127.0.0.2:2"
    assert lane("[::1]:1", "[fe80::2]:2") == "ipv6:[::1]:1,[fe80::2]:2"
    assert lane("dns:///lectern-headless:8001") == "dns:///lectern-headless:8001"
    with pytest.raises(ValueError, match="not a target"):
        lane("127.0.0.1:1,")


def test_nobody_is_there(connect):
    client = connect([f"127.0.0.1:{unused_port()}", f"127.0.0.1:{unused_port()}"], timeout=1)
    with pytest.raises(Exception) as caught:
        client.result(None, "When?", text="x")
    assert isinstance(caught.value, (UnavailableError, TimeoutError))
