/* SPDX-License-Identifier: Apache-2.0 */
/* MC146818 clock: the host's UTC time in BCD or binary, alarms never fire, writes of the time are
 * ignored (the agent sets the guest's clock). NVRAM bytes read as written. Own lock. */
#ifndef VMM_DEV_RTC_H
#define VMM_DEV_RTC_H

#include <pthread.h>

#include "vmm/bus.h"
#include "vmm/snapshot/state.h"

struct rtc_registers { /* the section STATE_RTC */
    uint8_t index, reserved[7];
    uint8_t nvram[128];
};

struct rtc {
    pthread_mutex_t lock; /* of regs */
    struct rtc_registers regs;
};

void rtc_init(struct rtc *r);
extern const struct bus_ops rtc_ops; /* 2 ports */
/* While all vCPUs are parked. */
void rtc_save(struct rtc *r, struct state_writer *w);
int rtc_restore(struct rtc *r, const struct state_reader *in, struct err *e) MUST_CHECK;

#endif
