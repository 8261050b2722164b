/* SPDX-License-Identifier: Apache-2.0 */
/* SCRIPT_HOST: the first byte says what the host end does. */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "device_script.h"
#include "vmm/virtio/console.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HOST_LINK, HOST_CLOSE, HOST_SEND, HOST_RECEIVE, HOST_UNLINK, HOST_SHUT, HOST_ACTIONS };

static struct virtio_dev *console;
static int peer = -1;

static void close_peer(void)
{
    if (peer >= 0)
        close(peer);
    peer = -1;
}

static struct virtio_dev *renew(struct device_script *s)
{
    virtio_free(console);
    close_peer();
    if (console_new((struct virtio_place){2, &s->mem, s->irq, s->loop}, &console, NULL) < 0)
        abort();
    return console;
}

static void link_up(void)
{
    int s[2], small = 4096;
    close_peer();
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, s) < 0)
        abort();
    (void)setsockopt(s[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small); /* back-pressure early */
    peer = s[0];
    console_link(console, s[1]);
}

static void host(struct device_script *s UNUSED, const uint8_t *p, size_t n)
{
    char buf[8192];
    int action = n ? p[0] % HOST_ACTIONS : HOST_LINK;
    if (action == HOST_LINK)
        link_up();
    else if (action == HOST_CLOSE)
        close_peer();
    else if (action == HOST_SEND && peer >= 0)
        (void)!send(peer, p + 1, n - 1, MSG_NOSIGNAL);
    else if (action == HOST_RECEIVE && peer >= 0)
        (void)!read(peer, buf, sizeof buf);
    else if (action == HOST_UNLINK)
        console_link(console, -1);
    else if (action == HOST_SHUT && peer >= 0)
        shutdown(peer, SHUT_RDWR);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct device_script script = {.renew = renew, .host = host};
    device_script_run(&script, data, size);
    return 0;
}
