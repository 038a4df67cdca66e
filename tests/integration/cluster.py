"""A real cluster of processes for integration tests: scheduler, workers, client programs."""
import json
import os
import queue
import re
import signal
import subprocess
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("TESSERA_BUILD", os.path.join(ROOT, "build", "release"))
TESSERA = os.path.join(BUILD, "bin", "tessera")
EXAMPLES = os.path.join(BUILD, "examples")
SLOW = 4 if "san" in os.path.basename(BUILD) else 1  # sanitizers take their time


def environment(extra=None):
    env = {k: v for k, v in os.environ.items()
           if not k.startswith("OPENBLAS_") and not k.startswith("TESSERA_")}
    env["TESSERA_HISTORY"] = "none"  # no test learns from another, or writes into somebody's home
    env.update(extra or {})
    return env


class Process:
    """A child whose output is read line by line by threads, so that waiting for a line has a deadline."""

    def __init__(self, command, env=None, namespace=None):
        if namespace:
            command = ["ip", "netns", "exec", namespace] + command
        self.command = command
        self.lines = {"stdout": [], "stderr": []}
        self.queue = queue.Queue()
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                      env=environment(env), stdin=subprocess.DEVNULL, cwd=ROOT)
        self.threads = [threading.Thread(target=self._read, args=(name,), daemon=True) for name in self.lines]
        for thread in self.threads:
            thread.start()

    def _read(self, name):
        with getattr(self.child, name) as stream:
            for line in stream:
                self.lines[name].append(line.rstrip("\n"))
                if name == "stdout":
                    self.queue.put(line.rstrip("\n"))
        if name == "stdout":
            self.queue.put(None)

    @property
    def pid(self):
        return self.child.pid

    def output(self):
        return "\n".join(["$ " + " ".join(self.command)] + self.lines["stdout"] + self.lines["stderr"][-60:])

    def first_line(self, prefix, seconds=20 * SLOW):
        try:
            line = self.queue.get(timeout=seconds)
        except queue.Empty:
            line = None
        if line is None or not line.startswith(prefix):
            raise AssertionError(f"expected '{prefix}…' as the first line on stdout, got {line!r}\n{self.output()}")
        return line[len(prefix):].strip()

    def wait(self, seconds=120 * SLOW):
        try:
            code = self.child.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still running after {seconds} s\n{self.output()}")
        for thread in self.threads:
            thread.join(timeout=5)
        return code

    def stop(self, number=signal.SIGTERM, seconds=20 * SLOW):
        if self.child.poll() is None:
            self.child.send_signal(number)
        return self.wait(seconds)

    def kill(self):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()

    def peak_bytes(self):
        return self.memory("VmHWM")

    def resident_bytes(self):
        return self.memory("VmRSS")

    def memory(self, field):
        with open(f"/proc/{self.pid}/status") as status:
            return int(re.search(field + r":\s+(\d+) kB", status.read()).group(1)) * 1024


class Cluster:
    """`with Cluster(workers=2) as cluster:`"""

    def __init__(self, workers=2, threads=1, memory="2GiB", scheduler=(), worker=(), listen="tcp://127.0.0.1:0"):
        self.folder = tempfile.mkdtemp(prefix="tessera-cluster.")
        self.scheduler = Process([TESSERA, "scheduler", "--listen", listen, *scheduler])
        self.workers = []
        self.worker_options = ["--threads", str(threads), "--memory", memory, *worker]
        try:
            self.address = self.scheduler.first_line("listening on ")
            for number in range(workers):
                self.add_worker(f"w{number}")
        except BaseException:
            self.close()
            raise

    def add_worker(self, name, *options):
        worker = Process([TESSERA, "worker", self.address, "--name", name, *self.worker_options, *options])
        self.workers.append(worker)
        worker.first_line("connected to ")
        return worker

    def status(self, *options):
        reply = subprocess.run([TESSERA, "status", self.address, "--json", *options], capture_output=True, text=True,
                               env=environment(), timeout=30 * SLOW)
        assert reply.returncode == 0, reply.stderr
        return json.loads(reply.stdout)

    def close(self):
        for process in self.workers + [self.scheduler]:
            process.kill()
        subprocess.run(["rm", "-rf", self.folder], check=False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def example(name, *options, env=None, namespace=None):
    return Process([os.path.join(EXAMPLES, name), *map(str, options)], env=env, namespace=namespace)


def run_example(name, *options, seconds=180 * SLOW, expect=0, env=None, namespace=None):
    """Run to the end; return (last stdout line as JSON if it is, process)."""
    process = example(name, *options, env=env, namespace=namespace)
    code = process.wait(seconds)
    if expect is not None and code != expect:
        raise AssertionError(f"exit status {code}, expected {expect}\n{process.output()}")
    result = None
    if process.lines["stdout"]:
        try:
            result = json.loads(process.lines["stdout"][-1])
        except ValueError:
            pass
    return result, process


def until(condition, seconds=20 * SLOW, what="condition"):
    """Poll for something that another process does; a deadline, not a pause, decides."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"{what}: not within {seconds} s")
