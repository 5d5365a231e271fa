#!/usr/bin/env python3
"""Fails if README.md's table of flags is not the one of `lectern-server --help`.

    readme_flags_test.py README LECTERN_SERVER [--print]
"""
import re
import subprocess
import sys


def flags_of_help(program):
    text = subprocess.run([program, '--help'], check=True, capture_output=True, text=True).stdout
    rows = []
    for name, value, help_text in re.findall(r'^  --(\w+)(\S*)\n      (.*)$', text, re.M):
        default = re.search(r' \[([^]]*)\]$', help_text)
        help_text = help_text[:default.start()] if default else help_text
        rows.append(f'| `--{name}{value.replace("|", chr(92) + "|")}` | '
                    f'{default.group(1) if default else ""} | {help_text} |')
    return rows


def main():
    rows = flags_of_help(sys.argv[2])
    if '--print' in sys.argv:
        print('\n'.join(rows))
        return 0
    with open(sys.argv[1], encoding='utf-8') as file:
        found = [line.rstrip() for line in file if line.startswith('| `--')]
    for row in rows:
        if row not in found:
            print('not in the table:', row)
    for row in found:
        if row not in rows:
            print('not in --help:', row)
    print(f'{len(rows)} flags')
    return 0 if rows and rows == found else 1


if __name__ == '__main__':
    sys.exit(main())
