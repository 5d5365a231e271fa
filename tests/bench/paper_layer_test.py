#!/usr/bin/env python3
"""bench/paper_layer at tiny sizes: the methods agree, memory that runs out is a row, the table and
the plot hold what was measured.

    paper_layer_test.py DRIVER MEASURE_LAYER
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

DRIVER, PROGRAM = sys.argv[1:3]
SMALL = 16 << 20


def run(command):
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


def program(*options):
    result = run([PROGRAM, *options])
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


class PaperLayerTest(unittest.TestCase):
    def test_all_methods_agree_and_are_measured(self):
        with tempfile.TemporaryDirectory() as folder:
            picture, results = os.path.join(folder, 'a.svg'), os.path.join(folder, 'rows.json')
            command = [DRIVER, '--short', '--json', '--svg=' + picture, '--program=' + PROGRAM,
                       '--results=' + results]
            first = run(command)
            self.assertEqual(first.returncode, 0, first.stderr)
            answer = json.loads(first.stdout)
            self.assertEqual(len(answer['checks']), 6 + 5 + 4)
            for check in answer['checks']:
                self.assertTrue(check['ok'], check)
                self.assertGreaterEqual(check['rows'], 90, check)
            self.assertEqual(len(answer['rows']), 2 * (5 + 5 + 4 + 2 + 2))
            for row in answer['rows']:
                self.assertEqual(row['status'], 'ok', row)
                self.assertGreater(row['seconds'], 0, row)
                # Each run makes its result, whose pages become resident.
                tokens = row['tokens']
                self.assertGreaterEqual(row['peak_bytes'], 0.9 * 4 * 768 * tokens, row)
            self.check_picture(picture)
            # A second call goes on from the results: nothing is left to measure.
            again = json.loads(run(command).stdout)
            self.assertEqual(again['rows'], answer['rows'])

    def check_picture(self, path):
        root = xml.etree.ElementTree.parse(path).getroot()
        space = '{http://www.w3.org/2000/svg}'
        texts = [text.text for text in root.iter(space + 'text')]
        for expected in ('Lectern', 'SDPA (ATen)', 'seconds', 'GiB beyond the inputs', 'L', 'd_ff',
                         'paper, vanilla (GPU, fwd + bwd)'):
            self.assertIn(expected, texts)
        width, height = float(root.get('width')), float(root.get('height'))
        circles = list(root.iter(space + 'circle'))
        self.assertGreater(len(circles), 28)
        for circle in circles:
            self.assertTrue(0 < float(circle.get('cx')) < width)
            self.assertTrue(0 < float(circle.get('cy')) < height)

    def test_table_and_no_failure_when_memory_runs_out(self):
        result = run([DRIVER, '--short', '--only=attention', f'--memory_limit={SMALL}',
                      '--program=' + PROGRAM])
        self.assertEqual(result.returncode, 0, result.stderr)
        line = next(line for line in result.stdout.splitlines() if line.startswith('| 512 '))
        ours, plain = line.split('|')[2:4]
        self.assertIn('MiB', ours)
        self.assertIn('out of memory: needs 0.03 GiB of 0.02 GiB (predicted, not run)', plain)

    def test_an_allocation_that_fails_is_reported(self):
        for method in ('plain', 'ours'):
            limit = SMALL if method == 'plain' else 1 << 20
            row = program('--experiment=attention', f'--method={method}', '--tokens=2048',
                          f'--memory_limit={limit}', '--skip_prediction')
            self.assertEqual(row['status'], 'out of memory')
            self.assertIn('an allocation failed', row['message'])

    def test_time_limit(self):
        result = run([DRIVER, '--short', '--json', '--only=attention', '--limit=0.001',
                      '--program=' + PROGRAM])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual({row['status'] for row in json.loads(result.stdout)['rows']},
                         {'over time'})

    def test_wrong_options(self):
        for options in (['--tokens=0'], ['--tokens=8', '--method=none'], ['--unknown=1'], [],
                        ['--experiment=ffn', '--method=sdpa', '--tokens=8']):
            self.assertEqual(run([PROGRAM, *options]).returncode, 2, options)


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1])
