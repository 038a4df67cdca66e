"""Long loops, a short way: what a step leaves behind is gone a moment later, at the scheduler, at workers and in the client."""
import json
import os
import unittest

from cluster import BUILD, Cluster, Process, SLOW, until

STEPS = 1000
MORE_MOST = 1 << 20  # of trace events that are kept; a step that left a layer behind left 17 KiB
KINDS = ("read", "send", "persist")


def start(kind, *options):
    return Process([os.path.join(BUILD, "tests", "bench", "bench_loops"), "--kind", kind, "--steps",
                    str(STEPS // SLOW), *options])


def finish(process):
    try:
        code = process.wait(120 * SLOW)
    finally:
        process.kill()
    assert code == 0, process.output()
    return json.loads(process.lines["stdout"][-1])


def loop(kind, *options):
    return finish(start(kind, *options))


class Loops(unittest.TestCase):
    def flat(self, result):
        for early, late in zip(result["early_bytes"], result["late_bytes"]):
            if SLOW == 1:  # a sanitizer keeps what was freed
                self.assertLess(late, early + MORE_MOST, result)

    def test_inside_the_program(self):
        for kind in KINDS:
            with self.subTest(kind):
                self.flat(loop(kind))

    def test_over_tcp(self):
        with Cluster(workers=2) as cluster:
            pids = ",".join(str(process.pid) for process in [cluster.scheduler, *cluster.workers])
            for kind in KINDS:
                with self.subTest(kind):
                    self.flat(loop(kind, "--scheduler", cluster.address, "--watch", pids))
            until(lambda: cluster.status()["layers"] == 0, what="nothing is left of the sessions")

    def test_a_worker_dies_on_the_way(self):
        """What the past was cut off from is not lost with one worker, and the bits are the same."""
        expected = loop("persist")["last_value"]
        with Cluster(workers=3) as cluster:
            process = start("persist", "--scheduler", cluster.address, "--workers", "3")
            try:
                until(lambda: cluster.status()["tasks_done"] > 1000 // SLOW, seconds=60 * SLOW, what="it is on its way")
                cluster.workers[0].kill()
                self.assertEqual(finish(process)["last_value"], expected)
            finally:
                process.kill()


if __name__ == "__main__":
    unittest.main()
