"""Each wrong input: a message that names thing, cause and remedy, a non-zero exit within 10 s, nothing half-written."""
import os
import struct
import subprocess
import tempfile
import time
import unittest

import numpy

from cluster import SLOW, TESSERA, Cluster, environment, example, run_example


def header(descr="'<f8'", order="False", shape="(4, 4)", length=None, version=(1, 0)):
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    size = len(text) if length is None else length
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version[0] == 1 else "<I", size) + text


class BadInput(unittest.TestCase):
    def refused(self, *options, words=(), seconds=10):
        begin = time.monotonic()
        process = example("matmul", *options)
        code = process.wait(seconds + 5)
        text = "\n".join(process.lines["stderr"])
        self.assertNotEqual(code, 0, process.output())
        self.assertGreaterEqual(code, 0, "died of a signal\n" + process.output())
        self.assertLess(time.monotonic() - begin, seconds)
        for word in words:
            self.assertIn(word, text)
        return text

    def test_npy_files(self):
        with tempfile.TemporaryDirectory() as folder:
            good, out = f"{folder}/good.npy", f"{folder}/out.npy"
            numpy.save(good, numpy.eye(4))
            body = numpy.eye(4).tobytes()
            bad = {
                "missing": None,
                "empty": b"",
                "rubbish": os.urandom(300),
                "truncated": header() + body[:-8],
                "header cut": header()[:20],
                "negative shape": header(shape="(-4, 4)") + body,
                "absurd length": header(length=2**31, version=(2, 0)) + body,
                "object dtype": header(descr="'|O'") + body,
                "huge shape": header(shape="(4611686018427387904, 4611686018427387904)") + body,
                "big-endian, truncated": header(descr="'>f8'") + body[:-8],
                "not two axes": header(shape="(16,)") + body,
            }
            for name, content in bad.items():
                with self.subTest(name):
                    path = f"{folder}/{name.replace(', ', '_').replace(' ', '_')}.npy"
                    if content is not None:
                        with open(path, "wb") as file:
                            file.write(content)
                    self.refused("--a", path, "--b", good, "--chunk", 2, "--out", out, words=[os.path.basename(path)]
                                 if name != "not two axes" else [])
                    self.assertFalse(os.path.exists(out))
                    self.assertEqual([f for f in os.listdir(folder) if "out" in f], [], "nothing half-written")

    def test_other_byte_order_is_read(self):
        with tempfile.TemporaryDirectory() as folder:
            a = numpy.arange(16.0).reshape(4, 4)
            for name, order in (("big", ">f8"), ("little", "<f8")):
                numpy.save(f"{folder}/{name}.npy", a.astype(order))
            run_example("matmul", "--a", f"{folder}/big.npy", "--b", f"{folder}/little.npy", "--chunk", 2, "--out",
                        f"{folder}/out.npy")
            numpy.testing.assert_array_equal(numpy.load(f"{folder}/out.npy"), a @ a)

    def test_shapes_chunks_and_dtypes(self):
        with tempfile.TemporaryDirectory() as folder:
            numpy.save(f"{folder}/a.npy", numpy.ones((4, 3)))
            numpy.save(f"{folder}/b.npy", numpy.ones((4, 3)))
            text = self.refused("--a", f"{folder}/a.npy", "--b", f"{folder}/b.npy", "--chunk", 2)
            self.assertIn("inner dimensions", text)
            self.refused("--n", 16, "--chunk", 0, words=["chunk"])
            self.refused("--n", -4, "--chunk", 2)
            self.refused("--n", 16, "--chunk", 4, "--dtype", "f65", words=["f65"])
            self.refused("--n", 16, "--no-such-option", words=["--no-such-option"])

    def test_unwritable_output(self):
        self.refused("--n", 16, "--chunk", 8, "--out", "/nonexistent-folder/c.npy", words=["/nonexistent-folder"])

    def test_scheduler_unreachable(self):
        self.refused("--scheduler", "tcp://127.0.0.1:1", "--n", 16, "--chunk", 8, words=["127.0.0.1:1"])
        self.refused("--scheduler", "tpc://nonsense", "--n", 16, "--chunk", 8, words=["tpc://nonsense"])

    def test_no_workers(self):
        with Cluster(workers=0) as cluster:
            text = self.refused("--scheduler", cluster.address, "--n", 16, "--chunk", 8)
            self.assertIn("worker", text)

    def test_waiting_for_workers_can_be_turned_off(self):
        with Cluster(workers=0, scheduler=["--wait-workers", "0"]) as cluster:
            self.refused("--scheduler", cluster.address, "--n", 16, "--chunk", 8, words=["worker"], seconds=3 * SLOW)

    def test_options_of_the_scheduler(self):
        for options, words in ((["--worker-timeout", "0"], "--worker-timeout: give 100ms or more"),
                               (["--client-timeout", "1ms"], "--client-timeout: give 100ms or more"),
                               (["--keys", "/nonexistent-folder"], "tessera keygen")):
            with self.subTest(options):
                done = subprocess.run([TESSERA, "scheduler", "--listen", "tcp://127.0.0.1:0", *options],
                                      capture_output=True, text=True, env=environment(), timeout=20)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(words, done.stderr)

    def test_options_of_a_worker(self):
        for options, words in ((["--memory", "0"], "--memory 0: give a size above 0"),
                               (["--threads", "0"], "--threads 0: give a whole number of 1 or more"),
                               (["--spill-limit", "0"], "--spill-limit 0: give a size above 0")):
            with self.subTest(options):
                done = subprocess.run([TESSERA, "worker", "tcp://127.0.0.1:1", *options], capture_output=True, text=True,
                                      env=environment(), timeout=20)
                self.assertEqual(done.returncode, 2)
                self.assertIn(words, done.stderr)

    def test_product_that_cannot_fit(self):
        with Cluster(workers=1, memory="8MiB", worker=["--spill", "none"]) as cluster:
            text = self.refused("--scheduler", cluster.address, "--n", 4096, "--chunk", 128)
            self.assertIn("memory", text)
            text = self.refused("--scheduler", cluster.address, "--n", 2048, "--chunk", 2048)
            self.assertIn("chunk", text)

    def test_file_that_workers_may_not_read(self):
        with tempfile.TemporaryDirectory() as allowed, tempfile.TemporaryDirectory() as other:
            for folder in (allowed, other):
                numpy.save(f"{folder}/a.npy", numpy.eye(8))
            os.symlink(f"{other}/a.npy", f"{allowed}/link.npy")
            with Cluster(workers=1, worker=["--data", allowed]) as cluster:
                run_example("matmul", "--scheduler", cluster.address, "--a", f"{allowed}/a.npy",
                            "--b", f"{allowed}/a.npy", "--chunk", 4)
                for path in (f"{other}/a.npy", f"{allowed}/link.npy"):
                    text = self.refused("--scheduler", cluster.address, "--a", path, "--b", path, "--chunk", 4)
                    self.assertIn("--data", text)


if __name__ == "__main__":
    unittest.main()
