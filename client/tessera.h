/* Tessera: chunked arrays on many machines, from C.
 *
 * A program opens a session, writes array expressions, and asks for the results it wants:
 *
 *     tess_session *session = tess_session_open(NULL, NULL);
 *     tess_array *a = tess_random_normal(session, TESS_SHAPE(20000, 20000), TESS_F64, 0, 1, 42, TESS_AUTO);
 *     tess_array *b = tess_matmul(tess_transpose(a), a);
 *     double mean;
 *     if (tess_read_scalar(tess_mean(b, TESS_ALL, false), &mean) != TESS_OK) {
 *         fprintf(stderr, "%s\n", tess_session_error(session));
 *     }
 *     tess_session_close(session);
 *
 * Arrays are lazy: an operator checks shapes and dtypes at once, notes the operation and returns
 * a handle; no data moves. `tess_persist`, `tess_read`, `tess_read_scalar` and `tess_write_npy` have the
 * blocks that they need computed by the workers of a cluster, or of the one that lives inside the
 * process when the session was opened without an address.
 *
 * A lazy operation takes some 0.7 KB here until its handle, and those of all that is made of it, are released, and
 * twice as much at the scheduler while it is computed; where it reads other shapes, chunks or types than those before
 * it, 0.5 KB more of both for each operand. An expression may have any number of them; one of several thousand is
 * submitted in parts, and progress then speaks of the last part. An array has at most 2^32 - 1 blocks; one that would
 * need more of the scheduler's memory than it has (`tessera scheduler --memory`) is TESS_TOO_BIG, and says so at once.
 *
 * Errors are checked once. An operator never returns NULL: a wrong call returns a poisoned handle that
 * carries the message, and poison passes through later operators like NaN. Only what materialises
 * returns a status, and leaves the session's error: tess_session_error.
 *
 * Handles belong to the innermost open scope. Closing the scope releases them and their data on the
 * cluster; `tess_keep` lifts one out.
 *
 * Results do not depend on the number of workers, on timing or on failures: the same expression with the
 * same chunks gives the same bits on the same kind of processor.
 *
 * To build a program, with the shared library and with the static one (which leaves only the system's libraries to be
 * found; ZeroMQ and its own have no static files everywhere):
 *
 *     cc program.c $(pkg-config --cflags --libs tessera) -o program
 *     cc program.c $(pkg-config --cflags --static --libs tessera | sed s/-ltessera/-l:libtessera.a/) -o program
 *
 * What is computed when. An expression is a recipe. A call that materialises computes all that it needs and that is not
 * persisted, and keeps nothing of it: two reads compute twice what they have in common, unless that is persisted.
 *
 *     tess_array *c = tess_matmul(a, b);
 *     double sum, most;
 *     tess_persist(c); // else the product would be computed for each of the two
 *     tess_read_scalar(tess_sum(c, TESS_ALL, false), &sum);
 *     tess_read_scalar(tess_max(c, TESS_ALL, false), &most);
 *
 * Long loops. Without a scope the handles of every step live until the session ends; without tess_persist the expression
 * grows with every step and the first read computes all of it. tess_persist does not wait: now and then a tess_wait, or
 * a read of what tells whether to go on, keeps the program from running ahead of its cluster without end.
 *
 *     tess_array *x = tess_ones(session, TESS_SHAPE(1000, 1), TESS_F64, TESS_AUTO);
 *     for (int step = 0; step < steps; step++) {
 *         tess_scope *scope = tess_scope_open(session);
 *         tess_array *next = tess_matmul(a, x);
 *         tess_persist(next);
 *         tess_release(x);
 *         x = tess_keep(next);
 *         tess_scope_close(scope); // and with it all that the step has made but x
 *         if (step % 100 == 99 && tess_wait(x, 0) != TESS_OK) {
 *             break;
 *         }
 *     }
 *
 * How x came about is remembered only as long as x may be lost: of an array that is small, complete and many steps deep
 * the cluster keeps every block at two workers and forgets the rest; tess_detach does so for any array, and says what
 * holds where there is one worker.
 *
 * Memory. Arrays live on the workers, as blocks: in their memory, and beyond it in their spill files. What is persisted
 * stays there until its last handle is released; so does what is read, for as long as that takes. A task has the block
 * that it makes and those of two steps that it reads in memory, five blocks for a product: chunks are to be a small part
 * of a worker's memory. The program itself needs what tess_from_memory has copied, the buffer of tess_read, and some
 * blocks that are on their way.
 *
 * What an operation or a call needs of this process's memory and cannot have is NOMEM, on the handle or as its status, and
 * the session goes on when there is memory again. The library sets 4 MiB of address space aside so that what has been
 * begun can end; only when that is used up too, by a single call, or by releases without end, does it end the process, and
 * says so. ZeroMQ, through which it speaks, ends the process by an assertion when it finds no memory itself, and OpenBLAS in
 * a cluster inside the program when it finds none for its buffers. Descriptors: a session needs some 48 and eight more for
 * each worker; where there are fewer it is refused (IO), and the soft limit is raised when that suffices.
 *
 * Threads: a session and everything that belongs to it is used by one thread at a time, except where a function says
 * "any thread". Different sessions are independent.
 *
 * Processes and signals. The library never exits (but for want of memory, as above), prints (except `tess_progress_bar`)
 * or installs a signal handler, and its threads have signals blocked: a handler runs on a thread of the program. It may
 * not call the library; to stop what a thread waits for, let another one call tess_cancel, or the progress function when
 * it sees a flag that the handler has set. Calls that wait go on after a signal. A child made by fork has none of the
 * library's threads: there every call with a session of its parent that computes is INVALID, tess_session_close does
 * nothing, and its arrays are not to be released; it opens sessions of its own, or calls exec. */
#ifndef TESSERA_H
#define TESSERA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TESS_API __attribute__((visibility("default")))

/* ——— types ——— */

typedef struct tess_session tess_session;
typedef struct tess_scope tess_scope;
typedef struct tess_array tess_array;

/* name, code (never reused), text */
#define TESS_STATUS_TABLE(ROW)                       \
    ROW(OK, 0, "ok")                                 \
    ROW(INVALID, 1, "invalid argument")              \
    ROW(NOMEM, 2, "out of memory")                   \
    ROW(IO, 3, "input/output error")                 \
    ROW(FORMAT, 4, "malformed data")                 \
    ROW(NOT_FOUND, 5, "not found")                   \
    ROW(UNREACHABLE, 6, "peer unreachable")          \
    ROW(NO_WORKERS, 7, "no workers")                 \
    ROW(TOO_BIG, 8, "does not fit")                  \
    ROW(CANCELLED, 9, "cancelled")                   \
    ROW(TIMEOUT, 10, "timed out")                    \
    ROW(AUTH, 11, "not authenticated")               \
    ROW(VERSION, 12, "version mismatch")             \
    ROW(PROTOCOL, 13, "protocol violation")          \
    ROW(LOST, 14, "lost")                            \
    ROW(FAILED, 15, "task failed")                   \
    ROW(CLOSED, 16, "closed")                        \
    ROW(UNSUPPORTED, 17, "not supported")            \
    ROW(BUSY, 18, "in use")

typedef enum tess_status {
#define TESS_ROW(name, code, text) TESS_##name = code,
    TESS_STATUS_TABLE(TESS_ROW)
#undef TESS_ROW
} tess_status;

/* name, name in text, code (never reused), bytes. The codes are those of the wire format. */
#define TESS_DTYPE_TABLE(ROW) \
    ROW(BOOL, bool, 0, 1)     \
    ROW(I8, i8, 1, 1)         \
    ROW(I16, i16, 2, 2)       \
    ROW(I32, i32, 3, 4)       \
    ROW(I64, i64, 4, 8)       \
    ROW(U8, u8, 5, 1)         \
    ROW(U16, u16, 6, 2)       \
    ROW(U32, u32, 7, 4)       \
    ROW(U64, u64, 8, 8)       \
    ROW(F16, f16, 9, 2)       \
    ROW(BF16, bf16, 10, 2)    \
    ROW(F32, f32, 11, 4)      \
    ROW(F64, f64, 12, 8)      \
    ROW(C64, c64, 13, 8)      \
    ROW(C128, c128, 14, 16)

typedef enum tess_dtype {
#define TESS_ROW(NAME, name, code, size) TESS_##NAME = code,
    TESS_DTYPE_TABLE(TESS_ROW)
#undef TESS_ROW
} tess_dtype;

#define TESS_NDIM_MAX 8

/* A shape, or the chunk lengths along each axis. As chunks: ndim 0 lets the library choose (near cubes of at most
 * `chunk_bytes`, see tess_session_options), an entry 0 does so for that axis, −1 takes the whole axis as one chunk.
 *
 * Results take their operands' chunks, as each function says, with two exceptions. A block that would have more elements
 * than any block of its operands, since these broadcast or are multiplied, and more bytes than `chunk_bytes`, is cut into
 * equal parts of at most that, whoever chose the operands' chunks: (40000, 1) · (1, 40000), one block each, is no block of
 * 12.8 GB. And where the library chose an array's chunks and its elements become four times as long or more (u8 to f32),
 * the result's blocks are cut to `chunk_bytes` too. */
typedef struct tess_shape {
    uint32_t ndim;
    int64_t dim[TESS_NDIM_MAX];
} tess_shape;

/* start, start + step, … below stop. step 0 is the whole axis. Negative start and stop count from the end
 * of the axis and both are clipped to it, as in NumPy. A negative step is not supported. */
typedef struct tess_range {
    int64_t start, stop, step;
} tess_range;

#ifdef __cplusplus
#define TESS_LITERAL(type) type
#else
#define TESS_LITERAL(type) (type)
#endif
#define TESS_NARGS_(a, b, c, d, e, f, g, h, count, ...) count
#define TESS_NARGS(...) TESS_NARGS_(__VA_ARGS__, 8, 7, 6, 5, 4, 3, 2, 1, 0)

/* TESS_SHAPE(20000, 512): one to eight dimensions of any integer type; TESS_SHAPE_0D: a single element. ISO C has no
 * constants of this form: a static object is `static const tess_shape shape = TESS_SHAPE_INIT(20000, 512);`. */
#define TESS_SHAPE_INIT(...) {TESS_NARGS(__VA_ARGS__), {__VA_ARGS__}}
#ifdef __cplusplus
extern "C++" {
template <typename... Extents> constexpr tess_shape tess_shape_of(Extents... extents)
{
    static_assert(sizeof...(Extents) <= TESS_NDIM_MAX, "a shape has at most TESS_NDIM_MAX dimensions");
    return tess_shape{sizeof...(Extents), {static_cast<int64_t>(extents)...}};
}
}
#define TESS_SHAPE(...) (tess_shape_of(__VA_ARGS__))
#else
#define TESS_SHAPE(...) (TESS_LITERAL(tess_shape) TESS_SHAPE_INIT(__VA_ARGS__))
#endif
#define TESS_SHAPE_0D (TESS_LITERAL(tess_shape){0, {0}})
#define TESS_CHUNKS(...) TESS_SHAPE(__VA_ARGS__)
#define TESS_AUTO (TESS_LITERAL(tess_shape){0, {0}})

/* tess_slice(a, TESS_SLICES(TESS_RANGE(0, 10), TESS_WHOLE, TESS_STEP(0, TESS_END, 2))): one for each axis. */
typedef struct tess_ranges {
    uint32_t count;
    tess_range range[TESS_NDIM_MAX];
} tess_ranges;
#define TESS_SLICES(...) (TESS_LITERAL(tess_ranges){TESS_NARGS(__VA_ARGS__), {__VA_ARGS__}})
#define TESS_RANGE(start, stop) TESS_STEP(start, stop, 1)
#define TESS_STEP(start, stop, step) (TESS_LITERAL(tess_range){(int64_t)(start), (int64_t)(stop), (int64_t)(step)})
#define TESS_WHOLE (TESS_LITERAL(tess_range){0, 0, 0})
#define TESS_END INT64_MAX

/* Sets of axes for reductions: TESS_AXIS(0) | TESS_AXIS(2). */
#define TESS_AXIS(axis) (UINT32_C(1) << (axis))
#define TESS_ALL UINT32_MAX

/* The fixed English text of a status, "f64" of a dtype, its size in bytes (0 when it is none). Any thread. */
TESS_API const char *tess_status_text(tess_status status);
TESS_API const char *tess_dtype_name(tess_dtype dtype);
TESS_API size_t tess_dtype_size(tess_dtype dtype);
/* "f64" → TESS_F64; INVALID when there is no such dtype. Any thread. */
TESS_API tess_status tess_dtype_parse(const char *name, tess_dtype *dtype);
/* The library's version, "major.minor.patch". Any thread. */
TESS_API const char *tess_version(void);

/* ——— sessions ——— */

typedef struct tess_session_options {
    /* For the cluster inside the process (address NULL). */
    uint32_t workers;       /* tasks that run at a time; 0: one for each CPU that the process may use */
    uint64_t memory_bytes;  /* for blocks; 0: 60 % of the machine's or cgroup's memory */
    const char *spill_dir;  /* where blocks go that do not fit; NULL: $TMPDIR, else /tmp */
    uint64_t spill_bytes;   /* bound on such files; 0: half of what is free there; UINT64_MAX: never spill */
    const char *resources;  /* what tasks may demand of it, as for `tessera worker --resources`; NULL: nothing */
    uint32_t trace_events;  /* newest events that are kept for tess_session_trace, of each task that may run at a time,
                               48 bytes each; 0: 65536 */
    const char *gpus;       /* NULL or "auto": what is there; "none"; "0,1": these */
    const char *gpu_memory; /* of each: "90%" (NULL) or "8GiB" */
    /* For a cluster on the network. */
    const char *keys_dir;   /* holds the cluster's keys; NULL: $TESSERA_KEYS, else not encrypted */
    uint32_t timeout_ms;    /* to reach the scheduler; 0: 5000 */
    /* For both. */
    uint64_t chunk_bytes;   /* bound on blocks whose chunks the library chooses; 0: 128 MiB, or a 16th of the memory for
                               blocks of the smallest worker that is there now, where that is less */
} tess_session_options;

/* Open a session on the scheduler at `address`, e.g. "tcp://node1:8786"; NULL: at $TESSERA_SCHEDULER, and where that is not
 * set on a cluster inside the process, which opens no port and which TESS_EMBEDDED is sure to be. `options` may be NULL;
 * strings in it are copied.
 *
 * Never NULL: where it fails (within about 10 s), the session carries the error, every array made in it is
 * poisoned with it, and it is closed as usual. UNREACHABLE: nobody answers there; AUTH: keys differ or are
 * missing on one side; VERSION: the scheduler speaks another protocol; NOT_FOUND, FORMAT: keys_dir; INVALID:
 * the address or an option; IO: no threads, descriptors or spill directory. Any thread. */
#define TESS_EMBEDDED "embedded"
TESS_API tess_session *tess_session_open(const char *address, const tess_session_options *options);

/* Release everything of the session: scopes, arrays, data on the cluster, threads. Handles become invalid.
 * NULL is allowed. */
TESS_API void tess_session_close(tess_session *session);

/* The session's error: what the last call that returned an error had to say, and until one did, the first operator that was
 * refused. After a call that failed it is that call's. It stays when later calls go well, so that a program may look once,
 * at its end; whoever goes on after an error clears it. OK and "" when there is none. That tess_wait ran into its time is
 * an answer and no error. The text is valid until the next call with this session. */
TESS_API tess_status tess_session_status(const tess_session *session);
TESS_API const char *tess_session_error(const tess_session *session);
/* Forget the error. A session that could not be opened or has lost its scheduler keeps it. */
TESS_API void tess_session_clear_error(tess_session *session);

/* The session's number on its cluster: the 5 in the task 5.3:17 of `tessera status --why` and of a trace. 0: not open. */
TESS_API uint32_t tess_session_id(const tess_session *session);

typedef struct tess_stats {
    uint64_t tasks;             /* run to the end for this session */
    uint64_t tasks_rerun;       /* of these, again after a loss */
    uint64_t bytes_moved;       /* fetched between workers for this session's blocks */
    uint64_t steals;            /* tasks taken over by an idle worker */
    uint64_t workers_lost;      /* while the session had work */
    uint32_t workers;           /* in the cluster now */
    uint64_t peak_worker_bytes; /* largest block memory that any worker has held */
    double seconds;             /* of the last computation waited for: from its submission until its last
                                   block was ready on the workers */
} tess_stats;

/* Counters of the session, as they were when its last computation was complete, and facts about its cluster, for which
 * the scheduler is asked. Statuses: those of a lost connection. */
TESS_API tess_status tess_session_stats(tess_session *session, tess_stats *stats);

/* Write what the cluster has run, moved, spilled and stolen lately, as far as its workers still remember it, to a
 * file that Perfetto (https://ui.perfetto.dev) and chrome://tracing open. An existing file is replaced when all is
 * written, a pipe or a device is written as it is; "-" is standard output. IO: the file; those of a lost connection.
 * Any thread. */
TESS_API tess_status tess_session_trace(tess_session *session, const char *path);

typedef struct tess_progress {
    uint64_t done;   /* blocks of the results asked for */
    uint64_t total;
    double seconds;  /* since the submission */
    bool finished;   /* the last call for this computation */
} tess_progress;

/* Called on the thread that waits in tess_wait, tess_read and the like, when the numbers changed. It may
 * call tess_cancel and nothing else of this library. */
typedef void tess_progress_fn(const tess_progress *progress, void *context);

/* NULL turns it off. `context` is passed on and stays the caller's. */
TESS_API void tess_session_on_progress(tess_session *session, tess_progress_fn *progress, void *context);

/* A ready-made one: a bar on standard error where that is a terminal, nothing elsewhere. */
TESS_API void tess_progress_bar(const tess_progress *progress, void *context);

/* ——— scopes ——— */

/* Open a scope inside the innermost open one; handles made from now on belong to it. Never NULL, except for a
 * session that is NULL. */
TESS_API tess_scope *tess_scope_open(tess_session *session);

/* Close a scope and those inside it: their handles become invalid, and what they alone held on the cluster
 * is freed. NULL is allowed. */
TESS_API void tess_scope_close(tess_scope *scope);

/* Move the handle to the scope around its own (to the session at last). Returns `array`. */
TESS_API tess_array *tess_keep(tess_array *array);

/* Release one handle before its scope ends. Arrays computed from it stay as they are. NULL is allowed. */
TESS_API void tess_release(tess_array *array);

/* ——— making arrays ——— */

/* Each returns a lazy array of the session's innermost scope, poisoned with INVALID for a shape, dtype or
 * chunks that cannot be. `chunks` as told at tess_shape. */

TESS_API tess_array *tess_zeros(tess_session *session, tess_shape shape, tess_dtype dtype, tess_shape chunks);
TESS_API tess_array *tess_ones(tess_session *session, tess_shape shape, tess_dtype dtype, tess_shape chunks);
/* `value` converted to `dtype`; INVALID when an integer dtype cannot hold it. */
TESS_API tess_array *tess_full(tess_session *session, tess_shape shape, tess_dtype dtype, double value,
                               tess_shape chunks);
/* One element, to be used as an operand: tess_multiply(a, tess_scalar(s, 2, TESS_F32)). */
TESS_API tess_array *tess_scalar(tess_session *session, double value, tess_dtype dtype);

/* start, start + step, … before stop: ⌈(stop − start) / step⌉ elements; element e is start + e·step, as in
 * numpy.arange. For an integer dtype start and step must be whole numbers. */
TESS_API tess_array *tess_arange(tess_session *session, double start, double stop, double step, tess_dtype dtype,
                                 tess_shape chunks);

/* (rows, columns) with ones where column − row == diagonal. */
TESS_API tess_array *tess_eye(tess_session *session, int64_t rows, int64_t columns, int64_t diagonal, tess_dtype dtype,
                              tess_shape chunks);

/* Random numbers of a float dtype: Philox 4×32-10 keyed by the seed and the element's index (Salmon et al.,
 * "Parallel random numbers: as easy as 1, 2, 3", 2011), so they do not depend on the chunks. Uniform in
 * [low, high); normal with that mean and standard deviation. */
TESS_API tess_array *tess_random_uniform(tess_session *session, tess_shape shape, tess_dtype dtype, double low,
                                         double high, uint64_t seed, tess_shape chunks);
TESS_API tess_array *tess_random_normal(tess_session *session, tess_shape shape, tess_dtype dtype, double mean,
                                        double deviation, uint64_t seed, tess_shape chunks);

/* The elements at `data` in C order, dense. They are copied at the call; the library's copy lives as long as
 * an array that was computed from it. Any byte but 0 is true. NOMEM poisons. */
TESS_API tess_array *tess_from_memory(tess_session *session, const void *data, tess_shape shape, tess_dtype dtype,
                                      tess_shape chunks);

/* The array of a NumPy file (.npy, versions 1 to 3, either byte order, C or Fortran order). The header is read now;
 * workers read the chunks later from the same path, which must name the same file on their machines and not a copy, and
 * must not change meanwhile: a worker that finds another file or another state of it (inode, size, times of the last
 * change) fails its task with IO, naming itself. Chunks that cut rows short are read with what lies between them, 256 KiB
 * at a time. Poisoned with NOT_FOUND, IO, FORMAT or UNSUPPORTED, the text naming the path. */
TESS_API tess_array *tess_from_npy(tess_session *session, const char *path, tess_shape chunks);

/* ——— element by element ——— */

/* Shapes broadcast and dtypes promote as in NumPy (numpy.broadcast, numpy.promote_types; bf16 with f16 gives
 * f32). Chunks of the result are those of the largest operand (but see tess_shape); the others are rechunked where
 * theirs differ.
 * Integers wrap around. */
TESS_API tess_array *tess_add(tess_array *a, tess_array *b);
/* UNSUPPORTED for two bool arrays, as in NumPy. */
TESS_API tess_array *tess_subtract(tess_array *a, tess_array *b);
TESS_API tess_array *tess_multiply(tess_array *a, tess_array *b);
/* True division: integers and bool are divided as f64. */
TESS_API tess_array *tess_divide(tess_array *a, tess_array *b);

/* With a number. It takes the array's dtype where that is float or complex, and also of integers for a whole number that
 * the dtype can hold, as an int of Python does in NumPy: 2 keeps an array of u8 what it is, and results wrap around as
 * those of two arrays do. With a fraction, a number that the dtype cannot hold (−1 or 300 for u8), of bool and in every
 * division the result is f64. */
TESS_API tess_array *tess_add_scalar(tess_array *a, double b);
TESS_API tess_array *tess_subtract_scalar(tess_array *a, double b);
TESS_API tess_array *tess_multiply_scalar(tess_array *a, double b);
TESS_API tess_array *tess_divide_scalar(tess_array *a, double b);

/* −a; UNSUPPORTED for bool. */
TESS_API tess_array *tess_negative(tess_array *a);
/* |a|; of complex numbers a real one, √(re² + im²). */
TESS_API tess_array *tess_abs(tess_array *a);
/* Of floats and complex numbers in their own dtype, of others in f64. */
TESS_API tess_array *tess_sqrt(tess_array *a);
TESS_API tess_array *tess_exp(tess_array *a);
TESS_API tess_array *tess_log(tess_array *a);
/* Of radians, of any size; NaN of infinities. Error below 1 ulp. Floats in their own dtype, integers and bool in f64;
 * UNSUPPORTED for complex. */
TESS_API tess_array *tess_sin(tess_array *a);

/* Comparisons, element by element, in the promoted type (f64 for i64 with u64); the result is bool. Of a NaN nothing but
 * tess_not_equal is true, and −0 equals 0. Complex numbers have no order: UNSUPPORTED. */
TESS_API tess_array *tess_equal(tess_array *a, tess_array *b);
TESS_API tess_array *tess_not_equal(tess_array *a, tess_array *b);
TESS_API tess_array *tess_less(tess_array *a, tess_array *b);
TESS_API tess_array *tess_less_equal(tess_array *a, tess_array *b);
TESS_API tess_array *tess_greater(tess_array *a, tess_array *b);
TESS_API tess_array *tess_greater_equal(tess_array *a, tess_array *b);

/* a where the condition is true (any dtype: not zero), else b; the dtype is that of a and b promoted, and all three
 * broadcast. */
TESS_API tess_array *tess_where(tess_array *condition, tess_array *a, tess_array *b);

/* Convert: float to integer drops the fraction; anything but zero is true; what becomes a float is rounded once, to the
 * nearest. INVALID from complex to real; a complex number is true when either part is not zero. */
TESS_API tess_array *tess_astype(tess_array *a, tess_dtype dtype);

/* ——— reductions ——— */

/* Fold the axes of the set `axes` (TESS_AXIS(0) | TESS_AXIS(1), TESS_ALL). Folded axes vanish, or stay with
 * extent 1 when `keepdims`. Blocks are combined by a tree that depends on the shape and chunks only, so
 * the bits do too. INVALID for an axis that is not there. */

/* bool and signed integers are summed in i64, unsigned ones in u64, others in their own dtype (numpy.sum); f16 and bf16 in
 * f32 over all levels of the tree, and rounded once, at the end. */
TESS_API tess_array *tess_sum(tess_array *a, uint32_t axes, bool keepdims);
/* The sum divided by the number of elements; integers and bool as f64; NaN of nothing. f16 and bf16 are summed
 * in f32, and the quotient is rounded once. */
TESS_API tess_array *tess_mean(tess_array *a, uint32_t axes, bool keepdims);
/* The product, in the dtypes of tess_sum (numpy.prod), wrapping around where integers leave them; 1 of nothing. A partial product
 * may be inf or 0 where that of all, in another order, is not. */
TESS_API tess_array *tess_prod(tess_array *a, uint32_t axes, bool keepdims);
/* NaN where there is one, as in NumPy. INVALID for an empty axis; UNSUPPORTED for complex. */
TESS_API tess_array *tess_min(tess_array *a, uint32_t axes, bool keepdims);
TESS_API tess_array *tess_max(tess_array *a, uint32_t axes, bool keepdims);
/* The variance: the sum of squared distances from the mean, by their number less `correction` (0; 1 for a sample), NaN or inf
 * where that is not positive, as in NumPy. Integers, bool and floats below f64 in f64, rounded once; of complex numbers it is
 * real. In one pass, by pairwise joins of counts, means and sums (Chan, Golub and LeVeque, 1982). NaN of nothing. */
TESS_API tess_array *tess_var(tess_array *a, uint32_t axes, double correction, bool keepdims);/* The variance's square root. */
TESS_API tess_array *tess_std(tess_array *a, uint32_t axes, double correction, bool keepdims);

/* Where the largest element is first, in i64: its index along the folded axis, of several in C order along them, so in the whole
 * flattened array for TESS_ALL (numpy.argmax). A NaN counts as the largest. INVALID for an empty axis; UNSUPPORTED for complex. */
TESS_API tess_array *tess_argmax(tess_array *a, uint32_t axes, bool keepdims);
/* Likewise the smallest. */
TESS_API tess_array *tess_argmin(tess_array *a, uint32_t axes, bool keepdims);

/* Whether any element, or each, is not 0, as a bool; NaN is not. Of nothing false and true. */
TESS_API tess_array *tess_any(tess_array *a, uint32_t axes, bool keepdims);
TESS_API tess_array *tess_all(tess_array *a, uint32_t axes, bool keepdims);

/* ——— structure ——— */

/* The axes in reverse order: the transpose of a matrix. As an operand of tess_matmul it costs nothing. */
TESS_API tess_array *tess_transpose(tess_array *a);
/* Axis d of the result is axis axes[d] of `a`; `count` is a's number of dimensions. */
TESS_API tess_array *tess_permute(tess_array *a, const uint32_t *axes, uint32_t count);
/* One range for each axis; fewer than a has dimensions: the others whole. Axes stay, also with one element. */
TESS_API tess_array *tess_slice(tess_array *a, tess_ranges ranges);
/* The same elements in other chunks. Where many blocks exchange elements with many, as from rows to columns, each element
 * moves once and comes back from disk once at most; the source's blocks are cut into pieces where they are. Likewise where
 * a block takes less than a quarter of a large one: only that moves. */
TESS_API tess_array *tess_rechunk(tess_array *a, tess_shape chunks);

/* ——— linear algebra ——— */

/* (m, k) · (k, n) → (m, n) in the promoted dtype. The operands may have any chunks; rows of the result are
 * chunked as a's, columns as b's (but see tess_shape). Where few blocks would come out of a long k, k is cut into segments whose
 * products are added by a fixed tree; the cut depends on shapes and chunks only. INVALID: not two matrices, or
 * inner dimensions differ. f16 and bf16 are added in f32 over the whole of k and rounded once, at the end; integers
 * wrap around. */
TESS_API tess_array *tess_matmul(tess_array *a, tess_array *b);

/* How products of f32 matrices may be computed by tensor cores; where there are none, all are native. */
typedef enum tess_compute {
    TESS_COMPUTE_NATIVE = 0, /* in the type itself */
    TESS_COMPUTE_TF32 = 1,   /* operands rounded to 11 bits: fast */
    TESS_COMPUTE_TF32X3 = 2  /* three such products of operands split in two: nearly f32's accuracy */
} tess_compute;

typedef struct tess_matmul_options {
    tess_shape chunks;    /* of the result; zero: as the operands' */
    int64_t segments;     /* of k; 0: as told above, 1: never cut. On many workers a cut saves words: c segments, with
                             memory for c results of partial sums, are a 2.5D product (Solomonik and Demmel,
                             "Communication-optimal parallel 2.5D matrix multiplication and LU factorization
                             algorithms", 2011). The same cut gives the same bits on any number of workers */
    tess_compute compute; /* of f32; INVALID with other types unless native */
    bool wide;            /* the result in the type of the sums: f32 of f16 and bf16, i32 of i8, u32 of u8 */
} tess_matmul_options;

TESS_API tess_array *tess_matmul_with(tess_array *a, tess_array *b, const tess_matmul_options *options);

/* ——— questions about an array ——— */

/* Give the array a name for people: "tess_matmul: (20000, 512) · (20000, 1): inner dimensions differ [w]" names the operands
 * that have one. What is computed after this call carries it to the cluster, where errors, `tessera status`, its --why and
 * traces say it ("matmul [w]"); what is computed for it and has no name of its own is called "for w" there. Copied; at most
 * 31 bytes, further ones are cut off. Returns `array`. */
TESS_API tess_array *tess_name(tess_array *array, const char *name);

/* A poisoned array has ndim 0, extents 0, dtype TESS_F64, no chunks. */
TESS_API tess_status tess_array_status(const tess_array *array);
TESS_API const char *tess_array_error(const tess_array *array); /* "" when it is not poisoned; lives as the array */
TESS_API tess_shape tess_array_shape(const tess_array *array);
TESS_API tess_dtype tess_array_dtype(const tess_array *array);
TESS_API uint64_t tess_array_bytes(const tess_array *array); /* of all its elements */
/* Chunks along an axis, and the length of one of them. */
TESS_API uint64_t tess_array_chunks(const tess_array *array, uint32_t axis);
TESS_API int64_t tess_array_chunk(const tess_array *array, uint32_t axis, uint64_t position);

/* The number of the layer that computes the array on its cluster, once it is being computed or held, until it is released:
 * the 3 in the task 5.3:17 of `tessera status --why` and of a trace, whose number is the position of the task's block, row by
 * row. 0: it is lazy, also after it was read without having been persisted. Any thread, while the handle is valid. */
TESS_API uint32_t tess_array_id(const tess_array *array);

/* ——— computing ——— */

/* All of these return the poison of a poisoned array; else, besides what they say: NO_WORKERS when the cluster
 * had none for some seconds; TOO_BIG when a task or the results exceed the memory of all workers (results in millions of
 * small blocks take 512 bytes a block beside their data), or, later, when what is held on the way fills all of it and
 * nothing goes on: then what this session waits for is given up, and the text says what to do; FAILED when a
 * task failed (the text names it); CANCELLED; LOST or CLOSED when the connection to the scheduler ended. */

/* In which order waiting work is handed out, among what has its inputs. None of them changes a result. */
typedef enum tess_policy {
    TESS_POLICY_DEFAULT = 0,        /* the session's; of a session: TESS_POLICY_B_LEVEL */
    TESS_POLICY_B_LEVEL = 1,        /* depth first, so that blocks are consumed as they are made; in irregular graphs
                                       what the longest path still waits for goes first (Topcuoglu, Hariri and Wu,
                                       "Performance-effective and low-complexity task scheduling", 2002) */
    TESS_POLICY_FIRST_COME = 2,     /* as it was written */
    TESS_POLICY_SHORTEST_FIRST = 3, /* operations whose tasks are expected to be short */
} tess_policy;

#define TESS_PRIORITY_MAX 8

typedef struct tess_compute_options {
    int priority;          /* −TESS_PRIORITY_MAX … TESS_PRIORITY_MAX; higher goes first among the session's work that
                              has its inputs, and so does what it waits for. Sessions take turns whatever theirs are */
    tess_policy policy;
    const char *resources; /* what each task needs from its worker while it runs: "ssd=1,license=1", at most 8 names of
                              at most 23 letters, digits, '.', '-' or '_'; NULL: nothing. A worker has what
                              `tessera worker --resources ssd=2` says, and never runs more than that at a time. When no
                              worker has enough for some seconds, the computation fails with NO_WORKERS */
} tess_compute_options;

/* How what is computed from now on is scheduled; NULL: as in the beginning. Strings are copied. INVALID: an option. */
TESS_API tess_status tess_session_schedule(tess_session *session, const tess_compute_options *options);

/* How the operation that makes `array` is scheduled, in place of the session's options, when it is computed after this
 * call; NULL: as the session says. Of functions that are made of several operations (a mean, a tree of sums) it is
 * the last one. Operations whose options differ are not fused into one. Strings are copied. INVALID: an option;
 * else the status of a poisoned array. */
TESS_API tess_status tess_schedule(tess_array *array, const tess_compute_options *options);

/* Start to compute the array and hold it on the cluster until its handle is released; returns at once. Later
 * expressions use the blocks instead of computing them again. */
TESS_API tess_status tess_persist(tess_array *array);
/* Several at once, so that what they have in common is computed once. */
TESS_API tess_status tess_persist_all(tess_array *const *arrays, size_t count);

/* Forget what a persisted array was made from, as soon as it is complete; returns at once. Arrays that nothing else needs go
 * then, here and on the cluster. A program that goes on from array to array in a long loop persists each, and most need
 * not call this: its steps cost the same for ever, since the library does so by itself where it is cheap.
 *
 *     for (int step = 0; step < steps; step++) {
 *         tess_scope *scope = tess_scope_open(session);
 *         tess_array *next = tess_subtract(w, gradient(w));
 *         if (tess_persist(next) != TESS_OK || tess_wait(next, 0) != TESS_OK) { … }
 *         tess_release(w);
 *         w = tess_keep(next);
 *         tess_scope_close(scope);
 *     }
 *
 * An array that is lost with its worker is computed again from what it was made from. This is done without for one that
 * is held, complete, and made from 64 arrays or more one after the other, when it cannot be lost with one worker:
 * in a cluster inside the process, at once (not where devices made it); else when it is small (4096 blocks; a sixteenth of
 * the smallest worker's memory for each 64 arrays, a half at most) and a second worker has got a copy of each block,
 * which it keeps as its own and which is made anew when one of the two is lost. With one worker it never is done unasked:
 * the past grows with the loop, by some 2 KB for each operation, here and at the scheduler. With this function it is done
 * whatever the array's past and size; while there is but one worker, without a copy. From then on the array stays on the cluster as long as it or something that was
 * made from it may be needed. When all that have a block are lost, as never with one loss at a time, the array and what
 * waits for it fail with LOST, and it cannot be computed again. INVALID for an array that was not persisted. */
TESS_API tess_status tess_detach(tess_array *array);

/* Wait until a persisted array is complete. `timeout_ms` 0: as long as it takes; TIMEOUT leaves it computing.
 * INVALID for an array that was not persisted. */
TESS_API tess_status tess_wait(tess_array *array, uint64_t timeout_ms);

/* Compute the array, unless it is persisted, and copy it into `data` in C order; `bytes` must be
 * tess_array_bytes(array) (INVALID). On failure the contents of `data` are undefined. The array is complete on the workers
 * before its first byte comes here, so it has to fit into their memory and spill files together (TOO_BIG at once where it
 * does not); what is larger is read in slices. */
TESS_API tess_status tess_read(tess_array *array, void *data, uint64_t bytes);

/* The value of an array with one element, converted to f64 (the real part of a complex one). NaN on failure. */
TESS_API tess_status tess_read_scalar(tess_array *array, double *value);

/* Compute the array, unless it is persisted, and write it as a NumPy file: one without a name in the same directory
 * (where that cannot be, under a temporary name), flushed to the disk, then put in place of `path`;
 * a failure leaves what was at `path` before, and its permissions stay. Symbolic links are followed, hard links cut.
 * The workers inside the program write each block when it is there and let it go: they need room for a few of them,
 * however large the result. So do the workers of a cluster where all were started with `tessera worker --write DIR` for a
 * directory above `path` that they see. Else the blocks come here to be written as they are made; a result that the workers
 * have no room to hold is then computed and written in parts, down to single blocks: persist what these share, or each
 * computes it anew. A block that was written by a worker that is then lost is made and written again. IO, also where
 * something other than a file is at `path`; UNSUPPORTED for bf16, which NumPy does not have. */
TESS_API tess_status tess_write_npy(tess_array *array, const char *path);

/* Stop computing a persisted array, or the one that another thread is about to read; who waits for it gets
 * CANCELLED. Tasks that run finish and their results are dropped; nothing starts any more that only this array
 * needed, as after the release of one that is not complete. No effect on a complete or lazy array. Any thread, while
 * the handle is valid. */
TESS_API void tess_cancel(tess_array *array);

#ifdef __cplusplus
}
#endif

#endif
