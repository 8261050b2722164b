/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest as a fuzzer's input: a script of register accesses, memory writes, chains, notifications
 * and what the host end does meanwhile, run against one virtio device. Common to all devices.
 *
 * A script is a sequence of one-byte operations (enum script_op, modulo their number) with
 * operands, little endian; what is cut off reads as zero. Memory is 2 MiB from 0, zeroed for each
 * script. "Queues" and "chain" do what a driver does, so that a few bytes get past the transport;
 * the other operations break what they have built.
 */
#ifndef FUZZ_VMM_DEVICE_SCRIPT_H
#define FUZZ_VMM_DEVICE_SCRIPT_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/virtio/virtio.h"

enum script_op {
    SCRIPT_WRITE,     /* u8 register / 4, u32 value */
    SCRIPT_READ,      /* u8 register / 4 */
    SCRIPT_ACCESS,    /* u16 offset, u8: bits 0-1 width 1 2 4 8, bit 7 write; u64 value */
    SCRIPT_MEMORY,    /* u24 address, u8 length, bytes */
    SCRIPT_NEGOTIATE, /* u8: 1 VERSION_1, 2 EVENT_IDX, 4 INDIRECT, 8 DRIVER_OK; u32 the device's
                       */
    SCRIPT_QUEUES,    /* u8 log2 of the size: all queues ready, then DRIVER_OK */
    SCRIPT_CHAIN, /* u8 queue, u8 n (up to 16), n times: u8 device writes, u16 page, u16 length */
    SCRIPT_KICK,  /* u8 queue */
    SCRIPT_RUN,   /* the loop, up to 32 callbacks */
    SCRIPT_HOST,  /* u8 length, bytes: to the target */
    SCRIPT_RENEW, /* u16 offset, u8 xor: saved, damaged behind the checksums, restored */
    SCRIPT_DESC,  /* u8 queue, u8 index, u64 address, u32 length, u16 flags, u16 next */
    SCRIPT_AVAIL, /* u8 queue, u16 index, u16 head */
    SCRIPT_OPS
};

struct device_script {
    struct gmem mem;
    struct ev_loop *loop;
    struct irq irq; /* swallows */
    /* The target's. renew: frees the device if there is one and makes another over mem, loop, irq.
     */
    struct virtio_dev *(*renew)(struct device_script *s);
    void (*host)(struct device_script *s, const uint8_t *p, size_t n); /* may be NULL */
};

/* First call: makes memory and loop (kept for all scripts) and the device; always: a fresh device,
 * zeroed memory, the script. The device is left for the next call's renew() to free. */
void device_script_run(struct device_script *s, const uint8_t *p, size_t n);

#endif
