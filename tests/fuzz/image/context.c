/* SPDX-License-Identifier: Apache-2.0 */
/* Records, one per line, as a hostile guest would send them; then what the planner relies on. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "image/context.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_entry(const struct context *c, size_t i)
{
    const struct context_entry *entry = context_at(c, i);
    char real[CONTEXT_MAX_PATH + 1], parent[CONTEXT_MAX_PATH + 1];
    size_t first, n = context_below(c, entry->path, &first);
    if (entry->path[0] == '/' || strstr(entry->path, "//") || strlen(entry->path) >= sizeof parent)
        abort();
    strcpy(parent, entry->path);
    char *slash = strrchr(parent, '/');
    if (slash)
        *slash = '\0';
    const struct context_entry *up = slash ? context_find(c, parent) : NULL;
    if (context_find(c, entry->path) != entry || (slash && (!up || up->type != CONTEXT_DIR)) ||
        (n && entry->type != CONTEXT_DIR))
        abort();
    /* Whatever the links say, the result is an entry of the context. */
    if (context_resolve(c, entry->path, real) == 0 && *real && !context_find(c, real))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct context *c = context_new();
    const char *p = (const char *)data, *end = p + size;
    int r = 0;
    while (r == 0 && p < end) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        const char *stop = nl ? nl : end;
        r = context_add_record(c, p, (size_t)(stop - p), NULL);
        p = nl ? nl + 1 : end;
    }
    if (r == 0 && context_seal(c, NULL) == 0)
        for (size_t i = 0; i < context_count(c); i++)
            check_entry(c, i);
    context_free(c);
    return 0;
}
