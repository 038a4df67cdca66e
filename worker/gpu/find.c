#include "worker/gpu/find.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/alloc.h"
#include "worker/device/emulated/emulated.h"
#include "worker/device/plugin.h"

#define DEFAULT_SHARE 0.9

static enum tessi_status parse_memory(const char *text, struct tessi_gpus_found *found, struct tessi_error *error)
{
    static const struct {
        const char *unit;
        double factor;
    } units[] = {{"B", 1}, {"KiB", 1024}, {"MiB", 1048576}, {"GiB", 1073741824}, {"TiB", 1099511627776}};
    found->share = DEFAULT_SHARE;
    if (text == NULL) {
        return TESSI_OK;
    }
    char *end;
    double number = strtod(text, &end);
    if (end != text && strcmp(end, "%") == 0 && number > 0 && number <= 100) {
        found->share = number / 100;
        return TESSI_OK;
    }
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (end != text && strcmp(end, units[i].unit) == 0 && number >= 1 && number * units[i].factor < 0x1p60) {
            found->bytes = (uint64_t)(number * units[i].factor);
            found->share = 1;
            return TESSI_OK;
        }
    }
    return tessi_fail(error, TESSI_INVALID, "GPU memory '%.60s': give a share such as 90%% or a size such as 8GiB", text);
}

static enum tessi_status parse_list(const char *text, struct tessi_gpus_found *found, struct tessi_error *error)
{
    const char *at = text;
    for (;;) {
        char *end;
        unsigned long number = strtoul(at, &end, 10);
        bool again = false;
        for (uint32_t i = 0; i < found->count; i++) {
            again = again || found->ordinals[i] == number;
        }
        bool good = *at >= '0' && *at <= '9' && end != at && number < 1024 && (*end == 0 || *end == ',') && !again;
        if (!good || found->count == TESSI_GPUS_MAX) {
            return tessi_fail(error, TESSI_INVALID,
                              "GPUs '%.80s': give auto, none, or numbers such as 0,1 (at most %d)", text, TESSI_GPUS_MAX);
        }
        found->ordinals[found->count++] = (uint32_t)number;
        if (*end == 0) {
            return TESSI_OK;
        }
        at = end + 1;
    }
}

/* Bits of a product depend on the architecture: of several, the first's is taken, and the others' devices stay out. */
static enum tessi_status agree(struct tessi_gpus_found *found, bool all_must, struct tessi_error *error)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < found->count; i++) {
        struct tessi_device_options options = {.ordinal = found->ordinals[i], .spec = found->spec};
        char numerics[sizeof found->numerics];
        enum tessi_status status = found->kind->numerics(&options, numerics, sizeof numerics, error);
        if (status != TESSI_OK && all_must) {
            return status;
        }
        if (status != TESSI_OK) {
            continue;
        }
        if (kept == 0) {
            memcpy(found->numerics, numerics, sizeof numerics);
        } else if (strcmp(found->numerics, numerics) != 0) {
            if (all_must) {
                return tessi_fail(error, TESSI_INVALID,
                                  "GPUs %u and %u compute different bits (%s and %s): give them to two workers",
                                  found->ordinals[0], found->ordinals[i], found->numerics, numerics);
            }
            continue;
        }
        found->ordinals[kept++] = found->ordinals[i];
    }
    found->count = kept;
    return TESSI_OK;
}

enum tessi_status tessi_gpus_look(const char *gpus, const char *memory, struct tessi_gpus_found *found,
                                  struct tessi_error *reason)
{
    *found = (struct tessi_gpus_found){0};
    enum tessi_status status = parse_memory(memory, found, reason);
    if (status != TESSI_OK) {
        return status;
    }
    bool automatic = gpus == NULL || strcmp(gpus, "auto") == 0;
    found->automatic = automatic;
    bool emulated = gpus != NULL && strncmp(gpus, "emulated", 8) == 0 && (gpus[8] == 0 || gpus[8] == ':');
    if (gpus != NULL && strcmp(gpus, "none") == 0) {
        (void)tessi_fail(reason, TESSI_NOT_FOUND, "none are wanted");
        return TESSI_OK;
    }
    if (!automatic && !emulated) {
        status = parse_list(gpus, found, reason);
        if (status != TESSI_OK) {
            return status;
        }
    }
    if (emulated) {
        found->spec = tessi_strdup(gpus[8] == ':' ? gpus + 9 : "");
    }
    found->kind = emulated ? &tessi_device_emulated : tessi_device_cuda(reason);
    uint32_t there = 0;
    if (found->kind != NULL) {
        there = found->kind->count(&(struct tessi_device_options){.spec = found->spec}, reason);
    }
    if (there == 0) {
        found->count = 0;
        if (!automatic) {
            tessi_error_prefix(reason, "GPUs '%.80s'", gpus);
        }
        return automatic ? TESSI_OK : reason->status;
    }
    if (automatic || emulated) {
        found->count = there < TESSI_GPUS_MAX ? there : TESSI_GPUS_MAX;
        for (uint32_t i = 0; i < found->count; i++) {
            found->ordinals[i] = i;
        }
    }
    for (uint32_t i = 0; i < found->count; i++) {
        if (found->ordinals[i] >= there) {
            return tessi_fail(reason, TESSI_NOT_FOUND, "there is no GPU %u: this machine has %u", found->ordinals[i], there);
        }
    }
    return agree(found, !automatic, reason);
}
