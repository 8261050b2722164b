/* SPDX-License-Identifier: Apache-2.0 */
/* Build machines: MOUNT, RUN, FINISH, and the archive program behind SCAN, READ and COPY. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "guest/boot.h"
#include "guest/devices.h"
#include "guest/exec.h"
#include "guest/job.h"
#include "guest/netconf.h"
#include "proto/wire.h"

#define BUILD_CGROUP GUEST_CGROUP "/build"
#define UMOUNT_TRIES                                                             \
    40 /* of 50 ms: a mount namespace that just ended is freed in the background \
        */

struct mount_args {
    int stage, from; /* from < 0: none */
    bool network;
    struct netconf net;
    const char *ca; /* borrowed from the request */
};

static struct mount_args mounting; /* of the last MOUNT; FINISH needs the slot */

static int mount_work(void *arg, struct err *e)
{
    const struct mount_args *m = arg;
    int r = boot_mount(m->stage, GUEST_STAGE_ROOT, false, e);
    if (r == 0 && m->from >= 0)
        r = boot_mount(m->from, GUEST_FROM_ROOT, true, e);
    if (r == 0 && m->network)
        r = netconf_eth0(&m->net, e);
    if (r == 0)
        r = netconf_write_resolv(m->network ? &m->net : NULL, e);
    if (r == 0)
        r = boot_lend_names("localhost", e);
    if (r == 0 && m->ca)
        r = boot_lend("ca-bundle.crt", m->ca, e);
    if (r < 0) { /* all or nothing */
        umount2(GUEST_FROM_ROOT, MNT_DETACH);
        umount2(GUEST_STAGE_ROOT, MNT_DETACH);
    }
    return r;
}

static void mount_done(struct guest *g)
{
    g->stage_mounted = true;
    g->from_mounted = mounting.from >= 0;
    g->have_ca = mounting.ca != NULL;
}

void guest_build_mount(struct guest *g, struct stream *st, const json_t *body)
{
    struct err e = {0};
    const json_t *net = json_object_get(body, "network");
    if (g->stage_mounted || g->build_busy) {
        stream_error(st, 409, "a stage is mounted already");
        return;
    }
    mounting = (struct mount_args){.stage = (int)json_get_int(body, "stage", 0),
                                   .from = (int)json_get_int(body, "from", -1),
                                   .ca = json_get_str(body, "caBundle")};
    if (net && !json_is_null(net)) {
        mounting.network = true;
        if (netconf_parse(net, &mounting.net, &e) < 0) {
            stream_error(st, 400, "%s", e.text);
            return;
        }
    }
    job_start(g, st, mount_work, &mounting, mount_done);
}

static int unmount(const char *path, struct err *e)
{
    for (int i = 0; umount2(path, 0) < 0; i++) {
        if (errno == EINVAL)
            return 0; /* not mounted */
        if (errno != EBUSY || i == UMOUNT_TRIES)
            return err_set_errno(e, errno, "cannot unmount %s", path);
        usleep(50000);
    }
    return 0;
}

static int finish_work(void *arg, struct err *e)
{
    const struct mount_args *m = arg;
    int r = unmount(GUEST_FROM_ROOT, e);
    if (r == 0)
        r = unmount(GUEST_STAGE_ROOT, e);
    if (r < 0)
        return r;
    char dev[16];
    r = boot_device(m->stage, dev, e);
    if (r < 0)
        return r;
    CLEANUP(cleanup_close)
    int fd = open(dev, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return err_set_errno(e, errno, "cannot flush %s", dev);
    return 0;
}

static void finish_done(struct guest *g)
{
    g->stage_mounted = g->from_mounted = false;
}

void guest_build_finish(struct guest *g, struct stream *st, const json_t *body UNUSED)
{
    if (g->build_busy)
        stream_error(st, 409, "%u steps are still running", g->build_busy);
    else if (!g->stage_mounted)
        stream_error(st, 409, "no stage is mounted");
    else
        job_start(g, st, finish_work, &mounting, finish_done);
}

/* In a child: takes away what was made only to mount over it, innermost first. Something else by
 * now (not empty, another type) was the command's own doing and stays. */
static void remove_made(const char *list, size_t n)
{
    if (chroot(GUEST_STAGE_ROOT) < 0 || chdir("/") < 0)
        _exit(1);
    while (n) {
        size_t start = n - 1; /* list[n - 1] is the NUL of the last path */
        while (start && list[start - 1] != '\0')
            start--;
        const char *path = list + start;
        struct stat st;
        if (lstat(path, &st) == 0) {
            if (S_ISDIR(st.st_mode))
                (void)rmdir(path);
            else if (S_ISREG(st.st_mode) && st.st_size == 0)
                (void)unlink(path);
        }
        n = start;
    }
    _exit(0);
}

static void run_over(struct exec *x)
{
    x->g->build_busy--;
    exec_finished(x);
}

static void on_removed(struct ev_child *c, int status)
{
    struct exec *x = CONTAINER_OF(c, struct exec, helper);
    if (status)
        log_warn("agent", "temporary mount points could not be removed");
    run_over(x);
}

static void run_ended(struct exec *x)
{
    const struct buf *made = &x->proc.made;
    pid_t pid = made->len ? fork() : 0;
    if (made->len && pid == 0)
        remove_made(made->data, made->len);
    if (pid <= 0) {
        run_over(x);
        return;
    }
    x->helper.fn = on_removed;
    ev_child_watch(x->g->ev, &x->helper, pid);
}

static int run_begin(struct exec *x, struct err *e)
{
    struct guest *g = x->g;
    if (!g->stage_mounted)
        return err_set(e, EINVAL, "no stage is mounted");
    struct launch l = {.where = LAUNCH_NEW,
                       .root = GUEST_STAGE_ROOT,
                       .hostname = "localhost",
                       .build = true,
                       .have_ca = g->have_ca,
                       .make_cwd = true,
                       .cgroup = BUILD_CGROUP};
    int r = launch_parse(&l, x->spec, NULL, e);
    if (r == 0)
        r = devices_make_cgroup(BUILD_CGROUP, false, e);
    if (r == 0)
        r = exec_launch(x, &l, e);
    if (r == 0)
        g->build_busy++;
    launch_done(&l);
    return r;
}

static const struct exec_kind RUN_KIND = {
    .begin = run_begin, .output = exec_output_frames, .ended = run_ended, .give_exit = true};

void guest_build_run(struct guest *g, struct stream *st)
{
    exec_open(g, st, &RUN_KIND);
}

/* The archive program writes frames itself; they are checked for shape only and passed on. */
void exec_unpack_output(struct exec *x, int i, const char *p, size_t n)
{
    if (i == 1) {
        log_warn("unpack", "%.*s", (int)(n < 500 ? n : 500), p);
        return;
    }
    int type, r = frame_reader_add(&x->out_reader, p, n);
    struct slice payload;
    while (r >= 0 && (r = frame_reader_next(&x->out_reader, &type, &payload)) == 1) {
        if (x->final_sent)
            return;
        stream_frame(x->st, type, payload.p, payload.n);
        x->final_sent = type == WIRE_FRAME_EXIT || type == WIRE_FRAME_ERROR;
    }
}

void exec_unpack_ended(struct exec *x)
{
    if (x->st && !x->st->out_end) {
        if (x->final_sent)
            stream_send_end(x->st);
        else
            exec_fail(x, "INTERNAL",
                      WIFSIGNALED(x->status) ? "the archive program was killed"
                                             : "the archive program ended without a result");
    }
    frame_reader_done(&x->out_reader);
    exec_finished(x);
}

static void unpack_ended(struct exec *x)
{
    x->g->build_busy--;
    exec_unpack_ended(x);
}

static int unpack_begin(struct exec *x, struct err *e)
{
    const char *mode = strrchr(x->st->path, '/') + 1; /* scan, read, copy */
    bool copy = strcmp(mode, "copy") == 0;
    if (copy && !x->g->stage_mounted)
        return err_set(e, EINVAL, "no stage is mounted");
    CLEANUP(cleanup_free)
    char *text = json_text(x->spec);
    CLEANUP(cleanup_json)
    json_t *spec = json_pack("{s:[s, s, s]}", "args", GUEST_UNPACK, mode, text);
    if (!spec)
        return err_set(e, EINVAL, "bad specification");
    struct launch l = {.where = LAUNCH_HERE};
    int r = launch_parse(&l, spec, NULL, e);
    if (r == 0)
        r = exec_launch(x, &l, e);
    if (r == 0)
        x->g->build_busy++;
    launch_done(&l);
    return r;
}

static const struct exec_kind UNPACK_KIND = {
    .begin = unpack_begin, .output = exec_unpack_output, .ended = unpack_ended, .json_body = true};

void guest_build_unpack(struct guest *g, struct stream *st)
{
    exec_open(g, st, &UNPACK_KIND);
}
