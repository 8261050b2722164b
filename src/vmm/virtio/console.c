/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The guest sees what QEMU shows for "virtio-serial,max_ports=2" with one
 * virtserialport: room for a console (port 0, queues 0 and 1) that is never announced, and port 1
 * (queues 4 and 5) behind a control queue pair (2 and 3).
 *
 * Control messages to the guest are not queued but owed: at most one of each kind, sent in the
 * order of enum message as buffers appear. A guest that asks for more than it fetches only hears
 * the latest news. "told_open" is what the guest believes once it has read what was sent; closed
 * before open, so that a new link is always an edge.
 *
 * To the guest: the link is read only while the guest has the port open and offers buffers,
 * straight into them; until then bytes wait in the socket. To the host: a chain that does not fit
 * into the socket stays at the head of its queue with "sent" bytes of it done. Without a link it is
 * thrown away, also what was left when a link went: a new host must not read the old one's tail.
 *
 * A saved console has no link: the other end does not survive. If the guest believed it open,
 * closing it is owed after a restore.
 */
#include "vmm/virtio/console.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/wire.h"
#include "vmm/le.h"

#define DEVICE_ID 3u
#define F_MULTIPORT 1u
#define PORT 1u
#define QUEUE_SIZE 128u
#define CONFIG_BYTES 12u
#define CHAINS_PER_CALL 64u /* then others, or parking, get a turn */

enum { Q_PORT0_RX, Q_PORT0_TX, Q_CONTROL_RX, Q_CONTROL_TX, Q_RX, Q_TX, QUEUES };

enum {
    DEVICE_READY,
    PORT_ADD,
    PORT_REMOVE,
    PORT_READY,
    CONSOLE_PORT,
    RESIZE,
    PORT_OPEN,
    PORT_NAME
};

enum message { OWE_ADD = 1, OWE_NAME = 2, OWE_CLOSE = 4, OWE_OPEN = 8 };

struct control {
    struct le32 id;
    struct le16 event, value;
    char name[sizeof WIRE_PORT_NAME - 1]; /* PORT_NAME only */
};
#define CONTROL_BYTES ((uint32_t)offsetof(struct control, name))

struct console {
    struct virtio_dev dev;
    struct ev_source link; /* fd owned; -1 = no host */
    uint32_t watched;      /* EPOLL* the link is watched for */
    bool port_ready, guest_open, told_open;
    uint8_t owed;     /* enum message */
    bool rx_starved;  /* no buffers: the guest will notify */
    bool tx_blocked;  /* no room in the socket */
    uint32_t tx_sent; /* of the chain at the head of Q_TX */
    struct virtq_chain chain;
};

static struct console *of(struct virtio_dev *d)
{
    return CONTAINER_OF(d, struct console, dev);
}

/* Whether c->chain is the next one. A broken queue has none. */
static bool pop(struct console *c, unsigned q)
{
    int r = virtq_pop(&c->dev.queue[q], c->dev.at.mem, &c->chain);
    if (r < 0)
        virtio_needs_reset(&c->dev);
    return r == 1;
}

/* Ends a round over q: tells the guest, and comes back for what is there already. */
static void rest(struct console *c, unsigned q, bool more)
{
    virtio_signal(&c->dev, q);
    if (virtq_enable_notify(&c->dev.queue[q]) || more)
        virtio_kick(&c->dev, q);
}

static uint32_t compose(enum message m, struct control *ret)
{
    le32_put(&ret->id, PORT);
    le16_put(&ret->event, m == OWE_ADD ? PORT_ADD : m == OWE_NAME ? PORT_NAME : PORT_OPEN);
    le16_put(&ret->value, m != OWE_CLOSE);
    memcpy(ret->name, WIRE_PORT_NAME, sizeof ret->name);
    return m == OWE_NAME ? sizeof *ret : CONTROL_BYTES;
}

static void send_owed(struct console *c)
{
    struct control message;
    while (c->owed && pop(c, Q_CONTROL_RX)) {
        enum message m = (enum message)(c->owed & -c->owed);
        uint32_t n = compose(m, &message);
        virtq_push(&c->dev.queue[Q_CONTROL_RX], &c->chain, virtq_write(&c->chain, 0, &message, n));
        c->owed &= (uint8_t)~m;
        if (m == OWE_CLOSE || m == OWE_OPEN)
            c->told_open = m == OWE_OPEN;
    }
    if (c->owed)
        rest(c, Q_CONTROL_RX, false);
    else
        virtio_signal(&c->dev, Q_CONTROL_RX); /* buffers we do not need are no news */
}

static void obey(struct console *c, const struct control *m)
{
    uint16_t event = le16_get(&m->event);
    bool value = le16_get(&m->value);
    if (event == DEVICE_READY && value)
        c->owed |= OWE_ADD;
    if (le32_get(&m->id) != PORT)
        return;
    if (event == PORT_OPEN)
        c->guest_open = value;
    if (event == PORT_READY) {
        c->port_ready = value;
        if (value)
            c->owed |= c->link.fd >= 0 ? OWE_NAME | OWE_OPEN : OWE_NAME;
    }
}

static void take_control(struct console *c)
{
    struct control m;
    unsigned n = 0;
    for (; n < CHAINS_PER_CALL && pop(c, Q_CONTROL_TX); n++) {
        uint32_t got = virtq_read(&c->chain, 0, &m, CONTROL_BYTES);
        virtq_push(&c->dev.queue[Q_CONTROL_TX], &c->chain, 0);
        if (got == CONTROL_BYTES)
            obey(c, &m);
    }
    rest(c, Q_CONTROL_TX, n == CHAINS_PER_CALL);
    send_owed(c);
}

static bool may_receive(const struct console *c)
{
    return c->dev.active && c->guest_open && !c->rx_starved;
}

static void watch(struct console *c)
{
    uint32_t events = (may_receive(c) ? EPOLLIN : 0u) | (c->tx_blocked ? EPOLLOUT : 0u);
    if (c->link.fd < 0 || events == c->watched)
        return;
    ev_modify(c->dev.at.loop, &c->link, events);
    c->watched = events;
}

/* At most what a queue holds: a guest that goes on filling it is not waited for. */
static void discard(struct console *c, unsigned q)
{
    unsigned n = 0;
    for (; n < c->dev.queue[q].size && pop(c, q); n++)
        virtq_push(&c->dev.queue[q], &c->chain, 0);
    rest(c, q, false);
}

static void close_link(struct console *c)
{
    if (c->link.fd >= 0)
        ev_remove(c->dev.at.loop, &c->link);
    cleanup_close(&c->link.fd);
    c->link.fd = -1;
}

static void set_link(struct console *c, int fd)
{
    close_link(c);
    c->link.fd = fd;
    c->watched = 0;
    c->tx_blocked = false;
    c->tx_sent = 0;
    if (fd >= 0 && ev_add(c->dev.at.loop, &c->link, 0) < 0)
        close_link(c); /* no kernel memory: as if the host had hung up at once */
    c->owed &= (uint8_t)~OWE_OPEN;
    if (c->told_open)
        c->owed |= OWE_CLOSE;
    if (c->link.fd >= 0 && c->port_ready)
        c->owed |= OWE_OPEN;
    discard(c, Q_TX);
    send_owed(c);
}

static void receive(struct console *c)
{
    struct virtq *q = &c->dev.queue[Q_RX];
    for (unsigned i = 0; i < CHAINS_PER_CALL; i++) {
        if (!pop(c, Q_RX)) {
            c->rx_starved = true;
            rest(c, Q_RX, false);
            return;
        }
        if (c->chain.n_in == 0) { /* reading nothing would look like the end */
            virtio_needs_reset(&c->dev);
            return;
        }
        ssize_t n = readv(c->link.fd, c->chain.iov + c->chain.n_out, (int)c->chain.n_in);
        if (n <= 0) {
            bool gone = n == 0 || (errno != EAGAIN && errno != EINTR);
            virtq_unpop(q);
            virtio_signal(&c->dev, Q_RX);
            if (gone)
                set_link(c, -1);
            return;
        }
        virtq_push(q, &c->chain, (uint32_t)n);
        if ((size_t)n < c->chain.in_bytes)
            break; /* the socket was empty */
    }
    virtio_signal(&c->dev, Q_RX);
}

/* Sends the rest of c->chain: 0, or -errno. The guest may have changed its length meanwhile. */
static int send_chain(struct console *c)
{
    struct iovec *iov = c->chain.iov;
    size_t n_iov = c->chain.n_out, skip = c->tx_sent;
    for (; n_iov && skip >= iov->iov_len; iov++, n_iov--)
        skip -= iov->iov_len;
    if (n_iov == 0)
        return 0;
    iov->iov_base = (char *)iov->iov_base + skip;
    iov->iov_len -= skip;
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = n_iov};
    ssize_t n = sendmsg(c->link.fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0)
        return errno == EINTR ? -EAGAIN : -errno;
    c->tx_sent += (uint32_t)n;
    return c->tx_sent < c->chain.out_bytes ? -EAGAIN : 0;
}

static void transmit(struct console *c)
{
    struct virtq *q = &c->dev.queue[Q_TX];
    unsigned n = 0;
    for (; n < CHAINS_PER_CALL && pop(c, Q_TX); n++) {
        int r = c->link.fd >= 0 ? send_chain(c) : 0;
        if (r < 0) {
            virtq_unpop(q);
            virtio_signal(&c->dev, Q_TX);
            if (r == -EAGAIN)
                c->tx_blocked = true;
            else
                set_link(c, -1);
            return;
        }
        c->tx_sent = 0;
        virtq_push(q, &c->chain, 0);
    }
    rest(c, Q_TX, n == CHAINS_PER_CALL);
}

static void on_link(struct ev_source *s, uint32_t events)
{
    struct console *c = CONTAINER_OF(s, struct console, link);
    pthread_mutex_lock(&c->dev.lock);
    if (c->tx_blocked && (events & ~(uint32_t)EPOLLIN)) {
        c->tx_blocked = false;
        transmit(c);
    }
    if (c->link.fd >= 0 && may_receive(c))
        receive(c);
    else if (events & (EPOLLHUP | EPOLLERR))
        set_link(c, -1); /* reported for ever: what the guest had no room for is lost */
    watch(c);
    pthread_mutex_unlock(&c->dev.lock);
}

void console_link(struct virtio_dev *d, int fd)
{
    struct console *c = of(d);
    pthread_mutex_lock(&c->dev.lock);
    set_link(c, fd);
    watch(c);
    pthread_mutex_unlock(&c->dev.lock);
}

static void notify(struct virtio_dev *d, unsigned q)
{
    struct console *c = of(d);
    if (q == Q_PORT0_TX)
        discard(c, q);
    else if (q == Q_CONTROL_RX)
        send_owed(c);
    else if (q == Q_CONTROL_TX)
        take_control(c);
    else if (q == Q_TX && !c->tx_blocked)
        transmit(c);
    else if (q == Q_RX) {
        virtq_disable_notify(&d->queue[q]);
        c->rx_starved = false;
    }
    watch(c);
}

/* The link stays watched as it was (a vCPU thread may not change that) until it next reports. */
static void reset(struct virtio_dev *d)
{
    struct console *c = of(d);
    c->port_ready = c->guest_open = c->told_open = c->rx_starved = c->tx_blocked = false;
    c->owed = 0;
    c->tx_sent = 0;
}

static void config_read(struct virtio_dev *d UNUSED, uint32_t offset, void *p, uint32_t len)
{
    const uint8_t config[CONFIG_BYTES] = {[4] = PORT + 1}; /* le32 max_nr_ports */
    memcpy(p, config + offset, len);
}

#define STATE_VERSION 1

struct console_state {
    uint8_t port_ready, guest_open, told_open, owed;
};

static void save(struct virtio_dev *d, struct state_writer *w)
{
    const struct console *c = of(d);
    struct console_state s = {c->port_ready, c->guest_open, c->told_open, c->owed};
    state_put(w, STATE_CONSOLE, d->at.slot, STATE_VERSION, &s, sizeof s);
}

static int restore(struct virtio_dev *d, const struct state_reader *r, struct err *e)
{
    struct console *c = of(d);
    struct console_state s;
    int k = state_get(r, STATE_CONSOLE, d->at.slot, STATE_VERSION, &s, sizeof s, e);
    if (k < 0)
        return k;
    c->port_ready = s.port_ready;
    c->guest_open = s.guest_open;
    c->told_open = s.told_open;
    c->owed = (s.owed & (OWE_ADD | OWE_NAME)) | (s.told_open ? OWE_CLOSE : 0);
    return 0;
}

static void release(struct virtio_dev *d)
{
    close_link(of(d));
}

static const struct virtio_ops OPS = {
    .device_id = DEVICE_ID,
    .name = "console",
    .n_queues = QUEUES,
    .queue_size_max = QUEUE_SIZE,
    .reset = reset,
    .notify = notify,
    .config_len = CONFIG_BYTES,
    .config_read = config_read,
    .save = save,
    .restore = restore,
    .release = release,
};

int console_new(struct virtio_place at, struct virtio_dev **ret, struct err *e)
{
    int r = virtio_new(sizeof(struct console), &OPS, at, ret, e);
    if (r == 0) {
        (*ret)->device_features = UINT64_C(1) << F_MULTIPORT;
        of(*ret)->link = (struct ev_source){-1, on_link};
    }
    return r;
}
