/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev/rtc.h"

#include <stdbool.h>
#include <string.h>
#include <time.h>

enum { REG_SECONDS = 0, REG_MINUTES = 2, REG_HOURS = 4, REG_WEEKDAY = 6 };
enum { REG_DAY = 7, REG_MONTH, REG_YEAR, REG_A, REG_B, REG_C, REG_D };
#define REG_CENTURY 0x32 /* where the FADT says it is */

#define TIME_REGISTERS (UINT64_C(1) << REG_CENTURY | 0x3d5) /* a bit each */
#define A_DEFAULT 0x26 /* 32,768 Hz, 1,024 interrupts a second */
#define A_UPDATING 0x80
#define B_BINARY 0x04
#define B_24_HOURS 0x02
#define D_VALID 0x80

#define RTC_VERSION 1

void rtc_init(struct rtc *r)
{
    *r = (struct rtc){0};
    pthread_mutex_init(&r->lock, NULL);
    r->regs.nvram[REG_A] = A_DEFAULT;
    r->regs.nvram[REG_B] = B_24_HOURS;
}

/* Not gmtime_r(): that reads the host's time zone file, and a jailed monitor has no files. Years
 * start in March, so that the leap day is the last one (H. Hinnant, "chrono-compatible low-level
 * date algorithms", civil_from_days). */
static unsigned time_register(unsigned index, uint64_t now)
{
    uint64_t days = now / 86400, since_0000 = days + 719468;
    uint64_t era = since_0000 / 146097, doe = since_0000 % 146097;
    uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    uint64_t from_march = (5 * doy + 2) / 153;
    uint64_t month = from_march < 10 ? from_march + 3 : from_march - 9;
    uint64_t year = era * 400 + yoe + (month <= 2);
    const uint64_t value[] = {
        [REG_SECONDS] = now % 60,
        [REG_MINUTES] = now / 60 % 60,
        [REG_HOURS] = now / 3600 % 24,
        [REG_WEEKDAY] = (days + 4) % 7 + 1, /* Sunday is 1; day 0 was a Thursday */
        [REG_DAY] = doy - (153 * from_march + 2) / 5 + 1,
        [REG_MONTH] = month,
        [REG_YEAR] = year % 100,
        [REG_CENTURY] = year / 100,
    };
    return (unsigned)value[index];
}

static uint8_t read_data(const struct rtc *r)
{
    if (r->regs.index < 64 && (TIME_REGISTERS >> r->regs.index & 1)) {
        struct timespec now = {0};
        clock_gettime(CLOCK_REALTIME, &now);
        unsigned v = time_register(r->regs.index, (uint64_t)now.tv_sec);
        return (uint8_t)(r->regs.nvram[REG_B] & B_BINARY ? v : v / 10 << 4 | v % 10);
    }
    if (r->regs.index == REG_C)
        return 0; /* no interrupt ever happened */
    return r->regs.index == REG_D ? D_VALID : r->regs.nvram[r->regs.index];
}

static void write_data(struct rtc *r, uint8_t v)
{
    if (r->regs.index == REG_A)
        v &= (uint8_t)~A_UPDATING; /* the time is never being updated */
    if (r->regs.index == REG_B)
        v |= B_24_HOURS;
    r->regs.nvram[r->regs.index] = v;
}

static void rtc_read(void *dev, uint64_t offset, void *data, unsigned len)
{
    struct rtc *r = dev;
    memset(data, 0xff, len); /* the index port is write-only */
    if (offset != 1)
        return;
    pthread_mutex_lock(&r->lock);
    *(uint8_t *)data = read_data(r);
    pthread_mutex_unlock(&r->lock);
}

static void rtc_write(void *dev, uint64_t offset, const void *data, unsigned len)
{
    struct rtc *r = dev;
    const uint8_t *p = data;
    pthread_mutex_lock(&r->lock);
    if (offset == 0)
        r->regs.index = *p & 0x7f; /* bit 7 masks NMIs on a PC */
    if (offset + len > 1)
        write_data(r, p[1 - offset]);
    pthread_mutex_unlock(&r->lock);
}

const struct bus_ops rtc_ops = {rtc_read, rtc_write};

void rtc_save(struct rtc *r, struct state_writer *w)
{
    state_put(w, STATE_RTC, 0, RTC_VERSION, &r->regs, sizeof r->regs);
}

int rtc_restore(struct rtc *r, const struct state_reader *in, struct err *e)
{
    int rc = state_get(in, STATE_RTC, 0, RTC_VERSION, &r->regs, sizeof r->regs, e);
    r->regs.index &= 0x7f;
    r->regs.nvram[REG_A] &= (uint8_t)~A_UPDATING;
    r->regs.nvram[REG_B] |= B_24_HOURS;
    return rc;
}
