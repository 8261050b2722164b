/* SPDX-License-Identifier: Apache-2.0 */
/* What is said to the agent of a machine, in one place: names and shapes are proto/wire.h's. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/digest.h"
#include "base/encode.h"
#include "microvm/internal.h"
#include "proto/wire.h"

int guest_connect(struct microvm_service *s, struct engine_machine *m, int timeout_ms,
                  struct agent **ret, struct err *e)
{
    int fd = engine_channel(m, e);
    if (fd < 0)
        return err_wrap(e, "guest channel");
    return agent_open(s->cfg.loop, fd, timeout_ms, ret, e);
}

json_t *guest_network(void)
{
    return json_pack("{s:s,s:i,s:s,s:s}", "address", NET_GUEST_ADDRESS, "prefix", NET_GUEST_PREFIX,
                     "gateway", NET_GATEWAY, "dns", NET_DNS);
}

int guest_resumed(struct agent *a, const char *identity, enum guest_past past, struct err *e)
{
    unsigned char seed[64];
    char machine_id[SHA256_HEX_LEN + 1];
    CLEANUP(buf_done)
    struct buf entropy = BUF_INIT(0);
    random_bytes(seed, sizeof seed);
    if (base64_encode(&entropy, seed, sizeof seed) < 0)
        return err_set(e, ENOMEM, "out of memory");
    sha256_hex_of(identity, strlen(identity), machine_id);
    machine_id[32] = '\0'; /* machine-id(5): 32 lower-case hex digits */
    char hostname[24];
    snprintf(hostname, sizeof hostname, "vm-%.12s", machine_id);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    json_int_t ns = (json_int_t)now.tv_sec * 1000000000 + now.tv_nsec;
    CLEANUP(cleanup_json)
    json_t *body = json_pack("{s:I,s:s,s:b,s:b}", "timeNs", ns, "entropy", entropy.data, "clone",
                             past == GUEST_CLONED, "disconnected", past != GUEST_STAYED);
    if (past == GUEST_CLONED) {
        json_object_set_new(body, "hostname", json_string(hostname));
        json_object_set_new(body, "machineId", json_string(machine_id));
    }
    int r = agent_call(a, "POST", WIRE_RESUMED, body, 10000, NULL, e);
    return r < 0 ? err_wrap(e, "guest after restore") : 0;
}

int guest_hook(struct agent *a, uint16_t port, const char *name, const json_t *body, int timeout_ms,
               struct hook_result *ret, struct err *e)
{
    char path[128];
    snprintf(path, sizeof path, HOOK_BASE "%s", name);
    CLEANUP(cleanup_json)
    json_t *req =
        json_pack("{s:i,s:s,s:i}", "port", (int)port, "path", path, "timeoutMs", timeout_ms);
    if (body) {
        char *text = json_text(body);
        json_object_set_new(req, "body", json_string(text));
        free(text);
    }
    CLEANUP(cleanup_json)
    json_t *answer = NULL;
    /* The agent keeps the application's time; ours only guards against a guest that is gone. */
    int r = agent_call(a, "POST", WIRE_HOOK, req, timeout_ms + 10000, &answer, e);
    if (r < 0)
        return err_wrap(e, "%s hook", name);
    *ret = (struct hook_result){
        .status = (int)json_get_int(answer, "status", 0),
        .refused = json_get_bool(answer, "refused", false),
        .timed_out = json_get_bool(answer, "timeout", false),
    };
    return 0;
}

int guest_follow(struct agent *a, struct log_file *log, int *exit_code)
{
    struct agent_stream *st = NULL;
    CLEANUP(buf_done)
    struct buf frame = BUF_INIT(WIRE_MAX_FRAME_DATA);
    if (agent_stream_open(a, "GET", WIRE_LOGS, &st, NULL) < 0)
        return 0;
    int type;
    while ((type = agent_stream_next(st, &frame, -1, NULL)) > 0)
        if (type == WIRE_FRAME_STDOUT || type == WIRE_FRAME_STDERR)
            log_file_write(log, type == WIRE_FRAME_STDERR ? 2 : 1, frame.data, frame.len);
    agent_stream_free(st);
    if (type < 0)
        return 0;
    CLEANUP(cleanup_json)
    json_t *end = NULL;
    if (agent_call(a, "GET", WIRE_WAIT, NULL, 30000, &end, NULL) < 0)
        return 0;
    int64_t signal = json_get_int(end, "signal", 0);
    *exit_code = (int)(signal > 0 ? 128 + signal : json_get_int(end, "exitCode", 255));
    return 1;
}
