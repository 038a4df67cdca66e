"""Run times kept between runs of the scheduler: made, read again, part of a recording, damaged, turned off."""
import os
import subprocess
import tempfile
import unittest

from cluster import TESSERA, Cluster, Process, environment, run_example


def run_job(*options):
    """One job on a cluster of its own; the scheduler's words for people."""
    with Cluster(workers=2, scheduler=options) as cluster:
        run_example("matmul", "--scheduler", cluster.address, "--n", 512, "--chunk", 128, "--check")
        assert cluster.scheduler.stop() == 0, cluster.scheduler.output()
        return "\n".join(cluster.scheduler.lines["stderr"])


class History(unittest.TestCase):
    def test_kept_between_runs_and_part_of_a_recording(self):
        with tempfile.TemporaryDirectory() as folder:
            path, record = f"{folder}/not/yet/there/history", f"{folder}/run.tessera"
            self.assertNotIn("history_", run_job("--history", path))
            with open(path, "rb") as file:
                first = file.read()
            self.assertTrue(first.startswith(b"TESSHIS1"))
            self.assertNotIn("history_", run_job("--history", path, "--record", record))
            with open(path, "rb") as file:
                self.assertNotEqual(file.read(), first)
            self.assertEqual(os.listdir(os.path.dirname(path)), ["history"])
            with open(record, "rb") as file:
                self.assertIn(b"TESSHIS1", file.read())
            done = subprocess.run([TESSERA, "replay", record], capture_output=True, text=True, env=environment(),
                                  timeout=60)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_damaged_file_is_said_and_replaced(self):
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/history"
            for damage in (b"", b"TESSHIS1" + bytes(100), bytes(5 << 20)):
                with open(path, "wb") as file:
                    file.write(damage)
                words = run_job("--history", path)
                self.assertIn("history_ignored", words)
                self.assertIn(path, words)
                self.assertNotIn("history_", run_job("--history", path))

    def test_a_file_that_cannot_be_written_is_said(self):
        self.assertIn("history_not_written", run_job("--history", "/proc/history"))

    def test_default_place(self):
        with tempfile.TemporaryDirectory() as folder:
            scheduler = Process([TESSERA, "scheduler", "--listen", "tcp://127.0.0.1:0"],
                                env={"TESSERA_HISTORY": "", "XDG_STATE_HOME": folder})
            try:
                address = scheduler.first_line("listening on ")
                worker = Process([TESSERA, "worker", address, "--memory", "1GiB"])
                try:
                    worker.first_line("connected to ")
                    run_example("matmul", "--scheduler", address, "--n", 256, "--chunk", 128)
                    self.assertEqual(scheduler.stop(), 0)
                finally:
                    worker.kill()
            finally:
                scheduler.kill()
            self.assertTrue(os.path.exists(f"{folder}/tessera/history"))


if __name__ == "__main__":
    unittest.main()
