/* Handles and the lazy graph behind them.
 *
 * A node is an operation over whole arrays: a layer whose ids are filled in when it is submitted, and the
 * nodes that it reads. A handle is what the user has: it names a node or carries poison. Several handles
 * may name one node. A node lives as long as a handle or a later node needs its recipe; its data on the
 * cluster are held as long as one of its own handles lives. */
#ifndef TESSI_CLIENT_ARRAY_H
#define TESSI_CLIENT_ARRAY_H

#include <stdbool.h>
#include <stdint.h>

#include "client/session.h"
#include "client/tessera.h"
#include "core/graph/layer.h"

#define TESSI_ARRAY_NAME_MAX 32

struct tessi_blob; /* client/link.h: data of RECEIVE layers */

struct tessi_node {
    struct tess_session *session;
    uint32_t refs; /* handles and nodes that read this one */
    uint32_t handles;
    struct tessi_layer *layer;                  /* owned; session, id and the inputs' ids are 0 */
    struct tessi_node *input[TESSI_INPUTS_MAX]; /* referenced */
    struct tessi_blob *data;                    /* RECEIVE, owned by reference */
    uint32_t *served;                           /* RECEIVE: layer ids under which the link serves the data, owned */
    size_t served_count;
    size_t served_capacity;
    size_t served_limit;           /* with so many, those that have gone are forgotten */
    uint32_t named;                /* the last id that was held for it, in the session's table; 0: none */
    uint32_t named_at;             /* position there */
    bool detached;                 /* what it was made from is forgotten: `held` stays as long as the node */
    uint32_t held;                 /* id of the layer that the cluster holds for this node; 0: none */
    uint32_t pending;              /* id of the layer that is computed to be read; 0: none */
    bool chosen;                   /* its chunks were chosen by us, or follow from such */
    bool in_parts;                 /* it is computed in parts, one layer after the other */
    bool cancelled;                /* meanwhile: no other part begins */
    bool scheduled;                /* its layer's task options are its own; else the session's hold */
    struct tessi_node *next_to_go; /* tessi_node_unref */
    uint32_t mark;                 /* walks: equal to the session's mark when visited */
    uint32_t position;             /* in the walk's list, when visited */
};

struct tess_array {
    struct tess_session *session; /* NULL only in handles that belong to nobody, of which there is one each */
    struct tess_scope *scope;
    struct tess_array *next, *prev;
    struct tessi_node *node; /* NULL: poisoned */
    enum tessi_status status;
    char *text;                      /* of the poison, owned; NULL when there is none */
    char name[TESSI_ARRAY_NAME_MAX]; /* "" unless the user gave one */
};

/* A node over `layer`, whose ownership passes, and as many inputs as the layer has, which are referenced. NULL when
 * tessi_layer_check refuses the layer. An array without elements becomes a constant, so that no kernel and no
 * transfer ever meets one. */
struct tessi_node *tessi_node_build(struct tess_session *session, struct tessi_layer *layer,
                                    struct tessi_node *const *inputs, struct tessi_error *error);
struct tessi_node *tessi_node_ref(struct tessi_node *node);
void tessi_node_unref(struct tessi_node *node); /* NULL is allowed */
/* The cluster holds the node under this id from now on; 0: not any more. */
void tessi_node_hold(struct tessi_node *node, uint32_t id);
/* Forget what detached layers were made from, as far as the scheduler has said which they are. */
void tessi_session_take_detached(struct tess_session *session);
void tessi_node_shape(const struct tessi_node *node, struct tessi_shape *shape);
int64_t tessi_node_elements(const struct tessi_node *node);

/* Make input `i` of a layer under construction describe `node`, with rules SAME(d) for each dimension. */
void tessi_layer_set_input(struct tessi_layer *layer, uint32_t i, const struct tessi_node *node);

/* A handle of the innermost scope for a node, whose reference passes. With NULL: poison from `error`, prefixed with
 * the name of the operation. */
struct tess_array *tessi_array_finish(struct tess_session *session, const char *operation, struct tessi_node *node,
                                      const struct tessi_error *error);

/* A poisoned handle: "operation: text". `session` NULL gives the handle that belongs to nobody. */
struct tess_array *tessi_array_poison(struct tess_session *session, const char *operation, enum tessi_status status,
                                      const char *format, ...) __attribute__((format(printf, 4, 5)));

/* NULL when the operands can be computed with; else the result that the operation must return: an operand is
 * poisoned, missing, or of another session, or there is no memory. `b` may be the same as `a`. */
struct tess_array *tessi_array_refuse(const char *operation, const struct tess_array *a, const struct tess_array *b);

/* As above for operations without operands. */
struct tess_array *tessi_session_refuse(struct tess_session *session, const char *operation);

/* " [x, w]" with the names that operands have, "" when none has one. */
const char *tessi_array_names(const struct tess_array *a, const struct tess_array *b, char *text, size_t size);

void tessi_array_release(struct tess_array *array);

/* Chunk lengths for `shape` from what the user asked for; see tess_shape. */
enum tessi_status tessi_chunks_choose(const struct tess_session *session, const struct tessi_shape *shape,
                                      enum tessi_dtype dtype, const tess_shape *chunks, int64_t *chunk,
                                      struct tessi_error *error);

/* Note in a node (NULL is allowed) whether the user left us the choice of its chunks. */
void tessi_chunks_mark(struct tessi_node *node, const tess_shape *chunks);

/* Cut the grid's chunks into equal parts, so that no block of elements of `size` bytes is larger than those whose chunks we
 * choose. False: none was. */
bool tessi_chunks_bound(const struct tess_session *session, struct tessi_grid *grid, size_t size);

/* Whether a block of a result is larger than those whose chunks we choose, and has more elements than any block of the
 * operands (`b` may be NULL), whose chunks it takes: by broadcasting, or as a product. */
bool tessi_chunks_outgrow(const struct tess_session *session, const struct tessi_grid *grid, size_t size,
                          const struct tessi_grid *a, const struct tessi_grid *b);

/* Shape and dtype as the user gives them, checked. */
enum tessi_status tessi_shape_from_user(const tess_shape *shape, struct tessi_shape *out, struct tessi_error *error);
enum tessi_status tessi_dtype_from_user(tess_dtype dtype, enum tessi_dtype *out, struct tessi_error *error);

/* Whether `value` is a number of an integer dtype; it as a scalar of the dtype's kind, which it is one of. */
bool tessi_scalar_is_integer(enum tessi_dtype dtype, double value);
struct tessi_scalar tessi_scalar_of(enum tessi_dtype dtype, double value);

/* Operations on nodes that several functions of the library are made of. Each returns a new reference, NULL with
 * `error` on failure; the operands stay the caller's. */
struct tessi_node *tessi_node_astype(struct tessi_node *a, enum tessi_dtype dtype, struct tessi_error *error);
struct tessi_node *tessi_node_regrid(struct tessi_node *a, const struct tessi_grid *grid, struct tessi_error *error);
struct tessi_node *tessi_node_fold(struct tessi_node *a, enum tessi_fold fold, enum tessi_dtype dtype, uint32_t axes,
                                   bool keepdims, struct tessi_error *error);
/* Every element is `value`; the grid is copied. */
struct tessi_node *tessi_node_full_on(struct tess_session *session, const struct tessi_grid *grid,
                                      enum tessi_dtype dtype, double value, struct tessi_error *error);
/* The blocks of a box of `a`, in the same chunks. */
struct tessi_node *tessi_node_box(struct tessi_node *a, const struct tessi_box *box, struct tessi_error *error);
struct tessi_node *tessi_node_permute(struct tessi_node *a, const uint32_t *axes, struct tessi_error *error);
/* a ∘ number, in `dtype`. */
struct tessi_node *tessi_node_scalar_op(struct tessi_node *a, enum tessi_ewise op, enum tessi_dtype dtype,
                                        double number, struct tessi_error *error);

#endif
