/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/devices.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/init.h"

#define ANY 0xffffffffu

struct rule {
    bool allow;
    uint32_t major, minor;
};

/* Character devices Docker allows; minor ANY = all. */
static const struct rule DOCKER[] = {
    {true, 1, 3}, {true, 1, 5}, {true, 1, 7}, {true, 1, 8},
    {true, 1, 9}, {true, 5, 0}, {true, 5, 2}, {true, 136, ANY},
};

/* /dev/mem, /dev/kmem, /dev/port; the last row is the channel's major number. */
static const struct rule FORBIDDEN[] = {
    {false, 1, 1}, {false, 1, 2}, {false, 1, 4}, {false, 0, ANY}};

#define PROG_MAX 64
#define TASKS_PER_MIB 8

struct prog {
    struct bpf_insn insn[PROG_MAX];
    size_t n;
};

static void put(struct prog *p, uint8_t code, uint8_t dst, uint8_t src, int16_t off, int32_t imm)
{
    struct bpf_insn *i = &p->insn[p->n++];
    *i = (struct bpf_insn){.code = code, .off = off, .imm = imm};
    i->dst_reg = dst & 0xfu;
    i->src_reg = src & 0xfu;
}

static void put_return(struct prog *p, bool allow)
{
    put(p, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, allow);
    put(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

/* if (major == m [&& minor == n]) return allow; */
static void put_rule(struct prog *p, const struct rule *r)
{
    bool minor = r->minor != ANY;
    put(p, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_3, 0, minor ? 3 : 2, (int32_t)r->major);
    if (minor)
        put(p, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_4, 0, 2, (int32_t)r->minor);
    put_return(p, r->allow);
}

/* struct bpf_cgroup_dev_ctx: u32 access_type (type in the low half), major, minor. */
static void build(struct prog *p, bool all, uint32_t channel_major)
{
    put(p, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_2, BPF_REG_1, 0, 0);
    put(p, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_3, BPF_REG_1, 4, 0);
    put(p, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_4, BPF_REG_1, 8, 0);
    put(p, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_5, BPF_REG_2, 0, 0);
    /* mknod alone is harmless: opening is what is checked */
    put(p, BPF_ALU64 | BPF_RSH | BPF_K, BPF_REG_5, 0, 0, 16);
    put(p, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_5, 0, 2, BPF_DEVCG_ACC_MKNOD);
    put_return(p, true);
    put(p, BPF_ALU64 | BPF_AND | BPF_K, BPF_REG_2, 0, 0, 0xffff);
    put(p, BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_2, 0, 2, BPF_DEVCG_DEV_CHAR);
    put_return(p, all); /* block devices */
    if (all) {
        for (size_t i = 0; i < ARRAY_LEN(FORBIDDEN); i++) {
            struct rule r = FORBIDDEN[i];
            if (r.major == 0)
                r.major = channel_major;
            put_rule(p, &r);
        }
    } else {
        for (size_t i = 0; i < ARRAY_LEN(DOCKER); i++)
            put_rule(p, &DOCKER[i]);
    }
    put_return(p, all);
}

static int attach(int cgroup, const struct prog *p, struct err *e)
{
    static const char license[] = "Apache-2.0";
    union bpf_attr load = {0};
    load.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    load.insns = (uint64_t)(uintptr_t)p->insn;
    load.insn_cnt = (uint32_t)p->n;
    load.license = (uint64_t)(uintptr_t)license;
    CLEANUP(cleanup_close)
    int prog = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load);
    if (prog < 0)
        return err_set_errno(e, errno, "the kernel refuses the device program");
    union bpf_attr at = {0};
    at.target_fd = (uint32_t)cgroup;
    at.attach_bpf_fd = (uint32_t)prog;
    at.attach_type = BPF_CGROUP_DEVICE;
    if (syscall(SYS_bpf, BPF_PROG_ATTACH, &at, sizeof at) < 0)
        return err_set_errno(e, errno, "cannot attach the device program");
    return 0;
}

/* A fork bomb must leave room for the agent: eight tasks per MiB of memory, 4096 in 512 MiB. */
static int limit_tasks(int cgroup, struct err *e)
{
    char text[32];
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    int n = snprintf(text, sizeof text, "%ld", pages / ((1 << 20) / size) * TASKS_PER_MIB);
    CLEANUP(cleanup_close) int fd = openat(cgroup, "pids.max", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, (size_t)n) != n)
        return err_set_errno(e, errno, "cannot limit the number of tasks");
    return 0;
}

int devices_make_cgroup(const char *path, bool all, struct err *e)
{
    if (mkdir(path, 0755) < 0) {
        if (errno == EEXIST)
            return 0; /* made, and protected, by an earlier start */
        return err_set_errno(e, errno, "cannot make cgroup %s", path);
    }
    CLEANUP(cleanup_close)
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_set_errno(e, errno, "cannot open cgroup %s", path);
    struct prog p = {.n = 0};
    build(&p, all, init_port_major());
    int r = attach(fd, &p, e);
    if (r == 0)
        r = limit_tasks(fd, e);
    if (r < 0)
        rmdir(path);
    return r;
}
