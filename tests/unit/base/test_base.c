/* SPDX-License-Identifier: Apache-2.0 */
/* The base layer: errors, buffers, encodings, JSON limits, files, processes, loop, workers. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/digest.h"
#include "base/encode.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/loop.h"
#include "base/proc.h"
#include "base/workers.h"

static void err_wraps_and_keeps_the_code(void **state)
{
    (void)state;
    struct err e = {0};
    assert_int_equal(err_set(&e, EINVAL, "bad %s", "thing"), -EINVAL);
    assert_int_equal(err_wrap(&e, "while %d", 7), -EINVAL);
    assert_string_equal(e.text, "while 7: bad thing");
    assert_int_equal(err_set(&e, ENOENT, "again: %s", e.text), -ENOENT);
    assert_string_equal(e.text, "again: while 7: bad thing");
    assert_int_equal(err_set(NULL, EIO, "nobody reads this"), -EIO);
    char longer[3 * ERR_TEXT_MAX];
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    err_set(&e, EIO, "%s", longer);
    err_wrap(&e, "%s", longer);
    assert_true(strlen(e.text) < ERR_TEXT_MAX);
}

static void buf_respects_its_ceiling(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(10);
    assert_int_equal(buf_adds(&b, "12345"), 0);
    assert_int_equal(buf_adds(&b, "67890"), 0);
    assert_int_equal(buf_adds(&b, "x"), -EMSGSIZE);
    assert_int_equal(buf_reserve(&b, SIZE_MAX), -ENOMEM);
    assert_string_equal(b.data, "1234567890");
    buf_consume(&b, 4);
    assert_string_equal(b.data, "567890");
    buf_consume(&b, 100);
    assert_int_equal(b.len, 0);
    buf_done(&b);
}

static const struct {
    const char *plain, *std, *url;
} BASE64[] = {
    /* RFC 4648 §10 */
    {"", "", ""},
    {"f", "Zg==", "Zg"},
    {"fo", "Zm8=", "Zm8"},
    {"foo", "Zm9v", "Zm9v"},
    {"foob", "Zm9vYg==", "Zm9vYg"},
    {"fooba", "Zm9vYmE=", "Zm9vYmE"},
    {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
    {"\xfb\xff", "+/8=", "-_8"},
};

static void base64_round_trips(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(BASE64); i++) {
        struct buf b = BUF_INIT(0);
        size_t n = strlen(BASE64[i].plain);
        assert_int_equal(base64_encode(&b, BASE64[i].plain, n), 0);
        assert_string_equal(b.data ? b.data : "", BASE64[i].std);
        buf_clear(&b);
        assert_int_equal(base64url_encode(&b, BASE64[i].plain, n), 0);
        assert_string_equal(b.data ? b.data : "", BASE64[i].url);
        buf_clear(&b);
        assert_int_equal(base64_decode(&b, BASE64[i].std, strlen(BASE64[i].std)), 0);
        assert_int_equal(b.len, n);
        assert_memory_equal(b.data, BASE64[i].plain, n);
        buf_clear(&b);
        assert_int_equal(base64url_decode(&b, BASE64[i].url, strlen(BASE64[i].url)), 0);
        assert_memory_equal(b.data, BASE64[i].plain, n);
        buf_done(&b);
    }
}

static void base64_is_strict(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "Zg=", "Zg", "Z===", "Zh==", "Zm9=", "Zm9v\n", "Zm 9", "=Zg=", "Zg==Zg=="};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct buf b = BUF_INIT(0);
        assert_int_equal(base64_decode(&b, bad[i], strlen(bad[i])), -EINVAL);
        assert_int_equal(b.len, 0);
        buf_done(&b);
    }
    struct buf b = BUF_INIT(0);
    assert_int_equal(base64url_decode(&b, "Zg==", 4), -EINVAL);
    assert_int_equal(base64url_decode(&b, "Zh", 2), -EINVAL);
    buf_done(&b);
}

static void percent_and_hex(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(0);
    assert_int_equal(percent_encode(&b, "a b/c:%", 7, "/"), 0);
    assert_string_equal(b.data, "a%20b/c%3A%25");
    struct buf d = BUF_INIT(0);
    assert_int_equal(percent_decode(&d, b.data, b.len), 0);
    assert_string_equal(d.data, "a b/c:%");
    static const char *const bad[] = {"%", "%4", "%zz", "%00", "a%2"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(percent_decode(&d, bad[i], strlen(bad[i])), -EINVAL);
    unsigned char raw[3];
    char hex[7];
    assert_int_equal(hex_decode(raw, 3, "00fFa1"), 0);
    hex_encode(hex, raw, 3);
    assert_string_equal(hex, "00ffa1");
    assert_int_equal(hex_decode(raw, 3, "00ff"), -EINVAL);
    assert_int_equal(hex_decode(raw, 3, "00ffa1b2"), -EINVAL);
    buf_done(&b);
    buf_done(&d);
}

static void json_has_limits(void **state)
{
    (void)state;
    json_t *v = NULL;
    struct err e = {0};
    char deep[200];
    memset(deep, '[', sizeof deep);
    assert_int_equal(json_parse(deep, sizeof deep, 1000, &v, &e), -EINVAL);
    assert_non_null(strstr(e.text, "deeper"));
    assert_int_equal(json_parse("{\"a\":1,\"a\":2}", 13, 100, &v, &e), -EINVAL);
    assert_int_equal(json_parse("[1]", 3, 2, &v, &e), -EMSGSIZE);
    assert_int_equal(json_parse("[1] x", 5, 100, &v, &e), -EINVAL);
    assert_int_equal(json_parse("\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"", 44, 100, &v, &e),
                     0);
    json_decref(v);
    assert_int_equal(json_parse("{\"n\":7,\"b\":true,\"s\":null}", 25, 100, &v, &e), 0);
    assert_int_equal(json_get_int(v, "n", 0), 7);
    assert_true(json_get_bool(v, "b", false));
    assert_null(json_get_str(v, "s"));
    json_decref(v);
}

static void sha256_and_hmac_match_published_vectors(void **state)
{
    (void)state;
    char hex[SHA256_HEX_LEN + 1];
    unsigned char mac[SHA256_LEN];
    sha256_hex_of("abc", 3, hex); /* FIPS 180-4 example */
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, mac); /* RFC 4231 case 2 */
    hex_encode(hex, mac, sizeof mac);
    assert_string_equal(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

static void files_are_replaced_whole_and_trees_removed(void **state)
{
    (void)state;
    char dir[] = "/tmp/base-test-XXXXXX", path[128], copy[128], deep[128];
    struct err e = {0};
    struct stat st;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/file", dir);
    snprintf(copy, sizeof copy, "%s/copy", dir);
    snprintf(deep, sizeof deep, "%s/a/b/c", dir);
    assert_int_equal(fs_write_file(path, "one", 3, 0600, &e), 0);
    assert_int_equal(fs_write_file(path, "two!", 4, 0600, &e), 0);
    struct buf b = BUF_INIT(3);
    assert_int_equal(fs_read_file(path, &b, &e), -EMSGSIZE);
    buf_done(&b);
    int fd = open(path, O_WRONLY);
    assert_int_equal(ftruncate(fd, 64 << 20), 0); /* a hole that a copy must keep */
    close(fd);
    assert_int_equal(fs_copy_file(path, copy, 0600, &e), 0);
    assert_int_equal(stat(copy, &st), 0);
    assert_int_equal(st.st_size, 64 << 20);
    assert_true(st.st_blocks * 512 < 1 << 20);
    assert_int_equal(fs_copy_file(path, copy, 0600, &e), -EEXIST);
    assert_int_equal(fs_mkdir_p(deep, 0700, &e), 0);
    assert_int_equal(symlink("/etc", strcat(deep, "/link")), 0);
    assert_int_equal(fs_remove_tree(dir, &e), 0);
    assert_false(fs_exists(dir));
    assert_true(fs_exists("/etc/passwd"));
    assert_int_equal(fs_remove_tree(dir, &e), 0);
}

static void processes_run_fail_and_time_out(void **state)
{
    (void)state;
    struct err e = {0};
    struct buf out = BUF_INIT(1 << 16);
    const char *cat[] = {"cat", NULL};
    assert_int_equal(proc_run(cat, "hello", 5000, &out, &e), 0);
    assert_string_equal(out.data, "hello");
    const char *bad[] = {"sh", "-c", "echo why >&2; exit 3", NULL};
    assert_int_equal(proc_run(bad, NULL, 5000, &out, &e), -EIO);
    assert_non_null(strstr(e.text, "exit status 3: why"));
    const char *none[] = {"/no/such/program", NULL};
    assert_int_equal(proc_run(none, NULL, 5000, &out, &e), -ENOENT);
    const char *slow[] = {"sleep", "30", NULL};
    int64_t start = clock_mono_ms();
    assert_int_equal(proc_run(slow, NULL, 100, &out, &e), -ETIMEDOUT);
    assert_true(clock_mono_ms() - start < 10000);
    buf_done(&out);
}

static void a_child_gets_only_its_descriptors(void **state)
{
    (void)state;
    struct err e = {0};
    struct buf out = BUF_INIT(1 << 16);
    int leak = open("/dev/null", O_RDONLY); /* deliberately without close-on-exec */
    const char *ls[] = {"sh", "-c", "ls /proc/self/fd | wc -l", NULL};
    assert_int_equal(proc_run(ls, NULL, 5000, &out, &e), 0);
    assert_int_equal(atoi(out.data), 4); /* 0, 1, 2 and ls's own directory */
    close(leak);
    buf_done(&out);
}

/* The grandchild must be gone although its parent was killed without any chance to clean up. */
static void children_die_with_their_parent(void **state)
{
    (void)state;
    int report[2];
    assert_int_equal(pipe(report), 0);
    pid_t pid = fork();
    if (pid == 0) { /* the spawner thread does not survive a fork: a new program makes its own */
        dup2(report[1], 1);
        execl("/proc/self/exe", "test_base", "--be-a-parent", NULL);
        _exit(1);
    }
    pid_t child = 0;
    assert_int_equal(read(report[0], &child, sizeof child), sizeof child);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    bool gone = false;
    for (int i = 0; i < 500 && !gone; i++) {
        char path[64], text[256] = "";
        snprintf(path, sizeof path, "/proc/%d/stat", child);
        int fd = open(path, O_RDONLY);
        gone = fd < 0 || read(fd, text, sizeof text - 1) <= 0 || strstr(text, ") Z ");
        if (fd >= 0)
            close(fd);
        if (!gone)
            usleep(10000);
    }
    assert_true(gone);
    close(report[0]);
    close(report[1]);
}

static atomic_int counter;

static void count_up(void *arg)
{
    (void)arg;
    atomic_fetch_add(&counter, 1);
}

static void *run_loop(void *arg)
{
    loop_run(arg);
    return NULL;
}

static void loop_runs_posts_in_order_from_any_thread(void **state)
{
    (void)state;
    struct loop *l;
    struct err e = {0};
    pthread_t t;
    assert_int_equal(loop_new(&l, &e), 0);
    atomic_store(&counter, 0);
    assert_int_equal(pthread_create(&t, NULL, run_loop, l), 0);
    for (int i = 0; i < 1000; i++)
        loop_post(l, count_up, NULL);
    loop_call(l, count_up, NULL); /* returns only after everything before it */
    assert_int_equal(atomic_load(&counter), 1001);
    assert_false(loop_is_current(l));
    loop_stop(l);
    pthread_join(t, NULL);
    loop_free(l);
}

static void nap(void *arg)
{
    (void)arg;
    usleep(20000);
    atomic_fetch_add(&counter, 1);
}

static void workers_are_bounded_and_finish(void **state)
{
    (void)state;
    struct workers *w;
    struct err e = {0};
    atomic_store(&counter, 0);
    assert_int_equal(workers_new("test", 2, 3, &w, &e), 0);
    int accepted = 0, refused = 0;
    for (int i = 0; i < 20; i++)
        *(workers_submit(w, nap, NULL) == 0 ? &accepted : &refused) += 1;
    assert_true(accepted >= 3);
    assert_true(refused > 0);
    workers_free(w);
    assert_int_equal(atomic_load(&counter), accepted);
}

/* Whoever a process with a session of its own leaves behind ends when it is reaped. */
static void a_session_ends_with_its_first_process(void **state)
{
    (void)state;
    struct proc p = {.pidfd = -1};
    struct proc_exit x;
    struct err e = {0};
    int out[2];
    char c;
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    const char *argv[] = {"sh", "-c", "sleep 60 & exit 0", NULL};
    struct proc_spec s = {.argv = argv, .fds = {{out[1], 1}}, .n_fds = 1, .new_session = true};
    assert_int_equal(proc_spawn(&s, &p, &e), 0);
    close(out[1]);
    assert_int_equal(proc_wait(&p, 10000, &x), 0);
    assert_int_equal(x.code, 0);
    struct pollfd end = {.fd = out[0], .events = POLLIN};
    assert_int_equal(poll(&end, 1, 5000), 1);
    assert_int_equal(read(out[0], &c, 1), 0); /* nobody holds the other end */
    close(out[0]);
}

static int be_a_parent(void)
{
    const char *argv[] = {"sleep", "60", NULL};
    struct proc_spec s = {.argv = argv};
    struct proc p;
    if (proc_spawn(&s, &p, NULL) < 0 || write(1, &p.pid, sizeof p.pid) < 0)
        return 1;
    pause();
    return 0;
}

static void crc32c_has_its_check_value(void **state)
{
    (void)state;
    assert_int_equal(~crc32c_update(CRC32C_START, "123456789", 9), 0xe3069283);
    uint32_t crc = crc32c_update(CRC32C_START, "12345", 5);
    assert_int_equal(~crc32c_update(crc, "6789", 4), 0xe3069283);
}

static void fs_at_is_all_or_an_error(void **state)
{
    (void)state;
    char got[4] = "";
    int fd = memfd_create("file", MFD_CLOEXEC);
    assert_int_equal(fs_write_at(fd, "abcd", 4, 10), 0);
    assert_int_equal(fs_read_at(fd, got, 4, 10), 0);
    assert_memory_equal(got, "abcd", 4);
    assert_int_equal(fs_read_at(fd, got, 4, 11), -EBADMSG);
    assert_int_equal(fs_read_at(fd, got, 4, 14), -EBADMSG);
    close(fd);
    assert_int_equal(fs_read_at(-1, got, 4, 0), -EBADF);
    assert_int_equal(fs_write_at(-1, got, 4, 0), -EBADF);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--be-a-parent") == 0)
        return be_a_parent();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_has_its_check_value),
        cmocka_unit_test(fs_at_is_all_or_an_error),
        cmocka_unit_test(err_wraps_and_keeps_the_code),
        cmocka_unit_test(buf_respects_its_ceiling),
        cmocka_unit_test(base64_round_trips),
        cmocka_unit_test(base64_is_strict),
        cmocka_unit_test(percent_and_hex),
        cmocka_unit_test(json_has_limits),
        cmocka_unit_test(sha256_and_hmac_match_published_vectors),
        cmocka_unit_test(files_are_replaced_whole_and_trees_removed),
        cmocka_unit_test(processes_run_fail_and_time_out),
        cmocka_unit_test(a_child_gets_only_its_descriptors),
        cmocka_unit_test(children_die_with_their_parent),
        cmocka_unit_test(a_session_ends_with_its_first_process),
        cmocka_unit_test(loop_runs_posts_in_order_from_any_thread),
        cmocka_unit_test(workers_are_bounded_and_finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
