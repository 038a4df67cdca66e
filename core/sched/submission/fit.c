/* Whether results that are to be held leave room for the tasks that make them, wherever the blocks come to lie. Blocks
 * are whole: where several workers share what is held, each but one may be left with a piece of room that is too small
 * for any; and what the last task of an array reads and makes has to fit beside all that is held by then. Arrays are
 * taken in the order in which their tasks get room. Blocks that can be generated or read again go when room is short.
 * What is held only until its readers have run is not counted: that depends on how far tasks run ahead of each other. */
#include "core/sched/submission/submission.h"

static bool wants(const struct tessi_sched_event *event, uint32_t id)
{
    for (size_t w = 0; w < event->id_count; w++) {
        if (event->ids[w] == id) {
            return true;
        }
    }
    return false;
}

static bool wants_solid(const struct tessi_sched_event *event, uint32_t id)
{
    for (size_t i = 0; i < event->layer_count && wants(event, id); i++) {
        if (event->layers[i]->id == id) {
            return !tessi_layer_regenerable(event->layers[i]);
        }
    }
    return false;
}

/* The room in which blocks of about this size can surely be held. */
static double room_for(const struct tessi_sched *sched, double block)
{
    double room = 0, most_wasted = 0;
    for (size_t w = 0; w < sched->worker_count; w++) {
        const struct worker *worker = sched->workers[w];
        if (!stays(worker)) {
            continue;
        }
        double memory = (double)worker->info.memory_bytes, spill = (double)worker->info.spill_bytes;
        double wasted = block >= 1 ? memory - block * (double)(uint64_t)(memory / block) : 0;
        most_wasted = wasted > most_wasted ? wasted : most_wasted;
        room += memory - wasted + (spill > block ? spill - block : 0);
    }
    return room + most_wasted;
}

/* What a task of the layer needs beside all that is held, its own block included if that is wanted. */
static double need_of(const struct tessi_sched_event *event, const struct session *session,
                      const struct tessi_layer *layer, bool alone)
{
    double least = (double)tessi_task_least(layer, tessi_held_largest_task(layer));
    bool counted = wants(event, layer->id) && !tessi_layer_regenerable(layer);
    double need = least - (counted ? (double)tessi_held_largest_block(layer) : 0);
    for (uint32_t i = 0; i < layer->ninputs && alone; i++) { /* what is held there already */
        uint32_t id = layer->reads[i];
        const struct sched_layer *known = tessi_find_layer((struct session *)(uintptr_t)session, id);
        if ((known == NULL && wants_solid(event, id)) || (known != NULL && known->wanted && !tessi_layer_regenerable(known->layer))) {
            double block = (double)tessi_dtype_size(layer->input[i].dtype);
            for (uint32_t d = 0; d < layer->input[i].grid.ndim; d++) {
                block *= (double)tessi_axis_longest(&layer->input[i].grid.axis[d]);
            }
            need -= block;
        }
    }
    return need > 0 ? need : 0;
}

/* What blocks cost beside their data is memory that no file can take. */
enum tessi_status tessi_fit_check_small_blocks(const struct tessi_sched *sched, const struct session *session,
                                               const struct tessi_sched_event *event, const bool *wanted,
                                               struct tessi_error *error)
{
    double blocks = 0, memory = 0;
    const struct tessi_layer *most = NULL;
    for (size_t s = 0; s < sched->session_count; s++) {
        blocks += sched->sessions[s] != NULL ? (double)sched->sessions[s]->small_blocks : 0;
    }
    for (size_t w = 0; w < event->id_count; w++) {
        const struct sched_layer *known = tessi_find_layer((struct session *)(uintptr_t)session, event->ids[w]);
        if (known != NULL && !known->wanted) {
            blocks += (double)tessi_held_small_blocks(known->layer);
            most = most == NULL || tessi_held_small_blocks(known->layer) > tessi_held_small_blocks(most) ? known->layer
                                                                                                         : most;
        }
    }
    for (size_t i = 0; i < event->layer_count; i++) {
        const struct tessi_layer *layer = event->layers[i];
        if (wanted[i] && tessi_held_small_blocks(layer) > 0) {
            blocks += (double)tessi_held_small_blocks(layer);
            most = most == NULL || tessi_held_small_blocks(layer) > tessi_held_small_blocks(most) ? layer : most;
        }
    }
    for (size_t w = 0; w < sched->worker_count; w++) {
        memory += stays(sched->workers[w]) ? (double)sched->workers[w]->info.memory_bytes : 0;
    }
    double cost = blocks * sched->config.block_cost;
    char label[TESSI_LAYER_LABEL_MAX];
    if (most != NULL && cost > memory) {
        return tessi_fail(error, TESSI_TOO_BIG,
                          "results to be held in %.0f small blocks, most of them of %s, take %.2f GB of memory beside their "
                          "data, and the workers have %.2f GB: use larger chunks, or give workers more --memory",
                          blocks, tessi_layer_label(most, label, sizeof label), cost / 1e9, memory / 1e9);
    }
    return TESSI_OK;
}

enum tessi_status tessi_fit_check_places(const struct tessi_sched *sched, const struct session *session,
                                         const struct tessi_sched_event *event, struct tessi_error *error)
{
    double weight = 0, held = 0;
    size_t staying = 0;
    for (size_t s = 0; s < sched->session_count; s++) {
        weight += sched->sessions[s] != NULL ? sched->sessions[s]->solid_weight : 0;
        held += sched->sessions[s] != NULL ? (double)sched->sessions[s]->solid_bytes : 0;
    }
    for (size_t w = 0; w < event->id_count; w++) {
        const struct sched_layer *known = tessi_find_layer((struct session *)(uintptr_t)session, event->ids[w]);
        if (known != NULL && !known->wanted) {
            held += (double)tessi_held_solid_bytes(known->layer);
            weight += (double)tessi_held_solid_bytes(known->layer) * (double)tessi_held_largest_block(known->layer);
        }
    }
    double bytes = held;
    for (size_t i = 0; i < event->layer_count; i++) {
        const struct tessi_layer *layer = event->layers[i];
        if (wants(event, layer->id)) {
            weight += (double)tessi_held_solid_bytes(layer) * (double)tessi_held_largest_block(layer);
            bytes += (double)tessi_held_solid_bytes(layer);
        }
    }
    for (size_t w = 0; w < sched->worker_count; w++) {
        staying += stays(sched->workers[w]);
    }
    double room = room_for(sched, bytes > 0 ? weight / bytes : 0);
    for (size_t s = 0; s < sched->session_count; s++) {
        room -= sched->sessions[s] != NULL ? (double)sched->sessions[s]->small_blocks * sched->config.block_cost : 0;
    }
    for (size_t i = 0; i < event->layer_count; i++) {
        const struct tessi_layer *layer = event->layers[i];
        double need = need_of(event, session, layer, staying == 1);
        if (wants(event, layer->id)) {
            held += (double)tessi_held_solid_bytes(layer);
            room -= (double)tessi_held_small_blocks(layer) * sched->config.block_cost;
        }
        char label[TESSI_LAYER_LABEL_MAX];
        if (held > 0 && held + need > room) {
            return tessi_fail(error, TESSI_TOO_BIG,
                              "a task of %s needs %.3f GB beside %.3f GB of results that are held by then, and the workers "
                              "have room for %.3f GB in whole blocks: use smaller chunks, add workers, raise --memory, or "
                              "give --spill a larger disk",
                              tessi_layer_label(layer, label, sizeof label), need / 1e9, held / 1e9, room / 1e9);
        }
    }
    return TESSI_OK;
}
