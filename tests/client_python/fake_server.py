"""A DocumentQA server whose calls are scripted by a test; 127.0.0.1, in the test's process."""
import hashlib
import threading
from concurrent import futures

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from lectern_client._proto.lectern.v1 import (ask_pb2, document_pb2, document_qa_pb2_grpc,
                                              server_pb2)

ANSWER = ("At", " 03:14.")


def id_of(text, fingerprint="f1"):
    named = f"{fingerprint}\n{hashlib.sha256(text).hexdigest()}"
    return "doc-" + hashlib.sha256(named.encode()).hexdigest()[:32]


class Failure(Exception):
    """Ends a call, or one question of many, with these details."""

    def __init__(self, code, reason="", retry_ms=None, violations=(), resource="", metadata=None):
        super().__init__(reason)
        self.code = code
        self.status = status_pb2.Status(code=code.value[0], message=f"it is {reason}")
        details = []
        if reason:
            details.append(error_details_pb2.ErrorInfo(domain="lectern", reason=reason,
                                                       metadata=metadata or {}))
        if violations:
            details.append(error_details_pb2.BadRequest(field_violations=[
                {"field": field, "description": text} for field, text in violations]))
        if retry_ms is not None:
            delay = Duration(seconds=retry_ms // 1000, nanos=retry_ms % 1000 * 1_000_000)
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        if resource:
            details.append(error_details_pb2.ResourceInfo(resource_type="document",
                                                          resource_name=resource))
        for detail in details:
            self.status.details.add().Pack(detail)

    def end(self, context):
        context.set_trailing_metadata((
            ("grpc-status-details-bin", self.status.SerializeToString()), ("x-request-id", "req-1")))
        context.abort(self.code, self.status.message)


def delta(text):
    return ask_pb2.AskResponse(delta={"text": text, "tokens": 1})


def queued():
    return ask_pb2.AskResponse(queued={"position": 2, "estimated_wait": {"nanos": 500_000_000}})


class FakeServer(document_qa_pb2_grpc.DocumentQAServicer):
    """Keeps what is uploaded and answers questions about it with ANSWER. `before(number, request)` may
    be set to a generator that sends events first, and may raise Failure; `upload_before(number)`
    likewise."""

    def __init__(self, credentials=None, health=None, port=0):
        self.documents = {}
        self.keeps_documents = True
        self.fingerprint = "f1"  # of the model
        self.before = None
        self.upload_before = None
        self.asks = self.uploads = self.streams = self.model_lists = 0
        self.questions = []
        self.many = None  # a replacement of AskMany
        self.metadata = {}
        self.cancelled = threading.Event()
        self._lock = threading.Lock()
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        document_qa_pb2_grpc.add_DocumentQAServicer_to_server(self, self._server)
        if health is not None:
            health(self._server)
        address = f"127.0.0.1:{port}"
        self.port = (self._server.add_insecure_port(address) if credentials is None
                     else self._server.add_secure_port(address, credentials))
        self.target = f"127.0.0.1:{self.port}"
        self._server.start()

    def stop(self):
        self._server.stop(0).wait()

    def _began(self, context):
        self.metadata = dict(context.invocation_metadata())

    def UploadDocument(self, requests, context):
        self._began(context)
        first = next(requests).metadata
        text = b"".join(request.data for request in requests)
        with self._lock:
            self.uploads += 1
        try:
            if self.upload_before is not None:
                self.upload_before(self.uploads)
            if (first.expected_bytes, first.expected_sha256) != (
                    len(text), hashlib.sha256(text).hexdigest()):
                raise Failure(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        except Failure as failure:
            failure.end(context)
        stage = document_pb2.UploadProgress
        for number, done in ((stage.STAGE_RECEIVING, len(text)), (stage.STAGE_PREFILL, 7)):
            yield document_pb2.UploadDocumentResponse(
                progress={"stage": number, "done": done, "total": done})
        document = document_pb2.Document(id=id_of(text, self.fingerprint), title=first.title, bytes=len(text), tokens=7,
                                         reading=document_pb2.READING_WHOLE, pinned=first.pinned)
        document.create_time.FromSeconds(1_700_000_000)
        if self.keeps_documents:
            self.documents[document.id] = document
        yield document_pb2.UploadDocumentResponse(document=document)

    def _answer(self, request):
        with self._lock:
            self.asks += 1
            number = self.asks
            self.questions.append(request.question)
        if self.before is not None:
            yield from self.before(number, request) or ()
        if request.question == "bad":
            raise Failure(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST",
                          violations=[("question", "must be good")])
        if not request.inline_text and request.document_id not in self.documents:
            raise Failure(grpc.StatusCode.NOT_FOUND, "DOCUMENT_EVICTED", resource=request.document_id)
        if request.question == "Who paid?":
            yield ask_pb2.AskResponse(answer={"finish_reason": "FINISH_REASON_NO_ANSWER",
                                              "null_score_difference": 1.25,
                                              "no_evidence": True})
            return
        for piece in ANSWER:
            yield delta(piece)
        yield ask_pb2.AskResponse(answer={
            "text": "".join(ANSWER), "finish_reason": "FINISH_REASON_STOP",
            "document_id": request.document_id,
            "evidence": [{"begin_byte": 3, "end_byte": 8, "text": "03:14", "attention": 0.5}],
            "exactness": {"kept_mass_mean": 0.75, "policy": {"top_k": 128, "tail": "TAIL_MEAN"}},
            "usage": {"generated_tokens": 2}, "timings": {"total": {"seconds": 1}}})

    def Ask(self, request, context):
        self._began(context)
        context.add_callback(lambda: context.code() is None and self.cancelled.set())
        try:
            yield from self._answer(request)
        except Failure as failure:
            failure.end(context)

    def AskMany(self, requests, context):
        self._began(context)
        self.streams += 1
        if self.many is not None:
            yield from self.many(requests, context)
            return
        for request in requests:
            try:
                for event in self._answer(request.ask):
                    yield ask_pb2.AskManyResponse(tag=request.tag, response=event)
            except Failure as failure:
                if failure.code is grpc.StatusCode.UNAVAILABLE:
                    failure.end(context)
                yield ask_pb2.AskManyResponse(tag=request.tag, error={
                    "code": failure.status.code, "message": failure.status.message,
                    "status": failure.status.SerializeToString()})

    def GetDocument(self, request, context):
        self._began(context)
        if request.id not in self.documents:
            Failure(grpc.StatusCode.NOT_FOUND, "DOCUMENT_NOT_FOUND", resource=request.id).end(context)
        return self.documents[request.id]

    def ListDocuments(self, request, context):
        found = sorted(self.documents.values(), key=lambda each: each.id)
        begin = int(request.page_token or 0)
        more = begin + 1 < len(found)  # one a page
        return document_pb2.ListDocumentsResponse(documents=found[begin:begin + 1],
                                                  next_page_token=str(begin + 1) if more else "")

    def DeleteDocument(self, request, context):
        self._began(context)
        del self.documents[request.id]
        return document_pb2.DeleteDocumentResponse(freed_bytes=5)

    def CountTokens(self, request, context):
        self._began(context)
        source = request.text or request.document_id
        return document_pb2.CountTokensResponse(
            model=request.model or "tiny", tokens=len(source), chunk_tokens=2000,
            context_length=8192, reading=document_pb2.READING_CHUNKS, chunks=2)

    def ListModels(self, request, context):
        self.model_lists += 1
        return server_pb2.ListModelsResponse(models=[
            {"name": "tiny", "kind": "KIND_GENERATIVE", "fingerprint": self.fingerprint}])

    def GetServerStatus(self, request, context):
        return server_pb2.ServerStatus(state="STATE_DRAINING", uptime={"seconds": 3},
                                       limits={"max_top_k": 9})
