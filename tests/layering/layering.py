#!/usr/bin/env python3
"""Fails when a target links, or a file includes, what its layer may not use.

    layering.py SOURCE_DIR LINK_GRAPH

LINK_GRAPH is written by cmake/LecternLinkGraph.cmake: "TARGET: what it links" a line. The rules are
the two tables below; docs/architecture.md tells their reasons.
"""
import os
import re
import sys

# What a target may link, without the prefix of the alias "lectern::". Whatever else is linked must
# match one of EXTERNAL below.
LINKS = {
    'lectern_proto': set(),
    'lectern_base': set(),
    'lectern_kernels': set(),
    'lectern_kernels_ref': {'kernels'},
    'lectern_metrics': {'base'},
    'lectern_tokenizer': {'base'},
    'lectern_model_api': {'base'},
    'lectern_loaders': {'base', 'kernels'},
    'lectern_tokenizer_files': {'base', 'tokenizer', 'loaders'},
    'lectern_model': {'base', 'model_api', 'tokenizer', 'kernels', 'loaders', 'tokenizer_files'},
    'lectern_f32': {'model_api'},
    'lectern_engine': {'base', 'metrics', 'model_api'},
    'lectern_rpc': {'base', 'proto', 'engine', 'metrics'},
    'lectern_app': {'base', 'metrics', 'engine', 'rpc', 'model', 'kernels', 'proto'},
    'lectern-server': {'app', 'base'},
    'lectern_client': {'proto', 'base'},
    'lectern_cli': {'client', 'base'},
    'lectern': {'cli', 'client'},
}

# Third-party libraries and who may link them.
EXTERNAL = [
    (r'libtorch::', {'lectern_f32'}),
    (r'PkgConfig::(GRPCPP|PROTOBUF)|.*grpc|.*protobuf', {'lectern_proto', 'lectern_app'}),
    (r'prometheus-cpp::', {'lectern_metrics', 'lectern_app'}),
    (r'.*civetweb', {'lectern_app'}),
    (r'PkgConfig::(PCRE2|UTF8PROC)', {'lectern_tokenizer'}),
    (r'Threads::', set(LINKS)),
    (r'OpenSSL::', {'lectern_base'}),
    (r'nlohmann_json::', set(LINKS) - {'lectern_kernels', 'lectern_kernels_ref'}),
    (r'absl::', set(LINKS) - {'lectern_kernels', 'lectern_kernels_ref'}),
]

# What the files below a folder may include of the project; the first folder that fits counts. The
# interface of models is model.h, attention_policy.h and the tokenizer's interface.
MODEL_API = ('server/model/model.h', 'server/model/attention_policy.h', 'server/tokenizer/tokenizer.h')
INCLUDES = [
    ('kernels/', ('kernels/',)),
    ('server/base/', ('server/base/',)),
    ('server/metrics/', ('server/metrics/', 'server/base/')),
    ('server/tokenizer/', ('server/tokenizer/', 'server/base/')),
    ('server/model/', ('server/model/', 'server/tokenizer/', 'server/base/', 'kernels/')),
    ('server/engine/', ('server/engine/', 'server/metrics/', 'server/base/') + MODEL_API),
    ('server/rpc/', ('server/rpc/', 'server/engine/', 'server/metrics/', 'server/base/') + MODEL_API),
    ('server/app/', ('server/', 'kernels/')),
    ('server/main.cc', ('server/app/', 'server/base/')),
    ('client/', ('client/', 'server/base/')),
    ('bench/', ('bench/', 'server/', 'client/', 'kernels/', 'tests/')),
    ('tests/', ('tests/', 'server/', 'client/', 'kernels/', 'bench/')),
]
ROOTS = ('kernels/', 'server/', 'client/', 'bench/', 'tests/')

# Third-party headers, and the folders that may include them.
HEADERS = [
    (r'(torch|ATen|c10|caffe2)/', ('server/model/f32_product/', 'bench/')),
    (r'(grpc|grpcpp|google|lectern/v1|inference)/', ('server/rpc/', 'server/app/', 'client/', 'bench/',
                                           'tests/server/rpc/', 'tests/server/app/', 'tests/client/',
                                           'tests/e2e/')),
    (r'absl/', ('server/', 'client/', 'bench/', 'tests/')),
    (r'prometheus/', ('server/metrics/', 'server/app/', 'tests/')),
    (r'utf8proc', ('server/tokenizer/',)),
    (r'(civetweb|Civet)', ('server/app/', 'tests/server/app/')),
]
APP_USERS = ('server/main.cc', 'server/app/', 'tests/')


def check_links(graph):
    problems = []
    seen = set()
    for line in graph.splitlines():
        target, _, rest = line.partition(':')
        seen.add(target)
        allowed = LINKS.get(target)
        if allowed is None:
            continue  # a test, a benchmark or a library of theirs
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
    if header.startswith(ROOTS):
        allowed = next(allowed for folder, allowed in INCLUDES if path.startswith(folder))
        if not header.startswith(allowed):
            return False
        return not header.startswith('server/app/') or path.startswith(APP_USERS)
    return all(path.startswith(users) for pattern, users in HEADERS if re.match(pattern, header))


def main():
    root, graph_file = sys.argv[1:3]
    with open(graph_file, encoding='utf-8') as file:
        problems, targets = check_links(file.read())
    # An empty graph or tree would pass: that both were read is part of the check.
    problems += [f'{name} is missing in the link graph' for name in sorted(set(LINKS) - targets)]
    wrong_includes, count = check_includes(root)
    problems += wrong_includes
    if count == 0:
        problems.append('no source file was found')
    for problem in problems:
        print(problem)
    print(f'{len(targets)} targets, {count} files, {len(problems)} wrong arrows')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
