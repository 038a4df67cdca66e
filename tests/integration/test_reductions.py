"""Every row of the table of reductions (core/graph/reduction.h) against NumPy's function of that name: all dtypes, axes,
layouts and chunks, with special values; and the rows' table in client/README.md (`--write` writes it)."""
import ctypes
import itertools
import os
import re
import sys
import unittest
import warnings

import numpy

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("TESSERA_BUILD", f"{TREE}/build/release")
README = f"{TREE}/client/README.md"
ALL = 2 ** 32 - 1
DTYPES = {"bool": 0, "i8": 1, "i16": 2, "i32": 3, "i64": 4, "u8": 5, "u16": 6, "u32": 7, "u64": 8, "f16": 9, "f32": 11,
          "f64": 12, "c64": 13, "c128": 14}
NUMPY = dict(zip(DTYPES, ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")))


def rows():
    """The table's rows: name → columns."""
    with open(f"{TREE}/core/graph/reduction.h") as file:
        text = file.read()
    found = {}
    for table, names in (("NUMBERS", "takes result state empty nan flops"),
                         ("RECORDS", "takes result words position empty nan parameter flops")):
        body = re.search(r"#define TESSI_FOLD_%s\(ROW\)((?:.*\\\n)*.*)\n" % table, text).group(1)
        for row in re.findall(r"ROW\(([^)]*)\)", body):
            cells = [cell.strip() for cell in row.split(",")]
            found[cells[1]] = dict(zip(names.split(), cells[3:]))
    return found


def table():
    """The lines of client/README.md."""
    takes = {"ANY": "all", "ORDERED": "all but complex"}
    result = {"SUM": "i64, u64, or the elements' float or complex dtype", "SAME": "the elements' dtype", "TRUTH": "bool",
              "INDEX": "i64", "REAL": "f64, or the elements' float dtype, or that of their parts"}
    state = {"WIDE": "a number of the result's dtype (f32 for f16 and bf16)", "KEPT": "a number of the elements' dtype",
             "TRUTH": "a bool"}
    empty = {"ZERO": "0", "ONE": "1", "NAN": "NaN", "NOTHING": "INVALID"}
    nan = {"WINS": "the result, or its index", "IS_TRUE": "true"}
    lines = ["| function | takes | result | state | of nothing | a NaN is |", "|---|---|---|---|---|---|"]
    for name, row in rows().items():
        kept = state[row["state"]] if "state" in row else "a record of %s words" % row["words"]
        lines.append(f"| `tess_{name}` | {takes[row['takes']]} | {result[row['result']]} | {kept} | {empty[row['empty']]} | "
                     f"{nan[row['nan']]} |")
    return "\n".join(lines)


def documented(write=False):
    """The table that stands in client/README.md, or all of that with the right one."""
    with open(README) as file:
        text = file.read()
    pattern = r"(<!-- reductions -->\n).*?(\n<!-- -->)"
    if write:
        return re.sub(pattern, lambda match: match.group(1) + table() + match.group(2), text, flags=re.S)
    return re.search(pattern, text, re.S).group(0).split("\n", 1)[1].rsplit("\n", 1)[0]


class Shape(ctypes.Structure):
    _fields_ = [("ndim", ctypes.c_uint32), ("dim", ctypes.c_int64 * 8)]

    def __init__(self, *dims):
        super().__init__(len(dims), (ctypes.c_int64 * 8)(*dims))


class Library:
    def __init__(self):
        self.so = ctypes.CDLL(f"{BUILD}/lib/libtessera.so")
        pointers = ["tess_session_open", "tess_from_memory", "tess_scope_open", "tess_permute"]
        for name in pointers + [f"tess_{row}" for row in rows()]:
            getattr(self.so, name).restype = ctypes.c_void_p
        for name in ("tess_session_error", "tess_dtype_name"):
            getattr(self.so, name).restype = ctypes.c_char_p
        self.so.tess_array_shape.restype = Shape
        self.session = ctypes.c_void_p(self.so.tess_session_open(b"embedded", None))

    def array(self, data, dtype, chunks):
        data = numpy.ascontiguousarray(data)
        return ctypes.c_void_p(self.so.tess_from_memory(self.session, data.ctypes.data_as(ctypes.c_void_p),
                                                        Shape(*data.shape), DTYPES[dtype], Shape(*chunks)))

    def transpose(self, array, ndim):
        axes = (ctypes.c_uint32 * 8)(*reversed(range(ndim)))
        return ctypes.c_void_p(self.so.tess_permute(array, axes, ctypes.c_uint32(ndim)))

    def call(self, name, row, array, axes, keepdims, parameter):
        more = [] if row.get("parameter", "NONE") == "NONE" else [ctypes.c_double(parameter)]
        return ctypes.c_void_p(getattr(self.so, f"tess_{name}")(array, ctypes.c_uint32(axes), *more,
                                                                ctypes.c_bool(keepdims)))

    def read(self, array):
        shape = self.so.tess_array_shape(array)
        name = self.so.tess_dtype_name(self.so.tess_array_dtype(array)).decode()
        out = numpy.empty(shape.dim[:shape.ndim], NUMPY[name])
        status = self.so.tess_read(array, out.ctypes.data_as(ctypes.c_void_p), ctypes.c_uint64(out.nbytes))
        if status != 0:
            raise RuntimeError(self.so.tess_session_error(self.session).decode())
        return out


def draw(random, dtype, shape, special):
    """Numbers whose products stay in range, many of them equal; with special ones where the result bears them."""
    kind = numpy.dtype(NUMPY[dtype]).kind
    if kind == "b":
        return random.random(shape) < 0.5
    if kind in "iu":
        return random.integers(0 if kind == "u" else -7, 8, shape).astype(NUMPY[dtype])
    data = 2.0 ** random.integers(-1, 2, shape) * random.choice([-1.0, 1.0], shape) * (1 + random.random(shape) / 16)
    if special:
        data = numpy.where(random.random(shape) < 0.05, random.choice([numpy.inf, -numpy.inf, 0.0, -0.0], shape), data)
        data = numpy.where(random.random(shape) < 0.02, numpy.nan, data)
    return (data + 1j * data[..., ::-1] if kind == "c" else data).astype(NUMPY[dtype])


def expected(name, row, data, axes, keepdims, parameter):
    """NumPy's answer; where its own function takes one axis or all, those are brought together."""
    axes = tuple(d for d in range(data.ndim) if axes >> d & 1)
    wide = data.astype("f4") if data.dtype == numpy.float16 and row["result"] in ("SUM", "REAL") else data
    more = {"ddof": parameter} if row.get("parameter") == "CORRECTION" else {}
    if row["result"] != "INDEX":
        return numpy.asarray(getattr(numpy, name)(wide, axis=axes, keepdims=keepdims, **more))
    kept = [d for d in range(data.ndim) if d not in axes]
    flat = data.transpose(kept + list(axes)).reshape([data.shape[d] for d in kept] + [-1])
    result = getattr(numpy, name)(flat, axis=-1)
    return result.reshape([1 if d in axes else data.shape[d] for d in range(data.ndim)]) if keepdims else result


def tolerance(row, dtype):
    if row["result"] in ("SAME", "TRUTH", "INDEX") or numpy.dtype(NUMPY[dtype]).kind in "biu" and row["result"] == "SUM":
        return 0
    return {"f16": 2e-3, "f32": 2e-4, "c64": 2e-4}.get(dtype, 1e-11)


CASES = [((1,), (1,)), ((100,), (7,)), ((33, 20), (10, 20)), ((6, 50), (6, 9)), ((40, 3), (1, 2)), ((4, 9, 11), (3, 9, 4)),
         ((2, 3, 4, 5), (2, 1, 4, 3))]


class Reductions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.library = Library()

    @classmethod
    def tearDownClass(cls):
        cls.library.so.tess_session_close(cls.library.session)

    def check(self, name, row, dtype, data, array, axes, keepdims, parameter):
        with warnings.catch_warnings(), numpy.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            want = expected(name, row, data, axes, keepdims, parameter)
        got = self.library.read(self.library.call(name, row, array, axes, keepdims, parameter))
        self.assertEqual(got.shape, want.shape)
        if dtype == "f16" and row["result"] in ("SUM", "REAL"):
            self.assertEqual(got.dtype, numpy.float16)
            with numpy.errstate(over="ignore"):
                want = want.astype("f2")
        else:
            self.assertEqual(got.dtype, want.dtype)
        bound = tolerance(row, dtype)
        if bound == 0:
            numpy.testing.assert_array_equal(got, want)
            return
        scale = numpy.abs(want) if row["result"] == "REAL" or name == "prod" else numpy.sum(numpy.abs(data))
        with numpy.errstate(all="ignore"):
            near = numpy.abs(got - want) <= bound * (1 + scale)
        self.assertTrue(numpy.all(near | (got == want) | (numpy.isnan(got) & numpy.isnan(want))), f"{got} is not {want}")

    def test_rows(self):
        """Each row, dtype, shape and set of axes, of an array and of a transposed one."""
        for name, row in rows().items():
            random = numpy.random.default_rng(17)
            exact = tolerance(row, "f64") == 0
            for dtype, (shape, chunks) in itertools.product(DTYPES, CASES):
                if row["takes"] == "ORDERED" and dtype[0] == "c":
                    continue
                scope = ctypes.c_void_p(self.library.so.tess_scope_open(self.library.session))
                data = draw(random, dtype, shape, exact)
                array = self.library.array(data, dtype, chunks)
                turned = self.library.transpose(array, data.ndim)
                for axes in list(range(1 << data.ndim)) + [ALL]:
                    with self.subTest(function=name, dtype=dtype, shape=shape, axes=axes):
                        keepdims, parameter = bool(random.integers(2)), float(random.integers(2))
                        self.check(name, row, dtype, data, array, axes, keepdims, parameter)
                        self.check(name, row, dtype, data.T, turned, axes, not keepdims, parameter)
                self.library.so.tess_scope_close(scope)

    def test_no_elements(self):
        """Of nothing: the row's value, or a refusal."""
        for name, row in rows().items():
            array = self.library.array(numpy.empty((0, 3)), "f64", (1, 2))
            result = self.library.call(name, row, array, 1, False, 0.0)
            with self.subTest(function=name):
                if row["empty"] == "NOTHING":
                    self.assertRaisesRegex(RuntimeError, f"no elements have no {name}", self.library.read, result)
                    self.library.so.tess_session_clear_error(self.library.session)
                else:
                    value = {"ZERO": 0.0, "ONE": 1.0, "NAN": numpy.nan}[row["empty"]]
                    numpy.testing.assert_array_equal(self.library.read(result).astype("f8"), [value] * 3)

    def test_documented(self):
        self.assertEqual(documented(), table(), "run this test with --write")


if __name__ == "__main__":
    if "--write" in sys.argv:
        text = documented(write=True)
        with open(README, "w") as out:
            out.write(text)
        sys.exit(0)
    unittest.main()
