/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-rng (virtio 1.2 §5.4): getrandom() of the host, at most 64 KiB a request. */
#ifndef VMM_VIRTIO_RNG_H
#define VMM_VIRTIO_RNG_H

#include "vmm/virtio/virtio.h"

struct rng;

int rng_new(unsigned slot, const struct gmem *mem, struct irq irq, struct ev_loop *loop,
            struct rng **ret, struct err *e) MUST_CHECK;
void rng_free(struct rng *r); /* NULL is fine */
struct virtio_dev *rng_virtio(struct rng *r);

#endif
