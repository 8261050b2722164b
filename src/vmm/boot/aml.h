/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A byte cursor for ACPI tables, and the few AML terms (ACPI 6.4 §20) and resource descriptors
 * (§6.4) that our DSDT consists of. What does not fit is not written and sets full, which is looked
 * at once, at the end. Names are exactly four characters.
 */
#ifndef VMM_BOOT_AML_H
#define VMM_BOOT_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aml {
    uint8_t *p; /* borrowed; cap bytes */
    size_t n, cap;
    bool full;
};

void aml_bytes(struct aml *a, const void *p, size_t n);
/* The low `bytes` bytes of v, little endian. */
void aml_number(struct aml *a, uint64_t v, unsigned bytes);

enum aml_block { AML_SCOPE, AML_PACKAGE, AML_METHOD, AML_IF, AML_FIELD, AML_DEVICE };
/* Opens a block that ends at aml_close(), which puts its length (PkgLength) at the mark. */
size_t aml_open(struct aml *a, enum aml_block kind);
void aml_close(struct aml *a, size_t mark);
size_t aml_device(struct aml *a, const char *name);

void aml_name(struct aml *a, const char *name); /* a name segment */
void aml_integer(struct aml *a, uint64_t v);
void aml_named(struct aml *a, const char *name); /* Name(name, <what is written next>) */
void aml_named_integer(struct aml *a, const char *name, uint64_t v);
void aml_named_string(struct aml *a, const char *name, const char *v);
void aml_named_eisa(struct aml *a, const char *name, const char *id); /* "PNP0501" */

/* Name(_CRS, ResourceTemplate { what has a size, in this order }); irq < 0: none. Interrupts are
 * edge, active high, exclusive. */
struct aml_resources {
    uint32_t memory_base, memory_bytes;
    uint16_t port_base;
    uint8_t ports;
    int irq;
};
void aml_named_resources(struct aml *a, const struct aml_resources *r);

#endif
