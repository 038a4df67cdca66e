/* What comes over the wire on its way to the terminal. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "client/cli/cli.h"
#include "core/base/alloc.h"
#include "core/base/text.h"

static void make_showable(cJSON *item)
{
    size_t room = 4 * strlen(item->valuestring) + 1;
    char *shown = tessi_alloc(room);
    if (strcmp(tessi_text_show(shown, room, item->valuestring), item->valuestring) != 0) {
        (void)cJSON_SetValuestring(item, shown);
    }
    tessi_free(shown);
}

/* cJSON bounds how deep a document is. */
void tessi_cli_make_showable(cJSON *item)
{
    if (cJSON_IsString(item)) {
        make_showable(item);
    }
    for (cJSON *child = item != NULL ? item->child : NULL; child != NULL; child = child->next) {
        tessi_cli_make_showable(child);
    }
}

void tessi_cli_print_json(const char *json)
{
    bool showable;
    for (size_t count; *json != 0; json += count) {
        count = tessi_text_character(json, &showable);
        if (showable) {
            (void)fwrite(json, 1, count, stdout);
        } else if (count == 1 && (unsigned char)*json < 0x80) {
            printf("\\u%04x", (unsigned)(unsigned char)*json);
        } else if (count == 1) {
            fputs("\\ufffd", stdout); /* no character */
        } else {
            unsigned code = (unsigned)(unsigned char)json[0] & (0x7fu >> count);
            for (size_t i = 1; i < count; i++) {
                code = code << 6 | ((unsigned)(unsigned char)json[i] & 0x3f);
            }
            printf("\\u%04x", code); /* those that are not shown have four digits */
        }
    }
    putchar('\n');
}
