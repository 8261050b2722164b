/* SPDX-License-Identifier: Apache-2.0 */
#include "plain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/argv.h"
#include "engine/tsc.h"
#include "net/policy.h"
#include "proto/wire.h"

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

/* The next line that holds this; greetings, events and answers are passed over. The text is valid
 * until the next call. */
static const char *wait_for(int fd, const char *what)
{
    static _Thread_local char line[65536];
    for (size_t n = 0;;) {
        if (n == sizeof line - 1 || read(fd, line + n, 1) != 1)
            die("QMP", "the monitor has gone");
        line[++n] = '\0';
        if (line[n - 1] != '\n')
            continue;
        if (strstr(line, "\"error\"") || strstr(line, "Error") || strstr(line, "\"failed\""))
            die("QMP", line);
        if (strstr(line, what))
            return line;
        n = 0;
    }
}

static void command(struct plain *p, const char *text)
{
    if (fs_write_all(p->qmp, text, strlen(text)) < 0)
        die("QMP", "the monitor has gone");
    wait_for(p->qmp, "\"return\"");
}

static void greet(struct plain *p)
{
    if (!p->greeted)
        command(p, "{\"execute\":\"qmp_capabilities\"}\n");
    p->greeted = true;
}

/* Of a migration to or from a file; its end is an event. */
static void set_capabilities(struct plain *p, bool ignore_shared)
{
    char text[300];
    snprintf(text, sizeof text,
             "{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":["
             "{\"capability\":\"events\",\"state\":true},"
             "{\"capability\":\"x-ignore-shared\",\"state\":%s}]}}\n",
             ignore_shared ? "true" : "false");
    command(p, text);
}

static void migrate(struct plain *p, const char *how, const char *shell, const char *state)
{
    char text[700];
    snprintf(text, sizeof text, "{\"execute\":\"%s\",\"arguments\":{\"uri\":\"exec:%s%s\"}}\n", how,
             shell, state);
    command(p, text);
    wait_for(p->qmp, "\"completed\"");
}

static void add_all(struct argv *a, const char *const *words)
{
    for (; *words; words++)
        argv_add(a, *words);
}

static void add_ram(struct argv *a, const struct plain_spec *s)
{
    argv_add(a, "-m");
    argv_addf(a, "%uM", s->memory_mib);
    if (!s->kvm)
        return;
    argv_add(a, "-object");
    if (!s->ram)
        argv_addf(a, "memory-backend-ram,id=ram,size=%uM", s->memory_mib);
    else
        argv_addf(a, "memory-backend-file,id=ram,size=%uM,share=%s,mem-path=%s", s->memory_mib,
                  s->state ? "off" : "on", s->ram);
}

static const char net_device[] = "virtio-net-device,netdev=net,mac=" NET_GUEST_MAC;
static const char agent_port[] = "virtserialport,chardev=agent,name=" WIRE_PORT_NAME;

static void add_machine(struct argv *a, const struct plain_spec *s)
{
    static const char *const tcg[] = {"-cpu", "max,-la57", "-accel", "tcg", NULL};
    static const char *const kvm[] = {"-cpu",        "host",    "-accel",   "kvm", "-netdev",
                                      "user,id=net", "-device", net_device, NULL};
    argv_add(a, "-machine");
    argv_addf(a,
              "microvm,acpi=on,x-option-roms=off,rtc=on,pit=on,pic=on,isa-serial=on,"
              "auto-kernel-cmdline=off%s",
              s->kvm ? ",memory-backend=ram" : "");
    add_all(a, s->kvm ? kvm : tcg);
    add_ram(a, s);
}

/* mitigations=off only where there is no speculation; our own monitor's guests have them, too. */
static void add_kernel(struct argv *a, const struct plain_spec *s)
{
    unsigned long long khz = tsc_khz();
    argv_add(a, "-kernel");
    argv_add(a, s->kernel);
    argv_add(a, "-initrd");
    argv_add(a, s->initramfs);
    argv_add(a, "-append");
    argv_addf(a,
              "console=ttyS0 quiet panic=-1 reboot=t tsc_early_khz=%llu tsc=reliable "
              "no_timer_check lpj=%llu %srandom.trust_cpu=on",
              khz, khz * 4, s->kvm ? "" : "mitigations=off ");
}

static void add_devices(struct argv *a, const struct plain_spec *s)
{
    static const char *const words[] = {"-global",  "virtio-mmio.force-legacy=false",
                                        "-chardev", "socket,id=qmp,fd=3",
                                        "-mon",     "chardev=qmp,mode=control",
                                        "-chardev", "socket,id=agent,fd=4",
                                        "-serial",  "null",
                                        "-device",  "virtio-serial-device,max_ports=2",
                                        "-device",  agent_port,
                                        "-device",  "virtio-rng-device",
                                        "-device",  "virtio-blk-device,drive=d0",
                                        "-drive",   NULL};
    add_all(a, words);
    argv_addf(a, "file=%s,format=qcow2,if=none,id=d0", s->disk);
}

static void spawn(struct plain *p, const struct plain_spec *s, int qmp, int channel)
{
    static const char *const base[] = {
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
        "-no-reboot",         "-bios",       "qboot.rom",       NULL};
    struct err e = {0};
    struct argv a = {0};
    add_all(&a, base);
    add_machine(&a, s);
    add_devices(&a, s);
    if (s->state)
        add_all(&a, (const char *const[]){"-incoming", "defer", NULL});
    else
        add_kernel(&a, s);
    if (s->load)
        add_all(&a, (const char *const[]){"-loadvm", PLAIN_TAG, NULL});
    struct proc_spec spec = {
        .argv = argv_end(&a, &e), .n_fds = 3, .fds = {{qmp, 3}, {channel, 4}, {2, 2}}};
    if (!spec.argv || proc_spawn(&spec, &p->proc, &e) < 0)
        die("start", e.text);
    argv_done(&a);
}

void plain_start(struct plain *p, const struct plain_spec *s)
{
    int qmp[2], channel[2];
    make_pair(qmp);
    make_pair(channel);
    *p = (struct plain){.qmp = qmp[0], .channel = channel[0]};
    spawn(p, s, qmp[1], channel[1]);
    close(qmp[1]);
    close(channel[1]);
    if (!s->state)
        return;
    greet(p);
    set_capabilities(p, s->ram);
    migrate(p, "migrate-incoming", "cat ", s->state);
    command(p, "{\"execute\":\"cont\"}\n");
}

void plain_freeze(struct plain *p, const char *state, bool with_ram)
{
    greet(p);
    command(p, "{\"execute\":\"stop\"}\n");
    set_capabilities(p, !with_ram);
    /* The default keeps to a rate that suits networks. */
    command(p, "{\"execute\":\"migrate-set-parameters\",\"arguments\":{\"max-bandwidth\":"
               "1099511627776}}\n");
    migrate(p, "migrate", "cat >", state);
}

void plain_save(struct plain *p)
{
    greet(p);
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
