"""The scripts of the benches as a user meets them: help, a name that nothing has, the last line of output."""
import json
import os
import subprocess
import sys
import unittest

from cluster import BUILD, ROOT

BENCHES = ("tasks", "dag", "chain", "submit", "stencil", "balance", "matmul", "rechunk", "scale", "handover", "transfer",
           "loops", "many", "gpu", "all")


def bench(name, *options):
    return subprocess.run([sys.executable, os.path.join(ROOT, "tests", "bench", name), *options], capture_output=True,
                          text=True, timeout=60, env=dict(os.environ, TESSERA_BUILD=BUILD))


class BenchScripts(unittest.TestCase):
    def test_help_is_whole(self):
        for name in BENCHES:
            with self.subTest(name):
                done = bench(name, "--help")
                self.assertEqual(done.returncode, 0, done.stderr)
                description = done.stdout.split("\n\n")[1].strip()
                self.assertTrue(description.endswith("."), description)
                self.assertIn("--quick", done.stdout)

    def test_a_name_that_nothing_has_measures_nothing(self):
        for command in (["dag", "--no-peers"], ["balance"], ["matmul", "--no-dask", "--no-pdgemm"], ["scale"], ["rechunk", "--no-dask"]):
            with self.subTest(command[0]):
                done = bench(*command, "--check", "--only", "no-such-name")
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertIn("'no-such-name'", done.stderr)
                self.assertEqual(done.stdout, "")

    def test_last_line_is_json(self):
        done = bench("chain", "--quick", "--no-peers", "--tasks", "100", "--only", "embedded")
        self.assertEqual(done.returncode, 0, done.stderr)
        said = json.loads(done.stdout.splitlines()[-1])
        self.assertEqual(said["bench"], "chain")
        self.assertTrue(said["figures"] and all("embedded" in name for name in said["figures"]), said["figures"])
        for figure in said["figures"].values():
            self.assertGreater(figure["median"], 0)


if __name__ == "__main__":
    unittest.main()
