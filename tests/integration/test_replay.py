"""A recorded live run, with a death and steals in it, replays to identical actions."""
import os
import signal
import subprocess
import tempfile
import unittest

from cluster import TESSERA, Cluster, environment, example, run_example, until


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


if __name__ == "__main__":
    unittest.main()
