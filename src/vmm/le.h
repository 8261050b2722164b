/* SPDX-License-Identifier: Apache-2.0 */
/* Little-endian integers in guest memory and snapshot files: a wrapper, so that no foreign number
 * is used before it was read through a function, and none at an odd alignment. */
#ifndef VMM_LE_H
#define VMM_LE_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

struct le16 {
    uint8_t raw[2];
};
struct le32 {
    uint8_t raw[4];
};
struct le64 {
    uint8_t raw[8];
};

static inline uint16_t le16_get(const struct le16 *p)
{
    uint16_t v;
    memcpy(&v, p->raw, sizeof v);
    return le16toh(v);
}

static inline uint32_t le32_get(const struct le32 *p)
{
    uint32_t v;
    memcpy(&v, p->raw, sizeof v);
    return le32toh(v);
}

static inline uint64_t le64_get(const struct le64 *p)
{
    uint64_t v;
    memcpy(&v, p->raw, sizeof v);
    return le64toh(v);
}

static inline void le16_put(struct le16 *p, uint16_t v)
{
    v = htole16(v);
    memcpy(p->raw, &v, sizeof v);
}

static inline void le32_put(struct le32 *p, uint32_t v)
{
    v = htole32(v);
    memcpy(p->raw, &v, sizeof v);
}

static inline void le64_put(struct le64 *p, uint64_t v)
{
    v = htole64(v);
    memcpy(p->raw, &v, sizeof v);
}

#endif
