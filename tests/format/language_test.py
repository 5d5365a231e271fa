#!/usr/bin/env python3
"""Fails if text that people read is not plain English: sentences
without a verb ("Of the first block."), and words used in a sense that a dictionary does not give.

    language_test.py SOURCE_DIR [--paths=PREFIX,...] [--count]

It reads comments and docstrings of all sources, string literals that read like sentences in the
programs (help texts, log lines, errors), the names of tests, and Markdown outside code. Text in
`backticks` or "quotation marks" is skipped. --paths limits it to paths with one of the prefixes;
--count prints the number of findings by rule and by folder instead of each finding.
"""
import argparse
import ast
import collections
import io
import os
import re
import subprocess
import sys
import tokenize

# The openings of a sentence. Each is (name, pattern); a sentence that ends with a question mark is fine.
OPENINGS = [
    ('Of ...', re.compile(r'Of (?!course\b|equal\b|(?:the |these |those |all |its |our )?(?:\d|two\b|three\b|four\b))')),
    ('The same ...', re.compile(r'The same (?!applies\b|holds\b|goes\b|is true\b)')),
    ('What ...', re.compile(r'What ')),
    ('Who ...', re.compile(r'Who(m|se)? ')),
    ('As ...', re.compile(r'As (?!a result\b|a rule\b|an? example\b|of\b|usual\b|expected\b|'
                          r'(long|soon|far|many|much|few|little) as\b)')),
    ('Told ...', re.compile(r'Told ')),
]

_OBSTACLES = (r'prox(?:y|ies)|balancers?|gateways?|interfaces?|firewalls?|NAT|HAProxy|Envoy|nginx|'
              r'ingress(?:es)?|routers?|switch|flags?|service mesh|plug-ins?|VPN|Service')
WORDS = [
    ('behind', re.compile(
        r'(?<!write-)(?<!lag )(?<!lags )(?<!left )(?<!leave )(?<!leaves )(?<!fall )(?<!falls )'
        rf'(?<!fallen )\bbehind\b(?! (?:[\w-]+ ){{0,3}}(?:{_OBSTACLES})\b)', re.I)),
    ('so many', re.compile(r'\bso many\b(?! \w+ that\b)', re.I)),
    ('so much', re.compile(r'\bso much\b(?! (?:that|faster|slower|more|less)\b)', re.I)),
    ('tells', re.compile(r'\btells?\b(?! (?:[\w-]+ ){1,6}?(?:apart|from)\b)(?! apart\b)', re.I)),
    ('stands', re.compile(r'\bstands?\b(?! (?:for|alone|in for|out)\b|-)', re.I)),
    ('of its own', re.compile(r'\bof (?:its|their|our) own\b(?! accord\b)', re.I)),
    ('beside', re.compile(r'\bbeside\b(?! the point\b)', re.I)),
]

C_LIKE = ('.cc', '.h', '.cpp', '.c', '.cu', '.cuh', '.proto')
HASH = ('.cmake', '.sh', '.yml', '.yaml', '.toml', '.cfg', '.service')
# Programs, whose string literals are read by people; in tests they are often documents and questions.
MESSAGES = ('base/', 'protocol/', 'kernels/', 'server/', 'client/', 'bench/', 'deploy/', 'models/')
# Programs whose string literals are made-up documents and questions, or lists of words.
DATA = ('bench/quality_set/', 'bench/readers/reading_task.py', 'bench/serving/workload.cc',
        'server/engine/text/language.cc')

Block = collections.namedtuple('Block', 'line text openings')


def c_like_tokens(source):
    """Yields (kind, line, text) for the comments ('//' or '/*') and string literals ('"') of C++ or proto."""
    pattern = re.compile(
        r'(?P<line>//[^\n]*)|(?P<block>/\*.*?\*/)|(?P<raw>R"(?P<tag>[^()\\ ]{0,16})\(.*?\)(?P=tag)")'
        r'|(?P<string>"(?:[^"\\\n]|\\.)*")|(?P<char>(?<![0-9A-Za-z_])\'(?:[^\'\\\n]|\\.)+\')', re.S)
    for match in pattern.finditer(source):
        line = source.count('\n', 0, match.start()) + 1
        if match.group('line'):
            yield '//', line, match.group('line').lstrip('/').strip()
        elif match.group('block'):
            yield '/*', line, re.sub(r'^\s*\*? ?', ' ', match.group('block')[2:-2], flags=re.M).strip()
        elif match.group('string') and not source[:match.start()].rstrip().endswith('#include'):
            yield '"', line, re.sub(r'\\n', ' ', match.group('string')[1:-1])


def join_lines(lines, whole_lines=None):
    """Blocks of comments on consecutive lines. `lines`: (line, text); an empty text ends a block."""
    blocks, start, texts, last = [], 0, [], -1
    for number, text in list(lines) + [(-1, '')]:
        joined = texts and number == last + 1 and text and (whole_lines is None or number in whole_lines)
        if texts and not joined:
            blocks.append(Block(start, ' '.join(texts), True))
            texts = []
        if text:
            if not texts:
                start = number
            texts.append(text)
        last = number
    return blocks


def is_sentence(text):
    """Whether a string literal reads like prose: at least four words."""
    return len(re.findall(r"[A-Za-z][a-z']+\b", text)) >= 4 and text.count(' ') >= 3


def c_like_blocks(source, messages):
    whole = {number for number, line in enumerate(source.split('\n'), 1) if line.lstrip().startswith('//')}
    comments, strings = [], []
    for kind, line, text in c_like_tokens(source):
        if kind == '//':
            comments.append((line, text))
        elif kind == '/*':
            yield Block(line, text, True)
        else:
            strings.append((line, text))
    yield from join_lines(comments, whole)
    if messages:
        for block in join_lines(strings):
            if is_sentence(block.text):
                yield block
    for match in re.finditer(r'\bTEST(?:_F|_P)?\(\s*\w+,\s*(\w+)\)', source):
        words = re.sub(r'(?<=[a-z0-9])(?=[A-Z])', ' ', match.group(1))
        yield Block(source.count('\n', 0, match.start()) + 1, words, False)


def hash_blocks(source):
    lines, whole = [], set()
    for number, line in enumerate(source.split('\n'), 1):
        if line.lstrip().startswith('#') and not line.startswith('#!'):
            lines.append((number, line.lstrip().lstrip('#').strip()))
            whole.add(number)
            continue
        match = re.search(r'\s#\s(.*)$', line)
        if match and line[:match.start()].count('"') % 2 == 0 and line[:match.start()].count("'") % 2 == 0:
            lines.append((number, match.group(1).strip()))
    yield from join_lines(lines, whole)


def python_blocks(source, messages):
    lines, whole = [], set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith('#!'):
            lines.append((token.start[0], token.string.lstrip('#').strip()))
            if not token.line[:token.start[1]].strip():
                whole.add(token.start[0])
    yield from join_lines(lines, whole)
    tree = ast.parse(source)
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            if ast.get_docstring(node):
                docstrings.add(id(node.body[0].value))
                for paragraph in re.split(r'\n\s*\n', ast.get_docstring(node)):
                    yield Block(node.body[0].lineno, ' '.join(paragraph.split()), True)
            if getattr(node, 'name', '').startswith('test_'):
                yield Block(node.lineno, node.name.replace('_', ' '), False)
    if messages:
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                if is_sentence(node.value):
                    yield Block(node.lineno, ' '.join(node.value.split()), True)


def markdown_blocks(source):
    """Paragraphs, list items and table cells; headings may open as they like."""
    source = re.sub(r'^( *)(```|~~~).*?^ *\2', lambda m: '\n' * m.group().count('\n'), source, flags=re.S | re.M)
    start, texts = 0, []
    for number, line in enumerate(source.split('\n') + [''], 1):
        text = line.strip()
        item = re.match(r'(?:[*+-]|\d+\.) +', text)
        special = text.startswith(('#', '|')) or text.startswith('<')
        if texts and (not text or item or special):
            yield Block(start, ' '.join(texts), True)
            texts = []
        if text.startswith('|'):
            for cell in text.strip('|').split('|'):
                yield Block(number, cell.strip(), is_sentence(cell))
        elif text.startswith('#'):
            yield Block(number, text.lstrip('# '), False)
        elif text and not special:
            start = start if texts else number
            texts.append(text[item.end():] if item else text)


def findings_of(block):
    """Names of the rules that a block breaks, once per occurrence, with the words around it."""
    text = re.sub(r'`[^`]*`|"[^"]*"|\\"[^"]*\\"', '"x"', block.text)
    if block.openings:
        for sentence in re.split(r'(?<=[.!?])\s+(?=[A-Z*(])', text):
            opening = sentence.lstrip('*_([ ')
            for name, pattern in OPENINGS:
                if pattern.match(opening) and not sentence.rstrip('*_)] ').endswith('?'):
                    yield name, opening[:70]
    for name, pattern in WORDS:
        for match in pattern.finditer(text):
            yield name, text[max(0, match.start() - 30):match.end() + 30]


def blocks_of(name, source):
    base = os.path.basename(name)
    messages = name.startswith(MESSAGES) and not name.startswith(DATA)
    shebang = source.split('\n', 1)[0] if source.startswith('#!') else ''
    if name.endswith('.md'):
        return markdown_blocks(source)
    if name.endswith(C_LIKE):
        return c_like_blocks(source, messages)
    if name.endswith('.py') or 'python' in shebang:
        return python_blocks(source, messages)
    if name.endswith(HASH) or shebang or base in ('CMakeLists.txt', 'Dockerfile', '.clang-tidy', '.clang-format'):
        return hash_blocks(source)
    return ()


def check(name, source):
    """All findings in one file: (path, line, rule, excerpt)."""
    for block in blocks_of(name, source):
        for rule, excerpt in findings_of(block):
            yield name, block.line, rule, excerpt


def tracked_files(root):
    output = subprocess.run(['git', '-C', root, 'ls-files', '-z'], check=True, capture_output=True).stdout
    return [os.fsdecode(name) for name in output.split(b'\0') if name]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('root')
    parser.add_argument('--paths', default='', help='prefixes of the paths to check, separated by commas')
    parser.add_argument('--count', action='store_true', help='print figures instead of findings')
    options = parser.parse_args()
    if not os.path.exists(os.path.join(options.root, '.git')):
        print('not a git checkout: nothing to look at')
        return 77
    prefixes = tuple(filter(None, options.paths.split(',')))
    found, files = [], 0
    for name in tracked_files(options.root):
        path = os.path.join(options.root, name)
        skipped = prefixes and not name.startswith(prefixes)
        # The rules' own test holds what they forbid.
        if skipped or name == 'tests/format/language_rules_test.py' or not os.path.isfile(path):
            continue
        try:
            with open(path, encoding='utf-8') as file:
                source = file.read()
        except UnicodeDecodeError:
            continue
        files += 1
        found += check(name, source)
    if options.count:
        for title, index in (('rule', 2), ('folder', 0)):
            counts = collections.Counter(os.path.dirname(f[0]) if index == 0 else f[2] for f in found)
            for key, count in counts.most_common():
                print(f'{count:6} {title} {key}')
    else:
        for name, line, rule, excerpt in found:
            print(f'{name}:{line}: {rule}: {excerpt}')
    print(f'{files} files, {len(found)} findings')
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
