/* SPDX-License-Identifier: Apache-2.0 */
#include "net/syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/macros.h"

#define ALLOW SCMP_ACT_ALLOW
#define REFUSE(e) SCMP_ACT_ERRNO(e)
#define ARG_EQ(i, v)                                                \
    {                                                               \
        .arg = (i), .op = SCMP_CMP_EQ, .datum_a = (scmp_datum_t)(v) \
    }
#define ARG_NE(i, v)                                                \
    {                                                               \
        .arg = (i), .op = SCMP_CMP_NE, .datum_a = (scmp_datum_t)(v) \
    }
#define ARG_MASKED(i, mask, v)                                                 \
    {                                                                          \
        .arg = (i), .op = SCMP_CMP_MASKED_EQ, .datum_a = (scmp_datum_t)(mask), \
        .datum_b = (scmp_datum_t)(v)                                           \
    }

/* Type flags may be or-ed into the second argument of socket(). */
#define TYPE_MASK (~(scmp_datum_t)(SOCK_NONBLOCK | SOCK_CLOEXEC) & 0xffffffffu)

/* clang-format off */
const struct net_syscall net_syscalls[] = {
    /* The loop. */
    {"poll", ALLOW, 0, {{0}}, "wait"},
    {"ppoll", ALLOW, 0, {{0}}, "wait (where the C library uses it for poll)"},
    {"clock_gettime", ALLOW, 0, {{0}}, "time, where the vDSO cannot tell it"},
    {"gettimeofday", ALLOW, 0, {{0}}, "the same"},
    {"read", ALLOW, 0, {{0}}, "resolv.conf"},
    {"write", ALLOW, 0, {{0}}, "log lines"},
    {"writev", ALLOW, 0, {{0}}, "the C library's last words on stderr"},
    {"close", ALLOW, 0, {{0}}, "sockets"},
    {"recvfrom", ALLOW, 0, {{0}}, "recv() and recvfrom() on sockets"},
    {"recvmsg", ALLOW, 0, {{0}}, "errors of UDP sockets"},
    {"sendto", ALLOW, 0, {{0}}, "send() and sendto() on sockets"},
    {"sendmsg", ALLOW, 0, {{0}}, "scattered writes of the stack"},
    {"getrandom", ALLOW, 0, {{0}}, "query ids"},

    /* Sockets: IPv4 and IPv6, streams and datagrams; no raw, UNIX, packet or new netlink ones. */
    {"socket", ALLOW, 2, {ARG_EQ(0, AF_INET), ARG_MASKED(1, TYPE_MASK, SOCK_STREAM)}, "TCP"},
    {"socket", ALLOW, 2, {ARG_EQ(0, AF_INET), ARG_MASKED(1, TYPE_MASK, SOCK_DGRAM)}, "UDP, ping"},
    {"socket", ALLOW, 2, {ARG_EQ(0, AF_INET6), ARG_MASKED(1, TYPE_MASK, SOCK_STREAM)},
     "a name server reached over IPv6"},
    {"socket", ALLOW, 2, {ARG_EQ(0, AF_INET6), ARG_MASKED(1, TYPE_MASK, SOCK_DGRAM)}, "the same"},
    {"socket", REFUSE(EPERM), 1, {ARG_MASKED(1, TYPE_MASK, SOCK_RAW)},
     "the stack's second try at ping, where the kernel has no ping sockets for it"},
    {"connect", ALLOW, 0, {{0}}, "flows that passed the filter; name servers"},
    {"bind", ALLOW, 0, {{0}}, "the stack binds its UDP sockets"},
    {"accept4", ALLOW, 0, {{0}}, "DNS over TCP from the guest"},
    {"accept", ALLOW, 0, {{0}}, "the same"},
    {"shutdown", ALLOW, 0, {{0}}, "half-closed connections"},
    {"getsockname", ALLOW, 0, {{0}}, "the stack's bookkeeping"},
    {"getpeername", ALLOW, 0, {{0}}, "connected or refused?"},
    {"getsockopt", ALLOW, 2, {ARG_EQ(1, SOL_SOCKET), ARG_EQ(2, SO_ERROR)}, "the same"},
    {"setsockopt", ALLOW, 2, {ARG_EQ(1, SOL_SOCKET), ARG_EQ(2, SO_REUSEADDR)}, "the stack"},
    {"setsockopt", ALLOW, 2, {ARG_EQ(1, SOL_SOCKET), ARG_EQ(2, SO_OOBINLINE)}, "the stack"},
    {"setsockopt", ALLOW, 2, {ARG_EQ(1, IPPROTO_TCP), ARG_EQ(2, TCP_NODELAY)}, "the stack"},
    {"setsockopt", ALLOW, 2, {ARG_EQ(1, IPPROTO_IP), ARG_EQ(2, IP_TTL)}, "the stack"},
    {"setsockopt", ALLOW, 2, {ARG_EQ(1, IPPROTO_IP), ARG_EQ(2, IP_RECVERR)}, "the stack"},
    {"fcntl", ALLOW, 1, {ARG_EQ(1, F_GETFL)}, "non-blocking sockets"},
    {"fcntl", ALLOW, 1, {ARG_EQ(1, F_SETFL)}, "the same"},
    {"fcntl", ALLOW, 1, {ARG_EQ(1, F_GETFD)}, "close-on-exec"},
    {"fcntl", ALLOW, 1, {ARG_EQ(1, F_SETFD)}, "the same"},
    {"ioctl", ALLOW, 1, {ARG_EQ(1, FIONREAD)}, "size of a waiting datagram"},
    {"ioctl", ALLOW, 1, {ARG_EQ(1, FIONBIO)}, "non-blocking sockets"},

    /* Files: only read-only opens, and those only where Landlock lets them (sandbox.c). */
    {"openat", ALLOW, 1, {ARG_EQ(2, O_RDONLY | O_CLOEXEC)}, "resolv.conf, when it has changed"},
    {"openat", REFUSE(EACCES), 1, {ARG_NE(2, O_RDONLY | O_CLOEXEC)}, "optional files of libraries"},
    {"newfstatat", REFUSE(EACCES), 0, {{0}}, "the same"},
    {"fstat", ALLOW, 0, {{0}}, "the C library's streams"},
    {"lseek", ALLOW, 0, {{0}}, "the same"},

    /* Memory, never executable. */
    {"brk", ALLOW, 0, {{0}}, "malloc"},
    {"mmap", ALLOW, 1, {ARG_MASKED(2, PROT_EXEC, 0)}, "malloc"},
    {"mprotect", ALLOW, 1, {ARG_MASKED(2, PROT_EXEC, 0)}, "malloc"},
    {"mremap", ALLOW, 0, {{0}}, "realloc"},
    {"munmap", ALLOW, 0, {{0}}, "free"},
    {"madvise", ALLOW, 0, {{0}}, "free"},
    {"futex", ALLOW, 0, {{0}}, "locks of the C library and GLib, uncontended"},

    /* The end. */
    {"exit_group", ALLOW, 0, {{0}}, "exit"},
    {"exit", ALLOW, 0, {{0}}, "exit"},
    {"rt_sigreturn", ALLOW, 0, {{0}}, "return from a signal handler"},
    {"restart_syscall", ALLOW, 0, {{0}}, "poll() continued after SIGSTOP"},
    {"rt_sigprocmask", ALLOW, 0, {{0}}, "abort()"},
    {"rt_sigaction", ALLOW, 0, {{0}}, "abort()"},
    {"getpid", ALLOW, 0, {{0}}, "abort()"},
    {"gettid", ALLOW, 0, {{0}}, "abort()"},
    {"tgkill", ALLOW, 0, {{0}}, "abort()"},
};
/* clang-format on */
const unsigned net_syscalls_n = ARRAY_LEN(net_syscalls);
