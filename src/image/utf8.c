/* SPDX-License-Identifier: Apache-2.0 */
#include "image/utf8.h"

/* How many bytes a sequence has by its first byte, its payload bits there, its smallest value. */
static const struct {
    unsigned char mask, mark;
    unsigned n;
    uint32_t min;
} forms[] = {
    {0xe0, 0xc0, 2, 0x80},
    {0xf0, 0xe0, 3, 0x800},
    {0xf8, 0xf0, 4, 0x10000},
};

static bool decode(const unsigned char *p, size_t n, size_t form, uint32_t *ret)
{
    if (forms[form].n > n)
        return false;
    uint32_t c = p[0] & (unsigned char)~forms[form].mask;
    for (unsigned i = 1; i < forms[form].n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return false;
        c = c << 6 | (p[i] & 0x3f);
    }
    if (c < forms[form].min || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return false;
    *ret = c;
    return true;
}

uint32_t utf8_next(struct slice *s)
{
    const unsigned char *p = (const unsigned char *)s->p;
    if (p[0] < 0x80) {
        s->p++, s->n--;
        return p[0];
    }
    uint32_t c = UTF8_INVALID + p[0];
    size_t used = 1;
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        if ((p[0] & forms[i].mask) == forms[i].mark) {
            if (decode(p, s->n, i, &c))
                used = forms[i].n;
            break;
        }
    }
    s->p += used;
    s->n -= used;
    return c;
}
