"""One product in Dask, run by tests/bench/matmul with the Python of build/peers/dask: a fresh LocalCluster of worker
processes with one thread each, operands computed and held first, a small product to warm up, then the
time until every block of the result is held. Prints one JSON object."""

import argparse
import json
import logging
import os
import time

import dask
import dask.array as da
import distributed
import numpy


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, required=True)
    parser.add_argument("--chunk", type=int, required=True)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    cluster = distributed.LocalCluster(n_workers=options.workers, threads_per_worker=1, processes=True,
                                       dashboard_address=None, silence_logs=logging.ERROR)
    with cluster, distributed.Client(cluster) as client:
        random = da.random.default_rng(42)

        def product(n):
            chunks = (options.chunk, options.chunk)
            operands = client.persist([random.standard_normal((n, n), chunks=chunks) for _ in range(2)])
            distributed.wait(operands)
            started = time.perf_counter()
            result = (operands[0] @ operands[1]).persist()
            distributed.wait(result)
            return time.perf_counter() - started, result

        product(min(options.n, 2 * options.chunk))
        seconds, result = product(options.n)
        blocks = client.run(lambda dask_worker: len(dask_worker.data))
        finite = bool(numpy.isfinite(float(result[:1].sum().compute())))
    print(json.dumps({"seconds": seconds, "gflops": 2 * options.n**3 / seconds / 1e9, "finite": finite,
                      "keys_held": list(blocks.values()), "dask": dask.__version__,
                      "distributed": distributed.__version__, "numpy": numpy.__version__,
                      "openblas_threads": os.environ.get("OPENBLAS_NUM_THREADS")}))


if __name__ == "__main__":
    main()
