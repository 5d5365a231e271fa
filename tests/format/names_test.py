#!/usr/bin/env python3
"""Fails if a tracked file names a path of the machine that it was written on, or holds a note about
work to be done (what is not done belongs in the issue tracker).

    names_test.py SOURCE_DIR
"""
import os
import re
import subprocess
import sys

# Written in pieces, so that this file does not hold what it looks for.
FORBIDDEN = [
    re.compile(rb'(?<![\w.$}-])/(' + b'|'.join([b'wo' b'rk', b'ro' b'ot', b'ho' b'me', b'tmp/w' b't'])
               + rb')/\w'),
    re.compile(rb'\b(TO' rb'DO|FIX' rb'ME|XX' rb'X)\b'),
]


def main():
    root = sys.argv[1]
    if not os.path.exists(os.path.join(root, '.git')):
        print('not a git checkout: nothing to look at')
        return 77
    names = subprocess.run(['git', '-C', root, 'ls-files', '-z'], check=True,
                           capture_output=True).stdout.split(b'\0')
    problems = 0
    for name in filter(None, names):
        path = os.path.join(os.fsencode(root), name)
        if not os.path.isfile(path):
            continue
        with open(path, 'rb') as file:
            data = file.read()
        if b'\0' in data:
            continue  # binary
        for number, line in enumerate(data.split(b'\n'), 1):
            for pattern in FORBIDDEN:
                if pattern.search(line):
                    problems += 1
                    print(f'{os.fsdecode(name)}:{number}: {line[:120].decode(errors="replace")}')
    print(f'{len(names)} files, {problems} findings')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
