/* SPDX-License-Identifier: Apache-2.0 */
/* Feeds every file of a corpus directory to one fuzz target. A crash or a sanitizer report is the
 * failure; an absent or empty corpus is one too, or the test would prove nothing. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *dir, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        return -1;
    }
    uint8_t *data = malloc(1 << 20);
    size_t n = data ? fread(data, 1, 1 << 20, f) : 0;
    fclose(f);
    if (data) {
        /* An exact-size copy lets the sanitizer see the first byte past the input. */
        uint8_t *exact = malloc(n ? n : 1);
        for (size_t i = 0; exact && i < n; i++)
            exact[i] = data[i];
        LLVMFuzzerTestOneInput(exact, n);
        free(exact);
    }
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s CORPUS_DIR\n", argv[0]);
        return 2;
    }
    DIR *d = opendir(argv[1]);
    if (!d) {
        perror(argv[1]);
        return 1;
    }
    unsigned n = 0;
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        if (replay_file(argv[1], e->d_name) < 0)
            return 1;
        n++;
    }
    closedir(d);
    printf("%u inputs replayed\n", n);
    return n ? 0 : 1;
}
