"""KServe's client against a running server: kserve_client.py EXPECTED DESCRIPTORS."""

import asyncio
import json
import sys

import grpc
import numpy
from kserve.inference_client import InferenceGRPCClient
from kserve.protocol.grpc import grpc_predict_v2_pb2
from kserve.protocol.infer_type import InferInput, InferRequest

import same_messages

MODEL = "tiny"


def text_input(name, text, raw):
    tensor = InferInput(name=name, shape=[1], datatype="BYTES", data=None if raw else [text])
    if raw:
        tensor.set_data_from_numpy(numpy.array([text.encode()], dtype=object), binary_data=True)
    return tensor


def request(expected, source, raw, **parameters):
    value = expected["document"] if source == "document_id" else expected["text"]
    return InferRequest(
        model_name=MODEL, request_id="mine",
        infer_inputs=[text_input("question", expected["question"], raw),
                      text_input(source, value, raw)],
        parameters={"max_new_tokens": expected["max_new_tokens"], **parameters})


def text_of(response, name):
    value = response.get_output_by_name(name).as_numpy()[0]
    return value.decode() if isinstance(value, bytes) else value


async def wait_until_ready(client):
    for _ in range(600):
        if await client.is_server_ready():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the server does not become ready")


async def run(expected):
    async with InferenceGRPCClient(expected["address"]) as client:
        assert await client.is_server_live()
        await wait_until_ready(client)
        assert await client.is_model_ready(MODEL)
        assert not await client.is_model_ready("other")
        for source in ("document_id", "document"):
            for raw in (False, True):
                response = await client.infer(request(expected, source, raw))
                assert response.id == "mine"
                assert response.model_name == MODEL
                assert text_of(response, "answer") == expected["answer"]
                spans = json.loads(text_of(response, "evidence"))
                assert [[span["begin_byte"], span["end_byte"], span["text"]]
                        for span in spans] == expected["evidence"]
                assert text_of(response, "finish_reason") in ("stop", "length")
                kept = response.get_output_by_name("kept_mass").as_numpy()
                assert kept.dtype == numpy.float32 and 0 < kept[0] <= 1, kept
                assert (response.get_output_by_name("no_evidence").as_numpy()[0]
                        == expected["no_evidence"])
        exact = await client.infer(request(expected, "document_id", False, exact=True))
        assert exact.get_output_by_name("exact").as_numpy()[0]
        try:
            await client.infer(request(expected, "document_id", False, topk=8))
            raise AssertionError("an unknown parameter was taken")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert "parameters.topk is not a parameter; there are" in error.details()


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        expected = json.load(file)
    # KServe has no streams, no configuration, and fewer kinds of parameters; responses lack the others.
    same_messages.check(sys.argv[2], [grpc_predict_v2_pb2],
                        without=("ModelStreamInfer", "ModelStreamInferResponse", "double_param",
                                 "uint64_param", "ModelConfig", "ModelConfigRequest",
                                 "ModelConfigResponse", "ModelInput", "ModelOutput", "DataType"))
    asyncio.run(run(expected))
    print("kserve: ready, answers in both forms, errors")


if __name__ == "__main__":
    main()
