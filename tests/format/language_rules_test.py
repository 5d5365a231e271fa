#!/usr/bin/env python3
"""Plants findings in every kind of text that language_test.py reads, and sentences that must pass."""
import unittest

import language_test


def rules(name, source):
    return [rule for _, _, rule, _ in language_test.check(name, source)]


class RulesTest(unittest.TestCase):
    def test_each_opening_is_found(self):
        for text, rule in [
            ('Of the first block.', 'Of ...'),
            ('The same for pages.', 'The same ...'),
            ('What a page holds.', 'What ...'),
            ('Who waits longest.', 'Who ...'),
            ('As above.', 'As ...'),
            ('Told the code of the error.', 'Told ...'),
        ]:
            self.assertEqual(rules('a.md', text), [rule], text)
            self.assertEqual(rules('a.md', f'A first sentence. {text}'), [rule], text)

    def test_each_word_is_found(self):
        for text, rule in [
            ('Tokens behind the document are read.', 'behind'),
            ('After so many seconds it stops.', 'so many'),
            ('It may hold so much memory.', 'so much'),
            ('The header tells the shape.', 'tells'),
            ('The table stands in a file.', 'stands'),
            ('It runs on a thread of its own.', 'of its own'),
            ('The file beside it.', 'beside'),
        ]:
            self.assertEqual(rules('a.md', text), [rule], text)

    def test_plain_sentences_pass(self):
        for text in [
            'Of course it may fail. Of 100 questions, 95 are answered. Of the 40 chunks, two are read.',
            'The same holds for pages.',
            'What does a page hold?',
            'As long as the page is held, it is not evicted. As a result, reads are exact.',
            'The server runs behind a load balancer or behind HAProxy. The replica falls behind.',
            'The two are hard to tell apart. It tells evidence from other sentences.',
            'KV stands for key and value.',
            'The `behind` field and the answer "so many" are quoted.',
            'The writer drains the write-behind queue.',
        ]:
            self.assertEqual(rules('a.md', text), [], text)

    def test_all_kinds_of_text_are_read(self):
        for name, source in [
            ('a.cc', '// Of a page.\nint a;\n'),
            ('a.h', 'int a;  // Of a page.\n'),
            ('a.cu', '/* Of a page. */\n'),
            ('a.proto', '// The first line\n// ends. Of a page.\n'),
            ('server/a.cc', 'Log("the rest stands in the first file");\n'),
            ('server/a.cc', 'Log("the rest of it "\n    "stands in the file");\n'),
            ('a_test.cc', 'TEST(Pages, StandInOrder) {}\n'),
            ('a.py', '"""Of a page."""\n'),
            ('a.py', 'def f():\n    """Returns a page.\n\n    Of the first kind.\n    """\n'),
            ('a.py', 'x = 1  # Of a page.\n'),
            ('a.py', 'def test_what_stands_first():\n    pass\n'),
            ('deploy/a.py', 'print("the rest stands in the first file")\n'),
            ('CMakeLists.txt', '# Of a page.\n'),
            ('run', '#!/bin/sh\n# Of a page.\n'),
            ('run', '#!/usr/bin/env python3\n# Of a page.\n'),
            ('a.yaml', 'a: 1 # Of a page.\n'),
            ('a.md', '* Of a page.\n'),
            ('a.md', '| name | the value stands in a file |\n'),
        ]:
            self.assertEqual(len(rules(name, source)), 1, (name, source))

    def test_code_and_data_are_not_read(self):
        for name, source in [
            ('a.cc', 'int behind = 0;\nconst char* kUrl = "http://behind";\n'),
            ('a.cc', "const int kMany = 1'000'000;  // one million\nchar quote = '\"';  // a quote\n"),
            ('a_test.cc', 'const char* kText = "the dog stands behind the tree";\n'),
            ('a.cc', 'auto text = R"(// Of a page.)";\n'),
            ('a.py', 'behind = "# Of a page."\n'),
            ('a.md', '```\nthe dog stands behind the tree\n```\n'),
            ('a.txt', 'Of a page.\n'),
        ]:
            self.assertEqual(rules(name, source), [], (name, source))

    def test_lines_are_those_of_the_block(self):
        self.assertEqual([line for _, line, _, _ in language_test.check('a.cc', 'int a;\n\n// Of it.\n')], [3])


if __name__ == '__main__':
    unittest.main()
