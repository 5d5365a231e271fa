#!/usr/bin/env python3
"""lectern-server --check, --json and --encode on the models of the golden folders, compared with
their expected results and with what a server says that has loaded them.

    check_e2e_test.py BIN_DIR GOLDEN_DIR

$LECTERN_GOLDEN_DIR replaces GOLDEN_DIR.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

from gguf_vocabulary import vocabulary_of

BIN = pathlib.Path(sys.argv[1])
GOLDEN = pathlib.Path(os.environ.get("LECTERN_GOLDEN_DIR") or sys.argv[2])
DECODERS = GOLDEN / "decoders"

SERVED, BAD_LINE, NOT_SERVED = 0, 2, 3
FIELDS = {"name": str, "path": str, "served": bool, "family": str, "kind": str, "format": str,
          "quantization": str, "parameters": int, "numerics": str, "kv_cache": str, "layers": int,
          "vocabulary": int, "context_length": int, "weight_bytes": int,
          "kv_bytes_per_1000_tokens": int}
PROMPT_FIELDS = {"prompt_format": str, "prompt_format_reason": str, "prompt_format_guessed": bool}


def server(*arguments, text=""):
    """(exit status, standard output, standard error) of lectern-server."""
    process = subprocess.run([BIN / "lectern-server", *map(str, arguments)], input=text.encode(),
                             capture_output=True, timeout=120, check=False)
    return process.returncode, process.stdout.decode(), process.stderr.decode()


def check(*flags, **models):
    """(exit status, one record a model) of --check --json."""
    status, out, _ = server("--check", "--json", *flags,
                            *(f"--model={name}={path}" for name, path in models.items()))
    return status, [json.loads(line) for line in out.splitlines()]


def encode(path, lines):
    return server("--check", "--encode", f"--model=m={path}", text="".join(f"{line}\n" for line in lines))


def expected_of(folder):
    return json.loads((folder / "expected.json").read_text(encoding="utf-8"))


def decoders():
    """(folder, expected results) of each case of a decoder."""
    cases = [(path.parent, expected_of(path.parent)) for path in sorted(DECODERS.glob("*/expected.json"))]
    return [(folder, expected) for folder, expected in cases if "variants" in expected]


def ggufs():
    """(file, expected ids of end tokens, expected results) of each GGUF file in one part."""
    return [(folder / gguf["files"][0], gguf.get("end_token_ids", expected["end_token_ids"]), expected)
            for folder, expected in decoders()
            for gguf in expected.get("gguf", {}).values()
            if isinstance(gguf, dict) and len(gguf["files"]) == 1]


def readers():
    return [path.parent for path in sorted(DECODERS.glob("*/expected.json"))
            if "inputs" in expected_of(path.parent)]


def t5_folders():
    return sorted(path.parent for path in GOLDEN.glob("**/config.json")
                  if json.loads(path.read_text(encoding="utf-8")).get("model_type") == "t5" and
                  (path.parent / "model.safetensors").exists())


def ids_as_text(string):
    """A document's text holds no special tokens."""
    return string.get("ids_plain", string["ids"])


def strings_of_gguf(expected):
    """The strings whose ids are the same with a GGUF file. That of Gemma has real blanks in its
    tokens of several blanks, so that blanks next to a literal U+2581 are no such token."""
    strings = expected["tokenizer"]["strings"]
    if not expected["model_type"].startswith("gemma"):
        return strings
    return [string for string in strings if "\u2581" not in string["text"]]


class CheckTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def assert_fields(self, record, fields):
        for name, kind in fields.items():
            self.assertIs(type(record.get(name)), kind, f"{name} of {record}")

    def test_every_decoder_folder_would_be_served(self):
        cases = decoders()
        models = {f"m{i}": folder for i, (folder, _) in enumerate(cases)}
        status, records = check(**models)
        self.assertEqual(status, SERVED, [record for record in records if not record["served"]])
        self.assertEqual([record["name"] for record in records], list(models))
        for record, (folder, expected) in zip(records, cases, strict=True):
            with self.subTest(case=folder.name):
                self.assert_fields(record, FIELDS | PROMPT_FIELDS)
                self.assertEqual(record["path"], str(folder))
                self.assertEqual(record["kind"], "generative")
                # A folder without safetensors is served as the GGUF file that it holds.
                has_weights = list(folder.glob("*.safetensors")) != []
                self.assertEqual(record["format"], "safetensors" if has_weights else "gguf")
                self.assertEqual(sorted(end["id"] for end in record["end_tokens"]),
                                 sorted(expected["end_token_ids"]))
                for end in record["end_tokens"]:
                    self.assertIs(type(end["text"]), str)
                self.assertNotEqual(record["prompt_format_reason"], "")
                config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
                config = config.get("text_config", config)
                self.assertEqual(record["layers"], config["num_hidden_layers"])
                self.assertEqual(record["vocabulary"], config["vocab_size"])
                # YaRN's factor may extend it.
                self.assertGreaterEqual(record["context_length"], config["max_position_embeddings"])
                # Pages of keys and values: 1,000 tokens of at least one byte a value, of at most
                # four and the rounding up to whole pages.
                heads = config["num_key_value_heads"]
                size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
                values = 1000 * 2 * record["layers"] * heads * size
                self.assertGreaterEqual(record["kv_bytes_per_1000_tokens"], values)
                self.assertLessEqual(record["kv_bytes_per_1000_tokens"], 8 * values)

    def test_every_gguf_file_would_be_served(self):
        cases = ggufs()
        models = {f"m{i}": path for i, (path, _, _) in enumerate(cases)}
        status, records = check(**models)
        self.assertEqual(status, SERVED, [record for record in records if not record["served"]])
        for record, (path, end_ids, _) in zip(records, cases, strict=True):
            with self.subTest(file=path.name):
                self.assert_fields(record, FIELDS | PROMPT_FIELDS)
                self.assertEqual(record["format"], "gguf")
                self.assertEqual(sorted(end["id"] for end in record["end_tokens"]), sorted(end_ids))

    def test_readers_and_encoder_decoders(self):
        for kind, folders in (("extractive", readers()), ("seq2seq", t5_folders())):
            self.assertTrue(folders, kind)
            served = 0
            for folder in folders:
                with self.subTest(folder=folder):
                    status, (record,) = check(m=folder)
                    if not record["served"]:  # a folder of tests that lack a tokenizer
                        self.assertEqual(kind, "seq2seq", record)
                        self.assertIn("tokenizer", record["error"])
                        continue
                    served += 1
                    self.assertEqual(status, SERVED)
                    self.assert_fields(record, FIELDS)
                    self.assertEqual(record["kind"], kind)
                    self.assertNotIn("prompt_format", record)
                    self.assertEqual("end_tokens" in record, kind == "seq2seq")
                    self.assertEqual(record["kv_bytes_per_1000_tokens"], 0)
            self.assertGreater(served, 0, kind)

    def test_a_refused_model_does_not_hide_the_others(self):
        folder = decoders()[0][0]
        absent = self.folder / "absent.gguf"
        status, records = check(first=folder, second=absent, third=folder)
        self.assertEqual(status, NOT_SERVED)
        self.assertEqual([record["served"] for record in records], [True, False, True])
        self.assertEqual(records[1], {"name": "second", "path": str(absent), "served": False,
                                      "code": "NOT_FOUND", "error": records[1]["error"]})
        self.assertIn("no such file or folder", records[1]["error"])

    def test_text_says_the_same_as_json(self):
        for path in (decoders()[0][0], readers()[0]):
            _, (record,) = check(m=path)
            status, out, _ = server("--check", f"--model=m={path}")
            self.assertEqual(status, SERVED)
            self.assertTrue(out.startswith(f"m ({path}): would be served\n"), out)
            for field in ("family", "kind", "numerics", "quantization", "parameters",
                          "context_length", "vocabulary"):
                self.assertIn(str(record[field]), out)
            for end in record.get("end_tokens", []):
                self.assertIn(f"{end['text']} ({end['id']})", out)
            self.assertIn(record.get("prompt_format_reason", ""), out)
        status, out, _ = server("--check", f"--model=m={self.folder}")
        self.assertEqual(status, NOT_SERVED)
        self.assertIn("would not be served\n  INVALID_ARGUMENT: ", out)

    def test_settings_of_the_command_line_count(self):
        folder, _ = decoders()[0]
        _, (plain,) = check(m=folder)
        length = plain["context_length"] // 2
        _, (record,) = check(f"--context_length=m={length}", "--prompt_format=m=completion",
                             "--numerics=f32", m=folder)
        self.assertEqual(record["context_length"], length)
        self.assertEqual(record["prompt_format"], "completion")
        self.assertEqual(record["numerics"], "f32")
        status, (record,) = check(f"--context_length=m={2 * plain['context_length']}", m=folder)
        self.assertEqual((status, record["served"]), (NOT_SERVED, False))

    def test_types_that_blocks_round(self):
        path = DECODERS / "gguf-blocks" / "gguf-blocks.blocks.gguf"
        _, (record,) = check("--numerics=blocks", m=path)
        self.assertEqual(record["rounded_types"], ["BF16", "F16", "Q2_K"])
        _, out, _ = server("--check", "--numerics=blocks", f"--model=m={path}")
        self.assertIn("BF16, F16, Q2_K rounded to 8 bits", out)
        _, (record,) = check("--numerics=int8", m=path)
        self.assertNotIn("rounded_types", record)

    def test_flags_that_need_check(self):
        folder = decoders()[0][0]
        for flags in (["--json"], ["--encode"], ["--check", "--encode", "--json"],
                      ["--check", "--encode", f"--model=n={folder}"]):
            self.assertEqual(server(f"--model=m={folder}", *flags)[0], 2, flags)


class LoadedTest(unittest.TestCase):
    def served(self, models, *flags):
        """Returns what a server says about the models that it has loaded, by name."""
        with tempfile.TemporaryDirectory() as name:
            ports = pathlib.Path(name) / "ports.json"
            log = pathlib.Path(name) / "log"
            with open(log, "wb") as out:
                process = subprocess.Popen(
                    [BIN / "lectern-server", "--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0",
                     f"--port_file={ports}", "--kv_bytes=128MiB", "--lame_duck=0s", *flags,
                     *(f"--model={name}={path}" for name, path in models.items())],
                    stdout=out, stderr=out)
            try:
                while not (ports.exists() and ports.read_text()):
                    self.assertIsNone(process.poll(), log.read_text())
                    time.sleep(0.05)
                target = f"--server=127.0.0.1:{json.loads(ports.read_text())['grpc']}"
                while True:
                    status = subprocess.run([BIN / "lectern", target, "status", "--serving"],
                                            capture_output=True, check=False)
                    if status.returncode == 0:
                        break
                    self.assertIsNone(process.poll(), log.read_text())
                    time.sleep(0.05)
                out = subprocess.run([BIN / "lectern", target, "models", "--json"], check=True,
                                     capture_output=True).stdout.decode()
            finally:
                process.terminate()
                process.wait(60)
        return {record["name"]: record for record in map(json.loads, out.splitlines())}

    def test_a_server_says_the_same_of_the_models_that_it_has_loaded(self):
        paths = [folder for folder, _ in decoders()] + [path for path, _, _ in ggufs()] + readers()
        paths += [folder for folder in t5_folders() if check(m=folder)[0] == SERVED]
        models = {f"m{i}": path for i, path in enumerate(paths)}
        loaded = self.served(models)
        self.assertEqual(loaded.keys(), models.keys())
        for described in check(**models)[1]:
            with self.subTest(path=described["path"]):
                self.assert_agree(described, loaded[described["name"]])

    def assert_agree(self, described, loaded):
        for field in ("family", "format", "quantization", "numerics", "layers", "vocabulary"):
            self.assertEqual(described[field], loaded[field], field)
        self.assertEqual(described["kind"].upper(), loaded["kind"].removeprefix("KIND_"))
        self.assertEqual(described["parameters"], int(loaded["parameters"]))
        self.assertEqual(described["context_length"], loaded["window"])
        self.assertEqual(described["weight_bytes"], int(loaded["weightBytes"]))
        self.assertGreater(float(loaded["loadTime"].removesuffix("s")), 0)
        for field, name in (("prompt_format", "promptFormat"), ("no_answer_threshold", "noAnswerThreshold"),
                            ("prompt_format_reason", "promptFormatReason")):
            self.assertEqual(described.get(field), loaded.get(name), field)


class EncodeTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def assert_ids(self, path, strings):
        lines = [json.dumps(string["text"], ensure_ascii=i % 2 == 0) for i, string in enumerate(strings)]
        status, out, errors = encode(path, lines)
        self.assertEqual((status, errors), (0, ""))
        got = [json.loads(line) for line in out.splitlines()]
        self.assertEqual(len(got), len(strings))
        for ids, string in zip(got, strings, strict=True):
            self.assertEqual(ids, ids_as_text(string), string["text"])

    def test_strings_of_every_decoder(self):
        special = 0
        for folder, expected in decoders():
            strings = expected["tokenizer"]["strings"]
            if not list(folder.glob("*.safetensors")):
                strings = strings_of_gguf(expected)
            special += sum("ids_plain" in string for string in strings)
            with self.subTest(case=folder.name):
                self.assertTrue(any(not string["text"].isascii() for string in strings))
                self.assert_ids(folder, strings)
        self.assertGreater(special, 0)

    def test_strings_of_every_reader(self):
        for folder in readers():
            with self.subTest(case=folder.name):
                self.assert_ids(folder, expected_of(folder)["tokenizer"]["strings"])

    def test_a_vocabulary_alone_and_an_unknown_architecture(self):
        for path, _, expected in ggufs():
            with self.subTest(file=path.name):
                data = path.read_bytes()
                strings = expected["tokenizer"]["strings"]
                vocabulary, unknown = self.folder / "vocabulary.gguf", self.folder / "unknown.gguf"
                vocabulary.write_bytes(vocabulary_of(data))
                unknown.write_bytes(vocabulary_of(data, "no-such-architecture"))
                status, records = check(vocabulary=vocabulary, unknown=unknown)
                self.assertEqual(status, NOT_SERVED)
                self.assertIn("holds a vocabulary alone", records[0]["error"])
                self.assertEqual(records[1]["code"], "UNIMPLEMENTED")
                self.assertIn("'no-such-architecture' is not supported", records[1]["error"])
                outputs = [encode(each, [json.dumps(string["text"]) for string in strings])
                           for each in (path, vocabulary, unknown)]
                self.assertEqual(outputs[0][0], 0, outputs[0][2])
                self.assertEqual(outputs[1:], outputs[:1] * 2)

    def test_a_bad_line(self):
        folder = decoders()[0][0]
        for bad in ("no string", "[1]", "", '"open', '"\\ud800"', "17"):
            status, out, errors = encode(folder, ['"first"', '"second"', bad, '"fourth"'])
            self.assertEqual(status, BAD_LINE, bad)
            self.assertEqual(len(out.splitlines()), 2, bad)
            self.assertIn("--encode: line 3 is not a JSON string", errors)

    def test_a_file_that_cannot_be_read(self):
        status, out, errors = encode(self.folder / "absent.gguf", ['"text"'])
        self.assertEqual((status, out), (NOT_SERVED, ""))
        self.assertIn("no such file or folder", errors)


if __name__ == "__main__":
    if not decoders():
        print(f"no decoders in {DECODERS}")
        sys.exit(1 if os.environ.get("CI") == "true" else 77)
    unittest.main(argv=sys.argv[:1])
