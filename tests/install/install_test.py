"""Installs the project into a temporary prefix, builds another project against the installed package
and asks an installed server a question with it.

    install_test.py SOURCE_DIR BUILD_DIR CXX_COMPILER SANITIZERS
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "testing"))
from processes import CommandLine, Server, golden_model  # noqa: E402

SOURCE, BUILD, COMPILER = (pathlib.Path(argument) for argument in sys.argv[1:4])
SANITIZERS = sys.argv[4]


def run(*command, **options):
    """The output; fails with it unless the command succeeds."""
    process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             check=False, **options)
    assert process.returncode == 0, (command, process.stdout)
    return process.stdout


class InstallTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        cls.prefix = cls.folder / "prefix"
        run("cmake", "--install", str(BUILD), "--prefix", str(cls.prefix))

    def serve(self):
        server = Server(self.prefix / "bin", self.folder, self.id(), golden_model(SOURCE),
                        ["--threads=1"])
        self.addCleanup(server.stop)
        server.wait_until_ready()
        return server

    def test_headers_are_the_clients_alone(self):
        include = self.prefix / "include"
        headers = {str(path.relative_to(include)) for path in include.rglob("*") if path.is_file()}
        public = {f"lectern/{path.name}"
                  for path in (SOURCE / "client/cpp/include/lectern").glob("*.h")}
        self.assertGreaterEqual(len(public), 3)
        generated = {header for header in headers if re.fullmatch(r"lectern/v1/\w+(\.grpc)?\.pb\.h", header)}
        self.assertIn("lectern/v1/document_qa.grpc.pb.h", generated)
        self.assertEqual(headers, public | generated | {"lectern/error_details.h"})

    def test_another_project_asks_a_question(self):
        build = self.folder / "build"
        run("cmake", "-S", str(SOURCE / "tests/install/consumer"), "-B", str(build), "-G", "Ninja",
            f"-DCMAKE_PREFIX_PATH={self.prefix}", f"-DCMAKE_CXX_COMPILER={COMPILER}")
        run("cmake", "--build", str(build))
        server = self.serve()
        text, question = "The first valve failed at noon.\n" * 20, "Which valve failed?"
        answer = run(str(build / "consumer"), server.address, text, question)
        # The installed command line gets the same answer.
        path = self.folder / "text.txt"
        path.write_text(text, encoding="utf-8")
        line = CommandLine(self.prefix / "bin", server)
        events = line.good("ask", f"--file={path}", question, "--max_new_tokens=4", "--json")
        self.assertEqual(answer, json.loads(events.splitlines()[-1])["answer"]["text"])
        self.assertNotEqual(answer, "")
        refused = subprocess.run([build / "consumer", server.address, "", question], check=False,
                                 stdout=subprocess.PIPE, text=True)
        self.assertEqual((refused.returncode, refused.stdout), (1, "DOCUMENT_NOT_FOUND"))

    def test_fp32_without_its_library_says_how_to_build_it(self):
        process = subprocess.run(
            [self.prefix / "bin" / "lectern-server", f"--model=test={golden_model(SOURCE)}",
             "--numerics=f32", "--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
        self.assertNotEqual(process.returncode, 0)
        self.assertIn("liblectern_f32.so", process.stdout)
        self.assertIn("cmake/setup torch", process.stdout)
        self.assertIn("-DLECTERN_BUILD_F32=ON", process.stdout)


if __name__ == "__main__":
    if SANITIZERS:
        print(f"skipped: programs built with -fsanitize={SANITIZERS} cannot link the installed client")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1])
