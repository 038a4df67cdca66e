"""Every mutant still applies to the tree: looking for all of them takes too long for each run (tests/sim/mutate,
tests/cuda_host/mutate), and one that the code has moved away from would only be missed then."""
import glob
import os
import shutil
import subprocess
import unittest

from cluster import ROOT


@unittest.skipUnless(shutil.which("patch"), "no patch (Debian: patch)")
class Mutants(unittest.TestCase):
    def test_every_patch_applies(self):
        patches = sorted(glob.glob(os.path.join(ROOT, "tests", "*", "mutants", "*.patch")))
        self.assertTrue(patches)
        for path in patches:
            with self.subTest(os.path.relpath(path, ROOT)):
                with open(path, encoding="utf-8") as patch:
                    done = subprocess.run(["patch", "--dry-run", "--silent", "--force", "-p1", "-d", ROOT], stdin=patch,
                                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                self.assertEqual(done.returncode, 0, done.stdout)


if __name__ == "__main__":
    unittest.main()
