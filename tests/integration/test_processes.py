"""Scheduler, workers and a client as processes of their own: the main job, status, ends, ports."""
# tests/run: all modes
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import unittest

import numpy

from cluster import BUILD, EXAMPLES, ROOT, SLOW, TESSERA, Cluster, Process, environment, run_example, until

N = 600 if SLOW > 1 else 1500


class Processes(unittest.TestCase):
    def test_matmul_through_two_workers(self):
        with Cluster(workers=2) as cluster:
            result, process = run_example("matmul", "--scheduler", cluster.address, "--n", N, "--chunk", 256, "--check",
                                          "--json")
            for key in ("m", "n", "k", "chunk", "dtype", "seconds", "gflops", "tasks", "tasks_rerun", "bytes_moved",
                        "steals", "workers", "peak_worker_bytes"):
                self.assertIn(key, result)
            self.assertEqual(result["workers"], 2)
            self.assertEqual(result["tasks_rerun"], 0)
            status = cluster.status()
            self.assertEqual(len(status["workers"]), 2)
            self.assertNotIn("\r", "".join(process.lines["stderr"]), "no progress bar without a terminal")

    def test_blocks_are_freed_when_the_client_has_gone(self):
        with Cluster(workers=2) as cluster:
            run_example("matmul", "--scheduler", cluster.address, "--n", 512, "--chunk", 128)
            until(lambda: sum(w["memory_used_bytes"] for w in cluster.status()["workers"]) == 0, what="memory is free")

    def test_sigterm_and_sigint_end_each_cleanly(self):
        with Cluster(workers=2) as cluster:
            self.assertEqual(cluster.workers[0].stop(signal.SIGTERM), 0, cluster.workers[0].output())
            until(lambda: len(cluster.status()["workers"]) == 1, what="the scheduler has noticed")
            self.assertEqual(cluster.scheduler.stop(signal.SIGINT), 0, cluster.scheduler.output())
            self.assertEqual(cluster.workers[1].wait(20 * SLOW), 0, cluster.workers[1].output())

    def test_taken_port_is_named(self):
        with Cluster(workers=0) as cluster:
            second = Process([TESSERA, "scheduler", "--listen", cluster.address])
            self.assertNotEqual(second.wait(10 * SLOW), 0)
            text = "\n".join(second.lines["stderr"])
            self.assertIn(cluster.address.rsplit(":", 1)[1], text)

    def test_other_addresses_need_keys_or_insecure(self):
        process = Process([TESSERA, "scheduler", "--listen", "tcp://0.0.0.0:0"])
        self.assertNotEqual(process.wait(10 * SLOW), 0)
        text = "\n".join(process.lines["stderr"])
        self.assertIn("--keys", text)
        self.assertIn("--insecure", text)

    def test_unknown_listening_host_is_named(self):
        done = subprocess.run([TESSERA, "scheduler", "--listen", "no-such-host.invalid"], capture_output=True, text=True,
                              env=environment(), timeout=20 * SLOW)
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot resolve the host 'no-such-host.invalid'", done.stderr)
        self.assertNotIn("other machines", done.stderr)

    def test_all_interfaces_are_those_of_both_families(self):
        hosts = ["127.0.0.1"]
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
            hosts.append("[::1]")
        with Cluster(workers=0, scheduler=["--insecure"], listen="tcp://*:0") as cluster:
            port = cluster.address.rsplit(":", 1)[1]
            for number, host in enumerate(hosts):
                cluster.address = f"tcp://{host}:{port}"
                cluster.add_worker(f"w{number}")
            self.assertEqual(len(cluster.status()["workers"]), len(hosts))
            run_example("matmul", "--scheduler", cluster.address, "--n", 256, "--chunk", 64, "--check")

    def test_killed_worker_is_named_in_the_log(self):
        with Cluster(workers=2) as cluster:
            cluster.workers[0].kill()
            line = until(lambda: next((line for line in cluster.scheduler.lines["stderr"]
                                       if "event=worker_gone" in line), None), what="the log says so")
            for word in ("level=warn", 'name="w0"', "address=tcp://127.0.0.1:", 'why="its connection ended"',
                         "tasks_assigned=", "memory_used_bytes="):
                self.assertIn(word, line)
            self.assertEqual(cluster.workers[1].stop(), 0)
            line = until(lambda: next((line for line in cluster.scheduler.lines["stderr"]
                                       if "event=worker_gone" in line and 'name="w1"' in line), None), what="and of w1")
            self.assertIn("goodbye", line)

    def test_wrong_keys_are_counted_as_such(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("ours", "theirs"):
                subprocess.run([TESSERA, "keygen", f"{folder}/{name}"], check=True, capture_output=True,
                               env=environment(), timeout=20 * SLOW)
            with Cluster(workers=0, scheduler=["--keys", f"{folder}/ours"]) as cluster:
                wrong = subprocess.run([TESSERA, "status", cluster.address, "--keys", f"{folder}/theirs"],
                                       capture_output=True, text=True, env=environment(), timeout=30 * SLOW)
                self.assertEqual(wrong.returncode, 1)
                self.assertIn("key", wrong.stderr)
                status = until(lambda: next((s for s in [cluster.status("--keys", f"{folder}/ours")]
                                             if s["keys_refused"] > 0), None), what="the refusal is counted")
                self.assertEqual(status["handshakes_refused"], 0)

    def test_every_field_of_the_status_is_documented(self):
        with open(os.path.join(ROOT, "client", "README.md"), encoding="utf-8") as file:
            words = set(re.findall(r"`([a-z_]+)`", file.read()))

        def check(value):
            for name, inner in value.items():
                self.assertIn(name, words, "a field without a word in client/README.md, 'What programs read'")
                if name != "steals_refused":
                    for each in inner if isinstance(inner, list) else [inner]:
                        if isinstance(each, dict):
                            check(each)

        with Cluster(workers=1, worker=["--gpus", "emulated:memory=64MiB"]) as cluster:
            check(until(lambda: next((s for s in [cluster.status()] if s["workers"][0]["devices"]), None),
                        what="the device has told"))
            result, _ = run_example("matmul", "--scheduler", cluster.address, "--n", 64, "--chunk", 32, "--json")
            check(result)

    def test_names_of_arrays_are_shown(self):
        with tempfile.TemporaryDirectory() as folder, \
                Cluster(workers=1, scheduler=["--wait-workers", "100s"]) as cluster:
            client = Process([os.path.join(BUILD, "tests/integration/client_task_options"), cluster.address, "256", "64", "tape=1"])
            try:
                arrays = until(lambda: [a for a in cluster.status()["arrays"] if a["name"] == "the \x1b product"],
                               what="the array is there")
                self.assertEqual((arrays[0]["operation"], arrays[0]["tasks"], arrays[0]["tasks_done"]), ("matmul", 16, 0))
                shown = subprocess.run([TESSERA, "status", cluster.address], capture_output=True, text=True, check=True,
                                       env=environment(), timeout=30 * SLOW).stdout
                self.assertRegex(shown, r"array +the .* product  matmul")
                why = cluster.status("--why", f"{arrays[0]['layer']}:3")["tasks"][0]
                self.assertEqual((why["name"], why["operation"]), ("the \x1b product", "matmul"))
                text = subprocess.run([TESSERA, "status", cluster.address, "--why"], capture_output=True, text=True,
                                      check=True, env=environment(), timeout=30 * SLOW).stdout
                self.assertRegex(text, r"matmul \[the .* product\]  unassigned")
                subprocess.run([TESSERA, "trace", cluster.address, "-o", f"{folder}/run.json"], check=True,
                               capture_output=True, env=environment(), timeout=60 * SLOW)
                with open(f"{folder}/run.json", encoding="utf-8") as file:
                    names = {event["name"] for event in json.load(file)["traceEvents"]}
                self.assertTrue(any(re.fullmatch(r"layer matmul \d+ \[the \x1b product\]", name) for name in names), names)
                self.assertTrue(any(name.endswith("[for the \x1b product]") for name in names), names)
            finally:
                client.kill()

    def test_names_do_not_write_to_the_terminal(self):
        evil = "w\x1b[31m\x07\u009b2J\nworkers 7"
        with Cluster(workers=0) as cluster:
            worker = Process([TESSERA, "worker", cluster.address, "--name", evil])
            cluster.workers.append(worker)
            worker.first_line("connected to ")
            for options in ([], ["--json"]):
                reply = subprocess.run([TESSERA, "status", cluster.address, *options], capture_output=True,
                                       env=environment(), timeout=30 * SLOW)
                shown = reply.stdout.decode()
                self.assertEqual([c for c in shown if c != "\n" and (ord(c) < 32 or 127 <= ord(c) < 160)], [])
                self.assertFalse(any(line.startswith("workers 7") for line in shown.splitlines()))
            self.assertEqual(cluster.status()["workers"][0]["name"], evil, "the same JSON")
            log = "\n".join(cluster.scheduler.lines["stderr"] + worker.lines["stderr"])
            self.assertNotIn("\x1b", log)
            self.assertNotIn("\u009b", log)

    def test_environment_names_the_cluster_of_a_program(self):
        with Cluster(workers=1) as cluster:
            run_example("twenty_lines", env={"TESSERA_SCHEDULER": cluster.address})
            done = cluster.status()["tasks_done"]
            self.assertGreater(done, 0)
            run_example("matmul", "--n", 64, "--chunk", 32, "--workers", 1, env={"TESSERA_SCHEDULER": cluster.address})
            self.assertEqual(cluster.status()["tasks_done"], done, "that one has a cluster of its own")

    def test_environment_gives_options(self):
        process = Process([TESSERA, "scheduler"], env={"TESSERA_LISTEN": "tcp://127.0.0.1:0"})
        self.assertTrue(process.first_line("listening on ").startswith("tcp://127.0.0.1:"))
        self.assertEqual(process.stop(), 0)

    def test_help_and_version(self):
        for command in ([TESSERA, "--help"], [TESSERA, "worker", "--help"], [TESSERA, "help", "worker"], [TESSERA, "--version"],
                        [os.path.join(EXAMPLES, "matmul"), "--help"]):
            done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=20 * SLOW)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertTrue(done.stdout.strip())
        typo = subprocess.run([TESSERA, "worker", "--thread", "2"], capture_output=True, text=True, env=environment(),
                              timeout=20 * SLOW)
        self.assertNotEqual(typo.returncode, 0)
        self.assertIn("--threads", typo.stderr)

    def test_output_file_agrees_with_numpy(self):
        with tempfile.TemporaryDirectory() as folder, Cluster(workers=2) as cluster:
            rng = numpy.random.default_rng(1)
            a, b = rng.standard_normal((301, 203)), rng.standard_normal((203, 177))
            numpy.save(f"{folder}/a.npy", a)
            numpy.save(f"{folder}/b.npy", numpy.asfortranarray(b))
            run_example("matmul", "--scheduler", cluster.address, "--a", f"{folder}/a.npy", "--b", f"{folder}/b.npy",
                        "--chunk", 64, "--out", f"{folder}/c.npy")
            numpy.testing.assert_allclose(numpy.load(f"{folder}/c.npy"), a @ b, rtol=1e-12, atol=1e-12)
            self.assertEqual(sorted(os.listdir(folder)), ["a.npy", "b.npy", "c.npy"])

    def test_other_examples(self):
        for name in ("power_iteration", "pca", "twenty_lines"):
            with self.subTest(name):
                run_example(name)


if __name__ == "__main__":
    unittest.main()
