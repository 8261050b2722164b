/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PREPARE (before a snapshot) and RESUMED (first thing after a restore). RESUMED stands on the
 * critical path of every run: system calls only, no fork, no disk.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/fs.h"
#include "base/log.h"
#include "guest/boot.h"
#include "guest/job.h"
#include "guest/sockdiag.h"

#define ENTROPY_MAX 512

/*
 * Opened before the snapshot: after a restore under emulation every kernel path that is walked for
 * the first time costs, and looking up names is the longest of them. (Measured, software engine on
 * a busy machine: 66 ms for a clone before, see docs/design/guest-protocol.md for now.)
 */
static struct {
    int urandom, own_uts, app_uts;
    pid_t app; /* whose app_uts is */
    unsigned listeners;
} kept = {.urandom = -1, .own_uts = -1, .app_uts = -1};

static void keep_open(const struct guest *g)
{
    if (kept.urandom < 0)
        kept.urandom = open("/dev/urandom", O_RDWR | O_CLOEXEC);
    if (kept.own_uts < 0)
        kept.own_uts = open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC);
    if (g->app.pid && kept.app != g->app.pid) {
        char path[64];
        cleanup_close(&kept.app_uts);
        snprintf(path, sizeof path, "/proc/%d/ns/uts", g->app.pid);
        kept.app_uts = open(path, O_RDONLY | O_CLOEXEC);
        kept.app = g->app.pid;
    }
}

static int prepare_work(void *arg, struct err *e)
{
    const bool *drop = arg;
    sync();
    if (!*drop)
        return 0;
    CLEANUP(cleanup_close)
    int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "1", 1) != 1)
        return err_set_errno(e, errno, "cannot drop the page cache");
    return 0;
}

void guest_prepare(struct guest *g, struct stream *st, const json_t *body)
{
    static bool drop;
    keep_open(g);
    boot_keep_lent();
    kept.listeners = sockdiag_listeners();
    drop = json_get_bool(body, "dropCaches", false);
    job_start(g, st, prepare_work, &drop, NULL);
}

static int set_clock(int64_t ns, struct err *e)
{
    const struct timespec t = {.tv_sec = ns / 1000000000, .tv_nsec = (long)(ns % 1000000000)};
    if (clock_settime(CLOCK_REALTIME, &t) < 0)
        return err_set_errno(e, errno, "cannot set the clock");
    return 0;
}

/* The host's bytes are credited and the generator is reseeded from the pool at once: two clones of
 * one snapshot must not draw the same numbers. */
static int reseed(const char *text, struct err *e)
{
    struct buf raw = BUF_INIT(ENTROPY_MAX);
    union {
        struct rand_pool_info info; /* ends in an array without a size */
        char room[sizeof(struct rand_pool_info) + ENTROPY_MAX];
    } pool = {0};
    int r = base64_decode(&raw, text, strlen(text));
    if (r < 0 || raw.len < 32) {
        buf_done(&raw);
        return err_set(e, EINVAL, "entropy must be 32 to %d bytes in base64", ENTROPY_MAX);
    }
    pool.info.entropy_count = (int)raw.len * 8;
    pool.info.buf_size = (int)raw.len;
    memcpy(pool.info.buf, raw.data, raw.len);
    explicit_bzero(raw.data, raw.len);
    buf_done(&raw);
    CLEANUP(cleanup_close)
    int fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, RNDADDENTROPY, &pool) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0)
        r = err_set_errno(e, errno, "cannot reseed the random number generator");
    explicit_bzero(&pool, sizeof pool);
    return r;
}

/* The container's host name lives in its uts namespace: we visit it. */
static int rename_host(struct guest *g, const char *name, struct err *e)
{
    int r = boot_check_hostname(name, e);
    if (r == 0)
        r = boot_lend_names(name, e);
    if (r < 0)
        return r;
    snprintf(g->hostname, sizeof g->hostname, "%s", name);
    if (sethostname(name, strlen(name)) < 0)
        return err_set_errno(e, errno, "cannot set the host name");
    if (!g->app.pid)
        return 0;
    if (setns(kept.app_uts, CLONE_NEWUTS) < 0)
        return err_set_errno(e, errno, "cannot visit the container's host name");
    int failed = sethostname(name, strlen(name)) < 0 ? errno : 0;
    if (setns(kept.own_uts, CLONE_NEWUTS) < 0)
        failed = errno;
    return failed ? err_set_errno(e, failed, "cannot set the container's host name") : 0;
}

static int new_identity(const char *machine_id, struct err *e)
{
    char boot_id[UUID_LEN + 1];
    if (strlen(machine_id) != 32 || strspn(machine_id, "0123456789abcdef") != 32)
        return err_set(e, EINVAL, "machineId must be 32 lower-case hex digits");
    uuid_new(boot_id); /* after the reseed */
    return boot_lend_ids(machine_id, boot_id, e);
}

void guest_resumed(struct guest *g, struct stream *st, const json_t *body)
{
    struct err e = {0};
    int64_t t0 = clock_mono_us(), ns = json_get_int(body, "timeNs", 0);
    const char *entropy = json_get_str(body, "entropy"), *host = json_get_str(body, "hostname");
    const char *machine_id = json_get_str(body, "machineId");
    unsigned killed = 0;
    keep_open(g); /* nothing to do after a PREPARE */
    int r = ns > 0 ? set_clock(ns, &e) : 0;
    if (r == 0 && entropy)
        r = reseed(entropy, &e);
    if (r == 0 && host)
        r = rename_host(g, host, &e);
    if (r == 0 && machine_id)
        r = new_identity(machine_id, &e);
    /* Peers of the frozen machine's connections talk to another clone, or to nobody: whoever waits
     * for their data would do so for ever. */
    if (r == 0 &&
        (json_get_bool(body, "clone", false) || json_get_bool(body, "disconnected", false)))
        r = sockdiag_kill_remote(kept.listeners, &killed, &e);
    if (r < 0) {
        stream_error(st, e.code == EINVAL ? 400 : 500, "%s", e.text);
        return;
    }
    stream_json(st, 200,
                json_pack("{s:I, s:i}", "tookUs", (json_int_t)(clock_mono_us() - t0),
                          "connectionsKilled", (int)killed));
}
