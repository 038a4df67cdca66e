"""The benches of the engine's own cost: tasks, dag, chain, submit, stencil. Scripts of those names call main().

Every repeat measures each variant once, in turn, with a cluster of its own. The table goes to standard error; the
last line of standard output is one JSON object."""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys

import support
from support import Cluster, environment, program, run_json, say, summary

HERE = pathlib.Path(__file__).resolve().parent
PEERS = support.ROOT / "build" / "peers"
STARPU_SETTINGS = {"STARPU_NCPU": "2", "STARPU_NCUDA": "0", "STARPU_NOPENCL": "0", "STARPU_SCHED": "lws",
                   "STARPU_SILENT": "1", "STARPU_LIMIT_CPU_MEM": "0"}


class Variant:
    """One way to run a bench: `run` returns the program's JSON, `figure` takes the figure out of it. A ratio of two
    variants is how many times better the first one is: `more` says which direction is better."""

    def __init__(self, run, figure, unit, more, peer=None):
        self.run, self.figure, self.unit, self.more, self.peer = run, figure, unit, more, peer


def rate(run, count="tasks", peer=None):
    return Variant(run, lambda result: result[count] / result["seconds"], "tasks/s", True, peer)


def each_us(run, count, peer=None):
    return Variant(run, lambda result: result["seconds"] / (result[count] if count else 1) * 1e6, "us", False, peer)


def clustered(command, workers, shared):
    """What a bench program says that runs against a scheduler and workers of one thread as processes. Workers with a
    host id of their own exchange blocks over TCP, as between machines; with equal ones they share memory."""
    with Cluster() as cluster:
        for number in range(workers):
            cluster.add_worker(*([] if shared else ["--host-id", "own-%d" % number]))
        return run_json([*command, "--scheduler", cluster.endpoint, "--workers", workers])


def tcp(name, *arguments, workers=2, shared=True):
    return lambda: clustered([program("tests/bench/bench_" + name), *arguments], workers, shared)


def embedded(name, *arguments):
    return lambda: run_json([program("tests/bench/bench_" + name), *arguments])


# Peers.


def dask(name, *arguments):
    driver = [PEERS / "dask" / "bin" / "python", HERE / "peers" / "dask_overhead.py", name, *arguments]
    return lambda: run_json(driver, env=environment(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1"))


def starpu(*arguments):
    return lambda: run_json([PEERS / "starpu_overhead", *arguments], env=environment(**STARPU_SETTINGS))


def install_dask():
    """The current releases from the package index, in a folder of their own below build/."""
    python = PEERS / "dask" / "bin" / "python"
    if not python.exists():
        say("installing dask, distributed and numpy in %s" % (PEERS / "dask"))
        subprocess.run([sys.executable, "-m", "venv", str(PEERS / "dask")], check=True, stdout=sys.stderr)
    if subprocess.run([str(python), "-c", "import dask.array, distributed"], stderr=subprocess.DEVNULL).returncode:
        subprocess.run([str(python), "-m", "pip", "install", "-q", "dask", "distributed", "numpy"], check=True,
                       stdout=sys.stderr)


def compile_peer(source, target, *flags):
    command = ["gcc", "-O2", "-I", str(support.ROOT), str(HERE / "peers" / source), "-o", str(PEERS / target), *flags]
    subprocess.run(command, check=True, stdout=sys.stderr)


def prepare_peers():
    """What is there to compare with, and why something is not: (names, {name: reason})."""
    PEERS.mkdir(parents=True, exist_ok=True)
    there, missing = [], {}
    try:
        install_dask()
        compile_peer("kernel.c", "kernel.so", "-shared", "-fPIC")
        there.append("dask")
    except (OSError, subprocess.CalledProcessError) as error:
        missing["dask"] = "could not be installed from the package index: %s" % error
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "starpu-1.3"], stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, universal_newlines=True) if shutil.which("pkg-config") else None
    if flags is None or flags.returncode:
        missing["starpu"] = "libstarpu-dev is not installed: . ./.setup && tessera_setup bench"
    else:
        compile_peer("starpu_overhead.c", "starpu_overhead", *flags.stdout.split())
        there.append("starpu")
    return there, missing


# The benches: name → variants, bars. A bar is (variant, other variant or None, sense, value).


def tasks_bench(options):
    count = options.tasks or (20000 if options.quick else 2000000)
    few = min(count, 2000 if options.quick else 20000)
    return {
        "tcp": rate(tcp("tasks", "--tasks", count)),
        "tcp_full": rate(tcp("tasks", "--tasks", count, "--full")),
        "embedded": rate(embedded("tasks", "--tasks", count)),
        "dask": rate(dask("tasks", "--tasks", few), peer="dask"),
        "starpu": rate(starpu("tasks", min(count, 200000), 0), peer="starpu"),
    }, [("tcp", None, "at least", 1e6)]


def dag_bench(options):
    count = options.tasks or (5000 if options.quick else 200000)
    few = min(count, 1000 if options.quick else 10000)
    variants = {}
    for width in (1000, 10):
        variants["w%d" % width] = rate(tcp("dag", "--tasks", count, "--width", width))
        variants["w%d_embedded" % width] = rate(embedded("dag", "--tasks", count, "--width", width))
        variants["w%d_dask" % width] = rate(dask("dag", "--tasks", few, "--width", width), peer="dask")
        variants["w%d_starpu" % width] = rate(starpu("dag", min(count, 200000), width), peer="starpu")
    return variants, [("w1000", None, "at least", 5e5), ("w1000", "w1000_dask", "at least", 250),
                      ("w10", None, "at least", 1e5)]


def chain_bench(options):
    count = options.tasks or (1000 if options.quick else 10000)
    few = min(count, 200 if options.quick else 1000)
    return {
        "one_worker": each_us(tcp("chain", "--links", count, workers=1), "links"),
        "alternate_tcp": each_us(tcp("chain", "--links", count, "--alternate", shared=False), "links"),
        "alternate_shared": each_us(tcp("chain", "--links", count, "--alternate"), "links"),
        "embedded": each_us(embedded("chain", "--links", count, "--workers", 1), "links"),
        "dask": each_us(dask("chain", "--tasks", few, "--workers", 1), "tasks", peer="dask"),
        "dask_alternate": each_us(dask("alternate", "--tasks", few), "tasks", peer="dask"),
        "starpu": each_us(starpu("chain", count, 1), "tasks", peer="starpu"),
    }, [("one_worker", None, "at most", 2.0), ("alternate_tcp", None, "at most", 100.0),
        ("alternate_shared", None, "at most", 30.0), ("one_worker", "dask", "at least", 50),
        ("alternate_tcp", "dask_alternate", "at least", 50)]


def submit_bench(options):
    times = options.tasks or (50 if options.quick else 1000)
    return {
        "tcp": each_us(tcp("submit", "--repeats", times), None),
        "embedded": each_us(embedded("submit", "--repeats", times), None),
        "dask": each_us(dask("submit", "--tasks", min(times, 200)), None, peer="dask"),
    }, [("tcp", None, "at most", 350.0)]


def stencil_bench(options):
    steps = options.tasks or (50 if options.quick else 1000)

    def metg(run, peer=None):
        return Variant(run, lambda result: result["metg_us"], "us", False, peer)

    return {
        "tcp": metg(tcp("stencil", "--steps", steps)),
        "embedded": metg(embedded("stencil", "--steps", steps)),
        "dask": metg(dask("stencil", "--steps", 20 if options.quick else 50, "--kernel", PEERS / "kernel.so"),
                     peer="dask"),
    }, [("tcp", None, "at most", 150.0), ("embedded", None, "at most", 5.0)]


BENCHES = {"tasks": tasks_bench, "dag": dag_bench, "chain": chain_bench, "submit": submit_bench,
           "stencil": stencil_bench}


# Measuring.

TOLD = ["peak_gflops", "p99"]


def measure(variants, repeats, retries):
    """name → rows of the repeats that did not fail; and what went wrong."""
    rows, failures = {}, []
    for repeat in range(repeats):
        for name, variant in variants.items():
            try:
                result, share, used = support.undisturbed(variant.run, min(2, retries))
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                failures.append({"name": name, "repeat": repeat, "error": str(error)})
                say("%d  %-20s FAILED: %s" % (repeat + 1, name, error))
                continue
            retries -= used
            row = {"figure": variant.figure(result), "others": share, "result": result}
            rows.setdefault(name, []).append(row)
            more = "".join("  %s %.3g" % (key, result[key]) for key in TOLD if key in result)
            say("%d  %-20s %14.3f %-8s others %4.1f %%%s%s" % (
                repeat + 1, name, row["figure"], variant.unit, 100 * share,
                "  FLAGGED" if share > support.OTHERS_LIMIT else "", more))
    return rows, failures


def medians_of(variants, rows):
    """Over the repeats that had the machine to themselves, where those are the majority; else over all."""
    medians = {}
    for name, measured in rows.items():
        clean = [row["figure"] for row in measured if row["others"] <= support.OTHERS_LIMIT]
        medians[name] = summary(clean if 2 * len(clean) > len(measured) else [row["figure"] for row in measured])
        medians[name].update(unit=variants[name].unit, flagged=len(measured) - len(clean))
        say("%-20s %14.3f %-8s spread %5.1f %%  flagged %d" % (
            name, medians[name]["median"], variants[name].unit, 100 * medians[name]["spread"],
            medians[name]["flagged"]))
    return medians


def judge(variants, bars, medians):
    """Each bar with its value: a figure, or how many times better one variant is than another."""
    verdicts = []
    for name, other, sense, bar in bars:
        if name not in medians or (other and other not in medians):
            continue
        value, label = medians[name]["median"], name
        if other:
            theirs = medians[other]["median"]
            value, label = (value / theirs if variants[name].more else theirs / value), "%s : %s" % (name, other)
        met = value >= bar if sense == "at least" else value <= bar
        verdicts.append({"name": label, "value": value, "sense": sense, "bar": bar, "met": met})
        say("%-28s %14.3f   (bar: %s %g) %s" % (label, value, sense, bar, "met" if met else "MISSED"))
    return verdicts


def main(name):
    support.clean_up_on_signal()
    parser = argparse.ArgumentParser(description="The %s bench; README.md tells how each figure is made." % name)
    parser.add_argument("--tasks", type=int, help="of the graph, links, steps or times (default: as the bar says)")
    parser.add_argument("--repeats", type=int, default=5, help="(5)")
    parser.add_argument("--quick", action="store_true", help="small, two repeats: only shows that it runs")
    parser.add_argument("--only", help="measure only what has this in its name")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a bar is missed")
    options = parser.parse_args()
    conditions = support.conditions()
    variants, bars = BENCHES[name](options)
    support.require_any(variants, options.only)
    there, missing = ([], {}) if options.no_peers else prepare_peers()
    conditions["starpu_settings"] = STARPU_SETTINGS if "starpu" in there else None
    conditions.update({"left out: " + peer: reason for peer, reason in missing.items()})
    for key, value in conditions.items():
        say("%-30s %s" % (key, value))
    variants = {key: variant for key, variant in variants.items()
                if (not options.only or options.only in key) and (variant.peer is None or variant.peer in there)}
    repeats = 2 if options.quick else options.repeats
    rows, failures = measure(variants, repeats, 0 if options.quick else 2 * repeats)
    say()
    medians = medians_of(variants, rows)
    say()
    verdicts = judge(variants, [] if options.quick or options.tasks else bars, medians)
    settings = {key: measured[0]["result"].get("settings") for key, measured in rows.items()
                if measured[0]["result"].get("settings")}
    for key, text in settings.items():
        say("%s: %s" % (key, text))
    print(json.dumps({"bench": name, "quick": options.quick, "conditions": conditions, "settings": settings,
                      "figures": medians, "bars": verdicts, "failures": failures, "repeats": rows}), flush=True)
    return 1 if failures or (options.check and not all(verdict["met"] for verdict in verdicts)) else 0
