/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 *   guest  tx queue --> tx_serve --> port.send ... flush --> descriptor
 *   guest  rx queue <-- rx_serve <-- port.next           <-- descriptor
 *
 * Both directions are loops over one frame at a time that end for a named reason (enum step), and
 * each reason names the event that starts them again. Whoever is woken runs the whole loop again:
 * there is no state in between but a frame at hand in the port, and what of its price was paid.
 *
 * Back-pressure: a guest without buffers stops the reading; a full descriptor leaves chains in the
 * tx queue. Nothing is stored but what fits the port's two buffers. At most BUDGET frames go in a
 * turn, then the queue notifies itself: the thread's other devices and ev_park() are not kept
 * waiting, whatever the guest does.
 *
 * The other end may vanish (end of file, an error, a length no frame has): the link goes down, the
 * device stays and swallows what the guest sends, as a network card without a cable does. A frame
 * the guest should not have sent (too short, too long, offloads not negotiated) is dropped and
 * counted.
 *
 * Persistence: a restored machine has another descriptor, so frames in the port's buffers are lost,
 * as on any network; the guest's queues are not touched by that. MAC and link state are saved
 * because the driver has read them. The gate is closed after a restore.
 */
#include "vmm/virtio/net.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "vmm/virtio/net_port.h"
#include "vmm/virtio/throttle.h"

enum { RX = 0, TX = 1 }; /* queues */

#define BUDGET 64u /* of frames of up to 64 KiB: half a millisecond of copying */
#define STATE_VERSION 1u
#define BIT(feature) (UINT64_C(1) << (feature))

enum step {
    NEXT,    /* go on: a frame went, or was dropped */
    EMPTY,   /* tx: no chain; rx: no frame. Wakes: notification; descriptor readable */
    STARVED, /* rx: no buffers. Wakes: notification */
    FULL,    /* tx: the descriptor takes no more. Wakes: descriptor writable */
    LIMITED, /* wakes: the direction's timer */
    BROKEN   /* the queue: only a reset helps */
};

struct net_dev {
    struct virtio_dev virtio;
    struct ev_source source; /* the descriptor */
    bool registered;         /* source, for "events" */
    uint32_t events;
    bool want_in, want_out;
    bool gate_open, link_up;
    bool offload_pending; /* to be told to the port, on the loop thread */
    bool link_news;       /* to be told to the guest */
    uint8_t mac[6];
    struct throttle limit[2];               /* by queue */
    struct virtq_chain first, rest;         /* popped: of a frame in several buffers, the others */
    struct virtq_used used[VIRTQ_SIZE_MAX]; /* of the frame being delivered */
    _Atomic uint64_t rx_bytes, tx_bytes, dropped;
    struct net_port port;
};

struct config_space { /* struct virtio_net_config, as far as features make it exist */
    uint8_t mac[6];
    struct le16 status;
};

struct saved { /* section STATE_NET */
    uint8_t mac[6];
    uint8_t link_up, zero;
};

static struct net_dev *of(struct virtio_dev *d)
{
    return CONTAINER_OF(d, struct net_dev, virtio);
}

/* ---- descriptor ---- */

static void unwatch(struct net_dev *n)
{
    if (n->registered)
        ev_remove(n->virtio.at.loop, &n->source);
    n->registered = false;
    n->events = 0;
}

static void link_down(struct net_dev *n)
{
    unwatch(n);
    close(n->port.fd);
    n->port.fd = n->source.fd = -1;
    n->want_in = n->want_out = false;
    n->link_up = false;
    virtio_config_changed(&n->virtio);
}

/* Watches for what is wanted now. A descriptor that hung up reports that for ever, wanted or not,
 * so it is taken out until something is wanted of it again. */
static void watch(struct net_dev *n, bool hung_up)
{
    if (!n->link_up)
        return;
    uint32_t events = 0;
    if (n->gate_open)
        events = (n->want_in ? (uint32_t)EPOLLIN : 0) | (n->want_out ? (uint32_t)EPOLLOUT : 0);
    if (events != n->events && n->registered) {
        ev_modify(n->virtio.at.loop, &n->source, events);
    } else if (events != n->events && ev_add(n->virtio.at.loop, &n->source, events) < 0) {
        link_down(n);
        return;
    }
    n->registered |= events != 0;
    n->events = events;
    if (hung_up && !events)
        unwatch(n);
}

/* ---- receive ---- */

static bool is_serving(const struct net_dev *n)
{
    return n->virtio.active && n->gate_open;
}

static void count_drop(struct net_dev *n)
{
    atomic_fetch_add_explicit(&n->dropped, 1, memory_order_relaxed);
}

/* Whether a segmentation type may pass, given the features that stand for TCP over IPv4 and 6. */
static bool may_segment(const struct net_dev *n, uint8_t type, unsigned tso4, unsigned tso6)
{
    return type == VIRTIO_NET_HDR_GSO_NONE ||
           (type == VIRTIO_NET_HDR_GSO_TCPV4 && virtio_has(&n->virtio, tso4)) ||
           (type == VIRTIO_NET_HDR_GSO_TCPV6 && virtio_has(&n->virtio, tso6));
}

/* What the driver did not negotiate it must not see (virtio 1.2 §5.1.6.4.1). A frame that cannot do
 * without was queued in the TAP device before the driver's features were known: false. */
static bool rx_header(const struct net_dev *n, struct net_hdr *h)
{
    if (!virtio_has(&n->virtio, VIRTIO_NET_F_GUEST_CSUM)) {
        if (h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
            return false;
        h->flags = 0;
    }
    return may_segment(n, h->gso_type, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6);
}

/* Notifications are asked for while all there is is popped, so that one comes only for more. */
static int rx_pop(struct net_dev *n, struct virtq_chain *c)
{
    struct virtq *q = &n->virtio.queue[RX];
    int r = virtq_pop(q, n->virtio.at.mem, c);
    if (r == 0 && virtq_enable_notify(q))
        r = virtq_pop(q, n->virtio.at.mem, c);
    return r;
}

/* The frame into as many buffers as it takes: how many, 0 when there are not enough, -EMSGSIZE when
 * there never will be, -EPROTO. n->used says what was popped. */
static int rx_fill(struct net_dev *n, const struct net_frame_in *f, unsigned *popped)
{
    bool mergeable = virtio_has(&n->virtio, VIRTIO_NET_F_MRG_RXBUF);
    unsigned max = mergeable ? n->virtio.queue[RX].size : 1;
    uint32_t done = 0;
    while (done < f->n) {
        if (*popped == max)
            return -EMSGSIZE;
        struct virtq_chain *c = *popped ? &n->rest : &n->first;
        uint32_t skip = *popped ? 0 : NET_HDR_BYTES;
        int r = rx_pop(n, c);
        if (r <= 0)
            return r;
        uint32_t wrote = virtq_write(c, skip, f->p + done, f->n - done);
        n->used[(*popped)++] = (struct virtq_used){c->head, skip + wrote};
        if (c->in_bytes < skip)
            return -EPROTO; /* no room for the header: §5.1.6.3.1 */
        done += wrote;
    }
    return (int)*popped;
}

static enum step rx_deliver(struct net_dev *n, struct net_frame_in *f)
{
    struct virtq *q = &n->virtio.queue[RX];
    unsigned popped = 0;
    int r = rx_fill(n, f, &popped);
    if (r > 0) {
        le16_put(&f->hdr.num_buffers, (uint16_t)r);
        (void)virtq_write(&n->first, 0, &f->hdr, NET_HDR_BYTES); /* there is room: rx_fill() */
        virtq_push_all(q, n->used, popped);
        atomic_fetch_add_explicit(&n->rx_bytes, f->n, memory_order_relaxed);
        return NEXT;
    }
    while (popped--)
        virtq_unpop(q);
    if (r == -EMSGSIZE)
        count_drop(n);
    return r == 0 ? STARVED : r == -EMSGSIZE ? NEXT : BROKEN;
}

static enum step rx_one(struct net_dev *n)
{
    struct net_frame_in f;
    int r = n->link_up ? n->port.ops->next(&n->port, &f) : 0;
    if (r < 0)
        link_down(n);
    n->want_in = n->link_up && r == 0;
    if (r <= 0)
        return EMPTY;
    enum step s = NEXT;
    if (!rx_header(n, &f.hdr))
        count_drop(n);
    else
        s = throttle_pay(&n->limit[RX], f.n) ? rx_deliver(n, &f) : LIMITED;
    if (s == NEXT) {
        n->port.ops->done(&n->port);
        throttle_next(&n->limit[RX]);
    }
    return s;
}

static enum step serve(struct net_dev *n, unsigned queue, enum step (*one)(struct net_dev *))
{
    struct virtio_dev *d = &n->virtio;
    enum step s = NEXT;
    virtq_disable_notify(&d->queue[queue]);
    for (unsigned budget = BUDGET; s == NEXT && budget; budget--)
        s = one(n);
    virtio_signal(d, queue);
    if (s == NEXT)
        virtio_kick(d, queue);
    if (s == BROKEN)
        virtio_needs_reset(d);
    return s;
}

static void rx_serve(struct net_dev *n)
{
    n->want_in = false;
    if (!is_serving(n))
        return;
    if (n->offload_pending && n->port.ops->offload)
        n->port.ops->offload(&n->port, n->virtio.regs.driver_features);
    n->offload_pending = false;
    (void)serve(n, RX, rx_one); /* rx_one() has noted what it waits for */
}

/* ---- transmit ---- */

/* The kernel parses packets by what the header says: it gets no more than was negotiated. */
static bool tx_header(const struct net_dev *n, struct net_hdr *h)
{
    uint8_t csum = virtio_has(&n->virtio, VIRTIO_NET_F_CSUM) ? VIRTIO_NET_HDR_F_NEEDS_CSUM : 0;
    le16_put(&h->num_buffers, 0);
    return !(h->flags & ~csum) && (h->flags || h->gso_type == VIRTIO_NET_HDR_GSO_NONE) &&
           may_segment(n, h->gso_type, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6);
}

static bool tx_acceptable(const struct net_dev *n, const struct virtq_chain *c, struct net_hdr *h)
{
    return c->out_bytes >= NET_HDR_BYTES + NET_ETH_BYTES &&
           c->out_bytes - NET_HDR_BYTES <= n->port.longest &&
           virtq_read(c, 0, h, NET_HDR_BYTES) == NET_HDR_BYTES && tx_header(n, h);
}

/* LIMITED and FULL: it stays; NEXT: it is done with. */
static enum step tx_frame(struct net_dev *n, const struct virtq_chain *c)
{
    struct net_hdr h;
    enum net_sent sent = NET_REFUSED;
    if (n->link_up && tx_acceptable(n, c, &h)) {
        if (!throttle_pay(&n->limit[TX], c->out_bytes - NET_HDR_BYTES))
            return LIMITED;
        sent = n->port.ops->send(&n->port, &h, c);
    }
    if (sent == NET_FULL)
        return FULL;
    throttle_next(&n->limit[TX]);
    if (sent == NET_GONE)
        link_down(n);
    if (sent == NET_SENT)
        atomic_fetch_add_explicit(&n->tx_bytes, c->out_bytes - NET_HDR_BYTES, memory_order_relaxed);
    else
        count_drop(n);
    return NEXT;
}

static enum step tx_one(struct net_dev *n)
{
    struct virtq *q = &n->virtio.queue[TX];
    int r = virtq_pop(q, n->virtio.at.mem, &n->first);
    if (r == 0)
        return virtq_enable_notify(q) ? NEXT : EMPTY;
    if (r < 0)
        return BROKEN;
    enum step s = tx_frame(n, &n->first);
    if (s == NEXT)
        virtq_push(q, &n->first, 0);
    else
        virtq_unpop(q);
    return s;
}

static void tx_serve(struct net_dev *n)
{
    n->want_out = is_serving(n) && serve(n, TX, tx_one) == FULL;
    if (!n->gate_open || !n->link_up || !n->port.ops->flush)
        return;
    /* Also when the driver was reset: a frame on the wire must be completed. */
    int r = n->port.ops->flush(&n->port);
    if (r < 0)
        link_down(n);
    if (r == 0)
        n->want_out = true;
}

/* ---- what wakes them ---- */

static void on_ready(struct ev_source *s, uint32_t events)
{
    struct net_dev *n = CONTAINER_OF(s, struct net_dev, source);
    pthread_mutex_lock(&n->virtio.lock);
    if (events & ~(uint32_t)EPOLLOUT)
        rx_serve(n);
    if (events & ~(uint32_t)EPOLLIN)
        tx_serve(n);
    watch(n, events & (EPOLLHUP | EPOLLERR));
    pthread_mutex_unlock(&n->virtio.lock);
}

static void again_rx(struct throttle *t)
{
    virtio_kick(&CONTAINER_OF(t, struct net_dev, limit[RX])->virtio, RX);
}

static void again_tx(struct throttle *t)
{
    virtio_kick(&CONTAINER_OF(t, struct net_dev, limit[TX])->virtio, TX);
}

static void net_notify(struct virtio_dev *d, unsigned queue)
{
    struct net_dev *n = of(d);
    if (n->link_news)
        virtio_config_changed(d);
    n->link_news = false;
    if (queue == RX)
        rx_serve(n);
    else
        tx_serve(n);
    watch(n, false);
}

/* On a vCPU thread: the descriptor and its watch belong to the loop thread, which finds out. */
static void net_activate(struct virtio_dev *d)
{
    of(d)->offload_pending = true;
}

static void net_reset(struct virtio_dev *d)
{
    of(d)->link_news = false;
}

static void net_config_read(struct virtio_dev *d, uint32_t offset, void *p, uint32_t len)
{
    const struct net_dev *n = of(d);
    struct config_space c;
    memcpy(c.mac, n->mac, sizeof c.mac);
    le16_put(&c.status, n->link_up ? VIRTIO_NET_S_LINK_UP : 0);
    memcpy(p, (const uint8_t *)&c + offset, len);
}

static void net_save(struct virtio_dev *d, struct state_writer *w)
{
    const struct net_dev *n = of(d);
    struct saved s = {.link_up = n->link_up};
    memcpy(s.mac, n->mac, sizeof s.mac);
    state_put(w, STATE_NET, d->at.slot, STATE_VERSION, &s, sizeof s);
}

static int net_restore(struct virtio_dev *d, const struct state_reader *r, struct err *e)
{
    struct net_dev *n = of(d);
    struct saved s;
    int rc = state_get(r, STATE_NET, d->at.slot, STATE_VERSION, &s, sizeof s, e);
    if (rc < 0)
        return rc;
    memcpy(n->mac, s.mac, sizeof n->mac);
    n->link_news = (s.link_up != 0) != n->link_up;
    n->offload_pending = true;
    n->gate_open = false;
    return 0;
}

static void net_release(struct virtio_dev *d)
{
    struct net_dev *n = of(d);
    throttle_done(&n->limit[RX], d->at.loop);
    throttle_done(&n->limit[TX], d->at.loop);
    unwatch(n);
    cleanup_close(&n->port.fd);
}

static const struct virtio_ops net_ops = {
    .device_id = 1,
    .name = "net",
    .n_queues = 2,
    .queue_size_max = VIRTQ_SIZE_MAX,
    .activate = net_activate,
    .reset = net_reset,
    .notify = net_notify,
    .config_len = sizeof(struct config_space),
    .config_read = net_config_read,
    .save = net_save,
    .restore = net_restore,
    .release = net_release,
};

/* ---- making and using it ---- */

static int net_init(struct net_dev *n, const struct net_dev_config *c, struct err *e)
{
    struct ev_loop *loop = n->virtio.at.loop;
    int r = 0;
    if (c->backend == NET_BACKEND_TAP)
        r = net_port_tap(&n->port, c->fd, e);
    else
        net_port_stream(&n->port, c->fd);
    if (r == 0)
        r = throttle_init(&n->limit[RX], loop, c->rx_bytes, c->rx_packets, again_rx, e);
    if (r == 0)
        r = throttle_init(&n->limit[TX], loop, c->tx_bytes, c->tx_packets, again_tx, e);
    if (r < 0)
        return r;
    n->source = (struct ev_source){c->fd, on_ready};
    n->gate_open = n->link_up = true;
    memcpy(n->mac, c->mac, sizeof n->mac);
    n->virtio.device_features = BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) |
                                BIT(VIRTIO_NET_F_MRG_RXBUF) | n->port.features;
    return 0;
}

int net_dev_new(struct virtio_place at, const struct net_dev_config *c, struct virtio_dev **ret,
                struct err *e)
{
    struct virtio_dev *d;
    int r = virtio_new(sizeof(struct net_dev), &net_ops, at, &d, e);
    if (r < 0)
        return r;
    r = net_init(of(d), c, e);
    if (r < 0) {
        of(d)->port.fd = -1; /* is still the caller's */
        virtio_free(d);
        return r;
    }
    *ret = d;
    return 0;
}

void net_dev_gate(struct virtio_dev *d, bool open)
{
    pthread_mutex_lock(&d->lock);
    of(d)->gate_open = open;
    pthread_mutex_unlock(&d->lock);
    virtio_kick_all(d);
}

void net_dev_counters(struct virtio_dev *d, uint64_t *rx_bytes, uint64_t *tx_bytes)
{
    *rx_bytes = atomic_load_explicit(&of(d)->rx_bytes, memory_order_relaxed);
    *tx_bytes = atomic_load_explicit(&of(d)->tx_bytes, memory_order_relaxed);
}

uint64_t net_dev_dropped(struct virtio_dev *d)
{
    return atomic_load_explicit(&of(d)->dropped, memory_order_relaxed);
}
