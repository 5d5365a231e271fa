#!/usr/bin/env python3
"""Plants broken links of each kind that links_test.py looks for, and links that are good."""
import os
import tempfile
import unittest

import links_test

PAGE = '# Title\n\n## First use, then more\n'


class LinksTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        os.makedirs(os.path.join(folder.name, 'docs', 'guides'))
        with open(os.path.join(folder.name, 'docs', 'guides', 'use.md'), 'w', encoding='utf-8') as file:
            file.write(PAGE)
        self.tree = links_test.Tree(folder.name, ['docs/guides/use.md', 'server/a.h', 'server/a.cc', 'README.md'])

    def page(self, text, name='docs/guides/use.md'):
        return [problem for _, _, problem in links_test.problems_of_page(name, text, self.tree)]

    def text(self, text):
        return [problem for _, _, problem in links_test.problems_of_text(text, self.tree)]

    def test_good_links_pass(self):
        for text in ['[a](../../README.md)', '[a](use.md#first-use-then-more)', '[a](https://example.com/x)',
                     '`server/a.{h,cc}`', '`server/`', '`server`', '`a.h`', '`config.json`', '`--flag=a/b`', '`lectern ask`', '`x/y`',
                     '```\n[a](missing.md)\n```']:
            self.assertEqual(self.page(text), [], text)
        self.assertEqual(self.text('// See docs/guides/use.md#title and https://example.com/docs/other.md.'), [])

    def test_broken_links_are_found(self):
        for text in ['[a](missing.md)', '![a](../missing.svg)', '`server/b.h`', '`server/a.{h,cu}`']:
            self.assertEqual(self.page(text), ['no such file'], text)
        self.assertEqual(self.page('`b.h` and `b_test`'), ['no such source', 'no such source'])
        self.assertEqual(self.page('[a](use.md#other)'), ['no such heading'])
        self.assertEqual(self.page('[a](#other)'), ['no such heading'])
        self.assertEqual(self.text('# docs/missing.md has the figures'), ['no such file'])
        self.assertEqual(self.text('runbook: "docs/guides/use.md#other"'), ['no such heading'])


if __name__ == '__main__':
    unittest.main()
