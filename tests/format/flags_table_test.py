#!/usr/bin/env python3
"""Fails if the table of docs/reference/flags.md is not the one of `lectern-server --help`, or if a file below
deploy/ or the Dockerfile gives the server a flag that it does not have.

    flags_table_test.py FLAGS_MD LECTERN_SERVER [--print]
"""
import pathlib
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


def unknown_deployed_flags(root, rows):
    known = set(re.findall(r'`--(\w+)', '\n'.join(rows)))
    found = []
    for path in [root / 'Dockerfile', *sorted((root / 'deploy').rglob('*'))]:
        if not path.is_file():
            continue
        for line in path.read_text(encoding='utf-8').splitlines():
            if 'lectern-server' not in line:
                continue
            flags = re.findall(r'--([a-z_]+)=', line.split('lectern-server', 1)[1])
            found += [f'{path.name}: no such flag: --{flag}' for flag in flags if flag not in known]
    return found


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
    unknown = unknown_deployed_flags(pathlib.Path(sys.argv[1]).resolve().parents[2], rows)
    for line in unknown:
        print(line)
    print(f'{len(rows)} flags')
    return 0 if rows and rows == found and not unknown else 1


if __name__ == '__main__':
    sys.exit(main())
