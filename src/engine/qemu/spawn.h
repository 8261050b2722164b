/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by spawn.c and the channel. */
#ifndef ENGINE_QEMU_SPAWN_H
#define ENGINE_QEMU_SPAWN_H

#include <stddef.h>
#include <sys/un.h>

/* The guest channel's socket below a directory descriptor of this process. */
void channel_address(int dir_fd, struct sockaddr_un *ret);

/* preload.c, compiled to a shared object; made by the build. */
extern const unsigned char qemu_preload[];
extern const size_t qemu_preload_size;

#endif
