"""Operands of twice the worker's memory, under a cgroup limit; a worker's peak; blocks shared in place."""
import glob
import json
import os
import re
import subprocess
import tempfile
import unittest

import numpy

from cluster import BUILD, TESSERA, Cluster, Process, run_example

MIB = 1 << 20


class Cgroup:
    """A memory cgroup (v2, else v1) for one process; skipped where none can be made."""

    def __init__(self, limit_bytes):
        self.limit_bytes = limit_bytes
        name = f"tessera-test-{os.getpid()}"
        if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
            self.path, self.limit, self.peak = f"/sys/fs/cgroup/{name}", "memory.max", "memory.peak"
            self.events, self.killed = "memory.events", r"oom_kill (\d+)"
        else:
            self.path, self.limit = f"/sys/fs/cgroup/memory/{name}", "memory.limit_in_bytes"
            self.peak, self.events, self.killed = "memory.max_usage_in_bytes", "memory.oom_control", r"oom_kill (\d+)"

    def __enter__(self):
        try:
            os.mkdir(self.path)
            self.write(self.limit, self.limit_bytes)
        except OSError as error:
            raise unittest.SkipTest(f"no memory cgroup can be made here: {error}") from error
        return self

    def write(self, name, value):
        with open(os.path.join(self.path, name), "w") as file:
            file.write(str(value))

    def read(self, name):
        with open(os.path.join(self.path, name)) as file:
            return file.read()

    def __exit__(self, *_):
        try:
            os.rmdir(self.path)
        except OSError:
            pass


def blocks_needed(cluster, side):
    """worker → {"matmul": what it made of a product of two random arrays of side × side blocks, "a", "b": what it made
    or read of them}, from the trace."""
    path = os.path.join(cluster.folder, "trace.json")
    subprocess.run([TESSERA, "trace", cluster.address, "-o", path], check=True, capture_output=True)
    with open(path) as file:
        events = json.load(file)["traceEvents"]
    names = {e["pid"]: e["args"]["name"].split()[0] for e in events if e["name"] == "process_name"}
    ran = {(names[e["pid"]], *e["name"].split(), int(e["args"]["task"].split(":")[1]))
           for e in events if e.get("cat") == "run"}
    operands = sorted({int(layer) for _, operation, layer, _ in ran if operation == "normal"})
    assert len(operands) == 2, operands
    result = {}
    for name, operation, layer, index in ran:
        needs = result.setdefault(name, {"matmul": set(), "a": set(), "b": set()})
        if operation == "matmul":
            i, j = divmod(index, side)
            needs["matmul"].add(index)
            needs["a"].update(i * side + k for k in range(side))
            needs["b"].update(k * side + j for k in range(side))
        elif operation == "normal":
            needs["a" if int(layer) == operands[0] else "b"].add(index)
    return result


class Memory(unittest.TestCase):
    def test_operands_of_twice_the_memory(self):
        limit = 160 * MIB
        n = 4608  # 162 MiB an operand, 324 MiB both: twice the limit
        with tempfile.TemporaryDirectory(dir=os.environ.get("TESSERA_BIG_TMP")) as folder, Cgroup(limit) as group:
            rng = numpy.random.default_rng(11)
            a, b = rng.standard_normal((n, n)), rng.standard_normal((n, n))
            numpy.save(f"{folder}/a.npy", a)
            numpy.save(f"{folder}/b.npy", b)
            with Cluster(workers=0, worker=["--spill", folder]) as cluster:
                # The worker joins the group before it starts: it finds its limit there by itself.
                starter = ["sh", "-c", f'echo $$ > {group.path}/cgroup.procs && exec "$@"', "sh"]
                worker = Process([*starter, TESSERA, "worker", cluster.address, "--threads", "1", "--spill", folder])
                cluster.workers.append(worker)
                worker.first_line("connected to ")
                run_example("matmul", "--scheduler", cluster.address, "--a", f"{folder}/a.npy", "--b", f"{folder}/b.npy",
                            "--chunk", 256, "--out", f"{folder}/c.npy")
                memory = cluster.status()["workers"][0]["memory_bytes"]
                resident = worker.peak_bytes()
            peak = int(group.read(group.peak))
            kills = re.search(group.killed, group.read(group.events))
            print(f"limit {limit / MIB:.0f} MiB, worker's budget {memory / MIB:.0f}, its resident peak "
                  f"{resident / MIB:.0f}, group's peak {peak / MIB:.0f} MiB (page cache included)")
            self.assertEqual(int(kills.group(1)) if kills else 0, 0)
            self.assertLessEqual(resident, limit)
            self.assertLessEqual(memory, limit)
            error = numpy.linalg.norm(numpy.load(f"{folder}/c.npy") - a @ b) / numpy.linalg.norm(a @ b)
            self.assertLess(error, 1e-13)
            leftovers = [p for p in glob.glob(f"{folder}/*") if not p.endswith(".npy")]
            self.assertTrue(len(leftovers) <= 1, leftovers)

    def test_expression_of_four_times_the_memory(self):
        """sum((A + B) C): two workers in one group, whose operands are four times their memory. What is finished is
        consumed at once: the sum and the product are never there as a whole."""
        budget, limit = 48 * MIB, 176 * MIB
        n = 4096  # 128 MiB an operand, 384 MiB all three
        with tempfile.TemporaryDirectory(dir=os.environ.get("TESSERA_BIG_TMP")) as folder, Cgroup(limit) as group:
            rng = numpy.random.default_rng(12)
            operands = {name: rng.standard_normal((n, n)) for name in "abc"}
            for name, operand in operands.items():
                numpy.save(f"{folder}/{name}.npy", operand)
            with Cluster(workers=0) as cluster:
                starter = ["sh", "-c", f'echo $$ > {group.path}/cgroup.procs && exec "$@"', "sh"]
                for number in range(2):
                    worker = Process([*starter, TESSERA, "worker", cluster.address, "--threads", "1", "--spill", folder,
                                      "--memory", f"{budget // MIB}MiB", "--name", f"w{number}"])
                    cluster.workers.append(worker)
                    worker.first_line("connected to ")
                program = Process([os.path.join(BUILD, "tests", "bench", "bench_expression"), "--scheduler",
                                   cluster.address, "--chunk", "256", *[part for name in "abc" for part in (
                                       f"--{name}", f"{folder}/{name}.npy")]])
                self.assertEqual(program.wait(240), 0, program.output())
                result = json.loads(program.lines["stdout"][-1])
                workers = cluster.status()["workers"]
                resident = sum(worker.peak_bytes() for worker in cluster.workers)
            kills = re.search(group.killed, group.read(group.events))
            print(f"group's limit {limit / MIB:.0f} MiB, both budgets {2 * budget / MIB:.0f}, resident peaks together "
                  f"{resident / MIB:.0f}, spilled {sum(w['spilled_bytes'] for w in workers) / MIB:.0f} MiB, "
                  f"{result['seconds']:.1f} s")
            self.assertEqual(int(kills.group(1)) if kills else 0, 0)
            for worker in workers:
                self.assertLessEqual(worker["memory_peak_bytes"], budget)
            expected = float(numpy.sum((operands["a"] + operands["b"]) @ operands["c"]))
            scale = float(n) ** 1.5 * float(n) ** 0.5  # of the sum of n^2 products of n random terms, generously
            self.assertLess(abs(result["sum"] - expected) / scale, 1e-9)

    def test_peak_of_each_worker(self):
        """Against the blocks of the result that it made and the operands that they need or that it made: on a busy
        machine stealing makes the shares unequal."""
        n, chunk = 4096, 512
        with Cluster(workers=2) as cluster:
            run_example("matmul", "--scheduler", cluster.address, "--n", n, "--chunk", chunk)
            peaks = {f"w{number}": worker.peak_bytes() for number, worker in enumerate(cluster.workers)}
            blocks = blocks_needed(cluster, n // chunk)
        self.assertEqual(sum(len(needs["matmul"]) for needs in blocks.values()), (n // chunk) ** 2)
        for name, peak in peaks.items():
            needed = sum(len(places) for places in blocks[name].values()) * chunk * chunk * 8
            print(f"{name}: {len(blocks[name]['matmul'])} blocks of the result; resident peak {peak / MIB:.0f} MiB of "
                  f"{needed / MIB:.0f} needed: {peak / needed:.2f}")
            self.assertLessEqual(peak, 1.15 * needed)

    def test_neighbours_read_in_place(self):
        with Cluster(workers=2) as cluster:
            run_example("matmul", "--scheduler", cluster.address, "--n", 2048, "--chunk", 256)
            workers = cluster.status()["workers"]
            self.assertGreater(sum(w["mapped_bytes"] for w in workers), 0)
            self.assertEqual(sum(w["fetched_bytes"] for w in workers), 0, "nothing is copied on one host")


if __name__ == "__main__":
    unittest.main()
