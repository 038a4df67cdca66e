"""Processes that stall, die, carry a wrong key or send rubbish."""
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
import unittest

from cluster import BUILD, SLOW, TESSERA, Cluster, Process, environment, example, run_example, until


class Faults(unittest.TestCase):
    def test_stopped_worker_is_taken_for_lost_and_the_job_ends(self):
        with Cluster(workers=3) as cluster:
            process = example("matmul", "--scheduler", cluster.address, "--n", 2048, "--chunk", 256, "--check", "--json")
            until(lambda: cluster.status()["tasks_done"] > 0, what="the job has begun")
            os.kill(cluster.workers[1].pid, signal.SIGSTOP)
            try:
                self.assertEqual(process.wait(60), 0, process.output())
            finally:
                os.kill(cluster.workers[1].pid, signal.SIGCONT)
            # Back again it is either still known or has been told that it is not; it never hangs.
            run_example("matmul", "--scheduler", cluster.address, "--n", 512, "--chunk", 128, "--check")
            self.assertIn(cluster.workers[1].stop(), (0, 1))

    def test_short_stop_loses_nobody(self):
        with Cluster(workers=2) as cluster:
            process = example("matmul", "--scheduler", cluster.address, "--n", 1024, "--chunk", 128, "--check")
            until(lambda: cluster.status()["tasks_done"] > 0, what="the job has begun")
            os.kill(cluster.workers[0].pid, signal.SIGSTOP)
            os.kill(cluster.workers[0].pid, signal.SIGCONT)
            self.assertEqual(process.wait(60), 0, process.output())
            self.assertEqual(cluster.status()["workers_lost"], 0)

    def test_stopped_scheduler_takes_nobody_for_lost(self):
        with Cluster(workers=2, scheduler=["--worker-timeout", "1s"]) as cluster:
            process = example("matmul", "--scheduler", cluster.address, "--n", 2048, "--chunk", 128, "--check", "--json")
            until(lambda: cluster.status()["tasks_done"] > 0, what="the job has begun")
            os.kill(cluster.scheduler.pid, signal.SIGSTOP)
            time.sleep(3)  # the point of the test: three times as long as a worker may be silent
            os.kill(cluster.scheduler.pid, signal.SIGCONT)
            self.assertEqual(process.wait(60 * SLOW), 0, process.output())
            status = cluster.status()
            self.assertEqual((status["workers_lost"], status["tasks_rerun"], len(status["workers"])), (0, 0, 2))

    def test_reads_of_held_data_without_workers_end(self):
        with Cluster(workers=1, scheduler=["--wait-workers", "1s"]) as cluster:
            fifo = os.path.join(cluster.folder, "fifo")
            os.mkfifo(fifo)
            reader = Process([os.path.join(BUILD, "tests/integration/client_lost"), cluster.address, fifo,
                              os.path.join(cluster.folder, "out.npy")])
            try:
                reader.first_line("holding")
                cluster.workers[0].kill()
                until(lambda: not cluster.status()["workers"], what="the scheduler has noticed")
                with open(fifo, "w"):
                    pass
                self.assertEqual(reader.first_line("", 30 * SLOW), '["no workers", "no workers", "no workers"]')
                cluster.add_worker("later")
                with open(fifo, "w"):
                    pass
                self.assertEqual(reader.first_line("", 30 * SLOW), '["ok", "ok", "ok"]')
                self.assertEqual(reader.wait(), 0)
            finally:
                reader.kill()

    def test_stopped_client_is_told_so(self):
        with Cluster(workers=1, scheduler=["--client-timeout", "1s"]) as cluster:
            fifo = os.path.join(cluster.folder, "fifo")
            os.mkfifo(fifo)
            reader = Process([os.path.join(BUILD, "tests/integration/client_lost"), cluster.address, fifo,
                              os.path.join(cluster.folder, "out.npy")])
            try:
                reader.first_line("holding")
                os.kill(reader.pid, signal.SIGSTOP)
                until(lambda: cluster.status()["sessions"] == 0, what="it is given up")
                os.kill(reader.pid, signal.SIGCONT)
                with open(fifo, "w"):
                    pass
                self.assertIn("closed", reader.first_line("", 30 * SLOW))
                until(lambda: any("this program was stopped for" in line for line in reader.lines["stderr"]),
                      what="it says why")
            finally:
                reader.kill()

    def test_keys(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("right", "wrong"):
                subprocess.run([TESSERA, "keygen", f"{folder}/{name}"], check=True, env=environment(), timeout=20)
            self.assertEqual(os.stat(f"{folder}/right/cluster.secret").st_mode & 0o077, 0)
            right = ["--keys", f"{folder}/right"]
            with Cluster(workers=2, scheduler=right, worker=right) as cluster:
                run_example("matmul", "--scheduler", cluster.address, *right, "--n", 512, "--chunk", 128, "--check")
                for keys in (["--keys", f"{folder}/wrong"], []):
                    with self.subTest(keys=keys):
                        _, process = run_example("matmul", "--scheduler", cluster.address, *keys, "--n", 64, "--chunk", 32,
                                                 expect=None, seconds=10)
                        self.assertNotEqual(process.child.returncode, 0)
                        self.assertIn("--keys", "\n".join(process.lines["stderr"]))
                        worker = Process([TESSERA, "worker", cluster.address, *keys])
                        self.assertNotEqual(worker.wait(10), 0)
                        self.assertIn("--keys", "\n".join(worker.lines["stderr"]))
                self.assertEqual(len(cluster.status(*right)["workers"]), 2)
            again = subprocess.run([TESSERA, "keygen", f"{folder}/right"], capture_output=True, text=True,
                                   env=environment(), timeout=20)
            self.assertNotEqual(again.returncode, 0, "existing keys are never overwritten")

    def test_random_bytes_at_every_port(self):
        with Cluster(workers=1) as cluster:
            status = cluster.status()
            rng = random.Random(5)
            for address in (cluster.address, status["workers"][0]["address"]):
                host, port = address[len("tcp://"):].rsplit(":", 1)
                for _ in range(20):
                    with socket.create_connection((host, int(port)), timeout=5) as peer:
                        try:
                            peer.sendall(rng.randbytes(rng.randrange(1, 4096)))
                        except OSError:
                            pass
            run_example("matmul", "--scheduler", cluster.address, "--n", 256, "--chunk", 64, "--check")
            until(lambda: cluster.status()["dropped_messages"] > 0, what="rubbish is counted")


if __name__ == "__main__":
    unittest.main()
