"""What `scons install` leaves behind, as a stranger's build uses it: pkg-config, shared and static, names of one's own."""
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from cluster import BUILD, ROOT, SLOW, environment

# Names that the library's own files have, too: they are nobody's business there.
CLASHES = ["submit", "emit", "balance", "note", "serve", "failed", "begin", "place", "report", "find_layer"]

PROGRAM = """
#include <stdio.h>
#include <tessera.h>
%s
int main(void)
{
    tess_session *s = tess_session_open(TESS_EMBEDDED, &(tess_session_options){.workers = 1});
    double sum = 0;
    tess_array *a = tess_ones(s, TESS_SHAPE(300, 200), TESS_F64, TESS_CHUNKS(100, 100));
    tess_status status = tess_read_scalar(tess_sum(tess_matmul(a, tess_transpose(a)), TESS_ALL, false), &sum);
    printf("%%g %%d\\n", sum, %s);
    tess_session_close(s);
    return status;
}
"""


class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.prefix = tempfile.mkdtemp(prefix="tessera-install.")
        done = subprocess.run(["scons", "-Q", f"build={os.path.dirname(BUILD)}", f"mode={os.path.basename(BUILD)}",
                               "cuda=off", "install", f"prefix={cls.prefix}"], capture_output=True, text=True, cwd=ROOT,
                              timeout=100 * SLOW, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.prefix)

    def flags(self, *options):
        done = subprocess.run(["pkg-config", *options, "tessera"], capture_output=True, text=True, timeout=20 * SLOW,
                              env=environment({"PKG_CONFIG_PATH": f"{self.prefix}/lib/pkgconfig"}), check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.split()

    def build_and_run(self, flags):
        functions = "\n".join(f"int {name}(int x) {{ return x + {i}; }}" for i, name in enumerate(CLASHES))
        source, program = f"{self.prefix}/program.c", f"{self.prefix}/program"
        with open(source, "w", encoding="utf-8") as file:
            file.write(PROGRAM % (functions, " + ".join(f"{name}(0)" for name in CLASHES)))
        built = subprocess.run(["cc", "-std=c11", source, *flags, "-o", program], capture_output=True, text=True,
                               timeout=60 * SLOW, check=False)
        self.assertEqual(built.returncode, 0, built.stderr)
        done = subprocess.run([program], capture_output=True, text=True, timeout=60 * SLOW, check=False,
                              env=environment({"LD_LIBRARY_PATH": f"{self.prefix}/lib"}))
        self.assertEqual(done.returncode, 0, done.stderr)
        count = len(CLASHES)
        self.assertEqual(done.stdout, f"{300 * 300 * 200:g} {count * (count - 1) // 2}\n")
        return subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout

    def test_shared(self):
        self.assertIn("libtessera.so", self.build_and_run(self.flags("--cflags", "--libs")))

    def test_static(self):
        flags = [flag.replace("-ltessera", "-l:libtessera.a") for flag in self.flags("--static", "--cflags", "--libs")]
        self.assertNotIn("libtessera.so", self.build_and_run(flags))

    def test_only_public_names(self):
        for options, file in ((["-g"], "libtessera.a"), (["-D"], "libtessera.so")):
            listed = subprocess.run(["nm", "--defined-only", *options, f"{self.prefix}/lib/{file}"], capture_output=True,
                                    text=True, check=True).stdout
            names = set(re.findall(r"^[0-9a-f]+ [A-Za-z] (\S+)$", listed, re.MULTILINE))
            self.assertIn("tess_matmul", names)
            self.assertEqual({name for name in names if not name.startswith("tess_")}, set(), file)

    def test_command_is_there(self):
        done = subprocess.run([f"{self.prefix}/bin/tessera", "--version"], capture_output=True, text=True, check=True,
                              env=environment(), timeout=20 * SLOW)
        self.assertTrue(done.stdout.startswith("tessera "))


if __name__ == "__main__":
    unittest.main()
