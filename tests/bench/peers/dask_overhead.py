"""What a task costs Dask: run by the bench scripts with the Python of build/peers/dask. Prints one JSON object.

Set up to spare it work: a LocalCluster of processes with one thread each and no dashboard; graphs of low-level keys that
are not optimised; the workers' statistical profiler, the memory manager, the log of transitions and the queuing of
root tasks (worker-saturation) off. Stealing stays on, as it does in Tessera. Timed from the submission to the end of
`wait`."""

import argparse
import json
import logging
import random
import time

import dask
import distributed

from dask_kernel import compute

SETTINGS = {
    "distributed.scheduler.worker-saturation": float("inf"),
    "distributed.worker.profile.enabled": False,
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.admin.low-level-log-length": 0,
}
def nothing(*inputs):
    return 1.5


def tasks_graph(options):
    side = int((options.tasks / 2) ** 0.5)
    graph = {("a", i, j): (nothing,) for i in range(side) for j in range(side)}
    graph.update({("b", i, j): (nothing, ("a", j, i)) for i in range(side) for j in range(side)})
    return graph, [("b", i, j) for i in range(side) for j in range(side)]


def dag_graph(options):
    source = random.Random(1)
    graph = {("t", 0): (nothing,)}
    for t in range(1, options.tasks):
        reach = min(t, options.width)
        inputs = {t - 1 - source.randrange(reach) for _ in range(source.randint(1, 3))}
        graph["t", t] = (nothing, *[("t", i) for i in sorted(inputs)])
    return graph, list(graph)


def chain_graph(options):
    graph = {("t", 0): (nothing,)}
    graph.update({("t", i): (nothing, ("t", i - 1)) for i in range(1, options.tasks)})
    return graph, [("t", options.tasks - 1)]


def stencil_graph(options, iterations):
    graph = {}
    for step in range(options.steps):
        for column in range(options.workers):
            reads = [("t", step - 1, c) for c in range(max(0, column - 1), min(options.workers, column + 2))]
            graph["t", step, column] = (compute, options.kernel, iterations, *(reads if step > 0 else []))
    return graph, [("t", options.steps - 1, column) for column in range(options.workers)]


def run(client, graph, keys):
    """Seconds until the last key is there; keys are made new, or Dask would know the results."""
    name = "x%d-" % time.monotonic_ns()

    def renamed(key):
        return (name + key[0],) + key[1:]

    known = {key: renamed(key) for key in graph}
    fresh = {known[key]: (value[0],) + tuple(known[part] if isinstance(part, tuple) and part in known else part
                                             for part in value[1:]) for key, value in graph.items()}
    wanted = [known[key] for key in keys]
    started = time.perf_counter()
    futures = client.get(fresh, wanted, sync=False)
    distributed.wait(futures)
    return time.perf_counter() - started


def alternate(client, links):
    """A chain whose links are bound to the workers in turn."""
    workers = list(client.scheduler_info()["workers"])
    name = "y%d-" % time.monotonic_ns()
    started = time.perf_counter()
    last = client.submit(nothing, key=name + "0", workers=[workers[0]], pure=False)
    for link in range(1, links):
        last = client.submit(nothing, last, key=name + str(link), workers=[workers[link % len(workers)]], pure=False)
    distributed.wait(last)
    return time.perf_counter() - started


def stencil(client, options):
    """METG(50 %): the kernel gets shorter by halves, the peak is the kernel alone."""
    compute(options.kernel, 1)
    iterations, seconds = 1000, 0.0
    while seconds < 0.1:
        iterations *= 2
        started = time.perf_counter()
        compute(options.kernel, iterations)
        seconds = time.perf_counter() - started
    each, lengths, ms = seconds / iterations, [], 128.0
    while ms >= 0.25 and (not lengths or lengths[-1][1] > 0.25):
        count = int(ms / 1e3 / each)
        graph, keys = stencil_graph(options, count)
        wall = run(client, graph, keys)
        granularity = wall * options.workers / len(graph)
        lengths.append((granularity * 1e6, count * each / granularity))
        ms /= 2
    metg = 0.0
    for (long_us, high), (short_us, low) in zip(lengths, lengths[1:]):
        if high >= 0.5 > low:
            metg = long_us * (short_us / long_us) ** ((high - 0.5) / (high - low))
    return {"metg_us": metg, "lengths": lengths}


def submit(client, repeats):
    import dask.array
    times = []
    for repeat in range(repeats + repeats // 10):
        started = time.perf_counter()
        dask.array.full((16,), float(repeat), chunks=16).compute(scheduler=client, optimize_graph=False)
        times.append(time.perf_counter() - started)
    return sorted(times[repeats // 10:])[repeats // 2]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bench", choices=["tasks", "dag", "chain", "alternate", "stencil", "submit"])
    parser.add_argument("--tasks", type=int, default=10000)
    parser.add_argument("--width", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kernel", help="the shared library with the kernel")
    options = parser.parse_args()
    dask.config.set(SETTINGS)
    cluster = distributed.LocalCluster(n_workers=options.workers, threads_per_worker=1, processes=True,
                                       dashboard_address=None, silence_logs=logging.ERROR)
    result = {"dask": dask.__version__, "distributed": distributed.__version__, "tasks": options.tasks,
              "settings": "LocalCluster of %d processes with one thread; %s" % (
                  options.workers, ", ".join("%s=%s" % item for item in SETTINGS.items()))}
    graphs = {"tasks": tasks_graph, "dag": dag_graph, "chain": chain_graph}
    with cluster, distributed.Client(cluster) as client:
        run(client, *chain_graph(argparse.Namespace(tasks=100)))
        if options.bench in graphs:
            graph, keys = graphs[options.bench](options)
            result.update(tasks=len(graph), seconds=run(client, graph, keys))
        elif options.bench == "alternate":
            result["seconds"] = alternate(client, options.tasks)
        elif options.bench == "stencil":
            result.update(stencil(client, options))
        else:
            result["seconds"] = submit(client, options.tasks)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
