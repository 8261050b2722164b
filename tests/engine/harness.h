/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real machines for tests: one engine, one loop thread, a work directory that must be empty of
 * processes, sockets and half-made files at the end. Every helper fails the running test itself.
 */
#ifndef TESTS_ENGINE_HARNESS_H
#define TESTS_ENGINE_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/loop.h"
#include "engine/engine.h"
#include "proto/agent_client.h"

struct rig {
    char dir[256];   /* of the whole run */
    char guest[512]; /* TINDERBOX_GUEST_DIR; TINDERBOX_ENGINE names the engine, "auto" if unset */
    const char *helper_dir;
    struct engine *engine;
    struct loop *loop;
};

struct box { /* one machine and what a test knows about it */
    char id[32], dir[400], disk[500];
    const struct net_policy *policy; /* borrowed; NULL = the default */
    struct engine_machine *machine;
    struct agent *agent;
    struct engine_exit exit;
    _Atomic int64_t exited_us; /* clock_mono_us() when on_exit came; 0 = not yet */
};

/* Skips the program (exit 77) with a reason when there is no guest. */
void rig_open(struct rig *r, int argc, char **argv);
/* Fails when anything is left behind. */
int rig_close(struct rig *r);

struct engine_spec rig_spec(struct rig *r, struct box *b);
/* A box with a directory and a fresh overlay over base. It lives until box_end_all(). */
struct box *box_prepare(struct rig *r, const char *id, const char *base,
                        enum engine_disk_format base_format);
/* For the teardown of each test: a failed one jumps out with its machines running. */
int box_end_all(void **state);
void box_boot(struct rig *r, struct box *b); /* boots, starts the container */
void box_start(struct box *b, bool network,
               json_t *start);                  /* mounts, starts this container; consumes it */
void box_freeze(struct box *b);                 /* readies the guest, closes the channel */
void box_connect(struct rig *r, struct box *b); /* opens the channel */
void box_disconnect(struct box *b);
void box_restore(struct rig *r, struct box *b, const char *snapshot, bool clone);
/* What the agent is told after a restore: time, entropy, names. */
void box_resumed(struct box *b, bool clone);
void box_end(struct box *b);
/* Runs a shell command in the container; its output, trimmed, in a buffer of the caller. Returns
 * the exit code. */
int box_sh(struct box *b, const char *command, char *out, size_t cap);

#define CHECK_OK(call, e)                        \
    do {                                         \
        if ((call) < 0)                          \
            fail_msg("%s: %s", #call, (e).text); \
    } while (0)

/* How many times less a test shall ask of the machine: TINDERBOX_SLOW, where everything is emulated
 * twice; else 1. */
int rig_slow(void);

/* Processes whose ancestor is this one, zombies included. */
unsigned count_children(void);
/* The monitor process (QEMU, tinderbox-vmm) below this process that was started last. */
pid_t newest_monitor(void);

#endif
