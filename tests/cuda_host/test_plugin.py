"""The CUDA plugin's own sources on processors: the tests of devices and kernels, random layers in every order of threads,
the library's tests on one and two devices with much and with little memory."""
# tests/run: all modes
# tests/run: timeout 300
import os
import shutil
import subprocess
import sys
import unittest

from host import BUILD, MODE, ROOT, HostTest, environment

LAYERS = "cuda_host/test_layers"


def release_only(test):
    return unittest.skipUnless(MODE in ("release", "debug"), "# skip: release only, for its time")(test)


class Plugin(HostTest):
    def test_devices(self):
        text = self.run_right("kernels/test_devices", "delay=200")
        self.assertIn("# with CUDA", text)

    def test_layers_in_every_order(self):
        count = {"release": 1000, "debug": 300}.get(MODE, 100)
        for seed, order in enumerate(("forward", "reverse", "random")):
            self.run_right(LAYERS, "nvrtc=off,order=%s,seed=%d" % (order, seed), TESSERA_TEST_SEED=str(1 + seed * count),
                           TESSERA_TEST_LAYERS=str(count))

    @unittest.skipUnless(MODE == "tsan", "# skip: needs the race detector")
    def test_threads_of_a_block_do_not_race(self):
        self.run_right(LAYERS, "nvrtc=off,races=on", TESSERA_TEST_LAYERS="40")

    def test_late_streams(self):
        self.run_right(LAYERS, "nvrtc=off,delay=300", TESSERA_TEST_SEED="5000", TESSERA_TEST_LAYERS="60")

    @release_only
    def test_every_kernel(self):
        self.run_right("kernels/test_device_kernels", "nvrtc=off,order=random", TESSERA_TEST_DEVICE="cuda",
                       TESSERA_TEST_SHORT="1")

    def test_compiled_programs(self):
        """NVRTC is g++, which takes its time; so few."""
        self.run_right(LAYERS, "order=random", TESSERA_TEST_SEED="9000",
                       TESSERA_TEST_LAYERS="40" if MODE == "release" else "12")

    @release_only
    def test_programs(self):
        text = self.run_right("kernels/test_cuda_programs", TESSERA_TEST_SHORT="1")
        self.assertNotIn("SKIPPED", text)

    def test_library(self):
        parts = ("arrays", "files", "products", "sessions") if MODE == "release" else ("products",)
        cases = [("devices=1,nvrtc=off,delay=50", None), ("devices=2,nvrtc=off", "1MiB")]
        for settings, memory in cases:
            more = {"TESSERA_TEST_GPU_MEMORY": memory} if memory else {}
            for part in parts:
                self.run_right("integration/test_embedded_" + part, settings, TESSERA_TEST_GPUS="auto", TESSERA_CUDA_SMALL="1",
                               **more)

    @release_only
    def test_clusters_and_faults(self):
        done = subprocess.run([sys.executable, str(ROOT / "tests" / "gpu"), "--device", "host", "--only", "cluster,faults"],
                              env=environment("nvrtc=off", TESSERA_CUDA_SMALL="1", TESSERA_BUILD=str(BUILD)), timeout=240,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_every_call_failing_once(self):
        stride = {"release": "4", "debug": "4", "asan": "25", "tsan": "50"}[MODE]
        text = self.run_right("cuda_host/test_failures", "nvrtc=off", TESSERA_TEST_STRIDE=stride)
        self.assertIn("event=gpu_lost", text)

    def product_on_a_worker(self, settings):
        """What the worker says meanwhile. The product is checked."""
        sys.path.insert(0, str(ROOT / "tests" / "bench"))
        import support
        env = support.environment(**environment("nvrtc=off," + settings, TESSERA_CUDA_SMALL="1"))
        with support.Cluster() as cluster:
            cluster.add_worker("--gpus", "auto", "--log", "info", env=env)
            support.run_json([support.program("examples/matmul"), "--scheduler", cluster.endpoint, "--n", 256, "--chunk", 64,
                              "--check", "--json"])
            return cluster.workers[0].said()

    @release_only
    def test_worker_goes_on_without_a_device(self):
        """`--gpus auto`: a device that was found and cannot be opened is left out, and so are all of them."""
        said = self.product_on_a_worker("devices=2,fail=cudaMemPoolCreate@1")
        self.assertIn("event=gpu_unusable gpu=0", said)
        self.assertIn("event=gpus count=1", said)
        self.assertIn("event=gpus_gone", self.product_on_a_worker("fail=cudaMemPoolCreate%1"))

    @release_only
    def test_memory_refused_for_a_while(self):
        """The first allocations fail: the device does its work nevertheless, a little later."""
        said = self.product_on_a_worker("fail=cudaMallocFromPoolAsync<9:2")
        self.assertIn("event=gpu_memory_refused", said)
        self.assertNotIn("event=gpu_too_small", said)

    def test_nobody_gets_a_device_unasked(self):
        env = environment()
        del env["TESSERA_CUDA_HOST"]
        done = subprocess.run([str(BUILD / "tests" / LAYERS)], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              universal_newlines=True, timeout=60)
        self.assertIn("# skip: there is no device", done.stdout)

    def test_values_are_those_of_the_toolkit(self):
        toolkit = next((path for path in (os.environ.get("CUDA_HOME", ""), "/usr/local/cuda")
                        if os.path.exists(os.path.join(path, "include", "nvrtc.h"))), None)
        if toolkit is None or shutil.which("g++") is None:
            self.skipTest("# skip: CUDA's toolkit is not installed")
        done = subprocess.run([str(ROOT / "tests" / "cuda_host" / "check_values"), toolkit], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, universal_newlines=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout)


if __name__ == "__main__":
    unittest.main()
