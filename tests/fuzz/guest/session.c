/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest end fed by a hostile host: sync, the HTTP/2 server and the routes that touch nothing
 * outside the process. Input that comes without hello and preface gets them put in front.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "guest/guest.h"
#include "proto/sync.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct guest g;
static struct session *session;

/* Mounts, forks and clocks are not for a fuzzer: those paths are answered here. */
static void route(struct stream *st, void *app)
{
    static const char *const safe[] = {"/v1/info", "/v1/stats", "/v1/wait", "/v1/logs",
                                       "/v1/settle"};
    for (size_t i = 0; i < ARRAY_LEN(safe); i++)
        if (strcmp(st->path, safe[i]) == 0) {
            guest_route(st, app);
            return;
        }
    if (strcmp(st->path, "/v1/exec") == 0 && strcmp(st->method, "POST") == 0)
        guest_route(st, app); /* refused: no application runs */
    else
        stream_error(st, 404, "not here: %s", st->path);
}

static void pull(void)
{
    struct buf out = BUF_INIT(0);
    if (session && session_pull(session, &out, 1 << 20) < 0) {
        session_free(session);
        session = NULL;
    }
    buf_done(&out);
}

static void feed(struct sync_guest *s, const char *p, size_t n)
{
    while (n) {
        size_t used = 0, data_n = 0;
        const char *data;
        enum sync_event ev = sync_guest_feed(s, p, n, &used, &data, &data_n);
        if (ev == SYNC_STARTED) {
            session_free(session);
            session = NULL;
            if (session_new(route, &g, &session) < 0)
                abort();
        } else if (ev == SYNC_DATA && session && session_feed(session, data, data_n) < 0) {
            pull();
            session_free(session);
            session = NULL;
            sync_guest_lost(s);
        }
        pull();
        p += used;
        n -= used;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char start[] =
        SYNC_MAGIC "00112233445566778899aabbccddeeff\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    struct sync_guest s;
    if (!g.ev && ev_new(&g.ev, NULL) < 0)
        abort();
    sync_guest_init(&s);
    if (size < 3 || memcmp(data, "TIN", 3) != 0)
        feed(&s, start, sizeof start - 1);
    feed(&s, (const char *)data, size);
    session_free(session);
    session = NULL;
    return 0;
}
