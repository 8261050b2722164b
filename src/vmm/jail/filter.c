/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System call filters per thread role (seccomp(2), classic BPF). A program is a straight line: each
 * rule compares the number and its conditions and allows, or falls through to the next; the end
 * kills the process. Written by hand rather than with libseccomp, whose library and heap would be a
 * good part of what a monitor may weigh.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/jail/filter_table.h"
#include "vmm/jail/jail.h"

/* Compiled with JAIL_AUDIT, a rule tells a tracer which one it is instead of allowing; only a test
 * does that (tests/monitor/audit.c). */
#ifdef JAIL_AUDIT
#define IS_RUN(role, rule) ((role) == JAIL_VCPU && (rule) == 0) /* too often to be told */
#define ALLOW(role, rule) \
    (IS_RUN(role, rule) ? SECCOMP_RET_ALLOW : SECCOMP_RET_TRACE | ((unsigned)(role) << 8 | (rule)))
#else
#define ALLOW(role, rule) SECCOMP_RET_ALLOW
#endif

#define PROGRAM_MAX 1024u
#define X32_BIT 0x40000000u

static const struct {
    const char *name;
    const struct filter_rule *rule;
    const unsigned *n;
} roles[JAIL_ROLES] = {
    [JAIL_CONTROL] = {"control", filter_control, &filter_control_rules},
    [JAIL_VCPU] = {"vcpu", filter_vcpu, &filter_vcpu_rules},
    [JAIL_IO] = {"io", filter_io, &filter_io_rules},
    [JAIL_DISK] = {"disk", filter_disk, &filter_disk_rules},
    [JAIL_PAGER] = {"pager", filter_pager, &filter_pager_rules},
};

struct program {
    struct sock_filter code[PROGRAM_MAX];
    unsigned n;
};

static void emit(struct program *p, struct sock_filter f)
{
    if (p->n < PROGRAM_MAX)
        p->code[p->n++] = f;
}

static void load(struct program *p, size_t offset)
{
    emit(p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

/* Goes on when the accumulator is value, skips otherwise. */
static void expect(struct program *p, uint32_t value, unsigned skip)
{
    emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, (uint8_t)skip));
}

static void result(struct program *p, uint32_t action)
{
    emit(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

static void add_rule(struct program *p, const struct filter_rule *r, uint32_t allow)
{
    unsigned left = r->n * 3 + 1; /* instructions from here to behind the rule */
    load(p, offsetof(struct seccomp_data, nr));
    expect(p, (uint32_t)r->call, left);
    for (unsigned i = 0; i < r->n; i++) {
        const struct filter_condition *c = &r->condition[i];
        load(p, offsetof(struct seccomp_data, args) + c->argument * sizeof(uint64_t));
        emit(p, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, c->mask));
        left -= 3;
        expect(p, c->value == SELF ? (uint32_t)getpid() : c->value, left);
    }
    result(p, allow);
}

static void add_prologue(struct program *p)
{
    load(p, offsetof(struct seccomp_data, arch));
    expect(p, AUDIT_ARCH_X86_64, 2);
    load(p, offsetof(struct seccomp_data, nr));
    emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1));
    result(p, SECCOMP_RET_KILL_PROCESS);
}

int jail_filter_except(enum jail_role role, unsigned rule, struct err *e)
{
    struct program p = {.n = 0};
    add_prologue(&p);
    for (unsigned i = 0; i < *roles[role].n; i++)
        if (i != rule)
            add_rule(&p, &roles[role].rule[i], ALLOW(role, i));
    result(&p, SECCOMP_RET_KILL_PROCESS);
    if (p.n == PROGRAM_MAX)
        return err_set(e, E2BIG, "system call filter '%s' is too long", roles[role].name);
    struct sock_fprog program = {(unsigned short)p.n, p.code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
        return err_set_errno(e, errno, "system call filter '%s'", roles[role].name);
    return 0;
}

int jail_filter(enum jail_role role, struct err *e)
{
    return jail_filter_except(role, UINT32_MAX, e);
}

unsigned jail_filter_rules(enum jail_role role)
{
    return *roles[role].n;
}

const char *jail_filter_rule_text(enum jail_role role, unsigned rule)
{
    return roles[role].rule[rule].text;
}

const char *jail_role_name(enum jail_role role)
{
    return roles[role].name;
}
