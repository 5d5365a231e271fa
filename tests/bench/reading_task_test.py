#!/usr/bin/env python3
"""The made-up reading task: the same cases from the same seed, answers where they are said to be,
names of the test that training does not hold, and distractors.

    reading_task_test.py SOURCE_FOLDER
"""
import hashlib
import pathlib
import subprocess
import sys
import unittest

ROOT = pathlib.Path(sys.argv[1])
DIGEST = '620cb5c26ec155b109641854bff922f4d0b4f3174fa3f1c243bae076f610e7b5'
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / 'bench' / 'readers'))
import reading_task  # noqa: E402


def drawn(*options):
    result = subprocess.run([sys.executable, '-B', ROOT / 'bench' / 'readers' / 'reading_task.py',
                             *options], capture_output=True, text=True)
    return result.returncode, result.stdout, result.stderr


class TaskTest(unittest.TestCase):
    def test_the_same_seed_draws_the_same(self):
        code, text, _ = drawn('--seed=2', '--cases=40', '--facts=4,14')
        self.assertEqual(code, 0)
        self.assertEqual(text, drawn('--seed=2', '--cases=40', '--facts=4,14')[1])
        # Files drawn earlier must stay reproducible from their seed.
        self.assertEqual(hashlib.sha256(text.encode()).hexdigest(), DIGEST)

    def test_another_seed_draws_others(self):
        self.assertNotEqual(drawn('--seed=1', '--cases=5')[1], drawn('--seed=2', '--cases=5')[1])
        # A case does not depend on how many there are.
        self.assertTrue(drawn('--seed=1', '--cases=9')[1].startswith(
            drawn('--seed=1', '--cases=5')[1]))

    def test_refuses_ranges_that_make_no_passage(self):
        for facts in ('1,5', '9,4', '4,41'):
            code, _, errors = drawn('--seed=1', '--cases=1', f'--facts={facts}')
            self.assertEqual(code, 2)
            self.assertIn('2 <= low <= high <= 40', errors)

    def test_the_answer_is_where_it_says(self):
        for split in ('train', 'test'):
            for number in range(300):
                case = reading_task.make_case(5, split, number, (2, 20))
                begin = case['begin']
                self.assertEqual(case['context'][begin:begin + len(case['answer'])],
                                 case['answer'], case)
                first, last = case['sentence']
                self.assertTrue(first <= begin and begin + len(case['answer']) <= last, case)
                self.assertEqual(case['context'][last - 1], '.', case)

    def test_names_of_the_test_are_not_in_training(self):
        def names(split):
            found = set()
            for number in range(400):
                for person, _, value, _ in reading_task.make_passage(
                        reading_task.random.Random(number), split, 10):
                    found |= {person, value} if value.split(' ')[0] in reading_task.FIRST else {
                        person}
            return found
        test, train = names('test'), names('train')
        self.assertGreater(len(test), 100)
        self.assertGreater(len(train), 800)
        self.assertFalse(test & train)

    def test_passages_lead_astray(self):
        # In nearly every passage of ten facts, others share the name or the kind of fact asked for.
        same_person = same_kind = shared_name = 0
        for number in range(200):
            told = reading_task.make_passage(reading_task.random.Random(number), 'test', 10)
            person, relation = told[0][:2]
            others = {p for p, _, _, _ in told if p != person}
            same_person += sum(p == person for p, _, _, _ in told) > 1
            same_kind += sum(r == relation for _, r, _, _ in told) > 1
            shared_name += any(set(p.split()) & set(person.split()) for p in others)
        self.assertGreater(same_person, 120)
        self.assertGreater(same_kind, 120)
        self.assertGreater(shared_name, 150)

    def test_passages_of_one_kind_differ_in_the_name_alone(self):
        for number in range(100):
            case = reading_task.make_case(5, 'train', number, (2, 6), one_kind=True)
            self.assertTrue(all(is_kind for _, _, is_kind in case['told']), case)
            self.assertEqual([sentence for sentence, is_subject, _ in case['told'] if is_subject],
                             [case['sentence']], case)

    def test_the_questions_of_the_small_readers(self):
        # The commands of models/readers/README.md.
        for name, options in (('test.jsonl', ['--seed=2', '--cases=400', '--facts=4,14']),
                              ('long.jsonl', ['--seed=3', '--cases=50', '--facts=36,40'])):
            self.assertEqual(drawn(*options)[1], (ROOT / 'models' / 'readers' / name).read_text())


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1])
