/* SPDX-License-Identifier: Apache-2.0 */
/* What engine.c asks of one way to run machines. The contracts are those of engine.h; specs have
 * been checked and the network policy is never NULL when they get here. */
#ifndef ENGINE_BACKEND_H
#define ENGINE_BACKEND_H

#include "engine/cgroup.h"
#include "engine/disks.h"
#include "engine/engine.h"
#include "engine/frozen.h"

#define ENGINE_PIDS 3 /* monitor, sandbox around it, network helper */

struct engine_ops {
    const char *name;
    const struct disks_format *disks;
    int (*open)(struct engine *en, struct err *e); /* fills version and impl */
    void (*close)(struct engine *en);
    int (*boot)(struct engine *en, const struct engine_spec *s, struct engine_machine **ret,
                struct err *e);
    int (*thaw)(struct engine *en, const struct engine_spec *s, const char *dir,
                enum manifest_kind kind, struct engine_machine **ret, struct err *e);
    int (*freeze)(struct engine_machine *m, const char *dir, enum manifest_kind kind,
                  struct err *e);
    int (*pack)(struct engine *en, const char *from, const char *to,
                struct err *e); /* may be NULL */
    int (*channel)(struct engine_machine *m, struct err *e);
    int (*pause)(struct engine_machine *m, bool pause, struct err *e);
    int (*network)(struct engine_machine *m, bool open, struct err *e);
    int (*fork)(struct engine_machine *m, const char *dir, struct engine_fork_info *ret,
                struct err *e);
    int (*stats)(struct engine_machine *m, struct engine_stats *ret, struct err *e);
    bool (*alive)(const struct engine_machine *m);
    /* Of the machine's processes, 0 = none; which may end at any time. */
    void (*pids)(const struct engine_machine *m, pid_t ret[ENGINE_PIDS]);
    void (*kill)(struct engine_machine *m);
    void (*free)(struct engine_machine *m);
};

struct engine {
    const struct engine_ops *ops;
    char version[48];
    char *kernel, *initramfs, *helper_dir, *program, *device; /* owned */
    bool sandbox, huge_pages;
    struct engine_rates rates;
    unsigned pool;
    struct overlay_key key;
    struct frozen_cache *cache; /* owned */
    struct cgroup *cgroup;      /* owned; NULL = process limits only */
    uint64_t own_memory;        /* what a machine's processes need beside guest memory */
    void *impl;                 /* the backend's */
};

struct engine_machine { /* first member of a backend's machine */
    struct engine *en;
    char cgroup[65]; /* name of its cgroup, "" = none */
};

extern const struct engine_ops kvm_engine_ops, qemu_engine_ops;

/* Path of a program of ours: in helper_dir, or in a build tree beside it, in the directory of its
 * layer. False: not there. */
bool engine_find_helper(const char *helper_dir, const char *layer, const char *name, char *out,
                        size_t cap);

#endif
