/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's state and the handlers of the protocol's endpoints (docs/design/guest-protocol.md).
 * One thread. A JSON handler answers its stream now or later; a stream handler sets st->ops. Either
 * must cope with the stream being closed at any time (st->ops->closed).
 */
#ifndef GUEST_GUEST_H
#define GUEST_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/app.h"
#include "guest/channel.h"
#include "guest/ev.h"
#include "guest/session.h"

#define GUEST_RUN_DIR "/run/tinderbox" /* files lent to containers by bind mount */
#define GUEST_APP_ROOT "/mnt/root"     /* the application's root file system */
#define GUEST_STAGE_ROOT "/mnt/stage"  /* builds: the stage being made */
#define GUEST_FROM_ROOT "/mnt/from"    /* builds: the stage copied from */
#define GUEST_CGROUP "/sys/fs/cgroup"
#define GUEST_UNPACK "/bin/tinderbox-unpack"

struct guest {
    struct ev *ev;
    struct channel *channel;
    /* Tests on an ordinary machine: commands run in the agent's own namespaces. */
    bool no_container;
    int64_t started_ms;
    bool booted;
    char hostname[65];
    struct app app;
    bool stage_mounted, from_mounted, have_ca;
    unsigned build_busy; /* steps and copies running on the stage */
};

/* The router for session_new(); app is the struct guest. */
void guest_route(struct stream *st, void *g);

void guest_info(struct guest *g, struct stream *st, const json_t *body);
void guest_stats(struct guest *g, struct stream *st, const json_t *body);
void guest_boot(struct guest *g, struct stream *st, const json_t *body);
void guest_start(struct guest *g, struct stream *st, const json_t *body);
void guest_wait(struct guest *g, struct stream *st, const json_t *body);
void guest_hook(struct guest *g, struct stream *st, const json_t *body);
void guest_settle(struct guest *g, struct stream *st, const json_t *body);
void guest_prepare(struct guest *g, struct stream *st, const json_t *body);
void guest_resumed(struct guest *g, struct stream *st, const json_t *body);
void guest_build_mount(struct guest *g, struct stream *st, const json_t *body);
void guest_build_finish(struct guest *g, struct stream *st, const json_t *body);

void guest_tunnel(struct guest *g, struct stream *st); /* CONNECT */
void guest_logs(struct guest *g, struct stream *st);
void guest_exec(struct guest *g, struct stream *st);
void guest_build_run(struct guest *g, struct stream *st);
void guest_build_unpack(struct guest *g, struct stream *st); /* SCAN, READ, COPY */
void guest_files(struct guest *g, struct stream *st);

#endif
