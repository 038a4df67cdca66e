/* What others want to know of a worker: pages of its trace, why a task waits. One answer at a time, and only
 * while the link to the scheduler has room, so that a slow asker holds up nothing. */
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "worker/internal.h"

#define QUESTIONS_MAX 64
#define WHY_TEXT_BYTES 4096

void tessi_worker_take_question(struct tessi_worker *worker, const struct tessi_message *message)
{
    if (worker->question_count == QUESTIONS_MAX) {
        worker->dropped_messages++; /* whoever asks so much at a time asks again */
        return;
    }
    tessi_grow(&worker->questions, &worker->question_capacity, worker->question_count + 1, sizeof *worker->questions);
    struct tessi_worker_question *question = &worker->questions[worker->question_count++];
    if (message->type == TESSI_MSG_WHY_REQUEST) {
        *question = (struct tessi_worker_question){
            .why = true, .number = message->as.why_request.question, .task = message->as.why_request.task};
    } else {
        *question = (struct tessi_worker_question){.number = message->as.trace_request.question,
                                                   .ring = message->as.trace_request.ring,
                                                   .from = message->as.trace_request.from};
    }
}

static void answer_trace(struct tessi_worker *worker, const struct tessi_worker_question *question)
{
    struct tessi_message message = {.type = TESSI_MSG_TRACE_PAGE};
    struct tessi_msg_trace_page *page = &message.as.trace_page;
    struct tessi_trace_record *records = NULL;
    page->question = question->number;
    page->worker = worker->id;
    page->ring = question->ring;
    page->rings = tessi_trace_rings(worker->trace);
    page->from = question->from;
    if (question->ring < page->rings) {
        const struct tessi_trace_ring *ring = tessi_trace_ring_at(worker->trace, question->ring);
        page->lanes = tessi_trace_lanes(worker->trace, question->ring);
        page->written = tessi_trace_written(ring);
        if (question->from < page->written) {
            records = tessi_alloc(TESSI_WIRE_TRACE_MAX * sizeof *records);
            page->records.count = tessi_trace_read(ring, &page->from, records, TESSI_WIRE_TRACE_MAX);
            page->records.items = records;
        }
    } else {
        page->error = "this worker has no such ring";
    }
    page->now_ns = tessi_clock_now();
    tessi_worker_send(worker, &message);
    tessi_free(records);
}

static void answer_why(struct tessi_worker *worker, const struct tessi_worker_question *question)
{
    char text[WHY_TEXT_BYTES];
    struct tessi_message message = {.type = TESSI_MSG_WHY_REPLY};
    message.as.why_reply.question = question->number;
    message.as.why_reply.text = tessi_flow_explain(worker->flow, question->task, text, sizeof text);
    tessi_worker_send(worker, &message);
}

void tessi_worker_answer(struct tessi_worker *worker)
{
    size_t done = 0;
    int64_t sent_ns = worker->sent_ns; /* answers are no sign of life: the machine does not see them */
    while (done < worker->question_count && !worker->link_full && worker->phase == WORKER_WORKING) {
        const struct tessi_worker_question question = worker->questions[done++];
        if (question.why) {
            answer_why(worker, &question);
        } else {
            answer_trace(worker, &question);
        }
    }
    worker->sent_ns = sent_ns;
    worker->question_count -= done;
    if (worker->question_count > 0) {
        memmove(worker->questions, worker->questions + done, worker->question_count * sizeof *worker->questions);
    }
}

void tessi_worker_forget_questions(struct tessi_worker *worker)
{
    tessi_free(worker->questions);
}
