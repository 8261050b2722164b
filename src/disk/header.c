/* SPDX-License-Identifier: Apache-2.0 */
#include "disk/header.h"

#include <errno.h>

#include "base/crc32c.h"
#include "base/zero.h"

int layer_geometry(uint64_t bytes, struct layer_geometry *ret)
{
    if (!bytes || bytes % 512 || bytes > LAYER_BYTES_MAX)
        return -EINVAL;
    uint64_t blocks = (bytes + LAYER_BLOCK - 1) / LAYER_BLOCK;
    uint64_t map = (blocks + 7) / 8;
    map = (map + LAYER_BLOCK - 1) / LAYER_BLOCK * LAYER_BLOCK;
    *ret = (struct layer_geometry){
        .bytes = bytes,
        .blocks = blocks,
        .bitmap_offset = LAYER_BLOCK,
        .bitmap_bytes = map,
        .data_offset = LAYER_BLOCK + map,
        .file_bytes = LAYER_BLOCK + map + blocks * LAYER_BLOCK,
    };
    return 0;
}

int header_check_info(const struct layer_info *in, struct err *e)
{
    size_t n = strnlen(in->base, sizeof in->base);
    if (n > LAYER_NAME_MAX || in->base[0] != '/')
        return err_set(e, EINVAL,
                       "the base of a layer must be an absolute path of at most %d bytes",
                       LAYER_NAME_MAX);
    struct layer_geometry g;
    if (layer_geometry(in->bytes, &g) < 0)
        return err_set(e, EINVAL, "disk size %llu is not a multiple of 512 between 512 and 4 TiB",
                       (unsigned long long)in->bytes);
    return 0;
}

uint32_t header_checksum(const unsigned char p[LAYER_BLOCK])
{
    static const unsigned char none[4];
    uint32_t crc = crc32c_update(CRC32C_START, p, HEADER_AT_CHECKSUM);
    crc = crc32c_update(crc, none, sizeof none);
    return ~crc32c_update(crc, p + HEADER_AT_FEATURES, LAYER_BLOCK - HEADER_AT_FEATURES);
}

bool layer_is_one(const unsigned char *p, size_t n)
{
    return n >= 8 && memcmp(p, HEADER_MAGIC, 8) == 0;
}

/* What must be zero is: a field added later cannot be overlooked by this version. */
static bool has_only_known_fields(const unsigned char *p, uint32_t name_len)
{
    size_t mac_end = HEADER_AT_MAC + HEADER_MAC_LEN, name_end = HEADER_AT_NAME + name_len;
    return is_zero(p + HEADER_AT_NAME_LEN + 4, HEADER_AT_MAC - HEADER_AT_NAME_LEN - 4) &&
           is_zero(p + mac_end, HEADER_AT_NAME - mac_end) &&
           is_zero(p + name_end, LAYER_BLOCK - name_end);
}

static int check_version(const unsigned char *p, size_t n, struct err *e)
{
    if (!layer_is_one(p, n))
        return err_set(e, EBADMSG, "not a copy-on-write layer");
    if (n < LAYER_BLOCK)
        return err_set(e, EBADMSG, "the header of the layer is cut short");
    uint32_t version = header_get32(p, HEADER_AT_VERSION);
    if (version != HEADER_VERSION)
        return err_set(e, EBADMSG, "layer format version %u, this program knows %u", version,
                       HEADER_VERSION);
    if (header_get64(p, HEADER_AT_FEATURES))
        return err_set(e, EBADMSG, "the layer uses features this program does not know");
    if (header_get32(p, HEADER_AT_CHECKSUM) != header_checksum(p))
        return err_set(e, EBADMSG, "the header of the layer is damaged: its checksum is wrong");
    return 0;
}

int layer_decode(const unsigned char *p, size_t n, struct layer_info *ret, struct err *e)
{
    int r = check_version(p, n, e);
    if (r < 0)
        return r;
    uint32_t name_len = header_get32(p, HEADER_AT_NAME_LEN);
    uint32_t format = header_get32(p, HEADER_AT_BASE_FORMAT);
    struct layer_info in = {.bytes = header_get64(p, HEADER_AT_BYTES), .base_cow = format == 1};
    if (header_get32(p, HEADER_AT_BLOCK) != LAYER_BLOCK || format > 1 ||
        name_len > LAYER_NAME_MAX || !has_only_known_fields(p, name_len) ||
        memchr(p + HEADER_AT_NAME, '\0', name_len))
        return err_set(e, EBADMSG, "the header of the layer is malformed");
    memcpy(in.base, p + HEADER_AT_NAME, name_len);
    struct err why = {0};
    if (header_check_info(&in, &why) < 0)
        return err_set(e, EBADMSG, "the header of the layer is malformed: %s", why.text);
    *ret = in;
    return 0;
}
