/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/monitor.h"

struct pair {
    int a, b;
};

static struct pair make_pair(void)
{
    int fd[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
    return (struct pair){fd[0], fd[1]};
}

static int lowest_free(void)
{
    int fd = dup(0);
    close(fd);
    return fd;
}

static struct monitor_message message(uint32_t type, uint32_t n_fds)
{
    return (struct monitor_message){
        .protocol = MONITOR_PROTOCOL, .type = type, .sequence = 7, .n_fds = n_fds};
}

static void a_message_arrives_with_its_descriptors(void **state)
{
    (void)state;
    struct pair p = make_pair();
    int pipe_fd[2], fds[MONITOR_FDS_MAX];
    char byte = 0;
    assert_int_equal(pipe(pipe_fd), 0);
    struct monitor_message m = message(MONITOR_SAVE, 2), got;
    m.save.all = 1;
    assert_int_equal(monitor_send(p.a, &m, (int[]){pipe_fd[1], pipe_fd[0]}), 0);
    assert_int_equal(monitor_receive(p.b, &got, fds), 0);
    assert_memory_equal(&got, &m, sizeof m);
    assert_int_equal(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
    assert_int_equal(write(fds[0], "x", 1), 1);
    assert_int_equal(read(pipe_fd[0], &byte, 1), 1);
    assert_int_equal(byte, 'x');
    assert_int_equal(monitor_receive(p.b, &got, fds), -EAGAIN);
    int all[] = {fds[0], fds[1], pipe_fd[0], pipe_fd[1], p.a, p.b};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        close(all[i]);
}

static void the_largest_set_of_descriptors_passes(void **state)
{
    (void)state;
    struct pair p = make_pair();
    int sent[MONITOR_LAYERS_MAX], fds[MONITOR_FDS_MAX];
    struct monitor_message m = message(MONITOR_DISK, MONITOR_LAYERS_MAX), got;
    m.disk.n_layers = MONITOR_LAYERS_MAX;
    for (size_t i = 0; i < ARRAY_LEN(sent); i++)
        sent[i] = p.a;
    assert_int_equal(monitor_send(p.a, &m, sent), 0);
    assert_int_equal(monitor_receive(p.b, &got, fds), 0);
    assert_int_equal(got.n_fds, MONITOR_LAYERS_MAX);
    for (uint32_t i = 0; i < got.n_fds; i++)
        close(fds[i]);
    m.n_fds = MONITOR_FDS_MAX + 1;
    assert_int_equal(monitor_send(p.a, &m, sent), -EINVAL);
    close(p.a);
    close(p.b);
}

static void the_end_of_the_peer_is_a_broken_pipe(void **state)
{
    (void)state;
    struct pair p = make_pair();
    int fds[MONITOR_FDS_MAX];
    struct monitor_message m = message(MONITOR_RUN, 0);
    close(p.a);
    assert_int_equal(monitor_send(p.b, &m, NULL), -EPIPE);
    assert_int_equal(monitor_receive(p.b, &m, fds), -EPIPE);
    close(p.b);
}

/* Sends n bytes of m with one descriptor; what was received must not stay open. */
static int receive_odd(const struct monitor_message *m, size_t n)
{
    struct pair p = make_pair();
    char bytes[sizeof *m + 8] = {0};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    int fds[MONITOR_FDS_MAX], before = lowest_free();
    struct monitor_message got;
    memcpy(bytes, m, sizeof *m);
    struct iovec io = {bytes, n};
    struct msghdr msg = {.msg_iov = &io,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof control.bytes};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    *c = (struct cmsghdr){
        .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(c), &p.a, sizeof p.a);
    assert_int_equal(sendmsg(p.a, &msg, 0), n);
    int r = monitor_receive(p.b, &got, fds);
    if (r == 0)
        close(fds[0]);
    assert_int_equal(lowest_free(), before);
    close(p.a);
    close(p.b);
    return r;
}

static void a_packet_of_another_size_or_count_is_refused(void **state)
{
    (void)state;
    struct monitor_message m = message(MONITOR_NET, 1);
    assert_int_equal(receive_odd(&m, sizeof m), 0);
    assert_int_equal(receive_odd(&m, sizeof m - 1), -EPROTO);
    assert_int_equal(receive_odd(&m, sizeof m + 1), -EPROTO);
    assert_int_equal(receive_odd(&m, 4), -EPROTO);
    m.n_fds = 0;
    assert_int_equal(receive_odd(&m, sizeof m), -EPROTO);
    m = message(MONITOR_RUN, 1);
    assert_int_equal(receive_odd(&m, sizeof m), -EPROTO);
    m = message(MONITOR_NET, 1);
    m.protocol++;
    assert_int_equal(receive_odd(&m, sizeof m), -EPROTO);
}

static void more_descriptors_than_fit_are_refused(void **state)
{
    (void)state;
    struct pair p = make_pair();
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * 100)];
    } control = {0};
    int fds[100], got_fds[MONITOR_FDS_MAX], before = lowest_free();
    struct monitor_message m = message(MONITOR_DISK, 64), got;
    m.disk.n_layers = 64;
    struct iovec io = {&m, sizeof m};
    struct msghdr msg = {.msg_iov = &io,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof control.bytes};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    *c = (struct cmsghdr){
        .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fds)};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        fds[i] = p.a;
    memcpy(CMSG_DATA(c), fds, sizeof fds);
    assert_int_equal(sendmsg(p.a, &msg, 0), sizeof m);
    assert_int_equal(monitor_receive(p.b, &got, got_fds), -EPROTO);
    assert_int_equal(lowest_free(), before);
    close(p.a);
    close(p.b);
}

static void every_type_has_a_name_and_a_check(void **state)
{
    (void)state;
    unsigned known = 0;
    for (uint32_t type = 0; type < 300; type++) {
        struct monitor_message m = message(type, MONITOR_FDS_MAX + 1);
        assert_int_equal(monitor_check(&m), -EPROTO);
        known += strcmp(monitor_type_name(type), "?") != 0;
    }
    assert_int_equal(known, MONITOR_QUIT + 2);
    for (uint32_t ev = MONITOR_EVENT_POWEROFF; ev <= MONITOR_EVENT_DEVICE_BROKEN; ev++)
        assert_string_not_equal(monitor_event_name(ev), "?");
    assert_string_equal(monitor_event_name(0), "?");
    assert_string_equal(monitor_event_name(MONITOR_EVENT_DEVICE_BROKEN + 1), "?");
    assert_string_equal(monitor_type_name(MONITOR_WORKING_SET), "WORKING_SET");
}

static int check_fds(struct monitor_message m, uint32_t n_fds)
{
    m.n_fds = n_fds;
    return monitor_check(&m);
}

static void descriptors_must_be_those_the_message_names(void **state)
{
    (void)state;
    struct monitor_message m = message(MONITOR_RESTORE, 0);
    assert_int_equal(check_fds(m, 1), 0);
    assert_int_equal(check_fds(m, 2), -EPROTO);
    m.restore.flags = MONITOR_HAS_PAGES | MONITOR_IS_CLONE;
    assert_int_equal(check_fds(m, 2), 0);
    assert_int_equal(check_fds(m, 1), -EPROTO);
    m = message(MONITOR_FORK, 0);
    m.save.disks = 5;
    assert_int_equal(check_fds(m, 4), 0);
    assert_int_equal(check_fds(m, 3), -EPROTO);
    m.save.disks = 1u << MONITOR_DISKS_MAX;
    assert_int_equal(check_fds(m, 3), -EPROTO);
    m = message(MONITOR_BOOT, 0);
    m.boot.has_initrd = 1;
    assert_int_equal(check_fds(m, 2), 0);
    m.boot.has_initrd = UINT32_MAX;
    assert_int_equal(check_fds(m, 0), -EPROTO);
    m = message(MONITOR_MEMORY, 0);
    assert_int_equal(check_fds(m, 0), 0);
    assert_int_equal(check_fds(m, 1), -EPROTO);
    m.memory.kind = MONITOR_MEMORY_FILE;
    assert_int_equal(check_fds(m, 1), 0);
    m.memory.kind = 9;
    assert_int_equal(check_fds(m, 1), -EPROTO);
    m = message(MONITOR_DISK, 0);
    m.disk.n_layers = 2;
    assert_int_equal(check_fds(m, 2), 0);
    m.disk.index = MONITOR_DISKS_MAX;
    assert_int_equal(check_fds(m, 2), -EPROTO);
}

static void a_text_without_an_end_is_refused(void **state)
{
    (void)state;
    struct monitor_message m = message(MONITOR_ANSWER, 0);
    memset(m.answer.text, 'a', sizeof m.answer.text);
    assert_int_equal(monitor_check(&m), -EPROTO);
    m.answer.text[sizeof m.answer.text - 1] = '\0';
    assert_int_equal(monitor_check(&m), 0);
    m = message(MONITOR_EVENT, 0);
    memset(m.notice.text, 'a', sizeof m.notice.text);
    assert_int_equal(monitor_check(&m), -EPROTO);
    m = message(MONITOR_BOOT, 1);
    memset(m.boot.cmdline, 'a', sizeof m.boot.cmdline);
    assert_int_equal(monitor_check(&m), -EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_arrives_with_its_descriptors),
        cmocka_unit_test(the_largest_set_of_descriptors_passes),
        cmocka_unit_test(the_end_of_the_peer_is_a_broken_pipe),
        cmocka_unit_test(a_packet_of_another_size_or_count_is_refused),
        cmocka_unit_test(more_descriptors_than_fit_are_refused),
        cmocka_unit_test(every_type_has_a_name_and_a_check),
        cmocka_unit_test(descriptors_must_be_those_the_message_names),
        cmocka_unit_test(a_text_without_an_end_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
