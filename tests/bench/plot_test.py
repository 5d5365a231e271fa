#!/usr/bin/env python3
"""Tests of bench/paper/plot.py: a picture is wide enough for its legend.

    plot_test.py SOURCE_DIR
"""
import pathlib
import sys
import unittest
import xml.etree.ElementTree

ROOT = pathlib.Path(sys.argv.pop(1))
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / 'bench' / 'paper'))
import plot  # noqa: E402

TEXT = '{http://www.w3.org/2000/svg}text'
CHARACTER = 6  # the average width of a character at font size 12, at least


class Plot(unittest.TestCase):
    def check(self, source, label):
        root = xml.etree.ElementTree.fromstring(source)
        entry = next(text for text in root.iter(TEXT) if text.text == label)
        self.assertLess(float(entry.get('x')) + CHARACTER * len(label), float(root.get('width')))

    def test_legend_fits(self):
        for label in ('short', 'a label that is much longer than those of the other panels ' * 2):
            panel = plot.Panel('title', 'x', 'y', [plot.Series(label, '#000', 'line', [(1, 1), (2, 2)])])
            self.check(plot.svg('title', [[panel, panel]]), label)

    def test_legend_of_the_scaling_picture_fits(self):
        source = (ROOT / 'docs' / 'measurements' / 'scaling.svg').read_text(encoding='utf-8')
        self.check(source, 'top-128, no tail: pages left out without loss')


if __name__ == '__main__':
    unittest.main()
