/* SPDX-License-Identifier: Apache-2.0 */
/* tinderbox-disk: looks at disks and flattens them, in a sandbox of its own, because a guest wrote
 * what it reads. It never follows the name in a layer: every file of a stack is an argument. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk/flatten.h"
#include "disk/layer.h"

enum { EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_NO_SPACE };

static int usage(void)
{
    fputs("usage: tinderbox-disk info LAYER\n"
          "       tinderbox-disk check LAYER\n"
          "       tinderbox-disk flatten --output RAW FORMAT:FILE...\n"
          "\n"
          "info     sizes, and what the layer says is below it (not verified)\n"
          "check    reads a whole layer; fails when something in it cannot be\n"
          "flatten  makes one raw file of a stack, top first; FORMAT is layer or raw, and only\n"
          "         the last file is raw\n"
          "\n"
          "Exit status: 0, 1 failed, 2 wrong usage, 3 no space left for the output.\n",
          stderr);
    return EXIT_USAGE;
}

static int fail(const struct err *e)
{
    fprintf(stderr, "tinderbox-disk: %s\n", e->text);
    return e->code == ENOSPC || e->code == EDQUOT ? EXIT_NO_SPACE : EXIT_FAILED;
}

static int open_file(const char *path, int flags, struct err *e)
{
    int fd = open(path, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
    return fd < 0 ? err_set_errno(e, errno, "%s", path) : fd;
}

static int cmd_info(const char *path)
{
    struct err e = {0};
    unsigned char header[LAYER_BLOCK];
    struct layer_info info;
    struct stat st;
    CLEANUP(cleanup_close)
    int fd = open_file(path, O_RDONLY, &e);
    if (fd < 0)
        return fail(&e);
    ssize_t n = pread(fd, header, sizeof header, 0);
    if (n < 0 || fstat(fd, &st) < 0)
        err_set_errno(&e, errno, "%s", path);
    else if (layer_decode(header, (size_t)n, &info, &e) < 0)
        err_wrap(&e, "%s", path);
    if (e.code)
        return fail(&e);
    printf("disk size:  %llu bytes\nallocated:  %llu bytes\nbase:       %s (%s)\n",
           (unsigned long long)info.bytes, (unsigned long long)st.st_blocks * 512, info.base,
           info.base_cow ? "layer" : "raw");
    return EXIT_OK;
}

static int cmd_check(const char *path)
{
    struct err e = {0};
    struct layer_check c;
    CLEANUP(cleanup_close)
    int fd = open_file(path, O_RDONLY, &e);
    if (fd < 0)
        return fail(&e);
    if (layer_check(fd, &c, &e) < 0) {
        err_wrap(&e, "%s", path);
        return fail(&e);
    }
    printf("%s: %llu of %llu blocks, %llu left behind by writes cut short, %llu errors\n", path,
           (unsigned long long)c.present, (unsigned long long)c.blocks,
           (unsigned long long)c.leaked, (unsigned long long)c.errors);
    if (c.errors)
        printf("first error: %s\n", c.first);
    return c.errors ? EXIT_FAILED : EXIT_OK;
}

/* Descriptors that were opened before a failure live until the process ends. */
static int open_stack(char *const *arg, unsigned n, struct disk **ret, struct err *e)
{
    struct disk_layer_fd layer[DISK_LAYERS_MAX];
    if (n > DISK_LAYERS_MAX)
        return err_set(e, EINVAL, "more than %u files", DISK_LAYERS_MAX);
    for (unsigned i = 0; i < n; i++) {
        const char *colon = strchr(arg[i], ':');
        bool cow = strncmp(arg[i], "layer:", 6) == 0;
        if (!cow && strncmp(arg[i], "raw:", 4) != 0)
            return err_set(e, EINVAL, "%s: a file is named layer:FILE or raw:FILE", arg[i]);
        int fd = open_file(colon + 1, O_RDONLY, e);
        if (fd < 0)
            return fd;
        layer[i] = (struct disk_layer_fd){fd, cow};
    }
    return disk_open(ret, layer, n, true, false, e);
}

static int cmd_flatten(const char *output, char *const *arg, unsigned n)
{
    struct err e = {0};
    struct disk *d = NULL;
    struct flatten_stats stats;
    if (open_stack(arg, n, &d, &e) < 0)
        return fail(&e);
    CLEANUP(cleanup_close)
    int fd = open_file(output, O_WRONLY | O_CREAT, &e);
    if (fd >= 0 && ftruncate(fd, 0) < 0)
        err_set_errno(&e, errno, "%s", output);
    if (!e.code && disk_flatten(d, fd, &stats, &e) == 0)
        printf("%llu bytes, %llu copied, %llu shared\n", (unsigned long long)disk_bytes(d),
               (unsigned long long)stats.copied_bytes, (unsigned long long)stats.shared_bytes);
    disk_close(d);
    return e.code ? fail(&e) : EXIT_OK;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "info") == 0)
        return cmd_info(argv[2]);
    if (argc == 3 && strcmp(argv[1], "check") == 0)
        return cmd_check(argv[2]);
    if (argc >= 5 && strcmp(argv[1], "flatten") == 0 && strcmp(argv[2], "--output") == 0)
        return cmd_flatten(argv[3], argv + 4, (unsigned)argc - 4);
    return usage();
}
