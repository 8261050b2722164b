/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text is {"body": {...}, "sha256": "..."}: the digest covers the compact, key-sorted form of
 * the body, so that a flipped bit in the manifest itself is as visible as one in the files it
 * lists.
 */
#include "engine/manifest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

static const char *const kind_names[] = {"snapshot", "suspended"};
static const char *const digest_names[] = {"sha256", "sparse-sha256"};

static char *canonical(const json_t *body)
{
    char *s = json_dumps(body, JSON_COMPACT | JSON_SORT_KEYS);
    if (!s)
        abort();
    return s;
}

static json_t *encode_body(const struct manifest *m)
{
    json_t *disks = json_array(), *files = json_array();
    for (unsigned i = 0; i < m->n_disks; i++)
        json_array_append_new(disks, json_integer((json_int_t)m->disk_bytes[i]));
    for (unsigned i = 0; i < m->n_files; i++)
        json_array_append_new(files, json_pack("{s:s, s:I, s:s, s:s}", "name", m->files[i].name,
                                               "bytes", (json_int_t)m->files[i].bytes, "algorithm",
                                               digest_names[m->files[i].how], "digest",
                                               m->files[i].digest));
    return json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:b, s:o, s:o}", "format",
                     MANIFEST_FORMAT, "kind", kind_names[m->kind], "engine", m->engine,
                     "engineVersion", m->engine_version, "cpu", m->cpu, "machine", m->machine,
                     "memoryMiB", (json_int_t)m->memory_mib, "vcpus", (json_int_t)m->vcpus,
                     "tscKHz", (json_int_t)m->tsc_khz, "network", m->network, "diskBytes", disks,
                     "files", files);
}

int manifest_encode(const struct manifest *m, struct buf *out, struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *body = encode_body(m);
    if (!body)
        return err_set(e, ENOMEM, "manifest cannot be written");
    char hex[SHA256_HEX_LEN + 1];
    char *text = canonical(body);
    sha256_hex_of(text, strlen(text), hex);
    int r = buf_addf(out, "{\"body\":%s,\n\"sha256\":\"%s\"}\n", text, hex);
    free(text);
    return r < 0 ? err_set_errno(e, -r, "manifest cannot be written") : 0;
}

static int damaged(struct err *e, const char *what)
{
    return err_set(e, EBADMSG, "damaged manifest: %s", what);
}

static bool get_text(const json_t *o, const char *key, char *out, size_t cap)
{
    const json_t *v = json_object_get(o, key);
    size_t n = json_is_string(v) ? json_string_length(v) : 0;
    if (!n || n >= cap || memchr(json_string_value(v), '\0', n))
        return false;
    memcpy(out, json_string_value(v), n + 1);
    return true;
}

static bool get_number(const json_t *o, const char *key, uint64_t max, uint64_t *ret)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0 || (uint64_t)json_integer_value(v) > max)
        return false;
    *ret = (uint64_t)json_integer_value(v);
    return true;
}

static bool get_name(const json_t *o, const char *key, const char *const *names, unsigned n,
                     unsigned *ret)
{
    const char *s = json_get_str(o, key);
    for (unsigned i = 0; s && i < n; i++)
        if (strcmp(s, names[i]) == 0) {
            *ret = i;
            return true;
        }
    return false;
}

static bool is_hex_digest(const char *s)
{
    return strlen(s) == SHA256_HEX_LEN && strspn(s, "0123456789abcdef") == SHA256_HEX_LEN;
}

static bool decode_files(const json_t *files, struct manifest *m)
{
    if (!json_is_array(files) || json_array_size(files) > MANIFEST_FILES_MAX)
        return false;
    for (; m->n_files < json_array_size(files); m->n_files++) {
        const json_t *o = json_array_get(files, m->n_files);
        struct manifest_file *f = &m->files[m->n_files];
        unsigned how;
        if (!get_text(o, "name", f->name, sizeof f->name) ||
            !get_number(o, "bytes", UINT64_C(1) << 48, &f->bytes) ||
            !get_name(o, "algorithm", digest_names, ARRAY_LEN(digest_names), &how) ||
            !get_text(o, "digest", f->digest, sizeof f->digest) || !is_hex_digest(f->digest))
            return false;
        /* Names are joined to a directory. */
        if (f->name[strspn(f->name, "abcdefghijklmnopqrstuvwxyz-")])
            return false;
        f->how = (enum manifest_digest)how;
    }
    return true;
}

static bool decode_disks(const json_t *disks, struct manifest *m)
{
    if (!json_is_array(disks) || json_array_size(disks) > ENGINE_DISKS_MAX)
        return false;
    for (; m->n_disks < json_array_size(disks); m->n_disks++) {
        const json_t *v = json_array_get(disks, m->n_disks);
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return false;
        m->disk_bytes[m->n_disks] = (uint64_t)json_integer_value(v);
    }
    return true;
}

static bool decode_body(const json_t *b, struct manifest *m)
{
    uint64_t memory, vcpus;
    unsigned kind;
    const json_t *network = json_object_get(b, "network");
    if (!get_name(b, "kind", kind_names, ARRAY_LEN(kind_names), &kind) ||
        !get_text(b, "engine", m->engine, sizeof m->engine) ||
        !get_text(b, "engineVersion", m->engine_version, sizeof m->engine_version) ||
        !get_text(b, "cpu", m->cpu, sizeof m->cpu) ||
        !get_text(b, "machine", m->machine, sizeof m->machine) || !is_hex_digest(m->machine) ||
        !get_number(b, "memoryMiB", 1 << 20, &memory) || !get_number(b, "vcpus", 256, &vcpus) ||
        !get_number(b, "tscKHz", UINT64_C(1) << 32, &m->tsc_khz) || !json_is_boolean(network))
        return false;
    m->kind = (enum manifest_kind)kind;
    m->memory_mib = (unsigned)memory;
    m->vcpus = (unsigned)vcpus;
    m->network = json_is_true(network);
    return decode_disks(json_object_get(b, "diskBytes"), m) &&
           decode_files(json_object_get(b, "files"), m);
}

static bool digest_holds(const json_t *root, const json_t *body)
{
    const char *want = json_get_str(root, "sha256");
    char hex[SHA256_HEX_LEN + 1];
    char *text = canonical(body);
    sha256_hex_of(text, strlen(text), hex);
    free(text);
    return want && strcmp(want, hex) == 0;
}

int manifest_decode(const char *p, size_t n, struct manifest *ret, struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *root = NULL;
    struct err why = {0};
    if (json_parse(p, n, MANIFEST_MAX, &root, &why) < 0)
        return damaged(e, why.text);
    const json_t *body = json_object_get(root, "body");
    if (!json_is_object(body))
        return damaged(e, "no body");
    if (!digest_holds(root, body))
        return damaged(e, "its digest does not match its text");
    int64_t format = json_get_int(body, "format", -1);
    if (format != MANIFEST_FORMAT)
        return err_set(e, EBADMSG, "snapshot format %lld, this version reads format %d",
                       (long long)format, MANIFEST_FORMAT);
    struct manifest m = {0};
    if (!decode_body(body, &m))
        return damaged(e, "a member is missing or out of range");
    *ret = m;
    return 0;
}

static int compare_disks(const struct manifest *have, const struct manifest *need, struct err *e)
{
    if (have->n_disks != need->n_disks)
        return err_set(e, EBADMSG, "the snapshot has %u disks, this machine %u", have->n_disks,
                       need->n_disks);
    for (unsigned i = 0; i < have->n_disks; i++)
        if (have->disk_bytes[i] != need->disk_bytes[i])
            return err_set(e, EBADMSG, "disk %u had %llu bytes in the snapshot and has %llu now", i,
                           (unsigned long long)have->disk_bytes[i],
                           (unsigned long long)need->disk_bytes[i]);
    return 0;
}

int manifest_compare(const struct manifest *have, const struct manifest *need, struct err *e)
{
    if (strcmp(have->engine, need->engine) != 0)
        return err_set(e, EBADMSG, "the snapshot was made by engine %s, this is %s: %s",
                       have->engine, need->engine,
                       have->kind == MANIFEST_SNAPSHOT ? "rebuild the image, or set engine.kind"
                                                       : "set engine.kind to go on with it");
    if (strcmp(have->engine_version, need->engine_version) != 0)
        return err_set(e, EBADMSG, "the snapshot was made by %s %s, this is %s", have->engine,
                       have->engine_version, need->engine_version);
    if (strcmp(have->cpu, need->cpu) != 0)
        return err_set(e, EBADMSG, "the snapshot needs CPU %s, this machine has %s", have->cpu,
                       need->cpu);
    if (have->memory_mib != need->memory_mib)
        return err_set(e, EBADMSG, "the snapshot has %u MiB of memory, this machine %u",
                       have->memory_mib, need->memory_mib);
    if (have->vcpus != need->vcpus)
        return err_set(e, EBADMSG, "the snapshot has %u processors, this machine %u", have->vcpus,
                       need->vcpus);
    if (have->network != need->network)
        return err_set(e, EBADMSG, "the snapshot was made %s a network, this machine has %s",
                       have->network ? "with" : "without", need->network ? "one" : "none");
    int r = compare_disks(have, need, e);
    if (r < 0)
        return r;
    /* The guest keeps time by the rate it was told at boot: 0.5 % off is minutes per day. */
    uint64_t a = have->tsc_khz, b = need->tsc_khz, gap = a > b ? a - b : b - a;
    if (gap > b / 200)
        return err_set(e, EBADMSG,
                       "the snapshot's time stamp counter ran at %llu kHz, this "
                       "processor's runs at %llu kHz",
                       (unsigned long long)a, (unsigned long long)b);
    if (strcmp(have->machine, need->machine) != 0)
        return err_set(e, EBADMSG, "the snapshot was made with other virtual hardware");
    return 0;
}

int manifest_add_file(struct manifest *m, const char *name, uint64_t bytes,
                      enum manifest_digest how, const char *digest, struct err *e)
{
    struct manifest_file *f = &m->files[m->n_files];
    if (m->n_files == MANIFEST_FILES_MAX || strlen(name) >= sizeof f->name)
        return err_set(e, EINVAL, "too many files in a snapshot");
    *f = (struct manifest_file){.bytes = bytes, .how = how};
    strcpy(f->name, name);
    memcpy(f->digest, digest, sizeof f->digest);
    m->n_files++;
    return 0;
}

const struct manifest_file *manifest_find(const struct manifest *m, const char *name)
{
    for (unsigned i = 0; i < m->n_files; i++)
        if (strcmp(m->files[i].name, name) == 0)
            return &m->files[i];
    return NULL;
}
