/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/wait.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "cli/client.h"
#include "cli/resolve.h"

#define LOG_POLL_MS 200
#define LOG_APPEARS_MS 30000
#define LOG_LINE_MAX (1u << 20)

void wait_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

int microvm_describe(struct cli *c, const char *id, json_t **ret, struct err *e)
{
    char path[1024];
    int rc = client_path(path, sizeof path, "/2025-09-09/microvms/", id, "", e);
    return rc < 0 ? rc : client_call(c, "GET", path, NULL, ret, e);
}

static bool is_over(const char *state, const char *wanted)
{
    return strcmp(state, "TERMINATED") == 0 ||
           (strcmp(state, "TERMINATING") == 0 && strcmp(wanted, "TERMINATED") != 0);
}

int microvm_wait(struct cli *c, const char *id, const char *state, int timeout_s, json_t **ret,
                 struct err *e)
{
    int64_t deadline = clock_mono_ms() + 1000L * timeout_s;
    for (long pause = 10;; pause = pause < 200 ? pause * 5 / 4 + 1 : 200) {
        CLEANUP(cleanup_json)
        json_t *vm = NULL;
        int rc = microvm_describe(c, id, &vm, e);
        if (rc < 0)
            return rc;
        const char *now = json_get_str(vm, "state");
        now = now ? now : "";
        if (strcmp(now, state) == 0) {
            if (ret)
                *ret = TAKE(vm);
            return 0;
        }
        const char *reason = json_get_str(vm, "stateReason");
        if (is_over(now, state))
            return err_set(e, EIO, "%s is %s: %s See 'tinderbox logs %s'.", id, now,
                           reason ? reason : "no reason given.", id);
        if (clock_mono_ms() > deadline)
            return err_set(e, ETIMEDOUT, "%s is %s after %d s, not %s", id, now, timeout_s, state);
        wait_ms(pause);
    }
}

bool log_split(struct slice line, struct slice *time, char *stream, struct slice *text)
{
    const char *sp = line.n ? memchr(line.p, ' ', line.n) : NULL;
    size_t n = sp ? (size_t)(sp - line.p) : 0;
    if (n < 20 || line.n < n + 2 || (sp[1] != 'o' && sp[1] != 'e') ||
        (line.n > n + 2 && sp[2] != ' '))
        return false;
    *time = (struct slice){line.p, n};
    *stream = sp[1];
    size_t skip = line.n > n + 2 ? n + 3 : n + 2;
    *text = (struct slice){line.p + skip, line.n - skip};
    return true;
}

static void print_line(struct slice line, const struct log_view *v)
{
    struct slice at, text = line;
    char stream = 'o';
    bool known = log_split(line, &at, &stream, &text);
    FILE *out = stream == 'e' && !v->one_stream ? stderr : stdout;
    if (v->timestamps && known)
        fprintf(out, "%.*s ", (int)at.n, at.p);
    fwrite(text.p, 1, text.n, out);
    putc('\n', out);
}

/* Prints whole lines; the rest stays for the next piece. */
static void print_lines(struct buf *b, const struct log_view *v, bool all)
{
    size_t at = 0;
    while (at < b->len) {
        const char *nl = memchr(b->data + at, '\n', b->len - at);
        if (!nl && !all && b->len - at < LOG_LINE_MAX)
            break;
        size_t n = nl ? (size_t)(nl - (b->data + at)) : b->len - at;
        print_line((struct slice){b->data + at, n}, v);
        at += n + (nl != NULL);
    }
    buf_consume(b, at);
    fflush(stdout);
}

int log_print(struct cli *c, const char *kind, const char *key, const struct log_view *v,
              struct err *e)
{
    char prefix[64], path[1024], offset[24] = "0", suffix[40];
    CLEANUP(buf_done)
    struct buf pending = BUF_INIT(2 * CLIENT_REPLY_MAX);
    int64_t deadline = clock_mono_ms() + LOG_APPEARS_MS;
    snprintf(prefix, sizeof prefix, "/tinderbox/v1/logs/%s/", kind);
    for (;;) {
        struct client_reply r = {0};
        snprintf(suffix, sizeof suffix, "?offset=%s", offset);
        int rc = client_path(path, sizeof path, prefix, key, suffix, e);
        if (rc == 0)
            rc = client_send(c, "GET", path, NULL, &r, e);
        if (rc == -ENOENT && v->missing_ok && clock_mono_ms() < deadline) {
            wait_ms(LOG_POLL_MS);
            continue;
        }
        if (rc < 0)
            return rc;
        size_t got = r.body.len;
        bool ended = r.ended;
        if (got && buf_add(&pending, r.body.data, got) < 0)
            rc = err_set(e, ENOMEM, "out of memory");
        if (r.next_offset[0])
            memcpy(offset, r.next_offset, sizeof offset);
        client_reply_done(&r);
        if (rc < 0)
            return rc;
        bool stop = got == 0 && (ended || !v->follow);
        print_lines(&pending, v, stop);
        if (stop)
            return 0;
        if (got == 0)
            wait_ms(LOG_POLL_MS);
    }
}
