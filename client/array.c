#include "client/array.h"

#include <stdio.h>
#include <string.h>

#include "client/link.h"
#include "core/array/dtype.h"
#include "core/base/alloc.h"
#include "core/base/assert.h"

#define TESS_ROW(name, code, text)                                                                                     \
    _Static_assert((int)TESS_##name == (int)TESSI_##name, "the public status differs from the internal one");
TESS_STATUS_TABLE(TESS_ROW)
#undef TESS_ROW
#define TESS_ROW(NAME, name, code, size)                                                                               \
    _Static_assert((int)TESS_##NAME == (int)TESSI_##NAME, "the public dtype differs from the internal one");
TESS_DTYPE_TABLE(TESS_ROW)
#undef TESS_ROW
_Static_assert(TESS_NDIM_MAX == TESSI_NDIM_MAX, "the public limit differs from the internal one");

/* The id of recipes; inputs have 0, since no layer may name itself. */
#define RECIPE_ID UINT32_MAX

/* What an operation returns that was given no session at all: nobody owns it and nobody writes to it. */
static const struct tess_array nobody = {.status = TESSI_INVALID};
static const char nobody_text[] = "an operation was given NULL instead of arrays or a session: "
                                  "pass handles that tess_ functions returned";

/* What an operation returns for which there is no memory: it takes none, so that a program may go on for long. */
static const char starved_text[] =
    "out of memory: nothing was done; release arrays, or read and persist less at a time";
static const struct tess_array starved = {.status = TESSI_NOMEM, .text = (char *)(uintptr_t)starved_text};

/* ——— nodes ——— */

static void replace_by_constant(struct tessi_layer **layer)
{
    struct tessi_layer *empty = tessi_layer_create(0, RECIPE_ID, TESSI_OP_FULL, (*layer)->dtype);
    tessi_grid_copy(&empty->grid, &(*layer)->grid);
    empty->as.full = (struct tessi_scalar){.dtype = TESSI_BOOL}; /* fits every dtype */
    tessi_layer_destroy(*layer);
    *layer = empty;
}

/* Texts of checks begin with "layer 4294967295: ", which tells the user nothing. */
static void drop_layer_prefix(struct tessi_error *error)
{
    char prefix[32];
    int length = snprintf(prefix, sizeof prefix, "layer %u: ", RECIPE_ID);
    if (error != NULL && strncmp(error->text, prefix, (size_t)length) == 0) {
        memmove(error->text, error->text + length, strlen(error->text) - (size_t)length + 1);
    }
}

struct tessi_node *tessi_node_build(struct tess_session *session, struct tessi_layer *layer,
                                    struct tessi_node *const *inputs, struct tessi_error *error)
{
    layer->id = RECIPE_ID;
    if (tessi_layer_check(layer, error) != TESSI_OK) {
        drop_layer_prefix(error);
        tessi_layer_destroy(layer);
        return NULL;
    }
    if (tessi_layer_bytes(layer) == 0 && layer->op != TESSI_OP_FULL) {
        replace_by_constant(&layer);
    }
    struct tessi_node *node = tessi_zalloc(sizeof *node);
    node->session = session;
    node->refs = 1;
    node->layer = layer;
    node->chosen = layer->ninputs > 0;
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        node->chosen = node->chosen && (inputs[i]->chosen || tessi_node_elements(inputs[i]) <= 1);
    }
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        node->input[i] = tessi_node_ref(inputs[i]);
    }
    for (uint32_t i = 0; i < layer->ninputs && !tessi_layer_share_inputs(layer, inputs[i]->layer); i++) {
    }
    return node;
}

static void unserve(struct tessi_node *node)
{
    for (size_t i = 0; i < node->served_count && node->session->link != NULL; i++) {
        tessi_link_unserve(node->session->link, node->served[i]);
    }
    node->served_count = 0;
}

struct tessi_node *tessi_node_ref(struct tessi_node *node)
{
    TESS_ASSERT(node->refs > 0);
    node->refs++;
    return node;
}

static struct tessi_map_key layer_key(uint32_t id)
{
    return (struct tessi_map_key){0, id};
}

/* A node is found by its last id as long as it lives, also when its data have been released. */
static void unname_node(struct tessi_node *node)
{
    struct tess_session *session = node->session;
    if (node->named != 0) {
        struct tessi_node *last = session->named[--session->named_count];
        session->named[node->named_at] = last;
        last->named_at = node->named_at;
        tessi_map_put(&session->named_by_id, layer_key(last->named), last->named_at);
        (void)tessi_map_remove(&session->named_by_id, layer_key(node->named));
        node->named = 0;
    }
}

static void name_node(struct tessi_node *node, uint32_t id)
{
    struct tess_session *session = node->session;
    unname_node(node);
    tessi_grow(&session->named, &session->named_capacity, session->named_count + 1, sizeof *session->named);
    node->named = id;
    node->named_at = (uint32_t)session->named_count;
    session->named[session->named_count++] = node;
    tessi_map_put(&session->named_by_id, layer_key(id), node->named_at);
}

void tessi_node_hold(struct tessi_node *node, uint32_t id)
{
    if (id != 0 && id != node->named) {
        name_node(node, id);
    }
    pthread_mutex_lock(&node->session->lock);
    node->held = id;
    pthread_mutex_unlock(&node->session->lock);
}

/* A description is left of which only shape and type are looked at. */
static void forget_inputs(struct tessi_node *node)
{
    struct tessi_layer *bare = tessi_layer_create(0, RECIPE_ID, TESSI_OP_RECEIVE, node->layer->dtype);
    tessi_grid_copy(&bare->grid, &node->layer->grid);
    tessi_layer_set_task_options(bare, node->layer->task_options);
    uint32_t inputs = node->layer->ninputs;
    tessi_layer_destroy(node->layer);
    node->layer = bare;
    node->detached = true;
    unserve(node);
    tessi_blob_unref(node->data);
    node->data = NULL;
    for (uint32_t i = 0; i < inputs; i++) {
        tessi_node_unref(node->input[i]);
        node->input[i] = NULL;
    }
}

void tessi_session_take_detached(struct tess_session *session)
{
    for (uint32_t id; session->link != NULL && (id = tessi_link_next_detached(session->link)) != 0;) {
        uint32_t at = tessi_map_get(&session->named_by_id, layer_key(id));
        struct tessi_node *node = at == TESSI_MAP_NONE ? NULL : session->named[at];
        if (node == NULL || (node->held != 0 && node->held != id) || node->detached) {
            tessi_link_release(session->link, &id, 1);
            continue;
        }
        tessi_node_hold(node, id);
        forget_inputs(node);
    }
}

static void free_node(struct tessi_node *node)
{
    if (node->held != 0 && node->session->link != NULL) {
        TESS_ASSERT(node->detached);
        tessi_link_release(node->session->link, &node->held, 1);
    }
    unname_node(node);
    unserve(node);
    tessi_free(node->served);
    tessi_blob_unref(node->data);
    tessi_layer_destroy(node->layer);
    tessi_free(node);
}

/* True: it was the last. */
static bool drop_reference(struct tessi_node *node)
{
    TESS_ASSERT(node->refs > 0);
    return --node->refs == 0;
}

void tessi_node_unref(struct tessi_node *node)
{
    /* A list and no recursion: an iteration can leave a chain of any length behind it. It is made of the nodes that are to
     * go, since giving memory back must not take any. */
    struct tessi_node *last = node;
    if (node == NULL || !drop_reference(node)) {
        return;
    }
    while (node != NULL) {
        for (uint32_t i = 0; i < node->layer->ninputs; i++) {
            if (drop_reference(node->input[i])) {
                last->next_to_go = node->input[i];
                last = node->input[i];
            }
        }
        struct tessi_node *next = node->next_to_go;
        free_node(node);
        node = next;
    }
}

void tessi_node_shape(const struct tessi_node *node, struct tessi_shape *shape)
{
    tessi_grid_shape(&node->layer->grid, shape);
}

int64_t tessi_node_elements(const struct tessi_node *node)
{
    struct tessi_shape shape;
    tessi_node_shape(node, &shape);
    int64_t elements = 0;
    TESS_ASSERT(tessi_shape_elements(&shape, &elements));
    return elements;
}

void tessi_layer_set_input(struct tessi_layer *layer, uint32_t i, const struct tessi_node *node)
{
    TESS_ASSERT(i == layer->ninputs);
    struct tessi_input *input = tessi_layer_add_input(layer, 0);
    input->dtype = node->layer->dtype;
    tessi_grid_copy(&input->grid, &node->layer->grid);
    input->rules.ndim = input->grid.ndim;
    for (uint32_t d = 0; d < input->grid.ndim; d++) {
        input->rules.rule[d] = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = d};
    }
}

/* ——— handles ——— */

static struct tess_array *new_handle(struct tess_session *session)
{
    struct tess_array *array = tessi_zalloc(sizeof *array);
    struct tess_scope *scope = session->innermost;
    array->session = session;
    array->scope = scope;
    array->next = scope->arrays;
    if (array->next != NULL) {
        array->next->prev = array;
    }
    scope->arrays = array;
    return array;
}

static void unlink_handle(struct tess_array *array)
{
    if (array->prev != NULL) {
        array->prev->next = array->next;
    } else {
        array->scope->arrays = array->next;
    }
    if (array->next != NULL) {
        array->next->prev = array->prev;
    }
    array->next = NULL;
    array->prev = NULL;
}

static struct tess_array *poisoned(struct tess_session *session, const struct tessi_error *error)
{
    tessi_session_note(session, error);
    struct tess_array *array = new_handle(session);
    array->status = error->status;
    array->text = tessi_strdup(error->text);
    return array;
}

struct tess_array *tessi_array_finish(struct tess_session *session, const char *operation, struct tessi_node *node,
                                      const struct tessi_error *error)
{
    if (node == NULL) {
        struct tessi_error named = *error;
        tessi_error_prefix(&named, "%s", operation);
        return poisoned(session, &named);
    }
    struct tess_array *array = new_handle(session);
    array->node = node;
    node->handles++;
    return array;
}

struct tess_array *tessi_array_poison(struct tess_session *session, const char *operation, enum tessi_status status,
                                      const char *format, ...)
{
    if (session == NULL) {
        return (struct tess_array *)(uintptr_t)&nobody;
    }
    struct tessi_error error = {.status = status};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error.text, sizeof error.text, format, arguments);
    va_end(arguments);
    tessi_error_prefix(&error, "%s", operation);
    return poisoned(session, &error);
}

static struct tess_array *starve(struct tess_session *session, const char *operation)
{
    struct tessi_error error = {.status = TESSI_NOMEM};
    (void)snprintf(error.text, sizeof error.text, "%s: %s", operation, starved_text);
    tessi_session_note(session, &error);
    return (struct tess_array *)(uintptr_t)&starved;
}

/* What operations on the grid may take beyond the reserve: boundaries along its axes, some times over. */
static size_t grid_bytes(const struct tess_array *array)
{
    enum { COPIES = 10, WRITTEN_MAX = 1 << 20 }; /* so many regular chunks get boundaries of their own at most */
    uint64_t bounds = 0;
    for (uint32_t d = 0; array != NULL && array->node != NULL && d < array->node->layer->grid.ndim; d++) {
        const struct tessi_axis *axis = &array->node->layer->grid.axis[d];
        bounds += axis->bounds != NULL || axis->count < WRITTEN_MAX ? axis->count : WRITTEN_MAX;
    }
    return (size_t)bounds * COPIES * sizeof(int64_t);
}

/* A new handle with the poison of another: its owner may release the other at any time. */
static struct tess_array *pass_poison(const struct tess_array *from)
{
    if (from->session == NULL) {
        return (struct tess_array *)(uintptr_t)from;
    }
    struct tess_array *array = new_handle(from->session);
    array->status = from->status;
    array->text = tessi_strdup(from->text);
    return array;
}

struct tess_array *tessi_array_refuse(const char *operation, const struct tess_array *a, const struct tess_array *b)
{
    if (a == &starved || b == &starved) {
        return (struct tess_array *)(uintptr_t)&starved;
    }
    const struct tess_array *some = a != NULL && a->session != NULL ? a : b;
    if (some != NULL && some->session != NULL && !tessi_memory_ready(grid_bytes(a) + grid_bytes(b))) {
        return starve(some->session, operation);
    }
    if (a == NULL || b == NULL) {
        const struct tess_array *other = a != NULL ? a : b;
        return tessi_array_poison(other != NULL ? other->session : NULL, operation, TESSI_INVALID,
                                  "an operand is NULL: pass a handle that a tess_ function returned");
    }
    if (a->node == NULL || b->node == NULL) {
        const struct tess_array *bad = a->node == NULL ? a : b;
        const struct tess_array *good = bad == a ? b : a;
        return bad->session == NULL && good->session != NULL
                   ? tessi_array_poison(good->session, operation, TESSI_INVALID, "%s", nobody_text)
                   : pass_poison(bad);
    }
    if (a->session != b->session) {
        return tessi_array_poison(a->session, operation, TESSI_INVALID,
                                  "the operands belong to different sessions: make both in one");
    }
    return NULL;
}

struct tess_array *tessi_session_refuse(struct tess_session *session, const char *operation)
{
    if (session == NULL) {
        return tessi_array_poison(NULL, operation, TESSI_INVALID, "no session");
    }
    if (!tessi_memory_ready(0)) {
        return starve(session, operation);
    }
    if (session->fatal.status != TESSI_OK) {
        return poisoned(session, &session->fatal);
    }
    return NULL;
}

const char *tessi_array_names(const struct tess_array *a, const struct tess_array *b, char *text, size_t size)
{
    const char *first = a->name;
    const char *second = b != NULL ? b->name : "";
    bool both = first[0] != 0 && second[0] != 0;
    text[0] = 0;
    if (first[0] != 0 || second[0] != 0) {
        snprintf(text, size, " [%s%s%s]", first, both ? ", " : "", second);
    }
    return text;
}

void tessi_array_release(struct tess_array *array)
{
    struct tessi_node *node = array->node;
    if (node != NULL && --node->handles == 0 && node->held != 0 && !node->detached) {
        if (tessi_link_let_go(array->session->link, node->held)) {
            tessi_node_hold(node, 0);
        } else {
            tessi_session_take_detached(array->session);
        }
    }
    tessi_node_unref(node);
    unlink_handle(array);
    tessi_free(array->text);
    tessi_free(array);
}

/* ——— the public side ——— */

void tess_release(tess_array *array)
{
    if (array != NULL && array->session != NULL) {
        tessi_array_release(array);
    }
}

tess_array *tess_keep(tess_array *array)
{
    if (array == NULL || array->session == NULL || array->scope->outer == NULL) {
        return array;
    }
    struct tess_scope *outer = array->scope->outer;
    unlink_handle(array);
    array->scope = outer;
    array->next = outer->arrays;
    if (array->next != NULL) {
        array->next->prev = array;
    }
    outer->arrays = array;
    return array;
}

tess_array *tess_name(tess_array *array, const char *name)
{
    if (array != NULL && array->session != NULL) {
        size_t size = name == NULL ? 0 : strlen(name);
        size_t kept = size < sizeof array->name ? size : sizeof array->name - 1;
        while (kept < size && kept > 0 && ((unsigned char)name[kept] & 0xc0) == 0x80) {
            kept--; /* a character of several bytes goes as a whole */
        }
        (void)snprintf(array->name, sizeof array->name, "%.*s", (int)kept, name != NULL ? name : "");
        if (array->node != NULL && tessi_memory_ready(0)) {
            tessi_layer_set_name(array->node->layer, array->name);
        }
    }
    return array;
}

tess_status tess_array_status(const tess_array *array)
{
    return array == NULL ? TESS_INVALID : (tess_status)array->status;
}

const char *tess_array_error(const tess_array *array)
{
    if (array == NULL || array == &nobody) {
        return nobody_text;
    }
    return array->text != NULL ? array->text : "";
}

tess_shape tess_array_shape(const tess_array *array)
{
    tess_shape shape = {0};
    if (array != NULL && array->node != NULL) {
        const struct tessi_grid *grid = &array->node->layer->grid;
        shape.ndim = grid->ndim;
        for (uint32_t d = 0; d < grid->ndim; d++) {
            shape.dim[d] = grid->axis[d].extent;
        }
    }
    return shape;
}

tess_dtype tess_array_dtype(const tess_array *array)
{
    return array != NULL && array->node != NULL ? (tess_dtype)array->node->layer->dtype : TESS_F64;
}

uint64_t tess_array_bytes(const tess_array *array)
{
    return array != NULL && array->node != NULL ? tessi_layer_bytes(array->node->layer) : 0;
}

uint64_t tess_array_chunks(const tess_array *array, uint32_t axis)
{
    if (array == NULL || array->node == NULL || axis >= array->node->layer->grid.ndim) {
        return 0;
    }
    return array->node->layer->grid.axis[axis].count;
}

int64_t tess_array_chunk(const tess_array *array, uint32_t axis, uint64_t position)
{
    if (position >= tess_array_chunks(array, axis)) {
        return 0;
    }
    const struct tessi_axis *along = &array->node->layer->grid.axis[axis];
    return tessi_axis_hi(along, position) - tessi_axis_lo(along, position);
}

uint32_t tess_array_id(const tess_array *array)
{
    if (array == NULL || array->node == NULL) {
        return 0;
    }
    pthread_mutex_lock(&array->session->lock);
    uint32_t id = array->node->held != 0 ? array->node->held : array->node->pending;
    pthread_mutex_unlock(&array->session->lock);
    return id;
}

const char *tess_status_text(tess_status status)
{
    return tessi_status_text((enum tessi_status)status);
}

const char *tess_dtype_name(tess_dtype dtype)
{
    return tessi_dtype_valid((uint32_t)dtype) ? tessi_dtype_name((enum tessi_dtype)dtype) : "unknown";
}

size_t tess_dtype_size(tess_dtype dtype)
{
    return tessi_dtype_valid((uint32_t)dtype) ? tessi_dtype_size((enum tessi_dtype)dtype) : 0;
}

tess_status tess_dtype_parse(const char *name, tess_dtype *dtype)
{
    enum tessi_dtype parsed;
    if (name == NULL || dtype == NULL || !tessi_dtype_parse(name, &parsed)) {
        return TESS_INVALID;
    }
    *dtype = (tess_dtype)parsed;
    return TESS_OK;
}
