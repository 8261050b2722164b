/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "device_script.h"
#include "vmm/virtio/balloon.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct virtio_dev *balloon;

static struct virtio_dev *renew(struct device_script *s)
{
    virtio_free(balloon);
    if (balloon_new((struct virtio_place){1, &s->mem, s->irq, s->loop}, &balloon, NULL) < 0)
        abort();
    return balloon;
}

/* A number: the target; empty: the counters. */
static void host(struct device_script *s UNUSED, const uint8_t *p, size_t n)
{
    struct balloon_stats stats;
    uint64_t target = 0;
    for (size_t i = 0; i < n && i < sizeof target; i++)
        target |= (uint64_t)p[i] << 8 * i;
    if (n)
        balloon_set_target(balloon, target);
    else
        balloon_stats(balloon, &stats);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct device_script script = {.renew = renew, .host = host};
    device_script_run(&script, data, size);
    return 0;
}
