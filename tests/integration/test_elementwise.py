"""Every elementwise function of the table (core/graph/elementwise_table.h) against NumPy: each signature on every combination
of special values, every pair of types, shapes that broadcast; and the table in client/README.md, which `--write` makes."""
# tests/run: timeout 300
import ctypes
import itertools
import os
import re
import sys
import unittest

import numpy as np

from cluster import BUILD, ROOT

README = os.path.join(ROOT, "client", "README.md")
FIELDS = ["NAME", "name", "code", "operands", "bool", "integer", "float", "complex", "result", "identity", "cost", "fuses",
          "ulps", "complex_ulps"]
TYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]
CODES = {"?": 0, "i1": 1, "i2": 2, "i4": 3, "i8": 4, "u1": 5, "u2": 6, "u4": 7, "u8": 8, "f2": 9, "f4": 11, "f8": 12,
         "c8": 13, "c16": 14}
CLASSES = {"b": "bool", "i": "integer", "u": "integer", "f": "float", "c": "complex"}
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, -2.5, 3.0, np.inf, -np.inf, np.nan, 5e-324, -1e-310, 1e-45, 6e-8, 65504, 1e30,
          1e300, -1e300, -1e-300, 0.7853, 1e22, 2147483648.0, 2.0**53, -2.0**63]
INTEGERS = [0, 1, 2, 3, 7, -1, -2, 100, 127, 128, 255, 256, 32767, 32768, 65535, 2**31 - 1, -2**31, 2**32 - 1, 2**63 - 1,
            -2**63, -2**63 + 1]
BEGIN, END = "<!-- elementwise functions -->\n", "<!-- end of elementwise functions -->\n"


def rows():
    """The table's rows that have a public function, as dictionaries."""
    with open(os.path.join(ROOT, "core", "graph", "elementwise_table.h"), encoding="utf-8") as file:
        found = re.findall(r"^    ROW\(([^)]*)\)", file.read(), re.M)
    table = [dict(zip(FIELDS, (field.strip() for field in row.split(",")))) for row in found]
    return [row for row in table if row["name"] != "copy"]


def arity(row):
    return len(row["operands"])


def readme_table():
    names = {"NO": "—", "OWN": "own", "WIDE": "own", "MOVE": "own", "F64": "f64", "TRUTH": "truth"}
    results = {"OWN": "as computed", "TRUTH": "bool", "REAL": "real"}
    lines = ["| function | bool | integer | float | complex | result | error, ulp: float | complex |", "|" + "---|" * 8]
    for row in rows():
        operands = {"X": "a", "XX": "a, b", "CXX": "condition, a, b"}[row["operands"]]
        cells = [names[row[kind]] for kind in ("bool", "integer", "float", "complex")]
        ulps = [row["ulps"] if row["float"] in ("OWN", "WIDE", "MOVE") else "",
                row["complex_ulps"] if row["complex"] in ("OWN", "WIDE", "MOVE") else ""]
        lines.append("| " + " | ".join([f"`tess_{row['name']}({operands})`"] + cells + [results[row["result"]]] + ulps) + " |")
    return "\n".join(lines) + "\n"


class Shape(ctypes.Structure):
    _fields_ = [("ndim", ctypes.c_uint32), ("dim", ctypes.c_int64 * 8)]


def shape_of(dims):
    return Shape(len(dims), (ctypes.c_int64 * 8)(*dims))


class Library:
    """Arrays by ctypes: just enough to call a function of the table."""

    def __init__(self):
        self.c = ctypes.CDLL(os.path.join(BUILD, "lib", "libtessera.so"))
        pointer = ctypes.c_void_p
        for name, types, result in [
                ("tess_session_open", [pointer, pointer], pointer), ("tess_session_close", [pointer], None),
                ("tess_from_memory", [pointer, pointer, Shape, ctypes.c_int, Shape], pointer),
                ("tess_read", [pointer, pointer, ctypes.c_uint64], ctypes.c_int), ("tess_release", [pointer], None),
                ("tess_array_status", [pointer], ctypes.c_int), ("tess_array_dtype", [pointer], ctypes.c_int),
                ("tess_array_error", [pointer], ctypes.c_char_p), ("tess_array_shape", [pointer], Shape)]:
            function = getattr(self.c, name)
            function.argtypes, function.restype = types, result
        os.environ.pop("TESSERA_SCHEDULER", None)
        self.session = self.c.tess_session_open(None, None)

    def close(self):
        self.c.tess_session_close(self.session)

    def call(self, row, arrays, chunks=None):
        """The result as an array; a string, the error, where there is none."""
        function = getattr(self.c, "tess_" + row["name"])
        function.argtypes, function.restype = [ctypes.c_void_p] * arity(row), ctypes.c_void_p
        handles = []
        for i, array in enumerate(arrays):
            array = np.ascontiguousarray(array) if array.ndim else array.copy()
            own = chunks[i] if chunks else ()
            handles.append(self.c.tess_from_memory(self.session, array.ctypes.data, shape_of(array.shape),
                                                   CODES[array.dtype.str[1:] if array.dtype != bool else "?"], shape_of(own)))
        result = function(*handles)
        try:
            if self.c.tess_array_status(result) != 0:
                return self.c.tess_array_error(result).decode()
            code = self.c.tess_array_dtype(result)
            shape = self.c.tess_array_shape(result)
            out = np.zeros(tuple(shape.dim[:shape.ndim]), next(t for t in TYPES if CODES[t] == code))
            status = self.c.tess_read(result, out.ctypes.data, out.nbytes)
            assert status == 0, status
            return out
        finally:
            for handle in handles + [result]:
                self.c.tess_release(handle)


def values(dtype, seed=None, shape=None):
    """The special values of a type; with a seed random ones and some special ones, of the shape."""
    kind = np.dtype(dtype).kind
    with np.errstate(all="ignore"):
        if kind == "b":
            special = np.array([False, True])
        elif kind in "iu":
            special = np.unique(np.array(INTEGERS, dtype=object).astype("i8").astype(dtype))
        elif kind == "f":
            special = np.array(FLOATS).astype(dtype)
        else:
            special = np.array([complex(x, FLOATS[(7 * i + 3) % len(FLOATS)]) for i, x in enumerate(FLOATS)]).astype(dtype)
    if seed is None:
        return special
    random = np.random.default_rng(seed)
    drawn = random.integers(-9, 9, shape).astype("f8") + (random.random(shape) if kind in "fc" else 0)
    with np.errstate(all="ignore"):
        drawn = drawn.astype("i8").astype(dtype) if kind in "biu" else drawn.astype(dtype)
    return np.where(random.random(shape) < 0.2, random.choice(special, shape), drawn)


def computed(row, dtype):
    """How the table computes operands of the type, and in which."""
    how = row[CLASSES[np.dtype(dtype).kind]]
    return how, {"F64": np.dtype("f8"), "TRUTH": np.dtype(bool)}.get(how, np.dtype(dtype))


def result_type(row, dtype):
    real = {"c8": "f4", "c16": "f8"}.get(np.dtype(dtype).str[1:], dtype)
    return np.dtype({"OWN": dtype, "TRUTH": bool, "REAL": real}[row["result"]])


class Elementwise(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.library = Library()

    @classmethod
    def tearDownClass(cls):
        cls.library.close()

    def same(self, got, want, what):
        """Equal numbers, zeros of one sign, NaN for NaN."""
        self.assertEqual((got.dtype, got.shape), (want.dtype, want.shape), what)
        parts = [(got.real, want.real), (got.imag, want.imag)] if got.dtype.kind == "c" else [(got, want)]
        for a, b in parts:
            wrong = (a != b) & ~((a != a) & (b != b))
            if a.dtype.kind == "f":
                wrong |= (a == 0) & (b == 0) & (np.signbit(a) != np.signbit(b))
            self.assertFalse(wrong.any(), f"{what}: {a[wrong][:4]} is not {b[wrong][:4]}")

    def near(self, row, got, want, what):
        """Within the row's bound of values in long double; of complex numbers where all of it is finite."""
        real = got.real.dtype
        if row["result"] == "OWN" and got.dtype.kind == "c" or row["result"] == "REAL" and want.dtype != got.dtype:
            with np.errstate(all="ignore"):
                finite = np.isfinite(got) & np.isfinite(want.astype(got.dtype))
            got, want = got[finite].astype("c32"), want[finite]
            larger = np.maximum(abs(want.real), abs(want.imag)).astype(real)
            error = np.maximum(abs(got.real - want.real), abs(got.imag - want.imag))
            bound = float(row["complex_ulps"])
        else:
            with np.errstate(all="ignore"):
                nearest = want.astype(got.dtype)
            special = ~np.isfinite(nearest) | ~np.isfinite(got)
            self.same(got[special], nearest[special], what)
            got, want = got[~special], want[~special]
            self.assertTrue((np.signbit(got) == np.signbit(want)).all(), what)
            larger, error = np.abs(want).astype(got.dtype), np.abs(got.astype("f16") - want)
            bound = float(row["ulps"]) if got.dtype == "f8" else 0.501
        if larger.size:
            unit = np.spacing(larger).astype("f16")
            self.assertLessEqual(float((error / unit).max()), bound, what)

    def check(self, row, arrays, what, chunks=None):
        operands = arrays[1:] if row["operands"][0] == "C" else arrays
        dtype = operands[0].dtype
        for other in operands[1:]:
            dtype = np.promote_types(dtype, other.dtype)
        how, dtype = computed(row, dtype)
        got = self.library.call(row, arrays, chunks)
        if how == "NO":
            self.assertIsInstance(got, str, what)
            self.assertIn("is not defined for", got)
            return
        self.assertNotIsInstance(got, str, f"{what}: {got}")
        function = getattr(np, row["name"])
        with np.errstate(all="ignore"):
            taken = [array.astype(dtype) for array in operands]
            if how == "WIDE" or how == "F64" and row["float"] == "WIDE":
                want = function(*[array.astype("c32" if dtype.kind == "c" else "f16") for array in taken])
                self.assertEqual(got.dtype, result_type(row, dtype), what)
                self.near(row, got, want, what)
                return
            if len(operands) < len(arrays):
                taken.insert(0, arrays[0].astype(bool))
            self.same(got, np.asarray(function(*taken)).astype(result_type(row, dtype)), what)

    def test_special_values(self):
        """Each signature, on every combination of special values."""
        for row, dtype in itertools.product(rows(), TYPES):
            kinds = ["?" if letter == "C" else dtype for letter in row["operands"]]
            grids = np.meshgrid(*[values(kind) for kind in kinds], indexing="ij")
            self.check(row, [grid.ravel() for grid in grids], f"{row['name']} of {dtype}")

    def test_pairs_of_types(self):
        for row in rows():
            if arity(row) == 1:
                continue
            for seed, (a, b) in enumerate(itertools.product(TYPES, TYPES)):
                arrays = [values(kind, seed + i, 40) for i, kind in enumerate([b, a, b][-arity(row):])]
                self.check(row, arrays, f"{row['name']} of {' and '.join(str(array.dtype) for array in arrays)}")

    def test_shapes(self):
        """Operands that broadcast, in chunks of their own."""
        shapes = [((5, 7), (7,), (5, 1)), ((3, 4, 9), (4, 1), (1,)), ((6, 1), (1, 8), ()), ((2000,), (1,), (2000,)),
                  ((0, 3), (3,), (1, 1)), ((), (), ())]
        for row, (number, triple) in itertools.product(rows(), enumerate(shapes)):
            for turn in range(arity(row)):
                arrays = [values("?" if letter == "C" else "f4", 100 * number + i, triple[(i + turn) % 3])
                          for i, letter in enumerate(row["operands"])]
                chunks = [tuple(max(1, length // 2 + i) for length in array.shape) for i, array in enumerate(arrays)]
                self.check(row, arrays, f"{row['name']} of shapes {[array.shape for array in arrays]}", chunks)

    def test_readme(self):
        with open(README, encoding="utf-8") as file:
            text = file.read()
        between = text[text.index(BEGIN) + len(BEGIN):text.index(END)]
        self.assertEqual(between, readme_table(), "client/README.md: make the table again with this test's --write")


def write():
    with open(README, encoding="utf-8") as file:
        text = file.read()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    with open(README, "w", encoding="utf-8") as file:
        file.write(text[:begin] + readme_table() + text[end:])


if __name__ == "__main__":
    if "--write" in sys.argv:
        write()
    else:
        unittest.main()
