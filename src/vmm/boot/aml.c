/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/boot/aml.h"

#include <string.h>

#define OP_NAME 0x08
#define OP_BYTE 0x0a
#define OP_WORD 0x0b
#define OP_DWORD 0x0c
#define OP_STRING 0x0d
#define OP_QWORD 0x0e
#define OP_BUFFER 0x11
#define OP_EXTENDED 0x5b

#define INTERRUPT_FLAGS 0x03 /* consumer, edge; active high and exclusive are zeroes */

static const uint8_t block_op[][2] = {
    /* an extended opcode has two bytes */
    [AML_SCOPE] = {0x10},
    [AML_PACKAGE] = {0x12},
    [AML_METHOD] = {0x14},
    [AML_IF] = {0xa0},
    [AML_FIELD] = {OP_EXTENDED, 0x81},
    [AML_DEVICE] = {OP_EXTENDED, 0x82},
};

void aml_bytes(struct aml *a, const void *p, size_t n)
{
    if (n > a->cap - a->n) {
        a->full = true;
        return;
    }
    memcpy(a->p + a->n, p, n);
    a->n += n;
}

void aml_number(struct aml *a, uint64_t v, unsigned bytes)
{
    uint8_t b[8];
    for (unsigned i = 0; i < bytes; i++)
        b[i] = (uint8_t)(v >> 8 * i);
    aml_bytes(a, b, bytes);
}

size_t aml_open(struct aml *a, enum aml_block kind)
{
    aml_bytes(a, block_op[kind], block_op[kind][1] ? 2 : 1);
    return a->n;
}

/* §20.2.4: the length counts itself. One byte holds 6 bits; otherwise the first byte holds the
 * lowest 4 bits and, above them, how many bytes follow. */
static unsigned encode_length(size_t contents, uint8_t b[4])
{
    if (contents + 1 < 1u << 6) {
        b[0] = (uint8_t)(contents + 1);
        return 1;
    }
    unsigned extra = contents + 2 < 1u << 12 ? 1 : contents + 3 < 1u << 20 ? 2 : 3;
    size_t length = contents + 1 + extra;
    b[0] = (uint8_t)(extra << 6 | (length & 15));
    for (unsigned i = 0; i < extra; i++)
        b[1 + i] = (uint8_t)(length >> (4 + 8 * i));
    return 1 + extra;
}

void aml_close(struct aml *a, size_t mark)
{
    uint8_t b[4];
    size_t contents = a->n - mark;
    unsigned n = encode_length(contents, b);
    aml_bytes(a, b, n); /* makes room */
    if (a->full)
        return;
    memmove(a->p + mark + n, a->p + mark, contents);
    memcpy(a->p + mark, b, n);
}

size_t aml_device(struct aml *a, const char *name)
{
    size_t mark = aml_open(a, AML_DEVICE);
    aml_name(a, name);
    return mark;
}

void aml_name(struct aml *a, const char *name)
{
    aml_bytes(a, name, 4);
}

void aml_integer(struct aml *a, uint64_t v)
{
    static const uint8_t ops[] = {OP_BYTE, OP_WORD, OP_DWORD, OP_QWORD};
    unsigned size = v > UINT32_MAX ? 3 : v > UINT16_MAX ? 2 : v > UINT8_MAX ? 1 : 0;
    if (v > 1)
        aml_number(a, ops[size], 1);
    aml_number(a, v, v > 1 ? 1u << size : 1); /* Zero and One are opcodes 0 and 1 */
}

void aml_named(struct aml *a, const char *name)
{
    aml_number(a, OP_NAME, 1);
    aml_name(a, name);
}

void aml_named_integer(struct aml *a, const char *name, uint64_t v)
{
    aml_named(a, name);
    aml_integer(a, v);
}

void aml_named_string(struct aml *a, const char *name, const char *v)
{
    aml_named(a, name);
    aml_number(a, OP_STRING, 1);
    aml_bytes(a, v, strlen(v) + 1);
}

static unsigned hex_digit(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* §19.3.4: three letters of five bits, four hexadecimal digits, most significant byte first. */
void aml_named_eisa(struct aml *a, const char *name, const char *id)
{
    uint32_t v = 0;
    for (int i = 0; i < 3; i++)
        v = v << 5 | (uint32_t)(id[i] - 0x40);
    for (int i = 3; i < 7; i++)
        v = v << 4 | hex_digit(id[i]);
    aml_named(a, name);
    aml_number(a, OP_DWORD, 1);
    aml_number(a, __builtin_bswap32(v), 4);
}

static void describe(struct aml *a, const struct aml_resources *r)
{
    if (r->memory_bytes) {
        aml_number(a, 0x86 | 9 << 8, 3); /* 32-bit fixed memory range */
        aml_number(a, 1, 1);             /* read-write */
        aml_number(a, r->memory_base, 4);
        aml_number(a, r->memory_bytes, 4);
    }
    if (r->ports) {
        aml_number(a, 0x0147, 2); /* I/O ports, 16-bit decode */
        aml_number(a, r->port_base, 2);
        aml_number(a, r->port_base, 2);
        aml_number(a, 1, 1); /* alignment */
        aml_number(a, r->ports, 1);
    }
    if (r->irq >= 0) {
        aml_number(a, 0x89 | 6 << 8, 3); /* extended interrupt */
        aml_number(a, INTERRUPT_FLAGS | 1 << 8, 2);
        aml_number(a, (unsigned)r->irq, 4);
    }
    aml_number(a, 0x79, 2); /* end tag; checksum zero: not used */
}

void aml_named_resources(struct aml *a, const struct aml_resources *r)
{
    uint8_t space[64] = {0};
    struct aml inner = {.p = space, .cap = sizeof space};
    describe(&inner, r);
    aml_named(a, "_CRS");
    aml_number(a, OP_BUFFER, 1);
    size_t mark = a->n;
    aml_integer(a, inner.n);
    aml_bytes(a, space, inner.n);
    aml_close(a, mark);
}
