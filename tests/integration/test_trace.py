"""`tessera trace` and `tessera status --why` on real processes."""
# tests/run: all modes
import collections
import json
import os
import signal
import stat
import subprocess
import tempfile
import time
import unittest

from cluster import BUILD, SLOW, TESSERA, Cluster, Process, environment, run_example, until

SLEEPERS = os.path.join(BUILD, "tests", "integration", "test_trace_run")


def tessera(*arguments):
    return subprocess.run([TESSERA, *arguments], capture_output=True, text=True, env=environment(), timeout=60 * SLOW)


def take_trace(cluster, *options):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "run.json")
        done = tessera("trace", cluster.address, "-o", path, *options)
        assert done.returncode == 0, done.stderr
        assert os.listdir(folder) == ["run.json"], os.listdir(folder)
        with open(path) as file:
            return json.load(file), done.stderr


def of(trace, category):
    return [event for event in trace["traceEvents"] if event.get("cat") == category]


def layer_of(event):
    return int(event["args"]["task"].split(".")[1].split(":")[0])


class Trace(unittest.TestCase):
    def check_runs(self, trace, began_us, ended_us):
        """Each step once, within the time of the run; a slot runs one at a time."""
        steps = collections.Counter((event["args"]["task"], event["args"]["step"]) for event in of(trace, "run"))
        self.assertEqual([step for step, times in steps.items() if times != 1], [])
        tasks = collections.defaultdict(set)
        for task, step in steps:
            tasks[task].add(step)
        for task, numbers in tasks.items():
            self.assertEqual(numbers, set(range(len(numbers))), task)
        slots = collections.defaultdict(list)
        for event in of(trace, "run"):
            slots[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
            self.assertGreaterEqual(event["ts"], began_us)
            self.assertLessEqual(event["ts"] + event["dur"], ended_us)
            self.assertLessEqual(event["args"]["wait_ns"] / 1000, ended_us - began_us)
        for spans in slots.values():
            for one, two in zip(sorted(spans), sorted(spans)[1:]):
                self.assertLessEqual(one[1], two[0] + 0.001)
        return tasks

    def test_every_step_of_a_product_once(self):
        with Cluster(workers=2) as cluster:
            began = time.monotonic() * 1e6
            run_example("matmul", "--scheduler", cluster.address, "--n", 512, "--chunk", 64)
            ended = time.monotonic() * 1e6
            trace, said = take_trace(cluster)
            tasks = self.check_runs(trace, began, ended)
            self.assertEqual(len(tasks), cluster.status()["tasks_done"])
            products = {event["args"]["task"] for event in of(trace, "run") if event["name"].startswith("matmul")}
            self.assertEqual(len(products), 64)
            self.assertEqual(trace["otherData"]["overwritten"], 0)
            names = {event["args"]["name"] for event in trace["traceEvents"] if event["name"] == "process_name"}
            self.assertTrue({name.split()[0] for name in names} >= {"scheduler", "w0", "w1"}, names)
            self.assertEqual(len(of(trace, "layer")), 3)
            self.assertEqual(len(of(trace, "join")), 2)
            # What one worker got from the other, as bytes or in place, the other has served.
            arrived = len(of(trace, "fetch")) + len(of(trace, "inline")) + len(of(trace, "map"))
            self.assertGreater(arrived, 0)
            self.assertGreaterEqual(len(of(trace, "serve")), arrived)
            self.assertIn("2 workers", said)
            with_queues, _ = take_trace(cluster, "--queues")
            self.assertEqual(len(of(with_queues, "queue")), 2 * len(tasks))
            for process in cluster.workers + [cluster.scheduler]:  # a sanitizer speaks at the end
                self.assertEqual(process.stop(), 0, process.output())

    def test_steals_and_their_reasons(self):
        with Cluster(workers=1) as cluster:
            began = time.monotonic() * 1e6
            client = Process([SLEEPERS, cluster.address, "60", "20"])
            client.first_line("submitted by ")
            until(lambda: cluster.status()["tasks_done"] > 3, what="the first worker has begun")
            cluster.add_worker("late")
            self.assertEqual(client.wait(), 0, client.output())
            ended = time.monotonic() * 1e6
            trace, _ = take_trace(cluster)
            tasks = self.check_runs(trace, began, ended)
            self.assertEqual(len(tasks), 1 + 60 + 60)
            for event in of(trace, "run"):
                self.assertGreaterEqual(event["dur"], {1: 200e3, 2: 20e3, 3: 0}[layer_of(event)])
            steals = of(trace, "take") + of(trace, "confirm")
            self.assertGreater(sum(event["args"]["tasks"] for event in steals), 0)
            self.assertEqual(sum(event["args"]["tasks"] for event in steals), cluster.status()["steals"])
            for event in of(trace, "take") + of(trace, "ask"):
                self.assertTrue(event["args"]["why"].startswith("the thief"), event)
            # Every answer to a steal, on both sides.
            answered = sum(e["args"]["tasks"] for e in of(trace, "confirm") + of(trace, "refuse"))
            self.assertEqual(sum(e["args"]["tasks"] for e in of(trace, "ask")), answered)
            self.assertEqual(sum(e["args"]["tasks"] for e in of(trace, "give")),
                             sum(e["args"]["tasks"] for e in of(trace, "confirm")))
            self.assertEqual(len({event["pid"] for event in of(trace, "run")}), 2)
            recent = cluster.status()["recent_steals"]
            self.assertTrue(recent and {"from", "to", "why", "tasks"} <= set(recent[0]), recent)

    def test_why_a_task_waits(self):
        with Cluster(workers=2) as cluster:
            client = Process([SLEEPERS, cluster.address, "4", "500"])  # its first task sleeps ten times as long
            session = client.first_line("submitted by ")

            def reasons(*chosen):
                done = tessera("status", cluster.address, "--json", "--why", *chosen)
                self.assertEqual(done.returncode, 0, done.stderr)
                return json.loads(done.stdout)["tasks"]

            def explained():
                task, = reasons("3:0")
                text = "\n".join(task["reasons"])
                return (task["task"] == f"{session}.3:0" and task["state"] == "assigned"
                        and "its input 1:0 (synthetic) is being made by w" in text and "there: its input 1:0" in text)

            until(explained, seconds=4, what="the reason is given while the first task sleeps")
            first, = reasons()
            self.assertIn(first["state"], ("assigned", "unassigned"))
            self.assertEqual(first["task"].split(".")[0], session)
            self.assertEqual(reasons(f"{session}.1:0")[0]["state"], "running")
            text = tessera("status", cluster.address, "--why", "3:0")
            self.assertEqual(text.returncode, 0, text.stderr)
            self.assertTrue(text.stdout.startswith(f"task {session}.3:0  synthetic"), text.stdout)
            missing = tessera("status", cluster.address, "--why", "99:0")
            self.assertEqual(missing.returncode, 1)
            self.assertIn("99:0", missing.stderr)
            self.assertEqual(client.wait(), 0, client.output())
            self.assertEqual(reasons(), [])
            self.assertIn("no task waits", tessera("status", cluster.address, "--why").stdout)
            self.assertEqual(tessera("status", cluster.address, "--why=three").returncode, 2)
            self.assertIn("begins with a digit", tessera("status", cluster.address, "--why", "three").stderr)

    def test_a_worker_that_hangs_costs_its_own_rows(self):
        with Cluster(workers=2) as cluster:
            run_example("matmul", "--scheduler", cluster.address, "--n", 256, "--chunk", 64)
            cluster.workers[1].child.send_signal(signal.SIGSTOP)
            try:
                trace, said = take_trace(cluster)
            finally:
                cluster.workers[1].child.send_signal(signal.SIGCONT)
            self.assertIn("w1 (worker ", said)
            self.assertIn("1 workers did not answer", said)
            self.assertGreater(len(of(trace, "run")), 0)

    def test_overwritten_events_are_counted(self):
        with Cluster(workers=1, worker=("--trace-events", "16")) as cluster:
            run_example("matmul", "--scheduler", cluster.address, "--n", 256, "--chunk", 64)
            trace, said = take_trace(cluster)
            self.assertLessEqual(len(of(trace, "run")), 15)
            self.assertGreater(trace["otherData"]["overwritten"], 0)
            self.assertIn("--trace-events", said)
        with Cluster(workers=1, worker=("--trace-events", "0")) as cluster:
            run_example("matmul", "--scheduler", cluster.address, "--n", 256, "--chunk", 64)
            self.assertEqual(of(take_trace(cluster)[0], "run"), [])

    def test_mistakes_are_named(self):
        with Cluster(workers=0) as cluster:
            self.assertEqual(tessera("trace", cluster.address).returncode, 2)
            unwritable = tessera("trace", cluster.address, "-o", "/nowhere/at/all.json")
            self.assertEqual(unwritable.returncode, 1)
            self.assertIn("/nowhere/at/all.json", unwritable.stderr)
            with tempfile.TemporaryDirectory() as folder:
                self.assertIn("folder", tessera("trace", cluster.address, "-o", folder).stderr)
                pipe = os.path.join(folder, "pipe")  # what is no file keeps its place and is written as it is
                os.mkfifo(pipe)
                with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True) as reader:
                    self.assertEqual(tessera("trace", cluster.address, "-o", pipe).returncode, 0)
                    self.assertEqual(json.loads(reader.communicate(timeout=20 * SLOW)[0])["otherData"]["overwritten"], 0)
                self.assertEqual(os.listdir(folder), ["pipe"])
                self.assertTrue(stat.S_ISFIFO(os.stat(pipe).st_mode))
            to_stdout = tessera("trace", cluster.address, "-o", "-")
            self.assertEqual(json.loads(to_stdout.stdout)["otherData"]["overwritten"], 0)
        gone = tessera("trace", cluster.address, "--out", "-")
        self.assertEqual(gone.returncode, 1)
        self.assertIn(cluster.address, gone.stderr)


if __name__ == "__main__":
    unittest.main()
