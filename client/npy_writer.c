/* Elements go to a file without a name, where the file system has such and nobody else needs to open it, so that nothing
 * is left of a program that is killed. A name beside the final one is needed to replace a file, and from the beginning
 * elsewhere: whoever writes holds a lock on it, and the next one to write into the folder removes those whose writers are
 * gone. The header comes last: until then a mark stands there, by which workers know the file. */
#include "client/npy_writer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/base/host.h"

#define NAMES_TRIED 100
#define LINKS_MAX 40

struct tessi_npy_writer {
    int file;
    int folder;
    char *path;         /* as the user calls it */
    char *target;       /* where its links lead */
    const char *name;   /* the last part of that */
    char temporary[64]; /* as it is called now; "": it has no name, or its own already */
    uint8_t header[TESSI_NPY_WRITTEN_MAX];
    uint64_t data_offset; /* bytes of the header */
    uint64_t bytes;       /* of the whole file */
    uint64_t token[2];    /* of its mark */
};

static enum tessi_status write_fully(int file, const void *data, uint64_t size, uint64_t offset, const char *path,
                                     struct tessi_error *error)
{
    const uint8_t *bytes = data;
    for (uint64_t done = 0; done < size;) {
        ssize_t part = pwrite(file, bytes + done, (size_t)(size - done), (off_t)(offset + done));
        if (part < 0 && errno == EINTR) {
            continue;
        }
        if (part <= 0) {
            return tessi_fail(error, TESSI_IO, "%s cannot be written: %s", path, strerror(part < 0 ? errno : ENOSPC));
        }
        done += (uint64_t)part;
    }
    return TESSI_OK;
}

/* Where symbolic links lead, also to a file that is not there yet; NULL when they lead in a circle. The caller frees it. */
static char *follow_links(const char *path)
{
    char *target = tessi_strdup(path);
    for (unsigned i = 0; i < LINKS_MAX; i++) {
        char link[PATH_MAX];
        ssize_t length = readlink(target, link, sizeof link - 1);
        if (length < 0) {
            return target;
        }
        link[length] = 0;
        const char *slash = strrchr(target, '/');
        size_t folder = link[0] == '/' || slash == NULL ? 0 : (size_t)(slash - target) + 1;
        char *next = tessi_alloc(folder + (size_t)length + 1);
        memcpy(next, target, folder);
        memcpy(next + folder, link, (size_t)length + 1);
        tessi_free(target);
        target = next;
    }
    tessi_free(target);
    errno = ELOOP;
    return NULL;
}

/* Files of writers that were killed: nobody holds their locks. */
static void sweep(int folder)
{
    int listed = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = listed >= 0 ? fdopendir(listed) : NULL;
    if (directory == NULL) {
        if (listed >= 0) {
            close(listed);
        }
        return;
    }
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (strncmp(entry->d_name, TESSI_NPY_TEMPORARY, strlen(TESSI_NPY_TEMPORARY)) != 0) {
            continue;
        }
        int file = openat(folder, entry->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (file >= 0 && flock(file, LOCK_EX | LOCK_NB) == 0) {
            (void)unlinkat(folder, entry->d_name, 0);
        }
        if (file >= 0) {
            close(file);
        }
    }
    closedir(directory);
}

static void choose_name(struct tessi_npy_writer *writer, unsigned attempt)
{
    (void)snprintf(writer->temporary, sizeof writer->temporary, TESSI_NPY_TEMPORARY "%ld-%" PRIx64, (long)getpid(),
                   (uint64_t)tessi_clock_now() + attempt);
}

/* A file that has no name yet, unless it needs one, or one that nobody else has; locked. -1 with errno. */
static int create_file(struct tessi_npy_writer *writer, bool named)
{
    int file = named || access(TESSI_NPY_OWN, X_OK) != 0 ? -1 : openat(writer->folder, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
    for (unsigned i = 0; file < 0 && i < NAMES_TRIED; i++) {
        struct stat about;
        choose_name(writer, i);
        file = openat(writer->folder, writer->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (file < 0 && errno != EEXIST) {
            break;
        }
        if (file >= 0 && (flock(file, LOCK_EX) != 0 || fstat(file, &about) != 0 || about.st_nlink == 0)) {
            close(file); /* swept before it was locked */
            file = -1;
        }
    }
    if (file >= 0 && writer->temporary[0] == 0) {
        (void)flock(file, LOCK_EX); /* for the moment when it has a name that is not its own */
    } else if (file < 0) {
        writer->temporary[0] = 0;
    }
    return file;
}

/* What is there may be replaced: a file that could be written to. */
static enum tessi_status check_place(struct tessi_npy_writer *writer, struct tessi_error *error)
{
    struct stat there;
    if (fstatat(writer->folder, writer->name, &there, 0) != 0) {
        return TESSI_OK;
    }
    if (!S_ISREG(there.st_mode)) {
        return tessi_fail(error, TESSI_IO, "%s is no regular file, which would be replaced: name another one", writer->path);
    }
    if (faccessat(writer->folder, writer->name, W_OK, AT_EACCESS) != 0) {
        return tessi_fail(error, TESSI_IO, "%s cannot be written: %s", writer->path, strerror(errno));
    }
    return TESSI_OK;
}

/* As where the file had been opened to be written: what is there keeps its permissions and, where that may be, its owner. */
static void keep_permissions(const struct tessi_npy_writer *writer)
{
    struct stat there;
    if (fstatat(writer->folder, writer->name, &there, 0) == 0) {
        int owner = fchown(writer->file, there.st_uid, there.st_gid);
        if (owner != 0) {
            owner = fchown(writer->file, (uid_t)-1, there.st_gid);
        }
        (void)owner; /* not everybody may give files away */
        (void)fchmod(writer->file, there.st_mode & 07777);
    }
}

static enum tessi_status open_folder(struct tessi_npy_writer *writer, struct tessi_error *error)
{
    writer->target = follow_links(writer->path);
    if (writer->target == NULL) {
        return tessi_fail(error, TESSI_IO, "%s cannot be created: %s", writer->path, strerror(errno));
    }
    char *slash = strrchr(writer->target, '/');
    char *folder = tessi_strdup(writer->target);
    folder[slash == NULL ? 0 : slash == writer->target ? 1 : slash - writer->target] = 0;
    writer->name = slash == NULL ? writer->target : slash + 1;
    writer->folder = open(folder[0] != 0 ? folder : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int reason = errno;
    tessi_free(folder);
    if (writer->folder < 0 || writer->name[0] == 0 || strlen(writer->name) > NAME_MAX) {
        const char *cause = writer->folder < 0 ? strerror(reason) : strerror(writer->name[0] == 0 ? EISDIR : ENAMETOOLONG);
        return tessi_fail(error, TESSI_IO, "%s cannot be created: %s", writer->path, cause);
    }
    return TESSI_OK;
}

/* What stands in the file until it is complete, and room for all that comes. */
static enum tessi_status prepare_file(struct tessi_npy_writer *writer, struct tessi_error *error)
{
    uint8_t mark[TESSI_NPY_MARK_BYTES];
    if (getrandom(writer->token, sizeof writer->token, 0) != sizeof writer->token) {
        return tessi_fail(error, TESSI_IO, "%s cannot be created: no random numbers: %s", writer->path, strerror(errno));
    }
    tessi_npy_mark(writer->token, mark);
    enum tessi_status status = write_fully(writer->file, mark, sizeof mark, 0, writer->path, error);
    int failed = status == TESSI_OK ? posix_fallocate(writer->file, 0, (off_t)writer->bytes) : 0;
    if (failed != 0) {
        status = tessi_fail(error, TESSI_IO, "%s: no room for %" PRIu64 " bytes: %s", writer->path, writer->bytes,
                            strerror(failed));
    }
    return status;
}

enum tessi_status tessi_npy_writer_open(const char *path, const struct tessi_npy_header *header, bool named,
                                        struct tessi_npy_writer **result, struct tessi_error *error)
{
    struct tessi_npy_writer *writer = tessi_zalloc(sizeof *writer);
    enum tessi_status status;
    int64_t elements;
    *result = NULL;
    writer->file = writer->folder = -1;
    writer->path = tessi_strdup(path);
    writer->data_offset = tessi_npy_format(header, writer->header, sizeof writer->header);
    if (writer->data_offset == 0 || !tessi_shape_elements(&header->shape, &elements)) {
        status = tessi_fail(error, TESSI_UNSUPPORTED, "%s: NumPy has no dtype %s: convert with tess_astype", path,
                            tessi_dtype_name(header->dtype));
        goto cleanup;
    }
    writer->bytes = writer->data_offset + (uint64_t)elements * tessi_dtype_size(header->dtype);
    TESSI_TRY(open_folder(writer, error));
    TESSI_TRY(check_place(writer, error));
    sweep(writer->folder);
    writer->file = create_file(writer, named);
    if (writer->file < 0) {
        status = tessi_fail(error, TESSI_IO, "%s cannot be created: %s", path, strerror(errno));
        goto cleanup;
    }
    keep_permissions(writer);
    TESSI_TRY(prepare_file(writer, error));
    *result = writer;
    return TESSI_OK;
cleanup:
    tessi_npy_writer_close(writer);
    return status;
}

/* Where another process finds the file; NULL: nowhere. The caller frees it. */
static char *path_of(const struct tessi_npy_writer *writer)
{
    char self[64];
    (void)snprintf(self, sizeof self, TESSI_NPY_OWN "%d", writer->folder);
    char *folder = writer->temporary[0] != 0 ? realpath(self, NULL) : NULL;
    if (folder == NULL) {
        return NULL;
    }
    size_t size = strlen(folder) + 1 + sizeof writer->temporary;
    char *path = tessi_alloc(size);
    (void)snprintf(path, size, "%s/%s", strcmp(folder, "/") == 0 ? "" : folder, writer->temporary);
    free(folder);
    return path;
}

bool tessi_npy_writer_share(const struct tessi_npy_writer *writer, bool own, struct tessi_layer *layer)
{
    char self[64];
    (void)snprintf(self, sizeof self, TESSI_NPY_OWN "%d", writer->file);
    layer->as.write.path = own ? tessi_strdup(self) : path_of(writer);
    layer->as.write.target = tessi_strdup(writer->path);
    layer->as.write.offset = writer->data_offset;
    layer->as.write.bytes = writer->bytes;
    memcpy(layer->as.write.token, writer->token, sizeof writer->token);
    layer->as.write.host = tessi_host_number();
    return layer->as.write.path != NULL;
}

enum tessi_status tessi_npy_writer_put(struct tessi_npy_writer *writer, uint64_t offset, const void *data,
                                       uint64_t size, struct tessi_error *error)
{
    return write_fully(writer->file, data, size, writer->data_offset + offset, writer->path, error);
}

/* Give a file without a name its own, or where that is taken one beside it. */
static int link_file(struct tessi_npy_writer *writer)
{
    char self[64];
    (void)snprintf(self, sizeof self, TESSI_NPY_OWN "%d", writer->file);
    int linked = linkat(AT_FDCWD, self, writer->folder, writer->name, AT_SYMLINK_FOLLOW);
    for (unsigned i = 0; linked != 0 && errno == EEXIST && i < NAMES_TRIED; i++) {
        choose_name(writer, i);
        linked = linkat(AT_FDCWD, self, writer->folder, writer->temporary, AT_SYMLINK_FOLLOW);
    }
    if (linked != 0) {
        writer->temporary[0] = 0;
    }
    return linked;
}

/* The name is durable once the directory is. */
static void sync_directory(int folder)
{
    int directory = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory >= 0) {
        (void)fsync(directory); /* some file systems cannot; the file itself is safe already */
        close(directory);
    }
}

enum tessi_status tessi_npy_writer_commit(struct tessi_npy_writer *writer, struct tessi_error *error)
{
    enum tessi_status status =
        write_fully(writer->file, writer->header, writer->data_offset, 0, writer->path, error);
    if (status != TESSI_OK) {
        return status;
    }
    if (fsync(writer->file) != 0) {
        return tessi_fail(error, TESSI_IO, "%s cannot be flushed to the disk: %s", writer->path, strerror(errno));
    }
    if (writer->temporary[0] == 0 && link_file(writer) != 0) {
        return tessi_fail(error, TESSI_IO, "%s cannot be put in place: %s", writer->path, strerror(errno));
    }
    if (writer->temporary[0] != 0 &&
        renameat(writer->folder, writer->temporary, writer->folder, writer->name) != 0) {
        return tessi_fail(error, TESSI_IO, "%s cannot be put in place: %s", writer->path, strerror(errno));
    }
    writer->temporary[0] = 0;
    sync_directory(writer->folder);
    return TESSI_OK;
}

void tessi_npy_writer_close(struct tessi_npy_writer *writer)
{
    if (writer == NULL) {
        return;
    }
    if (writer->temporary[0] != 0) {
        (void)unlinkat(writer->folder, writer->temporary, 0);
    }
    if (writer->file >= 0) {
        close(writer->file);
    }
    if (writer->folder >= 0) {
        close(writer->folder);
    }
    tessi_free(writer->target);
    tessi_free(writer->path);
    tessi_free(writer);
}
