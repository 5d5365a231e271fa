"""Configures a build folder with the flags of ./quickstart, without LibTorch, and then with those of
./test, and checks which targets each of them has.

    quickstart_test.py SOURCE_DIR DEPS_DIR
"""

import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

SOURCE, DEPS = (pathlib.Path(argument) for argument in sys.argv[1:3])
# Programs and libraries that no answer needs.
ONLY_FOR_TESTS = {"lectern_f32", "measure_layer", "bench_attention", "client_test"}


def flags_of(script):
    """The flags that the script configures the release preset with."""
    text = (SOURCE / script).read_text(encoding="utf-8").replace("\\\n", "")
    return re.search(r"^ *configure release((?: +-D\w+=\w+)+) *$", text, re.M)[1].split()


class QuickstartTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def targets(self, deps, flags):
        build = self.folder / "build"
        process = subprocess.run(
            ["cmake", "-S", SOURCE, "-B", build, "-G", "Ninja", f"-DLECTERN_DEPS_DIR={deps}", *flags],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if process.returncode != 0:
            return process.stdout
        listing = subprocess.run(["ninja", "-C", build, "-t", "targets", "all"], check=True,
                                 stdout=subprocess.PIPE, text=True).stdout
        return set(re.findall(r"^([\w-]+): phony$", listing, re.M))

    def test_tests_can_follow_a_quickstart_in_the_same_folder(self):
        deps = self.folder / "deps"
        deps.mkdir()
        (deps / "googleapis").symlink_to(DEPS / "googleapis")
        quick = self.targets(deps, flags_of("quickstart"))
        self.assertLessEqual({"lectern-server", "lectern"}, quick)
        self.assertEqual(quick & ONLY_FOR_TESTS, set())
        # Not with the CUDA library, whose compiler may be missing here.
        flags = [flag for flag in flags_of("test") if "CUDA" not in flag]
        self.assertLessEqual(ONLY_FOR_TESTS | {"lectern-server", "lectern"}, self.targets(DEPS, flags))

    def test_tests_without_the_fp32_reference_are_refused(self):
        output = self.targets(DEPS, ["-DLECTERN_BUILD_F32=OFF"])
        self.assertIn("cmake/setup torch", output)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
