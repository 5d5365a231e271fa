#!/usr/bin/env python3
"""Fails when a target links, or a file includes, what its layer may not use.

    layering.py SOURCE_DIR LINK_GRAPH

LINK_GRAPH is written by cmake/LecternLinkGraph.cmake: one line "TARGET: what it links" for each target. The rules are
the two tables below; docs/architecture.md gives the reasons.
"""
import os
import re
import sys

# The targets that each target may link, without the prefix of the alias "lectern::". Anything else
# that is linked must match one of EXTERNAL below.
LINKS = {
    'lectern_proto': set(),
    'lectern_base': set(),
    'lectern_protocol': {'base'},
    'lectern_kernels': set(),
    'lectern_kernels_ref': {'kernels'},
    'lectern_metrics': {'base'},
    'lectern_tokenizer': {'base'},
    'lectern_model_api': {'base'},
    'lectern_formats': {'base'},
    'lectern_tokenizer_files': {'base', 'tokenizer', 'formats'},
    'lectern_model': {'base', 'model_api', 'tokenizer', 'kernels', 'formats', 'tokenizer_files'},
    'lectern_f32': {'model_api'},
    'lectern_engine': {'base', 'protocol', 'metrics', 'model_api'},
    'lectern_rpc': {'base', 'proto', 'protocol', 'engine', 'metrics'},
    'lectern_app': {'base', 'metrics', 'engine', 'rpc', 'model', 'kernels', 'proto'},
    'lectern-server': {'app', 'base'},
    'lectern_client': {'proto', 'protocol', 'base'},
    'lectern_cli': {'client', 'base'},
    'lectern': {'cli', 'client'},
}

# Third-party libraries and the targets that may link them.
EXTERNAL = [
    (r'libtorch::', {'lectern_f32'}),
    (r'PkgConfig::(GRPCPP|PROTOBUF)|.*grpc|.*protobuf', {'lectern_proto', 'lectern_app'}),
    (r'prometheus-cpp::', {'lectern_metrics', 'lectern_app'}),
    (r'.*civetweb', {'lectern_app'}),
    (r'PkgConfig::(PCRE2|UTF8PROC)', {'lectern_tokenizer'}),
    (r'Stemmer::', {'lectern_engine'}),
    (r'Threads::', set(LINKS)),
    (r'OpenSSL::', {'lectern_base', 'lectern_app'}),
    (r'dl$', {'lectern_base'}),
    (r'nlohmann_json::', set(LINKS) - {'lectern_kernels', 'lectern_kernels_ref'}),
    (r'absl::', set(LINKS) - {'lectern_kernels', 'lectern_kernels_ref'}),
]

# The files of the project that the files below a folder may include. The first folder that matches
# counts, so the rooms of a folder come before the folder itself. A room lists only rooms below it;
# check_rooms() tests that the table has no circle.
TOKENIZER_API = ('server/tokenizer/tokenizer.h', 'server/tokenizer/tokenizer_limits.h',
                 'server/tokenizer/added_tokens.h')
# The part of the models that the engine and the RPCs may include.
MODEL_API = ('server/model/model.h', 'server/model/attention_policy.h', 'server/tokenizer/tokenizer.h')
# The files that everything in server/model may include: the interface of models and their loading.
MODEL_ROOT = ('server/model/model.h', 'server/model/attention_policy.h', 'server/model/prompt/',
              'server/model/kernel_status.h', 'server/model/load_options.h',
              'server/model/model_files.h',
              'server/model/fingerprint.h')
# The files that every room of the engine may include.
ENGINE_API = ('server/engine/api.h', 'server/engine/attention_choice.h',
              'server/engine/engine_parts.h', 'server/engine/fault_points.h',
              'server/engine/model_kind.h', 'server/engine/request_checks.h', 'server/metrics/',
              'base/', 'protocol/') + MODEL_API
E = 'server/engine/'
# The parts that all strategies of answering share.
ANSWERING = tuple(f'{E}answering/{name}.h' for name in (
    'answer_run', 'answer_stream', 'chunk_reading', 'decode_loop', 'evidence',
    'exactness', 'sampler', 'sequence', 'stop_strings'))
FAMILY = ('server/model/layers/', 'server/model/device/', 'server/model/f32_product/',
          'server/formats/', 'server/tokenizer/', 'base/', 'kernels/') + MODEL_ROOT
INCLUDES = [
    ('kernels/runtime/', ('kernels/runtime/',)),
    ('kernels/rows/', ('kernels/rows/', 'kernels/runtime/')),
    ('kernels/kv/', ('kernels/kv/', 'kernels/rows/', 'kernels/runtime/')),
    ('kernels/attention/', ('kernels/attention/', 'kernels/kv/', 'kernels/runtime/')),
    ('kernels/linear/',
     ('kernels/linear/', 'kernels/ffn/', 'kernels/rows/', 'kernels/runtime/')),
    ('kernels/ffn/', ('kernels/ffn/', 'kernels/rows/', 'kernels/runtime/')),
    ('kernels/cuda/', ('kernels/cuda/', 'kernels/linear/')),
    ('kernels/reference/', ('kernels/',)),
    ('base/', ('base/',)),
    ('protocol/', ('protocol/', 'base/')),
    ('server/metrics/', ('server/metrics/', 'base/')),
    ('server/formats/', ('server/formats/', 'base/')),
    ('server/tokenizer/text/', ('server/tokenizer/text/', 'base/')),
    ('server/tokenizer/bpe/', ('server/tokenizer/bpe/', 'server/tokenizer/text/', 'base/')
     + TOKENIZER_API),
    ('server/tokenizer/unigram/', ('server/tokenizer/unigram/', 'server/tokenizer/text/', 'base/')
     + TOKENIZER_API),
    ('server/tokenizer/word_piece/', ('server/tokenizer/word_piece/', 'server/tokenizer/text/',
                                      'base/') + TOKENIZER_API),
    ('server/tokenizer/files/', ('server/tokenizer/', 'server/formats/', 'base/')),
    ('server/tokenizer/', ('server/tokenizer/text/', 'base/') + TOKENIZER_API),
    ('server/model/prompt/', ('server/model/prompt/', 'server/model/model.h',
                              'server/model/model_files.h', 'server/model/attention_policy.h',
                              'server/formats/', 'server/tokenizer/tokenizer.h', 'base/')),
    ('server/model/device/', ('server/model/device/', 'base/', 'kernels/') + MODEL_ROOT),
    ('server/model/f32_product/', ('server/model/f32_product/', 'base/', 'kernels/') + MODEL_ROOT),
    ('server/model/layers/', ('server/model/layers/', 'server/model/device/',
                              'server/model/f32_product/', 'server/formats/', 'base/', 'kernels/')
     + MODEL_ROOT),
    ('server/model/decoder/families/', ('server/model/decoder/families/',
                                        'server/model/decoder/decoder_config.h',
                                        'server/formats/', 'base/', 'kernels/ffn/ffn_activation.h')),
    ('server/model/decoder/', ('server/model/decoder/',) + FAMILY),
    ('server/model/t5/', ('server/model/t5/',) + FAMILY),
    ('server/model/bert/', ('server/model/bert/',) + FAMILY),
    ('server/model/loading/', ('server/model/', 'server/formats/', 'server/tokenizer/', 'base/', 'kernels/')),
    ('server/model/', ('server/formats/', 'server/tokenizer/tokenizer.h', 'base/', 'kernels/') + MODEL_ROOT),
    (E + 'text/', (E + 'text/', 'base/')),
    (E + 'kv_cache/', (E + 'kv_cache/',) + ENGINE_API),
    (E + 'scheduling/', (E + 'scheduling/',) + ENGINE_API),
    (E + 'documents/disk/', (E + 'documents/disk/', E + 'documents/document.h', E + 'kv_cache/',
                             E + 'text/') + ENGINE_API),
    (E + 'documents/', (E + 'documents/', E + 'kv_cache/', E + 'scheduling/', E + 'text/')
     + ENGINE_API),
    (E + 'answering/answer_job.', (E + 'answering/', E + 'documents/', E + 'scheduling/')
     + ENGINE_API),
    (E + 'answering/strategies/', (E + 'answering/strategies/', E + 'documents/', E + 'kv_cache/',
                                   E + 'scheduling/', E + 'text/') + ANSWERING + ENGINE_API),
    (E + 'answering/', (E + 'documents/', E + 'kv_cache/', E + 'scheduling/', E + 'text/')
     + ANSWERING + ENGINE_API),
    (E + 'engine.', (E,) + ENGINE_API),
    (E, ENGINE_API),
    ('server/rpc/call/', ('server/rpc/call/', 'protocol/', E + 'engine.h', E + 'api.h',
                          E + 'request_checks.h', 'server/metrics/', 'base/')
     + MODEL_API),
    ('server/rpc/health/', ('server/rpc/health/', 'server/rpc/call/', 'base/')),
    ('server/rpc/document_qa/', ('server/rpc/document_qa/', 'protocol/', 'server/rpc/call/', E + 'engine.h',
                                 E + 'api.h', E + 'request_checks.h', 'server/metrics/', 'base/') + MODEL_API),
    ('server/rpc/open_inference/', ('server/rpc/open_inference/', 'protocol/', 'server/rpc/document_qa/',
                                    'server/rpc/call/', E + 'engine.h', E + 'api.h',
                                    E + 'request_checks.h', 'server/metrics/', 'base/') + MODEL_API),
    ('server/app/', ('server/', 'kernels/', 'base/')),
    ('server/main.cc', ('server/app/', 'base/')),
    ('client/cpp/include/', ('client/cpp/include/',)),
    ('client/cpp/', ('client/cpp/', 'protocol/', 'base/')),
    ('client/cli/', ('client/cli/', 'client/cpp/', 'protocol/', 'base/')),
    ('bench/', ('bench/', 'server/', 'client/', 'kernels/', 'base/', 'tests/')),
    ('tests/', ('tests/', 'server/', 'client/', 'kernels/', 'base/', 'protocol/', 'bench/')),
]
ROOTS = ('base/', 'protocol/', 'kernels/', 'server/', 'client/', 'bench/', 'tests/')

# Third-party headers, and the folders that may include them.
HEADERS = [
    (r'(torch|ATen|c10|caffe2)/', ('server/model/f32_product/', 'bench/')),
    (r'(grpc|grpcpp|google|lectern/v1|inference)/', ('server/rpc/', 'server/app/', 'client/', 'bench/',
                                           'tests/server/rpc/', 'tests/server/app/', 'tests/client/',
                                           'tests/e2e/')),
    (r'absl/', ('base/', 'protocol/', 'server/', 'client/', 'bench/', 'tests/')),
    (r'prometheus/', ('server/metrics/', 'server/app/', 'tests/')),
    (r'utf8proc', ('server/tokenizer/',)),
    (r'(civetweb|Civet)', ('server/app/', 'tests/server/app/')),
]
# Headers that are installed, by the folder from which they are included, and what they may include:
# the standard library, Abseil, each other and the generated protos.
PUBLIC_HEADERS = 'client/cpp/include/'
PUBLIC_INCLUDES = re.compile(r'absl/|lectern/|[a-z_]+$')
APP_USERS = ('server/main.cc', 'server/app/', 'tests/')


def check_links(graph):
    problems = []
    seen = set()
    for line in graph.splitlines():
        target, _, rest = line.partition(':')
        seen.add(target)
        allowed = LINKS.get(target)
        if allowed is None:
            continue  # a test, a benchmark or one of their libraries
        for link in rest.split():
            name = re.sub(r'^lectern(::|_)', '', link)
            if link.startswith('lectern'):
                if name not in allowed:
                    problems.append(f'{target} links {link}')
                continue
            rule = next((users for pattern, users in EXTERNAL if re.match(pattern, link)), set())
            if target not in rule:
                problems.append(f'{target} links {link}')
    return problems, seen


def includes_of(path):
    with open(path, encoding='utf-8', errors='replace') as file:
        for number, line in enumerate(file, 1):
            match = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
            if match:
                yield number, match.group(1)


def check_includes(root):
    problems = []
    count = 0
    for top in ROOTS:
        for folder, _, names in os.walk(os.path.join(root, top)):
            for name in sorted(names):
                if not name.endswith(('.h', '.cc', '.in', '.cu')):
                    continue
                count += 1
                path = os.path.join(folder, name)
                shown = os.path.relpath(path, root)
                for number, header in includes_of(path):
                    if not include_allowed(shown, header):
                        problems.append(f'{shown}:{number} includes {header}')
    return problems, count


def include_allowed(path, header):
    if path.startswith(PUBLIC_HEADERS) and not PUBLIC_INCLUDES.match(header):
        return False
    if re.match(r'lectern/\w+\.h$', header):
        header = PUBLIC_HEADERS + header
    if header.startswith(ROOTS):
        allowed = next((allowed for folder, allowed in INCLUDES if path.startswith(folder)), ())
        if not header.startswith(allowed):
            return False
        return not header.startswith('server/app/') or path.startswith(APP_USERS)
    return all(path.startswith(users) for pattern, users in HEADERS if re.match(pattern, header))


def check_rooms():
    """Returns the arrows between rooms of the table that form a circle."""
    rooms = [folder for folder, _ in INCLUDES if folder.endswith('/')]

    def room_of(path):
        return next((folder for folder, _ in INCLUDES if path.startswith(folder)), None)

    below = {}
    for folder, allowed in INCLUDES:
        targets = set()
        for path in allowed:
            # A folder of the list stands for itself and for every room inside it.
            targets |= {room for room in rooms if room.startswith(path)} | {room_of(path)}
        below[folder] = targets - {folder, None} - {room for room in rooms if folder.startswith(room)}
    problems, done = [], set()

    def visit(room, path):
        if room in path:
            problems.append(' -> '.join(path[path.index(room):] + [room]))
            return
        if room in done:
            return
        for other in sorted(below.get(room, ())):
            visit(other, path + [room])
        done.add(room)

    for folder in below:
        if not folder.startswith(('bench/', 'tests/')):
            visit(folder, [])
    return problems


# A folder of sources has one theme; with more files than this it probably has two.
MAX_FILES = 26


def check_folder_sizes(root):
    problems = []
    for top in ROOTS:
        for folder, _, names in os.walk(os.path.join(root, top)):
            sources = [name for name in names if name.endswith(('.h', '.cc', '.cu', '.py'))]
            if len(sources) > MAX_FILES:
                problems.append(f'{os.path.relpath(folder, root)} has {len(sources)} sources; '
                                f'at most {MAX_FILES}')
    return problems


def main():
    root, graph_file = sys.argv[1:3]
    with open(graph_file, encoding='utf-8') as file:
        problems, targets = check_links(file.read())
    # An empty graph or tree would pass, so the check includes that both were read.
    problems += [f'{name} is missing in the link graph' for name in sorted(set(LINKS) - targets)]
    wrong_includes, count = check_includes(root)
    problems += wrong_includes
    problems += [f'rooms in a circle: {circle}' for circle in check_rooms()]
    problems += check_folder_sizes(root)
    if count == 0:
        problems.append('no source file was found')
    for problem in problems:
        print(problem)
    print(f'{len(targets)} targets, {count} files, {len(problems)} wrong arrows')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
