/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "device_script.h"
#include "vmm/virtio/rng.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct virtio_dev *rng;

static struct virtio_dev *renew(struct device_script *s)
{
    virtio_free(rng);
    if (rng_new((struct virtio_place){2, &s->mem, s->irq, s->loop}, &rng, NULL) < 0)
        abort();
    return rng;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct device_script script = {.renew = renew};
    device_script_run(&script, data, size);
    return 0;
}
