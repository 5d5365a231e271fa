"""The calls that the clients retry, on which replica, and those that they never repeat."""
import threading
import time

import grpc
import pytest
from conftest import QUICK, TEXT
from fake_server import Failure, delta, id_of, queued
from lectern_client import (AbortedError, CallCancelledError, DeadlineExceededError,
                            InvalidArgumentError, LecternError, NotFoundError, Progress, Queued,
                            ResourceExhaustedError, Retry, RetryPolicy, Text, UnavailableError)

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
FULL = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_REQUESTS", 30)
HOUR = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_REQUESTS", 3_600_000)


def text_of(events):
    return "".join(event.text for event in events if isinstance(event, Text))


def retries_in(events):
    return [event for event in events if isinstance(event, Retry)]


def break_off(*said):
    """A stream that has sent something is beyond gRPC's own retries."""
    yield queued()
    for piece in said:
        yield delta(piece)
    raise Failure(UNAVAILABLE, "DRAINING", 1000)


def raise_(failure):
    raise failure
    yield


def test_events_of_an_answer(client, server):
    server.before = lambda number, request: [queued()]
    document = client.upload(TEXT)
    first, *rest, answer = client.events(document, "When?")
    assert first == Queued(2, 0.5)
    assert rest == [Text("At", 1), Text(" 03:14.", 1)]
    assert answer.text == "At 03:14." and answer.finish_reason == "stop"
    assert [(e.start, e.end, e.text) for e in answer.evidence] == [(3, 8, "03:14")]
    assert answer.exactness.policy.tail == "mean" and answer.exactness.kept_mass_mean == 0.75
    assert answer.timings.total == 1 and answer.timings.decode is None


def test_a_reader_may_find_no_answer(client, server):
    document = client.upload(TEXT)
    thresholds = []
    server.before = lambda number, request: thresholds.append(request.no_answer_threshold)
    answer = client.result(document, "Who paid?", no_answer_threshold=-0.5)
    assert answer.finish_reason == "no_answer" and answer.text == "" and answer.no_evidence
    assert answer.null_score_difference == 1.25
    assert thresholds == [-0.5]
    assert client.result(document, "When?").null_score_difference is None


def test_uploads_what_the_server_no_longer_has(client, server):
    document = client.upload(TEXT)
    server.documents.clear()
    events = client.events(document, "When?")
    assert text_of(events) == "At 03:14."
    retry, = retries_in(events)
    assert retry.uploads and retry.attempt == 2 and retry.cause.reason == "DOCUMENT_EVICTED"
    assert Progress("prefill", 7, 7, "tokens") in events
    assert (server.uploads, server.asks) == (2, 2)


def test_uploads_twice_at_most(client, server):
    server.keeps_documents = False
    document = client.upload(TEXT)
    with pytest.raises(NotFoundError):
        client.result(document, "When?")
    assert (server.uploads, server.asks) == (3, 3)


def test_every_call_about_a_document_names_it_for_the_proxies(client, server):
    def named():
        return server.metadata.pop("x-lectern-document", None)
    document = client.upload(TEXT)
    assert named() == document.id == id_of(TEXT)
    client.result(document, "When?")
    assert named() == document.id
    client.many(document, ["When?"])
    assert named() == document.id
    client.document(document.id)
    assert named() == document.id
    client.delete(document)
    assert named() == document.id
    client.result(document, "When?")  # uploads it again
    assert named() == document.id
    with pytest.raises(NotFoundError):
        client.document("two\nlines")
    assert named() is None
    assert server.model_lists == 1


def test_a_replaced_model_is_noticed_by_the_next_upload(client, server):
    client.upload(TEXT)
    server.fingerprint = "f2"
    client.upload(TEXT)  # still as the old one
    assert client.upload(TEXT).id == server.metadata["x-lectern-document"] == id_of(TEXT, "f2")
    assert server.model_lists == 2


@pytest.mark.parametrize("code", [grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL])
def test_a_stream_that_a_proxy_broke_off_is_repeated(client, server, code):
    document = client.upload(TEXT)
    broken = Failure(code)
    broken.status.message = "Received RST_STREAM with error code 2"
    server.before = lambda number, request: raise_(broken) if number == 1 else ()
    assert client.result(document, "When?").text == "At 03:14."
    server.asks = 0
    server.before = lambda number, request: raise_(Failure(code, "RST_STREAM"))  # the server's own
    with pytest.raises(LecternError):
        client.result(document, "When?")
    assert server.asks == 1


def test_an_id_alone_cannot_be_sent_again(client, server):
    with pytest.raises(NotFoundError) as caught:
        client.result(id_of(TEXT), "When?")
    assert caught.value.details.resource_name == id_of(TEXT)
    assert (server.uploads, server.asks) == (0, 1)


def test_files_are_read_when_they_are_needed(client, server, tmp_path):
    path = tmp_path / "report.txt"
    path.write_bytes(TEXT)
    document = client.upload(str(path))
    assert document.title == "report.txt"
    server.documents.clear()
    assert client.result(document, "When?").text == "At 03:14."
    server.documents.clear()
    path.write_bytes(b"another text")
    with pytest.raises(InvalidArgumentError, match="another text"):
        client.result(document, "When?")
    server.documents.clear()
    path.unlink()
    with pytest.raises(FileNotFoundError):
        client.result(document, "When?")


def test_an_answer_that_breaks_off_goes_on_where_it_broke(client, server):
    document = client.upload(TEXT)
    server.before = lambda number, request: break_off("At", " 03") if number == 1 else ()
    events = client.events(document, "When?")
    assert [e.text for e in events if isinstance(e, Text)] == ["At", " 03", ":14."]
    assert events[-1].text == "At 03:14."
    assert len(retries_in(events)) == 1


@pytest.mark.parametrize("said", ["On Monday", "At 03:14. And then"])
def test_another_answer_is_not_pasted_together(client, server, said):
    document = client.upload(TEXT)
    server.before = lambda number, request: break_off(said) if number == 1 else ()
    with pytest.raises(AbortedError) as caught:
        client.result(document, "When?")
    assert caught.value.reason == "RESUME_DIFFERS"


def test_attempts_are_bounded(client, server):
    document = client.upload(TEXT)
    server.before = lambda number, request: break_off()
    with pytest.raises(UnavailableError) as caught:
        client.result(document, "When?")
    assert server.asks == 5
    assert caught.value.reason == "DRAINING" and caught.value.details.retry_after == 1


def test_a_full_server_is_waited_for_only_if_asked_to(connect, server):
    server.before = lambda number, request: raise_(FULL) if number < 3 else ()
    client = connect(server.target)
    document = client.upload(TEXT)
    with pytest.raises(ResourceExhaustedError):
        client.result(document, "When?")
    assert server.asks == 1
    server.asks = 0
    patient = connect(server.target, retry=RetryPolicy(first_wait=0.001, when_full=True))
    retries = retries_in(patient.events(document, "When?"))
    assert [retry.attempt for retry in retries] == [2, 3]
    assert all(retry.wait >= 0.03 for retry in retries)


def test_a_wait_beyond_the_deadline_is_not_begun(connect, server):
    server.before = lambda number, request: raise_(HOUR)
    client = connect(server.target, timeout=300, retry=RetryPolicy(when_full=True))
    with pytest.raises(ResourceExhaustedError):
        client.result(client.upload(TEXT), "When?")
    assert server.asks == 1


def test_deadlines_end_slow_calls(client, server):
    document = client.upload(TEXT)
    release = threading.Event()
    server.before = lambda number, request: release.wait() and ()
    with pytest.raises(DeadlineExceededError) as caught:
        client.result(document, "When?", timeout=0.2)
    release.set()
    assert isinstance(caught.value, TimeoutError)


def test_a_call_cancelled_by_the_server_alone_is_repeated(client, server):
    document = client.upload(TEXT)
    cancelled = Failure(grpc.StatusCode.CANCELLED)
    server.before = lambda number, request: raise_(cancelled) if number == 1 else ()
    assert client.result(document, "When?").text == "At 03:14."
    server.asks = -10
    server.before = lambda number, request: raise_(cancelled)
    with pytest.raises(CallCancelledError):
        client.result(document, "When?")


def test_uploads_are_repeated(client, server):
    def draining(number):
        if number < 3:
            raise Failure(UNAVAILABLE, "DRAINING")
    server.upload_before = draining
    seen = []
    assert client.upload(TEXT, progress=seen.append).id == id_of(TEXT)
    assert [retry.attempt for retry in retries_in(seen)] == [2, 3]
    assert Progress("receiving", len(TEXT), len(TEXT), "bytes") in seen
    server.upload_before = lambda number: next(raise_(Failure(grpc.StatusCode.INVALID_ARGUMENT)))
    with pytest.raises(InvalidArgumentError):
        client.upload(TEXT)
    assert server.uploads == 4


def test_many_questions_have_their_replies_in_order(client, server):
    document = client.upload(TEXT)
    replies = client.many(document, ["one", "bad", "three"])
    assert [reply.question for reply in replies] == ["one", "bad", "three"]
    assert replies[0].result().text == replies[2].answer.text == "At 03:14."
    with pytest.raises(InvalidArgumentError) as caught:
        replies[1].result()
    assert caught.value.details.violations[0].field == "question"
    assert server.streams == 1
    assert client.many(document, []) == []


def test_of_many_only_what_failed_is_asked_again(client, server):
    document = client.upload(TEXT)
    server.before = lambda number, request: break_off("At 0") if number == 4 else ()
    replies = client.many(document, [str(i) for i in range(5)])
    assert all(reply.answer is not None for reply in replies)
    assert server.questions == ["0", "1", "2", "3", "3", "4"]
    assert server.streams == 2


def test_many_questions_upload_their_document_once(client, server):
    document = client.upload(TEXT)
    server.documents.clear()
    replies = client.many(document, [str(i) for i in range(40)], max_open=4)
    assert all(reply.answer is not None for reply in replies)
    assert server.uploads == 2
    server.documents.clear()
    server.keeps_documents = False
    replies = client.many(document, ["a", "b", "c"])
    assert all(isinstance(reply.error, NotFoundError) for reply in replies)
    assert server.uploads <= 4


def test_what_failed_before_does_not_count_once_it_gets_on(client, server):
    document = client.upload(TEXT)
    server.before = lambda number, request: number % 3 == 0 and server.documents.clear() or ()
    replies = client.many(document, [str(i) for i in range(30)], max_open=1)
    assert all(reply.answer is not None for reply in replies)
    assert server.uploads > 10


def test_what_ends_the_stream_for_good_ends_every_question(client, server):
    document = client.upload(TEXT)

    def refuse(requests, context):
        # One question is out and no other is on its way: grpc.aio gives a write that crosses the
        # status INTERNAL instead, which is tried again.
        next(requests)
        Failure(grpc.StatusCode.PERMISSION_DENIED).end(context)
        yield
    server.many = refuse
    replies = client.many(document, (str(i) for i in range(30)), max_open=1)
    assert [reply.error.code.name for reply in replies] == ["PERMISSION_DENIED"] * 30
    assert server.streams == 1


def test_questions_are_drawn_as_replies_are_taken(server):
    from lectern_client import Client
    drawn = []

    def questions():
        for i in range(1000):
            drawn.append(i)
            yield str(i)
    with Client(server.target, retry=QUICK) as client:
        stream = client.ask_many(client.upload(TEXT), questions(), max_open=3)
        assert drawn == []
        for taken in range(1, 6):
            next(stream)
            assert len(drawn) <= taken + 2
        time.sleep(0.05)  # nobody reads: nothing more is drawn or asked
        assert len(drawn) == server.asks == 7
        stream.close()
        assert list(stream) == []
