/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/sync.h"

#include <string.h>

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define PREFACE_LEN (sizeof(PREFACE) - 1)

void sync_host_init(struct sync_host *s, const char nonce[SYNC_NONCE_HEX + 1])
{
    *s = (struct sync_host){0};
    memcpy(s->hello, SYNC_MAGIC, sizeof(SYNC_MAGIC) - 1);
    memcpy(s->hello + sizeof(SYNC_MAGIC) - 1, nonce, SYNC_NONCE_HEX);
    memcpy(s->hello + SYNC_HELLO_LEN - 2, "\r\n", 2);
}

size_t sync_host_feed(struct sync_host *s, const char *p, size_t n, bool *found)
{
    *found = false;
    for (size_t i = 0; i < n; i++) {
        /* 'T' appears nowhere else in the line, so a mismatch can only restart at its beginning. */
        if (p[i] == s->hello[s->matched])
            s->matched++;
        else
            s->matched = p[i] == s->hello[0];
        if (s->matched == SYNC_HELLO_LEN) {
            *found = true;
            return i + 1;
        }
    }
    return n;
}

void sync_guest_init(struct sync_guest *s)
{
    *s = (struct sync_guest){.state = SYNC_CLEAN};
}

void sync_guest_closed(struct sync_guest *s)
{
    sync_guest_init(s);
}

void sync_guest_lost(struct sync_guest *s)
{
    *s = (struct sync_guest){.state = SYNC_LOST};
}

static bool hello_char_ok(size_t at, char c)
{
    if (at < sizeof(SYNC_MAGIC) - 1)
        return c == SYNC_MAGIC[at];
    if (at < SYNC_HELLO_LEN - 2)
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
    return c == (at == SYNC_HELLO_LEN - 2 ? '\r' : '\n');
}

static void begin_line(struct sync_guest *s)
{
    s->state = SYNC_HELLO;
    s->line_n = 0;
}

/* One byte of a hello line. The same nonce again is the host's retry, already answered. */
static enum sync_event feed_line(struct sync_guest *s, char c)
{
    if (!hello_char_ok(s->line_n, c)) {
        sync_guest_lost(s);
        return SYNC_BROKEN;
    }
    s->line[s->line_n++] = c;
    if (s->line_n < SYNC_HELLO_LEN)
        return SYNC_NEED_MORE;
    bool again = memcmp(s->line, s->hello, SYNC_HELLO_LEN) == 0;
    memcpy(s->hello, s->line, SYNC_HELLO_LEN);
    s->state = SYNC_PREFACE;
    s->preface_n = s->head_n = s->frame_left = 0;
    return again ? SYNC_NEED_MORE : SYNC_STARTED;
}

/* Between hello and preface only the host's retries may stand. */
static enum sync_event feed_preface(struct sync_guest *s, char c)
{
    if (s->preface_n == 0 && c == '\0')
        return SYNC_NEED_MORE;
    if (s->preface_n == 0 && c == SYNC_MAGIC[0]) {
        begin_line(s);
        return feed_line(s, c);
    }
    if (c != PREFACE[s->preface_n]) {
        sync_guest_lost(s);
        return SYNC_BROKEN;
    }
    if (++s->preface_n == PREFACE_LEN) {
        s->state = SYNC_SESSION;
        return SYNC_DATA;
    }
    return SYNC_NEED_MORE;
}

static void feed_lost(struct sync_guest *s, char c)
{
    if (c == '\0') {
        s->zeros += s->zeros < SYNC_RUN;
        return;
    }
    bool trusted = s->zeros >= SYNC_RUN && c == SYNC_MAGIC[0];
    s->zeros = 0;
    if (trusted) {
        begin_line(s);
        (void)feed_line(s, c); /* the first byte was just checked */
    }
}

/*
 * Follows the frame headers of the running session. Hands out everything up to the end of input
 * or to a header that cannot be one: 'T' there is a length above 5 MB, so a hello is unambiguous.
 */
static enum sync_event feed_session(struct sync_guest *s, const char *p, size_t n, size_t *used,
                                    const char **data, size_t *data_n)
{
    size_t i = 0;
    while (i < n) {
        if (s->frame_left) {
            size_t part = s->frame_left < n - i ? s->frame_left : n - i;
            s->frame_left -= part;
            i += part;
            continue;
        }
        if (s->head_n == 0 && p[i] == SYNC_MAGIC[0])
            break;
        s->head[s->head_n++] = (unsigned char)p[i++];
        if (s->head_n < sizeof s->head)
            continue;
        s->head_n = 0;
        s->frame_left = (size_t)s->head[0] << 16 | (size_t)s->head[1] << 8 | s->head[2];
        if (s->frame_left > SYNC_MAX_FRAME) { /* the HTTP/2 layer gets it too, and will say so */
            sync_guest_lost(s);
            break;
        }
    }
    *used = i;
    *data = p;
    *data_n = i;
    if (i)
        return SYNC_DATA;
    begin_line(s);
    return SYNC_NEED_MORE;
}

static enum sync_event feed_byte(struct sync_guest *s, char c)
{
    switch (s->state) {
    case SYNC_CLEAN:
        if (c == '\0')
            return SYNC_NEED_MORE;
        begin_line(s);
        return feed_line(s, c);
    case SYNC_HELLO:
        return feed_line(s, c);
    case SYNC_PREFACE:
        return feed_preface(s, c);
    case SYNC_SESSION:
    case SYNC_LOST:
        break;
    }
    feed_lost(s, c);
    return SYNC_NEED_MORE;
}

enum sync_event sync_guest_feed(struct sync_guest *s, const char *p, size_t n, size_t *used,
                                const char **data, size_t *data_n)
{
    *data = NULL;
    *data_n = 0;
    for (size_t i = 0; i < n;) {
        if (s->state == SYNC_SESSION) {
            size_t part = 0;
            enum sync_event ev = feed_session(s, p + i, n - i, &part, data, data_n);
            i += part;
            if (ev == SYNC_NEED_MORE)
                continue; /* a hello begins at p[i] */
            *used = i;
            return ev;
        }
        enum sync_event ev = feed_byte(s, p[i++]);
        if (ev == SYNC_DATA) {
            *data = PREFACE;
            *data_n = PREFACE_LEN;
        }
        if (ev != SYNC_NEED_MORE) {
            *used = i;
            return ev;
        }
    }
    *used = n;
    return SYNC_NEED_MORE;
}
