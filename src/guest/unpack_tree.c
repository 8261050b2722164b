/* SPDX-License-Identifier: Apache-2.0 */
/*
 * COPY --from: patterns in another stage's file system, mounted read-only. The stage is hostile:
 * every path in it is resolved by the kernel with RESOLVE_IN_ROOT, every step down a tree goes
 * through a descriptor and follows no link.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fs.h"
#include "guest/unpack.h"

#define DEPTH_MAX 256
#define MATCHES_MAX 100000
#define XATTRS_MAX 65536

static char chunk[131072];

struct tree {
    const struct copy *c;
    int root;       /* of the other stage */
    json_t *copies; /* object: inode -> path of its first copy */
    char **found;   /* owned: matches of all sources, in order */
    size_t n_found;
};

static int open_in_root(int root, const char *path, uint64_t flags)
{
    struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
    int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof how);
    return fd < 0 ? -errno : fd;
}

static int add_match(struct tree *t, const char *path, struct err *e)
{
    if (t->n_found == MATCHES_MAX)
        return err_set(e, EINVAL, "more than %d sources match", MATCHES_MAX);
    char **more = realloc(t->found, (t->n_found + 1) * sizeof *more);
    char *copy = strdup(path);
    if (more)
        t->found = more;
    if (!more || !copy) {
        free(copy);
        return err_set(e, ENOMEM, "out of memory");
    }
    t->found[t->n_found++] = copy;
    return 0;
}

static int expand(struct tree *t, const char *base, const char *rest, unsigned depth,
                  struct err *e);

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names in directory base that match pattern, sorted. */
static int matching_names(const struct tree *t, const char *base, const char *pattern,
                          char ***names, size_t *n, struct err *e)
{
    int fd = open_in_root(t->root, base, O_RDONLY | O_DIRECTORY);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    *names = NULL;
    *n = 0;
    if (!d)
        return 0; /* not a directory: nothing matches */
    int r = 0;
    for (struct dirent *de; r == 0 && (de = readdir(d));) {
        if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0 ||
            fnmatch(pattern, de->d_name, 0) != 0)
            continue;
        char **more = realloc(*names, (*n + 1) * sizeof *more);
        if (more)
            *names = more;
        if (!more || !(more[*n] = strdup(de->d_name)))
            r = err_set(e, ENOMEM, "out of memory");
        else
            ++*n;
    }
    closedir(d);
    if (*n)
        qsort(*names, *n, sizeof **names, by_name);
    return r;
}

static int expand_pattern(struct tree *t, const char *base, const char *pattern, const char *rest,
                          unsigned depth, struct err *e)
{
    char **names;
    size_t n;
    int r = matching_names(t, base, pattern, &names, &n, e);
    for (size_t i = 0; i < n; i++) {
        char path[UNPACK_MAX_PATH];
        if (r == 0)
            r = copy_path(path, base, names[i], e);
        if (r == 0)
            r = expand(t, path, rest, depth + 1, e);
        free(names[i]);
    }
    free(names);
    return r;
}

static int expand(struct tree *t, const char *base, const char *rest, unsigned depth, struct err *e)
{
    char part[UNPACK_MAX_NAME + 1], path[UNPACK_MAX_PATH];
    while (*rest == '/')
        rest++;
    if (!*rest) {
        int fd = open_in_root(t->root, base, O_PATH);
        if (fd < 0)
            return 0;
        close(fd);
        return add_match(t, base, e);
    }
    size_t n = strcspn(rest, "/");
    if (n > UNPACK_MAX_NAME || depth > DEPTH_MAX)
        return err_set(e, EINVAL, "the source path is too long");
    memcpy(part, rest, n);
    part[n] = '\0';
    if (strpbrk(part, "*?[\\"))
        return expand_pattern(t, base, part, rest + n, depth, e);
    int r = copy_path(path, base, part, e);
    return r < 0 ? r : expand(t, path, rest + n, depth + 1, e);
}

static void copy_xattrs(int in, int out)
{
    static char names[XATTRS_MAX], value[XATTRS_MAX];
    ssize_t n = flistxattr(in, names, sizeof names);
    for (ssize_t at = 0; at < n; at += (ssize_t)strlen(names + at) + 1) {
        const char *name = names + at;
        if (strcmp(name, "security.capability") != 0 && strncmp(name, "user.", 5) != 0)
            continue;
        ssize_t len = fgetxattr(in, name, value, sizeof value);
        if (len >= 0)
            (void)fsetxattr(out, name, value, (size_t)len, 0); /* best effort, as documented */
    }
}

static struct put_meta meta_of(const struct stat *st)
{
    return (struct put_meta){.mode = st->st_mode, .mtime = st->st_mtim}; /* owner 0:0 */
}

static int copy_file(struct tree *t, int in, const struct stat *st, const char *to, struct err *e)
{
    const struct put_meta m = meta_of(st);
    char key[48];
    snprintf(key, sizeof key, "%llu", (unsigned long long)st->st_ino);
    const char *earlier = st->st_nlink > 1 ? json_get_str(t->copies, key) : NULL;
    if (earlier)
        return put_hardlink(&t->c->put, to, earlier, e);
    int out = put_file(&t->c->put, to, e);
    if (out < 0)
        return out;
    ssize_t n;
    int r = 0;
    while (r == 0 && (n = read(in, chunk, sizeof chunk)) > 0)
        r = fs_write_all(out, chunk, (size_t)n);
    if (r == 0 && n < 0)
        r = -errno;
    if (r < 0) {
        close(out);
        return err_set_errno(e, -r, "%.300s", to);
    }
    int keep = dup(out);
    r = put_file_end(&t->c->put, out, to, &m, e);
    if (keep >= 0) {
        if (r == 0)
            copy_xattrs(in, keep); /* after chown, which clears capabilities */
        close(keep);
    }
    if (r == 0 && st->st_nlink > 1)
        json_object_set_new(t->copies, key, json_string(to));
    return r;
}

static int copy_dir(struct tree *t, int dir, const struct stat *st, const char *to, unsigned depth,
                    struct err *e);

static int copy_link(const struct tree *t, int dir, const char *name, const struct stat *st,
                     const char *to, struct err *e)
{
    char target[UNPACK_MAX_PATH];
    const struct put_meta m = meta_of(st);
    ssize_t n = readlinkat(dir, name, target, sizeof target - 1);
    if (n < 0)
        return err_set_errno(e, errno, "%.300s", to);
    target[n] = '\0';
    return put_link(&t->c->put, to, target, &m, e);
}

/* One name in a directory of the source. */
static int copy_child(struct tree *t, int dir, const char *name, const char *to, unsigned depth,
                      struct err *e)
{
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_set_errno(e, errno, "%.300s", to);
    const struct put_meta m = meta_of(&st);
    if (S_ISLNK(st.st_mode))
        return copy_link(t, dir, name, &st, to, e);
    if (S_ISSOCK(st.st_mode))
        return 0;
    if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
        return put_node(&t->c->put, to, st.st_mode & S_IFMT, st.st_rdev, &m, e);
    CLEANUP(cleanup_close)
    int fd = openat(dir, name,
                    O_RDONLY | O_NOFOLLOW | O_CLOEXEC | (S_ISDIR(st.st_mode) ? O_DIRECTORY : 0));
    if (fd < 0)
        return err_set_errno(e, errno, "%.300s", to);
    return S_ISDIR(st.st_mode) ? copy_dir(t, fd, &st, to, depth + 1, e)
                               : copy_file(t, fd, &st, to, e);
}

/* The contents of dir into to, which is made if missing. */
static int copy_dir(struct tree *t, int dir, const struct stat *st, const char *to, unsigned depth,
                    struct err *e)
{
    const struct put_meta m = meta_of(st);
    if (depth > DEPTH_MAX)
        return err_set(e, EINVAL, "the directory '%.200s...' is nested too deeply", to);
    int r = put_dir(&t->c->put, to, &m, e);
    int again = r == 0 ? openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    DIR *d = again < 0 ? NULL : fdopendir(again);
    if (r == 0 && !d)
        return err_set_errno(e, errno, "%.300s", to);
    for (struct dirent *de; r == 0 && (de = readdir(d));) {
        char path[UNPACK_MAX_PATH];
        if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
            continue;
        r = copy_path(path, to, de->d_name, e);
        if (r == 0)
            r = copy_child(t, dirfd(d), de->d_name, path, depth, e);
    }
    if (d)
        closedir(d);
    return r;
}

static int copy_match(struct tree *t, const char *from, bool into_dir, struct err *e)
{
    const struct copy *c = t->c;
    CLEANUP(cleanup_close)
    int fd = open_in_root(t->root, from, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    char to[UNPACK_MAX_PATH];
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set_errno(e, fd < 0 ? -fd : errno, "%.300s", from);
    if (S_ISDIR(st.st_mode))
        return copy_dir(t, fd, &st, c->dest, 0, e);
    if (!S_ISREG(st.st_mode))
        return err_set(e, EINVAL, "%.300s is neither a file nor a directory", from);
    int r = copy_path(to, c->dest, into_dir ? strrchr(from, '/') + 1 : "", e);
    return r < 0 ? r : copy_file(t, fd, &st, to, e);
}

static int find_all(struct tree *t, const json_t *sources, struct err *e)
{
    for (size_t i = 0; i < json_array_size(sources); i++) {
        const char *pattern = json_string_value(json_array_get(sources, i));
        if (!pattern)
            return err_set(e, EINVAL, "sources[%zu] is not a string", i);
        size_t before = t->n_found;
        int r = expand(t, "/", pattern, 0, e);
        if (r < 0)
            return r;
        if (t->n_found == before)
            return err_set(e, ENOENT, "'%.300s' does not exist in the source stage", pattern);
    }
    return 0;
}

int tree_run(const struct copy *c, int from, const json_t *sources, struct err *e)
{
    struct tree t = {.c = c, .root = from, .copies = json_object()};
    int r = find_all(&t, sources, e);
    bool into_dir = c->dest_is_dir || t.n_found > 1 || put_is_dir(c->dest);
    if (r == 0 && into_dir)
        r = put_mkdir_p(&c->put, c->dest, e);
    for (size_t i = 0; i < t.n_found; i++) {
        if (r == 0)
            r = copy_match(&t, t.found[i], into_dir, e);
        free(t.found[i]);
    }
    free(t.found);
    json_decref(t.copies);
    return r;
}
