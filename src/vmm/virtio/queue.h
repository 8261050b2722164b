/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueues (virtio 1.2 §2.7). Sizes and addresses are frozen at activation and checked
 * against RAM once; ring indexes and descriptors are read anew, copied once and bounded. A guest
 * that breaks the rules breaks its queue (-EPROTO): the device then asks for a reset and does
 * nothing more.
 *
 * Threads: the device's loop thread, or any thread while the device's lock is held.
 */
#ifndef VMM_VIRTIO_QUEUE_H
#define VMM_VIRTIO_QUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/macros.h"
#include "vmm/gmem.h"

#define VIRTQ_SIZE_MAX 256u
#define VIRTQ_CHAIN_MAX 128u /* descriptors of one chain, indirect ones included */

struct virtq {
    /* written through the transport before activation */
    uint16_t size; /* a power of two up to VIRTQ_SIZE_MAX */
    bool ready;
    uint64_t desc, avail, used; /* guest physical */
    /* from activation on */
    bool event_idx, indirect; /* negotiated */
    bool broken;
    uint16_t next_avail; /* next avail entry to look at, free-running */
    uint16_t next_used;  /* free-running */
    uint16_t signalled;  /* next_used when the guest was last interrupted */
    bool signalled_valid;
    /* host addresses of the rings */
    void *desc_host, *avail_host, *used_host;
};

/* A chain: the device-readable part, then the device-writable part. */
struct virtq_chain {
    uint16_t head;
    struct iovec iov[VIRTQ_CHAIN_MAX];
    unsigned n_out, n_in; /* iov[0..n_out) to read, iov[n_out..n_out+n_in) to fill */
    uint32_t out_bytes, in_bytes;
};

/* Checks size, alignment and that all three rings are RAM. -EPROTO. */
int virtq_activate(struct virtq *q, const struct gmem *m) MUST_CHECK;
/* 1 = *c filled, 0 = nothing waits, -EPROTO = broken now. */
int virtq_pop(struct virtq *q, const struct gmem *m, struct virtq_chain *c) MUST_CHECK;
/* Takes the last popped chain back: the next pop returns it again. As often as was popped. */
void virtq_unpop(struct virtq *q);
/* written: bytes the device put into the in part. */
void virtq_push(struct virtq *q, const struct virtq_chain *c, uint32_t written);
/* Several, which the guest sees all at once (§5.1.6.4.2: buffers of one received packet). */
struct virtq_used {
    uint16_t head;
    uint32_t written;
};
void virtq_push_all(struct virtq *q, const struct virtq_used *u, unsigned n);
/* Whether the guest wants an interrupt for what was pushed since the last call. */
bool virtq_should_signal(struct virtq *q);
/* Asks for notifications (or not). enable returns true when more is waiting already: look again. */
bool virtq_enable_notify(struct virtq *q);
void virtq_disable_notify(struct virtq *q);

/* Copy between a chain's iovecs and a buffer; n is limited to what there is; returns bytes copied.
 * skip: bytes of the part to pass over first. */
uint32_t virtq_read(const struct virtq_chain *c, uint32_t skip, void *p, uint32_t n);
uint32_t virtq_write(const struct virtq_chain *c, uint32_t skip, const void *p, uint32_t n);

#endif
