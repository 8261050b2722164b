/* SPDX-License-Identifier: Apache-2.0 */
/* What filters.py makes of jail/filters. */
#ifndef VMM_JAIL_FILTER_TABLE_H
#define VMM_JAIL_FILTER_TABLE_H

#include <asm/unistd.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define SELF 0xffffffffu /* a value: the pid of the process that loads the filter */

struct filter_condition { /* (argument & mask) == value, on the low 32 bits */
    unsigned argument;
    uint32_t mask, value;
};

struct filter_rule {
    int call;
    unsigned n;
    struct filter_condition condition[2];
    const char *text;
};

extern const struct filter_rule filter_control[], filter_vcpu[], filter_io[], filter_disk[],
    filter_pager[];
extern const unsigned filter_control_rules, filter_vcpu_rules, filter_io_rules, filter_disk_rules,
    filter_pager_rules;

#endif
