"""Runs ./quickstart --check on models of the project, in a copy of the source folder whose programs
are built and whose packages are installed already.

    quickstart_run_test.py SOURCE_DIR BIN_DIR
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE, BIN = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
READER = SOURCE / "models" / "readers" / "bert"
GOLDEN = SOURCE / "tests" / "golden" / "decoders"


def gguf_file():
    """The GGUF file with the longest context: the questions and their answers need some room."""
    files = [path for path in sorted(GOLDEN.glob("*/*.gguf")) if "-of-" not in path.name]
    out = subprocess.run([BIN / "lectern-server", "--check", "--json",
                          *(f"--model=m{i}={path}" for i, path in enumerate(files))],
                         capture_output=True, check=True).stdout
    records = [json.loads(line) for line in out.splitlines()]
    return pathlib.Path(max(records, key=lambda record: record["context_length"])["path"])


class QuickstartRunTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.tree = self.folder / "tree"
        (self.tree / "cmake").mkdir(parents=True)
        (self.tree / "build" / "release").mkdir(parents=True)
        (self.tree / "build" / "release" / "build.ninja").touch()
        (self.tree / "build" / "release" / "bin").symlink_to(BIN)
        (self.tree / "docs").symlink_to(SOURCE / "docs")
        shutil.copy(SOURCE / "quickstart", self.tree)
        shutil.copy(SOURCE / "cmake" / "build_env", self.tree / "cmake")
        self.script(self.tree / "cmake" / "setup", f'echo "$@" >{self.folder}/parts')
        self.script(self.folder / "programs" / "cmake", "exit 0")

    @staticmethod
    def script(path, text):
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        path.chmod(0o755)

    def quickstart(self, *arguments, cwd=None):
        path = f"{self.folder / 'programs'}:{os.environ['PATH']}"
        return subprocess.run([self.tree / "quickstart", *arguments], cwd=cwd or self.folder,
                              env={**os.environ, "PATH": path}, capture_output=True, text=True,
                              timeout=280, check=False)

    def assert_answers(self, process):
        self.assertEqual(process.returncode, 0, process.stdout + process.stderr)
        self.assertIn("3 questions answered, the server stopped cleanly", process.stdout)

    def test_a_folder_by_an_absolute_and_by_a_relative_path(self):
        self.assert_answers(self.quickstart("--check", f"--model={READER}"))
        self.assert_answers(self.quickstart("--model=readers/bert/", "--check", cwd=READER.parents[1]))
        # The default model is not downloaded.
        self.assertEqual((self.folder / "parts").read_text(encoding="utf-8").split(), ["build", "protos"])

    def test_a_gguf_file_through_a_link_with_a_space(self):
        (self.folder / "my model.gguf").symlink_to(gguf_file())
        self.assert_answers(self.quickstart("--check", "--model=my model.gguf"))

    def test_a_folder_that_holds_one_gguf_file(self):
        (self.folder / "download").mkdir()
        shutil.copy(gguf_file(), self.folder / "download")
        self.assert_answers(self.quickstart("--check", "--model=download"))

    def test_what_cannot_be_served_is_refused_with_the_reason(self):
        (self.folder / "empty").mkdir()
        process = self.quickstart("--check", "--model=empty")
        self.assertEqual(process.returncode, 1, process.stdout)
        self.assertRegex(process.stderr, "the server (did not start|stopped while loading)")
        self.assertIn("holds no model", process.stderr)
        for argument, reason in (("--model=absent.gguf", "there is no such file or folder"),
                                 ("--model=", "unknown option"), ("--models=x", "unknown option")):
            process = self.quickstart(argument)
            self.assertEqual(process.returncode, 2, argument)
            self.assertIn(reason, process.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
