/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images and microVMs: the state machines of the service. Everything that changes the state of an
 * image, a version, a build or a microVM goes through here; reading is done on the store.
 *
 * Threads: [block] functions are for worker threads and may wait for the disk, never for a guest:
 * long operations (a build, a restore, a suspend) run on the service's own operation threads.
 * [loop] functions are for the loop thread and never wait.
 */
#ifndef MICROVM_MICROVM_H
#define MICROVM_MICROVM_H

#include "base/json.h"
#include "base/loop.h"
#include "engine/engine.h"
#include "proto/agent_client.h"
#include "store/store.h"

struct microvm_service;
struct microvm;

struct microvm_config {
    struct loop *loop;
    struct store *store;
    struct engine *engine;
    const char *data_dir;  /* objects, layers, images, vms live below it */
    const char *guest_dir; /* kernel, initramfs, managed root file systems */
    const char *region, *account;
    const char *ca_bundle;    /* PEM lent to RUN steps; NULL = none */
    unsigned max_vcpus;       /* per machine */
    unsigned max_builds;      /* at once */
    int64_t max_memory_mib;   /* of all VMs together */
    int64_t max_layers_bytes; /* of the step cache */
    int64_t retention_s;      /* how long terminated VMs and their logs are remembered */
};

/* Opens the service: recovers what a crash left (unfinished builds fail or restart, RUNNING VMs
 * whose machine is gone become TERMINATED, suspended VMs are kept, orphaned files are removed).
 * Nothing runs before microvm_service_start(). */
int microvm_service_open(const struct microvm_config *c, struct microvm_service **ret,
                         struct err *e) MUST_CHECK;
/* Starts the clock and takes unfinished builds up again; after set_artifacts, with the loop about
 * to run or running. */
int microvm_service_start(struct microvm_service *s, struct err *e) MUST_CHECK;
/* Graceful end: running VMs are suspended (and come back SUSPENDED), builds are interrupted and
 * restart with the next open. Blocks until done. Not on the loop thread. */
void microvm_service_close(struct microvm_service *s);

/* ---- images [block] ---------------------------------------------------------------------------
 */

/* input: validated create/update members (spec: api §3). Fills rows for the reply. */
int image_create(struct microvm_service *s, const json_t *input, struct store_image *img,
                 struct store_version *ver, struct err *e) MUST_CHECK;
int image_update(struct microvm_service *s, const char *name, const json_t *input,
                 struct store_image *img, struct store_version *ver, struct err *e) MUST_CHECK;
/* -EBUSY/-EINVAL with the API's own refusal texts. */
int image_delete(struct microvm_service *s, const char *name, struct err *e) MUST_CHECK;
int image_version_delete(struct microvm_service *s, const char *name, int number,
                         struct err *e) MUST_CHECK;
/* Absolute path of an S3-uploaded artifact is resolved through this callback, set by the daemon:
 * opens s3://bucket/key read-only, or -ENOENT with the API's reason code in the text. */
typedef int (*microvm_artifact_open)(void *arg, const char *bucket, const char *key, struct err *e);
void microvm_service_set_artifacts(struct microvm_service *s, microvm_artifact_open fn, void *arg);

/* ---- microVMs [block] -------------------------------------------------------------------------
 */

struct microvm_run_request {
    const char *image;  /* name */
    int version;        /* 0 = latest ACTIVE */
    const char *config; /* JSON: idlePolicy, logging, executionRoleArn, connectors, egressPolicy */
    const char *run_hook_payload; /* NULL = none */
    int64_t max_duration_s;
};
/* Returns with the VM PENDING; it is started behind the reply. */
int microvm_run(struct microvm_service *s, const struct microvm_run_request *r,
                struct store_microvm *ret, struct err *e) MUST_CHECK;
/* Idempotent as in spec: api §4. They return once the transition is durable and under way. */
int microvm_suspend(struct microvm_service *s, const char *id, struct err *e) MUST_CHECK;
int microvm_resume(struct microvm_service *s, const char *id, struct err *e) MUST_CHECK;
int microvm_terminate(struct microvm_service *s, const char *id, struct err *e) MUST_CHECK;

/* A session with the guest agent of a RUNNING VM (resumes a SUSPENDED one first); the caller
 * unrefs it. Waits up to timeout_ms: only on threads that may. */
int microvm_agent(struct microvm_service *s, const char *id, int timeout_ms, struct agent **ret,
                  struct err *e) MUST_CHECK;
/* Machine statistics of a RUNNING VM as JSON. */
int microvm_stats(struct microvm_service *s, const char *id, json_t **ret,
                  struct err *e) MUST_CHECK;

/* ---- logs [block] -----------------------------------------------------------------------------
 */

/* Reads up to max bytes of a log from offset: kind "build" (key = build id) or "microvm" (key = VM
 * id). *ended: no more will come. Lines are "<RFC 3339 time> <o|e> <text>\n". -ENOENT. */
int microvm_log_read(struct microvm_service *s, const char *kind, const char *key, uint64_t offset,
                     size_t max, struct buf *out, bool *ended, struct err *e) MUST_CHECK;

/* ---- for the endpoint proxy [loop] ------------------------------------------------------------
 */

/* By endpoint label ("<uuid>"); NULL when unknown. A new reference. TERMINATED VMs stay known for a
 * while so that they answer 502, not 403. */
struct microvm *microvm_find(struct microvm_service *s, struct slice label);
void microvm_ref(struct microvm *vm);   /* any thread */
void microvm_unref(struct microvm *vm); /* any thread */
const char *microvm_id(const struct microvm *vm);
/* False when the VM was run with NO_INGRESS (or only SHELL_INGRESS for app traffic). */
bool microvm_allows_http(const struct microvm *vm);

enum microvm_connect_status {
    MICROVM_CONNECT_OK,
    MICROVM_CONNECT_SUSPENDED, /* suspended and not to be resumed by traffic */
    MICROVM_CONNECT_FAILED,    /* terminated, start or resume failed */
};
/* Calls fn exactly once, on the loop, now or later: with a borrowed agent session on OK. A PENDING
 * VM is waited for; a SUSPENDED one with autoResumeEnabled is resumed and waited for. */
void microvm_connect(struct microvm *vm,
                     void (*fn)(enum microvm_connect_status status, struct agent *a, void *arg),
                     void *arg);
/* Bytes crossed the endpoint: restarts the idle timer. Any thread. */
void microvm_activity(struct microvm *vm);

#endif
