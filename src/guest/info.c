/* SPDX-License-Identifier: Apache-2.0 */
/* INFO and STATS. */
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "guest/guest.h"
#include "proto/wire.h"

void guest_info(struct guest *g, struct stream *st, const json_t *body UNUSED)
{
    struct utsname u;
    uname(&u);
    stream_json(st, 200,
                json_pack("{s:i, s:s, s:I, s:b, s:b}", "version", WIRE_VERSION, "kernel", u.release,
                          "uptimeMs", (json_int_t)clock_mono_ms(), "booted", g->booted, "started",
                          g->app.state != APP_NONE));
}

static int64_t meminfo_kib(const char *text, const char *key)
{
    const char *p = strstr(text, key);
    long long v = 0;
    return p && sscanf(p + strlen(key), " %lld kB", &v) == 1 ? v : 0;
}

/* Busy time of all processors, from the first line of /proc/stat. */
static int64_t cpu_ms(const char *text)
{
    long long user = 0, nice = 0, sys = 0, idle = 0, wait = 0, irq = 0, soft = 0;
    if (sscanf(text, "cpu %lld %lld %lld %lld %lld %lld %lld", &user, &nice, &sys, &idle, &wait,
               &irq, &soft) != 7)
        return 0;
    return (user + nice + sys + irq + soft) * 1000 / sysconf(_SC_CLK_TCK);
}

void guest_stats(struct guest *g UNUSED, struct stream *st, const json_t *body UNUSED)
{
    struct buf mem = BUF_INIT(65536), cpu = BUF_INIT(1 << 20);
    struct err e = {0};
    if (fs_read_file("/proc/meminfo", &mem, &e) < 0 || fs_read_file("/proc/stat", &cpu, &e) < 0)
        stream_error(st, 500, "%s", e.text);
    else
        stream_json(st, 200,
                    json_pack("{s:I, s:I, s:I, s:I}", "uptimeMs", (json_int_t)clock_mono_ms(),
                              "memTotalKiB", (json_int_t)meminfo_kib(mem.data, "MemTotal:"),
                              "memAvailableKiB", (json_int_t)meminfo_kib(mem.data, "MemAvailable:"),
                              "cpuMs", (json_int_t)cpu_ms(cpu.data)));
    buf_done(&mem);
    buf_done(&cpu);
}
