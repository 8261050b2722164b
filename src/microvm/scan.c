/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in the zip. The daemon never opens it: a throw-away build machine lists the entries and
 * hands out the Dockerfile and .dockerignore, and what it says is checked like anything else a
 * guest says. The answer is remembered per digest of the zip (<data>/scans/<sha256>.json), so an
 * unchanged context needs no machine.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "image/config.h"
#include "image/ignore.h"
#include "image/reference.h"
#include "microvm/build.h"
#include "proto/wire.h"

#define SCAN_TIMEOUT_MS (10 * 60 * 1000)
#define SCAN_MAX_BYTES (64U << 20)

struct scan {
    json_t *records; /* array of record texts */
    struct buf file; /* of the file being read */
    size_t bytes;
};

static int on_record(int type, const struct buf *payload, void *arg)
{
    struct scan *sc = arg;
    if (type != WIRE_FRAME_RECORD)
        return 0;
    sc->bytes += payload->len;
    if (sc->bytes > SCAN_MAX_BYTES || json_array_size(sc->records) >= CONTEXT_MAX_ENTRIES)
        return -EMSGSIZE;
    json_t *text = json_stringn(payload->data, payload->len); /* NULL unless UTF-8 */
    return json_array_append_new(sc->records, text) < 0 ? -EINVAL : 0;
}

static int on_file_bytes(int type, const struct buf *payload, void *arg)
{
    struct scan *sc = arg;
    return type == WIRE_FRAME_STDOUT ? buf_add(&sc->file, payload->data, payload->len) : 0;
}

/* 1 with the text in sc->file, 0 when the archive has no such file. */
static int read_file(struct build *b, struct agent *a, struct scan *sc, const char *path,
                     struct err *e)
{
    struct agent_exec_result x;
    char quoted[64];
    bool found = false;
    size_t i;
    const json_t *v;
    snprintf(quoted, sizeof quoted, "\"%s\"", path);
    json_array_foreach (sc->records, i, v) { /* the exact check is context_find()'s, later */
        found = found || strstr(json_string_value(v), quoted);
    }
    if (!found)
        return 0;
    CLEANUP(cleanup_json)
    json_t *body = json_pack("{s:i,s:I,s:s,s:i}", "disk", SLOT_CONTEXT, "size",
                             (json_int_t)b->zip_size, "path", path, "max", DOCKERFILE_MAX_BYTES);
    struct frame_talk t = {.path = WIRE_BUILD_READ,
                           .spec = body,
                           .spec_is_body = true,
                           .timeout_ms = SCAN_TIMEOUT_MS,
                           .on_frame = on_file_bytes,
                           .arg = sc};
    buf_clear(&sc->file);
    int r = build_talk(a, &t, &x, e);
    if (r < 0)
        return r;
    return x.exit_code == 0 ? 1 : err_set(e, EIO, "ARCHIVE_INVALID: cannot read %s", path);
}

static int add_text(struct build *b, struct agent *a, struct scan *sc, json_t *result,
                    const char *path, struct err *e)
{
    int r = read_file(b, a, sc, path, e);
    if (r <= 0)
        return r;
    json_t *text = json_stringn(sc->file.data ? sc->file.data : "", sc->file.len);
    if (!text)
        return err_set(e, EINVAL, "%s is not UTF-8 text", path);
    json_object_set_new(result, path, text);
    return 0;
}

static int scan_in_machine(struct build *b, json_t **ret, struct err *e)
{
    struct builder m;
    struct builder_disks d = {.context = b->zip};
    struct agent_exec_result x = {0};
    int r = builder_start(b->service, &d, &m, e);
    if (r < 0)
        return r;
    CLEANUP(cleanup_json)
    json_t *result = json_object();
    struct scan sc = {.records = json_array(), .file = BUF_INIT(DOCKERFILE_MAX_BYTES)};
    json_object_set_new(result, "records", sc.records);
    CLEANUP(cleanup_json)
    json_t *body = json_pack("{s:i,s:I}", "disk", SLOT_CONTEXT, "size", (json_int_t)b->zip_size);
    struct frame_talk t = {.path = WIRE_BUILD_SCAN,
                           .spec = body,
                           .spec_is_body = true,
                           .timeout_ms = SCAN_TIMEOUT_MS,
                           .on_frame = on_record,
                           .arg = &sc};
    r = build_talk(m.agent, &t, &x, e);
    if (r == 0 && x.exit_code != 0)
        r = err_set(e, EIO, "ARCHIVE_INVALID: the archive could not be read");
    if (r == 0)
        r = add_text(b, m.agent, &sc, result, "Dockerfile", e);
    if (r == 0)
        r = add_text(b, m.agent, &sc, result, ".dockerignore", e);
    r = builder_explain(&m, r, e);
    builder_stop(&m);
    buf_done(&sc.file);
    if (r == 0)
        *ret = TAKE(result);
    return r;
}

static int load_or_scan(struct build *b, json_t **ret, struct err *e)
{
    char path[1024];
    CLEANUP(buf_done)
    struct buf text = BUF_INIT(2 * SCAN_MAX_BYTES);
    snprintf(path, sizeof path, "%s/scans/%s.json", b->service->cfg.data_dir, b->zip_sha256);
    if (fs_exists(path) && fs_read_file(path, &text, NULL) == 0 &&
        json_parse(text.data, text.len, text.max, ret, NULL) == 0)
        return 0;
    int r = scan_in_machine(b, ret, e);
    if (r < 0)
        return r;
    CLEANUP(cleanup_free)
    char *out = json_text(*ret);
    return fs_write_file(path, out, strlen(out), 0600, e);
}

static int fill_context(struct build *b, const json_t *scan, struct err *e)
{
    size_t i;
    const json_t *v;
    int r = 0;
    b->context = context_new();
    json_array_foreach (json_object_get(scan, "records"), i, v) {
        if (r == 0)
            r = context_add_record(b->context, json_string_value(v), json_string_length(v), e);
    }
    if (r == 0)
        r = context_seal(b->context, e);
    return r < 0 ? err_wrap(e, "ARCHIVE_INVALID") : 0;
}

static int apply_ignore(struct build *b, const json_t *scan, struct err *e)
{
    const json_t *text = json_object_get(scan, ".dockerignore");
    struct ignore *rules = NULL;
    if (!text)
        return 0;
    int r = ignore_parse(json_string_value(text), json_string_length(text), &rules, e);
    if (r == 0)
        r = context_apply_ignore(b->context, rules, e);
    ignore_free(rules);
    return r;
}

/* FROM: the managed root file system, named by the digest the guest kit's manifest gives it. */
static int resolve_base(void *arg, const char *ref, struct plan_base *ret, struct err *e)
{
    struct build *b = arg;
    const char *name;
    char path[1024];
    CLEANUP(buf_done)
    struct buf text = BUF_INIT(1 << 20);
    CLEANUP(cleanup_json)
    json_t *manifest = NULL;
    int r = reference_managed(ref, NULL, 0, &name, e);
    if (r < 0)
        return r;
    snprintf(path, sizeof path, "%s/manifest.json", b->service->cfg.guest_dir);
    r = fs_read_file(path, &text, e);
    if (r == 0)
        r = json_parse(text.data, text.len, text.max, &manifest, e);
    if (r < 0)
        return err_wrap(e, "guest kit");
    char file[64];
    snprintf(file, sizeof file, "%.40s.ext4", name);
    for (char *c = file; *c; c++)
        if (*c == ':')
            *c = '-';
    const json_t *artefact = json_object_get(json_object_get(manifest, "artefacts"), file);
    const char *sha = json_get_str(artefact, "sha256");
    if (!sha)
        return err_set(e, ENOENT, "the guest kit has no %s: run guest/assemble", file);
    snprintf(b->base_disk, sizeof b->base_disk, "%s/%s", b->service->cfg.guest_dir, file);
    snprintf(ret->id, sizeof ret->id, "%s", sha);
    ret->config = json_pack("{s:[s],s:[s]}", "Env", "PATH=" CONFIG_DEFAULT_PATH, "Cmd", "bash");
    return 0;
}

int build_scan(struct build *b, struct err *e)
{
    int64_t start = clock_mono_ms();
    CLEANUP(cleanup_json)
    json_t *scan = NULL;
    int r = load_or_scan(b, &scan, e);
    if (r == 0)
        r = fill_context(b, scan, e);
    if (r < 0)
        return r;
    const json_t *text = json_object_get(scan, "Dockerfile");
    if (!text || !context_find(b->context, "Dockerfile"))
        return err_set(e, ENOENT,
                       "ARCHIVE_DOCKERFILE_NOT_FOUND: the archive has no Dockerfile at its root");
    r = apply_ignore(b, scan, e);
    if (r == 0)
        r = dockerfile_parse(json_string_value(text), json_string_length(text), &b->dockerfile, e);
    if (r < 0)
        return r;
    struct plan_options o = {.arch = "amd64", .resolve = resolve_base, .resolve_arg = b};
    r = plan_make(b->dockerfile, b->context, &o, &b->plan, e);
    if (r < 0)
        return r;
    for (size_t i = 0; i < b->plan->n_notes; i++)
        log_file_printf(b->log, "Dockerfile:%u: note: %s", b->plan->notes[i].line,
                        b->plan->notes[i].text);
    build_phase(b, "scan", start);
    return 0;
}
