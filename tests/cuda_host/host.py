"""The environment in which programs find the CUDA plugin for processors, its driver and its NVRTC."""
import os
import pathlib
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("TESSERA_BUILD", ROOT / "build" / "release")).resolve()
MODE = BUILD.name
LIBRARIES = BUILD / "lib" / "cuda_host"


def environment(settings="", build=BUILD, **more):
    """A copy of the environment with a device as TESSERA_CUDA_HOST says it."""
    env = dict(os.environ, TESSERA_CUDA_HOST=settings, LD_LIBRARY_PATH=str(build / "lib" / "cuda_host"), **more)
    # The fake stacks of AddressSanitizer would be made anew for every thread of a block.
    env["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":detect_stack_use_after_return=0"
    return env


def run(program, settings="", timeout=240, build=BUILD, **more):
    """What the test program says, and its exit status."""
    fixed = ["setarch", "-R"] if MODE == "tsan" else []
    done = subprocess.run([*fixed, str(build / "tests" / program)], env=environment(settings, build, **more),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout,
                          universal_newlines=True, errors="replace")
    return done.returncode, done.stdout


class HostTest(unittest.TestCase):
    def setUp(self):
        if not (LIBRARIES / "libcuda.so.1").exists():
            self.skipTest("the CUDA plugin for processors is not built (scons cuda=host)")

    def run_right(self, program, settings="", **more):
        status, text = run(program, settings, **more)
        self.assertEqual(status, 0, "%s with %s\n%s" % (program, settings or "the usual settings", text[-6000:]))
        self.assertNotIn("# skip", text)
        return text
