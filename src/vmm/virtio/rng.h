/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-rng (virtio 1.2 §5.4): getrandom() of the host, at most 64 KiB a request. */
#ifndef VMM_VIRTIO_RNG_H
#define VMM_VIRTIO_RNG_H

#include "vmm/virtio/virtio.h"

int rng_new(struct virtio_place at, struct virtio_dev **ret, struct err *e) MUST_CHECK;

#endif
