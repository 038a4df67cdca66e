"""The benches of the engine's own cost: tasks, dag, chain. Scripts of those names call main().

Every repeat measures each variant once, in turn, with a cluster of its own. The table goes to standard error; the
last line of standard output is one JSON object."""

import argparse
import json
import subprocess
import sys

import support
from support import Cluster, program, run_json, say, summary

HOST_OPTIONS = {"tcp": ["--host-id", "own-{0}"], "shared": []}  # equal host ids share memory


def clustered(arguments, workers=2, place="tcp"):
    """What a bench program says that runs against a scheduler and workers of one thread as processes."""
    with Cluster() as cluster:
        for number in range(workers):
            cluster.add_worker(*[text.format(number) for text in HOST_OPTIONS[place]])
        return run_json([*arguments, "--scheduler", cluster.endpoint, "--workers", workers])


def bench(name, *arguments, workers=2, place="tcp"):
    command = [program("tests/bench/bench_" + name), *arguments]
    return lambda: clustered(command, workers, place)


def embedded(name, *arguments):
    return lambda: run_json([program("tests/bench/bench_" + name), *arguments])


def tasks_variants(options):
    count = options.tasks or (20000 if options.quick else 2000000)
    return {
        "tcp": (bench("tasks", "--tasks", count, place="shared"), "tasks", "tasks/s"),
        "tcp_full": (bench("tasks", "--tasks", count, "--full", place="shared"), "tasks", "tasks/s"),
        "embedded": (embedded("tasks", "--tasks", count), "tasks", "tasks/s"),
    }, [("tcp", "at least", 1e6)]


def dag_variants(options):
    count = options.tasks or (5000 if options.quick else 200000)
    return {
        "w1000": (bench("dag", "--tasks", count, "--width", 1000, place="shared"), "tasks", "tasks/s"),
        "w10": (bench("dag", "--tasks", count, "--width", 10, place="shared"), "tasks", "tasks/s"),
        "w1000_embedded": (embedded("dag", "--tasks", count, "--width", 1000), "tasks", "tasks/s"),
        "w10_embedded": (embedded("dag", "--tasks", count, "--width", 10), "tasks", "tasks/s"),
    }, [("w1000", "at least", 5e5), ("w10", "at least", 1e5)]


def chain_variants(options):
    count = options.tasks or (1000 if options.quick else 10000)
    return {
        "one_worker": (bench("chain", "--links", count, workers=1), "links", "us/link"),
        "alternate_tcp": (bench("chain", "--links", count, "--alternate"), "links", "us/link"),
        "alternate_shared": (bench("chain", "--links", count, "--alternate", place="shared"), "links", "us/link"),
        "embedded": (embedded("chain", "--links", count, "--workers", 1), "links", "us/link"),
    }, [("one_worker", "at most", 2.0), ("alternate_tcp", "at most", 100.0), ("alternate_shared", "at most", 30.0)]


BENCHES = {"tasks": tasks_variants, "dag": dag_variants, "chain": chain_variants}


def figure_of(result, count, unit):
    each = result["seconds"] / result[count]
    return each * 1e6 if unit == "us/link" else 1 / each


def measure(variants, repeats, retries):
    figures, others, failures = {}, {}, []
    for repeat in range(repeats):
        for name, (run, count, unit) in variants.items():
            try:
                result, share, used = support.undisturbed(run, min(2, retries))
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                failures.append({"name": name, "repeat": repeat, "error": str(error)})
                say("%d  %-20s FAILED: %s" % (repeat + 1, name, error))
                continue
            retries -= used
            figures.setdefault(name, []).append(figure_of(result, count, unit))
            others.setdefault(name, []).append(share)
            say("%d  %-20s %14.3f %s   others %4.1f %%%s" % (
                repeat + 1, name, figures[name][-1], unit, 100 * share,
                "  FLAGGED" if share > support.OTHERS_LIMIT else ""))
    return figures, others, failures


def judge(bars, medians):
    """(name, sense, bar) → what became of it."""
    verdicts = []
    for name, sense, bar in bars:
        if name in medians:
            value = medians[name]["median"]
            met = value >= bar if sense == "at least" else value <= bar
            verdicts.append({"name": name, "value": value, "sense": sense, "bar": bar, "met": met})
            say("%-20s %14.3f   (bar: %s %g) %s" % (name, value, sense, bar, "met" if met else "MISSED"))
    return verdicts


def main(name):
    support.clean_up_on_signal()
    parser = argparse.ArgumentParser(description="The %s bench; README.md tells how each figure is made." % name)
    parser.add_argument("--tasks", type=int, help="of the graph (default: as the bar says)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small, two repeats: only shows that it runs")
    parser.add_argument("--only", help="measure only what has this in its name")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a bar is missed")
    options = parser.parse_args()
    repeats = 2 if options.quick else options.repeats
    conditions = support.conditions()
    for key, value in conditions.items():
        say("%-30s %s" % (key, value))
    variants, bars = BENCHES[name](options)
    if options.only:
        variants = {key: value for key, value in variants.items() if options.only in key}
    figures, others, failures = measure(variants, repeats, 0 if options.quick else 2 * repeats)
    medians = {key: dict(summary(values), unit=variants[key][2]) for key, values in figures.items()}
    say()
    for key, row in medians.items():
        say("%-20s %14.3f %s   spread %4.1f %%" % (key, row["median"], row["unit"], 100 * row["spread"]))
    verdicts = judge([] if options.quick or options.tasks else bars, medians)
    print(json.dumps({"bench": name, "quick": options.quick, "conditions": conditions, "figures": medians,
                      "others": others, "bars": verdicts, "failures": failures}), flush=True)
    return 1 if failures or (options.check and not all(verdict["met"] for verdict in verdicts)) else 0
