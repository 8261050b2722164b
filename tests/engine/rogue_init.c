/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The init of a guest that has been taken over: it owns the channel and answers each hello of the
 * host in another wrong way, as fast as it can, until the next one.
 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void load_modules(void)
{
    char path[256];
    FILE *order = fopen("/lib/modules/load.order", "r");
    while (order && fgets(path, sizeof path, order)) {
        path[strcspn(path, "\n")] = '\0';
        int fd = open(path, O_RDONLY);
        if (syscall(SYS_finit_module, fd, "", 0) < 0)
            perror(path);
        close(fd);
    }
    if (order)
        fclose(order);
}

static int open_port(void)
{
    char path[300];
    for (;; usleep(10000)) {
        DIR *d = opendir("/dev");
        for (struct dirent *e; d && (e = readdir(d));)
            if (strncmp(e->d_name, "vport", 5) == 0) {
                snprintf(path, sizeof path, "/dev/%s", e->d_name);
                closedir(d);
                return open(path, O_RDWR | O_NONBLOCK);
            }
        if (d)
            closedir(d);
    }
}

/* HTTP/2 frame headers: length, type, flags, stream. */
static const char settings[] = "\0\0\0\4\0\0\0\0\0";
static const char ping[] = "\0\0\10\6\0\0\0\0\0pingpong";
static const char push[] = "\0\0\4\5\4\0\0\0\1\0\0\0\2";

static size_t flood(unsigned kind, char *block, size_t cap)
{
    size_t n = 0, size = kind == 3 ? sizeof ping - 1 : sizeof settings - 1;
    const char *frame = kind == 3 ? ping : settings;
    if (kind < 2) {
        static unsigned noise = 1;
        for (; n < cap; noise = noise * 1103515245 + 12345)
            block[n++] = (char)(noise >> 16);
        return n;
    }
    for (; n + size <= cap; n += size)
        memcpy(block + n, frame, size);
    if (kind == 4 && n + sizeof push <= cap)
        memcpy(block + n, push, sizeof push - 1);
    return n;
}

int main(void)
{
    static char block[65536], in[4096];
    char hello[64] = "", last[64] = "";
    unsigned hellos = 0, kind = 0;
    mkdir("/dev", 0755);
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    load_modules();
    struct pollfd p = {.fd = open_port(), .events = POLLIN | POLLOUT};
    printf("rogue\n");
    for (;;) {
        poll(&p, 1, 1000);
        ssize_t n = p.revents & POLLIN ? read(p.fd, in, sizeof in - 1) : 0;
        in[n > 0 ? n : 0] = '\0';
        char *at = n > 0 ? memmem(in, (size_t)n, "TINDERBOX/1 ", 12) : NULL;
        if (at)
            snprintf(hello, sizeof hello, "%.46s", at);
        if (at && strcmp(hello, last) != 0) { /* not a repetition */
            memcpy(last, hello, sizeof last);
            kind = hellos++ % 5;
            if (kind && write(p.fd, hello, 46) != 46)
                perror("hello");
        }
        if (hellos && p.revents & POLLOUT)
            (void)!write(p.fd, block, flood(kind, block, sizeof block));
        if (p.revents & POLLHUP)
            usleep(10000);
    }
}
