#!/usr/bin/env python3
"""Tests of the arithmetic of bench/compare_peers with made-up figures: nothing is measured.

    comparison_test.py SOURCE_DIR
"""
import json
import pathlib
import sys
import unittest

ROOT = pathlib.Path(sys.argv.pop(1))
sys.path.insert(0, str(ROOT / 'bench' / 'peers'))
import comparison  # noqa: E402


def figures():
    return {
        'lectern': {'prefill_512': 300.0, 'decode_8k': 60.0, 'ttft_cached_8k': 0.2, 'rss_8k': 400,
                    'load': 0.5},
        'lectern (exact)': {'prefill_512': 150.0, 'decode_8k': 30.0},
        'one': {'prefill_512': 200.0, 'decode_8k': 10.0, 'ttft_cached_8k': 0.8, 'rss_8k': 500,
                'load': 0.25},
        'two': {'prefill_512': 100.0, 'decode_8k': 40.0, 'ttft_cached_8k': 0.4, 'rss_8k': 800,
                'load': 0.3},
    }


class Comparison(unittest.TestCase):
    def rows(self):
        return {row['name']: row for row in comparison.compare(figures())}

    def test_ratios_and_best_peers(self):
        expected = {
            'prefill_512': (200.0, 1.5, 'one'), 'decode_8k': (40.0, 1.5, 'two'),
            'ttft_cached_8k': (0.4, 2.0, 'two'), 'rss_8k': (500, 0.8, 'one'),
            'load': (0.25, 2.0, 'one'), 'exact_prefill_512': (200.0, 0.75, 'one'),
            'exact_decode_8k': (40.0, 0.75, 'two'),
        }
        rows = self.rows()
        self.assertEqual(list(rows), list(expected))
        for name, (peer, ratio, best_peer) in expected.items():
            self.assertEqual((rows[name]['peer'], rows[name]['best_peer']), (peer, best_peer))
            self.assertAlmostEqual(rows[name]['ratio'], ratio)

    def test_shape_of_json(self):
        document = json.loads(json.dumps({'rows': comparison.compare(figures())}))
        for row in document['rows']:
            self.assertEqual(set(row), {'name', 'lectern', 'peer', 'ratio', 'best_peer'})

    def test_rows_without_a_peer_or_without_lectern_are_left_out(self):
        held = figures()
        del held['lectern']['load']
        for peer in ('one', 'two'):
            del held[peer]['rss_8k']
        names = [row['name'] for row in comparison.compare(held)]
        self.assertNotIn('load', names)
        self.assertNotIn('rss_8k', names)
        self.assertIn('prefill_512', names)

    def test_best_figure_is_kept_in_each_direction(self):
        held = {}
        for rows in ({'decode_0': 10.0, 'load': 2.0}, {'decode_0': 12.0, 'load': 3.0},
                     {'decode_0': 11.0, 'load': 1.0}):
            comparison.keep_best(held, 'one', rows)
        self.assertEqual(held, {'one': {'decode_0': 12.0, 'load': 1.0}})

    def test_hopeless_rows_are_not_repeated(self):
        held = figures()
        self.assertEqual(comparison.rows_to_repeat(held, 'one'), ['prefill_512', 'load'])
        # 100 against 200 and 0.3 against 0.25: the first is hopeless, the second is not.
        self.assertEqual(comparison.rows_to_repeat(held, 'two'),
                         ['decode_8k', 'ttft_cached_8k', 'load'])
        self.assertEqual(comparison.rows_to_repeat(held, 'lectern'),
                         [name for name in comparison.ROWS if name != 'rss_8k'])
        self.assertEqual(comparison.rows_to_repeat(held, 'lectern (exact)'), comparison.SPEEDS)

    def test_goals_are_at_least_for_speeds_and_at_most_for_memory_and_load(self):
        held = {'lectern': {'prefill_512': 300.0, 'decode_8k': 30.0, 'rss_2k': 400, 'load': 0.5},
                'one': {'prefill_512': 200.0, 'decode_8k': 20.0, 'rss_2k': 500, 'load': 0.25}}
        rows = comparison.with_goals(comparison.compare(held))
        self.assertEqual({row['name']: (row['ratio'], row['goal'], row['met']) for row in rows},
                         {'prefill_512': (1.5, 1.5, True), 'decode_8k': (1.5, 2.0, False),
                          'rss_2k': (0.8, 1.0, True), 'load': (2.0, 1.5, False)})
        lines = comparison.table(rows).splitlines()
        self.assertTrue(lines[1].endswith('one, goal 1.5'), lines[1])
        self.assertTrue(any(line.endswith('MISSED: 2.0') for line in lines), lines)

    def test_table_has_a_line_for_each_row(self):
        lines = comparison.table(comparison.compare(figures())).splitlines()
        self.assertEqual(len(lines), 8)
        self.assertEqual(lines[1].split(), ['prefill_512', '300', '200', '1.50', 'one'])


class Contention(unittest.TestCase):
    def test_fair_share(self):
        self.assertAlmostEqual(comparison.fair_share(2, 2), 2 / 3)
        self.assertAlmostEqual(comparison.fair_share(4, 4), 4 / 5)
        self.assertAlmostEqual(comparison.fair_share(2, 4), 1)  # a core is left for the busy one
        self.assertAlmostEqual(comparison.fair_share(4, 2), 4 / 5)

    def test_least_share_is_the_fair_loss_and_three_tenths_of_it(self):
        self.assertAlmostEqual(comparison.least_share(2, 2), 1 - 1.3 / 3)
        self.assertAlmostEqual(comparison.least_share(2, 4), 1)

    def test_rows(self):
        rows = comparison.contention({'lectern': {'decode_0': 100.0, 'prefill_512': 200.0}},
                                     {'lectern': {'decode_0': 60.0, 'prefill_512': 100.0}},
                                     comparison.least_share(2, 2))
        self.assertEqual([(row['name'], row['kept'], row['met']) for row in rows],
                         [('decode_0', 0.6, True), ('prefill_512', 0.5, False)])
        table = comparison.contention_table(rows).splitlines()
        self.assertEqual(len(table), 3)
        self.assertIn('60%', table[1])
        self.assertIn('falls too far', table[2])


if __name__ == '__main__':
    unittest.main()
