/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/numbers.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define HEX "0123456789ABCDEFabcdef"

uint64_t number_after(const char *text, const char *key, uint64_t missing)
{
    const char *p = strstr(text, key);
    if (!p)
        return missing;
    p += strlen(key);
    p += strspn(p, " \t");
    return *p >= '0' && *p <= '9' ? strtoull(p, NULL, 10) : missing;
}

/* Hex digits at *p (1 to max of them) into out, which may be NULL, then the character after. */
static bool take_hex(const char **p, size_t max, char *out, char after)
{
    size_t n = strspn(*p, HEX);
    if (n == 0 || n > max || (*p)[n] != after)
        return false;
    if (out) {
        memcpy(out, *p, n);
        out[n] = '\0';
    }
    *p += n + 1;
    return true;
}

/* "  0: 0100007F:1F90 00000000:0000 0A ..." */
static bool parse(const char *p, struct tcp_line *ret)
{
    char port[5], state[3];
    p += strspn(p, " ");
    size_t n = strspn(p, "0123456789");
    if (n == 0 || p[n] != ':' || p[n + 1] != ' ')
        return false;
    p += n + 2;
    if (!take_hex(&p, 32, NULL, ':') || !take_hex(&p, 4, port, ' ') ||
        !take_hex(&p, 32, ret->remote, ':') || !take_hex(&p, 4, NULL, ' ') ||
        !take_hex(&p, 2, state, ' '))
        return false;
    ret->local_port = (unsigned)strtoul(port, NULL, 16);
    ret->state = (unsigned)strtoul(state, NULL, 16);
    return true;
}

int tcp_line_next(const char **text, struct tcp_line *ret)
{
    while (**text) {
        const char *line = *text;
        size_t n = strcspn(line, "\n");
        *text = line + n + (line[n] == '\n');
        if (parse(line, ret))
            return 1;
    }
    return 0;
}
