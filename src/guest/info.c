/* SPDX-License-Identifier: Apache-2.0 */
/* INFO and STATS. */
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "guest/guest.h"
#include "guest/numbers.h"
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

/* Busy time of all processors, from the first line of /proc/stat: user nice system idle iowait irq
 * softirq, in clock ticks. */
static int64_t cpu_ms(const char *text)
{
    uint64_t ticks = 0;
    const char *p = strncmp(text, "cpu ", 4) == 0 ? text + 4 : "";
    for (int i = 0; i < 7; i++) {
        char *end;
        uint64_t v = strtoull(p, &end, 10);
        if (end == p)
            return 0;
        if (i != 3 && i != 4)
            ticks += v;
        p = end;
    }
    return (int64_t)(ticks * 1000 / (uint64_t)sysconf(_SC_CLK_TCK));
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
                              "memTotalKiB", (json_int_t)number_after(mem.data, "MemTotal:", 0),
                              "memAvailableKiB",
                              (json_int_t)number_after(mem.data, "MemAvailable:", 0), "cpuMs",
                              (json_int_t)cpu_ms(cpu.data)));
    buf_done(&mem);
    buf_done(&cpu);
}
