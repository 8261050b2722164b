/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "guest/unpack.h"

#define SHOWN 200 /* of a bad name in an error text */

bool name_is_utf8(const char *s)
{
    const unsigned char *p = (const unsigned char *)s;
    while (*p) {
        unsigned n = *p < 0x80                 ? 0
                     : *p >= 0xc2 && *p < 0xe0 ? 1
                     : (*p & 0xf0) == 0xe0     ? 2
                     : *p >= 0xf0 && *p < 0xf5 ? 3
                                               : 4;
        if (n == 4 || (*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] >= 0xa0) ||
            (*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] >= 0x90))
            return false;
        for (p++; n; n--, p++)
            if ((*p & 0xc0) != 0x80)
                return false;
    }
    return true;
}

int name_clean(const char *raw, char out[UNPACK_MAX_PATH], struct err *e)
{
    if (!name_is_utf8(raw))
        return err_set(e, EBADMSG, "an entry's name is not valid UTF-8");
    if (raw[0] == '/' || raw[0] == '\\')
        return err_set(e, EBADMSG, "the entry '%.*s' has an absolute path", SHOWN, raw);
    if (strlen(raw) >= UNPACK_MAX_PATH)
        return err_set(e, EBADMSG, "the entry '%.*s...' has a name of more than %d bytes", SHOWN,
                       raw, UNPACK_MAX_PATH - 1);
    size_t len = 0;
    for (const char *p = raw; *p;) {
        size_t n = strcspn(p, "/");
        if (n == 2 && p[0] == '.' && p[1] == '.')
            return err_set(e, EBADMSG, "the entry '%.*s' leads out of the archive", SHOWN, raw);
        if (n > UNPACK_MAX_NAME)
            return err_set(e, EBADMSG, "the entry '%.*s...' has a name of more than %d bytes",
                           SHOWN, raw, UNPACK_MAX_NAME);
        if (n && !(n == 1 && p[0] == '.')) {
            if (len)
                out[len++] = '/';
            memcpy(out + len, p, n);
            len += n;
        }
        p += n + (p[n] == '/');
    }
    out[len] = '\0';
    return 0;
}

struct slot {
    char *name; /* owned; NULL = free */
    int value;
};

struct names {
    struct slot *slots; /* owned */
    size_t cap, used;   /* cap is a power of two */
};

struct names *names_new(void)
{
    struct names *n = calloc(1, sizeof *n);
    if (!n || !(n->slots = calloc(1024, sizeof *n->slots)))
        abort(); /* at start, a few KiB */
    n->cap = 1024;
    return n;
}

void names_free(struct names *n)
{
    if (!n)
        return;
    for (size_t i = 0; i < n->cap; i++)
        free(n->slots[i].name);
    free(n->slots);
    free(n);
}

/* FNV-1a. Collisions chosen by an archive cost at most UNPACK_MAX_ENTRIES squared compares of
 * short strings in a throw-away process. */
static size_t find(const struct names *n, const char *name)
{
    uint64_t h = 0xcbf29ce484222325ull;
    for (const char *p = name; *p; p++)
        h = (h ^ (unsigned char)*p) * 0x100000001b3ull;
    size_t i = (size_t)h & (n->cap - 1);
    while (n->slots[i].name && strcmp(n->slots[i].name, name) != 0)
        i = (i + 1) & (n->cap - 1);
    return i;
}

static int grow(struct names *n)
{
    struct names bigger = {.cap = n->cap * 2};
    bigger.slots = calloc(bigger.cap, sizeof *bigger.slots);
    if (!bigger.slots)
        return -ENOMEM;
    for (size_t i = 0; i < n->cap; i++)
        if (n->slots[i].name)
            bigger.slots[find(&bigger, n->slots[i].name)] = n->slots[i];
    free(n->slots);
    n->slots = bigger.slots;
    n->cap = bigger.cap;
    return 0;
}

int names_add(struct names *n, const char *name, int value)
{
    if (n->used * 2 >= n->cap && grow(n) < 0)
        return -ENOMEM;
    size_t i = find(n, name);
    if (n->slots[i].name)
        return 0;
    n->slots[i].name = strdup(name);
    if (!n->slots[i].name)
        return -ENOMEM;
    n->slots[i].value = value;
    n->used++;
    return 1;
}

int names_get(const struct names *n, const char *name)
{
    size_t i = find(n, name);
    return n->slots[i].name ? n->slots[i].value : -1;
}
