/* Messages in order for one socket, kept while it is full. */
#include "client/link_io.h"
#include "core/base/alloc.h"
#include "core/base/assert.h"

static void add_letter(struct tessi_mailbox *out, struct tessi_letter *letter)
{
    if (out->last != NULL) {
        out->last->next = letter;
    } else {
        out->first = letter;
    }
    out->last = letter;
}

void tessi_mailbox_add(struct tessi_mailbox *out, const struct tessi_message *message, struct tessi_frame *frame)
{
    struct tessi_buffer buffer = {0};
    struct tessi_letter *letter = tessi_zalloc(sizeof *letter);
    /* Only submissions can be too long, and those are packed where the caller can be told. */
    TESS_ASSERT(tessi_message_pack(&buffer, message, NULL) == TESSI_OK);
    letter->header = buffer.data;
    letter->header_size = buffer.size;
    if (frame != NULL) {
        letter->frame = *frame;
        *frame = (struct tessi_frame){0};
    }
    add_letter(out, letter);
}

void tessi_mailbox_move(struct tessi_mailbox *to, struct tessi_mailbox *from)
{
    if (from->first == NULL) {
        return;
    }
    if (to->last != NULL) {
        to->last->next = from->first;
    } else {
        to->first = from->first;
    }
    to->last = from->last;
    *from = (struct tessi_mailbox){0};
}

static void drop_first(struct tessi_mailbox *out)
{
    struct tessi_letter *letter = out->first;
    out->first = letter->next;
    if (out->first == NULL) {
        out->last = NULL;
    }
    tessi_frame_release(&letter->frame);
    tessi_free(letter->header);
    tessi_free(letter);
}

bool tessi_mailbox_flush(struct tessi_mailbox *out, struct tessi_client *client)
{
    while (out->first != NULL) {
        struct tessi_letter *letter = out->first;
        bool has_frame = letter->frame.size > 0;
        enum tessi_status status =
            tessi_client_send(client, letter->header, letter->header_size, &letter->frame, has_frame ? 1 : 0);
        if (status == TESSI_BUSY) {
            return false;
        }
        if (has_frame) {
            letter->frame = (struct tessi_frame){0}; /* moved, or released because the connection has ended */
        }
        drop_first(out);
    }
    return true;
}

void tessi_mailbox_fini(struct tessi_mailbox *out)
{
    while (out->first != NULL) {
        drop_first(out);
    }
}
