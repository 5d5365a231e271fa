#!/usr/bin/env python3
"""The small readers (models/readers): what they answer by k, and the table and plot of that.

    readers_test.py SOURCE_FOLDER table
    readers_test.py SOURCE_FOLDER sweep BIN_FOLDER
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(sys.argv[1])
READERS = ROOT / 'models' / 'readers'


class TableTest(unittest.TestCase):
    def test_table_and_plot(self):
        rows = {'d_ff': 1024, 'rows': [
            {'setting': 'dense', 'em': 96.0}, {'setting': 'ffn64', 'em': 90.0},
            {'setting': 'ffn5', 'em': 12.0}, {'setting': 'attention8', 'em': 0.0}]}
        with tempfile.TemporaryDirectory() as folder:
            file, svg = pathlib.Path(folder) / 'rows.json', pathlib.Path(folder) / 'plot.svg'
            file.write_text(json.dumps(rows))
            result = subprocess.run(
                [sys.executable, '-B', ROOT / 'bench' / 'readers' / 'plot_sweep.py',
                 f'--rows=t5={file},bert={file}', f'--svg={svg}'], capture_output=True, text=True)
            self.assertEqual(result.returncode, 0, result.stderr)
            lines = result.stdout.splitlines()
            # 6.25 % of 1,024 units: the paper has this share of 3b and 11b, and 8.3 % is too far.
            self.assertIn('| 64 | 6.2 % | 90.0 | 90.0 | - | 100.0 % (k = 1,024) | '
                          '100.0 % (k = 4,096) |', lines)
            self.assertIn('| all | 96.0 | 96.0 |', lines)
            self.assertIn('| 8 | 0.0 | 0.0 |', lines)
            picture = svg.read_text()
            self.assertIn('paper: UnifiedQA 11b', picture)
            self.assertTrue(picture.startswith('<svg') and picture.endswith('</svg>\n'))


class SweepTest(unittest.TestCase):
    """Without retraining: few of the units are needed, but not none of them."""

    def exact_match(self, name, *options):
        result = subprocess.run(
            [ROOT / 'bench' / 'unifiedqa', f'--model={READERS / name}',
             f'--data={READERS / "test.jsonl"}', '--limit=100', '--json', f'--bin={sys.argv[3]}',
             *options], capture_output=True, text=True, timeout=280)
        self.assertEqual(result.returncode, 0, result.stderr)
        return {row['setting']: row['em'] for row in json.loads(result.stdout)['rows']}

    def check(self, name):
        found = self.exact_match(name, '--k=64,1', '--attention=8')
        self.assertGreaterEqual(found['dense'], 95, found)
        for setting in ('ffn64', 'attention8'):
            self.assertGreaterEqual(found[setting], found['dense'] - 2, found)
        self.assertLess(found['ffn1'], found['dense'] - 30, found)

    def test_t5(self):
        self.check('t5')

    def test_bert(self):
        self.check('bert')


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1], defaultTest={'table': 'TableTest', 'sweep': 'SweepTest'}[sys.argv[2]])
