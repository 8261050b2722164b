/* SPDX-License-Identifier: Apache-2.0 */
/* COPY and ADD: from the build context (a zip) or, through unpack_tree.c, from another stage. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "guest/unpack.h"
#include "guest/user.h"

#define PAIRS_MAX_BYTES (64u << 20)

/* Pairs grouped by entry: an entry may have several targets. */
struct pair {
    const char *target; /* borrowed from the JSON list */
    struct pair *next;
    bool done;
};

struct pairs {
    json_t *list;        /* owned: array of [entry, target] */
    struct names *first; /* entry -> index of its first pair */
    struct pair *all;    /* owned */
    size_t n;
};

static char chunk[131072];

int copy_path(char out[UNPACK_MAX_PATH], const char *dir, const char *name, struct err *e)
{
    const char *slash = strcmp(dir, "/") == 0 || !name[0] ? "" : "/";
    int n = snprintf(out, UNPACK_MAX_PATH, "%s%s%s", dir, slash, name);
    if (n < 0 || n >= UNPACK_MAX_PATH)
        return err_set(e, EINVAL, "the path '%.200s...' is too long", out);
    return 0;
}

/* dir + path, "." and ".." taken out by name, as Docker does; always absolute. */
static int clean_dest(char out[UNPACK_MAX_PATH], const char *workdir, const char *path,
                      struct err *e)
{
    char whole[2 * UNPACK_MAX_PATH];
    int len = snprintf(whole, sizeof whole, "%s/%s", path[0] == '/' ? "" : workdir, path);
    if (len < 0 || len >= UNPACK_MAX_PATH)
        return err_set(e, EINVAL, "the destination '%.200s...' is too long", path);
    size_t n = 0;
    for (const char *p = whole; *p;) {
        size_t part = strcspn(p, "/");
        if (part == 2 && p[0] == '.' && p[1] == '.') {
            while (n && out[--n] != '/')
                ;
        } else if (part && !(part == 1 && p[0] == '.')) {
            out[n++] = '/';
            memcpy(out + n, p, part);
            n += part;
        }
        p += part + (p[part] == '/');
    }
    if (n == 0)
        out[n++] = '/';
    out[n] = '\0';
    return 0;
}

static char *read_small(const char *path)
{
    struct buf b = BUF_INIT(USER_FILE_MAX);
    CLEANUP(cleanup_close)
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    ssize_t n;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        while ((n = read(fd, chunk, sizeof chunk)) > 0)
            if (buf_add(&b, chunk, (size_t)n) < 0)
                break;
    return buf_take(&b);
}

/* --chown: without a group the group has the user's number. */
static int parse_chown(struct put *p, const char *spec, struct err *e)
{
    if (!spec || !spec[0])
        return 0;
    CLEANUP(cleanup_free)
    char *passwd = read_small("/etc/passwd");
    CLEANUP(cleanup_free)
    char *group = read_small("/etc/group");
    struct user_ids ids;
    int r = user_lookup(spec, passwd, group, &ids, e);
    if (r < 0)
        return err_wrap(e, "--chown=%.100s", spec);
    p->has_owner = true;
    p->uid = ids.uid;
    p->gid = strchr(spec, ':') ? ids.gid : ids.uid;
    return 0;
}

static int parse_chmod(struct put *p, const char *spec, struct err *e)
{
    p->chmod = (mode_t)-1;
    if (!spec || !spec[0])
        return 0;
    char *end;
    unsigned long v = strtoul(spec, &end, 8);
    if (*end || v > 07777 || spec[0] == '-' || spec[0] == '+' || spec[0] == ' ')
        return err_set(e, EINVAL, "--chmod=%.100s is not an octal mode", spec);
    p->chmod = (mode_t)v;
    return 0;
}

static int parse_spec(struct copy *c, const json_t *spec, const char *workdir, struct err *e)
{
    const char *dest = json_get_str(spec, "dest");
    int r = parse_chown(&c->put, json_get_str(spec, "chown"), e);
    if (r == 0)
        r = parse_chmod(&c->put, json_get_str(spec, "chmod"), e);
    if (r == 0)
        r = clean_dest(c->dest, workdir, dest ? dest : ".", e);
    size_t n = dest ? strlen(dest) : 0;
    c->dest_is_dir = json_get_bool(spec, "destIsDir", false) || (n && dest[n - 1] == '/');
    c->extract = json_get_bool(spec, "extract", false);
    return r;
}

/* WORKDIR and the like: directories that belong to root whatever --chown says. */
static int make_dirs(const json_t *dirs, const char *workdir, struct err *e)
{
    const struct put root = {.chmod = (mode_t)-1};
    for (size_t i = 0; i < json_array_size(dirs); i++) {
        char path[UNPACK_MAX_PATH];
        const char *dir = json_string_value(json_array_get(dirs, i));
        if (!dir)
            return err_set(e, EINVAL, "mkdirs[%zu] is not a string", i);
        int r = clean_dest(path, workdir, dir, e);
        if (r == 0)
            r = put_mkdir_p(&root, path, e);
        if (r < 0)
            return r;
    }
    return 0;
}

static int read_pairs(struct pairs *p, struct err *e)
{
    struct buf all = BUF_INIT(PAIRS_MAX_BYTES);
    ssize_t n;
    int r = 0;
    while (r == 0 && (n = read(STDIN_FILENO, chunk, sizeof chunk)) > 0)
        r = buf_add(&all, chunk, (size_t)n);
    if (r < 0)
        r = err_set(e, EINVAL, "the list of files is larger than %u bytes", PAIRS_MAX_BYTES);
    p->list = json_array();
    for (size_t at = 0; r == 0 && at < all.len;) {
        const char *line = all.data + at, *nl = memchr(line, '\n', all.len - at);
        size_t len = nl ? (size_t)(nl - line) : all.len - at;
        at += len + (nl != NULL);
        json_t *v = NULL;
        if (len == 0)
            continue;
        r = json_parse(line, len, 4 * UNPACK_MAX_PATH, &v, e);
        if (r == 0)
            json_array_append_new(p->list, v);
    }
    buf_done(&all);
    return r;
}

static int index_pairs(struct pairs *p, struct err *e)
{
    p->n = json_array_size(p->list);
    p->first = names_new();
    p->all = calloc(p->n + 1, sizeof *p->all);
    if (!p->all || p->n > UNPACK_MAX_ENTRIES)
        return err_set(e, EINVAL, "too many files");
    for (size_t i = 0; i < p->n; i++) {
        const json_t *v = json_array_get(p->list, i);
        const char *from = json_string_value(json_array_get(v, 0));
        p->all[i].target = json_string_value(json_array_get(v, 1));
        if (!from || !p->all[i].target)
            return err_set(e, EINVAL, "a pair must be [entry, target]");
        int r = names_add(p->first, from, (int)i);
        if (r < 0)
            return err_set(e, ENOMEM, "out of memory");
        if (r == 0) {
            struct pair *head = &p->all[names_get(p->first, from)];
            p->all[i].next = head->next;
            head->next = &p->all[i];
        }
    }
    return 0;
}

static void pairs_done(struct pairs *p)
{
    json_decref(p->list);
    names_free(p->first);
    free(p->all);
}

static int target_path(const struct copy *c, const struct zip_entry *x, const char *target,
                       char out[UNPACK_MAX_PATH], struct err *e)
{
    char clean[UNPACK_MAX_PATH];
    int r = name_clean(target, clean, e);
    if (r < 0)
        return r;
    if (clean[0])
        return copy_path(out, c->dest, clean, e);
    if (x->type == 'd' || (!c->dest_is_dir && !put_is_dir(c->dest)))
        return copy_path(out, c->dest, "", e);
    const char *slash = strrchr(x->path, '/');
    return copy_path(out, c->dest, slash ? slash + 1 : x->path, e);
}

static int write_data(struct zip *z, int fd, const char *path, struct err *e)
{
    ssize_t n;
    while ((n = zip_read(z, chunk, sizeof chunk, e)) > 0) {
        int r = fs_write_all(fd, chunk, (size_t)n);
        if (r < 0)
            return err_set_errno(e, -r, "%.300s", path);
    }
    return (int)n;
}

/* Bytes of one file to a further place: the archive gives them only once. */
static int copy_again(const struct put *p, const char *from, const char *to,
                      const struct put_meta *m, struct err *e)
{
    CLEANUP(cleanup_close)
    int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (in < 0)
        return err_set_errno(e, errno, "%.300s", from);
    int out = put_file(p, to, e);
    if (out < 0)
        return out;
    ssize_t n;
    int r = 0;
    while (r == 0 && (n = read(in, chunk, sizeof chunk)) > 0)
        r = fs_write_all(out, chunk, (size_t)n);
    if (r < 0) {
        close(out);
        return err_set_errno(e, -r, "%.300s", to);
    }
    return put_file_end(p, out, to, m, e);
}

static int put_entry_file(const struct copy *c, struct zip *z, const struct zip_entry *x,
                          const char *path, const struct put_meta *m, struct err *e)
{
    int fd = put_file(&c->put, path, e);
    if (fd < 0)
        return fd;
    int r = write_data(z, fd, x->path, e);
    if (r < 0) {
        close(fd);
        return r;
    }
    return put_file_end(&c->put, fd, path, m, e);
}

/* ADD: an archive is unpacked, anything else is copied. Returns 1 when it was one. */
static int try_extract(const struct copy *c, struct zip *z, const struct zip_entry *x,
                       const char *path, const struct put_meta *m, struct err *e)
{
    int fd = open("/", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set_errno(e, errno, "cannot make a temporary file");
    int r = write_data(z, fd, x->path, e);
    if (r == 0)
        r = tar_try(c, fd, x->path, e);
    if (r == 0 && lseek(fd, 0, SEEK_SET) == 0) {
        int out = put_file(&c->put, path, e);
        ssize_t n;
        r = out < 0 ? out : 0;
        while (r == 0 && (n = read(fd, chunk, sizeof chunk)) > 0)
            r = fs_write_all(out, chunk, (size_t)n);
        if (r == 0)
            r = put_file_end(&c->put, out, path, m, e);
        else if (out >= 0)
            close(out);
    }
    close(fd);
    return r;
}

static int put_entry(const struct copy *c, struct zip *z, const struct zip_entry *x, struct pair *p,
                     struct err *e)
{
    char first[UNPACK_MAX_PATH] = "", path[UNPACK_MAX_PATH];
    const struct put_meta m = {.mode = x->mode, .mtime = {.tv_sec = x->mtime}};
    for (; p; p = p->next) {
        int r = target_path(c, x, p->target, path, e);
        if (r < 0)
            return r;
        if (x->type == 'd')
            r = put_dir(&c->put, path, &m, e);
        else if (x->type == 'l')
            r = put_link(&c->put, path, x->target, &m, e);
        else if (first[0])
            r = copy_again(&c->put, first, path, &m, e);
        else if (c->extract)
            r = try_extract(c, z, x, path, &m, e);
        else
            r = put_entry_file(c, z, x, path, &m, e);
        if (r < 0)
            return r;
        p->done = true;
        if (r == 1)
            return 0; /* unpacked into the destination, whatever the other targets are called */
        if (x->type == 'f' && !first[0])
            memcpy(first, path, sizeof first);
    }
    return 0;
}

static int copy_context(const struct copy *c, int disk, uint64_t size, struct pairs *p,
                        struct err *e)
{
    static struct zip z;
    static struct zip_entry x;
    int r = zip_open(&z, disk, size, e);
    while (r >= 0 && (r = zip_next(&z, &x, e)) == 1) {
        int i = names_get(p->first, x.path);
        if (i >= 0)
            r = put_entry(c, &z, &x, &p->all[i], e);
    }
    zip_close(&z);
    for (size_t i = 0; r >= 0 && i < p->n; i++)
        if (!p->all[i].done)
            r = err_set(e, ENOENT, "the build context has no entry '%.200s'",
                        json_string_value(json_array_get(json_array_get(p->list, i), 0)));
    return r;
}

int copy_run(int disk, int from, const json_t *spec, struct err *e)
{
    static struct copy c;
    const char *workdir = json_get_str(spec, "workdir"), *source = json_get_str(spec, "source");
    const json_t *sources = json_object_get(spec, "sources");
    struct pairs p = {0};
    bool stage = source && strcmp(source, "stage") == 0;
    umask(0);
    int r = parse_spec(&c, spec, workdir && workdir[0] ? workdir : "/", e);
    if (r == 0)
        r = make_dirs(json_object_get(spec, "mkdirs"), workdir ? workdir : "/", e);
    if (r < 0)
        return r;
    if (stage)
        return json_array_size(sources) ? tree_run(&c, from, sources, e) : 0;
    r = read_pairs(&p, e);
    if (r == 0)
        r = index_pairs(&p, e);
    c.dest_is_dir = c.dest_is_dir || p.n > 1;
    if (r == 0 && p.n && c.dest_is_dir)
        r = put_mkdir_p(&c.put, c.dest, e);
    if (r == 0 && p.n)
        r = copy_context(&c, disk, (uint64_t)json_get_int(spec, "size", 0), &p, e);
    pairs_done(&p);
    return r;
}
