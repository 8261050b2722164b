/* SPDX-License-Identifier: Apache-2.0 */
/* A strict reader of the AML subset that our DSDT uses, written from the ACPI specification and not
 * from the encoder: every length must end where its contents end. For tests and the fuzzer. */
#ifndef TESTS_AML_CHECK_H
#define TESTS_AML_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct aml_in {
    const uint8_t *p, *end;
    unsigned devices, interrupts, depth; /* counted on the way */
    bool bad;
};

static void aml_terms(struct aml_in *in);

static uint64_t aml_take(struct aml_in *in, unsigned bytes)
{
    uint64_t v = 0;
    if ((size_t)(in->end - in->p) < bytes) {
        in->bad = true;
        in->p = in->end;
        return 0;
    }
    for (unsigned i = 0; i < bytes; i++)
        v |= (uint64_t)in->p[i] << 8 * i;
    in->p += bytes;
    return v;
}

static void aml_segment(struct aml_in *in)
{
    for (int i = 0; i < 4; i++) {
        char c = (char)aml_take(in, 1);
        bool letter = (c >= 'A' && c <= 'Z') || c == '_';
        in->bad |= !letter && !(i > 0 && c >= '0' && c <= '9');
    }
}

/* Reads a PkgLength and makes its end the end of in; returns the end there was. */
static const uint8_t *aml_enter(struct aml_in *in)
{
    const uint8_t *start = in->p, *outer = in->end;
    unsigned lead = (unsigned)aml_take(in, 1), extra = lead >> 6;
    size_t length = extra ? lead & 15 : lead & 63;
    in->bad |= extra && (lead & 0x30);
    for (unsigned i = 0; i < extra; i++)
        length |= (size_t)aml_take(in, 1) << (4 + 8 * i);
    if (length > (size_t)(outer - start) || length < (size_t)(in->p - start) || ++in->depth > 8)
        in->bad = true;
    else
        in->end = start + length;
    return outer;
}

static void aml_leave(struct aml_in *in, const uint8_t *outer)
{
    in->bad |= in->p != in->end;
    in->p = in->end;
    in->end = outer;
    in->depth--;
}

static uint64_t aml_integer_in(struct aml_in *in)
{
    uint64_t op = aml_take(in, 1);
    if (op <= 1)
        return op;
    if (op == 0x0a || op == 0x0b || op == 0x0c)
        return aml_take(in, 1u << (op - 0x0a));
    if (op == 0x0e)
        return aml_take(in, 8);
    in->bad = true;
    return 0;
}

static void aml_resources_in(struct aml_in *in)
{
    while (!in->bad && in->p < in->end) {
        unsigned tag = (unsigned)aml_take(in, 1);
        if (tag == 0x79) {
            aml_take(in, 1);
            in->bad |= in->p != in->end;
            return;
        }
        size_t n = tag & 0x80 ? aml_take(in, 2) : tag & 7;
        in->bad |= !((tag == 0x47 && n == 7) || (tag == 0x86 && n == 9) || (tag == 0x89 && n == 6));
        in->interrupts += tag == 0x89;
        in->bad |= n > (size_t)(in->end - in->p);
        in->p += in->bad ? 0 : n;
    }
    in->bad = true; /* no end tag */
}

static void aml_data(struct aml_in *in)
{
    uint64_t op = in->p < in->end ? *in->p : 0xff;
    if (op == 0x0d) {
        const uint8_t *zero = memchr(in->p, 0, (size_t)(in->end - in->p));
        in->bad |= !zero;
        in->p = zero ? zero + 1 : in->end;
    } else if (op == 0x11) {
        in->p++;
        const uint8_t *outer = aml_enter(in);
        uint64_t size = aml_integer_in(in);
        in->bad |= size != (uint64_t)(in->end - in->p);
        aml_resources_in(in);
        aml_leave(in, outer);
    } else if (op == 0x12) {
        in->p++;
        const uint8_t *outer = aml_enter(in);
        for (uint64_t n = aml_take(in, 1); n && !in->bad; n--)
            aml_data(in);
        aml_leave(in, outer);
    } else {
        aml_integer_in(in);
    }
}

static void aml_field(struct aml_in *in)
{
    aml_segment(in);
    aml_take(in, 1);
    while (!in->bad && in->p < in->end) {
        aml_segment(in);
        in->bad |= aml_take(in, 1) > 63;
    }
}

static void aml_block_in(struct aml_in *in, unsigned op)
{
    const uint8_t *outer = aml_enter(in);
    if (op == 0xa0) { /* If (And (Local0, n)) */
        in->bad |= aml_take(in, 2) != 0x607b;
        aml_integer_in(in);
        in->bad |= aml_take(in, 1) != 0;
        aml_terms(in);
    } else if (op == 0x815b) {
        aml_field(in);
    } else { /* Scope, Method, Device */
        aml_segment(in);
        if (op == 0x14)
            aml_take(in, 1);
        in->devices += op == 0x825b;
        aml_terms(in);
    }
    aml_leave(in, outer);
}

static void aml_terms(struct aml_in *in)
{
    while (!in->bad && in->p < in->end) {
        unsigned op = (unsigned)aml_take(in, 1);
        if (op == 0x5b)
            op |= (unsigned)aml_take(in, 1) << 8;
        switch (op) {
        case 0x08: /* Name */
            aml_segment(in);
            aml_data(in);
            break;
        case 0x70: /* Store (name, Local0) */
            aml_segment(in);
            in->bad |= aml_take(in, 1) != 0x60;
            break;
        case 0x86: /* Notify */
            aml_segment(in);
            aml_integer_in(in);
            break;
        case 0x805b: /* OperationRegion */
            aml_segment(in);
            aml_take(in, 1);
            aml_integer_in(in);
            aml_integer_in(in);
            break;
        case 0x10:
        case 0x14:
        case 0xa0:
        case 0x815b:
        case 0x825b:
            aml_block_in(in, op);
            break;
        default:
            in->bad = true;
        }
    }
}

static bool aml_check(struct aml_in *in, const uint8_t *p, size_t n)
{
    *in = (struct aml_in){.p = p, .end = p + n};
    aml_terms(in);
    return !in->bad && in->p == p + n;
}

/* A table with its standard header: signature, length within `room`, checksum. */
static bool acpi_check_table(const uint8_t *p, size_t room, const char *signature, uint32_t *length)
{
    uint8_t sum = 0;
    if (room < 36 || memcmp(p, signature, 4) != 0)
        return false;
    memcpy(length, p + 4, 4);
    if (*length < 36 || *length > room)
        return false;
    for (uint32_t i = 0; i < *length; i++)
        sum = (uint8_t)(sum + p[i]);
    return sum == 0;
}

#endif
