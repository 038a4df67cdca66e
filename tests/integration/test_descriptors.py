"""Few file descriptors: what needs more than there are is refused and says so; nothing turns round on the spot, and no wait is
without end."""
import os
import re
import socket
import time
import unittest

from cluster import EXAMPLES, SLOW, TESSERA, Cluster, Process, run_example

MATMUL = os.path.join(EXAMPLES, "matmul")


def limited(soft, hard, *command):
    return Process(["bash", "-c", f"ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$@\"", "limited", *map(str, command)])


def processor_seconds(process):
    with open(f"/proc/{process.pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Descriptors(unittest.TestCase):
    def refused(self, process, who):
        code = process.wait(20 * SLOW)
        text = process.output()
        self.assertGreater(code, 0, "not refused, or died of a signal\n" + text)
        self.assertIn("ulimit -n", text)
        self.assertIn(who, text)

    def test_what_cannot_begin_says_so(self):
        with Cluster(workers=1) as cluster:
            for few in (12, 20, 32, 48):
                with self.subTest(few):
                    self.refused(limited(few, few, TESSERA, "scheduler", "--listen", "tcp://127.0.0.1:0"), "a scheduler")
                    self.refused(limited(few, few, TESSERA, "worker", cluster.address), "a worker")
                    self.refused(limited(few, few, MATMUL, "--n", 64), "a s")  # a session, or its scheduler
                    if few < 48:
                        self.refused(limited(few, few, MATMUL, "--n", 64, "--scheduler", cluster.address), "a session")

    def test_limits_are_raised_where_they_may_be(self):
        with Cluster(workers=1) as cluster:
            for process in (limited(24, 4096, MATMUL, "--n", 64, "--check"),
                            limited(24, 4096, MATMUL, "--n", 64, "--check", "--scheduler", cluster.address)):
                self.assertEqual(process.wait(), 0, process.output())

    def test_a_scheduler_whose_descriptors_run_out_goes_on(self):
        with Cluster(workers=0) as cluster:
            tight = limited(120, 120, TESSERA, "scheduler", "--listen", "tcp://127.0.0.1:0")
            try:
                address = tight.first_line("listening on ")
                host, port = re.fullmatch(r"tcp://(.*):(\d+)", address).groups()
                cluster.scheduler.kill()
                cluster.scheduler, cluster.address = tight, address
                cluster.add_worker("w0")
                idle, turned_away = [], 0
                for _ in range(300):
                    try:
                        idle.append(socket.create_connection((host, int(port)), timeout=10))
                    except ConnectionResetError:  # before it knew that it had been taken
                        turned_away += 1
                used = processor_seconds(tight)
                begin = time.monotonic()
                time.sleep(1)  # as long as the processor is looked at, not until something has happened
                share = (processor_seconds(tight) - used) / (time.monotonic() - begin)
                self.assertLess(share, 0.5, "it turns round on the spot")
                for connection in idle:
                    connection.setblocking(False)
                    try:
                        while connection.recv(4096):
                            pass
                        turned_away += 1
                    except BlockingIOError:
                        pass
                    except OSError:
                        turned_away += 1
                self.assertGreater(turned_away, 150)
                self.assertTrue(any("ulimit -n" in line for line in tight.lines["stderr"]), tight.output())
                for connection in idle:
                    connection.close()
                run_example("matmul", "--n", 256, "--chunk", 64, "--check", "--scheduler", address)
            finally:
                tight.kill()


if __name__ == "__main__":
    unittest.main()
