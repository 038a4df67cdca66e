"""Workers that are full: of results, of small blocks; disks that take nothing, spill files that are damaged or gone."""
# tests/run: all modes
import glob
import json
import os
import shutil
import tempfile
import unittest

from cluster import BUILD, SLOW, TESSERA, Cluster, Process, until

MIB = 1 << 20
BLOCK = (512, 256)  # rows and columns of a block of 1 MiB


class Client(Process):
    def __init__(self, cluster, blocks, what, block=BLOCK, fifo=None):
        super().__init__([os.path.join(BUILD, "tests", "integration", "client_full"), cluster.address, str(blocks),
                          str(block[0]), str(block[1]), what, *([fifo] if fifo else [])])

    def result(self, code=0):
        status = self.wait(60 * SLOW)
        assert status == code, self.output()
        return json.loads(self.lines["stdout"][-1])


def fifo_in(folder):
    path = os.path.join(folder, "go-on")
    os.mkfifo(path)
    return path


def go_on(path):
    os.close(os.open(path, os.O_WRONLY))


class Full(unittest.TestCase):
    def test_blocks_of_a_full_worker_go_where_room_is(self):
        """What is held takes five sixths of all memory, and lies at one worker until the others join."""
        blocks = 60 if SLOW == 1 else 30
        with Cluster(workers=1, memory=f"{blocks * 2 + 4}MiB", worker=["--spill", "none"]) as cluster:
            with tempfile.TemporaryDirectory() as folder:
                fifo = fifo_in(folder)
                client = Client(cluster, blocks * 3 // 2, "transpose", fifo=fifo)
                client.first_line("holding")
                for number in range(3):
                    cluster.add_worker(f"late{number}", "--memory", f"{blocks // 2}MiB")
                go_on(fifo)
                result = client.result()
        self.assertEqual(result["transposed"], "ok ")
        self.assertGreater(result["sum"], blocks)

    def test_too_much_is_refused_at_once(self):
        with Cluster(workers=2, memory="32MiB", worker=["--spill", "none"]) as cluster:
            result = Client(cluster, 64, "nothing").result(1)
            self.assertIn("beside", result["held"])
            self.assertIn("--memory", result["held"])
            self.assertEqual(cluster.status()["tasks_total"], 0)

    def test_disk_that_takes_nothing_is_named(self):
        """A limit on the size of files stands in for a full disk."""
        with tempfile.TemporaryDirectory() as folder, Cluster(workers=0, scheduler=["--wait-workers", "1"]) as cluster:
            limited = ["sh", "-c", 'trap "" XFSZ; ulimit -f 64; exec "$@"', "sh"]
            for number in range(2):
                worker = Process([*limited, TESSERA, "worker", cluster.address, "--threads", "1", "--memory", "24MiB",
                                  "--spill", folder, "--spill-limit", "1GiB", "--name", f"w{number}"])
                cluster.workers.append(worker)
                worker.first_line("connected to ")
            result = Client(cluster, 96, "nothing").result(1)
            self.assertIn(folder, result["held"])
            self.assertIn("--spill", result["held"])
            self.assertRegex(result["held"], r"worker w[01]")
            lines = [line for worker in cluster.workers for line in worker.lines["stderr"] if "spill_failed" in line]
            self.assertLessEqual(len(lines), 2 * (1 + int(60 * SLOW) // 10), lines)
            until(lambda: sum(w["memory_used_bytes"] for w in cluster.status()["workers"]) == 0, what="memory is free")

    def spilled(self, hurt):
        """Hold twice what memory takes, hurt the spill files, and read it all."""
        with tempfile.TemporaryDirectory() as parent:
            folder = os.path.join(parent, "spill")
            os.mkdir(folder)
            fifo = fifo_in(parent)
            with Cluster(workers=2, memory="24MiB", worker=["--spill", folder]) as cluster:
                right = Client(cluster, 96, "sum").result()
                client = Client(cluster, 96, "transpose", fifo=fifo)
                client.first_line("holding")
                self.assertTrue(glob.glob(f"{folder}/*/*.block"))
                hurt(folder)
                go_on(fifo)
                result = client.result()
                self.assertEqual(len(cluster.status()["workers"]), 2, "nobody ends of it")
            self.assertAlmostEqual(result["sum"], right["sum"], delta=1e-3)

    def test_spill_folder_that_is_removed(self):
        self.spilled(shutil.rmtree)

    def test_damaged_spill_files(self):
        def damage(folder):
            for path in glob.glob(f"{folder}/*/*.block"):
                with open(path, "r+b") as file:
                    file.seek(300000)
                    file.write(b"damage")

        self.spilled(damage)


class Small(unittest.TestCase):
    def test_a_million_small_blocks(self):
        """A worker stays near its budget, and gives its memory back when they have gone."""
        count, memory = (1000000, 512) if SLOW == 1 else (50000, 64)
        with Cluster(workers=1, memory=f"{memory}MiB") as cluster, tempfile.TemporaryDirectory() as folder:
            fifo = fifo_in(folder)
            client = Client(cluster, count, "sum", block=(1, 1), fifo=fifo)
            client.first_line("holding", seconds=90 * SLOW)
            used = cluster.status()["workers"][0]["memory_used_bytes"]
            go_on(fifo)
            result = client.result()
            self.assertEqual(result["held"], "ok ")
            self.assertAlmostEqual(result["sum"] / count, 1.5, delta=0.05)
            peak = cluster.workers[0].peak_bytes()
            print(f"{count} blocks: {used / MIB:.0f} MiB by the worker's account, resident peak {peak / MIB:.0f} MiB of "
                  f"{memory} allowed")
            self.assertGreater(used, 500 * count)
            if SLOW == 1:
                self.assertLessEqual(peak, (memory + 64) * MIB)
                until(lambda: resident(cluster.workers[0]) < 100 * MIB, what="memory is given back")

    def test_more_than_memory_holds_are_refused(self):
        with Cluster(workers=1, memory="64MiB") as cluster:
            result = Client(cluster, 1000000, "nothing", block=(1, 1)).result(1)
            self.assertIn("small blocks", result["held"])
            self.assertIn("larger chunks", result["held"])


def resident(process):
    with open(f"/proc/{process.pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


if __name__ == "__main__":
    unittest.main()
