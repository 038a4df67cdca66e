"""Results that are written to .npy files: by workers that may, else by the client; larger than memory; worker and client
that are killed meanwhile."""
# tests/run: all modes
import glob
import json
import os
import shutil
import subprocess
import tempfile
import unittest

import numpy

from cluster import BUILD, SLOW, TESSERA, Cluster, Process, environment, until

MIB = 1 << 20
ROWS, COLUMNS = 16384, 512  # 64 MiB
BLOCK = (512, 256)          # 1 MiB


class Client(Process):
    def __init__(self, cluster, path, held=False, block=BLOCK, rows=ROWS):
        super().__init__([os.path.join(BUILD, "tests", "integration", "client_write"), cluster.address, path, str(rows),
                          str(COLUMNS), str(block[0]), str(block[1]), "held" if held else "lazy"])

    def result(self, code=0):
        status = self.wait(120 * SLOW)
        assert status == code, self.output()
        return json.loads(self.lines["stdout"][-1])


def content(path):
    with open(path, "rb") as file:
        return file.read()


def unfinished(folder):
    return glob.glob(f"{folder}/.tessera-write-*")


class Writing(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        """What the client writes, of blocks that are all held first, is what all others are compared with."""
        cls.folder = tempfile.mkdtemp(prefix="tessera-writing.")
        with Cluster(workers=2) as cluster:
            Client(cluster, f"{cls.folder}/right.npy", held=True).result()
        cls.right = content(f"{cls.folder}/right.npy")
        numpy.save(f"{cls.folder}/numpy.npy", numpy.load(f"{cls.folder}/right.npy"))
        assert content(f"{cls.folder}/numpy.npy") == cls.right, "as numpy.save writes it"

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def setUp(self):
        self.path = f"{self.folder}/out.npy"

    def tearDown(self):
        self.assertEqual(unfinished(self.folder), [])

    def check(self):
        self.assertTrue(content(self.path) == self.right)
        os.unlink(self.path)

    def test_by_workers_with_little_memory(self):
        """Two workers have room for a quarter of it, and send nothing."""
        with Cluster(workers=2, memory="8MiB", worker=["--spill", "none", "--write", self.folder]) as cluster:
            Client(cluster, self.path).result()
            workers = cluster.status()["workers"]
        self.check()
        self.assertLessEqual(sum(w["memory_peak_bytes"] for w in workers), 16 * MIB)
        self.assertLess(sum(w["served_bytes"] for w in workers), 32 * MIB, "what is written does not leave its worker")
        self.assertTrue(all(w["tasks_done"] > 0 for w in workers))

    def test_by_workers_of_what_is_held(self):
        with Cluster(workers=2, worker=["--write", self.folder]) as cluster:
            Client(cluster, self.path, held=True).result()
        self.check()

    def test_by_the_client_with_little_memory(self):
        with Cluster(workers=2, memory="16MiB", worker=["--spill", "none"]) as cluster:
            Client(cluster, self.path).result()
        self.check()

    def test_by_the_client_where_workers_may_not(self):
        """One may write elsewhere, and the other nowhere; then both elsewhere, which they find out when they try."""
        with tempfile.TemporaryDirectory() as other, Cluster(workers=0) as cluster:
            for options in (["--write", other], []):
                cluster.add_worker(f"w{len(cluster.workers)}", *options)
            Client(cluster, self.path).result()
            self.check()
            cluster.workers[1].stop()
            cluster.add_worker("w2", "--write", other)
            until(lambda: len(cluster.status()["workers"]) == 2)
            Client(cluster, self.path).result()
        self.check()

    def test_worker_killed_meanwhile(self):
        """What it had is made and written again: the same bytes."""
        with Cluster(workers=3, memory="8MiB", worker=["--spill", "none", "--write", self.folder]) as cluster:
            client = Client(cluster, self.path)
            until(lambda: cluster.status()["tasks_done"] >= 60, what="something is written")
            cluster.workers[0].kill()
            result = client.result()
        self.check()
        print(f"{result['tasks_rerun']} tasks run again")

    def test_worker_killed_while_the_client_writes(self):
        """It takes blocks as they are made, and those that were lost when they have been made again."""
        with Cluster(workers=3) as cluster:
            client = Client(cluster, self.path)
            until(lambda: cluster.status()["tasks_done"] >= 40, what="something is made")
            cluster.workers[0].kill()
            client.result()
        self.check()

    def test_client_killed_meanwhile(self):
        """It leaves a file under a temporary name, which the next one removes; late tasks of its do no harm."""
        with Cluster(workers=2, memory="8MiB", worker=["--spill", "none", "--write", self.folder]) as cluster:
            client = Client(cluster, self.path)
            until(lambda: cluster.status()["tasks_done"] >= 20, what="something is written")
            client.kill()
            self.assertFalse(os.path.exists(self.path))
            self.assertEqual(len(unfinished(self.folder)), 1)
            Client(cluster, self.path).result()
        self.check()

    def test_option_of_a_worker(self):
        done = subprocess.run([TESSERA, "worker", "tcp://127.0.0.1:1", "--write", f"{self.folder}/none"],
                              capture_output=True, text=True, env=environment(), timeout=20)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(f"--write {self.folder}/none: No such file", done.stderr)


if __name__ == "__main__":
    unittest.main()
