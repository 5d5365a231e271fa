"""Copies of the metadata of a GGUF file (version 2 or 3) without its tensors: a vocabulary alone."""
import struct

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9


class _Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, form):
        value, = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return value

    def string(self):
        size = self.number("Q")
        self.at += size
        return self.data[self.at - size:self.at]

    def skip(self, kind):
        if kind == _STRING:
            self.string()
        elif kind == _ARRAY:
            element, count = self.number("I"), self.number("Q")
            for _ in range(count):
                self.skip(element)
        else:
            self.at += _SIZES[kind]


def _string(value):
    return struct.pack("<Q", len(value)) + value


def vocabulary_of(data, architecture=None):
    """The metadata in `data`, a GGUF file, as a file without tensors; of another architecture if
    one is given."""
    reader = _Reader(data)
    magic, version = data[:4], struct.unpack_from("<I", data, 4)[0]
    assert magic == b"GGUF" and version in (2, 3), (magic, version)
    reader.at = 16  # after the number of tensors
    count = reader.number("Q")
    entries = b""
    for _ in range(count):
        begin = reader.at
        key, kind = reader.string(), reader.number("I")
        reader.skip(kind)
        entry = data[begin:reader.at]
        if architecture is not None and key == b"general.architecture":
            entry = _string(key) + struct.pack("<I", _STRING) + _string(architecture.encode())
        entries += entry
    return magic + struct.pack("<IQQ", version, 0, count) + entries
