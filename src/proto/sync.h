/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start of a session on a pipe that may still hold bytes of an older one. Sans-IO.
 *
 * A virtio-console port has no connections: when the host closes its socket and opens a new one the
 * guest may never notice (a snapshot taken in between, an event lost in a restore), so bytes of two
 * sessions meet in one stream, the older one possibly cut inside a frame. Therefore:
 *
 *   host:  hello line with a random nonce       "TINDERBOX/1 <32 hex digits>\r\n"
 *   guest: the same line
 *   both:  HTTP/2, starting with the client preface and SETTINGS
 *
 * Host: everything before its own nonce comes back is dropped; no answer within a moment: it sends
 * SYNC_FILLER zero bytes and the line again.
 * Guest: payloads of tunnels are chosen by outsiders, so a hello inside one must not start a
 * session. It counts only (a) as the first bytes after the port was seen closed, (b) at a frame
 * boundary of the running session, (c) after SYNC_RUN zero bytes in a row, which no HTTP/2
 * stream with frames of at most SYNC_MAX_FRAME bytes can contain: each frame header has a byte
 * that is not zero. SYNC_FILLER ends any frame that was cut and still leaves such a run.
 */
#ifndef PROTO_SYNC_H
#define PROTO_SYNC_H

#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"

#define SYNC_MAGIC "TINDERBOX/1 "
#define SYNC_NONCE_HEX 32
#define SYNC_HELLO_LEN (sizeof(SYNC_MAGIC) - 1 + SYNC_NONCE_HEX + 2)
#define SYNC_MAX_FRAME 16384 /* SETTINGS_MAX_FRAME_SIZE of both ends: the protocol's default */
#define SYNC_RUN (SYNC_MAX_FRAME + 16)
#define SYNC_FILLER (2 * SYNC_MAX_FRAME + 64)

/* Host end: finds the answer. */
struct sync_host {
    char hello[SYNC_HELLO_LEN + 1];
    size_t matched;
};

void sync_host_init(struct sync_host *s, const char nonce[SYNC_NONCE_HEX + 1]);
/* Consumes bytes up to and including the answer. Returns how many; *found says whether it ended. */
size_t sync_host_feed(struct sync_host *s, const char *p, size_t n, bool *found);

/* Guest end: cuts the byte stream into sessions. */
enum sync_state { SYNC_CLEAN, SYNC_HELLO, SYNC_PREFACE, SYNC_SESSION, SYNC_LOST };
enum sync_event {
    SYNC_NEED_MORE, /* all input used */
    SYNC_STARTED,   /* a hello came: drop any session, answer s->hello, begin a new one */
    SYNC_DATA,      /* *data are bytes of the running session */
    SYNC_BROKEN,    /* the running session's framing is lost: end it */
};

struct sync_guest {
    enum sync_state state;
    char hello[SYNC_HELLO_LEN + 1]; /* the last one accepted */
    char line[SYNC_HELLO_LEN];      /* the one being collected */
    size_t line_n;
    size_t zeros;     /* length of the run of zero bytes just seen */
    size_t preface_n; /* matched bytes of the client preface */
    unsigned char head[9];
    size_t head_n;
    size_t frame_left; /* payload bytes of the current frame still to come */
};

void sync_guest_init(struct sync_guest *s);
/* The port was seen closed with nothing left to read: what comes next is a new connection. */
void sync_guest_closed(struct sync_guest *s);
/* The HTTP/2 layer gave the session up: its framing is no longer trusted. */
void sync_guest_lost(struct sync_guest *s);
/* Uses some of the n bytes: *used says how many. Call until SYNC_NEED_MORE. */
enum sync_event sync_guest_feed(struct sync_guest *s, const char *p, size_t n, size_t *used,
                                const char **data, size_t *data_n) MUST_CHECK;

#endif
