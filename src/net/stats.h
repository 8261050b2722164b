/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters of one tinderbox-net process, shared with the engine.
 *
 * The engine makes a memfd, hands it over as --stats-fd and keeps its own descriptor. The process
 * sizes it and maps it; from then on the file holds one struct net_stats, each field a naturally
 * aligned 64-bit counter stored atomically, so a reader sees every field whole (not all of them
 * from the same instant). The file outlives the process: the last values can still be read.
 * Counters only grow, the *_now fields excepted. Directions are seen from the guest.
 */
#ifndef NET_STATS_H
#define NET_STATS_H

#include <stdint.h>

#include "base/macros.h"
#include "net/frame.h"

#define NET_STATS_MAGIC 0x31544154534e4254u /* "TBNSTAT1": also the version */
#define NET_STATS_REASONS 16                /* room for more than NET_REASONS */

struct net_stats {
    uint64_t magic;                     /* 0 until the process is ready */
    uint64_t tx_frames, tx_bytes;       /* out of the guest, dropped ones included */
    uint64_t rx_frames, rx_bytes;       /* towards the guest */
    uint64_t frames[NET_STATS_REASONS]; /* frames of the guest by enum net_reason */
    uint64_t refused;                   /* dropped frames answered with a reset or an ICMP error */
    uint64_t rx_dropped;                /* towards a guest that does not read */
    uint64_t sockets_now;               /* of the TCP/IP stack */
    uint64_t sockets_total;
    uint64_t dns_queries; /* well-formed, from the guest */
    uint64_t dns_forwarded;
    uint64_t dns_answered; /* with what a resolver said */
    uint64_t dns_failed;   /* no resolver answered: SERVFAIL */
    uint64_t dns_rejected; /* malformed queries and answers */
};

#define net_count(field, n) __atomic_fetch_add(&(field), (uint64_t)(n), __ATOMIC_RELAXED)

/* Sizes and maps fd; fd -1 gives private memory. -errno. */
int net_stats_map(int fd, struct net_stats **ret) MUST_CHECK;
/* For the reader. 0, or -ENODATA while the process has not started, or -errno. */
int net_stats_read(int fd, struct net_stats *ret) MUST_CHECK;

#endif
