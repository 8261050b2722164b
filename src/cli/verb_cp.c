/* SPDX-License-Identifier: Apache-2.0 */
/* cp: files between this machine and a running microVM, by the rules of docker cp. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/encode.h"
#include "cli/client.h"
#include "cli/resolve.h"
#include "cli/tar.h"

#define PATH_LEN_MAX 4096

struct options {
    bool archive;
};

static const struct option_row rows[] = {
    {"archive", 'a', OPTION_FLAG, offsetof(struct options, archive), 0, 0, NULL,
     "keep owners (numbers), set-id bits and device files"},
    {0},
};

/* Where something goes: into a directory that exists, under a name; name "." = as its contents. */
struct place {
    char dir[PATH_LEN_MAX], name[256];
};

enum kind { MISSING, IS_FILE, IS_DIR };

static int files_path(char *out, size_t cap, const char *id, const char *path, bool list,
                      struct err *e)
{
    CLEANUP(buf_done)
    struct buf b = BUF_INIT(cap - 1);
    if (buf_addf(&b, "/tinderbox/v1/microvms/%s/files?path=", id) < 0 ||
        percent_encode(&b, path, strlen(path), "") < 0 || (list && buf_adds(&b, "&list=true") < 0))
        return err_set(e, EINVAL, "the path '%.64s...' is too long", path);
    memcpy(out, b.data, b.len + 1);
    return 0;
}

/* What is at a path in the microVM, links followed. */
static int guest_kind(struct cli *c, const char *id, const char *path, enum kind *ret,
                      struct err *e)
{
    char target[3 * PATH_LEN_MAX];
    CLEANUP(cleanup_json)
    json_t *v = NULL;
    int r = files_path(target, sizeof target, id, path, true, e);
    if (r == 0)
        r = client_call(c, "GET", target, NULL, &v, e);
    const char *type = r == 0 ? json_get_str(v, "type") : NULL;
    *ret = r == -ENOENT ? MISSING : type && strcmp(type, "dir") == 0 ? IS_DIR : IS_FILE;
    return r == -ENOENT ? 0 : r;
}

static enum kind local_kind(const char *path)
{
    struct stat st;
    return stat(path, &st) < 0 ? MISSING : S_ISDIR(st.st_mode) ? IS_DIR : IS_FILE;
}

/* "a/b/" -> "a" and "b"; a name that is no name ("", ".", "..", "/") -> "." in the whole. */
static int split(const char *path, struct place *p, struct err *e)
{
    size_t end = strlen(path), start;
    if (end >= sizeof p->dir)
        return err_set(e, EINVAL, "the path '%.64s...' is too long", path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    for (start = end; start && path[start - 1] != '/'; start--)
        ;
    size_t n = end - start;
    if (n >= sizeof p->name)
        return err_set(e, EINVAL, "the name '%.64s...' is too long", path + start);
    if (n == 0 || (n <= 2 && strspn(path + start, ".") >= n)) {
        strcpy(p->dir, *path ? path : ".");
        strcpy(p->name, ".");
        return 0;
    }
    snprintf(p->name, sizeof p->name, "%.*s", (int)n, path + start);
    snprintf(p->dir, sizeof p->dir, "%.*s", (int)start, path);
    if (!start)
        strcpy(p->dir, ".");
    return 0;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* docker cp: a directory that exists takes the source under its own name (or, for "SRC/.", its
 * contents); otherwise the destination is the new name. */
static int choose(const char *src, bool src_is_dir, const char *dst, enum kind there,
                  struct place *p, struct err *e)
{
    struct place from;
    int r = split(src, &from, e);
    if (r < 0)
        return r;
    if (there == IS_FILE && src_is_dir)
        return err_set(e, EINVAL, "cannot copy a directory onto the file %s", dst);
    if (there != IS_DIR) {
        if (there == MISSING && !src_is_dir && ends_with(dst, "/"))
            return err_set(e, ENOENT, "the directory %s does not exist", dst);
        return split(dst, p, e);
    }
    if (strlen(dst) >= sizeof p->dir)
        return err_set(e, EINVAL, "the path '%.64s...' is too long", dst);
    strcpy(p->dir, dst);
    strcpy(p->name, src_is_dir && ends_with(src, "/.") ? "." : from.name);
    return 0;
}

static int temporary(void)
{
    const char *dir = getenv("TMPDIR");
    int fd = open(dir && *dir ? dir : "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) { /* a file system without such files */
        char name[PATH_LEN_MAX];
        snprintf(name, sizeof name, "%s/tinderbox-XXXXXX", dir && *dir ? dir : "/tmp");
        fd = mkostemp(name, O_CLOEXEC);
        if (fd >= 0)
            unlink(name);
    }
    return fd;
}

static int upload(struct cli *c, const char *src, const char *id, const char *dst, bool archive,
                  struct err *e)
{
    char target[3 * PATH_LEN_MAX];
    struct place to;
    struct stat st;
    enum kind there;
    if ((ends_with(src, "/") || ends_with(src, "/.") ? stat(src, &st) : lstat(src, &st)) < 0)
        return err_set_errno(e, errno, "%s", src);
    int r = guest_kind(c, id, dst, &there, e);
    if (r == 0)
        r = choose(src, S_ISDIR(st.st_mode), dst, there, &to, e);
    if (r < 0)
        return r;
    CLEANUP(cleanup_close)
    int fd = temporary();
    if (fd < 0)
        return err_set_errno(e, errno, "cannot make a temporary file");
    r = tar_make(fd, src, to.name, archive, e);
    if (r == 0)
        r = files_path(target, sizeof target, id, to.dir, false, e);
    return r < 0 ? r : client_put_file(c, target, fd, e);
}

static int download(struct cli *c, const char *id, const char *src, const char *dst, bool archive,
                    struct err *e)
{
    char target[3 * PATH_LEN_MAX];
    struct place to;
    bool is_dir;
    CLEANUP(cleanup_close)
    int fd = temporary();
    if (fd < 0)
        return err_set_errno(e, errno, "cannot make a temporary file");
    int r = files_path(target, sizeof target, id, src, false, e);
    if (r == 0)
        r = client_get_file(c, target, fd, e);
    if (r == 0)
        r = tar_is_dir(fd, &is_dir, e);
    if (r == 0)
        r = choose(src, is_dir, dst, local_kind(dst), &to, e);
    return r < 0 ? r : tar_unpack(fd, to.dir, to.name, archive, e);
}

/* The path in "ID:/path"; NULL for a local one. "./a:b" and "/a:b" are local. */
static const char *guest_path(const char *operand, char *id, size_t cap)
{
    size_t n = strcspn(operand, ":/");
    if (operand[n] != ':' || n == 0 || n >= cap)
        return NULL;
    snprintf(id, cap, "%.*s", (int)n, operand);
    return operand + n + 1;
}

static int copy(struct cli *c, const struct options *o, const char *src, const char *dst,
                struct err *e)
{
    char from_id[ID_TEXT_MAX], to_id[ID_TEXT_MAX], id[ID_TEXT_MAX];
    const char *from = guest_path(src, from_id, sizeof from_id);
    const char *to = guest_path(dst, to_id, sizeof to_id);
    if (!from == !to)
        return err_set(e, EINVAL, "exactly one of SRC and DST must be ID:/PATH");
    if ((from ? from : to)[0] != '/')
        return err_set(e, EINVAL, "the path in the microVM must begin with '/'");
    int r = cli_connect(c, e);
    if (r == 0)
        r = resolve_microvm(c, from ? from_id : to_id, id, e);
    if (r < 0)
        return r;
    return from ? download(c, id, from, dst, o->archive, e) : upload(c, src, id, to, o->archive, e);
}

static int run(struct cli *c, const void *options, const struct operands *args)
{
    struct err e = {0};
    return copy(c, options, args->items[0], args->items[1], &e) < 0 ? cli_fail(&e) : EXIT_OK;
}

const struct verb verb_cp = {
    .name = "cp",
    .help = "copy files to or from a microVM",
    .usage = "[-a] SRC ID:/DST | ID:/SRC DST",
    .options = rows,
    .size = sizeof(struct options),
    .min = 2,
    .max = 2,
    .run = run,
};
