"""A program that links Tessera may call its own functions what it likes: all that the libraries define begins with tess."""
import os
import re
import shutil
import subprocess
import unittest

from cluster import BUILD

# Nobody else links what serves tests: their helpers, and what stands in for CUDA's own libraries.
FOR_TESTS = (os.path.join(BUILD, "obj", "tests") + "/", os.path.join(BUILD, "lib", "cuda_host") + "/")
OF_SANITIZERS = ("__asan_", "__odr_asan", "__tsan_", "__ubsan_", "__sanitizer_", "__start_", "__stop_", "asan.", "tsan.")

# Copies of C++'s own templates in a plugin, which any other copy may take the place of.
OF_CXX = re.compile(r"_Z(T[ISV]|Z)?N?St")


def libraries():
    """Every archive and shared library of the build, under its own name."""
    found = []
    for folder, _, files in os.walk(BUILD):
        if not (folder + "/").startswith(FOR_TESTS):
            paths = [os.path.join(folder, file) for file in sorted(files) if file.endswith(".a") or ".so" in file]
            found += [path for path in paths if not os.path.islink(path)]
    return found


def defined(path):
    """(symbol, its kind) of all that the library's users see."""
    what = [] if path.endswith(".a") else ["--dynamic"]
    text = subprocess.run(["nm", "--extern-only", "--defined-only", "--portability", *what, path],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout
    rows = [line.split() for line in text.splitlines()]
    return [(row[0], row[1]) for row in rows if len(row) >= 2 and not row[0].endswith(":")]


@unittest.skipUnless(shutil.which("nm"), "no nm (Debian: binutils)")
class Symbols(unittest.TestCase):
    def test_every_external_symbol_begins_with_tess(self):
        paths = libraries()
        self.assertTrue(any(path.endswith(".a") for path in paths) and any(".so" in path for path in paths), paths)
        for path in paths:
            with self.subTest(library=os.path.relpath(path, BUILD)):
                symbols = defined(path)
                self.assertTrue(symbols)
                self.assertEqual([name for name, kind in symbols
                                  if not name.startswith("tess") and not name.startswith(OF_SANITIZERS)
                                  and not (kind in "WVu" and OF_CXX.match(name))], [])


if __name__ == "__main__":
    unittest.main()
