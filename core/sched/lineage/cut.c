/* A layer is needed less than before: it is not wanted any more, or reads nothing any more. */
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/lineage/lineage.h"

#define READERS_LOOKED 64 /* of a layer that very many read, a few will do */

/* Somebody needs the layer less than before: at the end of the step it is seen who still does. */
void tessi_life_note_loose(struct tessi_sched *sched, struct sched_layer *layer)
{
    TESS_ASSERT(!layer->gone);
    if ((!layer->wanted || !layer->handle) && !layer->loose) {
        layer->loose = true;
        tessi_grow(&sched->loose, &sched->loose_capacity, sched->loose_count + 1, sizeof *sched->loose);
        sched->loose[sched->loose_count++] = layer;
    }
}

/* Whether some layer reads each of its blocks, so that none is without readers. */
bool tessi_life_read_wholly(const struct sched_layer *layer)
{
    for (size_t c = 0; c < layer->consumer_count && c < READERS_LOOKED; c++) {
        const struct consumer *consumer = &layer->consumers[c];
        if (consumer->layer != layer && tessi_layer_reads_all(consumer->layer->layer, consumer->input)) {
            return true;
        }
    }
    return false;
}

/* The last consumer takes its place. */
static void unlink_input(struct sched_layer *reader, uint32_t number)
{
    struct sched_layer *input = reader->inputs[number];
    struct consumer *place = &input->consumers[reader->input_at[number]];
    TESS_ASSERT(place->layer == reader && place->input == number);
    *place = input->consumers[--input->consumer_count];
    TESS_ASSERT(input->reader_tasks >= reader->tasks);
    input->reader_tasks -= reader->tasks;
    place->layer->input_at[place->input] = reader->input_at[number];
    if (input->place_consumer == reader) {
        input->place_consumer = NULL;
        input->placement = PLACE_REGIONS;
    }
}

void tessi_life_cut_inputs(struct tessi_sched *sched, struct sched_layer *layer)
{
    for (uint32_t i = 0; i < layer->ninputs; i++) { /* before a page is opened and counts its readers */
        struct sched_layer *input = layer->inputs[i];
        unlink_input(layer, i);
        tessi_spread_anew(sched, input);
        if (input != layer &&
            !(input->pruned && tessi_life_read_wholly(input))) { /* else what nobody reads of it has gone */
            tessi_life_note_loose(sched, input);
        }
    }
    layer->ninputs = 0;
    tessi_refs_settle(sched);
    tessi_table_collapse_pages(sched);
    if (layer->placement == PLACE_WITH_INPUT) {
        layer->placement = PLACE_REGIONS;
    }
}

void tessi_life_unwant(struct tessi_sched *sched, struct sched_layer *layer)
{
    if (!layer->wanted) {
        return;
    }
    layer->wanted = false;
    TESS_ASSERT(layer->session->wanted_bytes >= tessi_layer_bytes(layer->layer));
    layer->session->wanted_bytes -= tessi_layer_bytes(layer->layer);
    tessi_held_remove(layer->session, layer->layer);
    tessi_news_note(sched, layer); /* nobody waits for it any more */
    for (uint64_t i = next_live(layer, 0); i < layer->tasks && !layer->session->closing; i = next_live(layer, i + 1)) {
        if (record(layer, i)->refs == 0) {
            tessi_refs_consider_idle(sched, layer, i);
        }
    }
}

/* Orders never change: what waits was sorted by them. So a layer's description stays as long as another
 * layer's order is derived through it. */
void tessi_life_free_description(struct sched_layer *layer)
{
    while (layer != NULL && layer->gone && layer->order_users == 0 && layer->pending == 0) {
        struct sched_layer *via = layer->order_via;
        tessi_layer_destroy(layer->layer);
        tessi_free(layer->order_corners);
        tessi_free(layer->order_split);
        tessi_free(layer->order_jump);
        tessi_free(layer);
        if (via != NULL) {
            TESS_ASSERT(via->order_users > 0);
            via->order_users--;
        }
        layer = via;
    }
}

void tessi_life_end_pending(struct sched_layer *layer)
{
    TESS_ASSERT(layer->pending > 0);
    layer->pending--;
    tessi_life_free_description(layer);
}
