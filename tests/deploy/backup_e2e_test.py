"""The backup of docs/guides/operations.md: a copy of the cache folder taken while the server works serves the same
documents elsewhere, and a damaged copy costs time, not truth.

    backup_e2e_test.py SOURCE_DIR BIN_DIR
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[1] / "testing"))
import tools  # noqa: E402
from processes import CommandLine, Server, get, golden_model, wait_for  # noqa: E402

SOURCE, BIN = (pathlib.Path(a) for a in sys.argv[1:3])


def metric(server, name):
    text = get(server.http_port, "/metrics")[1]
    return sum(float(v) for v in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.M))


def ask(line, document):
    events = line.good("ask", document, "Which line?", "--max_new_tokens=4", "--json").splitlines()
    answer = json.loads(events[-1])["answer"]
    return answer["text"], answer["evidence"]


class BackupTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def serve(self, name):
        (self.folder / name / "cache").mkdir(parents=True, exist_ok=True)
        server = Server(BIN, self.folder / name, "server", golden_model(SOURCE),
                        ["--threads=1", f"--cache_dir={self.folder / name}/cache/documents"])
        self.addCleanup(server.stop)
        server.wait_until_ready()
        return server, CommandLine(BIN, server)

    def test_copy_and_restore(self):
        first, line = self.serve("first")
        path = self.folder / "text.txt"
        path.write_text("The first line.\n" * 20, encoding="utf-8")
        document = line.good("upload", str(path))
        answer = ask(line, document)
        cache = self.folder / "first" / "cache"
        wait_for("the files", lambda: list(cache.glob("documents/*.meta")) and
                 list(cache.glob("documents/*.pages")))
        for command in self.commands(self.folder):
            subprocess.run(command, check=True, cwd=self.folder)
        self.assertFalse((self.folder / "second" / "cache" / "documents" / "lock").exists())

        second, line = self.serve("second")
        self.assertIn(document, line.good("documents"))
        self.assertEqual(ask(line, document), answer)
        self.assertEqual(metric(second, "lectern_document_reload_seconds_count"), 1)
        self.assertEqual(metric(second, "lectern_document_cache_rejected_total"), 0)
        second.stop()

        pages = next((self.folder / "second").rglob("*.pages"))
        data = bytearray(pages.read_bytes())
        data[-1] ^= 1
        pages.write_bytes(data)
        (self.folder / "second" / "server").rename(self.folder / "second" / "server_before")
        third, line = self.serve("second")
        self.assertEqual(ask(line, document), answer)
        self.assertEqual(metric(third, "lectern_document_cache_rejected_total"), 1)

    def commands(self, folder):
        """The two lines of docs/guides/operations.md, from one folder to the other."""
        page = (SOURCE / "docs" / "guides" / "operations.md").read_text(encoding="utf-8")
        lines = re.findall(r"^    (tar .*?)(?: +#.*)?$", page, re.M)
        self.assertEqual(len(lines), 2)
        (folder / "second" / "cache").mkdir(parents=True)
        for line, place in zip(lines, ["first", "second"]):
            yield ["bash", "-c", line.replace("/var/cache/lectern", str(folder / place / "cache"))]


if __name__ == "__main__":
    if not golden_model(SOURCE).exists():
        sys.exit(tools.skip(f"no model at {golden_model(SOURCE)}"))
    unittest.main(argv=sys.argv[:1])
