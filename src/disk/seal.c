/* SPDX-License-Identifier: Apache-2.0 */
/* The half of the codec that needs the key; apart, because the monitor links no cryptography. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/digest.h"
#include "disk/header.h"

_Static_assert(HEADER_MAC_LEN == SHA256_LEN, "HMAC-SHA-256");

/* The first words keep it apart from the HMACs of qcow2 overlays, made with the same key. */
static void compute_mac(const struct layer_info *in, const unsigned char key[LAYER_KEY_LEN],
                        unsigned char out[SHA256_LEN])
{
    char text[LAYER_NAME_MAX + 64];
    int n = snprintf(text, sizeof text, "tinderbox layer %u\n%llu\n%s\n%s", HEADER_VERSION,
                     (unsigned long long)in->bytes, in->base_cow ? "layer" : "raw", in->base);
    hmac_sha256(key, LAYER_KEY_LEN, text, (size_t)n, out);
}

static void put32(unsigned char *p, size_t at, uint32_t v)
{
    memcpy(p + at, &v, sizeof v);
}

int layer_encode(const struct layer_info *in, const unsigned char key[LAYER_KEY_LEN],
                 unsigned char out[LAYER_BLOCK], struct err *e)
{
    int r = header_check_info(in, e);
    if (r < 0)
        return r;
    size_t name_len = strlen(in->base);
    memset(out, 0, LAYER_BLOCK);
    memcpy(out + HEADER_AT_MAGIC, HEADER_MAGIC, 8);
    put32(out, HEADER_AT_VERSION, HEADER_VERSION);
    memcpy(out + HEADER_AT_BYTES, &in->bytes, sizeof in->bytes);
    put32(out, HEADER_AT_BLOCK, LAYER_BLOCK);
    put32(out, HEADER_AT_BASE_FORMAT, in->base_cow);
    put32(out, HEADER_AT_NAME_LEN, (uint32_t)name_len);
    memcpy(out + HEADER_AT_NAME, in->base, name_len);
    compute_mac(in, key, out + HEADER_AT_MAC);
    put32(out, HEADER_AT_CHECKSUM, header_checksum(out));
    return 0;
}

static bool same_mac(const unsigned char *a, const unsigned char *b)
{
    unsigned char diff = 0;
    for (size_t i = 0; i < SHA256_LEN; i++)
        diff = (unsigned char)(diff | (a[i] ^ b[i]));
    return diff == 0;
}

int layer_verify(const unsigned char *p, size_t n, const unsigned char key[LAYER_KEY_LEN],
                 struct layer_info *ret, struct err *e)
{
    struct layer_info in;
    int r = layer_decode(p, n, &in, e);
    if (r < 0)
        return r;
    unsigned char mac[SHA256_LEN];
    compute_mac(&in, key, mac);
    if (!same_mac(mac, p + HEADER_AT_MAC))
        return err_set(e, EBADMSG,
                       "the name of the base disk was changed, or the disk was made by "
                       "another installation");
    *ret = in;
    return 0;
}

int layer_create(const char *path, const struct layer_info *in,
                 const unsigned char key[LAYER_KEY_LEN], struct err *e)
{
    unsigned char header[LAYER_BLOCK];
    struct layer_geometry g;
    int r = layer_encode(in, key, header, e);
    if (r < 0)
        return r;
    if (layer_geometry(in->bytes, &g) < 0)
        return err_set(e, EINVAL, "disk size out of range");
    CLEANUP(cleanup_close)
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set_errno(e, errno, "create disk %s", path);
    ssize_t n = pwrite(fd, header, sizeof header, 0);
    if (n == (ssize_t)sizeof header && ftruncate(fd, (off_t)g.file_bytes) == 0)
        return 0;
    int code = n >= 0 && n < (ssize_t)sizeof header ? EIO : errno;
    unlink(path);
    return err_set_errno(e, code, "write disk %s", path);
}
