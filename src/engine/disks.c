/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/disks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk/layer.h"
#include "engine/usage.h"

_Static_assert((int)OVERLAY_KEY_LEN == LAYER_KEY_LEN && OVERLAY_PATH_MAX == LAYER_NAME_MAX,
               "one key and one kind of name for both formats");

/* ---- qcow2 -------------------------------------------------------------------------------------
 */

static void qcow2_flatten(struct argv *a, const struct overlay_chain *c, const char *raw)
{
    static const char *const words[] = {"convert", "-n",       "-f", "qcow2", "-O",
                                        "raw",     "-S",       "4k", "-W",    "--target-is-zero",
                                        "-t",      "writeback"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        argv_add(a, words[i]);
    argv_add(a, c->node[0].path);
    argv_add(a, raw);
}

const struct disks_format disks_qcow2 = {
    .maker = "the software engine",
    .create = overlay_create,
    .decode = overlay_decode,
    .is_one = overlay_is_one,
    .program = "qemu-img",
    .flatten = qcow2_flatten,
};

/* ---- layers ------------------------------------------------------------------------------------
 */

static int layers_create(const char *path, const struct overlay_info *in,
                         const struct overlay_key *k, struct err *e)
{
    struct layer_info l = {.bytes = in->bytes, .base_cow = in->base_format == ENGINE_DISK_OVERLAY};
    memcpy(l.base, in->base, sizeof l.base);
    return layer_create(path, &l, k->bytes, e);
}

static int layers_decode(const unsigned char *p, size_t n, const struct overlay_key *k,
                         struct overlay_info *ret, struct err *e)
{
    struct layer_info l;
    int r = layer_verify(p, n, k->bytes, &l, e);
    if (r < 0)
        return r;
    *ret = (struct overlay_info){.bytes = l.bytes,
                                 .base_format = l.base_cow ? ENGINE_DISK_OVERLAY : ENGINE_DISK_RAW};
    memcpy(ret->base, l.base, sizeof ret->base);
    return 0;
}

static void layers_flatten(struct argv *a, const struct overlay_chain *c, const char *raw)
{
    argv_add(a, "flatten");
    argv_add(a, "--output");
    argv_add(a, raw);
    for (unsigned i = 0; i < c->n; i++)
        argv_addf(a, "%s:%s", c->node[i].format == ENGINE_DISK_OVERLAY ? "layer" : "raw",
                  c->node[i].path);
}

const struct disks_format disks_layers = {
    .maker = "the KVM engine",
    .create = layers_create,
    .decode = layers_decode,
    .is_one = layer_is_one,
    .program = "tinderbox-disk",
    .ours = true,
    .flatten = layers_flatten,
};

/* ---- chains ------------------------------------------------------------------------------------
 */

static int refuse_other(const struct disks_format *f, const unsigned char *p, size_t n,
                        struct err *e)
{
    const struct disks_format *other = f == &disks_qcow2 ? &disks_layers : &disks_qcow2;
    if (f->is_one(p, n) || !other->is_one(p, n))
        return 0;
    return err_set(e, EBADMSG,
                   "made by %s, this is %s: rebuild what it belongs to, or set engine.kind",
                   other->maker, f->maker);
}

static int read_head(const struct disks_format *f, int fd, const struct overlay_key *k,
                     struct overlay_info *ret, struct err *e)
{
    unsigned char head[LAYER_BLOCK];
    ssize_t n = pread(fd, head, sizeof head, 0);
    if (n < 0)
        return err_set_errno(e, errno, "read");
    int r = refuse_other(f, head, (size_t)n, e);
    return r < 0 ? r : f->decode(head, (size_t)n, k, ret, e);
}

/* Appends one node; for an overlay *next says what is below. */
static int chain_step(const struct disks_format *f, const char *path,
                      enum engine_disk_format format, const struct overlay_key *k,
                      struct overlay_chain *c, struct overlay_info *next, struct err *e)
{
    CLEANUP(cleanup_close)
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set_errno(e, errno, "disk %s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(e, EINVAL, "disk %s is not a regular file", path);
    uint64_t bytes = (uint64_t)st.st_size;
    if (format == ENGINE_DISK_OVERLAY) {
        if (read_head(f, fd, k, next, e) < 0)
            return err_wrap(e, "disk %s", path);
        bytes = next->bytes;
    }
    if (c->n == 0)
        c->bytes = bytes;
    if (!(c->node[c->n].path = strdup(path)))
        return err_set(e, ENOMEM, "out of memory");
    c->node[c->n++].format = format;
    return 0;
}

int disks_chain_read(const struct disks_format *f, const char *path, enum engine_disk_format format,
                     const struct overlay_key *k, struct overlay_chain *ret, struct err *e)
{
    struct overlay_info next;
    *ret = (struct overlay_chain){0};
    if (path[0] != '/')
        return err_set(e, EINVAL, "disk path %s is not absolute", path);
    int r = chain_step(f, path, format, k, ret, &next, e);
    while (r == 0 && format == ENGINE_DISK_OVERLAY) {
        if (ret->n == OVERLAY_CHAIN_MAX) {
            r = err_set(e, EINVAL, "disk %s has more than %d layers", path, OVERLAY_CHAIN_MAX - 1);
            break;
        }
        struct overlay_info here = next;
        format = here.base_format;
        r = chain_step(f, here.base, format, k, ret, &next, e);
    }
    if (r < 0)
        disks_chain_done(ret);
    return r;
}

void disks_chain_done(struct overlay_chain *c)
{
    for (unsigned i = 0; i < c->n; i++)
        free(c->node[i].path);
    *c = (struct overlay_chain){0};
}

static int virtual_size(const struct disks_format *f, const char *path,
                        enum engine_disk_format format, const struct overlay_key *k, uint64_t *ret,
                        struct err *e)
{
    struct overlay_chain chain;
    int r = disks_chain_read(f, path, format, k, &chain, e);
    *ret = chain.bytes;
    disks_chain_done(&chain);
    return r;
}

int disks_overlay(const struct disks_format *f, const char *path, const char *base,
                  enum engine_disk_format base_format, uint64_t bytes, const struct overlay_key *k,
                  struct err *e)
{
    struct overlay_info info = {.bytes = bytes, .base_format = base_format};
    if (base[0] != '/' || strlen(base) > OVERLAY_PATH_MAX)
        return err_set(e, EINVAL, "disk %s: the base needs an absolute path of at most %d bytes",
                       path, OVERLAY_PATH_MAX);
    memcpy(info.base, base, strlen(base) + 1);
    int r = bytes ? 0 : virtual_size(f, base, base_format, k, &info.bytes, e);
    return r < 0 ? r : f->create(path, &info, k, e);
}

/* ---- of a machine ------------------------------------------------------------------------------
 */

int disks_read(const struct disks_format *f, const struct engine_spec *s,
               const struct overlay_key *k, struct overlay_chain *chain, bool *read_only,
               struct err *e)
{
    for (unsigned i = 0; i < s->n_disks; i++) {
        int r = disks_chain_read(f, s->disks[i].path, s->disks[i].format, k, &chain[i], e);
        if (r < 0)
            return r;
        read_only[i] = s->disks[i].read_only;
    }
    return 0;
}

void disks_done(struct overlay_chain *chain)
{
    for (unsigned i = 0; i < ENGINE_DISKS_MAX; i++)
        disks_chain_done(&chain[i]);
}

int disks_sync(const struct overlay_chain *chain, const bool *read_only, unsigned n, struct err *e)
{
    for (unsigned i = 0; i < n; i++) {
        if (read_only[i])
            continue;
        CLEANUP(cleanup_close)
        int fd = open(chain[i].node[0].path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fdatasync(fd) < 0)
            return err_set_errno(e, errno, "sync %s", chain[i].node[0].path);
    }
    return 0;
}

uint64_t disks_written(const struct overlay_chain *chain, const bool *read_only, unsigned n)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < n; i++)
        if (!read_only[i])
            sum += usage_file(chain[i].node[0].path);
    return sum;
}
