/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a microVM over a fake engine and a fake guest: what is wanted, who waits, what fails.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "fake.h"
#include "microvm/internal.h"

#define KEEP                                            \
    "{\"idlePolicy\":{\"maxIdleDurationSeconds\":3600," \
    "\"suspendedDurationSeconds\":3600,\"autoResumeEnabled\":true}}"
#define HOOKS                                                          \
    "{\"hooks\":{\"port\":9000,\"microvmHooks\":{\"run\":\"ENABLED\"," \
    "\"runTimeoutInSeconds\":60,\"suspend\":\"ENABLED\","              \
    "\"suspendTimeoutInSeconds\":60,\"resume\":\"ENABLED\"}}}"

struct rig {
    char dir[64];
    struct store *store;
    struct loop *loop;
    pthread_t thread;
    struct microvm_service *s;
    char id[64];
};

static void *loop_main(void *arg)
{
    loop_run(arg);
    return NULL;
}

static int open_service(struct rig *t)
{
    struct microvm_config c = {.loop = t->loop,
                               .store = t->store,
                               .data_dir = t->dir,
                               .guest_dir = t->dir,
                               .region = "us-east-1",
                               .account = "000000000000",
                               .max_vcpus = 1,
                               .max_builds = 1,
                               .max_memory_mib = 1 << 20,
                               .max_layers_bytes = 1LL << 40,
                               .retention_s = 3600};
    struct err e = {0};
    if (microvm_service_open(&c, &t->s, &e) < 0 || microvm_service_start(t->s, &e) < 0) {
        print_error("%s\n", e.text);
        return -1;
    }
    return 0;
}

/* An image "app" with one ACTIVE version, without building it. */
static int add_image(struct rig *t, const char *config)
{
    struct store_image img = {0};
    struct store_version ver = {0};
    struct store_build build = {0};
    int r = store_image_create(t->store, "app", "{}", config, 512, &img, &ver, &build, NULL);
    if (r == 0)
        r = store_build_start(t->store, build.id, NULL);
    build.state = BUILD_SUCCESSFUL;
    if (r == 0)
        r = store_build_end(t->store, &build, NULL);
    store_image_done(&img);
    store_version_done(&ver);
    store_build_done(&build);
    return r;
}

static int set_up(void **state, const char *config)
{
    struct rig *t = calloc(1, sizeof *t);
    char db[96];
    fake_reset();
    snprintf(t->dir, sizeof t->dir, "/tmp/tinderbox-vm-XXXXXX");
    if (!mkdtemp(t->dir))
        return -1;
    snprintf(db, sizeof db, "%s/state.db", t->dir);
    *state = t;
    if (store_open(db, &t->store, NULL) < 0 || loop_new(&t->loop, NULL) < 0 ||
        add_image(t, config) < 0 || pthread_create(&t->thread, NULL, loop_main, t->loop))
        return -1;
    return open_service(t);
}

static int setup(void **state)
{
    return set_up(state, "{}");
}

static int setup_with_hooks(void **state)
{
    return set_up(state, HOOKS);
}

static int teardown(void **state)
{
    struct rig *t = *state;
    microvm_service_close(t->s);
    loop_stop(t->loop);
    pthread_join(t->thread, NULL);
    loop_free(t->loop);
    store_close(t->store);
    int r = fs_remove_tree(t->dir, NULL);
    free(t);
    return r < 0 || fake.machines ? -1 : 0;
}

static enum microvm_state stored(struct rig *t, char *reason, size_t cap)
{
    struct store_microvm row = {0};
    assert_int_equal(store_microvm_get(t->store, t->id, &row, NULL), 0);
    enum microvm_state st = row.state;
    if (reason)
        snprintf(reason, cap, "%s", row.state_reason ? row.state_reason : "");
    store_microvm_done(&row);
    return st;
}

static void await_state(struct rig *t, enum microvm_state want)
{
    for (int i = 0; i < 1000 && stored(t, NULL, 0) != want; i++)
        usleep(5000);
    assert_string_equal(microvm_state_name(stored(t, NULL, 0)), microvm_state_name(want));
}

static void run_vm(struct rig *t)
{
    struct microvm_run_request q = {.image = "app", .config = KEEP, .max_duration_s = 3600};
    struct store_microvm row = {0};
    struct err e = {0};
    int r = microvm_run(t->s, &q, &row, &e);
    assert_string_equal(e.text, "");
    assert_int_equal(r, 0);
    snprintf(t->id, sizeof t->id, "%s", row.id);
    store_microvm_done(&row);
}

/* ---- waiters ----------------------------------------------------------------------------------
 */

struct answer {
    struct microvm *vm;
    atomic_int calls, status;
};

static void on_connect(enum microvm_connect_status status, struct agent *a, void *arg)
{
    struct answer *w = arg;
    assert_true((status == MICROVM_CONNECT_OK) == (a != NULL));
    atomic_store(&w->status, (int)status);
    atomic_fetch_add(&w->calls, 1);
}

static void connect_on_loop(void *arg)
{
    struct answer *w = arg;
    microvm_connect(w->vm, on_connect, w);
}

static void begin_connect(struct rig *t, struct answer *w)
{
    *w = (struct answer){.vm = registry_find_id(t->s, t->id)};
    assert_non_null(w->vm);
    loop_call(t->loop, connect_on_loop, w);
}

static void assert_answer(struct answer *w, enum microvm_connect_status want)
{
    for (int i = 0; i < 1000 && !atomic_load(&w->calls); i++)
        usleep(5000);
    usleep(20000); /* a second call would be a mistake */
    assert_int_equal(atomic_load(&w->calls), 1);
    assert_int_equal(atomic_load(&w->status), want);
    microvm_unref(w->vm);
}

/* ---- tests ------------------------------------------------------------------------------------
 */

static void test_round_trip(void **state)
{
    struct rig *t = *state;
    struct answer w;
    run_vm(t);
    begin_connect(t, &w); /* PENDING: waited for */
    assert_answer(&w, MICROVM_CONNECT_OK);
    assert_int_equal(microvm_suspend(t->s, t->id, NULL), 0);
    await_state(t, MICROVM_SUSPENDED);
    assert_int_equal(fake.machines, 0);
    begin_connect(t, &w); /* resumed for it */
    assert_answer(&w, MICROVM_CONNECT_OK);
    assert_int_equal(microvm_terminate(t->s, t->id, NULL), 0);
    await_state(t, MICROVM_TERMINATED);
    begin_connect(t, &w);
    assert_answer(&w, MICROVM_CONNECT_FAILED);
}

static void test_the_later_of_two_wishes_counts(void **state)
{
    struct rig *t = *state;
    struct answer w;
    run_vm(t);
    await_state(t, MICROVM_RUNNING);
    fake_set(&fake.hold_suspend, true);
    assert_int_equal(microvm_suspend(t->s, t->id, NULL), 0);
    fake_await(&fake.holding);
    assert_int_equal(microvm_suspend(t->s, t->id, NULL), 0); /* nothing more to be done */
    begin_connect(t, &w);                                    /* but now it shall run */
    fake_set(&fake.hold_suspend, false);
    assert_answer(&w, MICROVM_CONNECT_OK);
    usleep(100000);
    assert_int_equal(stored(t, NULL, 0), MICROVM_RUNNING);
    assert_int_equal(fake.suspends, 1);
}

static void test_terminate_does_not_wait_for_a_restore_and_its_hooks(void **state)
{
    struct rig *t = *state;
    fake_set(&fake.mute, true);
    fake_set(&fake.hold_restore, true);
    run_vm(t);
    fake_await(&fake.holding);
    int64_t start = clock_mono_ms();
    vm_want_terminate(registry_find_id(t->s, t->id), "Success.", false);
    struct microvm *vm = registry_find_id(t->s, t->id);
    microvm_unref(vm);
    microvm_unref(vm);
    fake_set(&fake.hold_restore, false);
    await_state(t, MICROVM_TERMINATED);
    assert_in_range(clock_mono_ms() - start, 0, 5000);
}

static void test_terminate_interrupts_a_guest_that_never_answers(void **state)
{
    struct rig *t = *state;
    fake_set(&fake.mute, true); /* the run hook hangs */
    run_vm(t);
    fake_await(&fake.holding);
    assert_int_equal(microvm_terminate(t->s, t->id, NULL), 0);
    await_state(t, MICROVM_TERMINATED);
}

static void test_a_failed_suspend_keeps_the_vm(void **state)
{
    struct rig *t = *state;
    char reason[256];
    struct answer w;
    run_vm(t);
    await_state(t, MICROVM_RUNNING);
    fake.fail_suspend = ENOSPC;
    assert_int_equal(microvm_suspend(t->s, t->id, NULL), 0);
    for (int i = 0; i < 400 && fake.suspends == 0; i++)
        usleep(5000);
    await_state(t, MICROVM_RUNNING);
    assert_int_equal(stored(t, reason, sizeof reason), MICROVM_RUNNING);
    assert_non_null(strstr(reason, "suspend refused"));
    begin_connect(t, &w);
    assert_answer(&w, MICROVM_CONNECT_OK);
}

static void test_a_failed_resume_keeps_the_checkpoint_unless_the_guest_wrote(void **state)
{
    struct rig *t = *state;
    struct answer w;
    run_vm(t);
    await_state(t, MICROVM_RUNNING);
    assert_int_equal(microvm_suspend(t->s, t->id, NULL), 0);
    await_state(t, MICROVM_SUSPENDED);
    fake.fail_resume = ENOMEM;
    begin_connect(t, &w); /* answered once, without trying for ever */
    assert_answer(&w, MICROVM_CONNECT_SUSPENDED);
    assert_int_equal(fake.resumes, 1);
    fake.fail_resume = 0;
    begin_connect(t, &w);
    assert_answer(&w, MICROVM_CONNECT_OK);
    assert_int_equal(microvm_suspend(t->s, t->id, NULL), 0);
    await_state(t, MICROVM_SUSPENDED);
    fake.fail_resume = EPIPE;
    fake.write_on_resume = true;
    assert_int_equal(microvm_resume(t->s, t->id, NULL), 0);
    await_state(t, MICROVM_TERMINATED); /* its disk and its memory no longer belong together */
}

static void test_a_lost_session_ends_the_vm_with_the_better_reason(void **state)
{
    struct rig *t = *state;
    char reason[256];
    run_vm(t);
    await_state(t, MICROVM_RUNNING);
    fake_kill_machine("monitor \xff\x1b killed");
    await_state(t, MICROVM_TERMINATED);
    stored(t, reason, sizeof reason);
    assert_string_equal(reason, "The microVM's machine ended unexpectedly: monitor ?  killed");
    run_vm(t);
    await_state(t, MICROVM_RUNNING);
    usleep(50000);
    fake_break_session();
    await_state(t, MICROVM_TERMINATED);
    stored(t, reason, sizeof reason);
    assert_string_equal(reason, "The connection to the microVM was lost");
}

static void test_a_session_lost_during_a_failing_suspend_is_mended(void **state)
{
    struct rig *t = *state;
    struct answer w;
    run_vm(t);
    await_state(t, MICROVM_RUNNING);
    usleep(50000);
    fake_set(&fake.mute, true); /* the suspend hook hangs ... */
    assert_int_equal(microvm_suspend(t->s, t->id, NULL), 0);
    fake_await(&fake.holding);
    fake_set(&fake.mute, false);
    fake_break_session(); /* ... and may or may not have been answered */
    for (int i = 0; i < 400 && stored(t, NULL, 0) == MICROVM_SUSPENDING; i++)
        usleep(5000);
    begin_connect(t, &w);
    assert_answer(&w, MICROVM_CONNECT_OK);
}

static void test_closing_suspends_what_is_on_its_way_up(void **state)
{
    struct rig *t = *state;
    fake_set(&fake.hold_restore, true);
    run_vm(t);
    fake_await(&fake.holding);
    pthread_t closer;
    void *(*close_it)(void *) = (void *(*)(void *))(uintptr_t)microvm_service_close;
    assert_int_equal(pthread_create(&closer, NULL, close_it, t->s), 0);
    usleep(50000);
    fake_set(&fake.hold_restore, false);
    pthread_join(closer, NULL);
    assert_int_equal(stored(t, NULL, 0), MICROVM_SUSPENDED);
    assert_int_equal(open_service(t), 0); /* and it comes back */
    struct answer w;
    begin_connect(t, &w);
    assert_answer(&w, MICROVM_CONNECT_OK);
}

static void test_recovery(void **state)
{
    static const struct {
        enum microvm_state row;
        const char *dir; /* below the VM's directory */
        enum microvm_state want;
    } cases[] = {
        {MICROVM_SUSPENDED, "suspend", MICROVM_SUSPENDED},
        {MICROVM_SUSPENDING, "suspend", MICROVM_SUSPENDED},
        {MICROVM_SUSPENDED, "resuming", MICROVM_TERMINATED},
        {MICROVM_SUSPENDING, "suspend.1234.part", MICROVM_TERMINATED},
        {MICROVM_RUNNING, "suspend", MICROVM_TERMINATED},
        {MICROVM_PENDING, NULL, MICROVM_TERMINATED},
    };
    struct rig *t = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char dir[256], file[300];
        microvm_service_close(t->s);
        snprintf(t->id, sizeof t->id, "microvm-case-%zu", i);
        struct store_microvm row = {.id = t->id,
                                    .endpoint = t->id,
                                    .image = "app",
                                    .version = 1,
                                    .config = "{}",
                                    .max_duration_s = 60,
                                    .memory_mib = 512};
        assert_int_equal(store_microvm_create(t->store, &row, 1 << 20, NULL), 0);
        static const enum microvm_state path[] = {MICROVM_RUNNING, MICROVM_SUSPENDING,
                                                  MICROVM_SUSPENDED};
        for (size_t k = 0; cases[i].row != MICROVM_PENDING && k < ARRAY_LEN(path); k++) {
            assert_int_equal(store_microvm_set_state(t->store, t->id, path[k], NULL, NULL), 0);
            if (path[k] == cases[i].row)
                break;
        }
        if (cases[i].dir) {
            snprintf(dir, sizeof dir, "%s/vms/%s/%s", t->dir, t->id, cases[i].dir);
            snprintf(file, sizeof file, "%s/manifest.json", dir);
            assert_int_equal(fs_mkdir_p(dir, 0700, NULL), 0);
            assert_int_equal(fs_write_file(file, "{}", 2, 0600, NULL), 0);
        }
        assert_int_equal(open_service(t), 0);
        assert_int_equal(stored(t, NULL, 0), cases[i].want);
        snprintf(dir, sizeof dir, "%s/vms/%s", t->dir, t->id);
        assert_int_equal(fs_exists(dir), cases[i].want == MICROVM_SUSPENDED);
    }
}

int main(void)
{
#define T(name, up) cmocka_unit_test_setup_teardown(name, up, teardown)
    const struct CMUnitTest tests[] = {
        T(test_round_trip, setup),
        T(test_round_trip, setup_with_hooks),
        T(test_the_later_of_two_wishes_counts, setup),
        T(test_terminate_does_not_wait_for_a_restore_and_its_hooks, setup_with_hooks),
        T(test_terminate_interrupts_a_guest_that_never_answers, setup_with_hooks),
        T(test_a_failed_suspend_keeps_the_vm, setup),
        T(test_a_failed_resume_keeps_the_checkpoint_unless_the_guest_wrote, setup),
        T(test_a_lost_session_ends_the_vm_with_the_better_reason, setup),
        T(test_a_session_lost_during_a_failing_suspend_is_mended, setup_with_hooks),
        T(test_closing_suspends_what_is_on_its_way_up, setup),
        T(test_recovery, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
