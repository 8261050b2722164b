/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plan, step by step: one thawed build machine per step that is not in the cache. A step sees a
 * copy-on-write disk over the previous step's and nothing else of ours; when it has finished and
 * the guest has unmounted, that disk becomes the step's layer.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "microvm/build.h"
#include "proto/wire.h"

#define STEP_TIMEOUT_MS (60 * 60 * 1000)
#define DRAIN_TIMEOUT_MS 10000
#define CA_BUNDLE_MAX (2U << 20)

/* ---- talking in frames ------------------------------------------------------------------------
 */

static int read_error(const struct buf *payload, struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *v = NULL;
    if (json_parse(payload->data, payload->len, WIRE_MAX_FRAME_DATA, &v, NULL) < 0)
        return err_set(e, EPROTO, "the guest sent an unreadable error");
    const char *code = json_get_str(v, "code"), *text = json_get_str(v, "message");
    bool plain = !code || strcmp(code, "INTERNAL") == 0;
    bool full = code && strcmp(code, "DISK_FULL") == 0;
    return err_set(e, full ? ENOSPC : EIO, "%s%s%s",
                   full    ? "DISK_STORAGE_FULL"
                   : plain ? ""
                           : code,
                   plain ? "" : ": ", text ? text : "the guest reported an error");
}

static int read_exit(const struct buf *payload, struct agent_exec_result *ret, struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *v = NULL;
    if (json_parse(payload->data, payload->len, WIRE_MAX_FRAME_DATA, &v, NULL) < 0)
        return err_set(e, EPROTO, "the guest sent an unreadable exit status");
    ret->exit_code = (int)json_get_int(v, "exitCode", 255);
    ret->signal = (int)json_get_int(v, "signal", 0);
    return 0;
}

/* One talk under way. Input goes out while there is room for it and output is read in between: a
 * guest that reads nothing until it got rid of its output stops nobody, and one that does neither
 * runs into the deadline. */
struct talk {
    struct agent_stream *st;
    const struct frame_talk *t;
    struct agent_exec_result *ret;
    int64_t deadline;
    size_t sent;
    bool all_sent;
};

#define ROOM_POLL_MS 20

static int send_some(struct talk *k, struct err *e)
{
    const struct frame_talk *t = k->t;
    int r = 0;
    while (r >= 0 && !k->all_sent && agent_stream_room(k->st)) {
        size_t left = t->input_n - k->sent;
        size_t n = left < WIRE_MAX_FRAME_DATA ? left : WIRE_MAX_FRAME_DATA;
        if (n) {
            r = agent_stream_send(k->st, WIRE_FRAME_STDIN, t->input + k->sent, n, e);
            k->sent += n;
            continue;
        }
        if (!t->spec_is_body)
            r = agent_stream_send(k->st, WIRE_FRAME_STDIN_END, NULL, 0, e);
        if (r >= 0)
            r = agent_stream_send_end(k->st, e);
        k->all_sent = true;
    }
    return r;
}

/* As agent_stream_next(), sending meanwhile. */
static int next_frame(struct talk *k, struct buf *p, struct err *e)
{
    for (;;) {
        int r = send_some(k, NULL); /* a refusal explains itself in what the guest sends */
        int64_t left = k->deadline - clock_mono_ms();
        int wait = left < 0 ? 0 : (int)left;
        if (r >= 0 && !k->all_sent && wait > ROOM_POLL_MS)
            wait = ROOM_POLL_MS;
        int type = agent_stream_next(k->st, p, wait, e);
        if (type != -ETIMEDOUT)
            return type;
        if (left <= 0)
            return err_set(e, ETIMEDOUT, "timed out after %d s", k->t->timeout_ms / 1000);
    }
}

/* Until the end of the stream: only then has the guest let go of the step. */
static int drain(struct talk *k, struct buf *p, struct err *e)
{
    int64_t soon = clock_mono_ms() + DRAIN_TIMEOUT_MS;
    int type;
    if (soon < k->deadline)
        k->deadline = soon;
    do
        type = next_frame(k, p, e);
    while (type > 0 && clock_mono_ms() < k->deadline);
    return type > 0 ? err_set(e, EPROTO, "the guest does not end the stream") : type;
}

static int follow(struct talk *k, struct err *e)
{
    CLEANUP(buf_done)
    struct buf p = BUF_INIT(WIRE_MAX_FRAME_DATA);
    for (;;) {
        int type = next_frame(k, &p, e);
        if (type < 0)
            return type;
        if (type == 0)
            return err_set(e, EPROTO, "the guest ended the stream early");
        if (type == WIRE_FRAME_EXIT) {
            int r = read_exit(&p, k->ret, e);
            return r < 0 ? r : drain(k, &p, e);
        }
        if (type == WIRE_FRAME_ERROR)
            return read_error(&p, e);
        int r = k->t->on_frame ? k->t->on_frame(type, &p, k->t->arg) : 0;
        if (r < 0)
            return err_set_errno(e, -r, "what the guest sent");
        if (clock_mono_ms() > k->deadline) /* there may always be one more frame */
            return err_set(e, ETIMEDOUT, "timed out after %d s", k->t->timeout_ms / 1000);
    }
}

int build_talk(struct agent *a, const struct frame_talk *t, struct agent_exec_result *ret,
               struct err *e)
{
    struct talk k = {.t = t, .ret = ret, .deadline = clock_mono_ms() + t->timeout_ms};
    CLEANUP(cleanup_free)
    char *spec = json_text(t->spec);
    int r = agent_stream_open(a, "POST", t->path, &k.st, e);
    if (r < 0)
        return r;
    *ret = (struct agent_exec_result){0};
    r = agent_stream_send(k.st, WIRE_FRAME_SPEC, spec, strlen(spec), e);
    if (r >= 0)
        r = follow(&k, e);
    agent_stream_free(k.st);
    return r;
}

/* ---- one step ---------------------------------------------------------------------------------
 */

static int on_output(int type, const struct buf *p, void *arg)
{
    struct build *b = arg;
    if (type == WIRE_FRAME_STDOUT || type == WIRE_FRAME_STDERR)
        log_file_write(b->log, type == WIRE_FRAME_STDERR ? 2 : 1, p->data, p->len);
    return 0;
}

static int mount_stage(struct build *b, struct agent *a, const struct plan_step *s, struct err *e)
{
    CLEANUP(buf_done)
    struct buf ca = BUF_INIT(CA_BUNDLE_MAX);
    bool network = s->kind == PLAN_RUN;
    if (network && b->service->cfg.ca_bundle) {
        int r = fs_read_file(b->service->cfg.ca_bundle, &ca, e);
        if (r < 0)
            return err_wrap(e, "build.ca_bundle");
    }
    CLEANUP(cleanup_json)
    json_t *body =
        json_pack("{s:i,s:o,s:o,s:o}", "stage", SLOT_STAGE, "from",
                  s->kind == PLAN_COPY && s->from >= 0 ? json_integer(SLOT_FROM) : json_null(),
                  "network", network ? guest_network() : json_null(), "caBundle",
                  ca.len ? json_stringn(ca.data, ca.len) : json_null());
    if (!body)
        return err_set(e, EINVAL, "build.ca_bundle is not PEM text");
    return agent_call(a, "POST", WIRE_BUILD_MOUNT, body, 60000, NULL, e);
}

static int make_directories(struct build *b, struct agent *a, const struct plan_step *s,
                            struct err *e)
{
    struct agent_exec_result x;
    if (!s->mkdirs.n)
        return 0;
    CLEANUP(cleanup_json)
    json_t *spec = plan_mkdirs_spec(s, SLOT_CONTEXT, (int64_t)b->zip_size);
    struct frame_talk t = {.path = WIRE_BUILD_COPY,
                           .spec = spec,
                           .timeout_ms = STEP_TIMEOUT_MS,
                           .on_frame = on_output,
                           .arg = b};
    return build_talk(a, &t, &x, e);
}

static int run_command(struct build *b, struct agent *a, const struct plan_step *s, struct err *e)
{
    struct agent_exec_result x;
    CLEANUP(cleanup_json)
    json_t *spec = plan_run_spec(s);
    struct frame_talk t = {.path = WIRE_BUILD_RUN,
                           .spec = spec,
                           .input = s->input,
                           .input_n = s->input ? s->input_n : 0,
                           .timeout_ms = STEP_TIMEOUT_MS,
                           .on_frame = on_output,
                           .arg = b};
    int r = build_talk(a, &t, &x, e);
    if (r == 0 && x.signal)
        r = err_set(e, EIO, "the command was ended by signal %d", x.signal);
    else if (r == 0 && x.exit_code)
        r = err_set(e, EIO, "the command's exit code was %d", x.exit_code);
    return r;
}

static int copy_files(struct build *b, struct agent *a, const struct plan_step *s, struct err *e)
{
    struct agent_exec_result x = {0};
    CLEANUP(buf_done)
    struct buf pairs = BUF_INIT(256U << 20);
    int slot = s->from >= 0 ? SLOT_FROM : SLOT_CONTEXT;
    CLEANUP(cleanup_json)
    json_t *spec = plan_copy_spec(s, slot, (int64_t)b->zip_size);
    int r = 0;
    for (size_t i = 0; r == 0 && i < s->n_pairs; i++)
        r = plan_copy_pair(s, i, &pairs);
    if (r < 0)
        return err_set_errno(e, -r, "list of files to copy");
    struct frame_talk t = {.path = WIRE_BUILD_COPY,
                           .spec = spec,
                           .input = pairs.data,
                           .input_n = pairs.len,
                           .timeout_ms = STEP_TIMEOUT_MS,
                           .on_frame = on_output,
                           .arg = b};
    r = build_talk(a, &t, &x, e);
    return r == 0 && x.exit_code ? err_set(e, EIO, "copy failed") : r;
}

static int carry_out(struct build *b, struct agent *a, const struct plan_step *s, struct err *e)
{
    int r = mount_stage(b, a, s, e);
    if (r == 0)
        r = make_directories(b, a, s, e);
    if (r == 0 && s->kind == PLAN_RUN)
        r = run_command(b, a, s, e);
    if (r == 0 && s->kind == PLAN_COPY)
        r = copy_files(b, a, s, e);
    if (r < 0)
        return r;
    CLEANUP(cleanup_json)
    json_t *empty = json_object();
    return agent_call(a, "POST", WIRE_BUILD_FINISH, empty, 120000, NULL, e);
}

static int run_step(struct build *b, const struct plan_step *s, struct stage_disk *disk,
                    struct err *e)
{
    struct builder m;
    struct builder_disks d = {
        .stage_parent = disk->path,
        .stage_format = disk->format,
        .context = b->zip,
    };
    char overlay[700];
    if (s->kind == PLAN_COPY && s->from >= 0) {
        d.from = b->stages[s->from].path;
        d.from_format = b->stages[s->from].format;
    }
    int r = builder_start(b->service, &d, &m, e);
    if (r < 0)
        return r;
    r = carry_out(b, m.agent, s, e);
    if (r == 0) {
        agent_close(m.agent);
        engine_machine_kill(m.machine); /* everything is flushed: the guest has unmounted */
        snprintf(overlay, sizeof overlay, "%s/stage.overlay", m.dir);
        r = layer_commit(b->service, s->key, overlay, disk->path, sizeof disk->path, e);
        disk->format = ENGINE_DISK_OVERLAY;
    }
    r = builder_explain(&m, r, e);
    builder_stop(&m);
    return r;
}

static int run_stage(struct build *b, size_t i, struct err *e)
{
    const struct plan_stage *st = &b->plan->stages[i];
    struct stage_disk *disk = &b->stages[i];
    log_file_printf(b->log, "%s", st->display);
    if (st->base_stage >= 0)
        *disk = b->stages[st->base_stage];
    else
        snprintf(disk->path, sizeof disk->path, "%s", b->base_disk);
    for (size_t k = 0; k < st->n_steps; k++) {
        const struct plan_step *s = &st->steps[k];
        char cached[sizeof disk->path];
        int64_t start = clock_mono_ms();
        if (layer_find(b->service, s->key, cached, sizeof cached)) {
            memcpy(disk->path, cached, sizeof cached);
            disk->format = ENGINE_DISK_OVERLAY;
            log_file_printf(b->log, "%s: CACHED", s->display);
            continue;
        }
        log_file_printf(b->log, "%s", s->display);
        int r = run_step(b, s, disk, e);
        if (r < 0)
            return err_wrap(e, "Dockerfile:%u: %s", s->line, s->display);
        log_file_printf(b->log, "%s: done in %.1f s", s->display,
                        (double)(clock_mono_ms() - start) / 1000);
    }
    return 0;
}

/* Base first, so that a step is never kept longer than the one it stands on. */
static void touch_layers(struct build *b)
{
    for (size_t i = 0; i < b->plan->n_stages; i++) {
        const struct plan_stage *st = &b->plan->stages[i];
        const char **keys = calloc(st->n_steps + 1, sizeof *keys);
        for (size_t k = 0; keys && k < st->n_steps; k++)
            keys[k] = st->steps[k].key;
        if (keys)
            layers_touch(b->service, keys, st->n_steps);
        free(keys);
    }
}

int build_steps(struct build *b, struct err *e)
{
    int64_t start = clock_mono_ms();
    b->stages = calloc(b->plan->n_stages, sizeof *b->stages);
    if (!b->stages)
        return err_set(e, ENOMEM, "out of memory");
    int r = 0;
    for (size_t i = 0; r == 0 && i < b->plan->n_stages; i++)
        r = run_stage(b, i, e);
    touch_layers(b); /* of a failed build too: what it finished is what the next one begins with */
    if (r == 0)
        build_phase(b, "steps", start);
    return r;
}
