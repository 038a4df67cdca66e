"""Three hosts (network namespaces joined by veth): scheduler on one, workers on the others, keys everywhere."""
import json
import subprocess
import tempfile
import unittest

from cluster import TESSERA, Process, environment, run_example, until
from hosts import Hosts


class ThreeHosts(unittest.TestCase):
    def run_cluster(self, keys):
        with Hosts(3) as hosts, tempfile.TemporaryDirectory() as folder:
            protect = ["--insecure"]
            options = []
            if keys:
                subprocess.run([TESSERA, "keygen", f"{folder}/keys"], check=True, env=environment(), timeout=20)
                protect = options = ["--keys", f"{folder}/keys"]
            processes = [Process([TESSERA, "scheduler", "--listen", f"tcp://{hosts.addresses[0]}:0", *protect],
                                 namespace=hosts.names[0])]
            try:
                address = processes[0].first_line("listening on ")
                self.assertIn(hosts.addresses[0], address)
                for i in (1, 2):
                    processes.append(Process([TESSERA, "worker", address, "--threads", "1", "--memory", "1GiB",
                                              "--host-id", f"host{i}", "--name", f"w{i}", *options],
                                             namespace=hosts.names[i]))
                    processes[-1].first_line("connected to ")
                result, _ = run_example("matmul", "--scheduler", address, *options, "--n", 1024, "--chunk", 128, "--check",
                                        "--json", namespace=hosts.names[0])
                self.assertEqual(result["workers"], 2)
                self.assertGreater(result["bytes_moved"], 0, "blocks crossed the network")
                status = json.loads(subprocess.run(
                    ["ip", "netns", "exec", hosts.names[0], TESSERA, "status", address, "--json", *options],
                    capture_output=True, text=True, check=True, env=environment(), timeout=20).stdout)
                for i, worker in enumerate(sorted(status["workers"], key=lambda w: w["name"])):
                    self.assertIn(hosts.addresses[i + 1], worker["address"])
                    self.assertEqual(worker["mapped_bytes"], 0, "different hosts share no memory")
                # One host goes away in the middle of a job; the other finishes it.
                before = status["workers_lost"]
                processes[2].kill()
                run_example("matmul", "--scheduler", address, *options, "--n", 512, "--chunk", 128, "--check",
                            namespace=hosts.names[0])
                self.assertEqual(before, 0)
            finally:
                for process in processes:
                    process.kill()

    def test_plain(self):
        self.run_cluster(keys=False)

    def test_encrypted(self):
        self.run_cluster(keys=True)


if __name__ == "__main__":
    unittest.main()
