/* SPDX-License-Identifier: Apache-2.0 */
#include "image/paths.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Drops the last component; false when there is none to drop (it is empty or itself ".."). */
static bool drop_last(char *out, size_t *n, size_t root)
{
    if (*n == root)
        return false;
    size_t start = *n;
    while (start > root && out[start - 1] != '/')
        start--;
    if (*n - start == 2 && memcmp(out + start, "..", 2) == 0)
        return false;
    *n = start > root ? start - 1 : root;
    return true;
}

static int append(char *out, size_t *n, size_t root, const char *part, size_t part_n)
{
    size_t slash = *n > root ? 1 : 0;
    if (*n + slash + part_n > PATHS_MAX)
        return -ENAMETOOLONG;
    if (slash)
        out[(*n)++] = '/';
    memcpy(out + *n, part, part_n);
    *n += part_n;
    return 0;
}

int paths_clean(const char *s, size_t n, char out[PATHS_MAX + 1])
{
    size_t root = n && s[0] == '/' ? 1 : 0, len = root;
    out[0] = '/';
    for (size_t i = 0; i < n;) {
        size_t end = i;
        while (end < n && s[end] != '/')
            end++;
        const char *part = s + i;
        size_t part_n = end - i;
        i = end + 1;
        if (part_n == 0 || (part_n == 1 && part[0] == '.'))
            continue;
        bool up = part_n == 2 && memcmp(part, "..", 2) == 0;
        if (up && (drop_last(out, &len, root) || root))
            continue;
        int r = append(out, &len, root, part, part_n);
        if (r < 0)
            return r;
    }
    if (!len)
        out[len++] = '.';
    out[len] = '\0';
    return 0;
}

int paths_resolve(const char *dir, const char *path, char out[PATHS_MAX + 1])
{
    char joined[2 * PATHS_MAX + 3];
    if (path[0] == '/')
        return paths_clean(path, strlen(path), out);
    int n = snprintf(joined, sizeof joined, "%s/%s", dir, path);
    if (n < 0 || (size_t)n >= sizeof joined)
        return -ENAMETOOLONG;
    return paths_clean(joined, (size_t)n, out);
}

const char *paths_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}
