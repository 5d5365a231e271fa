"""Compares our messages and calls with those that a client was generated from."""

from google.protobuf import descriptor_pb2


# Messages that we have only in part.
PARTS = {".ModelConfig", ".ModelInput", ".ModelOutput"}


def parse(path):
    files = descriptor_pb2.FileDescriptorSet()
    with open(path, "rb") as file:
        files.ParseFromString(file.read())
    return files.file[0]


def file_of(module):
    """Returns the descriptor of the file that a generated module was made from."""
    file = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(file)
    return file


def messages_of(package, messages):
    """{name: {field: (number, type, label, name of its type, oneof)}}, nested ones included."""
    found = {}
    for message in messages:
        name = f"{package}.{message.name}"
        oneofs = [oneof.name for oneof in message.oneof_decl]
        found[name] = {
            field.name: (field.number, field.type, field.label, field.type_name,
                         oneofs[field.oneof_index] if field.HasField("oneof_index") else None)
            for field in message.field}
        found.update(messages_of(name, message.nested_type))
    return found


def calls_of(file):
    return {call.name: (call.input_type, call.output_type, call.client_streaming,
                        call.server_streaming)
            for service in file.service if service.name == "GRPCInferenceService"
            for call in service.method}


def enums_of(file):
    return {enum.name: {value.name: value.number for value in enum.value}
            for enum in file.enum_type}


def check(descriptors, modules, without=()):
    """Checks that the client has all our messages, fields, enums and calls, unchanged, except those in
    `without`; it may have more fields in a message of Triton's configuration."""
    ours, theirs = parse(descriptors), descriptor_pb2.FileDescriptorProto()
    for module in modules:
        theirs.MergeFrom(file_of(module))
    assert ours.package == theirs.package == "inference"
    our_messages = messages_of("", ours.message_type)
    their_messages = messages_of("", theirs.message_type)
    assert len(our_messages) > 20
    for name, fields in our_messages.items():
        if name.split(".")[1] in without:
            continue
        fields = {key: value for key, value in fields.items() if key not in without}
        same = {key: value for key, value in their_messages[name].items()
                if key in fields or name not in PARTS}
        assert fields == same, (name, fields, same)
    for name, values in enums_of(ours).items():
        if name not in without:
            assert values.items() <= enums_of(theirs)[name].items(), (name, values)
    our_calls, their_calls = calls_of(ours), calls_of(theirs)
    assert len(our_calls) == 8
    for name, call in our_calls.items():
        assert name in without or call == their_calls[name], (name, call, their_calls[name])
