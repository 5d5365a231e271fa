#!/usr/bin/env python3
"""Fails if Markdown names a file of the repository that does not exist, or a heading that a page does not have;
also if README.md has more than 150 lines.

    links_test.py SOURCE_DIR

It checks relative links and images, and `backticks` that look like paths of the repository: those
that begin with one of its folders; such a path may also be relative to the page's folder. A source or a test
that is named without its folder must exist somewhere.
In all tracked text it also checks paths of pages below docs/, with their anchors.
"""
import os
import re
import subprocess
import sys

README_LINES = 150
LINK = re.compile(r'\]\(([^)\s]+)\)')
QUOTED = re.compile(r'`([^`\n]+)`')
PAGE = re.compile(r'\bdocs/[\w/.-]+\.(?:md|svg|png|txt)(?:#[\w-]+)?')


def tracked_files(root):
    output = subprocess.run(['git', '-C', root, 'ls-files', '-z'], check=True, capture_output=True).stdout
    return [os.fsdecode(name) for name in output.split(b'\0') if name]


def without_code(text):
    return re.sub(r'^( *)(```|~~~).*?^ *\2', lambda m: '\n' * m.group().count('\n'), text, flags=re.S | re.M)


def anchors(text):
    """The anchors of a page's headings, as GitHub makes them."""
    found = set()
    for heading in re.findall(r'^#+ +(.*?)\s*$', without_code(text), re.M):
        found.add(re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-'))
    return found


class Tree:
    def __init__(self, root, files):
        self.root = root
        self.files = set(files)
        self.names = {os.path.basename(name) for name in files}
        self.folders = set()
        for name in files:
            while name := os.path.dirname(name):
                self.folders.add(name)

    def has(self, path):
        path = os.path.normpath(path)
        return path in self.files or path in self.folders or path == '.'

    def has_source(self, name):
        """Whether a source has this name; a test may be named without its ending."""
        return name in self.names or (name.endswith('_test') and bool(self.names & {name + '.cc', name + '.py'}))

    def problem(self, path, anchor):
        """Why a link to `path`, relative to the root, and `anchor` leads nowhere; or None."""
        if not self.has(path):
            return 'no such file'
        if anchor and path.endswith('.md'):
            with open(os.path.join(self.root, path), encoding='utf-8') as file:
                if anchor not in anchors(file.read()):
                    return 'no such heading'
        return None


def looks_like_path(text, tree):
    """Whether `text` in backticks claims to be a path of the repository."""
    if not re.fullmatch(r'[\w./{},*-]+', text) or '/' not in text or text.startswith(('/', '.')):
        return False
    return text.split('/')[0] in tree.folders


def expanded(path):
    """a.{h,cc} is a.h and a.cc."""
    match = re.search(r'\{([^{}]*)\}', path)
    if not match:
        return [path]
    return [one for part in match.group(1).split(',')
            for one in expanded(path[:match.start()] + part + path[match.end():])]


def problems_of_page(name, text, tree):
    """Yields (line, target, problem) for links and quoted paths of a Markdown page."""
    folder = os.path.dirname(name)
    for number, line in enumerate(without_code(text).split('\n'), 1):
        for target in LINK.findall(re.sub(r'`[^`]*`', '', line)):
            if re.match(r'[a-z]+:', target):
                continue
            path, _, anchor = target.partition('#')
            problem = tree.problem(os.path.normpath(os.path.join(folder, path)) if path else name, anchor)
            if problem:
                yield number, target, problem
        for quoted in QUOTED.findall(line):
            if re.fullmatch(r'\w+\.(?:h|cc|cu|py)|\w+_test', quoted) and not tree.has_source(quoted):
                yield number, quoted, 'no such source'
            if not looks_like_path(quoted, tree) or '*' in quoted:
                continue
            for path in expanded(quoted.rstrip('/')):
                if not tree.has(path) and not tree.has(os.path.join(folder, path)):
                    yield number, quoted, 'no such file'


def problems_of_text(text, tree):
    """Yields (line, target, problem) for pages of docs/ that any text names."""
    for number, line in enumerate(text.split('\n'), 1):
        for match in PAGE.finditer(line):
            if re.search(r'[/\w]$', line[:match.start()]):
                continue  # a part of a longer path or of a URL
            path, _, anchor = match.group().partition('#')
            problem = tree.problem(path, anchor)
            if problem:
                yield number, match.group(), problem


def main():
    root = sys.argv[1]
    if not os.path.exists(os.path.join(root, '.git')):
        print('not a git checkout: nothing to look at')
        return 77
    tree = Tree(root, tracked_files(root))
    checked, found = 0, 0
    for name in sorted(tree.files):
        path = os.path.join(root, name)
        # Its own test names pages that do not exist; generated plots name nothing.
        if name.endswith(('.svg', '.json')) or name == 'tests/format/links_rules_test.py':
            continue
        if not os.path.isfile(path):
            continue
        try:
            with open(path, encoding='utf-8') as file:
                text = file.read()
        except UnicodeDecodeError:
            continue
        checked += 1
        problems = set(problems_of_text(text, tree))
        if name.endswith('.md'):
            problems |= set(problems_of_page(name, text, tree))
        if name == 'README.md' and text.count('\n') > README_LINES:
            problems.add((README_LINES, name, 'reference belongs in docs/reference'))
        for line, target, problem in sorted(problems):
            found += 1
            print(f'{name}:{line}: {target}: {problem}')
    print(f'{checked} files, {found} findings')
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
