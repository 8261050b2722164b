/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-console with multiport (virtio 1.2 §5.3): port 0 is reserved for a console and stays
 * unused, port 1 is named "tinderbox.agent" (proto/wire.h) and carries the guest channel to
 * whichever host descriptor is linked at the moment. The guest hears PORT_OPEN 1/0 as links come
 * and go. On the io thread.
 */
#ifndef VMM_VIRTIO_CONSOLE_H
#define VMM_VIRTIO_CONSOLE_H

#include "vmm/virtio/virtio.h"

int console_new(struct virtio_place at, struct virtio_dev **ret, struct err *e) MUST_CHECK;
/* The guest channel is from now on fd (a connected stream, non-blocking, owned), replacing an
 * earlier one; -1 unlinks. Loop parked. A new link is heard by the guest even if the old one was
 * just replaced: close, then open. Nothing is read from fd before the guest has opened the port and
 * given buffers; end of file on fd closes the link. */
void console_link(struct virtio_dev *d, int fd);

#endif
