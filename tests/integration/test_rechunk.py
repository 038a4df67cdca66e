"""Rows to columns, a + its transpose, and little of large blocks: how many bytes move and come back from disk."""
import json
import os
import subprocess
import sys
import unittest

from cluster import BUILD, ROOT, SLOW, TESSERA, Cluster, environment

sys.path.insert(0, os.path.join(ROOT, "tests", "bench"))
import support  # noqa: E402


def run(cluster, *options):
    done = subprocess.run([os.path.join(BUILD, "tests", "bench", "bench_rechunk"), "--scheduler", cluster.address,
                           *map(str, options)], capture_output=True, text=True, env=environment(), timeout=60 * SLOW)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def read_back(cluster):
    path = os.path.join(cluster.folder, "trace.json")
    subprocess.run([TESSERA, "trace", cluster.address, "-o", path], check=True, capture_output=True)
    return support.read_back(path)


def two_hosts(memory):
    """Workers that share no memory, so that all that moves is fetched."""
    cluster = Cluster(workers=0, memory=memory)
    for name in ("one", "two"):
        spill = os.path.join(cluster.folder, name)
        os.mkdir(spill)
        cluster.add_worker(name, "--host-id", name, "--spill", spill)
    return cluster


class Rechunk(unittest.TestCase):
    def moved(self, cluster):
        return cluster.status()["bytes_moved"]

    def test_rows_to_columns_of_twice_the_memory(self):
        with two_hosts("10MiB") as cluster:  # 32 MiB of numbers, pieces of 128 KiB
            total = run(cluster, "--n", 2048, "--chunks", 16)["bytes"]
            self.assertLess(self.moved(cluster), 1.1 * total)
            self.assertLess(read_back(cluster), 1.1 * total)

    def test_columns_that_are_held(self):
        with two_hosts("16MiB") as cluster:
            total = run(cluster, "--n", 2048, "--chunks", 16, "--held")["bytes"]
            self.assertLess(self.moved(cluster), 1.1 * total)

    def test_an_array_and_its_transpose(self):
        with two_hosts("64MiB") as cluster:
            total = run(cluster, "--n", 2048, "--chunks", 16, "--symmetric")["bytes"]
            self.assertLess(self.moved(cluster), 1.1 * total)

    def test_little_of_large_blocks(self):
        with two_hosts("64MiB") as cluster:
            total = run(cluster, "--n", 2048, "--chunks", 8, "--part")["bytes"]
            self.assertLess(self.moved(cluster), 0.02 * total)

    def test_neighbours_of_large_blocks(self):
        """A row over the border between the workers, each block's sums, and what the numbers are made of."""
        for shape in (("--chunks", 16), ("--chunks", 8, "--columns", 256), ("--chunks", 8, "--step", 3)):
            for held in ((), ("--held",)):
                with self.subTest(shape=shape, held=held), two_hosts("64MiB") as cluster:
                    run(cluster, "--n", 2048, "--shifted", *shape, *held)
                    self.assertLess(self.moved(cluster), 1.1 * (1 + shape[1] + 2) * 2048 * 8)

    def test_an_array_and_its_transpose_whose_blocks_do_not_match(self):
        with two_hosts("64MiB") as cluster:
            total = run(cluster, "--n", 2048, "--chunks", 8, "--columns", 272, "--symmetric")["bytes"]
            self.assertLess(self.moved(cluster), 0.75 * total)

    def test_more_blocks_than_messages_may_wait(self):
        for hosts in (("one", "two"), ("same", "same")):
            with self.subTest(hosts), Cluster(workers=0) as cluster:
                for host in hosts:
                    cluster.add_worker(host, "--host-id", host)
                run(cluster, "--tiny", "--chunks", 150000)
                self.assertEqual(sum(w["dropped_messages"] for w in cluster.status()["workers"]), 0)


if __name__ == "__main__":
    unittest.main()
