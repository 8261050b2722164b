/* SPDX-License-Identifier: Apache-2.0 */
/* A process that writes to its layer is killed at a random moment, again and again: every write
 * that had returned is there, and of the one that had not, each sector is old or new. */
#include "scratch.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { SECTORS = 4096, ROUNDS = 120, LONGEST = 100 };

struct shared {                             /* survives the writer */
    _Atomic uint64_t generation, completed; /* of the last write begun, and finished */
    _Atomic uint64_t first, count;          /* sectors of the last write begun */
    uint64_t expected[SECTORS];             /* generation of each finished sector; 0: from below */
};

static void stamp(unsigned char *p, uint64_t sector, uint64_t generation)
{
    for (size_t i = 0; i < 512; i += 16) {
        memcpy(p + i, &sector, 8);
        memcpy(p + i + 8, &generation, 8);
    }
}

static void write_forever(struct scratch *s, struct shared *m)
{
    static unsigned char buffer[LONGEST * 512];
    struct disk *d = NULL;
    if (scratch_try_open(s, 2, false, false, &d, NULL) < 0)
        _exit(1);
    for (;;) {
        uint64_t first = scratch_random(s, SECTORS), n = 1 + scratch_random(s, LONGEST);
        n = n < SECTORS - first ? n : SECTORS - first;
        atomic_store(&m->first, first);
        atomic_store(&m->count, n);
        uint64_t g = atomic_fetch_add(&m->generation, 1) + 1;
        for (uint64_t i = 0; i < n; i++)
            stamp(buffer + i * 512, first + i, g);
        if (scratch_write(d, buffer, (size_t)n * 512, first * 512) < 0)
            _exit(1);
        for (uint64_t i = 0; i < n; i++)
            m->expected[first + i] = g;
        atomic_store(&m->completed, g);
    }
}

static void verify(const struct scratch *s, struct shared *m)
{
    static unsigned char found[SECTORS * 512];
    unsigned char wanted[512];
    struct disk *d = scratch_open(s, 2, true);
    assert_int_equal(scratch_read(d, found, sizeof found, 0), 0);
    disk_close(d);
    uint64_t first = atomic_load(&m->first), end = first + atomic_load(&m->count);
    for (uint64_t i = 0; i < SECTORS; i++) {
        stamp(wanted, i, m->expected[i]);
        if (memcmp(found + i * 512, wanted, 512) == 0)
            continue;
        stamp(wanted, i, atomic_load(&m->generation));
        assert_memory_equal(found + i * 512, wanted, 512);
        assert_in_range(i, first, end - 1);
        m->expected[i] = atomic_load(&m->generation);
    }
}

static void test_killed(void **state)
{
    (void)state;
    struct scratch s;
    static unsigned char below[SECTORS * 512];
    scratch_begin(&s);
    for (uint64_t i = 0; i < SECTORS; i++)
        stamp(below + i * 512, i, 0);
    scratch_raw(&s, below, sizeof below);
    struct shared *m =
        mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(m, MAP_FAILED);
    uint64_t writes = 0;
    for (int round = 0; round < ROUNDS; round++) {
        char path[SCRATCH_PATH];
        if (round % 2 == 0) { /* while blocks are new, most can go wrong */
            memset(m, 0, sizeof *m);
            unlink(scratch_path(&s, "file", 1, path));
            scratch_layer(&s, 1, sizeof below);
        }
        (void)scratch_random(&s, 2);
        uint64_t before = atomic_load(&m->completed);
        pid_t child = fork();
        if (child == 0)
            write_forever(&s, m);
        usleep(300 + (useconds_t)scratch_random(&s, 5000));
        int status;
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        writes += atomic_load(&m->completed) - before;
        verify(&s, m);
    }
    print_message("%d kills, %llu completed writes\n", ROUNDS, (unsigned long long)writes);
    munmap(m, sizeof *m);
    scratch_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_killed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
