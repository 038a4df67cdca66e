#include "core/net/keys.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

enum { KEY_CHARS = 40 };

struct key_paths {
    char public_path[PATH_MAX];
    char secret_path[PATH_MAX];
};

static enum tessi_status make_paths(const char *dir, struct key_paths *paths, struct tessi_error *error)
{
    int a = snprintf(paths->public_path, sizeof paths->public_path, "%s/cluster.public", dir);
    int b = snprintf(paths->secret_path, sizeof paths->secret_path, "%s/cluster.secret", dir);
    if (dir[0] == '\0' || a < 0 || b < 0 || (size_t)a >= sizeof paths->public_path ||
        (size_t)b >= sizeof paths->secret_path) {
        return tessi_fail(error, TESSI_INVALID, "keys directory '%.200s': the path is empty or too long", dir);
    }
    return TESSI_OK;
}

static enum tessi_status curve_required(struct tessi_error *error)
{
    if (zmq_has("curve") != 1) {
        return tessi_fail(error, TESSI_UNSUPPORTED,
                          "keys: this libzmq was built without CURVE: install one with libsodium, or run without keys");
    }
    return TESSI_OK;
}

static enum tessi_status write_new(const char *path, mode_t mode, const char *key, struct tessi_error *error)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0) {
        if (errno == EEXIST) {
            return tessi_fail(error, TESSI_BUSY,
                              "%s exists and keys are never overwritten: remove it first, or choose another directory",
                              path);
        }
        return tessi_fail(error, TESSI_IO, "cannot create %s: %s", path, strerror(errno));
    }
    char line[KEY_CHARS + 2];
    int length = snprintf(line, sizeof line, "%s\n", key);
    ssize_t written = write(fd, line, (size_t)length);
    bool good = written == length && fsync(fd) == 0;
    int cause = written >= 0 && written != length ? ENOSPC : errno;
    if (close(fd) != 0 && good) {
        good = false;
        cause = errno;
    }
    explicit_bzero(line, sizeof line);
    if (!good) {
        (void)unlink(path);
        return tessi_fail(error, TESSI_IO, "cannot write %s: %s", path, strerror(cause));
    }
    return TESSI_OK;
}

enum tessi_status tessi_keys_generate(const char *dir, struct tessi_error *error)
{
    struct key_paths paths;
    struct tessi_keys keys = {0};
    enum tessi_status status;
    TESSI_TRY(curve_required(error));
    TESSI_TRY(make_paths(dir, &paths, error));
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        TESSI_TRY(tessi_fail(error, TESSI_IO, "cannot create the keys directory %s: %s", dir, strerror(errno)));
    }
    if (access(paths.public_path, F_OK) == 0) {
        TESSI_TRY(tessi_fail(error, TESSI_BUSY,
                             "%s exists and keys are never overwritten: remove it first, or choose another directory",
                             paths.public_path));
    }
    if (zmq_curve_keypair(keys.public_key, keys.secret_key) != 0) {
        TESSI_TRY(tessi_fail(error, TESSI_UNSUPPORTED, "keys: cannot make a key pair: %s", zmq_strerror(zmq_errno())));
    }
    TESSI_TRY(write_new(paths.secret_path, 0600, keys.secret_key, error));
    status = write_new(paths.public_path, 0644, keys.public_key, error);
    if (status != TESSI_OK) {
        (void)unlink(paths.secret_path); /* It is of this call: half a pair would only stand in the way. */
    }
cleanup:
    tessi_keys_wipe(&keys);
    return status;
}

/* The secret's protection is checked on the open file, so that it cannot change in between. */
static enum tessi_status check_secret_access(int fd, const char *path, struct tessi_error *error)
{
    struct stat facts;
    if (fstat(fd, &facts) != 0) {
        return tessi_fail(error, TESSI_IO, "cannot examine %s: %s", path, strerror(errno));
    }
    if ((facts.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        return tessi_fail(
            error, TESSI_AUTH,
            "%s may be accessed by others (mode %04o): chmod 600 it; if others could read it, make new keys", path,
            (unsigned)(facts.st_mode & 07777));
    }
    if (facts.st_uid != geteuid() && facts.st_uid != 0) {
        return tessi_fail(error, TESSI_AUTH, "%s belongs to another user (uid %u): copy it to a file of your own", path,
                          (unsigned)facts.st_uid);
    }
    return TESSI_OK;
}

static enum tessi_status read_key(const char *path, bool is_secret, char key[KEY_CHARS + 1], struct tessi_error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        if (errno == ENOENT || errno == ENOTDIR) {
            return tessi_fail(error, TESSI_NOT_FOUND,
                              "%s does not exist: make keys with `tessera keygen DIR`, or copy the cluster's keys there",
                              path);
        }
        return tessi_fail(error, TESSI_IO, "cannot read %s: %s", path, strerror(errno));
    }
    char text[128]; /* A key and blanks; whatever fills it is no key. */
    uint8_t raw[32];
    enum tessi_status status = TESSI_OK;
    if (is_secret) {
        TESSI_TRY(check_secret_access(fd, path, error));
    }
    ssize_t size = read(fd, text, sizeof text - 1);
    if (size < 0) {
        TESSI_TRY(tessi_fail(error, TESSI_IO, "cannot read %s: %s", path, strerror(errno)));
    }
    size_t length = (size_t)size;
    while (length > 0 && isspace((unsigned char)text[length - 1])) {
        length--;
    }
    text[length] = '\0';
    if (length != KEY_CHARS || strlen(text) != KEY_CHARS || zmq_z85_decode(raw, text) == NULL) {
        TESSI_TRY(tessi_fail(error, TESSI_FORMAT, "%s is malformed: it should hold 40 characters of Z85; copy it again",
                             path));
    }
    memcpy(key, text, KEY_CHARS + 1);
cleanup:
    explicit_bzero(raw, sizeof raw);
    explicit_bzero(text, sizeof text);
    (void)close(fd);
    return status;
}

enum tessi_status tessi_keys_load(const char *dir, struct tessi_keys *keys, struct tessi_error *error)
{
    struct key_paths paths;
    enum tessi_status status;
    char derived[KEY_CHARS + 1];
    *keys = (struct tessi_keys){0};
    TESSI_TRY(curve_required(error));
    TESSI_TRY(make_paths(dir, &paths, error));
    TESSI_TRY(read_key(paths.public_path, false, keys->public_key, error));
    TESSI_TRY(read_key(paths.secret_path, true, keys->secret_key, error));
    if (zmq_curve_public(derived, keys->secret_key) != 0 || strcmp(derived, keys->public_key) != 0) {
        TESSI_TRY(tessi_fail(error, TESSI_FORMAT,
                             "%s: cluster.public and cluster.secret are not one pair: copy both from the same cluster",
                             dir));
    }
cleanup:
    if (status != TESSI_OK) {
        tessi_keys_wipe(keys);
    }
    return status;
}

void tessi_keys_wipe(struct tessi_keys *keys)
{
    explicit_bzero(keys, sizeof *keys);
}
