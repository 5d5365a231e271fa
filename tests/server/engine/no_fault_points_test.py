#!/usr/bin/env python3
"""Fails if a server holds fault points.

    no_fault_points_test.py SERVER CONTROL

CONTROL is a program that does hold them: the look must find them there.
"""
import re
import sys

NAME = re.compile(rb'InjectedFault|LECTERN_FAULT_POINTS')


def holds_fault_points(path):
    with open(path, 'rb') as file:
        return NAME.search(file.read()) is not None


def main():
    server, control = sys.argv[1:]
    if not holds_fault_points(control):
        print(f'{control}: no fault point found, so that nothing would be found in a server either')
        return 1
    if holds_fault_points(server):
        print(f'{server} holds fault points')
        return 1
    print('none in the server')
    return 0


if __name__ == '__main__':
    sys.exit(main())
