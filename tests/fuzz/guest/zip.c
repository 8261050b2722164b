/* SPDX-License-Identifier: Apache-2.0 */
/* The archive program's view of a zip: directory, entries, data. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fs.h"
#include "guest/unpack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TOTAL_MAX (16u << 20) /* the fuzzer's patience, not the program's limit */

static int read_data(struct zip *z)
{
    static char chunk[65536];
    ssize_t n;
    while ((n = zip_read(z, chunk, sizeof chunk, NULL)) > 0)
        if (z->bytes > TOTAL_MAX)
            return -1;
    return (int)n;
}

static void check(const struct zip_entry *x)
{
    if (x->path[0] == '/' || strcmp(x->path, "..") == 0 || strncmp(x->path, "../", 3) == 0 ||
        strstr(x->path, "/../") || (x->type == 'l' && !x->target))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct zip z;
    static struct zip_entry x;
    int fd = memfd_create("zip", MFD_CLOEXEC);
    if (fd < 0 || fs_write_all(fd, data, size) < 0)
        abort();
    int r = zip_open(&z, fd, size, NULL);
    while (r >= 0 && (r = zip_next(&z, &x, NULL)) == 1) {
        check(&x);
        if (x.type == 'f')
            r = read_data(&z);
    }
    zip_close(&z);
    close(fd);
    return 0;
}
