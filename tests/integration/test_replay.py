"""Recorded live runs, with a death, steals, a worker that leaves, a priority and a resource, replay to identical actions."""
import os
import signal
import subprocess
import tempfile
import unittest

from cluster import BUILD, TESSERA, Cluster, Process, environment, example, until


def replay(path):
    return subprocess.run([TESSERA, "replay", path], capture_output=True, text=True, env=environment(), timeout=60)


class Replay(unittest.TestCase):
    def test_recording_replays(self):
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/run.tessera"
            with Cluster(workers=3, scheduler=["--record", path]) as cluster:
                process = example("matmul", "--scheduler", cluster.address, "--n", 1024, "--chunk", 128, "--check")
                until(lambda: cluster.status()["tasks_done"] > 50, what="the job is under way")
                cluster.workers[2].child.send_signal(signal.SIGKILL)
                self.assertEqual(process.wait(), 0, process.output())
                self.assertEqual(cluster.scheduler.stop(), 0)
            done = replay(path)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

            with open(path, "r+b") as file:  # a recording that was tampered with is noticed
                size = os.path.getsize(path)
                file.seek(size // 2)
                byte = file.read(1)
                file.seek(size // 2)
                file.write(bytes([byte[0] ^ 0x40]))
            self.assertNotEqual(replay(path).returncode, 0)

    def test_leaving_priority_and_resource(self):
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/run.tessera"
            with Cluster(workers=0, scheduler=["--record", path]) as cluster:
                for name, resources in (("w0", "ssd=2"), ("w1", "ssd=1"), ("w2", "tape=1")):
                    cluster.add_worker(name, "--resources", resources)
                process = Process([os.path.join(BUILD, "tests/integration/client_task_options"), cluster.address, "1536", "128",
                                   "ssd=1"])
                try:
                    until(lambda: cluster.status()["tasks_done"] > 50, what="the job is under way")
                    self.assertEqual(cluster.workers[1].stop(signal.SIGTERM), 0, cluster.workers[1].output())
                    self.assertEqual(process.wait(), 0, process.output())
                finally:
                    process.kill()
                status = cluster.status()
                self.assertEqual((status["workers_left"], status["workers_lost"]), (1, 0))
                self.assertEqual(cluster.scheduler.stop(), 0)
            done = replay(path)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
