/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "drive.h"
#include "vmm/snapshot/chunks.h"

#define CYCLES 1000

static const char *guest_path;
static struct drive one, two;

/* A copy of the guest that does this; the caller's path is valid until the next call. */
static const char *guest_that(char what)
{
    static char path[64];
    static int fd = -1;
    struct stat st;
    CLEANUP(cleanup_close)
    int in = open(guest_path, O_RDONLY | O_CLOEXEC);
    char image[4096];
    assert_int_equal(fstat(in, &st), 0);
    assert_true(st.st_size > 0 && st.st_size <= (off_t)sizeof image);
    assert_int_equal(read(in, image, sizeof image), st.st_size);
    image[st.st_size - 1] = what;
    if (fd >= 0)
        close(fd);
    fd = drive_file();
    assert_int_equal(fs_write_all(fd, image, (size_t)st.st_size), 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return path;
}

static int end_both(void **state)
{
    (void)state;
    struct drive *const all[] = {&one, &two};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (all[i]->sock > 0) {
            drive_end(all[i]);
            *all[i] = (struct drive){0};
        }
    return 0;
}

static void start(char what)
{
    drive_start(&one);
    drive_shape(&one, -1, 0);
    drive_boot(&one, guest_that(what));
}

static void test_says_something_and_hangs(void **state)
{
    (void)state;
    start('h');
    drive_expect(&one, "ok");
    drive_event(&one, MONITOR_EVENT_HANG);
}

static void test_ends_are_told(void **state)
{
    (void)state;
    const struct {
        char what;
        enum monitor_event event;
    } cases[] = {{'t', MONITOR_EVENT_TRIPLE_FAULT},
                 {'r', MONITOR_EVENT_RESET},
                 {'p', MONITOR_EVENT_POWEROFF}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        start(cases[i].what);
        drive_expect(&one, "ok");
        drive_event(&one, cases[i].event);
        /* What is left of the guest does not go on behind it. */
        assert_int_equal(drive_ok(&one, MONITOR_STATS, NULL, NULL, 0).stats.running, 0);
        drive_ok(&one, MONITOR_QUIT, NULL, NULL, 0);
        assert_int_equal(drive_wait(&one), 0);
        end_both(NULL);
    }
}

static void test_pause_and_run(void **state)
{
    (void)state;
    start('c');
    drive_expect(&one, "ABCDE");
    drive_ok(&one, MONITOR_PAUSE, NULL, NULL, 0);
    drive_ok(&one, MONITOR_STATS, NULL, NULL, 0);
    size_t n = one.n_said;
    struct monitor_answer a = drive_ok(&one, MONITOR_STATS, NULL, NULL, 0);
    assert_int_equal(a.stats.running, 0);
    assert_int_equal(one.n_said, n);
    drive_ok(&one, MONITOR_RUN, NULL, NULL, 0);
    drive_expect(&one, "XYZABC");
    a = drive_ok(&one, MONITOR_STATS, NULL, NULL, 0);
    assert_int_equal(a.stats.running, 1);
    assert_true(a.stats.cpu_us > 0);
}

/* A guest that never leaves KVM by itself is kicked out of it. */
static void test_a_spinning_guest_is_paused(void **state)
{
    (void)state;
    start('s');
    drive_expect(&one, "ok");
    for (int i = 0; i < 20; i++) {
        drive_ok(&one, MONITOR_PAUSE, NULL, NULL, 0);
        drive_ok(&one, MONITOR_RUN, NULL, NULL, 0);
    }
}

struct frozen {
    int memory, state, pages, working_set;
};

static void frozen_done(struct frozen *f)
{
    const int fds[] = {f->memory, f->state, f->pages, f->working_set};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

/* A snapshot of a counting guest that has said "ABC": RAM as a file of its own. */
static struct frozen snapshot(void)
{
    struct frozen f = {drive_file(), drive_file(), -1, -1};
    struct monitor_message m = {.save = {.all = 1}};
    int fds[2] = {f.state, f.memory};
    start('c');
    drive_expect(&one, "ABC");
    struct monitor_answer a = drive_ok(&one, MONITOR_SAVE, &m, fds, 2);
    assert_true(a.saved.pages > 0 && a.saved.pages < 64);
    assert_int_equal(ftruncate(f.memory, DRIVE_RAM), 0);
    drive_ok(&one, MONITOR_QUIT, NULL, NULL, 0);
    assert_int_equal(drive_wait(&one), 0);
    end_both(NULL);
    return f;
}

static void thaw(struct drive *d, const struct frozen *f)
{
    drive_start(d);
    drive_shape(d, f->memory, 0);
    drive_restore(d, f->state, f->pages, f->working_set);
}

static void test_snapshot_and_two_clones(void **state)
{
    (void)state;
    struct frozen f = snapshot();
    thaw(&one, &f);
    thaw(&two, &f);
    /* Both go on where it stopped, not from "A". */
    drive_expect(&one, "EFGHIJKLMNOPQRSTUVWXYZAB");
    drive_expect(&two, "EFGHIJKLMNOPQRSTUVWXYZAB");
    assert_true(one.said[0] > 'A' && two.said[0] == one.said[0]);
    frozen_done(&f);
}

static void test_suspend_and_resume_twice(void **state)
{
    (void)state;
    struct frozen f = snapshot();
    struct monitor_message m = {0};
    char last = 0;
    for (int i = 0; i < 2; i++) {
        thaw(&one, &f);
        if (last)
            drive_expect(&one, (char[]){last == 'Z' ? 'A' : (char)(last + 1), 0});
        drive_expect(&one, "XYZ");
        int next[2] = {drive_file(), drive_file()};
        struct monitor_answer a = drive_ok(&one, MONITOR_SAVE, &m, next, 2);
        assert_true(a.saved.pages >= 1 && a.saved.pages < 16); /* what it wrote to, no more */
        drive_ok(&one, MONITOR_STATS, NULL, NULL, 0); /* paused, alive, and the rest was read */
        last = one.said[one.n_said - 1];
        end_both(NULL);
        close(f.state);
        if (f.pages >= 0)
            close(f.pages);
        f.state = next[0];
        f.pages = next[1];
    }
    frozen_done(&f);
}

static void test_fork_goes_on_and_so_does_the_clone(void **state)
{
    (void)state;
    struct frozen f = snapshot();
    struct monitor_message m = {0};
    thaw(&one, &f);
    drive_expect(&one, "KLM");
    int files[2] = {drive_file(), drive_file()};
    for (int i = 0; i < 3; i++) { /* again and again: each from the state of its moment */
        assert_int_equal(ftruncate(files[0], 0) | ftruncate(files[1], 0), 0);
        lseek(files[0], 0, SEEK_SET);
        struct monitor_answer a = drive_ok(&one, MONITOR_FORK, &m, files, 2);
        assert_true(a.saved.paused_us > 0);
        print_message("fork %d: paused %llu us, %llu pages\n", i,
                      (unsigned long long)a.saved.paused_us, (unsigned long long)a.saved.pages);
    }
    close(f.state);
    f.state = files[0];
    f.pages = files[1];
    thaw(&two, &f);
    drive_expect(&two, "XYZABC");
    drive_expect(&one, "WXYZABCDEFGHIJKLMNOPQRSTUVWXYZ");
    frozen_done(&f);
}

/* The largest machine there is: its state is saved and taken back whole. */
static void test_sixteen_vcpus(void **state)
{
    (void)state;
    struct monitor_message m = {.create = {.memory_bytes = DRIVE_RAM, .vcpus = 16}};
    const struct monitor_message zero = {.memory.kind = MONITOR_MEMORY_ZERO};
    struct monitor_message save = {.save = {.all = 1}};
    struct frozen f = {drive_file(), drive_file(), -1, -1};
    int pair[2];
    if (getenv("MONITOR_CYCLES")) {
        print_message("skipped: sixteen threads are too many for a processor that is emulated\n");
        frozen_done(&f);
        skip();
    }
    drive_start(&one);
    drive_ok(&one, MONITOR_CREATE, &m, NULL, 0);
    drive_ok(&one, MONITOR_MEMORY, &zero, NULL, 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    one.serial = pair[0];
    drive_ok(&one, MONITOR_CONSOLE, NULL, &pair[1], 1);
    close(pair[1]);
    drive_boot(&one, guest_that('c'));
    drive_expect(&one, "ABC");
    drive_ok(&one, MONITOR_SAVE, &save, (int[]){f.state, f.memory}, 2);
    end_both(NULL);
    assert_int_equal(ftruncate(f.memory, DRIVE_RAM), 0);
    drive_start(&two);
    drive_ok(&two, MONITOR_CREATE, &m, NULL, 0);
    m = (struct monitor_message){.memory.kind = MONITOR_MEMORY_FILE};
    drive_ok(&two, MONITOR_MEMORY, &m, &f.memory, 1);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    two.serial = pair[0];
    drive_ok(&two, MONITOR_CONSOLE, NULL, &pair[1], 1);
    close(pair[1]);
    drive_restore(&two, f.state, -1, -1);
    drive_expect(&two, "XYZ");
    frozen_done(&f);
}

static void test_working_set(void **state)
{
    (void)state;
    struct frozen f = snapshot();
    thaw(&one, &f);
    drive_expect(&one, "XYZ");
    f.working_set = drive_file();
    drive_ok(&one, MONITOR_WORKING_SET, NULL, &f.working_set, 1);
    struct stat st;
    assert_int_equal(fstat(f.working_set, &st), 0);
    assert_true(st.st_size > 40);
    thaw(&two, &f);
    drive_expect(&two, "XYZ");
    end_both(NULL);
    /* It has no digest, and another machine's monitor wrote it: damaged, it is worth nothing, but
     * no reason not to start. */
    assert_int_equal(ftruncate(f.working_set, st.st_size - 3), 0);
    thaw(&two, &f);
    drive_expect(&two, "XYZ");
    frozen_done(&f);
}

static void test_memory_in_chunks(void **state)
{
    (void)state;
    struct frozen f = snapshot();
    struct err e = {0};
    int chunks = drive_file();
    assert_int_equal(chunks_pack(f.memory, chunks, 1, &e), 0);
    close(f.memory);
    f.memory = chunks;
    drive_start(&one);
    struct monitor_message m = {
        .create = {.memory_bytes = DRIVE_RAM, .vcpus = 1, .flags = MONITOR_CHUNKED}};
    struct monitor_answer a = drive_call(&one, MONITOR_CREATE, &m, NULL, 0);
    if (a.code == -EPERM) {
        print_message("skipped: %s\n", a.text);
        frozen_done(&f);
        skip();
    }
    end_both(NULL);
    drive_start(&one);
    drive_shape(&one, f.memory, MONITOR_CHUNKED);
    drive_restore(&one, f.state, -1, -1);
    drive_expect(&one, "XYZ");
    /* Saved whole, it is an ordinary snapshot again. */
    int files[2] = {drive_file(), drive_file()};
    m = (struct monitor_message){.save = {.all = 1}};
    drive_ok(&one, MONITOR_SAVE, &m, files, 2);
    end_both(NULL);
    frozen_done(&f);
    assert_int_equal(ftruncate(files[1], DRIVE_RAM), 0);
    f = (struct frozen){files[1], files[0], -1, -1};
    thaw(&two, &f);
    drive_expect(&two, "XYZ");
    frozen_done(&f);
}

static void refuse_restore(const struct frozen *f, const char *why)
{
    struct monitor_message m = {0};
    drive_start(&one);
    drive_shape(&one, f->memory, 0);
    struct monitor_answer a = drive_call(&one, MONITOR_RESTORE, &m, &f->state, 1);
    assert_int_equal(a.code, -EBADMSG);
    if (!strstr(a.text, why))
        fail_msg("'%s' does not say '%s'", a.text, why);
    /* Nothing runs, and the monitor is still there to say so. */
    assert_int_equal(drive_call(&one, MONITOR_RUN, NULL, NULL, 0).code, -EINVAL);
    end_both(NULL);
}

static void test_bad_states_are_refused(void **state)
{
    (void)state;
    struct frozen f = snapshot();
    struct stat st;
    char c;
    assert_int_equal(fstat(f.state, &st), 0);
    for (off_t at = 7; at < st.st_size; at += st.st_size / 13) {
        assert_int_equal(pread(f.state, &c, 1, at), 1);
        c ^= 8;
        assert_int_equal(pwrite(f.state, &c, 1, at), 1);
        refuse_restore(&f, "damaged");
        c ^= 8;
        assert_int_equal(pwrite(f.state, &c, 1, at), 1);
    }
    struct monitor_message m = {.create = {.memory_bytes = DRIVE_RAM, .vcpus = 2}};
    drive_start(&one);
    drive_ok(&one, MONITOR_CREATE, &m, NULL, 0);
    m = (struct monitor_message){.memory.kind = MONITOR_MEMORY_FILE};
    drive_ok(&one, MONITOR_MEMORY, &m, &f.memory, 1);
    m = (struct monitor_message){0};
    struct monitor_answer a = drive_call(&one, MONITOR_RESTORE, &m, &f.state, 1);
    assert_int_equal(a.code, -EBADMSG);
    assert_non_null(strstr(a.text, "1 vCPUs"));
    end_both(NULL);
    assert_int_equal(ftruncate(f.state, st.st_size - 5), 0);
    refuse_restore(&f, "size");
    frozen_done(&f);
}

static void test_requests_out_of_order(void **state)
{
    (void)state;
    struct monitor_message m = {.create = {.memory_bytes = DRIVE_RAM, .vcpus = 1}};
    drive_start(&one);
    assert_int_equal(drive_call(&one, MONITOR_RUN, NULL, NULL, 0).code, -EINVAL);
    assert_int_equal(drive_call(&one, MONITOR_STATS, NULL, NULL, 0).code, -EINVAL);
    struct monitor_message bad = {.create = {.memory_bytes = 12345, .vcpus = 1}};
    drive_ok(&one, MONITOR_CREATE, &m, NULL, 0);
    assert_int_equal(drive_call(&one, MONITOR_CREATE, &bad, NULL, 0).code, -EBUSY);
    assert_int_equal(drive_call(&one, MONITOR_RUN, NULL, NULL, 0).code, -EINVAL);
    assert_int_equal(drive_call(&one, MONITOR_GATE, NULL, NULL, 0).code, -EINVAL);
    int fds[2] = {drive_file(), drive_file()};
    assert_int_equal(drive_call(&one, MONITOR_SAVE, NULL, fds, 2).code, -EINVAL);
    assert_int_equal(drive_call(&one, MONITOR_FORK, NULL, fds, 2).code, -EINVAL);
    m = (struct monitor_message){.disk = {.index = 0, .n_layers = 1}};
    assert_int_equal(drive_call(&one, MONITOR_DISK, &m, fds, 1).code, -EINVAL);
    close(fds[0]);
    close(fds[1]);
    end_both(NULL);
    drive_start(&one);
    assert_int_equal(drive_call(&one, MONITOR_CREATE, &bad, NULL, 0).code, -EINVAL);
}

/* Requests come back to back: those behind one that failed are answered, too. */
static void test_without_memory(void **state)
{
    (void)state;
    struct monitor_message m = {.create = {.memory_bytes = DRIVE_RAM, .vcpus = 1}};
    int file = drive_file();
    drive_start(&one);
    drive_ok(&one, MONITOR_CREATE, &m, NULL, 0);
    m = (struct monitor_message){.memory.kind = MONITOR_MEMORY_FILE};
    assert_int_equal(drive_call(&one, MONITOR_MEMORY, &m, &file, 1).code, -EBADMSG);
    m = (struct monitor_message){0};
    assert_int_equal(drive_call(&one, MONITOR_BOOT, &m, &file, 1).code, -EINVAL);
    assert_int_equal(drive_call(&one, MONITOR_RESTORE, &m, &file, 1).code, -EINVAL);
    close(file);
}

static void test_garbage_ends_the_monitor(void **state)
{
    (void)state;
    start('c');
    drive_expect(&one, "ABC");
    assert_int_equal(send(one.sock, "garbage", 7, 0), 7);
    int status = drive_wait(&one);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
}

static void test_ends_with_the_daemon(void **state)
{
    (void)state;
    start('s');
    drive_expect(&one, "ok");
    close(one.sock);
    one.sock = open("/dev/null", O_RDONLY);
    int status = drive_wait(&one);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static unsigned open_descriptors(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

static void test_a_thousand_clones_leave_nothing(void **state)
{
    (void)state;
    struct frozen f = snapshot();
    unsigned before = open_descriptors();
    const char *cycles = getenv("MONITOR_CYCLES"); /* fewer where everything is emulated */
    for (int i = 0; i < (cycles ? atoi(cycles) : CYCLES); i++) {
        thaw(&one, &f);
        drive_ok(&one, MONITOR_STATS, NULL, NULL, 0);
        end_both(NULL);
    }
    assert_int_equal(open_descriptors(), before);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
    thaw(&two, &f);
    drive_expect(&two, "XYZ");
    frozen_done(&f);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_says_something_and_hangs, end_both),
        cmocka_unit_test_teardown(test_ends_are_told, end_both),
        cmocka_unit_test_teardown(test_pause_and_run, end_both),
        cmocka_unit_test_teardown(test_a_spinning_guest_is_paused, end_both),
        cmocka_unit_test_teardown(test_snapshot_and_two_clones, end_both),
        cmocka_unit_test_teardown(test_suspend_and_resume_twice, end_both),
        cmocka_unit_test_teardown(test_fork_goes_on_and_so_does_the_clone, end_both),
        cmocka_unit_test_teardown(test_sixteen_vcpus, end_both),
        cmocka_unit_test_teardown(test_working_set, end_both),
        cmocka_unit_test_teardown(test_memory_in_chunks, end_both),
        cmocka_unit_test_teardown(test_bad_states_are_refused, end_both),
        cmocka_unit_test_teardown(test_requests_out_of_order, end_both),
        cmocka_unit_test_teardown(test_without_memory, end_both),
        cmocka_unit_test_teardown(test_garbage_ends_the_monitor, end_both),
        cmocka_unit_test_teardown(test_ends_with_the_daemon, end_both),
        cmocka_unit_test_teardown(test_a_thousand_clones_leave_nothing, end_both),
    };
    if (argc < 3) {
        fprintf(stderr, "usage: life TINDERBOX_VMM GUEST\n");
        return 2;
    }
    drive_program = argv[1];
    guest_path = argv[2];
    signal(SIGPIPE, SIG_IGN);
    const char *why = drive_why_not();
    if (why) {
        printf("skipped: %s\n", why);
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
