/* SPDX-License-Identifier: Apache-2.0 */
/* A process on a stream of frames; what exec, build steps and the archive program share. */
#ifndef GUEST_EXEC_H
#define GUEST_EXEC_H

#include "guest/guest.h"
#include "proto/frame.h"

struct exec;

struct exec_kind {
    /* x->spec came: start the process with exec_launch(). The error goes to the host. */
    int (*begin)(struct exec *x, struct err *e);
    void (*output)(struct exec *x, int i, const char *p, size_t n); /* i: 0 stdout, 1 stderr */
    /* The process is gone (or never started: x->failed); must lead to exec_finished(), once. */
    void (*ended)(struct exec *x);
    bool give_exit; /* exec_finished() sends the EXIT frame */
    bool json_body; /* the request may also be one JSON object instead of frames */
};

struct exec {
    struct guest *g;
    struct stream *st; /* NULL when the host has left */
    const struct exec_kind *kind;
    struct launched proc;
    json_t *spec; /* owned */
    struct frame_reader reader;
    struct buf to_in;  /* payload on its way to the process */
    size_t unconsumed; /* bytes of it the host has not been given back */
    struct ev_io in, out[2];
    int tty_fd; /* owned; in and out[0] are duplicates */
    int status;
    bool in_ended, launched, started, exited, failed, ending, over;
    /* for kinds */
    struct frame_reader out_reader;
    bool final_sent;
    struct ev_child helper;
};

void exec_open(struct guest *g, struct stream *st, const struct exec_kind *kind);
int exec_launch(struct exec *x, struct launch *l, struct err *e) MUST_CHECK;
void exec_output_frames(struct exec *x, int i, const char *p, size_t n);
void exec_finished(struct exec *x); /* may free x */
void exec_fail(struct exec *x, const char *code, const char *text);

/* .output and .ended for tinderbox-unpack, which writes the frames itself (build.c). */
void exec_unpack_output(struct exec *x, int i, const char *p, size_t n);
void exec_unpack_ended(struct exec *x);

#endif
