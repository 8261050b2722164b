/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of real machines, in the order a product uses them: boot, exec, snapshot, clones,
 * suspend, resume, damage, sudden death. The tests build on each other: the first makes the
 * snapshot the others thaw.
 */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"

enum { CLONES = 5 };

static struct rig rig;
static char snapshot[300], template_disk[500];

static bool on_kvm(void)
{
    return strcmp(engine_name(rig.engine), "kvm") == 0;
}

static void sleep_ms(int ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

static void test_boot_and_snapshot(void **state)
{
    (void)state;
    struct err e = {0};
    struct box *b;
    char base[600], out[1000];
    struct engine_stats st;
    snprintf(base, sizeof base, "%s/debian-12.ext4", rig.guest);
    b = box_prepare(&rig, "template", base, ENGINE_DISK_RAW);
    int64_t t0 = clock_mono_ms();
    box_boot(&rig, b);
    int64_t t1 = clock_mono_ms();
    assert_true(engine_machine_alive(b->machine));
    assert_int_equal(box_sh(b, "echo out; echo err >&2; exit 7", out, sizeof out), 7);
    assert_non_null(strstr(out, "out"));
    assert_non_null(strstr(out, "err"));
    assert_int_equal(box_sh(b, "kill -9 $$", out, sizeof out), 128 + 9);
    assert_int_equal(box_sh(b, "echo template > /shared && sync && cat /shared", out, sizeof out),
                     0);
    assert_string_equal(out, "template");
    CHECK_OK(engine_machine_stats(b->machine, &st, &e), e);
    assert_true(st.cpu_us > 100000 && st.memory_rss_bytes > (32 << 20));
    assert_true(st.disk_written_bytes >= 4096);
    snprintf(snapshot, sizeof snapshot, "%s/snapshot", rig.dir);
    snprintf(template_disk, sizeof template_disk, "%s", b->disk);
    box_freeze(b);
    int64_t t2 = clock_mono_ms();
    CHECK_OK(engine_snapshot(b->machine, snapshot, &e), e);
    int64_t t3 = clock_mono_ms();
    assert_false(engine_machine_alive(b->machine));
    assert_int_equal(engine_channel(b->machine, &e), -EPIPE);
    box_end(b);
    assert_true(b->exited_us && b->exit.expected);
    printf("boot to exec %lld ms, snapshot %lld ms\n", (long long)(t1 - t0), (long long)(t3 - t2));
    chmod(template_disk, 0400);
}

static void *thaw_main(void *arg)
{
    box_restore(&rig, arg, snapshot, true);
    return NULL;
}

/* Five at once: each writes its own name to the same file and reads what it finds. */
static void test_clones(void **state)
{
    (void)state;
    struct box *b[CLONES];
    pthread_t t[CLONES];
    char name[CLONES][16], random[CLONES][200], host[CLONES][100], id[CLONES][100];
    char out[300], command[200];
    for (int i = 0; i < CLONES; i++) {
        snprintf(name[i], sizeof name[i], "clone-%d", i);
        b[i] = box_prepare(&rig, name[i], template_disk, ENGINE_DISK_OVERLAY);
    }
    int64_t t0 = clock_mono_ms();
    for (int i = 0; i < CLONES; i++)
        assert_int_equal(pthread_create(&t[i], NULL, thaw_main, b[i]), 0);
    for (int i = 0; i < CLONES; i++)
        pthread_join(t[i], NULL);
    printf("%d clones at once, ready after %lld ms\n", CLONES, (long long)(clock_mono_ms() - t0));
    for (int i = 0; i < CLONES; i++) {
        assert_int_equal(box_sh(b[i], "cat /shared", out, sizeof out), 0);
        assert_string_equal(out, "template");
        snprintf(command, sizeof command, "echo %s > /shared; sync", name[i]);
        assert_int_equal(box_sh(b[i], command, out, sizeof out), 0);
    }
    for (int i = 0; i < CLONES; i++) {
        box_sh(b[i], "cat /shared", out, sizeof out);
        assert_string_equal(out, name[i]);
        box_sh(b[i], "od -An -tx1 -N32 /dev/urandom | tr -d ' \\n'", random[i], sizeof random[i]);
        box_sh(b[i], "hostname", host[i], sizeof host[i]);
        box_sh(b[i], "cat /etc/machine-id", id[i], sizeof id[i]);
        assert_int_equal(strlen(random[i]), 64);
        assert_string_equal(host[i], name[i]);
        assert_int_equal(box_sh(b[i], "cat /sys/devices/system/clocksource/clocksource0/current*",
                                out, sizeof out),
                         0);
        /* The third one, the timer tick, loses time on a busy host. */
        assert_string_equal(out, on_kvm() ? "kvm-clock" : "tsc");
        long long before = clock_real_ms() / 1000;
        box_sh(b[i], "date +%s", out, sizeof out);
        long long after = clock_real_ms() / 1000, there = atoll(out);
        if (there < before - 2 || there > after + 2)
            fail_msg("clock of %s is %lld s off", name[i], there - after);
        for (int k = 0; k < i; k++) {
            assert_string_not_equal(random[i], random[k]);
            assert_string_not_equal(id[i], id[k]);
        }
    }
    for (int i = 0; i < CLONES; i++)
        box_end(b[i]);
    assert_int_equal(count_children(), 0);
}

static int64_t restore_alone(struct box **ret, const char *id)
{
    struct box *b = box_prepare(&rig, id, template_disk, ENGINE_DISK_OVERLAY);
    *ret = b;
    int64_t t0 = clock_mono_us();
    box_restore(&rig, b, snapshot, true);
    return clock_mono_us() - t0;
}

/* Who a machine is to its programs: machine-id, boot id, host name in its four places. */
static void read_identity(struct box *b, char out[3][200])
{
    static const char names[] = "echo $(hostname) $(uname -n) $(cat /etc/hostname) "
                                "$(sed -n 's/^127.0.0.1.*localhost //p' /etc/hosts)";
    static const char *const commands[3] = {"cat /etc/machine-id",
                                            "cat /proc/sys/kernel/random/boot_id", names};
    for (int i = 0; i < 3; i++)
        assert_int_equal(box_sh(b, commands[i], out[i], 200), 0);
}

/* Clones are told apart by everything that names a machine, and draw other numbers from the kernel
 * (the boot id is the first the agent draws). A machine that slept is still the same. */
static void test_identity(void **state)
{
    (void)state;
    struct err e = {0};
    struct box *b[2];
    char who[2][3][200], again[3][200], uuid[2][200], dir[500];
    restore_alone(&b[0], "alice");
    restore_alone(&b[1], "bob");
    for (int i = 0; i < 2; i++) {
        read_identity(b[i], who[i]);
        box_sh(b[i], "cat /proc/sys/kernel/random/uuid", uuid[i], sizeof uuid[i]);
        assert_int_equal(strlen(who[i][0]), 32);
        assert_int_equal(strlen(who[i][1]), 36);
    }
    assert_string_equal(who[0][2], "alice alice alice alice");
    assert_string_equal(who[1][2], "bob bob bob bob");
    assert_string_not_equal(who[0][0], who[1][0]);
    assert_string_not_equal(who[0][1], who[1][1]);
    assert_string_not_equal(uuid[0], uuid[1]);
    snprintf(dir, sizeof dir, "%s/state", b[0]->dir);
    box_freeze(b[0]);
    CHECK_OK(engine_suspend(b[0]->machine, dir, &e), e);
    box_end(b[0]);
    box_restore(&rig, b[0], dir, false);
    read_identity(b[0], again);
    for (int i = 0; i < 3; i++)
        assert_string_equal(again[i], who[0][i]);
}

static void copy_snapshot(const char *to)
{
    struct err e = {0};
    static const char *const files[] = {"manifest.json", "state", "memory"};
    CHECK_OK(fs_mkdir_p(to, 0700, &e), e);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char from_path[600], to_path[600];
        snprintf(from_path, sizeof from_path, "%s/%s", snapshot, files[i]);
        snprintf(to_path, sizeof to_path, "%s/%s", to, files[i]);
        CHECK_OK(fs_copy_file(from_path, to_path, 0600, &e), e);
    }
}

static int app_count(struct box *b, char *pid, size_t cap)
{
    char out[100];
    assert_int_equal(box_sh(b, "cat /run/app.pid", pid, cap), 0);
    assert_int_equal(box_sh(b,
                            "rm -f /run/app.count; kill -USR1 $(cat /run/app.pid); "
                            "for i in 1 2 3 4 5 6 7 8 9 10; do "
                            "[ -s /run/app.count ] && break; sleep 0.2; done; "
                            "cat /run/app.count",
                            out, sizeof out),
                     0);
    return atoi(out);
}

/* The same process with its memory goes on, also through a second round from the resumed machine.
 */
static void test_suspend_resume(void **state)
{
    (void)state;
    struct err e = {0};
    struct box *b;
    char pid[32], again[32], dir[500], out[200], sum[200];
    int64_t restored = restore_alone(&b, "sleeper");
    int before = app_count(b, pid, sizeof pid);
    assert_true(before > 0);
    assert_int_equal(box_sh(b,
                            "echo kept > /kept; sync; "
                            "head -c 20000000 /dev/urandom > /dev/shm/r; "
                            "head -c 5000000 /dev/zero > /dev/shm/z; "
                            "cat /dev/shm/* | sha256sum",
                            sum, sizeof sum),
                     0);
    for (int round = 0; round < 2; round++) {
        snprintf(dir, sizeof dir, "%s/state-%d", b->dir, round);
        box_freeze(b);
        int64_t t0 = clock_mono_us();
        CHECK_OK(engine_suspend(b->machine, dir, &e), e);
        int64_t t1 = clock_mono_us();
        assert_false(engine_machine_alive(b->machine));
        box_end(b);
        assert_int_equal(count_children(), 0);
        int64_t t2 = clock_mono_us();
        box_restore(&rig, b, dir, false);
        int64_t t3 = clock_mono_us();
        printf("restore to agent %lld ms, suspend %lld ms (%llu KiB), resume to agent %lld ms\n",
               (long long)restored / 1000, (long long)(t1 - t0) / 1000,
               (unsigned long long)fs_tree_bytes(dir) / 1024, (long long)(t3 - t2) / 1000);
        /* The machine must not need its old state any more. */
        CHECK_OK(fs_remove_tree(dir, &e), e);
        int after = app_count(b, again, sizeof again);
        assert_string_equal(pid, again);
        assert_true(after >= before);
        before = after;
        box_sh(b, "cat /kept", out, sizeof out);
        assert_string_equal(out, "kept");
        assert_int_equal(box_sh(b, "cat /dev/shm/* | sha256sum", out, sizeof out), 0);
        assert_string_equal(out, sum);
    }
    box_end(b);
}

/* The memory a clone is made of has been deleted: all of it is written, and no base is needed. */
static void test_suspend_without_snapshot(void **state)
{
    (void)state;
    struct err e = {0};
    char copy[400], dir[500], path[600], pid[32], again[32];
    struct box *b = box_prepare(&rig, "orphan", template_disk, ENGINE_DISK_OVERLAY);
    snprintf(copy, sizeof copy, "%s/copy", rig.dir);
    snprintf(dir, sizeof dir, "%s/state", b->dir);
    copy_snapshot(copy);
    box_restore(&rig, b, copy, true);
    int before = app_count(b, pid, sizeof pid);
    CHECK_OK(fs_remove_tree(copy, &e), e);
    box_freeze(b);
    int64_t t0 = clock_mono_us();
    CHECK_OK(engine_suspend(b->machine, dir, &e), e);
    int64_t t1 = clock_mono_us();
    box_end(b);
    /* QEMU puts the memory into its state; the monitor writes a memory file of its own. */
    snprintf(path, sizeof path, "%s/memory", dir);
    assert_int_equal(fs_exists(path), on_kvm());
    box_restore(&rig, b, dir, false);
    printf("whole memory: suspend %lld ms (%llu KiB), resume to agent %lld ms\n",
           (long long)(t1 - t0) / 1000, (unsigned long long)fs_tree_bytes(dir) / 1024,
           (long long)(clock_mono_us() - t1) / 1000);
    assert_true(app_count(b, again, sizeof again) >= before);
    assert_string_equal(pid, again);
}

/* Also a machine that was booted, not cloned, can sleep. */
static void test_suspend_booted(void **state)
{
    (void)state;
    struct err e = {0};
    char base[600], dir[500], pid[32], again[32];
    snprintf(base, sizeof base, "%s/debian-12.ext4", rig.guest);
    struct box *b = box_prepare(&rig, "first", base, ENGINE_DISK_RAW);
    box_boot(&rig, b);
    int before = app_count(b, pid, sizeof pid);
    for (int round = 0; round < 2; round++) {
        snprintf(dir, sizeof dir, "%s/state-%d", b->dir, round);
        box_freeze(b);
        CHECK_OK(engine_suspend(b->machine, dir, &e), e);
        box_end(b);
        box_restore(&rig, b, dir, false);
        CHECK_OK(fs_remove_tree(dir, &e), e);
        assert_true(app_count(b, again, sizeof again) >= before);
        assert_string_equal(pid, again);
    }
}

static void flip_byte(const char *dir, const char *file, off_t at)
{
    char path[700];
    unsigned char c;
    snprintf(path, sizeof path, "%s/%s", dir, file);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, &c, 1, at), 1);
    c ^= 0x10;
    assert_int_equal(pwrite(fd, &c, 1, at), 1);
    close(fd);
}

static void shorten(const char *dir, const char *file)
{
    char path[700];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", dir, file);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(truncate(path, st.st_size - 4096), 0);
}

/* A suspended machine with a damaged file must be refused like a snapshot. */
static void test_damaged_pages(void **state)
{
    (void)state;
    struct err e = {0};
    struct box *b;
    char dir[500];
    restore_alone(&b, "bitten");
    box_freeze(b);
    snprintf(dir, sizeof dir, "%s/state", b->dir);
    CHECK_OK(engine_suspend(b->machine, dir, &e), e);
    box_end(b);
    flip_byte(dir, "pages", 5000);
    struct engine_spec s = rig_spec(&rig, b);
    assert_int_equal(engine_resume(rig.engine, &s, dir, &b->machine, &e), -EBADMSG);
    assert_non_null(strstr(e.text, "pages is damaged"));
    flip_byte(dir, "pages", 5000);
    shorten(dir, "pages");
    assert_int_equal(engine_resume(rig.engine, &s, dir, &b->machine, &e), -EBADMSG);
    assert_int_equal(engine_restore(rig.engine, &s, dir, &b->machine, &e), -EBADMSG);
    assert_non_null(strstr(e.text, "suspended"));
}

static void expect_refused(struct box *b, const char *dir, const char *word)
{
    struct err e = {0};
    struct engine_spec s = rig_spec(&rig, b);
    struct engine_machine *m = NULL;
    int r = engine_restore(rig.engine, &s, dir, &m, &e);
    printf("  refused: %s\n", e.text);
    assert_int_equal(r, -EBADMSG);
    assert_null(m);
    if (!strstr(e.text, word))
        fail_msg("'%s' does not mention '%s'", e.text, word);
    assert_int_equal(count_children(), 0);
}

static void test_damaged(void **state)
{
    (void)state;
    struct err e = {0};
    struct box *b;
    char dir[400];
    b = box_prepare(&rig, "refused", template_disk, ENGINE_DISK_OVERLAY);
    static const struct {
        const char *file;
        off_t at; /* -1 = shorten */
        const char *word;
    } rows[] = {
        {"memory", 0x1000000 + 123, "memory"},
        {"memory", -1, "memory"},
        {"state", 777, "state"},
        {"state", -1, "state"},
        {"manifest.json", 60, "manifest"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        snprintf(dir, sizeof dir, "%s/damaged-%zu", rig.dir, i);
        copy_snapshot(dir);
        if (rows[i].at < 0)
            shorten(dir, rows[i].file);
        else
            flip_byte(dir, rows[i].file, rows[i].at);
        expect_refused(b, dir, rows[i].word);
        CHECK_OK(fs_remove_tree(dir, &e), e);
    }
    /* Another number of disks, other memory. */
    struct engine_spec s = rig_spec(&rig, b);
    struct engine_machine *m = NULL;
    s.memory_mib = 1024;
    assert_int_equal(engine_restore(rig.engine, &s, snapshot, &m, &e), -EBADMSG);
    assert_non_null(strstr(e.text, "512 MiB"));
    s.memory_mib = 512;
    s.n_disks = 0;
    assert_int_equal(engine_restore(rig.engine, &s, snapshot, &m, &e), -EBADMSG);
    assert_non_null(strstr(e.text, "disk"));
    s = rig_spec(&rig, b);
    assert_int_equal(engine_resume(rig.engine, &s, snapshot, &m, &e), -EBADMSG);
    snprintf(dir, sizeof dir, "%s/absent", rig.dir);
    assert_int_equal(engine_restore(rig.engine, &s, dir, &m, &e), -ENOENT);
}

/* A program that calls itself another version of QEMU, and is the same underneath. */
static void test_other_version(void **state)
{
    (void)state;
    if (strcmp(engine_name(rig.engine), "qemu") != 0)
        skip();
    struct err e = {0};
    struct box *b;
    char program[400], kernel[600], initramfs[600];
    static const char script[] =
        "#!/bin/sh\n"
        "[ \"$1\" = --version ] && echo 'QEMU emulator version 6.0.1' && exit\n"
        "exec qemu-system-x86_64 \"$@\"\n";
    snprintf(program, sizeof program, "%s/qemu-other", rig.dir);
    snprintf(kernel, sizeof kernel, "%s/vmlinux", rig.guest);
    snprintf(initramfs, sizeof initramfs, "%s/initramfs.cpio", rig.guest);
    CHECK_OK(fs_write_file(program, script, sizeof script - 1, 0700, &e), e);
    struct engine_config c = {.kind = "qemu",
                              .kernel = kernel,
                              .initramfs = initramfs,
                              .helper_dir = rig.helper_dir,
                              .key_dir = rig.dir,
                              .qemu = program,
                              .sandbox = true};
    struct engine *other = NULL;
    struct engine_machine *m = NULL;
    CHECK_OK(engine_open(&c, &other, &e), e);
    assert_string_equal(engine_version(other), "6.0.1");
    b = box_prepare(&rig, "other", template_disk, ENGINE_DISK_OVERLAY);
    struct engine_spec s = rig_spec(&rig, b);
    assert_int_equal(engine_restore(other, &s, snapshot, &m, &e), -EBADMSG);
    printf("  refused: %s\n", e.text);
    assert_non_null(strstr(e.text, "6.0.1"));
    assert_non_null(strstr(e.text, engine_version(rig.engine)));
    engine_close(other);
}

static void wait_exit(struct box *b, int timeout_ms)
{
    for (int i = 0; i < timeout_ms && !atomic_load(&b->exited_us); i++)
        sleep_ms(1);
    if (!atomic_load(&b->exited_us))
        fail_msg("no end of %s noticed within %d ms", b->id, timeout_ms);
}

static void test_killed(void **state)
{
    (void)state;
    struct err e = {0};
    struct box *b;
    restore_alone(&b, "victim");
    pid_t pid = newest_monitor();
    assert_true(pid > 0);
    int64_t t0 = clock_mono_us();
    assert_int_equal(kill(pid, SIGKILL), 0);
    wait_exit(b, 2000);
    int64_t took = b->exited_us - t0;
    printf("SIGKILL noticed after %lld us: %s\n", (long long)took, b->exit.text);
    assert_true(took < 100000 * rig_slow());
    assert_false(b->exit.expected);
    assert_int_equal(b->exit.signal, SIGKILL);
    assert_non_null(strstr(b->exit.text, "signal 9"));
    assert_false(engine_machine_alive(b->machine));
    assert_int_equal(engine_machine_pause(b->machine, &e), -EPIPE);
    box_end(b);
    assert_int_equal(count_children(), 0);
}

static void check_namespaces(pid_t pid)
{
    /* Of a monitor on KVM the filters stand in for the pid namespace, and a user of its own for the
     * user namespace, where root may choose one. */
    static const char *const spaces[] = {"net", "mnt", "ipc", "uts", "pid", "user"};
    char path[100], link[200], own[200];
    size_t n_spaces = !on_kvm() ? 6 : 4;
    for (size_t i = 0; i < n_spaces; i++) {
        snprintf(path, sizeof path, "/proc/%d/ns/%s", pid, spaces[i]);
        ssize_t n = readlink(path, link, sizeof link - 1);
        assert_true(n > 0);
        link[n] = '\0';
        snprintf(path, sizeof path, "/proc/self/ns/%s", spaces[i]);
        n = readlink(path, own, sizeof own - 1);
        assert_true(n > 0);
        own[n] = '\0';
        assert_string_not_equal(link, own);
    }
}

static bool holds_open(pid_t pid, const char *name)
{
    char path[100], link[4200];
    bool found = false;
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *ent; (ent = readdir(d));) {
        ssize_t n = readlinkat(dirfd(d), ent->d_name, link, sizeof link - 1);
        link[n > 0 ? n : 0] = '\0';
        found |= strstr(link, name) != NULL;
    }
    closedir(d);
    return found;
}

/* The sandbox and the daemon's hold on it: no network, no capability, another root. */
static void test_sandbox(void **state)
{
    (void)state;
    struct box *b;
    char path[100];
    restore_alone(&b, "boxed");
    pid_t pid = newest_monitor();
    check_namespaces(pid);
    struct err e = {0};
    struct buf status = BUF_INIT(65536);
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    CHECK_OK(fs_read_file(path, &status, &e), e);
    assert_non_null(strstr(status.data, "CapEff:\t0000000000000000"));
    assert_non_null(strstr(status.data, "CapBnd:\t0000000000000000"));
    assert_non_null(strstr(status.data, "NoNewPrivs:\t1"));
    assert_non_null(strstr(status.data, "Seccomp:\t2"));
    buf_done(&status);
    static const char *const absent[] = {"etc/passwd", "proc/self", "var", "home", "tmp"};
    for (size_t i = 0; i < ARRAY_LEN(absent); i++) {
        snprintf(path, sizeof path, "/proc/%d/root/%s", pid, absent[i]);
        assert_int_not_equal(access(path, F_OK), 0);
    }
    /* The memory clones share cannot be written to from inside. */
    struct buf mounts = BUF_INIT(65536);
    snprintf(path, sizeof path, "/proc/%d/mountinfo", pid);
    CHECK_OK(fs_read_file(path, &mounts, &e), e);
    const char *root = strstr(mounts.data, " / ro,"); /* a tmpfs: it would be the host's memory */
    assert_non_null(root);
    const char *memory = strstr(mounts.data, " /m/memory ");
    if (on_kvm())
        assert_false(holds_open(pid, "/memory")); /* mapped privately, and closed */
    else
        assert_memory_equal(memory, " /m/memory ro", 13);
    buf_done(&mounts);
    box_end(b);
}

static void test_pause_and_kill(void **state)
{
    (void)state;
    struct err e = {0};
    struct box *b;
    restore_alone(&b, "off");
    CHECK_OK(engine_machine_pause(b->machine, &e), e);
    CHECK_OK(engine_machine_unpause(b->machine, &e), e);
    char out[100];
    assert_int_equal(box_sh(b, "echo awake", out, sizeof out), 0);
    assert_string_equal(out, "awake");
    engine_machine_kill(b->machine);
    wait_exit(b, 2000);
    assert_true(b->exit.expected);
    box_end(b);
}

/* A freeze that cannot be written leaves the machine running. */
static void test_freeze_fails(void **state)
{
    (void)state;
    struct err e = {0};
    struct box *b;
    char out[100];
    restore_alone(&b, "stubborn");
    box_disconnect(b);
    assert_int_equal(engine_suspend(b->machine, snapshot, &e), -EEXIST);
    assert_int_equal(engine_suspend(b->machine, "/nonexistent/dir/state", &e), -ENOENT);
    assert_true(engine_machine_alive(b->machine));
    box_connect(&rig, b);
    assert_int_equal(box_sh(b, "echo alive", out, sizeof out), 0);
    assert_string_equal(out, "alive");
    box_end(b);
}

/* Compressed memory that is fetched while the clone runs. */
static void test_packed(void **state)
{
    (void)state;
    struct err e = {0};
    char packed[400], out[100];
    snprintf(packed, sizeof packed, "%s/packed", rig.dir);
    int64_t t0 = clock_mono_us();
    int r = engine_snapshot_pack(rig.engine, snapshot, packed, &e);
    if (r == -ENOTSUP) {
        printf("skipped: %s\n", e.text);
        skip();
    }
    CHECK_OK(r, e);
    int64_t t1 = clock_mono_us();
    struct box *b = box_prepare(&rig, "unpacked", template_disk, ENGINE_DISK_OVERLAY);
    box_restore(&rig, b, packed, true);
    assert_int_equal(box_sh(b, "md5sum /bin/sh >/dev/null && echo alive", out, sizeof out), 0);
    assert_string_equal(out, "alive");
    printf("packed in %lld ms: %llu KiB for %llu KiB, clone answers after %lld ms\n",
           (long long)(t1 - t0) / 1000, (unsigned long long)fs_tree_bytes(packed) / 1024,
           (unsigned long long)fs_tree_bytes(snapshot) / 1024,
           (long long)(clock_mono_us() - t1) / 1000);
    /* It can be suspended like any other, and then holds its memory itself. */
    char dir[500];
    snprintf(dir, sizeof dir, "%s/state", b->dir);
    box_freeze(b);
    CHECK_OK(engine_suspend(b->machine, dir, &e), e);
    box_end(b);
    box_restore(&rig, b, dir, false);
    assert_int_equal(box_sh(b, "echo again", out, sizeof out), 0);
    box_end(b);
    CHECK_OK(fs_remove_tree(packed, &e), e);
}

/* Where cgroup v2 can be had, the monitor is in a group of its own with limits. */
static void test_limits(void **state)
{
    (void)state;
    struct box *b;
    struct err e = {0};
    char path[200], pid[32];
    restore_alone(&b, "limited");
    snprintf(path, sizeof path, "/sys/fs/cgroup/tinderbox/%s", b->id);
    if (!fs_exists(path)) {
        printf("skipped: no cgroup v2 that this user may use\n");
        skip();
    }
    CLEANUP(buf_done)
    struct buf procs = BUF_INIT(4096);
    snprintf(path, sizeof path, "/sys/fs/cgroup/tinderbox/%s/cgroup.procs", b->id);
    CHECK_OK(fs_read_file(path, &procs, &e), e);
    snprintf(pid, sizeof pid, "%d\n", (int)newest_monitor());
    assert_non_null(strstr(procs.data, pid));
    buf_clear(&procs);
    snprintf(path, sizeof path, "/sys/fs/cgroup/tinderbox/%s/memory.max", b->id);
    CHECK_OK(fs_read_file(path, &procs, &e), e);
    assert_true(strtoull(procs.data, NULL, 10) > (512u << 20));
    box_end(b);
    snprintf(path, sizeof path, "/sys/fs/cgroup/tinderbox/%s", b->id);
    assert_false(fs_exists(path));
}

static void test_flatten(void **state)
{
    (void)state;
    struct err e = {0};
    struct box *b;
    char raw[400], out[100];
    struct stat st;
    snprintf(raw, sizeof raw, "%s/flat.raw", rig.dir);
    CHECK_OK(engine_disk_flatten(rig.engine, template_disk, raw, &e), e);
    assert_int_equal(stat(raw, &st), 0);
    assert_true(st.st_blocks * 512 < st.st_size / 4);
    /* The flat copy is the same disk: a clone runs on it. */
    b = box_prepare(&rig, "flat", raw, ENGINE_DISK_RAW);
    box_restore(&rig, b, snapshot, true);
    box_sh(b, "cat /shared", out, sizeof out);
    assert_string_equal(out, "template");
    box_end(b);
}

int main(int argc, char **argv)
{
    rig_open(&rig, argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_boot_and_snapshot, box_end_all),
        cmocka_unit_test_teardown(test_clones, box_end_all),
        cmocka_unit_test_teardown(test_identity, box_end_all),
        cmocka_unit_test_teardown(test_suspend_resume, box_end_all),
        cmocka_unit_test_teardown(test_suspend_without_snapshot, box_end_all),
        cmocka_unit_test_teardown(test_suspend_booted, box_end_all),
        cmocka_unit_test_teardown(test_damaged_pages, box_end_all),
        cmocka_unit_test_teardown(test_damaged, box_end_all),
        cmocka_unit_test_teardown(test_other_version, box_end_all),
        cmocka_unit_test_teardown(test_killed, box_end_all),
        cmocka_unit_test_teardown(test_sandbox, box_end_all),
        cmocka_unit_test_teardown(test_pause_and_kill, box_end_all),
        cmocka_unit_test_teardown(test_freeze_fails, box_end_all),
        cmocka_unit_test_teardown(test_packed, box_end_all),
        cmocka_unit_test_teardown(test_limits, box_end_all),
        cmocka_unit_test_teardown(test_flatten, box_end_all),
    };
    int failed = cmocka_run_group_tests_name("engine life", tests, NULL, NULL);
    return rig_close(&rig) || failed ? 1 : 0;
}
