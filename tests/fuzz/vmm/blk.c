/* SPDX-License-Identifier: Apache-2.0 */
/* A layer of 1 MiB over a raw file of half the size. From the host: the rest of the bytes is a
 * request's header, put where scripts keep theirs (0x40000). */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device_script.h"
#include "disk/layer.h"
#include "vmm/virtio/blk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DISK_BYTES (1u << 20)

static struct virtio_dev *blk;
static int layer = -1, base = -1;

static int again(int fd, int flags)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    fd = open(path, flags | O_CLOEXEC);
    if (fd < 0)
        abort();
    return fd;
}

static void empty_layer(void)
{
    static const unsigned char key[LAYER_KEY_LEN];
    static const struct layer_info info = {.bytes = DISK_BYTES, .base = "/base"};
    unsigned char header[LAYER_BLOCK];
    struct layer_geometry g;
    if (layer < 0) {
        layer = memfd_create("layer", MFD_CLOEXEC);
        base = memfd_create("base", MFD_CLOEXEC);
        if (ftruncate(base, DISK_BYTES / 2) < 0 || pwrite(base, "base", 4, 4096) != 4)
            abort();
    }
    if (layer_encode(&info, key, header, NULL) < 0 || layer_geometry(info.bytes, &g) < 0 ||
        ftruncate(layer, 0) < 0 || ftruncate(layer, (off_t)g.file_bytes) < 0 ||
        pwrite(layer, header, sizeof header, 0) != sizeof header)
        abort();
}

static struct virtio_dev *renew(struct device_script *s)
{
    struct blk_config c = {.serial = "fuzz"};
    virtio_free(blk);
    struct disk_layer_fd stack[2] = {{again(layer, O_RDWR), true}, {again(base, O_RDONLY), false}};
    if (disk_open(&c.disk, stack, 2, false, false, NULL) < 0 ||
        blk_new((struct virtio_place){2, &s->mem, s->irq, s->loop}, &c, &blk, NULL) < 0)
        abort();
    return blk;
}

static void host(struct device_script *s, const uint8_t *p, size_t n)
{
    memcpy(s->mem.host + 0x40000, p, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct device_script script = {.renew = renew, .host = host};
    empty_layer();
    device_script_run(&script, data, size);
    return 0;
}
