/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev/rtc.h"

#include <stdbool.h>
#include <string.h>
#include <time.h>

enum {
    REG_SECONDS = 0x00,
    REG_MINUTES = 0x02,
    REG_HOURS = 0x04,
    REG_WEEKDAY = 0x06,
    REG_DAY = 0x07,
    REG_MONTH = 0x08,
    REG_YEAR = 0x09,
    REG_A = 0x0a,
    REG_B = 0x0b,
    REG_C = 0x0c,
    REG_D = 0x0d,
    REG_CENTURY = 0x32 /* where the FADT says it is */
};

#define A_DEFAULT 0x26 /* 32,768 Hz, 1,024 interrupts a second */
#define A_UPDATING 0x80
#define B_BINARY 0x04
#define B_24_HOURS 0x02
#define D_VALID 0x80

#define RTC_VERSION 1

struct rtc_state {
    uint8_t index, reserved[7];
    uint8_t nvram[128];
};

struct date {
    unsigned year, month, day, weekday, hour, minute, second;
};

void rtc_init(struct rtc *r)
{
    *r = (struct rtc){0};
    pthread_mutex_init(&r->lock, NULL);
    r->nvram[REG_A] = A_DEFAULT;
    r->nvram[REG_B] = B_24_HOURS;
}

void rtc_done(struct rtc *r)
{
    pthread_mutex_destroy(&r->lock);
}

/* Not gmtime_r(): that reads the host's time zone file, and a jailed monitor has no files. Years
 * start in March, so that the leap day is the last one (H. Hinnant, "chrono-compatible low-level
 * date algorithms", civil_from_days). */
static struct date date_of(time_t now)
{
    uint64_t seconds = now > 0 ? (uint64_t)now : 0;
    uint64_t days = seconds / 86400;
    uint64_t since_0000 = days + 719468;
    uint64_t era = since_0000 / 146097, day_of_era = since_0000 % 146097;
    uint64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    uint64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint64_t m = (5 * day_of_year + 2) / 153;
    uint64_t month = m < 10 ? m + 3 : m - 9;
    return (struct date){
        .year = (unsigned)(year_of_era + era * 400 + (month <= 2)),
        .month = (unsigned)month,
        .day = (unsigned)(day_of_year - (153 * m + 2) / 5 + 1),
        .weekday = (unsigned)((days + 4) % 7 + 1), /* Sunday is 1; day 0 was a Thursday */
        .hour = (unsigned)(seconds % 86400 / 3600),
        .minute = (unsigned)(seconds % 3600 / 60),
        .second = (unsigned)(seconds % 60),
    };
}

/* The value of a time register, false for the others. */
static bool time_register(uint8_t index, unsigned *ret)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    struct date d = date_of(now.tv_sec);
    switch (index) {
    case REG_SECONDS:
        *ret = d.second;
        return true;
    case REG_MINUTES:
        *ret = d.minute;
        return true;
    case REG_HOURS:
        *ret = d.hour;
        return true;
    case REG_WEEKDAY:
        *ret = d.weekday;
        return true;
    case REG_DAY:
        *ret = d.day;
        return true;
    case REG_MONTH:
        *ret = d.month;
        return true;
    case REG_YEAR:
        *ret = d.year % 100;
        return true;
    case REG_CENTURY:
        *ret = d.year / 100;
        return true;
    default:
        return false;
    }
}

static uint8_t read_data(const struct rtc *r)
{
    unsigned v;
    if (time_register(r->index, &v))
        return (uint8_t)(r->nvram[REG_B] & B_BINARY ? v : v / 10 << 4 | v % 10);
    if (r->index == REG_C)
        return 0; /* no interrupt ever happened */
    return r->index == REG_D ? D_VALID : r->nvram[r->index];
}

static void write_data(struct rtc *r, uint8_t v)
{
    if (r->index == REG_A)
        v &= (uint8_t)~A_UPDATING; /* the time is never being updated */
    if (r->index == REG_B)
        v |= B_24_HOURS;
    r->nvram[r->index] = v;
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
        r->index = *p & 0x7f; /* bit 7 masks NMIs on a PC */
    if (offset + len > 1)
        write_data(r, p[1 - offset]);
    pthread_mutex_unlock(&r->lock);
}

const struct bus_ops rtc_ops = {rtc_read, rtc_write};

void rtc_save(struct rtc *r, struct state_writer *w)
{
    struct rtc_state st = {0};
    pthread_mutex_lock(&r->lock);
    st.index = r->index;
    memcpy(st.nvram, r->nvram, sizeof st.nvram);
    pthread_mutex_unlock(&r->lock);
    state_put(w, STATE_RTC, 0, RTC_VERSION, &st, sizeof st);
}

int rtc_restore(struct rtc *r, const struct state_reader *in, struct err *e)
{
    struct rtc_state st;
    int rc = state_get(in, STATE_RTC, 0, RTC_VERSION, &st, sizeof st, e);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&r->lock);
    r->index = st.index & 0x7f;
    memcpy(r->nvram, st.nvram, sizeof r->nvram);
    r->nvram[REG_A] &= (uint8_t)~A_UPDATING;
    r->nvram[REG_B] |= B_24_HOURS;
    pthread_mutex_unlock(&r->lock);
    return 0;
}
