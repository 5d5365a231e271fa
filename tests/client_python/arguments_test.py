"""Arguments, errors, records, progress bars, the package."""
import asyncio
import importlib.metadata
import io
import pathlib
import pickle
import re
import sys

import grpc
import pytest
from conftest import TEXT
from fake_server import Failure, id_of
from lectern_client import (AsyncClient, Client, Document, InvalidArgumentError, LecternError,
                            NotFoundError, Progress, Retry, UnauthenticatedError, errors)
from lectern_client._proto.lectern.v1 import (ask_pb2, attention_pb2, document_pb2, server_pb2)
from lectern_client.progress import Bars
from lectern_client.records import RECORDS, record
from lectern_client.requests import (AskSettings, AttentionSettings, UploadSettings,
                                     make_ask_request, make_upload_metadata)


def test_every_field_of_the_server_is_in_its_record():
    messages = {name: getattr(module, name) for name in RECORDS
                for module in (ask_pb2, attention_pb2, document_pb2, server_pb2)
                if hasattr(module, name)}
    assert messages.keys() == RECORDS.keys()
    for name, cls in RECORDS.items():
        fields = {item.metadata.get("proto", item.name)
                  for item in cls.__dataclass_fields__.values()}
        assert fields - {"source"} == set(messages[name].DESCRIPTOR.fields_by_name), name
        record(cls, messages[name]())  # an empty one converts


def test_every_setting_of_the_server_can_be_given():
    def names(message):
        return {field.name for field in message.DESCRIPTOR.fields}
    attention = set(AttentionSettings.__annotations__)
    assert attention == names(attention_pb2.AttentionPolicy)
    sampling = names(ask_pb2.Sampling)
    assert set(AskSettings.__annotations__) | {"document_id", "inline_text", "question", "attention",
                                               "sampling", "after_seq"} == (
        names(ask_pb2.AskRequest) | attention | sampling)
    assert set(UploadSettings.__annotations__) | {"title", "expected_bytes", "expected_sha256",
                                                  "attention"} == (
        names(document_pb2.UploadMetadata) | attention)


def test_settings_become_messages():
    request = make_ask_request("Why?", "doc-1", None, {
        "top_k": 64, "tail": "none", "layer_top_k": [0, 8], "temperature": 0.5, "seed": 7,
        "quality": "high", "reading": "chunks", "priority": "bulk", "stop": ["\n"],
        "max_evidence_spans": 0})
    assert request.attention.top_k == 64 and list(request.attention.layer_top_k) == [0, 8]
    assert request.attention.tail == attention_pb2.AttentionPolicy.TAIL_NONE
    assert not request.attention.HasField("max_error")
    assert request.sampling.seed == 7 and request.quality == ask_pb2.AskRequest.QUALITY_HIGH
    assert request.reading == document_pb2.READING_CHUNKS and request.HasField("max_evidence_spans")
    metadata = make_upload_metadata("A", {"ttl": 1.5, "pinned": True, "exact": True})
    assert metadata.ttl.ToNanoseconds() == 1_500_000_000 and metadata.attention.exact


@pytest.mark.parametrize("settings, what", [
    ({"reading": "twice"}, "reading must be one of auto, whole, chunks"),
    ({"top_k": -1}, "settings"), ({"max_new_tokens": "many"}, "settings")])
def test_wrong_settings(client, settings, what):
    with pytest.raises(InvalidArgumentError, match=what):
        client.events("doc-1", "Why?", **settings)


def test_wrong_arguments(client, connect, server):
    for call in (lambda: client.events("doc-1", "Why?", topk=1), lambda: client.events(None, "Why?"),
                 lambda: client.events("doc-1", "Why?", text="x"), lambda: client.upload(),
                 lambda: client.upload(b"x", text="x"), lambda: client.many("doc-1", "Why?"),
                 lambda: client.events(5, "Why?")):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(InvalidArgumentError, match="max_open"):
        client.many("doc-1", ["Why?"], max_open=0)
    with pytest.raises(InvalidArgumentError, match="tenant"):
        Client(server.target, tenant="two\nlines")
    with pytest.raises(FileNotFoundError):
        client.upload("absent.txt")


def test_documents(client, server):
    first = client.upload(text="first", title="One", pinned=True)
    second = client.upload(b"second")
    assert first.id == id_of(b"first") and first.pinned and first.reading == "whole"
    assert first.create_time.year == 2023 and first.expire_time is None
    assert "first" not in repr(first)
    assert {each.id for each in client.documents()} == {first.id, second.id}
    found = client.document(first.id)
    assert found == first and found.source is None and client.document(first).source is first.source
    assert client.delete(second) == 5
    with pytest.raises(NotFoundError) as caught:
        client.document(second)
    assert caught.value.reason == "DOCUMENT_NOT_FOUND" and caught.value.details.request_id == "req-1"
    count = client.count_tokens(text="five!")
    assert (count.model, count.tokens, count.reading, count.chunks) == ("tiny", 5, "chunks", 2)
    assert client.count_tokens(first, model="large").model == "large"
    with pytest.raises(TypeError):
        client.count_tokens()
    assert [(model.name, model.kind) for model in client.models()] == [("tiny", "generative")]
    status = client.status()
    assert status.state == "draining" and status.uptime == 3 and status.limits.max_top_k == 9


def test_a_task_counts_tokens(server):
    async def main():
        async with AsyncClient(server.target) as client:
            document = await client.upload(TEXT)
            return (await client.count_tokens(document.id), await client.count_tokens(document),
                    await client.count_tokens(text="five!", model="large"))
    by_id, by_document, of_text = asyncio.run(main())
    assert by_id == by_document and by_id.tokens == len(id_of(TEXT)) and by_id.context_length == 8192
    assert (of_text.model, of_text.tokens, of_text.chunk_tokens) == ("large", 5, 2000)


def test_errors_carry_what_the_server_told(client, server):
    def before(number, request):
        raise Failure(grpc.StatusCode.INVALID_ARGUMENT, "DOCUMENT_TOO_LONG",
                      violations=[("a", "must be b"), ("c", "must be d")], metadata={"tokens": "9"})
    server.before = before
    with pytest.raises(InvalidArgumentError) as caught:
        client.result("doc-1", "Why?")
    error = caught.value
    assert isinstance(error, ValueError) and isinstance(error, LecternError)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT and error.reason == "DOCUMENT_TOO_LONG"
    assert [v.field for v in error.details.violations] == ["a", "c"]
    assert error.details.metadata == {"tokens": "9"} and error.details.retry_after is None
    for part in ("it is DOCUMENT_TOO_LONG", "a must be b", "tokens=9", "req-1"):
        assert part in str(error)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is InvalidArgumentError and copy.details == error.details


def test_details_that_do_not_parse_are_left_out():
    error = errors.from_trailers(grpc.StatusCode.UNAUTHENTICATED, "no",
                                 [("grpc-status-details-bin", b"\xff\xff")])
    assert isinstance(error, UnauthenticatedError) and error.details == errors.Details()
    assert errors.from_status(0, "", b"").code is grpc.StatusCode.UNKNOWN
    assert errors.from_status(999, "", b"").code is grpc.StatusCode.UNKNOWN


def test_bars(client, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True
    for stream, shows in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        client.upload(TEXT)
        assert ("sending" in stream.getvalue()) == shows == ("reading" in stream.getvalue())
    quiet = Terminal()
    monkeypatch.setattr(sys, "stderr", quiet)
    client.upload(TEXT, progress=False)
    assert quiet.getvalue() == ""
    bars = Bars(quiet)
    bars(Progress("receiving", 5, 10, "bytes"))
    bars(Retry(errors.cancelled(), 2, 1.0, False))
    bars.close()
    assert "50%" in quiet.getvalue() and "trying again in 1.0 s" in quiet.getvalue()


def test_what_observes_may_stop_an_upload(client, server):
    class Stop(Exception):
        pass

    def stop(event):
        raise Stop
    with pytest.raises(Stop):
        client.upload(TEXT, progress=stop)
    assert isinstance(client.upload(TEXT), Document)


def test_the_package_has_the_version_of_the_project():
    text = (pathlib.Path(__file__).parents[2] / "CMakeLists.txt").read_text(encoding="utf-8")
    version = re.search(r"project\(lectern VERSION (\S+)", text).group(1)
    assert importlib.metadata.version("lectern-client") == version
