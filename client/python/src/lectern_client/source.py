"""Where the text of a document comes from, whenever a server needs it."""
from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from ._proto.lectern.v1 import document_pb2

PIECE_BYTES = 256 * 1024  # the server accepts messages of up to 1 MiB


@dataclass(frozen=True)
class Source:
    """The text itself, or the path of a file that is read when it is needed, and the settings of the
    upload."""

    text: bytes | None = field(repr=False)
    path: str | None
    metadata: document_pb2.UploadMetadata = field(repr=False)

    def load(self) -> bytes:
        """Returns the text. OSError if the file cannot be read."""
        if self.text is not None:
            return self.text
        assert self.path is not None
        with open(self.path, "rb") as file:
            return file.read()


def make_source(source: str | os.PathLike[str] | bytes | None, text: str | None,
                metadata: document_pb2.UploadMetadata) -> Source:
    """A str is a path, as for open(); the text itself is bytes, or a str given as `text`."""
    if (source is None) == (text is None):
        raise TypeError("give either a path (or bytes), or text=")
    if text is not None:
        return Source(text.encode(), None, metadata)
    if isinstance(source, bytes):
        return Source(source, None, metadata)
    assert source is not None
    return Source(None, os.path.abspath(source), metadata)


def document_id(fingerprint: str, text: bytes) -> str:
    """Returns the id of `text` as read by the model with this fingerprint (Document.id in document.proto)."""
    named = f"{fingerprint}\n{hashlib.sha256(text).hexdigest()}"
    return "doc-" + hashlib.sha256(named.encode()).hexdigest()[:32]


def upload_requests(text: bytes, metadata: document_pb2.UploadMetadata
                    ) -> Iterator[document_pb2.UploadDocumentRequest]:
    """Yields the messages of one upload. They include length and digest, which the server checks."""
    described = document_pb2.UploadMetadata()
    described.CopyFrom(metadata)
    described.expected_bytes = len(text)
    described.expected_sha256 = hashlib.sha256(text).hexdigest()
    yield document_pb2.UploadDocumentRequest(metadata=described)
    for begin in range(0, len(text), PIECE_BYTES):
        yield document_pb2.UploadDocumentRequest(data=text[begin:begin + PIECE_BYTES])
