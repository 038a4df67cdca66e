"""The scripts that are for a machine with a GPU, run on an emulated device: they work, and without a GPU they
say that they skip."""
# tests/run: timeout 300
import json
import os
import subprocess
import sys
import unittest

from cluster import BUILD, SLOW, environment

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def run(script, *arguments):
    return subprocess.run([sys.executable, os.path.join(TESTS, script), *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, timeout=240 * SLOW,
                          env=dict(environment(), TESSERA_BUILD=BUILD))


def has_gpu():
    bare = os.path.join(BUILD, "tests", "bench", "gpu_bare")
    return os.path.exists(bare) and subprocess.run([bare], stdout=subprocess.DEVNULL,
                                                   stderr=subprocess.DEVNULL).returncode != 77


class Scripts(unittest.TestCase):
    def test_tests(self):
        done = run("gpu", "--device", "emulated", "--only", "cluster,faults,checkers")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        last = done.stdout.splitlines()[-1]
        self.assertRegex(last, r"^10 passed, 0 failed, 7 skipped$", done.stdout)
        self.assertIn("skipped  checkers  memcheck: kernels", done.stdout)

    def test_wrong_settings(self):
        for script in ("gpu", "bench/gpu"):
            done = run(script, "--device", "emulated", "--only", "nothing")
            self.assertEqual(done.returncode, 2)
            self.assertIn("no part nothing", done.stderr)

    def test_bench(self):
        done = run("bench/gpu", "--device", "emulated", "--only", "resident,tf32x3,bits")
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads(done.stdout.splitlines()[-1])
        self.assertEqual(result["device"], "emulated")
        self.assertEqual(result["failures"], [])
        self.assertGreater(result["figures"]["f64_engine"]["median"], 0)
        self.assertEqual([bar["met"] for bar in result["bars"]], [True])
        self.assertTrue(any("three TF32" in note for note in result["notes"]["tf32x3"]))

    @unittest.skipIf(has_gpu(), "there is a GPU here")
    def test_without_a_gpu(self):
        done = run("gpu")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout.splitlines()[-1], r"^0 passed, 0 failed, [1-9][0-9]* skipped$")
        done = run("bench/gpu", "--quick")
        self.assertEqual(done.returncode, 77, done.stderr)
        self.assertIn("skipped", json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    unittest.main()
