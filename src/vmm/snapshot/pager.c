/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/pager.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/jail/jail.h"
#include "vmm/snapshot/chunks.h"

struct pager {
    struct gmem *mem;
    int uffd; /* owned */
    void (*on_failure)(void *arg, const char *text);
    void *arg;
    pthread_t thread;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct chunks *chunks; /* owned; set by pager_serve() */
    bool complete;
    int failed;

    /* the pager thread's */
    uint8_t *done; /* owned; a byte per chunk */
    uint64_t next; /* first chunk that may be missing */
    _Atomic uint64_t faults;
};

int pager_open_uffd(void)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0)
        return fd;
    /* Linux 6.1: who may open this device may handle faults of the kernel, without other rights. */
    CLEANUP(cleanup_close)
    int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (dev < 0)
        return -errno;
    fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

/* Pages that are there already (a page written by a racing fault) are skipped one by one. */
static int install(struct pager *p, uint64_t i, const uint8_t *from)
{
    uint64_t to = (uintptr_t)p->mem->host + i * CHUNK_BYTES;
    for (uint64_t at = 0; at < CHUNK_BYTES;) {
        struct uffdio_copy copy = {to + at, (uintptr_t)from + at, CHUNK_BYTES - at, 0, 0};
        struct uffdio_zeropage zero = {{to + at, CHUNK_BYTES - at}, 0, 0};
        int r = from ? ioctl(p->uffd, UFFDIO_COPY, &copy) : ioctl(p->uffd, UFFDIO_ZEROPAGE, &zero);
        int64_t moved = from ? copy.copy : zero.zeropage;
        if (r == 0)
            return 0;
        if (errno == EEXIST)
            moved = GMEM_PAGE;
        else if (errno != EAGAIN)
            return -errno;
        at += moved > 0 ? (uint64_t)moved : 0;
    }
    return 0;
}

static int fetch(struct pager *p, uint64_t i)
{
    const void *from = NULL;
    struct err e = {0};
    if (p->done[i])
        return 0;
    int r = chunks_is_zero(p->chunks, i) ? 0 : chunks_read(p->chunks, i, &from, &e);
    if (r == 0 && (r = install(p, i, from)) < 0)
        err_set_errno(&e, -r, "memory chunk %llu", (unsigned long long)i);
    if (r < 0)
        p->on_failure(p->arg, e.text);
    p->done[i] = 1;
    return r;
}

/* A page of a chunk that was fetched is missing only if the balloon dropped it. */
static int serve_fault(struct pager *p, uint64_t offset)
{
    uint64_t chunk = offset / CHUNK_BYTES;
    uint64_t page = (uintptr_t)p->mem->host + (offset & ~(uint64_t)(GMEM_PAGE - 1));
    struct uffdio_range wake = {(uintptr_t)p->mem->host + chunk * CHUNK_BYTES, CHUNK_BYTES};
    struct uffdio_zeropage zero = {{page, GMEM_PAGE}, 0, 0};
    if (p->done[chunk] && ioctl(p->uffd, UFFDIO_ZEROPAGE, &zero) == 0)
        return 0;
    int r = fetch(p, chunk);
    return r == 0 && ioctl(p->uffd, UFFDIO_WAKE, &wake) < 0 ? -errno : r;
}

static int serve_faults(struct pager *p)
{
    struct uffd_msg msg[16];
    ssize_t n = read(p->uffd, msg, sizeof msg);
    int r = 0;
    for (ssize_t i = 0; r == 0 && i < n / (ssize_t)sizeof *msg; i++) {
        uint64_t offset = msg[i].arg.pagefault.address - (uintptr_t)p->mem->host;
        if (msg[i].event != UFFD_EVENT_PAGEFAULT || offset >= p->mem->bytes)
            continue;
        atomic_fetch_add(&p->faults, 1);
        r = serve_fault(p, offset);
    }
    return r;
}

/* Faults first; while there are none, the next chunk in order. */
static int work(struct pager *p)
{
    uint64_t count = chunks_count(p->chunks);
    struct pollfd pfd = {.fd = p->uffd, .events = POLLIN};
    int r = 0;
    while (r == 0 && p->next < count) {
        if (poll(&pfd, 1, 0) > 0)
            r = serve_faults(p);
        else
            r = fetch(p, p->next++);
    }
    return r;
}

static void finish(struct pager *p, int r)
{
    pthread_mutex_lock(&p->lock);
    p->complete = true;
    p->failed = r;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

static void *thread_main(void *arg)
{
    struct pager *p = arg;
    struct err e;
    if (jail_filter(JAIL_PAGER, &e) < 0) {
        p->on_failure(p->arg, e.text);
        finish(p, -EPERM);
        return NULL;
    }
    pthread_mutex_lock(&p->lock);
    while (!p->chunks)
        pthread_cond_wait(&p->changed, &p->lock);
    pthread_mutex_unlock(&p->lock);
    int r = work(p);
    /* From here on RAM is ordinary memory. Whoever still waits is woken. */
    struct uffdio_range all = {(uintptr_t)p->mem->host, p->mem->bytes};
    if (r == 0 && ioctl(p->uffd, UFFDIO_UNREGISTER, &all) < 0)
        r = -errno;
    /* A means to stop the kernel in the middle of an access is not left lying about. */
    cleanup_close(&p->uffd);
    p->uffd = -1;
    finish(p, r);
    return NULL;
}

int pager_new(struct gmem *m, int uffd, void (*on_failure)(void *arg, const char *text), void *arg,
              struct pager **ret, struct err *e)
{
    struct uffdio_api api = {.api = UFFD_API};
    if (uffd < 0)
        return err_set(e, EPERM,
                       "memory in chunks needs userfaultfd (sysctl vm.unprivileged_userfaultfd, or "
                       "access to /dev/userfaultfd)");
    if (ioctl(uffd, UFFDIO_API, &api) < 0)
        return err_set_errno(e, errno, "userfaultfd");
    struct pager *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(e, ENOMEM, "out of memory");
    *p = (struct pager){.mem = m, .uffd = uffd, .on_failure = on_failure, .arg = arg};
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->changed, NULL);
    int r = pthread_create(&p->thread, NULL, thread_main, p);
    if (r) {
        free(p);
        return err_set_errno(e, r, "pager");
    }
    *ret = p;
    return 0;
}

int pager_serve(struct pager *p, int fd, struct err *e)
{
    struct chunks *c = NULL;
    if (p->chunks) {
        close(fd);
        return err_set(e, EBUSY, "memory is served already");
    }
    int r = chunks_open(fd, p->mem->bytes, &c, e);
    if (r == 0)
        r = gmem_map_zero(p->mem, false, e);
    struct uffdio_register reg = {.range = {(uintptr_t)p->mem->host, p->mem->bytes},
                                  .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (r == 0 && ioctl(p->uffd, UFFDIO_REGISTER, &reg) < 0)
        r = err_set_errno(e, errno, "userfaultfd");
    if (r == 0 && !(p->done = calloc((size_t)chunks_count(c), 1)))
        r = err_set(e, ENOMEM, "out of memory");
    if (r < 0) {
        chunks_close(c);
        return r;
    }
    pthread_mutex_lock(&p->lock);
    p->chunks = c;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    return 0;
}

int pager_complete(struct pager *p, struct err *e)
{
    pthread_mutex_lock(&p->lock);
    while (p->chunks && !p->complete)
        pthread_cond_wait(&p->changed, &p->lock);
    int r = p->failed;
    pthread_mutex_unlock(&p->lock);
    return r < 0 ? err_set_errno(e, -r, "fetch the rest of the memory") : 0;
}

uint64_t pager_faults(const struct pager *p)
{
    return atomic_load(&p->faults);
}
