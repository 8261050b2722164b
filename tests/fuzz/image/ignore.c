/* SPDX-License-Identifier: Apache-2.0 */
/* Rules, a NUL, then a path: both ways to match must agree. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "image/ignore.h"
#include "image/paths.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool walk(const struct ignore *g, const char *path, uint64_t *work)
{
    size_t words = ignore_set_words(g);
    uint64_t *above = calloc(words, sizeof *above), *own = calloc(words, sizeof *own);
    char part[PATHS_MAX + 1];
    bool excluded = false, top = true;
    for (size_t n = 1; n <= strlen(path); n++) {
        if (path[n] != '/' && path[n] != '\0')
            continue;
        memcpy(part, path, n);
        part[n] = '\0';
        excluded = ignore_match_below(g, part, top ? NULL : above, own, work);
        memcpy(above, own, words * sizeof *above);
        top = false;
    }
    free(above);
    free(own);
    return excluded;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    size_t n = nul ? (size_t)(nul - data) : size;
    struct ignore *g = NULL;
    uint64_t work = 0;
    char path[PATHS_MAX + 1];
    if (ignore_parse((const char *)data, n, &g, NULL) < 0)
        return 0;
    const char *rest = nul ? (const char *)nul + 1 : "a/b";
    size_t rest_n = nul ? strnlen(rest, size - n - 1) : 3;
    /* Contexts hold clean relative paths only. */
    if (paths_clean(rest, rest_n, path) == 0 && path[0] != '/' && path[0] != '.' &&
        ignore_match(g, path, &work) != walk(g, path, &work))
        abort();
    ignore_free(g);
    return 0;
}
