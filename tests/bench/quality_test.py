#!/usr/bin/env python3
"""bench/quality on a few questions: the rows have the form that is promised, facts are found, and a
set of one's own is taken.

    quality_test.py BENCH_QUALITY BIN_FOLDER QUESTION_SET MODEL
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest

DRIVER, BIN, QUESTIONS, MODEL = sys.argv[1:5]


def rows(*options):
    result = subprocess.run([DRIVER, '--json', f'--bin={BIN}', f'--model={MODEL}', *options],
                            capture_output=True, text=True, timeout=500)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)['rows']


class QualityTest(unittest.TestCase):
    def test_a_short_document_by_two_policies(self):
        found = rows('--lengths=1k', '--limit=4', '--policies=exact,default', '--readings=auto')
        self.assertEqual([(row['length'], row['policy'], row['n']) for row in found],
                         [('1k', 'exact', 4), ('1k', 'default', 4)])
        for row in found:
            # Measured 100 % (docs/measurements/quality.md); a broken ranking finds one in some 40 sentences.
            self.assertGreaterEqual(row['evidence_at_3'], 0.75, row)
            self.assertGreaterEqual(row['evidence_at_3'], row['evidence_at_1'], row)
            # Measured two thirds. A model that does not see the document knows none.
            self.assertGreaterEqual(row['match'], 0.25, row)

    def test_a_set_of_ones_own(self):
        with open(QUESTIONS, encoding='utf-8') as file:
            facts = json.load(file)
        document = next(d for d in facts['docs'] if d['id'] == 'd1k')
        case = next(c for c in facts['cases'] if c['doc'] == 'd1k')
        absent = {**case, 'id': 'absent', 'answer': None, 'form': 'unanswerable',
                  'question': 'Which colour has the bicycle of the emperor of Mars?'}
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'set.json')
            with open(path, 'w', encoding='utf-8') as file:
                json.dump({'docs': [document], 'cases': [case, absent]}, file)
            found = rows(f'--set={path}', '--policies=default', '--readings=auto')
        by_form = {row['form']: row for row in found}
        self.assertEqual(by_form['plain']['no_evidence'], 0)
        self.assertEqual(by_form['unanswerable']['no_evidence'], 1)
        self.assertIsNone(by_form['unanswerable']['match'])

    def test_questions_about_a_document_of_a_few_sentences_are_flagged_if_it_does_not_answer(self):
        held_out = os.path.join(os.path.dirname(QUESTIONS), 'flags_held_out.json')
        found = rows(f'--set={held_out}', '--policies=default', '--readings=auto', '--lengths=0.5k',
                     '--forms=plain,unanswerable_thing', '--limit=10')
        by_form = {row['form']: row for row in found}
        self.assertEqual([by_form[form]['n'] for form in ('plain', 'unanswerable_thing')], [10, 10])
        # Measured 0 and 78 % over all lengths (docs/measurements/quality.md).
        self.assertLessEqual(by_form['plain']['no_evidence'], 0.1)
        self.assertGreaterEqual(by_form['unanswerable_thing']['no_evidence'], 0.5)
        self.assertGreaterEqual(by_form['plain']['evidence_at_3'], 0.75)


if __name__ == '__main__':
    if not os.path.exists(MODEL):
        print(f'no model: {MODEL}')
        sys.exit(1 if os.environ.get('CI') == 'true' else 77)
    unittest.main(argv=sys.argv[:1])
