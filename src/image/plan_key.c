/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cache keys and wire requests. A key is the SHA-256 of one canonical JSON text (members sorted,
 * no spaces) of the parent's key and everything else that can change what the step leaves on the
 * disk. What the user only reads (display, line) is not in it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/encode.h"
#include "base/json.h"
#include "image/paths.h"
#include "image/plan_internal.h"
#include "proto/wire.h"

static void must(int r)
{
    if (r < 0)
        abort(); /* jansson fails here only without memory: all texts are valid UTF-8 by now */
}

static void set(json_t *o, const char *key, json_t *v)
{
    must(json_object_set_new(o, key, v));
}

static json_t *text_or_null(const char *s)
{
    return s ? json_string(s) : json_null();
}

static json_t *list_json(const struct strlist *l)
{
    json_t *a = json_array();
    for (size_t i = 0; i < l->n; i++)
        must(json_array_append_new(a, json_string(l->v[i])));
    return a;
}

static void hash_json(json_t *o, char out[SHA256_HEX_LEN + 1])
{
    char *text = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
    if (!text)
        abort();
    sha256_hex_of(text, strlen(text), out);
    free(text);
    json_decref(o);
}

void plan_key_base(const char *id, char out[SHA256_HEX_LEN + 1])
{
    json_t *o = json_object();
    set(o, "v", json_integer(PLAN_KEY_VERSION));
    set(o, "base", json_string(id));
    hash_json(o, out);
}

static void hash_text(struct sha256 *h, const char *s)
{
    sha256_add(h, s, strlen(s) + 1); /* with its NUL: no two lists of texts look alike */
}

/* There may be 100000 pairs: they are hashed one by one, and the sum goes into the key. */
static json_t *pairs_json(const struct plan_step *s)
{
    struct sha256 *h = sha256_new();
    unsigned char sum[SHA256_LEN];
    char hex[SHA256_HEX_LEN + 1];
    for (size_t i = 0; i < s->n_pairs; i++) {
        const struct context_entry *c = s->pairs[i].entry;
        char head[32];
        snprintf(head, sizeof head, "%d %o", (int)c->type, c->mode);
        hash_text(h, head);
        /* A single file keeps its name when its destination turns out to be a directory. */
        hash_text(h, s->dest_is_dir ? s->pairs[i].target : paths_base(c->path));
        hash_text(h, c->type == CONTEXT_FILE ? c->sha256 : c->target ? c->target : "");
    }
    sha256_end(h, sum);
    hex_encode(hex, sum, sizeof sum);
    return json_string(hex);
}

static void key_run(json_t *o, const struct plan_step *s)
{
    set(o, "args", list_json(&s->args));
    set(o, "env", list_json(&s->env));
    set(o, "cwd", json_string(s->cwd));
    set(o, "user", json_string(s->user));
    if (s->input) {
        char hex[SHA256_HEX_LEN + 1];
        sha256_hex_of(s->input, s->input_n, hex);
        set(o, "input", json_string(hex));
    }
}

static void key_copy(json_t *o, const struct plan *p, const struct plan_step *s)
{
    if (s->from >= 0) {
        set(o, "from", json_string(plan_stage_key(&p->stages[s->from])));
        set(o, "sources", list_json(&s->sources));
    } else {
        set(o, "pairs", pairs_json(s));
    }
    set(o, "dest", json_string(s->dest));
    set(o, "destIsDir", json_boolean(s->dest_is_dir));
    set(o, "chown", text_or_null(s->chown));
    set(o, "chmod", text_or_null(s->chmod));
    set(o, "extract", json_boolean(s->extract));
}

void plan_key_step(const struct plan *p, const char *parent, const struct plan_step *s,
                   char out[SHA256_HEX_LEN + 1])
{
    static const char *const kinds[] = {"run", "copy", "mkdir"};
    json_t *o = json_object();
    set(o, "v", json_integer(PLAN_KEY_VERSION));
    set(o, "parent", json_string(parent));
    set(o, "step", json_string(kinds[s->kind]));
    set(o, "mkdirs", list_json(&s->mkdirs));
    if (s->kind == PLAN_RUN)
        key_run(o, s);
    else if (s->kind == PLAN_COPY)
        key_copy(o, p, s);
    hash_json(o, out);
}

/* ---- requests ---- */

json_t *plan_run_spec(const struct plan_step *s)
{
    json_t *o = json_object();
    set(o, "args", list_json(&s->args));
    set(o, "env", list_json(&s->env));
    set(o, "cwd", json_string(s->cwd));
    set(o, "user", json_string(s->user));
    set(o, "tty", json_false());
    return o;
}

static json_t *copy_spec(const char *source, int disk, int64_t size, const char *dest)
{
    json_t *o = json_object();
    set(o, "source", json_string(source));
    set(o, "disk", json_integer(disk));
    set(o, "size", json_integer(size));
    set(o, "dest", json_string(dest));
    set(o, "workdir", json_string("/"));
    return o;
}

json_t *plan_mkdirs_spec(const struct plan_step *s, int disk, int64_t size)
{
    json_t *o = copy_spec("context", disk, size, "/");
    set(o, "destIsDir", json_true());
    set(o, "chown", json_null());
    set(o, "chmod", json_null());
    set(o, "sources", json_array());
    set(o, "mkdirs", list_json(&s->mkdirs));
    set(o, "extract", json_false());
    return o;
}

json_t *plan_copy_spec(const struct plan_step *s, int disk, int64_t size)
{
    json_t *o = copy_spec(s->from < 0 ? "context" : "stage", disk, size, s->dest);
    set(o, "destIsDir", json_boolean(s->dest_is_dir));
    set(o, "chown", text_or_null(s->chown));
    set(o, "chmod", text_or_null(s->chmod));
    set(o, "sources", list_json(&s->sources));
    set(o, "mkdirs", list_json(&s->mkdirs));
    set(o, "extract", json_boolean(s->extract));
    return o;
}

int plan_copy_pair(const struct plan_step *s, size_t i, struct buf *out)
{
    json_t *pair = json_array();
    must(json_array_append_new(pair, json_string(s->pairs[i].entry->path)));
    must(json_array_append_new(pair, json_string(s->pairs[i].target)));
    char *text = json_text(pair);
    json_decref(pair);
    int r = buf_adds(out, text);
    free(text);
    return r < 0 ? r : buf_add(out, "\n", 1);
}
