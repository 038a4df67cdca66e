/* Spill files: blocks on disk while memory is short, and the thread that writes and reads them.
 *
 * Each process has a directory of its own below the one the user names, with a lock file that is
 * locked (flock) from before the directory gets its final name until the process is gone. So a
 * directory whose lock can be had belongs to nobody alive, and whoever starts next removes it.
 *
 * A file is a head (magic, length, one digest for each piece of 1 MiB, a digest of the head) and the
 * bytes. Every piece is compared with its digest when it is read: a file that was cut or damaged
 * is a FORMAT status, never wrong bytes. Nothing is synced: a spill file is of no use after a crash.
 *
 * Jobs are done one after the other in the order in which they were given. Their `done` is called
 * on the spill thread. */
#ifndef TESSI_STORE_SPILL_H
#define TESSI_STORE_SPILL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/status.h"

#define TESSI_SPILL_PIECE_BYTES ((uint64_t)1 << 20)

struct tessi_spill;

/* Called once for each job; `error` has a text when `status` is not OK. */
typedef void tessi_spill_done_fn(void *context, enum tessi_status status, const struct tessi_error *error);

/* Any work on the spill thread, such as making a block again by its kernel. */
typedef enum tessi_status tessi_spill_work_fn(void *context, struct tessi_error *error);

/* Sweep `dir`, make our own directory in it, start the thread. `dir` NULL: no files, only work. IO: the text names
 * the directory. */
TESSI_MUST_USE enum tessi_status tessi_spill_create(const char *dir, struct tessi_spill **spill,
                                                    struct tessi_error *error);

/* Finish all jobs, remove our files and the directory. NULL is allowed. */
void tessi_spill_destroy(struct tessi_spill *spill);

/* Write `bytes` of `data`, which must stay until `done`, as file number `file` (new, or replaced). TOO_BIG: the
 * disk is full; IO; UNSUPPORTED: there is no directory. A file that could not be written whole is gone. */
void tessi_spill_write(struct tessi_spill *spill, uint64_t file, const void *data, uint64_t bytes,
                       tessi_spill_done_fn *done, void *context);

/* Read [offset, offset + bytes) of a file of `total` bytes; `offset` is a multiple of the piece, `bytes` too
 * unless it reaches the end. FORMAT: damaged; IO; NOT_FOUND. */
void tessi_spill_read(struct tessi_spill *spill, uint64_t file, uint64_t total, uint64_t offset, void *data,
                      uint64_t bytes, tessi_spill_done_fn *done, void *context);

void tessi_spill_remove(struct tessi_spill *spill, uint64_t file);

/* `done` gets what `work` returned; both get the same context. */
void tessi_spill_call(struct tessi_spill *spill, tessi_spill_work_fn *work, tessi_spill_done_fn *done, void *context);

/* Wait until all jobs given so far are done. */
void tessi_spill_drain(struct tessi_spill *spill);

/* Our own directory; NULL without files. */
const char *tessi_spill_path(const struct tessi_spill *spill);

/* Remove the directories of dead processes below `dir`; returns how many. */
uint32_t tessi_spill_sweep(const char *dir);

/* Bytes that may still be written below `dir`, 0 when it cannot be told; whether they are memory (tmpfs). */
uint64_t tessi_spill_free_bytes(const char *dir, bool *in_memory);

#endif
