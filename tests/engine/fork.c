/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clones of a machine that goes on running: its session, memory and disk are not disturbed, clones
 * have what it had at that moment and are themselves, nobody sees what another writes later.
 */
#include "harness.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"

enum { CLONES = 3 };

static struct rig rig;
static struct box *parent;

static void sh(struct box *b, const char *command, char *out, size_t cap)
{
    int r = box_sh(b, command, out, cap);
    if (r)
        fail_msg("%s: %s: %d %s", b->id, command, r, out);
}

static void expect(struct box *b, const char *command, const char *want)
{
    char out[300];
    sh(b, command, out, sizeof out);
    assert_string_equal(out, want);
}

static void test_boot(void **state)
{
    (void)state;
    char base[600], out[100];
    snprintf(base, sizeof base, "%s/debian-12.ext4", rig.guest);
    parent = box_prepare(&rig, "parent", base, ENGINE_DISK_RAW);
    box_boot(&rig, parent);
    sh(parent, "echo before > /file; head -c 4000000 /dev/urandom > /blob; sync", out, sizeof out);
    sh(parent,
       "echo unsynced > /late; (while :; do date +%s%N > /run/new; mv /run/new /run/beat; sleep "
       "0.1; done) "
       ">/dev/null 2>&1 & echo $!",
       out, sizeof out);
}

static void fork_to(const char *dir, struct engine_fork_info *info)
{
    struct err e = {0};
    int64_t start = clock_mono_us();
    int r = engine_fork(parent->machine, dir, info, &e);
    if (r == -ENOTSUP) {
        printf("skipped: %s\n", e.text);
        skip();
    }
    if (r < 0)
        fail_msg("%s", e.text);
    printf("fork: stood still for %.1f ms, complete after %.0f ms, %llu KiB\n",
           (double)info->paused_us / 1000, (double)(clock_mono_us() - start) / 1000,
           (unsigned long long)fs_tree_bytes(dir) / 1024);
}

static struct box *clone_of(const char *dir, const struct engine_fork_info *info, const char *id)
{
    char base[600];
    snprintf(base, sizeof base, "%s/%s", dir, info->disk[0]);
    struct box *b = box_prepare(&rig, id, base, ENGINE_DISK_OVERLAY);
    int64_t start = clock_mono_us();
    box_restore(&rig, b, dir, true);
    printf("%s: ready after %.0f ms\n", id, (double)(clock_mono_us() - start) / 1000);
    return b;
}

/* The session of the parent is the one from before. */
static void test_fork(void **state)
{
    (void)state;
    struct engine_fork_info info;
    struct box *b[CLONES];
    char dir[400], sum[200], out[300], other[300];
    snprintf(dir, sizeof dir, "%s/snap-fork", rig.dir);
    fork_to(dir, &info);
    sh(parent, "sha256sum < /blob", sum, sizeof sum);
    sh(parent,
       "echo after > /file; rm /blob; sync; a=$(cat /run/beat); sleep 1; b=$(cat /run/beat);"
       " [ $a != $b ] && echo beats",
       out, sizeof out);
    assert_string_equal(out, "beats");
    for (int i = 0; i < CLONES; i++) {
        char id[16], command[100];
        snprintf(id, sizeof id, "fork-%d", i);
        b[i] = clone_of(dir, &info, id);
        expect(b[i], "cat /file", "before");
        expect(b[i], "cat /late", "unsynced");
        expect(b[i], "sha256sum < /blob", sum);
        expect(b[i], "hostname", id);
        snprintf(command, sizeof command,
                 "echo %s > /file; sync; echo 3 > /proc/sys/vm/drop_caches "
                 "2>/dev/null; true",
                 id);
        sh(b[i], command, out, sizeof out);
    }
    for (int i = 0; i < CLONES; i++) {
        expect(b[i], "cat /file", b[i]->id);
        sh(b[i], "head -c 16 /dev/urandom | od -An -tx1", out, sizeof out);
        assert_string_not_equal(out, i ? other : "");
        memcpy(other, out, sizeof other);
    }
    expect(parent, "cat /file", "after");
    for (int i = 0; i < CLONES; i++)
        box_end(b[i]);
}

/* Again, on top of what the first one froze; from there through suspend and resume. */
static void test_again(void **state)
{
    (void)state;
    struct err e = {0};
    struct engine_fork_info info;
    char dir[400], suspended[500];
    snprintf(dir, sizeof dir, "%s/snap-again", rig.dir);
    fork_to(dir, &info);
    struct box *b = clone_of(dir, &info, "second");
    expect(b, "cat /file", "after");
    box_freeze(parent);
    snprintf(suspended, sizeof suspended, "%s/suspended", parent->dir);
    CHECK_OK(engine_suspend(parent->machine, suspended, &e), e);
    box_end(parent);
    /* The clone and the resumed parent share no file by name any more. */
    box_restore(&rig, parent, suspended, false);
    expect(parent, "cat /file", "after");
    expect(b, "cat /file", "after");
    box_end(b);
}

/* A clone of a clone: the base memory gets another link, the pages that differ are written. */
static void test_of_a_clone(void **state)
{
    (void)state;
    struct err e = {0};
    struct engine_fork_info info;
    char first[400], second[400], out[100];
    snprintf(first, sizeof first, "%s/snap-first", rig.dir);
    snprintf(second, sizeof second, "%s/snap-second", rig.dir);
    fork_to(first, &info);
    struct box *keep = parent, *a = clone_of(first, &info, "child");
    sh(a, "echo child > /file", out, sizeof out);
    parent = a;
    fork_to(second, &info);
    parent = keep;
    struct box *b = clone_of(second, &info, "grandchild");
    expect(b, "cat /file", "child");
    expect(a, "cat /file", "child");
    box_end(a);
    CHECK_OK(fs_remove_tree(first, &e), e);
    expect(b, "sha256sum /bin/sh >/dev/null && echo reads", "reads");
    box_end(b);
}

static void test_end(void **state)
{
    (void)state;
    box_end(parent);
    assert_int_equal(count_children(), 0);
}

int main(int argc, char **argv)
{
    rig_open(&rig, argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_boot),  cmocka_unit_test(test_fork),
        cmocka_unit_test(test_again), cmocka_unit_test(test_of_a_clone),
        cmocka_unit_test(test_end),
    };
    int failed = cmocka_run_group_tests_name("engine fork", tests, NULL, box_end_all);
    return rig_close(&rig) || failed ? 1 : 0;
}
