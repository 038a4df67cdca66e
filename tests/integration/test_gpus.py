"""Workers with devices, emulated on host memory: right, the same bits as without, and through faults of every kind.

The emulated device computes with the processor's kernels, so a file that differs by a byte was made wrongly."""
# tests/run: timeout 240
import concurrent.futures
import functools
import hashlib
import json
import os
import subprocess
import tempfile
import unittest

from cluster import BUILD, TESSERA, Cluster, Process, SLOW, environment, run_example, until

JOB = ("--n", 1200, "--chunk", 200, "--seed", 7)
BLOCK = 200 * 200 * 8


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def side_by_side(jobs, at_a_time=4):
    """Call each job; most of its time passes in waiting. The first that failed raises."""
    with concurrent.futures.ThreadPoolExecutor(at_a_time) as pool:
        for call in [pool.submit(job) for job in jobs]:
            call.result()


class Gpus(unittest.TestCase):
    def test_all_operations(self):
        """The tests of the library inside a program, on devices of each kind."""
        specs = {
            "memory=2MiB,refuse=7,hidden=512KiB,latency=20": None,
            "memory=256KiB,count=2": None,
            "memory=16MiB": None,
            "memory=64MiB,starve=40": None,
            "memory=2MiB,break=1500": "event=gpu_lost",
            "memory=2MiB,break=40": "event=gpu_lost",
        }
        printed = {spec: [] for spec in specs}

        def run(spec, part):
            program = Process([os.path.join(BUILD, "tests", "integration", "test_embedded_" + part)],
                              env={"TESSERA_TEST_GPUS": "emulated:" + spec})
            self.assertEqual(program.wait(120 * SLOW), 0, spec + "\n" + program.output())
            printed[spec].append(program.output())

        parts = ("arrays", "products", "sessions", "files")
        side_by_side([functools.partial(run, spec, part) for part in parts for spec in specs])
        for spec, word in specs.items():
            with self.subTest(spec):
                self.assertEqual(len(printed[spec]), len(parts))
                self.assertTrue(word is None or any(word in text for text in printed[spec]))

    def product(self, cluster, folder, name):
        out = f"{folder}/{name}.npy"
        run_example("matmul", "--scheduler", cluster.address, *JOB, "--out", out, "--check", "--json")
        return digest(out)

    def test_same_bits(self):
        """Whatever the device is like, and with the operands on several workers."""
        with tempfile.TemporaryDirectory() as folder:
            with Cluster(workers=1, worker=("--gpus", "none")) as cluster:
                want = self.product(cluster, folder, "processors")
            specs = {
                "all of it": f"memory={100 * BLOCK}",
                "a region": f"memory={20 * BLOCK}",
                "one step": f"memory={4 * BLOCK}",
                "not even that": f"memory={2 * BLOCK}",
                "two devices": f"memory={12 * BLOCK},count=2",
                "slow copies": f"memory={30 * BLOCK},copy=400MiB,latency=200",
                "short of memory": f"memory={60 * BLOCK},starve=40",
                "slow kernels": f"memory={30 * BLOCK},compute=0.2",
                "only products": f"memory={30 * BLOCK},small=1000000",
            }

            def run(name, workers):
                with Cluster(workers=workers, worker=("--gpus", "emulated:" + specs[name])) as cluster:
                    self.assertEqual(self.product(cluster, folder, f"{name} {workers}"), want, f"{name}, {workers} workers")
                    if name == "short of memory":
                        until(lambda: any("event=gpu_memory_short" in line for worker in cluster.workers
                                          for line in worker.lines["stderr"]), what="a worker says so")

            side_by_side([functools.partial(run, name, workers) for name in specs for workers in (1, 2)])

    def test_memory_that_the_host_lacks(self):
        """Blocks away at a device are brought home before they are spilled, and come back."""
        with tempfile.TemporaryDirectory() as folder:
            with Cluster(workers=1, worker=("--gpus", "none")) as cluster:
                want = self.product(cluster, folder, "processors")
            with Cluster(workers=1, memory=f"{24 * BLOCK // 1024}KiB",
                         worker=("--gpus", f"emulated:memory={16 * BLOCK}", "--spill", folder)) as cluster:
                self.assertEqual(self.product(cluster, folder, "devices"), want)
                self.assertGreater(cluster.status()["workers"][0]["spilled_bytes"] + 1, 0)

    def test_device_lost_in_a_cluster(self):
        with tempfile.TemporaryDirectory() as folder:
            with Cluster(workers=1, worker=("--gpus", "none")) as cluster:
                want = self.product(cluster, folder, "processors")

            def run(launches):
                with Cluster(workers=0) as cluster:
                    broken = cluster.add_worker("broken", "--gpus", f"emulated:memory={60 * BLOCK},break={launches}")
                    cluster.add_worker("well", "--gpus", f"emulated:memory={60 * BLOCK}")
                    self.assertEqual(self.product(cluster, folder, f"break {launches}"), want)
                    until(lambda: any("event=gpu_lost" in line for line in broken.lines["stderr"]),
                          what="the worker says so")

            side_by_side([functools.partial(run, launches) for launches in (1, 40, 80)])

    def test_the_last_device_lost(self):
        """The product goes on on processors, whose bits are the device's only because it is emulated; the worker says so."""
        with tempfile.TemporaryDirectory() as folder:
            with Cluster(workers=1, worker=("--gpus", "none")) as cluster:
                want = self.product(cluster, folder, "processors")
            spec = f"emulated:memory={60 * BLOCK},count=2,break=20"
            with Cluster(workers=1, worker=("--gpus", spec)) as cluster:
                self.assertEqual(self.product(cluster, folder, "devices"), want)
                said = cluster.workers[0].lines["stderr"]
                until(lambda: any("event=gpus_gone" in line for line in said), what="the worker says that none is left")
                self.assertEqual(sum("event=gpu_lost" in line for line in said), 2, said)
                until(lambda: all(device["lost"] for device in cluster.status()["workers"][0]["devices"]),
                      what="the status shows it")

    def test_cluster_that_began_without(self):
        """Products have the bits of the first worker's devices, so one that comes later leaves its own alone."""
        with tempfile.TemporaryDirectory() as folder, Cluster(workers=1, worker=("--gpus", "none")) as cluster:
            late = Process([TESSERA, "worker", cluster.address, "--gpus", "emulated", "--threads", "1"])
            cluster.workers.append(late)
            late.first_line("connected to ")
            until(lambda: any("event=gpus_idle" in line for line in late.lines["stderr"]), what="it says so")
            self.product(cluster, folder, "mixed")

    def test_what_devices_do_is_seen(self):
        """In `tessera status`, as a table and as JSON, and a row of the trace for each stream."""
        spec = f"emulated:memory={30 * BLOCK},count=2,latency=50"
        with tempfile.TemporaryDirectory() as folder, Cluster(workers=1, worker=("--gpus", spec)) as cluster:
            devices = lambda: cluster.status()["workers"][0]["devices"]
            until(lambda: len(devices()) == 2, what="the worker tells of its devices")
            before = devices()
            self.assertEqual([device["number"] for device in before], [0, 1])
            self.product(cluster, folder, "out")
            until(lambda: all(device["steps"] > 0 for device in devices()), what="their steps are told")
            until(lambda: all(device["joules"] > was["joules"] and device["utilisation"] == 0
                              for was, device in zip(before, devices())), what="the next look finds them idle")
            for device in devices():
                self.assertEqual(device["name"], "emulated device")
                self.assertFalse(device["lost"])
                self.assertEqual(device["memory_total_bytes"], 30 * BLOCK)
                self.assertLessEqual(device["memory_used_bytes"], device["memory_bytes"])
                self.assertLessEqual(device["memory_bytes"], 30 * BLOCK)
                self.assertEqual(device["watts"], 50)
                self.assertGreater(device["copied_in_bytes"] + device["copied_out_bytes"], 0)
            table = subprocess.run([TESSERA, "status", cluster.address], capture_output=True, text=True, env=environment(),
                                   timeout=20 * SLOW).stdout
            for word in ("gpu 0  emulated device", "gpu 1  emulated device", "50 W", " kJ", "busy 0 %"):
                self.assertIn(word, table)
            self.check_rows(cluster, folder)

    def take_trace(self, cluster, folder):
        path = f"{folder}/trace.json"
        subprocess.run([TESSERA, "trace", cluster.address, "-o", path], check=True, capture_output=True, env=environment(),
                       timeout=60 * SLOW)
        with open(path) as file:
            events = json.load(file)["traceEvents"]
        return events, {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}

    def test_processors_help_a_slow_device(self):
        """With what has the same bits on both, and with nothing else."""
        with tempfile.TemporaryDirectory() as folder:
            with Cluster(workers=1, worker=("--gpus", "none")) as cluster:
                want = self.product(cluster, folder, "processors")
            with Cluster(workers=1, threads=2, worker=("--gpus", f"emulated:memory={200 * BLOCK},compute=0.02")) as cluster:
                self.assertEqual(self.product(cluster, folder, "devices"), want)
                events, rows = self.take_trace(cluster, folder)
                where = {}
                for event in events:
                    if event.get("cat") == "run":
                        kind = "gpu" if rows[event["pid"], event["tid"]].startswith("gpu") else "slot"
                        where.setdefault(event["name"].split()[0], set()).add(kind)
                self.assertEqual(where["normal"], {"gpu", "slot"}, where)
                self.assertEqual(where["matmul"], {"gpu"}, where)

    def check_rows(self, cluster, folder):
        events, rows = self.take_trace(cluster, folder)
        kinds = {"copies in": "copy_in", "compute": "run", "copies out": "copy_out"}
        for gpu in (0, 1):
            for stream, kind in kinds.items():
                spans = [(e["ts"], e["ts"] + e["dur"]) for e in events
                         if rows.get((e["pid"], e.get("tid"))) == f"gpu {gpu} {stream}" and e.get("cat") == kind]
                self.assertGreater(len(spans), 0, (gpu, stream, rows))
                for (_, ended), (begun, _) in zip(sorted(spans), sorted(spans)[1:]):
                    self.assertLessEqual(ended, begun + 0.001)
        out = [e for e in events if e.get("cat") == "copy_out"]
        self.assertIn(BLOCK, {e["args"]["bytes"] for e in out})
        self.assertTrue(all(e["args"]["task"].split(".")[0] != "0" for e in out), out[:3])
        steps = [(e["args"]["task"], e["args"]["step"]) for e in events if e.get("cat") == "run"]
        self.assertEqual(len(steps), len(set(steps)))

    def test_a_lost_device_is_shown(self):
        with tempfile.TemporaryDirectory() as folder:
            with Cluster(workers=1, worker=("--gpus", f"emulated:memory={60 * BLOCK},break=5")) as cluster:
                self.product(cluster, folder, "out")
                until(lambda: cluster.status()["workers"][0]["devices"][0]["lost"], what="the status says so")

    def test_wrong_settings(self):
        cases = [
            (["--gpus", "all"], ["'all'", "auto, none, or numbers"]),
            (["--gpus", "0,0"], ["0,0"]),
            (["--gpus", "0,"], ["0,"]),
            (["--gpus", "emulated:memory=lots"], ["memory=lots", "no setting"]),
            (["--gpus", "emulated", "--gpu-memory", "0%"], ["0%", "90%"]),
            (["--gpus", "emulated", "--gpu-memory", "half"], ["half", "8GiB"]),
            (["--gpus", "999"], ["GPU"]),
        ]
        for options, words in cases:
            with self.subTest(" ".join(options)):
                done = subprocess.run([TESSERA, "worker", "tcp://127.0.0.1:1", *options], capture_output=True, text=True,
                                      env=environment(), timeout=20 * SLOW)
                self.assertNotEqual(done.returncode, 0)
                self.assertGreater(done.returncode, 0, "died of a signal\n" + done.stderr)
                for word in words:
                    self.assertIn(word, done.stderr)

    def test_without_devices_the_worker_says_why(self):
        with Cluster(workers=1) as cluster:
            until(lambda: "event=gpus" in "\n".join(cluster.workers[0].lines["stderr"]), what="a line about GPUs")


if __name__ == "__main__":
    unittest.main()
