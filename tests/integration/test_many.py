"""Very many arrays, operations and blocks: right, or refused at once, and the scheduler answers meanwhile."""
import json
import os
import unittest

from cluster import BUILD, Cluster, Process, SLOW, until

KEPT_MOST = 6 << 20  # of a session that has ended
ARENA_KEPT = 4 << 20  # for the next blocks: a sixteenth of a worker's memory
PROGRAM = os.path.join(BUILD, "tests", "bench", "bench_many")


def many(kind, count, *options):
    process = Process([PROGRAM, "--kind", kind, "--count", str(count), *options])
    try:
        code = process.wait(60 * SLOW)
    finally:
        process.kill()
    assert code == 0, process.output()
    return process


class Many(unittest.TestCase):
    def test_inside_the_program(self):
        many("held", 4000 // SLOW)
        many("turned", 6000 // SLOW)  # goes in several parts

    def test_over_tcp(self):
        with Cluster(workers=2) as cluster:
            many("turned", 12000 // SLOW, "--scheduler", cluster.address)
            many("held", 2000 // SLOW, "--scheduler", cluster.address)

    def test_memory_goes_back(self):
        if SLOW > 1:
            return  # a sanitizer keeps what was freed
        with Cluster(workers=1, memory="64MiB") as cluster:
            many("held", 20, "--scheduler", cluster.address, "--workers", "1")
            processes = {"scheduler": (cluster.scheduler, KEPT_MOST),
                         "worker": (cluster.workers[0], KEPT_MOST + ARENA_KEPT)}
            before = {name: process.resident_bytes() for name, (process, _) in processes.items()}
            many("held", 20000, "--scheduler", cluster.address, "--workers", "1")
            for name, (process, kept) in processes.items():
                self.assertGreater(process.peak_bytes(), before[name] + 2 * kept)
                until(lambda: process.resident_bytes() < before[name] + kept, seconds=30,
                      what=f"what the session had is given back by the {name}")

    def test_a_long_expression_is_small(self):
        if SLOW > 1:
            return
        count = 20000
        with Cluster(workers=1) as cluster:
            many("lazy", 20, "--scheduler", cluster.address, "--workers", "1")
            before = [process.resident_bytes() for process in (cluster.scheduler, cluster.workers[0])]
            many("lazy", count, "--scheduler", cluster.address, "--workers", "1")
            grown = [(process.peak_bytes() - was) / count
                     for process, was in zip((cluster.scheduler, cluster.workers[0]), before)]
            print(f"an operation takes {grown[0]:.0f} bytes at the scheduler, {grown[1]:.0f} at the worker")
            self.assertLess(grown[0], 2400)
            self.assertLess(grown[1], 1200)  # it knows of those that it has been given and that are not forgotten yet

    def test_a_typo_is_refused(self):
        with Cluster(workers=1, scheduler=("--memory", "64MiB")) as cluster:
            status = cluster.status()
            self.assertGreater(status["graph_memory_bytes"], status["graph_memory_used_bytes"])
            for count, reason in ((10**9, "--memory"), (10**12, "blocks: use larger chunks")):
                process = many("typo", count, "--scheduler", cluster.address, "--workers", "1")
                self.assertLess(json.loads(process.lines["stdout"][-1])["seconds"], 10 * SLOW)
                self.assertIn(reason, process.output())
                self.assertIn("in chunks of (1,)", process.output())
            self.assertEqual(cluster.status()["workers_lost"], 0)


if __name__ == "__main__":
    unittest.main()
