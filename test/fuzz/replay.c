/* SPDX-License-Identifier: MIT */
/* Replays the files of directories through a fuzz target, where there is no libFuzzer to do so. An
 * input that is not handled as it must be ends the program. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { INPUT_MAX = 1 << 20 };

/* In memory of just its length, so that a sanitizer sees a look past its end. */
static int replay(const char *path)
{
    static char buffer[INPUT_MAX];
    FILE *file = fopen(path, "rb");
    size_t len;
    uint8_t *input;

    if (!file)
        return -1;
    len = fread(buffer, 1, sizeof(buffer), file);
    fclose(file);
    input = malloc(len > 0 ? len : 1);
    if (!input)
        return -1;
    for (size_t i = 0; i < len; i++)
        input[i] = (uint8_t)buffer[i];
    printf("%s\n", path); /* the last word of one that crashes */
    fflush(stdout);
    LLVMFuzzerTestOneInput(input, len);
    free(input);
    return 0;
}

/* Returns how many inputs there were, or -1. */
static int replay_directory(const char *path)
{
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, alphasort);
    int replayed = 0;

    for (int i = 0; i < count; i++) {
        char name[4096];

        snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.' && replayed >= 0)
            replayed = replay(name) < 0 ? -1 : replayed + 1;
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    return count < 0 ? -1 : replayed;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const int replayed = replay_directory(argv[i]);

        if (replayed <= 0) {
            fprintf(stderr, "%s: there is nothing that can be replayed\n", argv[i]);
            return 1;
        }
        printf("%d inputs replayed\n", replayed);
    }
    return argc < 2;
}
