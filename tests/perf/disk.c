/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a disk costs: microseconds of processor time for each request, and the ratio to plain
 * pread()/pwrite() on a raw file, in the same run. Everything stays in the page cache (the disks
 * are smaller than memory, nothing is flushed), so it is the cost of our code and the file
 * system's, not the medium's, and other load on the machine matters little. qcow2 is measured with
 * "qemu-img bench" at depth 1 where there is one, less its start; it has no random order, so a long
 * step stands in for it.
 *
 *   perf_disk [DIRECTORY]     default /var/tmp
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/fs.h"
#include "disk/disk.h"
#include "disk/layer.h"

#define DISK_BYTES (UINT64_C(512) << 20)
#define CHAIN 6 /* files in the long stack */

struct workload {
    const char *name;
    uint32_t bytes, count;
    bool write, random;
};

static const struct workload workloads[] = {
    {"sequential read, 128 KiB", 131072, 4096, false, false},
    {"random read, 4 KiB", 4096, 100000, false, true},
    {"sequential write, 128 KiB", 131072, 4096, true, false},
    {"random write, 4 KiB", 4096, 100000, true, true},
    {"random write, 512 bytes", 512, 100000, true, true},
};

static char dir[200];
static unsigned char buffer[131072];

static void die(const char *what, int code)
{
    fprintf(stderr, "perf_disk: %s: %s\n", what, strerror(code));
    exit(1);
}

static const char *path_of(unsigned n)
{
    static char path[LAYER_NAME_MAX + 1];
    snprintf(path, sizeof path, "%s/file%u", dir, n);
    return path;
}

static int open_path(unsigned n, int flags)
{
    int fd = open(path_of(n), flags | O_CLOEXEC, 0600);
    if (fd < 0)
        die(path_of(n), errno);
    return fd;
}

/* The same numbers for every disk. */
static uint64_t offset_of(const struct workload *w, uint32_t i, uint64_t *seed)
{
    if (!w->random)
        return (uint64_t)i * w->bytes % DISK_BYTES;
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (*seed >> 20) % (DISK_BYTES / w->bytes) * w->bytes;
}

static double seconds(int who)
{
    struct rusage u;
    getrusage(who, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* On the raw file, or on a new sparse one of the same size. */
static double run_plain(const struct workload *w, bool sparse)
{
    uint64_t seed = 1;
    int fd = open_path(sparse ? CHAIN : 0, O_RDWR | (sparse ? O_CREAT | O_TRUNC : 0));
    if (sparse && ftruncate(fd, (off_t)DISK_BYTES) < 0)
        die("sparse file", errno);
    double begin = seconds(RUSAGE_SELF);
    for (uint32_t i = 0; i < w->count; i++) {
        off_t at = (off_t)offset_of(w, i, &seed);
        ssize_t n = w->write ? pwrite(fd, buffer, w->bytes, at) : pread(fd, buffer, w->bytes, at);
        if (n != (ssize_t)w->bytes)
            die("plain", errno);
    }
    double us = (seconds(RUSAGE_SELF) - begin) * 1e6 / w->count;
    close(fd);
    return us;
}

static double run_disk(const struct workload *w, unsigned files)
{
    struct disk_layer_fd layer[CHAIN];
    struct disk *d;
    uint64_t seed = 1;
    for (unsigned i = 0; i < files; i++)
        layer[i] =
            (struct disk_layer_fd){open_path(files - 1 - i, i ? O_RDONLY : O_RDWR), i + 1 < files};
    if (disk_open(&d, layer, files, false, false, NULL) < 0)
        die("open disk", EINVAL);
    double begin = seconds(RUSAGE_SELF);
    for (uint32_t i = 0; i < w->count; i++) {
        struct iovec v = {buffer, w->bytes};
        uint64_t at = offset_of(w, i, &seed);
        int r = w->write ? disk_writev(d, &v, 1, at) : disk_readv(d, &v, 1, at);
        if (r < 0)
            die("disk", -r);
    }
    double us = (seconds(RUSAGE_SELF) - begin) * 1e6 / w->count;
    disk_close(d);
    return us;
}

static void new_layer(unsigned n)
{
    static const unsigned char key[LAYER_KEY_LEN];
    struct layer_info info = {.bytes = DISK_BYTES, .base_cow = n > 1};
    memcpy(info.base, path_of(n - 1), strlen(path_of(n - 1)) + 1);
    unlink(path_of(n));
    if (layer_create(path_of(n), &info, key, NULL) < 0)
        die("layer", EIO);
}

/* Layers below the top that have every fourth MiB, each another one. */
static void new_chain(void)
{
    for (unsigned n = 1; n < CHAIN; n++) {
        struct disk_layer_fd layer[CHAIN];
        struct disk *d;
        new_layer(n);
        for (unsigned i = 0; i <= n; i++)
            layer[i] = (struct disk_layer_fd){open_path(n - i, i ? O_RDONLY : O_RDWR), i < n};
        if (disk_open(&d, layer, n + 1, false, false, NULL) < 0)
            die("open disk", EINVAL);
        struct iovec v = {buffer, sizeof buffer};
        for (uint64_t at = n << 20; n + 1 < CHAIN && at < DISK_BYTES; at += UINT64_C(4) << 20)
            if (disk_writev(d, &v, 1, at) < 0)
                die("disk", EIO);
        disk_close(d);
    }
}

/* In seconds; negative: no qemu-img here. */
static double bench_qcow2(const struct workload *w, uint32_t count)
{
    char command[1024];
    double begin = seconds(RUSAGE_CHILDREN);
    snprintf(command, sizeof command,
             "cd %s && rm -f q && qemu-img create -q -f qcow2 -b file0 -F raw q >/dev/null 2>&1 && "
             "qemu-img bench -f qcow2 -t writeback -d 1 -c %u -s %u -S %u %s q >/dev/null 2>&1",
             dir, count, w->bytes, w->random ? 5 * 1048576 + 4096 : w->bytes, w->write ? "-w" : "");
    return system(command) == 0 ? seconds(RUSAGE_CHILDREN) - begin : -1;
}

static double run_qcow2(const struct workload *w)
{
    if (w->bytes < 4096)
        return -1; /* it would bounce through its own 4 KiB */
    double start = bench_qcow2(w, 1), all = bench_qcow2(w, w->count);
    return start < 0 || all < 0 ? -1 : (all - start) * 1e6 / w->count;
}

static void cell(double us, double plain)
{
    if (us < 0)
        printf(" %14s", "-");
    else
        printf(" %7.1f (%4.2f)", us, us / plain);
}

static void row(const struct workload *w)
{
    printf("%-26s", w->name);
    run_plain(w, false); /* warm */
    double plain = run_plain(w, false);
    printf(" %7.1f", plain);
    cell(run_plain(w, true), plain);
    cell(run_disk(w, 1), plain);
    new_layer(1);
    cell(run_disk(w, 2), plain);
    cell(run_disk(w, 2), plain); /* for writes: nothing is new any more */
    new_chain();
    cell(run_disk(w, CHAIN), plain);
    cell(run_qcow2(w), plain);
    putchar('\n');
    fflush(stdout);
}

static void create_and_open(void)
{
    enum { TIMES = 200 };
    double create = 0, reopen = 0;
    for (int i = 0; i < TIMES; i++) {
        double begin = seconds(RUSAGE_SELF);
        new_layer(1);
        create += seconds(RUSAGE_SELF) - begin;
        struct disk_layer_fd layer[2] = {{open_path(1, O_RDWR), true},
                                         {open_path(0, O_RDONLY), false}};
        struct disk *d;
        begin = seconds(RUSAGE_SELF);
        if (disk_open(&d, layer, 2, false, false, NULL) < 0)
            die("open disk", EINVAL);
        disk_close(d);
        reopen += seconds(RUSAGE_SELF) - begin;
    }
    printf("create a layer %.0f us, open and close a disk of two files %.0f us\n",
           create * 1e6 / TIMES, reopen * 1e6 / TIMES);
}

int main(int argc, char **argv)
{
    snprintf(dir, sizeof dir, "%s/perf-disk-XXXXXX", argc > 1 ? argv[1] : "/var/tmp");
    if (!mkdtemp(dir))
        die(dir, errno);
    for (size_t i = 0; i < sizeof buffer; i++)
        buffer[i] = (unsigned char)(i * 31 + i / 4096);
    int fd = open_path(0, O_RDWR | O_CREAT);
    for (uint64_t at = 0; at < DISK_BYTES; at += sizeof buffer)
        if (pwrite(fd, buffer, sizeof buffer, (off_t)at) != (ssize_t)sizeof buffer)
            die("raw file", errno);
    close(fd);
    static const char *const titles[] = {
        "plain, sparse", "raw", "fresh layer", "same again", "6 files, fresh", "qcow2, fresh"};
    printf("us of processor time per request (ratio to plain)\n%-26s %7s", "", "plain");
    for (size_t i = 0; i < ARRAY_LEN(titles); i++)
        printf(" %14s", titles[i]);
    putchar('\n');
    for (size_t i = 0; i < sizeof workloads / sizeof workloads[0]; i++)
        row(&workloads[i]);
    create_and_open();
    return fs_remove_tree(dir, NULL) < 0;
}
