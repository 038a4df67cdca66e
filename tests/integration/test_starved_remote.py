"""A program over TCP that runs out of memory at each point: test_starved.c, on a cluster of processes."""
import os
import unittest

from cluster import BUILD, SLOW, Cluster, Process


class Starved(unittest.TestCase):
    def test_over_tcp(self):
        with Cluster(workers=2, memory="64MiB") as cluster:
            process = Process([os.path.join(BUILD, "tests", "integration", "test_starved"), cluster.address])
            self.assertEqual(process.wait(60 * SLOW), 0, process.output())


if __name__ == "__main__":
    unittest.main()
