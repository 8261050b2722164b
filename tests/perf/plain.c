/* SPDX-License-Identifier: Apache-2.0 */
#include "plain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/tsc.h"
#include "proto/wire.h"

static const char machine[] =
    "microvm,acpi=on,x-option-roms=off,rtc=on,pit=on,pic=on,isa-serial=on,auto-kernel-cmdline=off";
static const char agent_port[] = "virtserialport,chardev=agent,name=" WIRE_PORT_NAME;

static _Noreturn void die(const char *what, const char *why)
{
    fprintf(stderr, "plain QEMU: %s: %s\n", what, why);
    exit(1);
}

static void make_pair(int fd[2])
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0)
        die("socketpair", "failed");
}

/* The next line that is an answer; greetings and events are passed over. */
static void read_answer(int fd)
{
    char line[65536];
    for (size_t n = 0;;) {
        if (n == sizeof line - 1 || read(fd, line + n, 1) != 1)
            die("QMP", "the monitor has gone");
        line[++n] = '\0';
        if (line[n - 1] != '\n')
            continue;
        if (strstr(line, "\"error\"") || strstr(line, "Error"))
            die("QMP", line);
        if (strstr(line, "\"return\""))
            return;
        n = 0;
    }
}

static void command(struct plain *p, const char *text)
{
    if (fs_write_all(p->qmp, text, strlen(text)) < 0)
        die("QMP", "the monitor has gone");
    read_answer(p->qmp);
}

static const char *const FIXED[] = {"qemu-system-x86_64",
                                    "-nodefaults",
                                    "-no-user-config",
                                    "-display",
                                    "none",
                                    "-no-reboot",
                                    "-machine",
                                    machine,
                                    "-bios",
                                    "qboot.rom",
                                    "-cpu",
                                    "max,-la57",
                                    "-accel",
                                    "tcg",
                                    "-global",
                                    "virtio-mmio.force-legacy=false",
                                    "-chardev",
                                    "socket,id=qmp,fd=3",
                                    "-mon",
                                    "chardev=qmp,mode=control",
                                    "-chardev",
                                    "socket,id=agent,fd=4",
                                    "-serial",
                                    "null",
                                    "-device",
                                    "virtio-serial-device,max_ports=2",
                                    "-device",
                                    agent_port,
                                    "-device",
                                    "virtio-rng-device",
                                    "-device",
                                    "virtio-blk-device,drive=d0"};

/* Takes the ends of two pairs. */
static void spawn(struct plain *p, const struct plain_spec *s, int qmp, int channel)
{
    struct err e;
    char drive[600], append[400], memory[32];
    unsigned long long khz = tsc_khz();
    snprintf(drive, sizeof drive, "file=%s,format=qcow2,if=none,id=d0", s->disk);
    snprintf(memory, sizeof memory, "%uM", s->memory_mib);
    snprintf(append, sizeof append,
             "console=ttyS0 quiet panic=-1 reboot=t tsc_early_khz=%llu tsc=reliable "
             "no_timer_check lpj=%llu mitigations=off random.trust_cpu=on",
             khz, khz * 4);
    const char *const own[] = {"-m",
                               memory,
                               "-drive",
                               drive,
                               "-kernel",
                               s->kernel,
                               "-initrd",
                               s->initramfs,
                               "-append",
                               append,
                               s->load ? "-loadvm" : NULL,
                               PLAIN_TAG,
                               NULL};
    const char *argv[ARRAY_LEN(FIXED) + ARRAY_LEN(own)];
    memcpy(argv, FIXED, sizeof FIXED);
    memcpy(argv + ARRAY_LEN(FIXED), own, sizeof own);
    struct proc_spec spec = {.argv = argv, .n_fds = 3, .fds = {{qmp, 3}, {channel, 4}, {2, 2}}};
    if (proc_spawn(&spec, &p->proc, &e) < 0)
        die("start", e.text);
    close(qmp);
    close(channel);
}

void plain_start(struct plain *p, const struct plain_spec *s)
{
    int qmp[2], channel[2];
    make_pair(qmp);
    make_pair(channel);
    p->qmp = qmp[0];
    p->channel = channel[0];
    spawn(p, s, qmp[1], channel[1]);
}

void plain_save(struct plain *p)
{
    command(p, "{\"execute\":\"qmp_capabilities\"}\n");
    command(p, "{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":"
               "\"savevm " PLAIN_TAG "\"}}\n");
}

double memory_mib(pid_t pid, const char *field)
{
    struct err e;
    char path[64], line[64];
    struct buf text = BUF_INIT(16384);
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    snprintf(line, sizeof line, "\n%s:", field);
    if (fs_read_file(path, &text, &e) < 0)
        die("memory", e.text);
    const char *at = strstr(text.data, line);
    double kib = at ? strtod(at + strlen(line), NULL) : 0;
    buf_done(&text);
    return kib / 1024;
}

void plain_end(struct plain *p)
{
    proc_kill(&p->proc);
    close(p->qmp);
    if (p->channel >= 0)
        close(p->channel);
}

static void run(const char *const *argv)
{
    struct err e;
    struct buf out = BUF_INIT(65536);
    if (proc_run(argv, NULL, 120000, &out, &e) < 0)
        die(argv[0], e.text);
    buf_done(&out);
}

void plain_disk(const char *path, const char *raw)
{
    const char *argv[] = {"qemu-img", "create", "-q", "-f", "qcow2", "-F",
                          "raw",      "-b",     raw,  path, NULL};
    run(argv);
}

void plain_copy(const char *from, const char *to)
{
    const char *argv[] = {"cp", "--reflink=auto", "--sparse=always", from, to, NULL};
    run(argv);
}
