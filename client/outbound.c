/* Messages on their way to one connection, kept while its socket is full. */
#include "client/link_io.h"
#include "core/base/assert.h"

void tessi_outbound_add(struct tessi_send_queue *queue, const struct tessi_message *message, struct tessi_frame *frame)
{
    struct tessi_buffer buffer = {0};
    /* Only submissions can be too long, and those are packed where the caller can be told. */
    enum tessi_status status = tessi_message_pack(&buffer, message, NULL);
    TESS_ASSERT(status == TESSI_OK);
    bool has_bytes = frame != NULL && frame->size > 0;
    tessi_send_queue_add(queue, buffer.data, buffer.size, frame, has_bytes ? 1 : 0);
    if (frame != NULL && !has_bytes) {
        tessi_frame_release(frame);
    }
    tessi_buffer_fini(&buffer);
}

/* What cannot be sent any more was released: the connection has ended, and its owner hears of that. */
static enum tessi_status send_one(void *context, const void *header, size_t header_size, struct tessi_frame *frames,
                                  uint32_t frame_count)
{
    enum tessi_status status = tessi_client_send(context, header, header_size, frames, frame_count);
    return status == TESSI_BUSY ? status : TESSI_OK;
}

bool tessi_outbound_flush(struct tessi_send_queue *queue, struct tessi_client *client)
{
    return tessi_send_queue_flush(queue, send_one, client) == TESSI_OK;
}
