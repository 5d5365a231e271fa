#!/usr/bin/env python3
"""bench/unifiedqa on the tiny T5: scores, the table, and that k reaches the model.

    unifiedqa_test.py BENCH_UNIFIEDQA BIN_FOLDER GOLDEN_T5_FOLDER
"""
import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import unittest

DRIVER, BIN, GOLDEN = sys.argv[1:4]
loader = importlib.machinery.SourceFileLoader('unifiedqa', DRIVER)
spec = importlib.util.spec_from_loader('unifiedqa', loader)
unifiedqa = importlib.util.module_from_spec(spec)
loader.exec_module(unifiedqa)


class ScoresTest(unittest.TestCase):
    def test_as_squad_does(self):
        self.assertEqual(unifiedqa.scores('The  Red door!', ['red door']), (100, 100))
        self.assertEqual(unifiedqa.scores('blue', ['red', 'Blue.']), (100, 100))
        exact, f1 = unifiedqa.scores('the red door', ['red gate'])
        self.assertEqual(exact, 0)
        self.assertAlmostEqual(f1, 50)
        self.assertEqual(unifiedqa.scores('', ['x']), (0, 0))
        self.assertEqual(unifiedqa.scores('the', ['a']), (100, 100))  # nothing is left of either

    def test_the_papers_figures_at_the_same_share(self):
        self.assertEqual(unifiedqa.paper_drop(3072, 16)[:2], (3072, 16))
        self.assertAlmostEqual(unifiedqa.paper_drop(3072, 16)[2], -3.68)
        self.assertEqual(unifiedqa.paper_drop(1024, 1024)[2], 0)


class TableTest(unittest.TestCase):
    def setUp(self):
        if not os.path.exists(os.path.join(GOLDEN, 'cases.json')):
            print(f'skipped: {GOLDEN} is not there')
            sys.exit(1 if os.environ.get('CI') == 'true' else 77)
        with open(os.path.join(GOLDEN, 'cases.json'), encoding='utf-8') as file:
            cases = {case['name']: case for case in json.load(file)}
        self.rows = []
        for name in ('v1_0.dense', 'v1_0.long.dense'):
            for text in cases[name]['params']['texts']:
                question, context = text.split(' \\n ', 1)
                self.rows.append({'id': str(len(self.rows)), 'question': question,
                                  'context': context})

    def run_on(self, data, *options):
        with tempfile.NamedTemporaryFile('w', suffix='.jsonl') as file:
            for row in data:
                file.write(json.dumps(row) + '\n')
            file.flush()
            result = subprocess.run(
                [DRIVER, f'--model={GOLDEN}/v1_0', f'--data={file.name}', f'--bin={BIN}',
                 '--numerics=f32', *options], capture_output=True, text=True, timeout=250)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def replies(self):
        with tempfile.NamedTemporaryFile('w', suffix='.jsonl') as file:
            for row in self.rows:
                file.write(json.dumps(row) + '\n')
            file.flush()
            result = subprocess.run(
                [f'{BIN}/measure_reader', f'--model={GOLDEN}/v1_0', f'--data={file.name}',
                 '--numerics=f32'], capture_output=True, text=True, timeout=250)
        self.assertEqual(result.returncode, 0, result.stderr)
        return [json.loads(line)['reply'] for line in result.stdout.splitlines()]

    def test_k_by_k(self):
        # The dense model's replies count as right, so the table shows the effect of k.
        data = [dict(row, answer=reply) for row, reply in zip(self.rows, self.replies())]
        self.assertEqual(len(data), 3)
        found = json.loads(self.run_on(data, '--json', '--k=127,2', '--attention=1'))
        self.assertEqual(found['d_ff'], 128)
        rows = {row['setting']: row for row in found['rows']}
        self.assertEqual(list(rows), ['dense', 'ffn127', 'ffn2', 'attention1'])
        self.assertEqual((rows['dense']['em'], rows['dense']['f1'], rows['dense']['n']),
                         (100, 100, 3))
        # Far fewer than 127 of 128 units are positive, and ReLU drops the others anyway.
        self.assertEqual(rows['ffn127']['em'], 100)
        self.assertLess(rows['ffn2']['em'], 100)
        self.assertLess(rows['attention1']['em'], 100)
        self.assertLess(rows['ffn2']['paper']['em_change'], 0)
        self.assertIn('d_ff = 128, 3 questions', self.run_on(data, '--k=16'))


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1])
