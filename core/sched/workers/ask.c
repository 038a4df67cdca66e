/* Asking a worker to give up what it has been given and has not begun. */
#include "core/base/assert.h"
#include "core/sched/workers/workers.h"

bool tessi_ask_may(const struct sched_layer *layer, const struct worker *victim, uint64_t index)
{
    const struct task_record *task = record_peek(layer, index);
    return task != NULL && task->state == TASK_ASSIGNED && task->owner == victim->index &&
           (task->flags & (TASK_STARTED | TASK_STEALING | TASK_ADOPTING)) == 0 &&
           layer->layer->op != TESSI_OP_RECEIVE && !is_pinned(layer);
}

/* A worker that is too small would refuse the task, and steal it again at once. */
bool tessi_ask_fits(const struct worker *thief, const struct worker *victim, const struct sched_layer *layer,
                    uint64_t index)
{
    return thief->info.memory_bytes >= victim->info.memory_bytes ||
           thief->info.memory_bytes >= tessi_task_footprint(layer->layer, index);
}

void tessi_ask_mark(struct worker *worker, const struct sched_layer *layer, struct task_record *task)
{
    TESS_ASSERT(task->state == TASK_ASSIGNED && task->owner == worker->index && (task->flags & TASK_STEALING) == 0);
    struct load *load = &worker->load[kind_at(worker, layer->lane)];
    task->flags |= TASK_STEALING;
    load->asked++;
    load->asked_ns += layer->estimate_ns;
}

void tessi_ask_end(struct worker *worker, const struct sched_layer *layer, struct task_record *task)
{
    if ((task->flags & TASK_STEALING) != 0) {
        struct load *load = &worker->load[kind_at(worker, layer->lane)];
        TESS_ASSERT(load->asked > 0);
        double asked_ns = load->asked_ns - layer->estimate_ns; /* which may have grown since */
        task->flags &= (uint8_t)~TASK_STEALING;
        load->asked--;
        load->asked_ns = load->asked == 0 || asked_ns < 0 ? 0 : asked_ns;
    }
}

uint8_t tessi_ask_reason(const struct worker *thief, uint32_t kind)
{
    return thief->load[kind].assigned < thief->load[kind].units ? TESSI_TRACE_WHY_IDLE_SLOTS
                                                                : TESSI_TRACE_WHY_SHORT_QUEUE;
}

/* A steal for the trace; one that goes on where the last note stopped lengthens that. */
void tessi_ask_note_steal(struct tessi_sched *sched, enum tessi_trace_kind kind, uint32_t thief,
                          const struct worker *victim, const struct sched_layer *layer, uint64_t first, uint64_t count,
                          uint8_t why)
{
    TESS_ASSERT(count > 0);
    struct tessi_trace_record record = {.index = first,
                                        .giver = victim->id,
                                        .amount = count,
                                        .session = layer->session->id,
                                        .layer = layer->layer->id,
                                        .peer = thief,
                                        .kind = (uint8_t)kind,
                                        .why = why};
    struct tessi_trace_record *last = sched->note_count > 0 ? &sched->notes[sched->note_count - 1] : NULL;
    if (last != NULL && last->kind == kind && last->peer == thief && last->giver == victim->id &&
        last->session == record.session && last->layer == record.layer && last->why == why &&
        (last->index + last->amount == first || first + count == last->index)) {
        last->index = first < last->index ? first : last->index;
        last->amount += count;
        return;
    }
    tessi_out_note(sched, record);
}

void tessi_ask_note(struct tessi_sched *sched, const struct worker *thief, const struct worker *victim,
                    const struct sched_layer *layer, uint64_t index)
{
    if (thief == NULL) {
        tessi_ask_note_steal(sched, TESSI_TRACE_ASK, 0, victim, layer, index, 1, TESSI_TRACE_WHY_LEAVING);
    } else {
        tessi_ask_note_steal(sched, TESSI_TRACE_ASK, thief->id, victim, layer, index, 1,
                             tessi_ask_reason(thief, kind_at(thief, layer->lane)));
    }
}

double tessi_ask_back(struct tessi_sched *sched, struct worker *thief, struct worker *victim, struct task_ref ref)
{
    struct task_record *task = record(ref.layer, ref.index);
    if ((task->flags & TASK_STEALING) != 0) {
        return 0; /* it was given to the victim twice, and has just been asked for */
    }
    TESS_ASSERT(thief != victim && stays(thief) && (thief->stealing == 0 || thief->stealing_from == victim->index));
    tessi_ask_mark(victim, ref.layer, task);
    tessi_spans_push(&tessi_out_box(victim)->steal, (struct tessi_span){.session = ref.layer->session->id,
                                                                        .layer = ref.layer->layer->id,
                                                                        .first = ref.index,
                                                                        .count = 1,
                                                                        .epoch = task->epoch,
                                                                        .worker = thief->id});
    tessi_ask_note(sched, thief, victim, ref.layer, ref.index);
    thief->stealing++;
    thief->stealing_from = victim->index;
    thief->load[kind_at(thief, ref.layer->lane)].coming_ns += ref.layer->estimate_ns;
    tessi_load_changed(sched, thief);
    tessi_load_changed(sched, victim);
    return ref.layer->estimate_ns;
}

void tessi_ask_answered(struct worker *thief)
{
    thief->stealing_from = NO_WORKER;
    thief->stealing = thief->stole = thief->missed = 0;
    thief->load[0].coming_ns = thief->load[1].coming_ns = 0;
}
