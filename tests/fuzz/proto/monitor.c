/* SPDX-License-Identifier: Apache-2.0 */
/* The control channel's check, on the bytes alone and through a socket: the first byte is the
 * number of descriptors sent along, the rest the packet. Every descriptor that came is handed over
 * or closed. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/monitor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int lowest_free(void)
{
    int fd = dup(0);
    if (fd >= 0)
        close(fd);
    return fd;
}

static void send_raw(int sock, const uint8_t *p, size_t n, unsigned n_fds)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * 80)];
    } control = {0};
    struct iovec io = {(void *)(uintptr_t)p, n};
    struct msghdr msg = {.msg_iov = &io, .msg_iovlen = 1};
    int fds[80];
    for (unsigned i = 0; i < n_fds; i++)
        fds[i] = sock;
    if (n_fds) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
    }
    (void)!sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct monitor_message whole = {0}, m;
    int pair[2], fds[MONITOR_FDS_MAX];
    if (size == 0 || size > 8192)
        return 0;
    memcpy(&whole, data + 1, size - 1 < sizeof whole ? size - 1 : sizeof whole);
    int checked = monitor_check(&whole);
    if (checked == 0 && (whole.n_fds > MONITOR_FDS_MAX || *monitor_type_name(whole.type) == '?'))
        abort();
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return 0;
    int before = lowest_free();
    /* Short packets are padded to a whole one half of the time, or nothing would ever pass. */
    if (size > 1 && data[1] & 1)
        send_raw(pair[0], (const uint8_t *)&whole, sizeof whole, data[0] % 80);
    else
        send_raw(pair[0], data + 1, size - 1, data[0] % 80);
    int r = monitor_receive(pair[1], &m, fds);
    if (r == 0 && monitor_check(&m) < 0)
        abort();
    for (uint32_t i = 0; r == 0 && i < m.n_fds; i++)
        if (fcntl(fds[i], F_GETFD) != FD_CLOEXEC || close(fds[i]) < 0)
            abort();
    if (lowest_free() != before)
        abort();
    close(pair[0]);
    close(pair[1]);
    return 0;
}
