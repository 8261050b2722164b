/* SPDX-License-Identifier: Apache-2.0 */
/* The KVM engine against a monitor that is not one (fake_vmm.c, the first argument). */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fs.h"
#include "engine/backend.h"
#include "engine/kvm/machine.h"
#include "engine/kvm_probe.h"

#define MIB 64u

static const char *fake_vmm;
static struct rig {
    char dir[64];
    struct engine *engine;
    struct engine_spec spec;
    char disk[128], base[128], machine[128];
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool ended;
    struct engine_exit end;
} rig = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static char *in_dir(char out[128], const char *name)
{
    snprintf(out, 128, "%s/%s", rig.dir, name);
    return out;
}

static void write_file(const char *name, const char *text)
{
    char path[128];
    struct err e;
    assert_int_equal(fs_write_file(in_dir(path, name), text, strlen(text), 0600, &e), 0);
}

static void mode(const char *text)
{
    char path[128];
    write_file("mode", text);
    /* Not unlinked: monitors that run already write to it. */
    close(open(in_dir(path, "log"), O_WRONLY | O_CREAT | O_TRUNC, 0600));
}

static void on_exit_(void *arg, const struct engine_exit *x)
{
    (void)arg;
    pthread_mutex_lock(&rig.lock);
    rig.end = *x;
    rig.ended = true;
    pthread_cond_broadcast(&rig.changed);
    pthread_mutex_unlock(&rig.lock);
}

/* The text of the exit report, within two seconds. */
static const char *wait_end(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 2;
    pthread_mutex_lock(&rig.lock);
    int r = 0;
    while (!rig.ended && r == 0)
        r = pthread_cond_timedwait(&rig.changed, &rig.lock, &until);
    pthread_mutex_unlock(&rig.lock);
    assert_true(rig.ended);
    return rig.end.text;
}

static void open_engine(unsigned pool)
{
    char kernel[128], initramfs[128];
    struct err e = {0};
    struct engine_config c = {.kind = "kvm",
                              .kvm = "/dev/null",
                              .kernel = in_dir(kernel, "kernel"),
                              .initramfs = in_dir(initramfs, "initramfs"),
                              .helper_dir = rig.dir,
                              .key_dir = rig.dir,
                              .pool = pool};
    if (engine_open(&c, &rig.engine, &e) < 0)
        fail_msg("%s", e.text);
}

static int set_up(void **state)
{
    char link[128];
    struct err e = {0};
    (void)state;
    strcpy(rig.dir, "/tmp/kvm-engine-XXXXXX");
    assert_non_null(mkdtemp(rig.dir));
    assert_int_equal(symlink(fake_vmm, in_dir(link, "tinderbox-vmm")), 0);
    write_file("kernel", "kernel");
    write_file("initramfs", "initramfs");
    mode("");
    open_engine(0);
    assert_int_equal(mkdir(in_dir(rig.machine, "machine"), 0700), 0);
    in_dir(rig.base, "base.raw");
    in_dir(rig.disk, "machine/disk");
    assert_int_equal(engine_disk_create(rig.engine, rig.base, 1 << 20, &e), 0);
    assert_int_equal(engine_disk_overlay(rig.engine, rig.disk, rig.base, ENGINE_DISK_RAW, 0, &e),
                     0);
    rig.spec = (struct engine_spec){
        .id = "m",
        .dir = rig.machine,
        .memory_mib = MIB,
        .vcpus = 1,
        .disks = {{rig.disk, ENGINE_DISK_OVERLAY, false}, {rig.base, ENGINE_DISK_RAW, true}},
        .n_disks = 2,
        .on_exit = on_exit_};
    rig.ended = false;
    return 0;
}

static int tear_down(void **state)
{
    struct err e;
    (void)state;
    engine_close(rig.engine);
    return fs_remove_tree(rig.dir, &e);
}

static struct engine_machine *boot(void)
{
    struct engine_machine *m = NULL;
    struct err e = {0};
    if (engine_boot(rig.engine, &rig.spec, &m, &e) < 0)
        fail_msg("%s", e.text);
    return m;
}

static void expect_log(const char *want)
{
    char path[128];
    struct err e = {0};
    CLEANUP(buf_done)
    struct buf b = BUF_INIT(65536);
    assert_int_equal(fs_read_file(in_dir(path, "log"), &b, &e), 0);
    assert_string_equal(b.data, want);
}

static bool log_has(const char *want)
{
    char path[128];
    struct err e = {0};
    CLEANUP(buf_done)
    struct buf b = BUF_INIT(65536);
    return fs_read_file(in_dir(path, "log"), &b, &e) == 0 && b.data && strstr(b.data, want);
}

/* ---- life --------------------------------------------------------------------------------------
 */

static void test_boot(void **state)
{
    (void)state;
    struct err e = {0};
    char got[4] = "";
    struct engine_stats st;
    struct engine_machine *m = boot();
    expect_log("CREATE disks=2 net=0\n"
               "MEMORY kind=0\n"
               "DISK rw r index=0 cow=1 ro=0\n"
               "DISK r index=1 cow=0 ro=1\n"
               "CONSOLE rw\n"
               "BOOT r r\n"
               "RUN\n");
    int fd = engine_channel(m, &e);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "abc", 3), 3);
    assert_int_equal(read(fd, got, 3), 3);
    assert_string_equal(got, "abc");
    close(fd);
    assert_int_equal(engine_machine_stats(m, &st, &e), 0);
    assert_int_equal(st.exits, 42);
    assert_true(st.memory_rss_bytes > 0);
    assert_int_equal(engine_machine_pause(m, &e), 0);
    assert_int_equal(engine_machine_unpause(m, &e), 0);
    assert_true(engine_machine_alive(m));
    engine_machine_kill(m);
    assert_false(engine_machine_alive(m));
    assert_string_equal(wait_end(), "ended on request");
    assert_true(rig.end.expected);
    assert_int_equal(engine_machine_pause(m, &e), -EPIPE);
    engine_machine_free(m);
}

/* No file of a monitor grows past what it can need: here memory and its index, the disk is smaller.
 */
static void test_file_sizes_are_limited(void **state)
{
    (void)state;
    struct rlimit l;
    struct engine_machine *m = boot();
    pid_t pid = CONTAINER_OF(m, struct vmm, base)->life.pid;
    assert_int_equal(prlimit(pid, RLIMIT_FSIZE, NULL, &l), 0);
    uint64_t ram = (uint64_t)MIB << 20;
    assert_int_equal(l.rlim_max, ram + VMM_PAGES_INDEX_MAX(ram) + VMM_STATE_MAX);
    engine_machine_free(m);
}

/* What the monitor does at a request, and what the caller is told. */
static const struct odd {
    const char *mode;
    int code;
    const char *text;
} at_boot[] = {
    {"CREATE die", -EPIPE, "no such device"},
    {"CREATE fail", -EIO, "the medium?is broken"},
    {"CREATE kill", -EPIPE, "monitor killed by signal 9"},
    {"CREATE close", -EPIPE, "closed its control channel"},
    {"MEMORY short", -EPIPE, "broke the protocol"},
    {"DISK sequence", -EPIPE, "broke the protocol"},
    {"CONSOLE request", -EPIPE, "broke the protocol"},
    {"CONSOLE twice", -EPIPE, "broke the protocol"},
    {"BOOT positive", -EPIPE, "broke the protocol"},
    {"BOOT disk", -EPIPE, "broke the protocol"},
    {"BOOT unknown", -EPIPE, "broke the protocol"},
    {"BOOT flood", -EPIPE, "broke the protocol"},
    {"RUN die", -EPIPE, "no such device"},
};

static void test_broken_at_boot(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(at_boot); i++) {
        struct engine_machine *m = NULL;
        struct err e = {0};
        mode(at_boot[i].mode);
        int64_t start = clock_mono_ms();
        int r = engine_boot(rig.engine, &rig.spec, &m, &e);
        if (r != at_boot[i].code || !strstr(e.text, at_boot[i].text))
            fail_msg("%s: %d %s", at_boot[i].mode, r, e.text);
        assert_true(clock_mono_ms() - start < 2000);
        assert_false(rig.ended); /* it was never handed out */
    }
}

static const struct end {
    const char *mode, *text;
    int code; /* of the next call */
} ends[] = {
    {"PAUSE poweroff", "guest powered off", -EPIPE},
    {"PAUSE panic", "guest kernel died: Kernel panic - not syncing: no init", -EPIPE},
    {"PAUSE triple", "guest died of a triple fault", -EPIPE},
    {"PAUSE hang", "guest hangs", -EPIPE},
    {"PAUSE failed", "monitor gave up: KVM_EXIT?", -EPIPE},
    {"PAUSE kill", "monitor killed by signal 9", -EPIPE},
    {"PAUSE die", "monitor exited with status 3: no such device", -EPIPE},
    {"PAUSE exit", "monitor ended by itself", -EPIPE},
    {"PAUSE full", LIFE_NO_SPACE, -ENOSPC},
};

static void test_ends(void **state)
{
    (void)state;
    rig.spec.end_when_full = true;
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        struct err e = {0};
        mode(ends[i].mode);
        struct engine_machine *m = boot();
        (void)!engine_machine_pause(m, &e);
        if (!strstr(wait_end(), ends[i].text))
            fail_msg("%s: %s", ends[i].mode, rig.end.text);
        assert_false(rig.end.expected);
        assert_int_equal(engine_machine_unpause(m, &e), ends[i].code);
        engine_machine_free(m);
        rig.ended = false;
    }
}

static void test_full_disk_waits(void **state)
{
    (void)state;
    struct err e = {0};
    mode("PAUSE full");
    struct engine_machine *m = boot();
    assert_int_equal(engine_machine_pause(m, &e), 0);
    assert_int_equal(engine_machine_unpause(m, &e), 0);
    assert_true(engine_machine_alive(m));
    engine_machine_free(m);
}

static void *kill_later(void *m)
{
    usleep(100000);
    engine_machine_kill(m);
    return NULL;
}

static void test_killed_while_waiting(void **state)
{
    (void)state;
    struct err e = {0};
    pthread_t t;
    mode("PAUSE silent");
    struct engine_machine *m = boot();
    int64_t start = clock_mono_ms();
    assert_int_equal(pthread_create(&t, NULL, kill_later, m), 0);
    assert_int_equal(engine_machine_pause(m, &e), -EPIPE);
    assert_true(clock_mono_ms() - start < 2000);
    pthread_join(t, NULL);
    engine_machine_free(m);
}

/* ---- freezing ----------------------------------------------------------------------------------
 */

static void snapshot(const char *name)
{
    char dir[128];
    struct err e = {0};
    struct engine_machine *m = boot();
    if (engine_snapshot(m, in_dir(dir, name), &e) < 0)
        fail_msg("%s", e.text);
    engine_machine_free(m);
}

static struct engine_machine *thaw(const char *name, bool clone)
{
    char dir[128];
    struct err e = {0};
    struct engine_machine *m = NULL;
    in_dir(dir, name);
    int r = clone ? engine_restore(rig.engine, &rig.spec, dir, &m, &e)
                  : engine_resume(rig.engine, &rig.spec, dir, &m, &e);
    if (r < 0)
        fail_msg("%s", e.text);
    return m;
}

static void test_snapshot_clone_suspend(void **state)
{
    (void)state;
    struct err e = {0};
    struct stat a, b;
    char dir[128], path[128];
    snapshot("snap");
    assert_true(log_has("PAUSE\nSAVE rw rw all=1 disks=0\nQUIT\n"));
    assert_int_equal(stat(in_dir(path, "snap/memory"), &a), 0);
    assert_int_equal(a.st_size, MIB << 20); /* without the index */
    assert_int_equal(stat(in_dir(path, "snap/pages"), &b), -1);
    mode("");
    struct engine_machine *m = thaw("snap", true);
    assert_true(log_has("MEMORY r kind=1\n"));
    assert_true(log_has("RESTORE r flags=4 gen="));
    assert_false(log_has("gen=00000000"));
    assert_int_equal(engine_suspend(m, in_dir(dir, "state"), &e), 0);
    assert_true(log_has("SAVE rw rw all=0 disks=0\n"));
    engine_machine_free(m);
    assert_int_equal(stat(in_dir(path, "state/memory"), &b), 0);
    assert_int_equal(a.st_ino, b.st_ino);
    mode("");
    m = thaw("state", false);
    assert_true(log_has("RESTORE r r flags=1 gen=00000000\nRUN\n"));
    engine_machine_free(m);
    assert_int_equal(engine_restore(rig.engine, &rig.spec, dir, &m, &e), -EBADMSG);
    rig.spec.memory_mib *= 2;
    assert_int_equal(engine_resume(rig.engine, &rig.spec, dir, &m, &e), -EBADMSG);
    assert_non_null(strstr(e.text, "64 MiB"));
}

static void test_memory_is_whole_when_its_snapshot_has_gone(void **state)
{
    (void)state;
    struct err e = {0};
    char dir[128];
    snapshot("snap");
    struct engine_machine *m = thaw("snap", true);
    assert_int_equal(fs_remove_tree(in_dir(dir, "snap"), &e), 0);
    mode("");
    assert_int_equal(engine_suspend(m, in_dir(dir, "state"), &e), 0);
    assert_true(fs_exists(in_dir(dir, "state/memory")));
    engine_machine_free(m);
    engine_machine_free(thaw("state", false));
    assert_true(log_has("RESTORE r flags=0"));
}

static void test_failed_save_lets_it_run(void **state)
{
    (void)state;
    struct err e = {0};
    char dir[128];
    mode("SAVE nospace");
    struct engine_machine *m = boot();
    assert_int_equal(engine_snapshot(m, in_dir(dir, "snap"), &e), -ENOSPC);
    assert_true(log_has("SAVE rw rw all=1 disks=0\nRUN\n"));
    assert_true(engine_machine_alive(m));
    assert_false(fs_exists(in_dir(dir, "snap")));
    engine_machine_free(m);
}

/* A state that is longer than any: hashing all of it could take for ever. */
static void test_lying_save_is_refused(void **state)
{
    (void)state;
    struct err e = {0};
    char dir[128];
    mode("SAVE huge");
    struct engine_machine *m = boot();
    assert_int_equal(engine_snapshot(m, in_dir(dir, "snap"), &e), -EBADMSG);
    assert_non_null(strstr(e.text, "more than it can need"));
    assert_false(fs_exists(dir));
    engine_machine_free(m);
}

static void test_working_set(void **state)
{
    (void)state;
    char path[128];
    snapshot("snap");
    struct engine_machine *m = thaw("snap", true);
    in_dir(path, "snap/" VMM_WORKING_SET);
    for (int i = 0; i < 300 && !fs_exists(path); i++)
        usleep(10000);
    assert_true(fs_exists(path));
    engine_machine_free(m);
    mode("");
    engine_machine_free(thaw("snap", true));
    assert_true(log_has("RESTORE r r flags=6 gen="));
}

/* ---- network and pool --------------------------------------------------------------------------
 */

static void test_gate(void **state)
{
    (void)state;
    struct err e = {0};
    char path[128], text[] = "#!/bin/sh\nexec sleep 1000\n";
    write_file("tinderbox-net", text);
    assert_int_equal(chmod(in_dir(path, "tinderbox-net"), 0700), 0);
    rig.spec.network = true;
    snapshot("snap");
    assert_true(log_has("NET rw closed=0 mac=52\n"));
    mode("");
    struct engine_machine *m = thaw("snap", true);
    assert_true(log_has("NET rw closed=1 mac=52\n"));
    assert_int_equal(engine_machine_network(m, true, &e), 0);
    assert_true(log_has("GATE open=1\n"));
    engine_machine_free(m);
}

static void wait_idle(unsigned n)
{
    struct vmm_engine *v = rig.engine->impl;
    for (int i = 0; i < 200 && vmm_pool_idle(v->pool) != n; i++)
        usleep(10000);
    assert_int_equal(vmm_pool_idle(v->pool), n);
}

static void test_pool(void **state)
{
    (void)state;
    engine_close(rig.engine);
    open_engine(2);
    wait_idle(0); /* no shape is known yet */
    engine_machine_free(boot());
    wait_idle(2);
    mode("");
    struct engine_machine *m = boot();
    expect_log("MEMORY kind=0\n"
               "DISK rw r index=0 cow=1 ro=0\n"
               "DISK r index=1 cow=0 ro=1\n"
               "CONSOLE rw\n"
               "BOOT r r\n"
               "RUN\n"); /* CREATE was long ago */
    wait_idle(2);
    engine_machine_free(m);
    mode("");
    rig.spec.n_disks = 1; /* another shape: none of those fits */
    m = boot();
    assert_true(log_has("CREATE disks=1 net=0\nMEMORY"));
    wait_idle(2);
    engine_machine_free(m);
}

/* ---- forking -----------------------------------------------------------------------------------
 */

static void chain_of(const char *disk, struct overlay_chain *c)
{
    struct err e = {0};
    if (disks_chain_read(&disks_layers, disk, ENGINE_DISK_OVERLAY, &rig.engine->key, c, &e) < 0)
        fail_msg("%s", e.text);
}

static void test_fork(void **state)
{
    (void)state;
    struct err e = {0};
    struct overlay_chain c;
    struct engine_fork_info info;
    struct stat a, b;
    char dir[128], path[128], clone[128];
    struct engine_machine *m = boot();
    assert_int_equal(stat(rig.disk, &a), 0);
    mode("");
    if (engine_fork(m, in_dir(dir, "fork"), &info, &e) < 0)
        fail_msg("%s", e.text);
    assert_true(log_has("FORK rw rw rw all=1 disks=1\n"));
    assert_true(engine_machine_alive(m));
    assert_int_equal(info.paused_us, 1234);
    assert_int_equal(info.n_disks, 2);
    assert_string_equal(info.disk[0], "disk0");
    assert_string_equal(info.disk[1], "");
    assert_int_equal(stat(in_dir(path, "fork/disk0"), &b), 0);
    assert_int_not_equal(a.st_ino, b.st_ino); /* the monitor can write to that one */
    chain_of(rig.disk, &c);                   /* new top, what was frozen, base */
    assert_int_equal(c.n, 3);
    assert_int_equal(stat(c.node[1].path, &b), 0);
    assert_int_equal(a.st_ino, b.st_ino);
    disks_chain_done(&c);
    /* Again, while it runs. */
    assert_int_equal(engine_fork(m, in_dir(dir, "fork2"), &info, &e), 0);
    chain_of(rig.disk, &c);
    assert_int_equal(c.n, 4);
    disks_chain_done(&c);
    engine_machine_free(m);
    /* A clone needs nothing of the machine. */
    assert_int_equal(fs_remove_tree(rig.machine, &e), 0);
    assert_int_equal(mkdir(rig.machine, 0700), 0);
    assert_int_equal(engine_disk_overlay(rig.engine, in_dir(clone, "machine/clone"), path,
                                         ENGINE_DISK_OVERLAY, 0, &e),
                     0);
    rig.spec.disks[0].path = clone;
    mode("");
    engine_machine_free(thaw("fork", true));
    assert_true(log_has("DISK rw r r index=0 cow=3 ro=0\n"));
}

static void failing_fork(const char *how, int layers)
{
    struct err e = {0};
    struct overlay_chain c;
    struct engine_fork_info info;
    char dir[128], path[128];
    mode(how);
    struct engine_machine *m = boot();
    assert_int_equal(engine_fork(m, in_dir(dir, "fork"), &info, &e), -EIO);
    assert_non_null(strstr(e.text, "the medium?is broken"));
    assert_true(engine_machine_alive(m));
    assert_false(fs_exists(dir));
    assert_false(fs_exists(in_dir(path, "machine/disk.next")));
    chain_of(rig.disk, &c);
    assert_int_equal(c.n, layers);
    assert_int_equal(fs_exists(in_dir(path, "machine/disk.1")), layers == 3);
    disks_chain_done(&c);
    engine_machine_free(m);
}

static void test_fork_fails(void **state)
{
    (void)state;
    failing_fork("FORK fail", 2);      /* before the disks moved: nothing has changed */
    failing_fork("FORK failmoved", 3); /* after: the machine goes on over its new layer */
}

static void test_fork_needs_layers(void **state)
{
    (void)state;
    struct err e = {0};
    struct engine_fork_info info;
    char dir[128];
    rig.spec.disks[1].read_only = false;
    struct engine_machine *m = boot();
    assert_int_equal(engine_fork(m, in_dir(dir, "fork"), &info, &e), -ENOTSUP);
    assert_non_null(strstr(e.text, "disk 1"));
    engine_machine_free(m);
}

/* ---- the other engine --------------------------------------------------------------------------
 */

static void test_other_engines_disk(void **state)
{
    (void)state;
    struct err e = {0};
    struct engine_machine *m = NULL;
    char path[128];
    in_dir(path, "machine/q");
    assert_int_equal(
        disks_overlay(&disks_qcow2, path, rig.base, ENGINE_DISK_RAW, 0, &rig.engine->key, &e), 0);
    rig.spec.disks[0].path = path;
    assert_int_equal(engine_boot(rig.engine, &rig.spec, &m, &e), -EBADMSG);
    assert_non_null(strstr(e.text, "made by the software engine, this is the KVM engine"));
    struct overlay_chain c;
    assert_int_equal(
        disks_chain_read(&disks_qcow2, rig.disk, ENGINE_DISK_OVERLAY, &rig.engine->key, &c, &e),
        -EBADMSG);
    assert_non_null(strstr(e.text, "made by the KVM engine, this is the software engine"));
}

static void test_pick(void **state)
{
    (void)state;
    char why[300];
    struct kvm_probe real = {.real = true, .text = "fast"}, fake = {.text = "slow"};
    assert_string_equal(engine_pick("auto", rig.dir, &real, why, sizeof why), "kvm");
    assert_string_equal(why, "fast");
    assert_string_equal(engine_pick("auto", rig.dir, &fake, why, sizeof why), "qemu");
    assert_string_equal(engine_pick(NULL, "/nowhere", &real, why, sizeof why), "qemu");
    assert_string_equal(why, "fast, but tinderbox-vmm is not installed");
    assert_string_equal(engine_pick("qemu", rig.dir, &real, why, sizeof why), "qemu");
    assert_string_equal(engine_pick("kvm", rig.dir, &fake, why, sizeof why), "kvm");
    assert_null(engine_pick("xen", rig.dir, &real, why, sizeof why));
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 77;
    fake_vmm = realpath(argv[1], NULL);
    signal(SIGPIPE, SIG_IGN);
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_boot),
        T(test_file_sizes_are_limited),
        T(test_broken_at_boot),
        T(test_ends),
        T(test_full_disk_waits),
        T(test_killed_while_waiting),
        T(test_snapshot_clone_suspend),
        T(test_memory_is_whole_when_its_snapshot_has_gone),
        T(test_failed_save_lets_it_run),
        T(test_lying_save_is_refused),
        T(test_working_set),
        T(test_gate),
        T(test_pool),
        T(test_fork),
        T(test_fork_fails),
        T(test_fork_needs_layers),
        T(test_other_engines_disk),
        T(test_pick),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
