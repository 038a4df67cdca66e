"""Rows to columns in Dask, run by tests/bench/rechunk with the Python of build/peers/dask: a fresh LocalCluster of worker
processes with one thread and so much memory each, x(i, j) = i·n + j in blocks of rows, cut anew into blocks of columns by
tasks or by Dask's shuffle (p2p), and the sum of each column, which is compared. Prints one JSON object."""

import argparse
import json
import logging
import time

import dask
import dask.array as da
import distributed
import numpy


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("method", choices=["tasks", "p2p"])
    parser.add_argument("--n", type=int, required=True)
    parser.add_argument("--chunks", type=int, required=True)
    parser.add_argument("--memory", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    n, chunk = options.n, (options.n - 1) // options.chunks + 1
    cluster = distributed.LocalCluster(n_workers=options.workers, threads_per_worker=1, processes=True,
                                       memory_limit=options.memory, local_directory=options.folder,
                                       dashboard_address=None, silence_logs=logging.CRITICAL)
    with cluster, distributed.Client(cluster) as client:
        client.run(lambda: numpy.zeros(1))
        started = time.perf_counter()
        column = da.arange(n, chunks=chunk, dtype="f8")[:, None] * n
        x = column + da.arange(n, chunks=n, dtype="f8")
        sums = x.rechunk((n, chunk), method=options.method).sum(axis=0).compute()
        seconds = time.perf_counter() - started
    right = n * (n * (n - 1) / 2) + n * numpy.arange(n, dtype="f8")
    print(json.dumps({"seconds": seconds, "right": bool((sums == right).all()), "dask": dask.__version__,
                      "distributed": distributed.__version__, "numpy": numpy.__version__}))


if __name__ == "__main__":
    main()
