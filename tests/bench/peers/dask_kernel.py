"""The compute-bound kernel as a task of Dask: a module of its own, so that workers import it and nothing is pickled."""

import ctypes
import functools


@functools.lru_cache(maxsize=None)
def library(path):
    loaded = ctypes.CDLL(path)
    loaded.bench_compute.argtypes = [ctypes.c_uint64]
    loaded.bench_compute.restype = ctypes.c_double
    return loaded


def compute(path, iterations, *inputs):
    return library(path).bench_compute(iterations)
