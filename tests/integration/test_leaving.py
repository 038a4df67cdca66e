"""Workers that leave in good order, that are given up and come back, and that join while a graph runs."""
# tests/run: all modes
import contextlib
import json
import os
import re
import signal
import time
import unittest

from cluster import BUILD, SLOW, Cluster, Process, example, run_example, until

ROWS = 2000  # of 1,000 f64 each: 16 MB in 20 blocks


class Holder:
    """A client that holds an array until `read` is called, which says what it found."""

    def __init__(self, cluster, name="fifo", rows=ROWS):
        self.fifo = os.path.join(cluster.folder, name)
        os.mkfifo(self.fifo)
        self.process = Process([os.path.join(BUILD, "tests/integration/client_hold"), cluster.address, str(rows), str(rows // 20),
                                self.fifo])
        self.bytes = int(self.process.first_line("holding ").split()[0])

    def read(self):
        with open(self.fifo, "w"):
            pass
        code = self.process.wait(60 * SLOW)
        if code != 0:
            raise AssertionError(self.process.output())
        return json.loads(self.process.lines["stdout"][-1])


@contextlib.contextmanager
def holding(cluster, **options):
    holder = Holder(cluster, **options)
    try:
        yield holder
    finally:
        holder.process.kill()


def log_field(worker, event, field):
    for line in worker.lines["stderr"]:
        if f"event={event} " in line:
            return int(re.search(rf"\b{field}=(\d+)", line).group(1))
    raise AssertionError(f"no event {event} in the log\n{worker.output()}")


class Leaving(unittest.TestCase):
    def test_what_only_it_has_is_handed_over(self):
        with Cluster(workers=2) as cluster, holding(cluster) as holder:
            def memory():
                used = [w["memory_used_bytes"] for w in cluster.status()["workers"]]
                return used if sum(used) == holder.bytes else None

            used = until(memory, what="the blocks, and nothing else, are in memory")
            self.assertEqual(cluster.workers[0].stop(signal.SIGTERM), 0, cluster.workers[0].output())
            self.assertEqual(log_field(cluster.workers[0], "left", "handed_over_bytes"), used[0])
            self.assertEqual(log_field(cluster.workers[0], "left", "to_recompute_blocks"), 0)
            until(lambda: len(cluster.status()["workers"]) == 1, what="the scheduler has noticed")
            status = cluster.status()
            self.assertEqual((status["workers_left"], status["workers_lost"], status["tasks_rerun"]), (1, 0, 0))
            self.assertEqual(status["blocks_handed"], log_field(cluster.workers[0], "left", "handed_over_blocks"))
            found = holder.read()
            self.assertTrue(found["same"])
            self.assertEqual(cluster.status()["tasks_rerun"], 0)

    def test_while_a_graph_runs(self):
        with Cluster(workers=3) as cluster, holding(cluster) as holder:
            n = 512 if SLOW > 1 else 2048
            process = example("matmul", "--scheduler", cluster.address, "--n", n, "--chunk", 128, "--check", "--json")
            until(lambda: cluster.status()["tasks_done"] > 60, what="the job has begun")
            self.assertEqual(cluster.workers[1].stop(signal.SIGINT), 0, cluster.workers[1].output())
            self.assertEqual(process.wait(60 * SLOW), 0, process.output())
            self.assertTrue(holder.read()["same"])
            self.assertEqual(cluster.status()["workers_lost"], 0)

    def test_nobody_has_room(self):
        with Cluster(workers=1, worker=["--spill", "none"]) as cluster, holding(cluster):
            cluster.add_worker("small", "--memory", "700KiB")
            self.assertEqual(cluster.workers[0].stop(), 0, cluster.workers[0].output())
            self.assertEqual(log_field(cluster.workers[0], "left", "handed_over_blocks"), 0)
            self.assertEqual(log_field(cluster.workers[0], "left", "to_recompute_blocks"), 20)

    def test_no_time(self):
        with Cluster(workers=2, worker=["--drain-timeout", "0"]) as cluster, holding(cluster) as holder:
            self.assertEqual(cluster.workers[0].stop(), 0, cluster.workers[0].output())
            until(lambda: cluster.status()["workers_lost"] == 1, what="the scheduler has noticed")
            self.assertNotIn("event=leaving", cluster.workers[0].output())
            self.assertTrue(holder.read()["same"])
            self.assertGreater(cluster.status()["tasks_rerun"], 0)

    def test_second_signal_ends_it_at_once(self):
        with Cluster(workers=2) as cluster, holding(cluster) as holder:
            os.kill(cluster.workers[1].pid, signal.SIGSTOP)  # takes nothing over, so the first one waits
            try:
                cluster.workers[0].child.send_signal(signal.SIGTERM)
                until(lambda: "event=leaving" in cluster.workers[0].output(), what="it is leaving")
                self.assertIsNone(cluster.workers[0].child.poll())
                self.assertEqual(cluster.workers[0].stop(signal.SIGTERM, seconds=5 * SLOW), 128 + signal.SIGTERM)
            finally:
                os.kill(cluster.workers[1].pid, signal.SIGCONT)
            self.assertTrue(holder.read()["same"])

    def test_time_runs_out(self):
        with Cluster(workers=2, worker=["--drain-timeout", "500ms"]) as cluster, holding(cluster) as holder:
            os.kill(cluster.workers[1].pid, signal.SIGSTOP)
            try:
                self.assertEqual(cluster.workers[0].stop(), 0, cluster.workers[0].output())
            finally:
                os.kill(cluster.workers[1].pid, signal.SIGCONT)
            self.assertGreater(log_field(cluster.workers[0], "left", "to_recompute_blocks"), 0)
            self.assertTrue(holder.read()["same"])

    def test_scheduler_ends_meanwhile(self):
        with Cluster(workers=2) as cluster, holding(cluster) as holder:
            os.kill(cluster.workers[1].pid, signal.SIGSTOP)
            try:
                cluster.workers[0].child.send_signal(signal.SIGTERM)
                until(lambda: "event=leaving" in cluster.workers[0].output(), what="it is leaving")
                self.assertEqual(cluster.scheduler.stop(), 0)
                self.assertEqual(cluster.workers[0].wait(5 * SLOW), 0, cluster.workers[0].output())
            finally:
                os.kill(cluster.workers[1].pid, signal.SIGCONT)
            self.assertEqual(cluster.workers[1].wait(20 * SLOW), 0, cluster.workers[1].output())


class ComingBack(unittest.TestCase):
    def test_given_up_worker_joins_again_and_works(self):
        silence = 2 * SLOW
        with Cluster(workers=2, scheduler=["--worker-timeout", f"{silence}s"]) as cluster, holding(cluster) as holder:
            os.kill(cluster.workers[0].pid, signal.SIGSTOP)
            try:
                until(lambda: cluster.status()["workers_lost"] == 1, seconds=10 * silence, what="it is given up")
            finally:
                os.kill(cluster.workers[0].pid, signal.SIGCONT)
            until(lambda: len(cluster.status()["workers"]) == 2, what="it is back")
            self.assertIn("event=joining_again", cluster.workers[0].output())
            before = {w["name"]: w["id"] for w in cluster.status()["workers"]}
            self.assertGreater(before["w0"], before["w1"])
            run_example("matmul", "--scheduler", cluster.address, "--n", 512, "--chunk", 64, "--check")
            done = {w["name"]: w["tasks_done"] for w in cluster.status()["workers"]}
            self.assertGreater(done["w0"], 0)
            self.assertTrue(holder.read()["same"])
            self.assertEqual(cluster.workers[0].stop(), 0, cluster.workers[0].output())

    def test_stop_while_it_looks_for_the_scheduler(self):
        with Cluster(workers=1) as cluster:
            cluster.scheduler.kill()
            until(lambda: "event=joining_again" in cluster.workers[0].output(), what="it looks for the scheduler")
            self.assertIsNone(cluster.workers[0].child.poll())
            self.assertEqual(cluster.workers[0].stop(seconds=10 * SLOW), 0, cluster.workers[0].output())


class Joining(unittest.TestCase):
    def test_newcomer_works_within_a_second(self):
        with Cluster(workers=1) as cluster:
            n = 4096  # it goes on for seconds, so that the newcomer comes in time
            process = example("matmul", "--scheduler", cluster.address, "--n", n, "--chunk", 128, "--json")
            try:
                until(lambda: cluster.status()["tasks_done"] > 100, what="the job has begun")
                cluster.add_worker("late")
                joined = time.monotonic()
                done = until(lambda: [w["tasks_done"] for w in cluster.status()["workers"] if w["name"] == "late"][0],
                             seconds=10 * SLOW, what="it works")
                waited = time.monotonic() - joined
                self.assertGreater(done, 0)
                self.assertLess(waited, 1 * SLOW)
                self.assertEqual(process.wait(60 * SLOW), 0, process.output())
            finally:
                process.kill()


if __name__ == "__main__":
    unittest.main()
