/* SPDX-License-Identifier: Apache-2.0 */
/* Sixteen bytes of parameters, then an image of the guest's memory, repeated. Whatever is in the
 * rings: every buffer handed out is guest memory, chains are within their bounds, and a queue is
 * exhausted or broken after as many chains as it has entries. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/virtio/queue.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MEMORY (2u << 20)
#define IMAGE 0x8000u

struct parameters {
    uint16_t desc, avail, used; /* / 2 */
    uint8_t log_size, flags;
    uint16_t next_avail, next_used, signalled, pattern;
};

static struct gmem mem;

static void check(const struct virtq_chain *c)
{
    uint64_t out = 0, in = 0;
    assert(c->n_out + c->n_in >= 1 && c->n_out + c->n_in <= VIRTQ_CHAIN_MAX);
    for (unsigned i = 0; i < c->n_out + c->n_in; i++) {
        const uint8_t *p = c->iov[i].iov_base;
        assert(p >= mem.host && c->iov[i].iov_len > 0 &&
               c->iov[i].iov_len <= MEMORY - (size_t)(p - mem.host));
        *(i < c->n_out ? &out : &in) += c->iov[i].iov_len;
    }
    assert(out == c->out_bytes && in == c->in_bytes);
}

static void drain(struct virtq *q, uint16_t pattern)
{
    static struct virtq_chain c;
    uint8_t buf[512];
    unsigned left = q->size;
    int r;
    while (left && (r = virtq_pop(q, &mem, &c)) == 1) {
        check(&c);
        if (pattern & 1) {
            uint16_t head = c.head;
            virtq_unpop(q);
            r = virtq_pop(q, &mem, &c);
            assert(r == 1 && c.head == head);
        }
        uint32_t n = virtq_read(&c, pattern & 0xff, buf, sizeof buf);
        n = virtq_write(&c, pattern >> 8, buf, n);
        if (!(pattern & 4))
            virtq_push(q, &c, n);
        (void)virtq_should_signal(q);
        virtq_disable_notify(q);
        left--;
    }
    (void)virtq_enable_notify(q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct parameters p;
    if (size <= sizeof p || (!mem.host && gmem_reserve(&mem, MEMORY, NULL) < 0))
        return 0;
    if (gmem_map_zero(&mem, false, NULL) < 0)
        abort();
    memcpy(&p, data, sizeof p);
    data += sizeof p;
    size -= sizeof p;
    for (size_t at = 0; at < IMAGE; at += size)
        memcpy(mem.host + at, data, size < IMAGE - at ? size : IMAGE - at);
    struct virtq q = {.size = (uint16_t)(1u << p.log_size % 10),
                      .ready = true,
                      .desc = 2u * p.desc,
                      .avail = 2u * p.avail,
                      .used = 2u * p.used,
                      .event_idx = p.flags & 1,
                      .indirect = p.flags & 2,
                      .next_avail = p.next_avail,
                      .next_used = p.flags & 8 ? p.next_used : p.next_avail,
                      .signalled = p.signalled,
                      .signalled_valid = p.flags & 4};
    if (virtq_activate(&q, &mem) < 0) {
        assert(virtq_pop(&q, &mem, &(struct virtq_chain){0}) == 0);
        return 0;
    }
    drain(&q, p.pattern);
    return 0;
}
