"""tritonclient against a running server: triton_client.py EXPECTED DESCRIPTORS.

The synchronous client, the asynchronous one, and the streams of both.
"""

import asyncio
import json
import queue
import sys
import time

import numpy
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import InferenceServerException

import same_messages

MODEL = "tiny"


def text_input(name, text):
    tensor = triton.InferInput(name, [1], "BYTES")
    tensor.set_data_from_numpy(numpy.array([text.encode()], dtype=object))
    return tensor


def inputs(expected, source="document_id"):
    value = expected["document"] if source == "document_id" else expected["text"]
    return [text_input("question", expected["question"]), text_input(source, value)]


def parameters(expected):
    return {"max_new_tokens": expected["max_new_tokens"]}


def text_of(result, name):
    return result.as_numpy(name)[0].decode()


def check_answer(result, expected):
    assert text_of(result, "answer") == expected["answer"]
    spans = json.loads(text_of(result, "evidence"))
    assert [[span["begin_byte"], span["end_byte"], span["text"]]
            for span in spans] == expected["evidence"]
    for span in spans:
        quoted = expected["text"].encode()[span["begin_byte"]:span["end_byte"]]
        assert quoted.decode() == span["text"]
    usage = json.loads(text_of(result, "usage"))
    assert 0 < usage["generated_tokens"] <= expected["max_new_tokens"]
    kept = result.as_numpy("kept_mass")
    assert kept.dtype == numpy.float32 and kept.shape == (1,) and 0 < kept[0] <= 1, kept
    doubts = result.as_numpy("no_evidence")
    assert doubts.dtype == bool and doubts[0] == expected["no_evidence"]
    assert text_of(result, "finish_reason") in ("stop", "length")


def refused(call, code, text):
    try:
        call()
    except InferenceServerException as error:
        assert error.status() == f"StatusCode.{code}", error
        assert text in error.message(), error
        return
    raise AssertionError(f"{text}: not refused")


def check_synchronous(client, expected):
    assert client.is_server_live()
    for _ in range(600):
        if client.is_server_ready():
            break
        time.sleep(0.1)
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL) and client.is_model_ready(MODEL, "1")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata().name == "lectern"
    metadata = client.get_model_metadata(MODEL)
    assert metadata.platform == "lectern" and metadata.versions == ["1"]
    assert [tensor.name for tensor in metadata.inputs] == [
        "question", "document", "document_id", "parameters"]
    config = client.get_model_config(MODEL).config
    assert [tensor.name for tensor in config.output] == [
        tensor.name for tensor in metadata.outputs]
    assert config.input[0].data_type == model_config_pb2.TYPE_STRING
    for source in ("document_id", "document"):
        result = client.infer(MODEL, inputs(expected, source), request_id="mine",
                              parameters=parameters(expected))
        assert result.get_response().id == "mine"
        check_answer(result, expected)
    one = client.infer(MODEL, inputs(expected), outputs=[triton.InferRequestedOutput("answer")],
                       parameters=parameters(expected))
    assert [output.name for output in one.get_response().outputs] == ["answer"]
    in_json = text_input("parameters",
                         json.dumps({"exact": True, "stop": ["."], "priority": "bulk"}))
    exact = client.infer(MODEL, [*inputs(expected), in_json], parameters=parameters(expected))
    assert exact.as_numpy("exact")[0]
    other = {"x-lectern-tenant": "other"}
    refused(lambda: client.infer(MODEL, inputs(expected), headers=other), "NOT_FOUND",
            "document")
    refused(lambda: client.infer(MODEL, inputs(expected), parameters={"topk": 8}),
            "INVALID_ARGUMENT", "parameters.topk is not a parameter; there are max_new_tokens")
    refused(lambda: client.infer(MODEL, inputs(expected), parameters={"top_k": 0}),
            "INVALID_ARGUMENT", "parameters.top_k must be 1 to")
    refused(lambda: client.infer("other", inputs(expected)), "NOT_FOUND", "other")
    refused(lambda: client.infer(MODEL, inputs(expected), client_timeout=0.001),
            "DEADLINE_EXCEEDED", "")


def is_final(result):
    return result.get_response().parameters["triton_final_response"].bool_param


def check_stream(client, expected):
    events = queue.Queue()
    client.start_stream(callback=lambda result, error: events.put((result, error)))
    ids = ["a", "b", "c"]
    for request_id in ids:
        client.async_stream_infer(MODEL, inputs(expected), request_id=request_id,
                                  enable_empty_final_response=True,
                                  parameters=parameters(expected))
    client.async_stream_infer("other", inputs(expected), request_id="bad")
    pieces = {request_id: [] for request_id in ids}
    ended = set()
    while len(ended) < 4:
        result, error = events.get(timeout=300)
        if error is not None:
            assert error.message().startswith("request bad: NOT_FOUND: "), error
            ended.add("bad")
            continue
        request_id = result.get_response().id
        assert request_id not in ended
        if is_final(result):
            check_answer(result, expected)
            ended.add(request_id)
        else:
            pieces[request_id].append(text_of(result, "delta"))
    # The stream goes on after an error.
    client.async_stream_infer(MODEL, inputs(expected), request_id="d",
                              outputs=[triton.InferRequestedOutput("answer")],
                              parameters=parameters(expected))
    result, error = events.get(timeout=300)
    assert error is None and is_final(result)
    assert text_of(result, "answer") == expected["answer"]
    client.stop_stream()
    assert events.empty()
    for request_id in ids:
        assert "".join(pieces[request_id]) == expected["answer"]
    # Tokens that arrive faster than they are sent are merged: an answer may be a single piece.
    assert max(len(pieces[request_id]) for request_id in ids) > 1, pieces


async def check_asynchronous(expected):
    async with triton_aio.InferenceServerClient(expected["address"]) as client:
        assert await client.is_server_ready() and await client.is_model_ready(MODEL)
        assert (await client.get_model_metadata(MODEL)).name == MODEL
        results = await asyncio.gather(
            *(client.infer(MODEL, inputs(expected), parameters=parameters(expected))
              for _ in range(4)))
        for result in results:
            check_answer(result, expected)
        try:
            await client.infer(MODEL, inputs(expected), parameters={"exact": 1})
            raise AssertionError("an integer was taken for a boolean")
        except InferenceServerException as error:
            assert "parameters.exact must be true or false" in error.message()

        async def requests():
            for request_id in ("a", "b"):
                yield {"model_name": MODEL, "inputs": inputs(expected), "request_id": request_id,
                       "parameters": parameters(expected)}

        texts = {"a": "", "b": ""}
        finals = 0
        async for result, error in client.stream_infer(requests()):
            assert error is None, error
            if is_final(result):
                check_answer(result, expected)
                finals += 1
            else:
                texts[result.get_response().id] += text_of(result, "delta")
        assert finals == 2 and texts == {"a": expected["answer"], "b": expected["answer"]}


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        expected = json.load(file)
    same_messages.check(sys.argv[2], [service_pb2, model_config_pb2])
    with triton.InferenceServerClient(expected["address"]) as client:
        check_synchronous(client, expected)
        check_stream(client, expected)
    asyncio.run(check_asynchronous(expected))
    print("tritonclient: synchronous, asynchronous, streams")


if __name__ == "__main__":
    main()
