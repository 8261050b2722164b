/* SPDX-License-Identifier: Apache-2.0 */
/* SCAN and READ. */
#include <errno.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>

#include "base/encode.h"
#include "guest/unpack.h"
#include "proto/wire.h"

static char chunk[65536];

static int hash_entry(struct zip *z, const struct zip_entry *x, uint64_t *size,
                      char hex[2 * SHA256_DIGEST_SIZE + 1], struct err *e)
{
    struct sha256_ctx h;
    uint8_t raw[SHA256_DIGEST_SIZE];
    sha256_init(&h);
    *size = 0;
    ssize_t n;
    while ((n = zip_read(z, chunk, sizeof chunk, e)) > 0) {
        sha256_update(&h, (size_t)n, (const uint8_t *)chunk);
        *size += (uint64_t)n;
    }
    if (n < 0)
        return err_wrap(e, "%.200s", x->path);
    sha256_digest(&h, sizeof raw, raw);
    hex_encode(hex, raw, sizeof raw);
    return 0;
}

static int scan_entry(struct zip *z, const struct zip_entry *x, struct err *e)
{
    json_t *v;
    if (x->type == 'f') {
        uint64_t size;
        char hex[2 * SHA256_DIGEST_SIZE + 1];
        int r = hash_entry(z, x, &size, hex, e);
        if (r < 0)
            return r;
        v = json_pack("{s:s, s:s, s:i, s:I, s:s}", "path", x->path, "type", "file", "mode",
                      (int)x->mode, "size", (json_int_t)size, "sha256", hex);
    } else if (x->type == 'l') {
        v = json_pack("{s:s, s:s, s:i, s:s}", "path", x->path, "type", "link", "mode", 0777,
                      "target", x->target);
    } else {
        v = json_pack("{s:s, s:s, s:i}", "path", x->path, "type", "dir", "mode", (int)x->mode);
    }
    if (!v)
        return err_set(e, EBADMSG, "the entry '%.200s' has a target that is not valid UTF-8",
                       x->path);
    out_record(v);
    return 0;
}

int scan_run(int fd, const json_t *spec, struct err *e)
{
    static struct zip z;
    static struct zip_entry x;
    int r = zip_open(&z, fd, (uint64_t)json_get_int(spec, "size", 0), e);
    while (r >= 0 && (r = zip_next(&z, &x, e)) == 1)
        if (x.path[0])
            r = scan_entry(&z, &x, e);
    zip_close(&z);
    return r;
}

static int send_entry(struct zip *z, uint64_t max, const char *path, struct err *e)
{
    uint64_t sent = 0;
    ssize_t n;
    while ((n = zip_read(z, chunk, sizeof chunk, e)) > 0) {
        sent += (uint64_t)n;
        if (sent > max)
            return err_set(e, EBADMSG, "the entry '%.200s' is larger than %llu bytes", path,
                           (unsigned long long)max);
        out_frame(WIRE_FRAME_STDOUT, chunk, (size_t)n);
    }
    return (int)n;
}

int read_run(int fd, const json_t *spec, struct err *e)
{
    static struct zip z;
    static struct zip_entry x;
    const char *path = json_get_str(spec, "path");
    int64_t max = json_get_int(spec, "max", 0);
    if (!path || max <= 0)
        return err_set(e, EINVAL, "read needs a path and a maximum");
    int r = zip_open(&z, fd, (uint64_t)json_get_int(spec, "size", 0), e);
    while (r >= 0 && (r = zip_next(&z, &x, e)) == 1)
        if (strcmp(x.path, path) == 0)
            break;
    if (r == 0)
        r = err_set(e, ENOENT, "the archive has no entry '%.200s'", path);
    else if (r == 1 && x.type != 'f')
        r = err_set(e, EBADMSG, "the entry '%.200s' is not a file", path);
    else if (r == 1)
        r = send_entry(&z, (uint64_t)max, path, e);
    zip_close(&z);
    return r;
}
