/* SPDX-License-Identifier: Apache-2.0 */
/* Ids and ports people type, log lines, where the daemon is, the artifact of a build. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <archive.h>
#include <archive_entry.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fs.h"
#include "cli/artifact.h"
#include "cli/resolve.h"
#include "cli/token.h"
#include "cli/wait.h"

#define VM(id) "{\"microvmId\":\"microvm-" id "\"}"

static void prefixes(void **state)
{
    (void)state;
    static const char text[] = "[" VM("aa11") "," VM("aa22") "," VM("bb") "," VM("bb33") "]";
    static const struct {
        const char *typed;
        int rc;
        size_t at;
    } rows[] = {
        {"aa1", 0, 0},      {"microvm-aa2", 0, 1}, {"bb", 0, 2},          {"bb3", 0, 3},
        {"aa", -EINVAL, 0}, {"cc", -ENOENT, 0},    {"aa111", -ENOENT, 0}, {"microvm-", -EINVAL, 0},
    };
    json_t *vms = NULL;
    struct err e;
    assert_int_equal(json_parse(text, strlen(text), 4096, &vms, &e), 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t at = 99;
        assert_int_equal(resolve_prefix(vms, rows[i].typed, &at, &e), rows[i].rc);
        if (rows[i].rc == 0)
            assert_int_equal(at, rows[i].at);
    }
    json_decref(vms);
    assert_string_equal(arn_name("arn:aws:lambda:r:a:microvm-image:web"), "web");
}

static void ports(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int rc;
        long first, last;
    } rows[] = {
        {"80", 0, 80, 80},      {"1-65535", 0, 1, 65535}, {"80-80", 0, 80, 80},
        {"0", -EINVAL, 0, 0},   {"65536", -EINVAL, 0, 0}, {"90-80", -EINVAL, 0, 0},
        {"80-", -EINVAL, 0, 0}, {"-80", -EINVAL, 0, 0},   {"80x", -EINVAL, 0, 0},
        {"", -EINVAL, 0, 0},    {"+80", -EINVAL, 0, 0},   {"80-90-91", -EINVAL, 0, 0},
        {" 80", -EINVAL, 0, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        long first = 0, last = 0;
        struct err e;
        assert_int_equal(token_parse_ports(rows[i].text, &first, &last, &e), rows[i].rc);
        if (rows[i].rc == 0) {
            assert_int_equal(first, rows[i].first);
            assert_int_equal(last, rows[i].last);
        }
    }
}

static void log_lines(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        bool ok;
        char stream;
        const char *text;
    } rows[] = {
        {"2026-11-24T03:37:23.836Z o hello world", true, 'o', "hello world"},
        {"2026-11-24T03:37:23.836Z e ", true, 'e', ""},
        {"2026-11-24T03:37:23.836Z e", true, 'e', ""},
        {"2026-11-24T03:37:23.836Z o  two", true, 'o', " two"},
        {"2026-11-24T03:37:23.836Z x hello", false, 0, NULL},
        {"hello world", false, 0, NULL},
        {"", false, 0, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct slice at, text;
        char stream = 0;
        assert_int_equal(log_split(slice_from(rows[i].line), &at, &stream, &text), rows[i].ok);
        if (!rows[i].ok)
            continue;
        assert_int_equal(stream, rows[i].stream);
        assert_true(slice_eq(text, rows[i].text));
        assert_int_equal(at.n, 24);
    }
}

/* ---- below: with a directory ------------------------------------------------------------------
 */

static int make_dir(void **state)
{
    char *dir = strdup("/tmp/tinderbox-cli-XXXXXX");
    *state = dir;
    return dir && mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    struct err e;
    int rc = fs_remove_tree(*state, &e);
    free(*state);
    return rc;
}

static void put(const char *dir, const char *name, const char *text)
{
    char path[700];
    struct err e;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(fs_write_file(path, text, strlen(text), 0644, &e), 0);
}

static void announce(const char *home, int pid)
{
    char text[600];
    snprintf(text, sizeof text,
             "{\"pid\":%d,\"api\":\"http://127.0.0.1:1\",\"s3\":\"http://127.0.0.1:2\","
             "\"endpoint\":{\"port\":8443,\"domain\":\"vm.test\"},\"region\":\"eu-west-1\","
             "\"account\":\"123456789012\",\"ca\":\"/ca.pem\",\"version\":\"9\"}",
             pid);
    put(home, "run/daemon.json", text);
}

static void daemon_file(void **state)
{
    struct cli c = {0};
    struct err e;
    char path[700];
    snprintf(c.home, sizeof c.home, "%s", (char *)*state);
    assert_false(cli_daemon_alive(&c)); /* no file */
    snprintf(path, sizeof path, "%s/run", c.home);
    assert_int_equal(mkdir(path, 0700), 0);
    announce(c.home, (int)getpid());
    assert_true(cli_daemon_alive(&c));
    assert_int_equal(c.pid, getpid());
    assert_string_equal(c.region, "eu-west-1");
    assert_string_equal(c.account, "123456789012");
    assert_string_equal(c.domain, "vm.test");
    assert_int_equal(c.endpoint_port, 8443);
    assert_string_equal(c.endpoint_address, "127.0.0.1");

    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    announce(c.home, pid);
    siginfo_t info;
    waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT);
    assert_false(cli_daemon_alive(&c)); /* a zombie */
    waitpid(pid, NULL, 0);
    assert_false(cli_daemon_alive(&c)); /* gone */
    /* a file older than the process that has its number now */
    announce(c.home, (int)getpid());
    snprintf(path, sizeof path, "%s/run/daemon.json", c.home);
    const struct timespec old[2] = {{1000000000, 0}, {1000000000, 0}};
    assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
    assert_false(cli_daemon_alive(&c));
    put(c.home, "run/daemon.json", "{\"pid\":");
    assert_false(cli_daemon_alive(&c));
    assert_int_equal(cli_connect(&c, &e), -ENOTCONN);
    assert_non_null(strstr(e.text, "tinderbox up"));
}

static void homes(void **state)
{
    (void)state;
    static const struct {
        const char *option, *tinderbox, *xdg, *user, *want;
    } rows[] = {
        {"/a", "/b", "/c", "/d", "/a"},
        {NULL, "/b", "/c", "/d", "/b"},
        {NULL, NULL, "/c", "/d", "/c/tinderbox"},
        {NULL, "", "", "/d", "/d/.local/share/tinderbox"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct cli c = {.home_option = rows[i].option};
        struct err e;
        rows[i].tinderbox ? setenv("TINDERBOX_HOME", rows[i].tinderbox, 1)
                          : unsetenv("TINDERBOX_HOME");
        rows[i].xdg ? setenv("XDG_DATA_HOME", rows[i].xdg, 1) : unsetenv("XDG_DATA_HOME");
        setenv("HOME", rows[i].user, 1);
        assert_int_equal(cli_find_home(&c, &e), 0);
        assert_string_equal(c.home, rows[i].want);
    }
    struct cli c = {.home_option = "rel"};
    struct err e;
    assert_int_equal(cli_find_home(&c, &e), 0);
    assert_int_equal(c.home[0], '/');
}

/* Names and kinds in the archive: "d dir/ f dir/file l link>target ...". */
static void list_archive(int fd, struct buf *out)
{
    struct archive *a = archive_read_new();
    struct archive_entry *entry;
    archive_read_support_format_zip(a);
    lseek(fd, 0, SEEK_SET);
    assert_int_equal(archive_read_open_fd(a, fd, 65536), ARCHIVE_OK);
    while (archive_read_next_header(a, &entry) == ARCHIVE_OK) {
        char data[64] = "";
        mode_t type = archive_entry_filetype(entry);
        char kind = type == AE_IFDIR ? 'd' : type == AE_IFLNK ? 'l' : 'f';
        if (kind == 'f')
            archive_read_data(a, data, sizeof data - 1);
        else if (kind == 'l')
            snprintf(data, sizeof data, "%s", archive_entry_symlink(entry));
        assert_int_equal(buf_addf(out, "%c %s=%s %o\n", kind, archive_entry_pathname(entry), data,
                                  archive_entry_perm(entry)),
                         0);
    }
    archive_read_free(a);
}

static void artifact(void **state)
{
    const char *dir = *state;
    struct err e;
    char path[700], first[65], second[65];
    uint64_t files = 0;
    int fd = -1;
    setlocale(LC_CTYPE, "C.UTF-8");
    put(dir, "x.txt", "x");
    assert_int_equal(artifact_pack(dir, &fd, &files, &e), -ENOENT);
    assert_non_null(strstr(e.text, "no Dockerfile"));
    put(dir, "Dockerfile", "FROM x\n");
    put(dir, "Z", "");
    put(dir, "\u00e4", "umlaut");
    static const char *const dirs[] = {"sub", ".git", "sub/.git", "empty"};
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        snprintf(path, sizeof path, "%s/%s", dir, dirs[i]);
        assert_int_equal(mkdir(path, 0755), 0);
    }
    put(dir, "sub/run.sh", "#!");
    put(dir, ".git/HEAD", "secret");
    snprintf(path, sizeof path, "%s/sub/run.sh", dir);
    assert_int_equal(chmod(path, 0755), 0);
    snprintf(path, sizeof path, "%s/link", dir);
    assert_int_equal(symlink("/etc/passwd", path), 0); /* stays a link */

    assert_int_equal(artifact_pack(dir, &fd, &files, &e), 0);
    struct buf names = BUF_INIT(0);
    list_archive(fd, &names);
    assert_string_equal(names.data, "f Dockerfile=FROM x\n 644\nf Z= 644\nd empty/= 755\n"
                                    "l link=/etc/passwd 777\nd sub/= 755\nd sub/.git/= 755\n"
                                    "f sub/run.sh=#! 755\nf x.txt=x 644\nf \u00e4=umlaut 644\n");
    assert_int_equal(files, 9);
    buf_done(&names);
    assert_int_equal(sha256_hex_fd(fd, first, &e), 0);
    close(fd);
    assert_int_equal(artifact_pack(dir, &fd, &files, &e), 0);
    assert_int_equal(sha256_hex_fd(fd, second, &e), 0);
    close(fd);
    assert_string_equal(first, second);

    snprintf(path, sizeof path, "%s/pipe", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(artifact_pack(dir, &fd, &files, &e), -EINVAL);
    assert_non_null(strstr(e.text, "pipe"));
}

#define WITH_DIR(fn) cmocka_unit_test_setup_teardown(fn, make_dir, remove_dir)

int main(void)
{
    umask(022);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prefixes), cmocka_unit_test(ports), cmocka_unit_test(log_lines),
        WITH_DIR(daemon_file),      cmocka_unit_test(homes), WITH_DIR(artifact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
