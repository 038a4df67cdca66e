"""What the bench scripts share: where programs are, starting and stopping them, how much of the processors
somebody else took meanwhile, medians."""

import argparse
import glob
import json
import os
import pathlib
import platform
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
# In a bundle the programs lie where they would lie below build/release.
BUNDLED = (ROOT / "bin" / "tessera").exists()
BUILD = pathlib.Path(os.environ.get("TESSERA_BUILD", ROOT if BUNDLED else ROOT / "build" / "release"))
OTHERS_LIMIT = 0.10  # of all processors; a repeat that lost more is measured again or flagged
INHERITED = {key: value for key, value in os.environ.items() if key.startswith("OPENBLAS_")}


def say(text=""):
    print(text, file=sys.stderr, flush=True)


def parser(doc):
    """Of a script whose first paragraph says what it measures."""
    return argparse.ArgumentParser(description=" ".join(doc.split("\n\n")[0].split()))


def require_any(names, only):
    """A run that measures nothing would meet every bar: it ends here."""
    if only and not any(only in name for name in names):
        say("nothing has %r in its name; there are: %s" % (only, ", ".join(names)))
        sys.exit(2)


def clean_up_on_signal():
    """Let SIGTERM end the program as an exception does, so that what was started is stopped."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def program(name):
    path = BUILD / name
    if not path.exists():
        raise RuntimeError("%s is missing: build it with scons" % path)
    return str(path)


def environment(**more):
    """Without an inherited choice of BLAS kernels, which halves the speed where it does not fit, and without settings
    of `tessera`; what the CUDA plugin for processors is like stays (tests/cuda_host)."""
    kept = ("TESSERA_CUDA_HOST", "TESSERA_CUDA_SMALL")
    clean = {key: value for key, value in os.environ.items() if key in kept or not key.startswith(("OPENBLAS_", "TESSERA_"))}
    clean["TESSERA_HISTORY"] = "none"  # no run learns from another
    clean.update(more)
    return clean


def read_text(path):
    try:
        return pathlib.Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return "unknown"


def conditions():
    """What a figure depends on besides the program."""
    processor = [line.split(":", 1)[1].strip() for line in read_text("/proc/cpuinfo").splitlines()
                 if line.startswith("model name")]
    return {
        "processor": processor[0] if processor else platform.machine(),
        "cpus": os.cpu_count(),
        "may_use_cpus": sorted(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "huge_pages": read_text("/sys/kernel/mm/transparent_hugepage/enabled"),
        "huge_pages_shared": read_text("/sys/kernel/mm/transparent_hugepage/shmem_enabled"),
        "congestion_control": read_text("/proc/sys/net/ipv4/tcp_congestion_control"),
        "governor": read_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "openblas_inherited_and_unset": INHERITED,
        "load_average": list(os.getloadavg()),
    }


# CUDA.


def gpu_conditions():
    """What nvidia-smi says of each device; "" where there is none."""
    fields = "name,driver_version,memory.total,clocks.sm,clocks.max.sm,power.draw,power.limit,temperature.gpu"
    try:
        done = subprocess.run(["nvidia-smi", "--query-gpu=" + fields, "--format=csv,noheader"], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, universal_newlines=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def find_cuda_libraries():
    """Where the loader does not find cuBLAS and NVRTC by itself, look where CUDA and Python packages put them, and tell it
    by LD_LIBRARY_PATH."""
    plugin = BUILD / "lib" / "tessera" / "cuda.so"
    if not plugin.exists():
        return
    needed = subprocess.run(["ldd", str(plugin)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                            universal_newlines=True).stdout
    wanted = [line.split()[0] for line in needed.splitlines() if "not found" in line]
    known = subprocess.run(["/sbin/ldconfig", "-p"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                           universal_newlines=True).stdout if os.path.exists("/sbin/ldconfig") else ""
    wanted += [] if "libnvrtc.so.13" in known else ["libnvrtc.so.13"]
    places = ["/usr/local/cuda*/lib64", "/usr/local/cuda*/targets/*/lib", "/usr/lib/*-linux-gnu",
              "/usr/lib/python3*/site-packages/nvidia/*/lib", "/usr/local/lib/python3*/*-packages/nvidia/*/lib",
              "/opt/*/lib/python3*/site-packages/nvidia/*/lib", "/opt/*/.venv/lib/python3*/site-packages/nvidia/*/lib",
              *(path + "/nvidia/*/lib" for path in sys.path if path)]
    found = []
    for name in wanted:
        paths = [path for place in places for path in sorted(glob.glob(place + "/" + name))]
        if paths and os.path.dirname(paths[0]) not in found:
            found.append(os.path.dirname(paths[0]))
    if found:
        old = os.environ.get("LD_LIBRARY_PATH")
        os.environ["LD_LIBRARY_PATH"] = ":".join(found + ([old] if old else []))
        say("LD_LIBRARY_PATH                %s" % os.environ["LD_LIBRARY_PATH"])


# The share of the processors that others took.


def processor_ticks():
    """(ticks that somebody computed or was kept from computing, all ticks); interrupts belong to nobody."""
    field = [int(text) for text in read_text("/proc/stat").splitlines()[0].split()[1:9]]
    user, nice, system, idle, wait, irq, softirq, steal = field
    return user + nice + system + steal, user + nice + system + idle + wait + irq + softirq + steal


def own_ticks():
    """Ticks of this process and all its descendants, those that were waited for included."""
    times, children = {}, {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = pathlib.Path("/proc", entry, "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            field = text[text.rindex(")") + 2:].split()
            times[int(entry)] = sum(int(value) for value in field[11:15])
            children.setdefault(int(field[1]), []).append(int(entry))
    total, waiting = 0, [os.getpid()]
    while waiting:
        process = waiting.pop()
        total += times.get(process, 0)
        waiting += children.get(process, [])
    return total


class Others:
    """`with Others() as others: …` leaves in others.share what others took meanwhile."""

    share = 0.0

    def __enter__(self):
        self.own, (self.busy, self.all) = own_ticks(), processor_ticks()
        return self

    def __exit__(self, *exception):
        own, (busy, everything) = own_ticks(), processor_ticks()
        self.share = max(0.0, (busy - self.busy - (own - self.own)) / max(1, everything - self.all))


def undisturbed(measure, retries):
    """Call `measure` until a call had the machine to itself, `retries` times again at most. Of the calls the least
    disturbed one counts. Returns (result, share of others, retries used)."""
    best, used = None, 0
    while True:
        with Others() as others:
            result = measure()
        if best is None or others.share < best[1]:
            best = (result, others.share)
        if others.share <= OTHERS_LIMIT or used >= retries:
            return best + (used,)
        used += 1


# Programs.


class Service:
    """A program that runs until it is stopped. With `says` the constructor waits for a line of its output that begins
    so, and keeps the line's next word. As a context manager it is stopped at the end, whatever happened."""

    def __init__(self, command, says=None, talks=False, timeout=30, env=None):
        self.command = [str(part) for part in command]
        self.text = b""
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=self.errors, env=env or environment())
        self.answer = self.read_line(says, timeout)[len(says):].split()[0] if says else None

    def read_line(self, beginning, timeout):
        """The next line of output that begins so; others are skipped."""
        end = time.monotonic() + timeout
        while True:
            line, newline, rest = self.text.partition(b"\n")
            if newline:
                self.text = rest
                if line.startswith(beginning.encode()):
                    return line.decode()
                continue
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))
            more = os.read(self.process.stdout.fileno(), 4096) if ready else b""
            if not more:
                said = self.said()
                self.stop()
                raise RuntimeError("%s did not say '%s'\n%s" % (" ".join(self.command), beginning, said))
            self.text += more

    def write_line(self):
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def said(self):
        """The end of what the program wrote to standard error."""
        self.errors.flush()
        self.errors.seek(0)
        return self.errors.read()[-2000:]

    def memory(self):
        """Bytes of the process: most that was ever resident, and what is resident now, by kind."""
        found = {}
        for line in read_text("/proc/%d/status" % self.process.pid).splitlines():
            name, _, rest = line.partition(":")
            if name in ("VmHWM", "VmRSS", "RssAnon", "RssShmem"):
                found[name] = int(rest.split()[0]) * 1024
        return found

    def stop(self, number=signal.SIGTERM, timeout=20):
        if self.process.poll() is None and not self.errors.closed:
            self.process.send_signal(number)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            if stream:
                stream.close()
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stop()


def run_json(command, timeout=600, env=None):
    """The JSON object in the last line that a command prints, or the end with what it said."""
    done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, timeout=timeout, env=env or environment())
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        raise RuntimeError("%s: exit status %d\n%s%s" % (" ".join(str(part) for part in command), done.returncode,
                                                         done.stdout[-2000:], done.stderr[-2000:]))
    return json.loads(lines[-1])


def read_back(path):
    """Bytes that came back from spill files, from a trace: what was loaded, and what was sent while it was in its file."""
    with open(path, encoding="utf-8") as file:
        events = [event for event in json.load(file)["traceEvents"] if event.get("cat") in ("spill", "load", "serve")]
    spilled, back = {}, 0
    for event in sorted(events, key=lambda event: event["ts"]):
        block = event["pid"], event["args"]["task"]
        if event["cat"] == "spill":
            spilled[block] = event["args"]["bytes"]
        elif block in spilled:
            back += spilled[block]
            if event["cat"] == "load":
                del spilled[block]  # its file is gone
    return back


class Cluster:
    """A scheduler, and workers with one thread each, as processes: all on this host, or each in the network namespace
    that its `inside` prefix enters."""

    def __init__(self, host="127.0.0.1", inside=(), scheduler_options=()):
        self.tessera = program("bin/tessera")
        self.inside = list(inside)
        self.workers = []
        self.scheduler = Service(self.inside + [self.tessera, "scheduler", "--listen", "tcp://%s:0" % host,
                                                "--log", "warn", *scheduler_options], says="listening on ")
        self.endpoint = self.scheduler.answer

    def add_worker(self, *options, inside=(), env=None):
        """Returns when the scheduler has taken it in."""
        command = [self.tessera, "worker", self.endpoint, "--threads", "1", "--log", "warn",
                   "--name", "worker-%d" % len(self.workers), *options]
        self.workers.append(Service(list(inside) + command, says="connected to ", env=env))
        return self.workers[-1]

    def status(self, *options):
        return run_json(self.inside + [self.tessera, "status", self.endpoint, "--json", *options], timeout=30)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is not None:
            for service in self.workers + [self.scheduler]:
                if not service.errors.closed:
                    say(service.said())
        for service in self.workers + [self.scheduler]:
            service.stop()


# Figures.


def summary(values):
    """Median, least, most, and the spread: half of what lies between least and most, over the median."""
    if not values:
        return None
    middle = statistics.median(values)
    return {"median": middle, "min": min(values), "max": max(values),
            "spread": (max(values) - min(values)) / 2 / middle if middle else 0.0, "values": values}
