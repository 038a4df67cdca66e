"""The same bytes with one worker, with three, and with a worker killed at ten points of the run.

The sizes here fit an ordinary test run; `--full` takes n = 8192 with chunk 1024 and 512 × 65536 by 65536 × 512."""
# tests/run: timeout 300
import hashlib
import os
import signal
import sys
import tempfile
import unittest

from cluster import Cluster, example, until

FULL = "--full" in sys.argv
KILLS = 10 if FULL else 4


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else \
            hashlib.sha256(file.read()).hexdigest()


class SameBits(unittest.TestCase):
    def run_job(self, folder, job, workers, kill_at=None):
        """Run the job; kill a worker when so many tasks are done. Returns the result's digest and the status."""
        out = f"{folder}/c.npy"
        with Cluster(workers=workers, memory="3GiB") as cluster:
            process = example("matmul", "--scheduler", cluster.address, *job, "--out", out, "--json")
            if kill_at is not None:
                until(lambda: cluster.status()["tasks_done"] >= kill_at, what=f"{kill_at} tasks are done")
                cluster.workers[-1].child.send_signal(signal.SIGKILL)
            self.assertEqual(process.wait(), 0, process.output())
            if kill_at is not None:
                until(lambda: cluster.status()["workers_lost"] == 1, what="the loss shows in status")
            return digest(out), cluster.status()

    def check(self, job):
        with tempfile.TemporaryDirectory() as folder:
            alone, status = self.run_job(folder, job, 1)
            self.assertEqual(status["workers_lost"], 0)
            tasks = status["tasks_done"]
            three, _ = self.run_job(folder, job, 3)
            self.assertEqual(alone, three)
            reruns = 0
            for point in range(KILLS):
                killed, status = self.run_job(folder, job, 3, tasks * (point + 0.5) / (KILLS + 1))
                self.assertEqual(killed, alone, f"killed at point {point}")
                print(f"{' '.join(map(str, job))}: killed at point {point}: {status['tasks_rerun']} tasks run again")
                reruns += status["tasks_rerun"] > 0
            self.assertGreater(reruns, 0)

    def test_square(self):
        self.check(["--n", 8192, "--chunk", 1024] if FULL else ["--n", 1536, "--chunk", 256])

    def test_chosen_segments(self):
        """What the caller chose decides the bits, and nothing else: k in two segments."""
        job = ["--n", 1024, "--chunk", 128, "--segments", 2]
        with tempfile.TemporaryDirectory() as folder:
            digests = {self.run_job(folder, job, workers)[0] for workers in (1, 4, 4)}
            self.assertEqual(len(digests), 1)
            self.assertNotEqual(self.run_job(folder, job[:-2], 1)[0], digests.pop())

    def test_split_k(self):
        with tempfile.TemporaryDirectory() as folder:
            import numpy
            k = 65536 if FULL else 16384
            rng = numpy.random.default_rng(3)
            numpy.save(f"{folder}/a.npy", rng.standard_normal((512, k)))
            numpy.save(f"{folder}/b.npy", rng.standard_normal((k, 512)))
            self.check(["--a", f"{folder}/a.npy", "--b", f"{folder}/b.npy", "--chunk", 1024 if FULL else 256])


if __name__ == "__main__":
    if FULL:
        sys.argv.remove("--full")
    unittest.main()
