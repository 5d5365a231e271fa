"""The clients and the examples against the real server with the default model."""
import json
import os
import pathlib
import subprocess
import sys
import time

import grpc
import pytest
from lectern_client import (Answer, DeadlineExceededError, InvalidArgumentError, NotFoundError,
                            Progress, Retry, Text)

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "docs" / "sample" / "pumping_station.txt"
PARAGRAPHS = slice(24, 31)  # of the sample, so that it is read quickly
EXAMPLES = ROOT / "client" / "python" / "examples"
QUESTIONS = ["At what time did the relief valve V-12 fail?", "How many pumps does the station have?",
             "In which box are the log books kept?"]


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    ports = folder / "ports.json"
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [os.environ["LECTERN_SERVER_BINARY"], "--listen=127.0.0.1:0",
             "--metrics_listen=127.0.0.1:0", f"--model=smollm2={os.environ['LECTERN_MODEL']}",
             f"--port_file={ports}"], stdout=log, stderr=log)
    try:
        while not (ports.exists() and ports.read_text()):
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield f"127.0.0.1:{json.loads(ports.read_text())['grpc']}"
        process.terminate()
        assert process.wait(60) == 0, (folder / "log").read_text()
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A file with a part of the sample."""
    paragraphs = SAMPLE.read_text(encoding="utf-8").split("\n\n")[PARAGRAPHS]
    path = tmp_path_factory.mktemp("report") / "report.txt"
    path.write_text("\n\n".join(paragraphs), encoding="utf-8")
    return path


@pytest.fixture
def client(connect, target):
    return connect(target, timeout=300)


@pytest.mark.parametrize("symbol, file", [
    (b"lectern.v1.DocumentQA", b"lectern/v1/document_qa.proto"),
    (b"lectern.v1.AskRequest", b"lectern/v1/ask.proto"),
    (b"inference.GRPCInferenceService", b"inference/open_inference.proto"),
    (b"grpc.health.v1.Health", b"grpc/health/v1/health.proto")])
def test_reflection_describes_every_service(target, symbol, file):
    with grpc.insecure_channel(target) as channel:
        ask = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        # ServerReflectionRequest.file_containing_symbol is field 4.
        response = next(ask(iter([b"\x22" + bytes([len(symbol)]) + symbol]), timeout=60))
    assert file in response, response


def check_evidence(report, answer):
    text = report.read_bytes()
    assert answer.evidence
    for evidence in answer.evidence:
        assert text[evidence.start:evidence.end].decode() == evidence.text


def test_a_file_is_read_asked_about_and_deleted(client, report):
    seen = []
    document = client.upload(report, progress=seen.append)
    assert document.bytes == report.stat().st_size and document.title == report.name
    assert {event.stage for event in seen if isinstance(event, Progress)} >= {"receiving"}
    counts = [client.count_tokens(document), client.count_tokens(text=report.read_text())]
    assert counts[0] == counts[1] and counts[0].model == document.model
    assert (counts[0].tokens, counts[0].reading) == (document.tokens, document.reading)
    events = client.events(document, QUESTIONS[0], max_new_tokens=16)
    answer = events[-1]
    assert isinstance(answer, Answer)
    assert "".join(e.text for e in events if isinstance(e, Text)) == answer.text != ""
    check_evidence(report, answer)
    assert 0 < answer.exactness.kept_mass_mean <= 1 and answer.usage.tokens_reused > 0
    assert document.id in [each.id for each in client.documents()]
    assert client.delete(document) > 0
    with pytest.raises(NotFoundError) as caught:
        client.result(document.id, "Why?")
    assert caught.value.reason == "DOCUMENT_NOT_FOUND" and caught.value.details.request_id
    # With its source it is sent again.
    events = client.events(document, QUESTIONS[0], max_new_tokens=16)
    assert [event.uploads for event in events if isinstance(event, Retry)] == [True]
    assert events[-1].text == answer.text


def test_many_questions(client, report):
    document = client.upload(report)
    alone = [client.result(document, question, max_new_tokens=12).text for question in QUESTIONS]
    replies = client.many(document, [*QUESTIONS, ""], max_new_tokens=12, max_open=2)
    assert [reply.answer.text for reply in replies[:3]] == alone
    check_evidence(report, replies[0].answer)
    assert isinstance(replies[3].error, InvalidArgumentError)
    assert replies[3].error.details.violations[0].field == "question"


def test_settings_and_refusals(client, report):
    document = client.upload(report)
    exact = client.result(document, "Why?", exact=True, max_new_tokens=2)
    assert exact.exactness.exact and exact.finish_reason == "length"
    answer = client.result(None, "What is red?", text="The gate is red. The door is blue.",
                           temperature=0.7, seed=3, stop=["."], max_new_tokens=8)
    assert answer.document_id == "" and answer.evidence[0].start == 0
    with pytest.raises(InvalidArgumentError) as caught:
        client.result(document, "Why?", top_k=0)
    assert caught.value.details.violations[0].field == "attention.top_k"
    with pytest.raises(InvalidArgumentError):
        client.upload(b"not \xff text")
    with pytest.raises(DeadlineExceededError):
        client.result(document, QUESTIONS[0], timeout=0.001)


def test_models_and_status(client):
    model, = client.models()
    assert model.name == "smollm2" and model.kind == "generative" and model.window > 0
    status = client.status()
    assert status.state == "serving" and status.limits.max_new_tokens > 0


def example(target, name, *arguments):
    result = subprocess.run([sys.executable, EXAMPLES / name, *map(str, arguments)], text=True,
                            capture_output=True, env={**os.environ, "LECTERN_SERVER": target})
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_example_ask_file(target, report):
    answer, *evidence = example(target, "ask_file.py", report, QUESTIONS[0])
    assert answer
    assert any(line.startswith("  bytes ") and "V-12" in line for line in evidence)


def test_example_many_questions(target, report):
    lines = example(target, "many_questions.py", report, *QUESTIONS)
    assert sorted(line.split(" -> ")[0] for line in lines) == [
        f"{index}: {question}" for index, question in enumerate(QUESTIONS)]


def test_example_handle_errors(target, report):
    lines = example(target, "handle_errors.py", report)
    assert lines[0] == ("no such document: DOCUMENT_NOT_FOUND "
                        "doc-00000000000000000000000000000000")
    assert lines[1].startswith("attention.top_k: ")
    assert lines[2:] == ["again because of DOCUMENT_NOT_FOUND, uploading: True", "answered"]
