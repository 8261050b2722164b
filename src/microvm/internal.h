/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of src/microvm share. Not for other layers.
 *
 * Locks: service.lock guards the registry; microvm.lock guards one VM's mutable members. Order:
 * service.lock before microvm.lock. No lock is held across a call into the store, the engine or the
 * agent.
 */
#ifndef MICROVM_INTERNAL_H
#define MICROVM_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/workers.h"
#include "microvm/microvm.h"

#define DISK_BYTES (8ULL << 30) /* virtual size of every disk: a stage, an image, a slot */
#define HOOK_BASE "/aws/lambda-microvms/runtime/v1/"

struct log_file;

/* ---- one microVM ------------------------------------------------------------------------------
 */

enum vm_want {
    WANT_START = 1 << 0,
    WANT_SUSPEND = 1 << 1,
    WANT_RESUME = 1 << 2,
    WANT_TERMINATE = 1 << 3,
    WANT_STORE = 1 << 4, /* the state in memory is ahead of the store's: write it again */
};

struct waiter {
    struct waiter *next;
    void (*fn)(enum microvm_connect_status status, struct agent *a, void *arg); /* loop thread */
    void *arg;
    bool asked; /* a resume was wanted for it: not twice, it may have failed */
};

struct hook_config {
    bool enabled;
    int timeout_ms;
};

/* Immutable after the VM was created, read from its row and its version's row. */
struct vm_settings {
    char *image;
    int version;
    int memory_mib;
    int64_t started_at, max_duration_s;
    bool has_idle_policy, auto_resume;
    int64_t max_idle_s, max_suspended_s;
    bool http_ingress;
    uint16_t hook_port;
    struct hook_config run, resume, suspend, terminate;
    char *run_payload; /* NULL = none; forgotten once delivered */
    struct net_policy policy;
};

struct microvm {
    struct microvm_service *service; /* borrowed */
    atomic_int refs;
    char id[64];
    char label[UUID_LEN + 1];
    char dir[512];
    struct vm_settings set;
    atomic_llong last_activity_ms; /* monotonic */

    pthread_mutex_t lock; /* guards what follows */
    enum microvm_state state;
    unsigned wants;                 /* enum vm_want bits still to be done */
    bool operating;                 /* an operation thread is at work on this VM */
    bool idle_suspended;            /* the last suspend was the idle timer's */
    char reason[ERR_TEXT_MAX];      /* stateReason for the termination that is wanted */
    bool gone;                      /* container or machine ended by itself: no terminate hook */
    bool unstored;                  /* the store could not take the state: a full disk */
    struct engine_machine *machine; /* owned; NULL unless running */
    struct agent *agent;            /* owned reference; NULL unless running */
    int64_t suspended_at;           /* Unix ms; of a TERMINATED VM: when it ended */
    struct waiter *waiters;
    pthread_cond_t changed; /* state or operating changed */
    struct log_file *log;   /* owned; opened with the first output */
    bool watching;          /* the watcher thread is alive */
    unsigned holders;       /* threads using the machine without the lock: it stays until 0 */
};

/* vm.c */
struct microvm *vm_new(struct microvm_service *s, const struct store_microvm *row,
                       const json_t *version_config);
/* Asks for an operation and sees to it that a thread carries it out. Of suspend and resume the
 * later wish counts. */
void vm_want(struct microvm *vm, unsigned want);
/* WANT_TERMINATE with a reason for GetMicrovm; gone: nobody is left to call hooks on. */
void vm_want_terminate(struct microvm *vm, const char *reason, bool gone);
/* Persists, logs and sets the state; wakes who waits for a change. A store that refuses (a full
 * disk) keeps a VM from becoming SUSPENDING, which is the only error; every other change has
 * happened already: the VM goes on in memory, the timer writes the state later, and until then a
 * restart recovers from the older one. */
int vm_set_state(struct microvm *vm, enum microvm_state to, const char *reason, struct err *e);
void vm_wake_waiters(struct microvm *vm);
/* Makes a text fit for a reply, whatever a guest or its console put into it: one line of UTF-8. */
void reason_clean(char *text);
/* What WANT_STORE asks for. */
void vm_store_state(struct microvm *vm);

/* operate.c: the operations, on an operation thread */
void vm_operate(void *vm);

/* ---- guest.c: what is said to the agent of a machine -------------------------------------------
 */

/* Connects and waits for the agent. */
int guest_connect(struct microvm_service *s, struct engine_machine *m, int timeout_ms,
                  struct agent **ret, struct err *e) MUST_CHECK;
/* Clock, entropy, identity and connections of a machine whose session was just made. It keeps its
 * connections if it STAYED (a suspend failed): the processes that carry them are the same. */
enum guest_past { GUEST_CLONED, GUEST_SLEPT, GUEST_STAYED };
int guest_resumed(struct agent *a, const char *identity, enum guest_past past,
                  struct err *e) MUST_CHECK;
json_t *guest_network(void); /* the fixed addresses of net/policy.h */

struct hook_result {
    int status;   /* HTTP status, 0 = no answer */
    bool refused; /* nothing listens on the port */
    bool timed_out;
};
/* One POST of a lifecycle hook. 0 when the agent carried it out, whatever the application said. */
int guest_hook(struct agent *a, uint16_t port, const char *name, const json_t *body, int timeout_ms,
               struct hook_result *ret, struct err *e) MUST_CHECK;
/* Follows the container's output into a log until it ends (or the session does): blocking. Returns
 * 1 and *exit_code when the container ended, 0 when the session ended first. */
int guest_follow(struct agent *a, struct log_file *log, int *exit_code);

/* ---- logs.c ------------------------------------------------------------------------------------
 */

int log_file_open(struct microvm_service *s, const char *kind, const char *key,
                  struct log_file **ret, struct err *e) MUST_CHECK;
/* Output bytes of descriptor fd (1 or 2); lines are stamped when they are complete. */
void log_file_write(struct log_file *l, int fd, const char *p, size_t n);
void log_file_printf(struct log_file *l, const char *fmt, ...) PRINTF(2, 3);
void log_file_close(struct log_file *l);
void log_file_remove(struct microvm_service *s, const char *kind, const char *key);

/* ---- images and builds -------------------------------------------------------------------------
 */

/* Directory of a version: disk.raw, snapshot/, image.json. */
int version_dir(const struct microvm_service *s, const char *image, int number, char *out,
                size_t cap, struct err *e) MUST_CHECK;
/* build.c: the whole build, on a build thread. build_id is owned and freed. */
struct build_job {
    struct microvm_service *service;
    char build_id[UUID_LEN + 1];
};
void build_run(void *job);
int build_submit(struct microvm_service *s, const char *build_id, struct err *e) MUST_CHECK;
/* Ends the machines of running builds; their rows stay unfinished and are taken up again. */
void builds_interrupt(struct microvm_service *s);
/* images.c: completes the deletions of images and versions that the end of the service cut off. */
void images_finish_changes(struct microvm_service *s);

/* builder.c: restored build machines */
struct builder {
    struct microvm_service *service;
    struct builder *next; /* service.builders, under service.lock */
    struct engine_machine *machine;
    struct agent *agent;
    char dir[640];
};
enum { SLOT_STAGE, SLOT_CONTEXT, SLOT_FROM, SLOT_SPARE, BUILDER_SLOTS };
struct builder_disks {
    const char *stage_parent; /* NULL = an empty slot; else a new overlay over this disk */
    enum engine_disk_format stage_format;
    const char *context; /* raw file shown read-only */
    const char *from;    /* disk of another stage, read-only */
    enum engine_disk_format from_format;
};
/* A machine with a fresh agent session. The stage overlay is <dir>/stage. */
int builder_start(struct microvm_service *s, const struct builder_disks *d, struct builder *ret,
                  struct err *e) MUST_CHECK;
void builder_stop(struct builder *b); /* kills; removes the directory; zeroed is fine */
/* Makes b known to builds_interrupt(), as soon as it has a machine; builder_start() does it by
 * itself. -ECANCELED once the service is closing. */
int builder_enlist(struct builder *b, struct err *e) MUST_CHECK;
/* The result r of work on a machine, or the better reason: that it ended for lack of space. */
int builder_explain(struct builder *b, int r, struct err *e);
/* Removes half-made snapshots of the build machine and those of other guest kits. */
void builders_sweep(struct microvm_service *s);

/* layers.c: the step cache */
bool layer_find(struct microvm_service *s, const char *key, char *disk, size_t cap);
/* Takes the finished stage overlay of a builder directory into the cache under key. */
int layer_commit(struct microvm_service *s, const char *key, const char *overlay, char *disk,
                 size_t cap, struct err *e) MUST_CHECK;

/* Marks what a build used, base first: under pressure the cache loses leaves before their parents.
 */
void layers_touch(struct microvm_service *s, const char *const *keys, size_t n);
/* Removes the least recently used layers until the cache fits its limit. Builds hold the service's
 * layers_lock for reading; while one runs, nothing is removed. */
void layers_shrink(struct microvm_service *s);

/* housekeeping.c: forgets what is old (terminated VMs, their logs, scans, client tokens) and keeps
 * caches within their limits. Blocking. */
void housekeeping_run(struct microvm_service *s);
/* Submits it to an operation thread; any thread. */
void housekeeping_submit(struct microvm_service *s);

/* ---- the service -------------------------------------------------------------------------------
 */

struct microvm_service {
    struct microvm_config cfg; /* strings owned */
    struct workers *operations, *builds;
    microvm_artifact_open open_artifact;
    void *artifacts;
    atomic_bool closing;
    pthread_mutex_t builder_lock; /* one thread makes the builder snapshot */
    pthread_rwlock_t layers_lock; /* builds read, layers_shrink() writes */
    uv_timer_t *timer;            /* loop thread: idle and duration limits */
    unsigned ticks;               /* loop thread: seconds since the start */

    pthread_mutex_t lock;     /* guards the registry */
    void *by_label, *by_id;   /* tsearch trees of struct microvm *, one reference each VM */
    struct builder *builders; /* running machines of builds, for builds_interrupt() */
};

/* recover.c: VMs whose state the crash has ended or kept; then the files nobody claims; then, with
 * the service started, builds. */
int recover_vms(struct microvm_service *s, struct err *e) MUST_CHECK;
void recover_files(struct microvm_service *s);
int recover_builds(struct microvm_service *s, struct err *e) MUST_CHECK;
void row_copy(const struct store_microvm *r, struct store_microvm *ret); /* texts, too */

/* By id; a new reference or NULL. Any thread. */
struct microvm *registry_find_id(struct microvm_service *s, const char *id);
int registry_add(struct microvm_service *s, struct microvm *vm) MUST_CHECK;
void registry_remove(struct microvm_service *s, struct microvm *vm);
/* Calls fn for a referenced snapshot of all VMs. */
void registry_each(struct microvm_service *s, void (*fn)(struct microvm *vm, void *arg), void *arg);

/* timers.c [loop] */
int timers_start(struct microvm_service *s, struct err *e) MUST_CHECK;
void timers_stop(struct microvm_service *s); /* from another thread */

unsigned service_vcpus(const struct microvm_service *s, int memory_mib);

#endif
