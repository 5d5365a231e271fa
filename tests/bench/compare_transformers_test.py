#!/usr/bin/env python3
"""Tests of bench/compare_transformers: its arithmetic with made-up figures, its models, and Lectern's
side of it on tiny random models. transformers is not needed.

    compare_transformers_test.py SOURCE_DIR BIN_DIR
"""
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

ROOT, BIN = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
del sys.argv[1:3]
sys.path.insert(0, str(ROOT / "bench" / "peers"))
import comparison  # noqa: E402
import random_models  # noqa: E402

TINY = {
    "t5": dict(random_models.T5_BASE, vocab_size=256, d_model=64, d_kv=16, d_ff=128, num_layers=2,
               num_decoder_layers=2, num_heads=4),
    "bert": dict(random_models.BERT_BASE, vocab_size=256, hidden_size=64, num_hidden_layers=2,
                 num_attention_heads=4, intermediate_size=128),
}


def header_of(path):
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
    header.pop("__metadata__")
    return header, 8 + size


class Arithmetic(unittest.TestCase):
    FIGURES = {
        comparison.LECTERN: {"t5_encode_512": 300.0, "t5_rss_4k": 100, "bert_encode_512": 90.0},
        comparison.F32: {"t5_encode_512": 50.0},
        "transformers (sdpa, float32)": {"t5_encode_512": 100.0, "t5_rss_4k": 500,
                                         "bert_encode_512": 90.0},
        "transformers (eager, float32)": {"t5_encode_512": 120.0, "t5_rss_4k": 400,
                                          "bert_encode_512": 50.0},
    }

    def test_ratio_is_to_the_best_setting(self):
        rows = {row["name"]: row for row in comparison.compare(self.FIGURES)}
        self.assertEqual(set(rows), {"t5_encode_512", "t5_rss_4k", "bert_encode_512",
                                     "f32_t5_encode_512"})
        self.assertAlmostEqual(rows["t5_encode_512"]["ratio"], 300 / 120)
        self.assertAlmostEqual(rows["t5_rss_4k"]["ratio"], 100 / 400)
        self.assertAlmostEqual(rows["bert_encode_512"]["ratio"], 1)
        self.assertAlmostEqual(rows["f32_t5_encode_512"]["ratio"], 50 / 120)
        self.assertEqual(rows["t5_rss_4k"]["best_peer"], "transformers (eager, float32)")

    def test_settings_that_are_far_slower_are_not_repeated(self):
        def names(program):
            return comparison.worth_repeating(self.FIGURES, program, ["bert_encode_512"])
        self.assertEqual(names("transformers (sdpa, float32)"), ["bert_encode_512"])
        self.assertEqual(names("transformers (eager, float32)"), [])

    def test_memory_is_asked_of_the_default_and_the_peers(self):
        self.assertIn("t5_rss_4k", comparison.reader_rows(comparison.LECTERN, "t5"))
        self.assertIn("t5_rss_4k", comparison.reader_rows("transformers", "t5"))
        self.assertNotIn("t5_rss_4k", comparison.reader_rows(comparison.F32, "t5"))


class TinyModels(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.models = pathlib.Path(cls.folder.name)
        for family, config in TINY.items():
            random_models.write_model(cls.models / family, config)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_files_hold_what_their_headers_say(self):
        for family in TINY:
            path = self.models / family / "model.safetensors"
            header, begin = header_of(path)
            ends = [tensor["data_offsets"][1] for tensor in header.values()]
            self.assertEqual(begin + max(ends), path.stat().st_size)

    def test_shapes_of_base_models(self):
        def parameters(tensors):
            count = 0
            for _, shape, _ in tensors:
                size = 1
                for side in shape:
                    size *= side
                count += size
            return count
        # The published figures: 223 million; 110 million less the pooler's 0.6 million.
        self.assertEqual(parameters(random_models.t5_tensors(random_models.T5_BASE)), 222_903_552)
        self.assertEqual(parameters(random_models.bert_tensors(random_models.BERT_BASE)),
                         108_893_186)

    def test_rows_of_lectern(self):
        result = subprocess.run(
            [sys.executable, "-B", str(ROOT / "bench" / "compare_transformers"), "--lectern_only",
             "--json", "--rounds=1", "--runs=1", f"--models={self.models}", f"--bin={BIN}"],
            capture_output=True, text=True)
        self.assertEqual(result.returncode, 0, result.stderr)
        rows = {row["name"]: row["lectern"] for row in json.loads(result.stdout)["rows"]}
        names = [*comparison.T5_ROWS, *comparison.BERT_ROWS]
        for prefix in ("topk_", "f32_"):
            names += [prefix + name for name in names[:5] if name != "t5_rss_4k"]
        self.assertEqual(set(rows), set(names))
        self.assertGreater(min(rows.values()), 1)
        # The program alone is larger than the model.
        self.assertGreater(rows["t5_rss_4k"], 4e6)
        self.assertLess(rows["t5_rss_4k"], 1e9)

    def test_a_missing_model_is_named(self):
        result = subprocess.run([str(BIN / "bench_encoder"), f"--model={self.models / 'nothing'}"],
                                capture_output=True, text=True)
        self.assertEqual(result.returncode, 2)
        self.assertIn("nothing", result.stderr)


if __name__ == "__main__":
    unittest.main()
