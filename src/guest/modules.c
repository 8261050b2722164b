/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/modules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"

int modules_next(const char **text, char *path, size_t cap)
{
    while (**text) {
        const char *line = *text;
        size_t n = strcspn(line, "\n");
        *text = line + n + (line[n] == '\n');
        while (n && (*line == ' ' || *line == '\t')) {
            line++;
            n--;
        }
        while (n && strchr(" \t\r", line[n - 1]))
            n--;
        if (n == 0 || *line == '#' || n > 1024)
            continue;
        int len = snprintf(path, cap, "%s%.*s", *line == '/' ? "" : MODULES_DIR "/", (int)n, line);
        if (len > 0 && (size_t)len < cap && !strstr(path, "/../"))
            return 1;
    }
    return 0;
}

static void load(const char *path)
{
    CLEANUP(cleanup_close)
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
        log_warn("agent", "module %s: %s", path, strerror(errno));
}

void modules_load(void)
{
    struct buf order = BUF_INIT(65536);
    struct err e = {0};
    if (fs_read_file(MODULES_ORDER, &order, &e) < 0) {
        log_warn("agent", "no modules: %s", e.text);
        return;
    }
    const char *text = order.data ? order.data : "";
    char path[2048];
    while (modules_next(&text, path, sizeof path))
        load(path);
    buf_done(&order);
}
