/* SPDX-License-Identifier: Apache-2.0 */
/* What must survive: a writer killed in the middle, a full disk, a database of the wrong age, many
 * threads at once. */
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* The child runs VMs through their life and tells each committed id through the pipe; the parent
 * kills it at some moment. Everything that was told must be there, and at most one more. */
static void writer_child(const char *path, int out)
{
    struct err e;
    struct store *s;
    if (store_open(path, &s, &e) < 0)
        _exit(1);
    for (uint32_t i = 0;; i++) {
        char id[16], endpoint[16];
        snprintf(id, sizeof id, "m%07u", i);
        snprintf(endpoint, sizeof endpoint, "e%07u", i);
        struct store_microvm r = {.id = id, .endpoint = endpoint, .image = (char *)"img"};
        if (store_microvm_create(s, &r, INT64_MAX, &e) < 0 ||
            store_microvm_set_state(s, id, MICROVM_RUNNING, "a reason", &e) < 0 ||
            write(out, &i, sizeof i) != sizeof i)
            _exit(1);
    }
}

static int count_row(const struct store_microvm *r, void *arg)
{
    (void)r;
    ++*(uint32_t *)arg;
    return 0;
}

static void kill_a_writer(const char *path, unsigned after_ms)
{
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0)
        writer_child(path, fds[1]);
    close(fds[1]);
    uint32_t told = 0, i;
    bool any = read(fds[0], &i, sizeof i) == sizeof i;
    usleep(after_ms * 1000);
    assert_int_equal(kill(pid, SIGKILL), 0);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    for (told = any; read(fds[0], &i, sizeof i) == sizeof i;)
        told = i + 1;
    close(fds[0]);

    struct err e;
    struct store *s;
    assert_ok(store_open(path, &s, &e), e);
    uint32_t rows = 0;
    assert_ok(store_microvm_live(s, count_row, &rows, &e), e);
    assert_true(told > 0);
    assert_in_range(rows, told, told + 1);
    for (uint32_t k = 0; k < told; k++) {
        char id[16];
        struct store_microvm r = {0};
        snprintf(id, sizeof id, "m%07u", k);
        assert_ok(store_microvm_get(s, id, &r, &e), e);
        assert_int_equal(r.state, MICROVM_RUNNING);
        store_microvm_done(&r);
    }
    store_close(s);
}

static void integrity(const char *path)
{
    sqlite3 *h;
    sqlite3_stmt *st;
    assert_int_equal(sqlite3_open_v2(path, &h, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(h, "PRAGMA integrity_check", -1, &st, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    assert_string_equal((const char *)sqlite3_column_text(st, 0), "ok");
    sqlite3_finalize(st);
    sqlite3_close(h);
}

static void killed_writer(void **state)
{
    struct scratch *t = *state;
    for (unsigned i = 0; i < 5; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/killed%u.db", t->dir, i);
        kill_a_writer(path, 3 + 29 * i);
        integrity(path);
    }
}

/* Grows the database until the file size limit stops it; then lifts the limit and goes on. */
static int full_disk_child(const char *path)
{
    struct err e = {0};
    struct store *s;
    struct rlimit tight = {512 * 1024, RLIM_INFINITY}, loose = {RLIM_INFINITY, RLIM_INFINITY};
    signal(SIGXFSZ, SIG_IGN);
    if (store_open(path, &s, &e) < 0 || setrlimit(RLIMIT_FSIZE, &tight) < 0)
        return 1;
    char *big = calloc(1, 60001), name[16];
    memset(big, 'x', 60000);
    int made = 0, rc;
    do {
        snprintf(name, sizeof name, "i%d", made);
        rc = store_image_create(s, name, NULL, big, 512, NULL, NULL, NULL, &e);
    } while (rc == 0 && ++made < 1000);
    if (rc != -ENOSPC || !strstr(e.text, "space") || made < 2)
        return 2;
    struct store_image img = {0};
    if (store_image_get(s, name, &img, &e) != -ENOENT) /* the refused one left nothing */
        return 3;
    if (store_image_get(s, "i0", &img, &e) < 0) /* reading goes on */
        return 4;
    store_image_done(&img);
    if (setrlimit(RLIMIT_FSIZE, &loose) < 0 ||
        store_image_create(s, name, NULL, big, 512, NULL, NULL, NULL, &e) < 0)
        return 5;
    free(big);
    store_close(s);
    return 0;
}

static void full_disk(void **state)
{
    struct scratch *t = *state;
    char path[128];
    snprintf(path, sizeof path, "%s/full.db", t->dir);
    pid_t pid = fork();
    if (pid == 0)
        _exit(full_disk_child(path));
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    integrity(path);
}

static void script(const char *path, const char *sql)
{
    sqlite3 *h;
    assert_int_equal(sqlite3_open(path, &h), SQLITE_OK);
    assert_int_equal(sqlite3_exec(h, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(h);
}

static void wrong_age(void **state)
{
    struct scratch *t = *state;
    struct err e;
    struct store *s = NULL;
    char path[128];
    snprintf(path, sizeof path, "%s/newer.db", t->dir);
    script(path, "CREATE TABLE future (x); PRAGMA user_version = 4711;");
    struct buf before = BUF_INIT(0), after = BUF_INIT(0);
    assert_ok(fs_read_file(path, &before, &e), e);
    assert_int_equal(store_open(path, &s, &e), -EPROTO);
    assert_non_null(strstr(e.text, "newer"));
    assert_non_null(strstr(e.text, "4711"));
    assert_ok(fs_read_file(path, &after, &e), e);
    assert_int_equal(before.len, after.len);
    assert_memory_equal(before.data, after.data, before.len); /* untouched */
    buf_done(&before);
    buf_done(&after);

    snprintf(path, sizeof path, "%s/foreign.db", t->dir);
    script(path, "CREATE TABLE wedding_guests (x);");
    assert_int_equal(store_open(path, &s, &e), -EPROTO);
    snprintf(path, sizeof path, "%s/garbage.db", t->dir);
    assert_ok(
        fs_write_file(path, "this is not a database, it is a text of some length", 51, 0600, &e),
        e);
    assert_true(store_open(path, &s, &e) < 0);
    assert_non_null(strstr(e.text, "garbage.db"));
    assert_true(store_open("/nonexistent/dir/x.db", &s, &e) < 0);
    assert_null(s);
}

static void private_files(void **state)
{
    struct scratch *t = *state;
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        char path[128];
        struct stat st;
        snprintf(path, sizeof path, "%s%s", t->db, suffixes[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
}

struct hammer {
    struct store *s;
    unsigned id;
    int failed;
};

static void *hammer(void *arg)
{
    struct hammer *h = arg;
    struct err e;
    for (int i = 0; i < 25 && !h->failed; i++) {
        char id[32], endpoint[32];
        snprintf(id, sizeof id, "m-%u-%d", h->id, i);
        snprintf(endpoint, sizeof endpoint, "e-%u-%d", h->id, i);
        struct store_microvm r = {.id = id, .endpoint = endpoint, .image = (char *)"img"};
        struct store_microvm got = {0};
        uint32_t n = 0;
        h->failed = store_microvm_create(h->s, &r, INT64_MAX, &e) < 0 ||
                    store_microvm_get(h->s, id, &got, &e) < 0 ||
                    store_microvm_live(h->s, count_row, &n, &e) < 0 || n == 0 ||
                    store_microvm_set_state(h->s, id, MICROVM_TERMINATED, NULL, &e) < 0;
        store_microvm_done(&got);
    }
    return NULL;
}

/* Of many threads with one client token exactly one wins. */
static void *claim(void *arg)
{
    struct hammer *h = arg;
    struct err e;
    for (int i = 0; i < 20; i++) {
        char token[16], *resource = NULL;
        snprintf(token, sizeof token, "t%d", i);
        int rc = store_token_claim(h->s, "Run", token, "same", &resource, &e);
        if (rc < 0)
            return (void *)(intptr_t)-1;
        h->failed += rc;
    }
    return NULL;
}

static void threads(void **state)
{
    struct scratch *t = *state;
    struct hammer h[6], c[6];
    pthread_t ids[12];
    int won = 0;
    for (unsigned i = 0; i < 6; i++) {
        h[i] = c[i] = (struct hammer){t->s, i, 0};
        assert_int_equal(pthread_create(&ids[i], NULL, hammer, &h[i]), 0);
        assert_int_equal(pthread_create(&ids[6 + i], NULL, claim, &c[i]), 0);
    }
    for (unsigned i = 0; i < 12; i++) {
        void *result;
        pthread_join(ids[i], &result);
        assert_null(result);
    }
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(h[i].failed, 0);
        won += c[i].failed;
    }
    assert_int_equal(won, 20);
    uint32_t live = 0;
    struct err e;
    assert_ok(store_microvm_live(t->s, count_row, &live, &e), e);
    assert_int_equal(live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(killed_writer), TEST(full_disk), TEST(wrong_age), TEST(private_files), TEST(threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
