/* SPDX-License-Identifier: Apache-2.0 */
/* One build as its files see it: build.c drives, scan.c reads the context, steps.c runs the plan.
 */
#ifndef MICROVM_BUILD_H
#define MICROVM_BUILD_H

#include "image/plan.h"
#include "microvm/internal.h"

struct build {
    struct microvm_service *service; /* borrowed */
    struct log_file *log;            /* owned */
    struct store_build row;          /* owned */
    struct store_version version;    /* owned */
    json_t *config;                  /* owned: version.config, parsed */
    char dir[600];                   /* <data>/tmp/build-<id>, removed at the end */
    char zip[700];                   /* the context, below dir */
    uint64_t zip_size;
    char zip_sha256[SHA256_HEX_LEN + 1];

    struct context *context;       /* owned */
    struct dockerfile *dockerfile; /* owned */
    struct plan *plan;             /* owned */
    char base_disk[700];           /* of the managed root file system */
    /* Per stage of the plan: the disk of its last finished step. */
    struct stage_disk {
        char path[1100];
        enum engine_disk_format format;
    } * stages; /* owned */
};

/* "== phase NAME N ms" in the build log: what took how long, also read by programs. */
void build_phase(struct build *b, const char *name, int64_t since_mono_ms);

/* Reads the archive in a build machine: entries, Dockerfile, .dockerignore (remembered per digest),
 * then parses and plans. */
int build_scan(struct build *b, struct err *e) MUST_CHECK;
/* Carries out every stage and step of the plan. */
int build_steps(struct build *b, struct err *e) MUST_CHECK;

/* Sends SPEC and input, follows output into the log (or hands it to on_frame), until EXIT or ERROR.
 * An ERROR frame is -EIO with its message, "CODE: " before it when it has one. */
struct frame_talk {
    const char *path;
    const json_t *spec;
    const char *input; /* NULL = none */
    size_t input_n;
    bool spec_is_body; /* SCAN, READ: a plain JSON body instead of a SPEC frame */
    int timeout_ms;    /* in all */
    int (*on_frame)(int type, const struct buf *payload, void *arg); /* negative ends the talk */
    void *arg;
};
int build_talk(struct agent *a, const struct frame_talk *t, struct agent_exec_result *ret,
               struct err *e) MUST_CHECK;

#endif
