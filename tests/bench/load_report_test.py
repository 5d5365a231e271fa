#!/usr/bin/env python3
"""Tests of the arithmetic of bench/load with made-up figures: nothing is measured. A server that
leaks must be seen, one whose memory only swings must not.

    load_report_test.py SOURCE_DIR
"""
import pathlib
import random
import sys
import unittest

ROOT = pathlib.Path(sys.argv.pop(1))
sys.path.insert(0, str(ROOT / 'bench' / 'serving'))
import load_report  # noqa: E402

MIB = 2**20


def memory(minutes, mib_per_hour, noise_mib=0.5, seed=1):
    """One sample a second of a process of 400 MiB that grows so fast."""
    draw = random.Random(seed)
    return [(t, int((400 + mib_per_hour * t / 3600 + draw.gauss(0, noise_mib)) * MIB))
            for t in range(int(minutes * 60))]


class Memory(unittest.TestCase):
    def test_a_leak_fails(self):
        for rate in (4, 60, 600):
            figures, problems = load_report.memory_verdicts(memory(30, rate))
            self.assertTrue(problems, rate)
            self.assertAlmostEqual(figures['slope_mib_per_hour'], rate, delta=1)

    def test_steady_memory_passes_whatever_the_noise(self):
        for seed in range(5):
            _, problems = load_report.memory_verdicts(memory(30, 0, seed=seed))
            self.assertEqual(problems, [])

    def test_growth_while_warming_up_passes(self):
        warm = [(t, (100 + min(t, 300)) * MIB) for t in range(1800)]
        self.assertEqual(load_report.memory_verdicts(warm)[1], [])

    def test_a_jump_fails(self):
        jump = [(t, (400 + (60 if t > 1500 else 0)) * MIB) for t in range(1800)]
        self.assertTrue(load_report.memory_verdicts(jump)[1])

    def test_too_few_samples_are_no_pass(self):
        self.assertTrue(load_report.memory_verdicts(memory(0.1, 0))[1])

    def test_slope(self):
        line, error = load_report.slope([(x, 3 * x + 1) for x in range(10)])
        self.assertAlmostEqual(line, 3)
        self.assertAlmostEqual(error, 0)


class Figures(unittest.TestCase):
    def test_capacity_is_where_more_callers_bring_no_more(self):
        self.assertEqual(load_report.capacity([(1, 2.0), (2, 3.9), (4, 4.0), (8, 9.0)]), (2, 4.0))
        self.assertEqual(load_report.capacity([(1, 2.0), (2, 4.0)]), (2, 4.0))
        self.assertEqual(load_report.capacity([(1, 2.0), (2, 1.0)]), (1, 2.0))

    def test_recovery_ends_with_the_last_late_first_text(self):
        self.assertEqual(load_report.recovery_seconds([[0, 90.0], [1, 110.0]], 100), 0)
        self.assertEqual(load_report.recovery_seconds([[0, 3000.0], [3, -1], [4, 90.0]], 100), 3)
        self.assertEqual(load_report.recovery_seconds([[0, 9000.0], [9, 100.0]], 100), 9)

    def test_metrics_are_summed_over_their_series(self):
        text = ('# HELP a b\na{x="1 2"} 1\na{x="3"} 2\nlectern_streams_open 1\n'
                'lectern_requests_waiting 2\n')
        metrics = load_report.parse_metrics(text)
        self.assertEqual(metrics['a'], 3)
        self.assertEqual(load_report.open_calls(metrics), 3)

    def test_verdicts(self):
        good = {'overload_goodput_ratio': 0.95, 'refusal_p99_ms': 12.0, 'recovery_seconds': 4.0,
                'batch8_speedup': 4.2, 'memory_growth_mib': 1.0, 'leaked_streams': 0,
                'unexpected_failures': 0}
        self.assertEqual(load_report.verdicts(good), [])
        for name, value in [('overload_goodput_ratio', 0.8), ('refusal_p99_ms', 60.0),
                            ('recovery_seconds', 11.0), ('batch8_speedup', 3.0)]:
            bad = dict(good, **{name: value})
            self.assertEqual(len(load_report.verdicts(bad)), 1, name)
            self.assertEqual(load_report.verdicts(bad, speed=False), [], name)
        for name, value in [('memory_growth_mib', 40.0), ('leaked_streams', 1),
                            ('unexpected_failures', 1)]:
            bad = dict(good, **{name: value})
            self.assertEqual(len(load_report.verdicts(bad, speed=False)), 1, name)


if __name__ == '__main__':
    unittest.main()
