#include "core/graph/task_options.h"

#include <string.h>

#include "core/base/text.h"

const struct tessi_task_options tessi_no_task_options = {0};

static bool name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '.';
}

static bool name_valid(const char *name)
{
    size_t length = 0;
    while (length < TESSI_RESOURCE_NAME_MAX && name_char(name[length])) {
        length++;
    }
    return length > 0 && length < TESSI_RESOURCE_NAME_MAX && name[length] == 0;
}

/* Digits up to `end`; 0 when it is no number from 1 to 2³²−1. */
static uint32_t parse_amount(const char *at, const char *end)
{
    uint64_t amount = 0;
    for (; at < end && *at >= '0' && *at <= '9' && amount <= UINT32_MAX; at++) {
        amount = amount * 10 + (uint64_t)(*at - '0');
    }
    return at == end && amount <= UINT32_MAX ? (uint32_t)amount : 0;
}

/* False when the name is there already or there is no place. */
static bool insert(struct tessi_resources *resources, const struct tessi_resource *resource)
{
    uint32_t at = resources->count;
    while (at > 0 && strcmp(resources->item[at - 1].name, resource->name) >= 0) {
        if (strcmp(resources->item[at - 1].name, resource->name) == 0) {
            return false;
        }
        at--;
    }
    if (resources->count == TESSI_RESOURCES_MAX) {
        return false;
    }
    memmove(&resources->item[at + 1], &resources->item[at], (resources->count - at) * sizeof resources->item[0]);
    resources->item[at] = *resource;
    resources->count++;
    return true;
}

static enum tessi_status parse_one(const char *at, size_t length, struct tessi_resources *resources,
                                   struct tessi_error *error)
{
    struct tessi_resource resource = {.amount = 1};
    const char *equals = memchr(at, '=', length);
    size_t name = equals == NULL ? length : (size_t)(equals - at);
    if (equals != NULL) {
        resource.amount = parse_amount(equals + 1, at + length);
    }
    if (name > 0 && name < sizeof resource.name) {
        memcpy(resource.name, at, name);
    }
    if (!name_valid(resource.name)) {
        return tessi_fail(error, TESSI_INVALID,
                          "resources: '%.*s': a name is 1 to %d letters, digits, '.', '-' or '_', as in ssd=2",
                          (int)(length < 64 ? length : 64), at, TESSI_RESOURCE_NAME_MAX - 1);
    }
    if (resource.amount == 0) {
        return tessi_fail(error, TESSI_INVALID,
                          "resources: '%.*s': the amount is a whole number of 1 or more, as in ssd=2",
                          (int)(length < 64 ? length : 64), at);
    }
    if (!insert(resources, &resource)) {
        return tessi_fail(error, TESSI_INVALID, "resources: '%s' is named twice, or more than %d are named",
                          resource.name, TESSI_RESOURCES_MAX);
    }
    return TESSI_OK;
}

enum tessi_status tessi_resources_parse(const char *text, struct tessi_resources *resources, struct tessi_error *error)
{
    *resources = (struct tessi_resources){0};
    const char *at = text;
    while (*at != 0) {
        size_t length = strcspn(at, ",");
        enum tessi_status status = parse_one(at, length, resources, error);
        if (status != TESSI_OK) {
            *resources = (struct tessi_resources){0};
            return status;
        }
        at += length;
        at += *at == ',';
    }
    return TESSI_OK;
}

const char *tessi_resources_text(const struct tessi_resources *resources, char *text, size_t size)
{
    size_t used = 0;
    text[0] = 0;
    for (uint32_t i = 0; i < resources->count; i++) {
        (void)tessi_text_format(text + used, size - used, "%s%s=%u", i > 0 ? "," : "", resources->item[i].name,
                                (unsigned)resources->item[i].amount);
        used += strlen(text + used);
    }
    return text;
}

uint32_t tessi_resources_amount(const struct tessi_resources *resources, const char *name)
{
    for (uint32_t i = 0; i < resources->count; i++) {
        if (strcmp(resources->item[i].name, name) == 0) {
            return resources->item[i].amount;
        }
    }
    return 0;
}

bool tessi_resources_cover(const struct tessi_resources *have, const struct tessi_resources *demand)
{
    for (uint32_t i = 0; i < demand->count; i++) {
        if (tessi_resources_amount(have, demand->item[i].name) < demand->item[i].amount) {
            return false;
        }
    }
    return true;
}

bool tessi_resources_equal(const struct tessi_resources *a, const struct tessi_resources *b)
{
    bool equal = a->count == b->count;
    for (uint32_t i = 0; equal && i < a->count; i++) {
        equal = a->item[i].amount == b->item[i].amount && strcmp(a->item[i].name, b->item[i].name) == 0;
    }
    return equal;
}

bool tessi_task_options_equal(const struct tessi_task_options *a, const struct tessi_task_options *b)
{
    return a->priority == b->priority && a->policy == b->policy && tessi_resources_equal(&a->demand, &b->demand);
}

enum tessi_status tessi_task_options_check(const struct tessi_task_options *task_options, struct tessi_error *error)
{
    if (task_options->priority < -TESSI_PRIORITY_MAX || task_options->priority > TESSI_PRIORITY_MAX) {
        return tessi_fail(error, TESSI_INVALID, "priority %d: give one from %d to %d", (int)task_options->priority,
                          -TESSI_PRIORITY_MAX, TESSI_PRIORITY_MAX);
    }
    if ((uint32_t)task_options->policy >= TESSI_POLICIES) {
        return tessi_fail(error, TESSI_INVALID, "policy %u: there is no such policy", (unsigned)task_options->policy);
    }
    const struct tessi_resources *demand = &task_options->demand;
    if (demand->count > TESSI_RESOURCES_MAX) {
        return tessi_fail(error, TESSI_INVALID, "resources: %u are named, the limit is %d", (unsigned)demand->count,
                          TESSI_RESOURCES_MAX);
    }
    for (uint32_t i = 0; i < demand->count; i++) {
        bool good = name_valid(demand->item[i].name) && demand->item[i].amount > 0;
        if (!good || (i > 0 && strcmp(demand->item[i - 1].name, demand->item[i].name) >= 0)) {
            return tessi_fail(error, TESSI_INVALID, "resources: number %u has a wrong name, amount or place",
                              (unsigned)i);
        }
    }
    return TESSI_OK;
}
