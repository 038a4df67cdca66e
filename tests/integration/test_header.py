"""tessera.h as a stranger's compiler sees it: standards of C and C++, all warnings, constants, sizes of other types, and
the programs in its comments."""
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from cluster import ROOT, SLOW

HEADER = os.path.join(ROOT, "client", "tessera.h")
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]

C_PROGRAM = """
#include <tessera.h>
static const tess_shape fixed = TESS_SHAPE_INIT(3, 4);
tess_array *use(tess_session *s, size_t rows, int columns);
tess_array *use(tess_session *s, size_t rows, int columns)
{
    tess_array *a = tess_zeros(s, TESS_SHAPE((int64_t)rows, columns), TESS_F64, TESS_AUTO);
    tess_array *b = tess_ones(s, fixed, TESS_F32, TESS_CHUNKS(2, -1));
    tess_array *c = tess_full(s, TESS_SHAPE_0D, TESS_I8, 1, TESS_AUTO);
    return tess_add(c, tess_matmul(tess_slice(a, TESS_SLICES(TESS_RANGE(0, 3), TESS_WHOLE)),
                                   tess_slice(b, TESS_SLICES(TESS_STEP(0, TESS_END, 2)))));
}
"""

CXX_PROGRAM = """
#include <cstddef>
#include <vector>
#include <tessera.h>
static const tess_shape fixed = TESS_SHAPE(3, 4);
static const tess_shape plain = TESS_SHAPE_INIT(3, 4);
tess_array *use(tess_session *s, const std::vector<double> &v);
tess_array *use(tess_session *s, const std::vector<double> &v)
{
    unsigned columns = 7;
    tess_array *a = tess_from_memory(s, v.data(), TESS_SHAPE(v.size()), TESS_F64, TESS_AUTO);
    tess_array *b = tess_ones(s, fixed, TESS_F32, TESS_CHUNKS(v.size(), -1));
    tess_array *c = tess_ones(s, TESS_SHAPE(v.size(), columns, 'a', sizeof(int)), TESS_F32, TESS_AUTO);
    tess_array *d = tess_slice(c, TESS_SLICES(TESS_RANGE(0, v.size()), TESS_WHOLE, TESS_STEP(0, TESS_END, columns)));
    return tess_add(tess_add(a, b), tess_add(d, tess_zeros(s, plain, TESS_F64, TESS_AUTO)));
}
"""


def compilers(names):
    return [name for name in names if shutil.which(name)]


def examples():
    """The indented pieces of program in the header's comments."""
    with open(HEADER, encoding="utf-8") as file:
        text = file.read()
    pieces = re.findall(r"(?:^ \*     .*\n(?: \*\n(?= \*     ))?)+", text, re.MULTILINE)
    return [piece for piece in (re.sub(r"^ \* ?", "", piece, flags=re.MULTILINE) for piece in pieces) if ";" in piece]


class Header(unittest.TestCase):
    def compiles(self, compiler, standard, text, suffix, warnings=None):
        with tempfile.TemporaryDirectory() as folder:
            source = os.path.join(folder, f"program{suffix}")
            with open(source, "w", encoding="utf-8") as file:
                file.write(text)
            flags = WARNINGS if warnings is None else warnings
            done = subprocess.run([compiler, f"-std={standard}", *flags, f"-I{ROOT}/client", "-fsyntax-only", source],
                                  capture_output=True, text=True, timeout=60 * SLOW, check=False)
            self.assertEqual(done.returncode, 0, f"{compiler} -std={standard}\n{text}\n{done.stderr}")

    def test_c(self):
        for compiler in compilers(["gcc", "clang"]):
            for standard in ("c99", "c11", "gnu17"):
                self.compiles(compiler, standard, C_PROGRAM, ".c")

    def test_cxx(self):
        found = compilers(["g++", "clang++"])
        if not found:
            self.skipTest("no C++ compiler is installed")
        for compiler in found:
            for standard in ("c++11", "c++20"):
                self.compiles(compiler, standard, CXX_PROGRAM, ".cc")

    def test_programs_in_comments(self):
        pieces = examples()
        self.assertGreaterEqual(len(pieces), 3)
        for piece in pieces:
            # What a piece uses and does not declare is given.
            given = ["tess_session *session", "int steps", "double *data", "uint64_t bytes"]
            given += [f"tess_array *{name}" for name in "abcwxy"]
            given = [each for each in given if f"{each} =" not in piece and f"{each};" not in piece]
            text = "#include <stdio.h>\n#include <tessera.h>\ntess_array *gradient(tess_array *w);\n"
            text += f"void piece({', '.join(given)});\nvoid piece({', '.join(given)})\n{{\n{piece}}}\n"
            self.compiles("gcc", "c11", text.replace("…", ""), ".c", ["-Wall", "-Wextra", "-Wno-unused",
                                                                   "-Wno-unused-parameter", "-Werror"])


if __name__ == "__main__":
    unittest.main()
