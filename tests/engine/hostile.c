/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests and monitors that mean harm, and owners that die: what the host holds for a machine stays
 * bounded, and nothing survives its owner.
 */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "proto/wire.h"

static struct rig rig;
static const char *noisy_program, *rogue_program, *end_programs[3];
static struct box *box; /* one booted machine for all tests */

static void sleep_ms(int ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

static long resident_kib(void)
{
    long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%ld %ld", &size, &resident) != 2)
        resident = 0;
    if (f)
        fclose(f);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void test_boot(void **state)
{
    (void)state;
    char base[600];
    snprintf(base, sizeof base, "%s/debian-12.ext4", rig.guest);
    box = box_prepare(&rig, "hostile", base, ENGINE_DISK_RAW);
    box_boot(&rig, box);
}

/* One file in the "newc" format the kernel unpacks, then the end marker, then the archive with the
 * kernel's modules. */
static void write_cpio(const char *path, const char *program)
{
    struct err e = {0};
    char modules[600];
    struct buf file = BUF_INIT(64 << 20), out = BUF_INIT(0);
    CHECK_OK(fs_read_file(program, &file, &e), e);
    const struct {
        const char *name;
        unsigned mode;
        const struct buf *data;
    } entries[] = {{"init", 0100755, &file}, {"TRAILER!!!", 0, NULL}};
    for (size_t i = 0; i < ARRAY_LEN(entries); i++) {
        size_t n = entries[i].data ? entries[i].data->len : 0;
        assert_int_equal(buf_addf(&out,
                                  "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
                                  (unsigned)i + 1, entries[i].mode, 0u, 0u, 1u, 0u, (unsigned)n, 0u,
                                  0u, 0u, 0u, (unsigned)strlen(entries[i].name) + 1, 0u),
                         0);
        assert_int_equal(buf_add(&out, entries[i].name, strlen(entries[i].name) + 1), 0);
        while (out.len % 4)
            assert_int_equal(buf_add(&out, "", 1), 0);
        if (n)
            assert_int_equal(buf_add(&out, entries[i].data->data, n), 0);
        while (out.len % 4)
            assert_int_equal(buf_add(&out, "", 1), 0);
    }
    snprintf(modules, sizeof modules, "%s/modules.cpio", rig.guest);
    CHECK_OK(fs_read_file(modules, &out, &e), e);
    CHECK_OK(fs_write_file(path, out.data, out.len, 0600, &e), e);
    buf_done(&out);
    buf_done(&file);
}

static off_t size_of(const char *dir, const char *name)
{
    char path[600];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return stat(path, &st) == 0 ? st.st_size : -1;
}

struct own { /* a guest with another init, under an engine of its own */
    char dir[400];
    struct engine *engine;
    struct engine_machine *machine;
    struct engine_exit exit;
};

static void on_own_exit(void *arg, const struct engine_exit *x)
{
    struct own *o = arg;
    o->exit = *x;
}

static void own_boot(struct own *o, const char *id, const char *program)
{
    struct err e = {0};
    char kernel[600], initramfs[400];
    *o = (struct own){0};
    snprintf(kernel, sizeof kernel, "%s/vmlinux", rig.guest);
    snprintf(initramfs, sizeof initramfs, "%s/%s.cpio", rig.dir, id);
    snprintf(o->dir, sizeof o->dir, "%s/%s", rig.dir, id);
    write_cpio(initramfs, program);
    CHECK_OK(fs_mkdir_p(o->dir, 0700, &e), e);
    struct engine_config c = {.kind = engine_name(rig.engine),
                              .kernel = kernel,
                              .initramfs = initramfs,
                              .helper_dir = rig.helper_dir,
                              .key_dir = rig.dir,
                              .sandbox = true};
    struct engine_spec s = {.id = id,
                            .dir = o->dir,
                            .memory_mib = 128,
                            .vcpus = 1,
                            .on_exit = on_own_exit,
                            .on_exit_arg = o};
    CHECK_OK(engine_open(&c, &o->engine, &e), e);
    CHECK_OK(engine_boot(o->engine, &s, &o->machine, &e), e);
}

static void own_end(struct own *o)
{
    int64_t t0 = clock_mono_ms();
    engine_machine_free(o->machine);
    assert_true(clock_mono_ms() - t0 < 3000);
    engine_close(o->engine);
}

/* However a guest ends, its owner is told how. */
static void test_own_ends(void **state)
{
    static const char *const texts[] = {"guest powered off", "guest reset itself",
                                        "guest kernel died: Kernel panic"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct own o;
        char id[32];
        if (!end_programs[i])
            skip();
        snprintf(id, sizeof id, "end-%zu", i);
        own_boot(&o, id, end_programs[i]);
        int64_t end = clock_mono_ms() + 60000 * rig_slow();
        while (engine_machine_alive(o.machine)) {
            assert_true(clock_mono_ms() < end);
            sleep_ms(10);
        }
        own_end(&o); /* its report has come by then */
        printf("%s\n", o.exit.text);
        assert_false(o.exit.expected);
        assert_memory_equal(o.exit.text, texts[i], strlen(texts[i]));
    }
}

/* It only writes to its console: two files of half a mebibyte are kept. */
static void test_console_flood(void **state)
{
    (void)state;
    struct own o;
    if (rig_slow() > 1) {
        printf("skipped: a mebibyte through a serial port that is emulated twice takes minutes\n");
        skip();
    }
    own_boot(&o, "noisy", noisy_program);
    int rounds = 0; /* of the log */
    off_t last = 0;
    long before = resident_kib();
    for (int64_t end = clock_mono_ms() + 60000; rounds < 2 && clock_mono_ms() < end;) {
        sleep_ms(50);
        off_t now = size_of(o.dir, "console.log");
        assert_true(now <= 512 * 1024);
        assert_true(size_of(o.dir, "console.log.1") <= 512 * 1024);
        rounds += now < last;
        last = now;
    }
    assert_int_equal(rounds, 2);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(resident_kib() - before < 4096);
#endif
    own_end(&o);
}

/* The guest answers the hello with noise, or rightly and then floods with noise, SETTINGS, PING or
 * PUSH_PROMISE: the session ends or times out, the host keeps little, the machine can be ended. */
static void test_channel_flood(void **state)
{
    (void)state;
    struct own o;
    own_boot(&o, "rogue", rogue_program);
    long before = resident_kib();
    for (int kind = 0; kind < 5; kind++) {
        struct err e = {0};
        struct agent *a = NULL;
        int fd = engine_channel(o.machine, &e);
        CHECK_OK(fd, e);
        int r = agent_open(rig.loop, fd, kind ? 5000 : 15000, &a, &e); /* the first: it boots */
        if (r == 0)
            r = agent_call(a, "GET", WIRE_INFO, NULL, 3000, NULL, &e);
        printf("  %s\n", e.text);
        assert_true(r < 0);
        if (a) {
            agent_close(a);
            agent_unref(a);
        }
    }
    printf("five floods, %ld KiB grown\n", resident_kib() - before);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(resident_kib() - before < 16384);
#endif
    assert_true(engine_machine_alive(o.machine));
    own_end(&o);
}

static size_t discarded;

static void discard(int fd, const char *p, size_t n, void *arg)
{
    (void)fd;
    (void)p;
    (void)arg;
    discarded += n;
}

/* 200 MB of output (where that is not too much to ask): all of it comes, none of it stays. */
static void test_output_flood(void **state)
{
    (void)state;
    struct err e = {0};
    struct agent_exec_result x;
    const size_t bytes = 200000000 / (size_t)rig_slow();
    char count[32];
    snprintf(count, sizeof count, "%zu", bytes);
    CLEANUP(cleanup_json)
    json_t *spec = json_pack("{s:[s,s,s]}", "args", "head", "-c", count);
    json_array_append_new(json_object_get(spec, "args"), json_string("/dev/zero"));
    long before = resident_kib();
    int64_t t0 = clock_mono_ms();
    discarded = 0;
    CHECK_OK(agent_exec(box->agent, WIRE_EXEC, spec, 200000, discard, NULL, &x, &e), e);
    int64_t took = clock_mono_ms() - t0;
    assert_int_equal(discarded, bytes);
    long grown = resident_kib() - before;
    printf("%zu MB out of the guest in %lld ms, %ld KiB grown\n", bytes / 1000000, (long long)took,
           grown);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(grown < 16 * 1024);
#endif
}

/* Reserved blocks cost the host nothing: the guest sees a full disk, the host a small file. */
static void test_disk_full(void **state)
{
    (void)state;
    char out[300];
    struct engine_stats st;
    struct err e = {0};
    assert_int_not_equal(
        box_sh(box,
               "n=0; while fallocate -l 1G /big$n; do n=$((n+1)); done 2>/dev/shm/why; "
               "for f in 100M 10M 1M 64K 4K; do while fallocate -l $f /big$f$n; do "
               "n=$((n+1)); done 2>>/dev/shm/why; done; echo x > /one-more",
               out, sizeof out),
        0);
    box_sh(box, "cat /dev/shm/why", out, sizeof out);
    if (!strstr(out, "No space left on device"))
        fail_msg("no full disk: %s", out);
    CHECK_OK(engine_machine_stats(box->machine, &st, &e), e);
    printf("a full disk takes %llu MiB of the host's\n",
           (unsigned long long)(st.disk_written_bytes >> 20));
    assert_true(st.disk_written_bytes < (512u << 20));
    box_sh(box, "rm -f /big*; sync; echo fine", out, sizeof out);
    assert_string_equal(out, "fine");
}

static void test_fork_bomb(void **state)
{
    (void)state;
    struct err e = {0};
    struct engine_stats st;
    char out[300];
    box_sh(box, "(f() { f | f & }; f) </dev/null >/dev/null 2>&1 &", out, sizeof out);
    sleep_ms(3000);
    CHECK_OK(engine_machine_stats(box->machine, &st, &e), e);
    assert_true(st.memory_rss_bytes < (1024u << 20));
    assert_true(engine_machine_alive(box->machine));
}

/* A monitor that closes its control socket and one that is stopped: the first is over, the second
 * is killed like any other. */
static void test_stopped_monitor(void **state)
{
    (void)state;
    struct err e = {0};
    char path[64];
    pid_t pid = newest_monitor();
    struct buf limits = BUF_INIT(65536);
    snprintf(path, sizeof path, "/proc/%d/limits", pid);
    CHECK_OK(fs_read_file(path, &limits, &e), e);
    assert_non_null(strstr(limits.data, "Max core file size        0"));
    const char *data = strstr(limits.data, "Max data size ");
    assert_non_null(data);
    assert_int_not_equal(strncmp(data + 26, "unlimited", 9), 0);
    buf_done(&limits);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    int64_t t0 = clock_mono_ms();
    box_end(box);
    int64_t took = clock_mono_ms() - t0;
    printf("a stopped monitor is gone after %lld ms\n", (long long)took);
    assert_true(took < 3000);
    assert_true(box->exit.expected);
    assert_int_equal(count_children(), 0);
}

/* A zombie that waits for init is as good as gone. */
static bool exists(pid_t pid)
{
    char path[64], mode = 'Z';
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (f && fscanf(f, "%*d (%*[^)]) %c", &mode) != 1)
        mode = 'Z';
    if (f)
        fclose(f);
    return mode != 'Z' && mode != 'X';
}

/* The owner is killed: this program again, started with "--owner". */
static void test_dead_owner(void **state)
{
    (void)state;
    int out[2];
    char text[64] = "", self[512];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = '\0';
    assert_int_equal(pipe(out), 0);
    pid_t owner = fork();
    if (owner == 0) {
        dup2(out[1], 1);
        execl(self, self, rig.helper_dir, "--owner", rig.dir, (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    FILE *f = fdopen(out[0], "r");
    pid_t qemu = 0, net = 0;
    while (fgets(text, sizeof text, f) && sscanf(text, "machine %d %d", &qemu, &net) != 2)
        ;
    assert_true(qemu > 1 && exists(qemu));
    assert_true(net > 1 && exists(net));
    kill(owner, SIGKILL);
    waitpid(owner, NULL, 0);
    fclose(f);
    int ms = 0;
    while (ms < 5000 && (exists(qemu) || exists(net))) {
        sleep_ms(10);
        ms += 10;
    }
    printf("after the owner's death its machine lived %d ms\n", ms);
    assert_false(exists(qemu));
    assert_false(exists(net));
}

static pid_t find_net(void)
{
    pid_t best = 0;
    DIR *d = opendir("/proc");
    for (struct dirent *ent; d && (ent = readdir(d));) {
        char path[64], name[64] = "";
        int pid = atoi(ent->d_name), parent = 0;
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        FILE *f = pid > 0 ? fopen(path, "r") : NULL;
        if (f && fscanf(f, "%*d (%63[^)]) %*c %d", name, &parent) == 2 && parent == getpid() &&
            strcmp(name, "tinderbox-net") == 0)
            best = pid;
        if (f)
            fclose(f);
    }
    if (d)
        closedir(d);
    return best;
}

static int own_machine(int argc, char **argv)
{
    char base[600];
    setenv("TINDERBOX_TEST_TMP", argv[3], 1);
    rig_open(&rig, argc, argv);
    snprintf(base, sizeof base, "%s/debian-12.ext4", rig.guest);
    box = box_prepare(&rig, "owned", base, ENGINE_DISK_RAW);
    struct err e = {0};
    struct engine_spec s = rig_spec(&rig, box);
    if (engine_boot(rig.engine, &s, &box->machine, &e) < 0) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    printf("machine %d %d\n", newest_monitor(), find_net());
    fflush(stdout);
    for (;;)
        pause();
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[2], "--owner") == 0)
        return own_machine(argc, argv);
    noisy_program = argc > 2 ? argv[2] : "noisy_init";
    rogue_program = argc > 3 ? argv[3] : "rogue_init";
    for (int i = 0; i < 3 && i + 4 < argc; i++)
        end_programs[i] = argv[i + 4];
    rig_open(&rig, argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_boot),          cmocka_unit_test(test_own_ends),
        cmocka_unit_test(test_console_flood), cmocka_unit_test(test_channel_flood),
        cmocka_unit_test(test_disk_full),     cmocka_unit_test(test_output_flood),
        cmocka_unit_test(test_fork_bomb),     cmocka_unit_test(test_stopped_monitor),
        cmocka_unit_test(test_dead_owner),
    };
    int failed = cmocka_run_group_tests_name("engine hostile", tests, NULL, box_end_all);
    /* The killed owner could not tidy its directory; it is below ours. */
    char left[600];
    DIR *d = opendir(rig.dir);
    for (struct dirent *ent; d && (ent = readdir(d));) {
        struct err e;
        snprintf(left, sizeof left, "%s/%s", rig.dir, ent->d_name);
        if (strncmp(ent->d_name, "tb-engine.", 10) == 0 && fs_remove_tree(left, &e) < 0)
            fprintf(stderr, "%s\n", e.text);
    }
    if (d)
        closedir(d);
    return rig_close(&rig) || failed ? 1 : 0;
}
