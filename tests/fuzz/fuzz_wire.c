/* Fuzzer of the message reader.
 *
 * The ordinary run replays the corpus: `fuzz_wire [FOLDER]`. `fuzz_wire --write FOLDER` makes the corpus
 * anew, one file for each kind of message. With clang, -DTESSI_LIBFUZZER and -fsanitize=fuzzer it searches. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/wire/message.h"
#include "tests/unit/sample_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the reader accepts can be dumped, packed and read again. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[4096];
    struct tessi_message message, again;
    struct tessi_buffer buffer = {0};
    if (tessi_message_unpack(data, size, &message, NULL) != TESSI_OK) {
        return 0;
    }
    tessi_message_dump(&message, text, sizeof text);
    if (tessi_message_pack(&buffer, &message, NULL) != TESSI_OK ||
        tessi_message_unpack(buffer.data, buffer.size, &again, NULL) != TESSI_OK) {
        fprintf(stderr, "an accepted message cannot be packed and read again: %s\n", text);
        abort();
    }
    tessi_message_fini(&again);
    tessi_message_fini(&message);
    tessi_buffer_fini(&buffer);
    return 0;
}

#ifndef TESSI_LIBFUZZER

#define CORPUS "tests/fuzz/corpus/wire"

static int write_corpus(const char *folder)
{
    struct sample sample = {2024};
    for (uint32_t code = 0; code < TESSI_MSG_CODE_END; code++) {
        if (tessi_wire_row(code) == NULL) {
            continue;
        }
        char path[512];
        struct tessi_message message;
        struct tessi_buffer buffer = {0};
        sample_message(&sample, (enum tessi_msg_type)code, &message);
        snprintf(path, sizeof path, "%s/%s", folder, tessi_wire_row(code)->name);
        FILE *file = fopen(path, "wb");
        if (file == NULL || tessi_message_pack(&buffer, &message, NULL) != TESSI_OK ||
            fwrite(buffer.data, 1, buffer.size, file) != buffer.size || fclose(file) != 0) {
            perror(path);
            return 1;
        }
        tessi_message_fini(&message);
        tessi_buffer_fini(&buffer);
    }
    return 0;
}

/* The file as it is, and with each of its bytes damaged once. */
static int replay_file(const char *path)
{
    static uint8_t bytes[1 << 16];
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    LLVMFuzzerTestOneInput(bytes, size);
    for (size_t i = 0; i < size; i++) {
        bytes[i] ^= 0xff;
        LLVMFuzzerTestOneInput(bytes, size);
        bytes[i] ^= 0xff;
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--write") == 0) {
        return write_corpus(argv[2]);
    }
    const char *folder = argc > 1 ? argv[1] : CORPUS;
    DIR *dir = opendir(folder);
    int failed = 0, files = 0;
    if (dir == NULL) {
        fprintf(stderr, "%s: no corpus there; run from the project's root or name its folder\n", folder);
        return 1;
    }
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char path[1024];
        if (entry->d_name[0] == '.') {
            continue;
        }
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        failed |= replay_file(path);
        files++;
    }
    closedir(dir);
    printf("fuzz_wire: %d files replayed\n", files);
    return failed || files == 0;
}

#endif
