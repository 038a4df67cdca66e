"""3001 × 2503 by 2503 × 1709 from .npy, chunk 512, f64 and f32, C and Fortran order, against NumPy in f64."""
import os
import tempfile
import unittest

os.environ.setdefault("OPENBLAS_NUM_THREADS", "2")
import numpy  # noqa: E402

from cluster import Cluster, run_example  # noqa: E402


class Right(unittest.TestCase):
    def test_relative_frobenius_error(self):
        rng = numpy.random.default_rng(7)
        a, b = rng.standard_normal((3001, 2503)), rng.standard_normal((2503, 1709))
        with tempfile.TemporaryDirectory() as folder, Cluster(workers=2) as cluster:
            for dtype, name, bound in ((numpy.float64, "f64", 1e-13), (numpy.float32, "f32", 1e-5)):
                exact = a.astype(dtype).astype(numpy.float64) @ b.astype(dtype).astype(numpy.float64)
                for order in "CF":
                    with self.subTest(dtype=name, order=order):
                        numpy.save(f"{folder}/a.npy", numpy.asarray(a, dtype=dtype, order=order))
                        numpy.save(f"{folder}/b.npy", numpy.asarray(b, dtype=dtype, order=order))
                        run_example("matmul", "--scheduler", cluster.address, "--a", f"{folder}/a.npy",
                                    "--b", f"{folder}/b.npy", "--chunk", 512, "--dtype", name, "--out", f"{folder}/c.npy")
                        c = numpy.load(f"{folder}/c.npy")
                        self.assertEqual(c.dtype, dtype)
                        error = numpy.linalg.norm(c - exact) / numpy.linalg.norm(exact)
                        print(f"{name} {order}: relative Frobenius error {error:.2e} (bound {bound:.0e})")
                        self.assertLessEqual(error, bound)


if __name__ == "__main__":
    unittest.main()
