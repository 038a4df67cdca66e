/* Records by name. */
#include "core/base/assert.h"
#include "core/sched/state/state.h"

struct sched_layer *tessi_find_layer(struct session *session, uint32_t id)
{
    uint32_t position = tessi_map_get(&session->layers_by_id, id_key(id));
    TESS_ASSERT(position == TESSI_MAP_NONE || position < session->layer_count);
    return position == TESSI_MAP_NONE ? NULL : session->layers[position];
}

/* Spans of few layers come in turns, so recent answers are kept. */
struct sched_layer *tessi_find_named(struct tessi_sched *sched, uint32_t session_id, uint32_t id)
{
    struct sched_layer **named = &sched->named[id % NAMED_LAYERS];
    if (*named != NULL && (*named)->layer->id == id && (*named)->session->id == session_id) {
        return *named;
    }
    struct session *session = tessi_find_session(sched, session_id);
    struct sched_layer *layer = session == NULL ? NULL : tessi_find_layer(session, id);
    *named = layer != NULL ? layer : *named;
    return layer;
}

struct worker *tessi_find_worker(struct tessi_sched *sched, uint32_t id)
{
    uint32_t index = tessi_map_get(&sched->worker_by_id, id_key(id));
    TESS_ASSERT(index == TESSI_MAP_NONE || (index < sched->worker_count && sched->workers[index]->id == id));
    return index == TESSI_MAP_NONE ? NULL : sched->workers[index];
}

struct session *tessi_find_session(struct tessi_sched *sched, uint32_t id)
{
    uint32_t index = tessi_map_get(&sched->session_by_id, id_key(id));
    TESS_ASSERT(index == TESSI_MAP_NONE || (index < sched->session_count && sched->sessions[index]->id == id));
    return index == TESSI_MAP_NONE ? NULL : sched->sessions[index];
}
