/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/snapshot/chunks.h"
#include "vmm/snapshot/pager.h"

#define RAM (UINT64_C(16) << 20)
#define CHUNKS (RAM / CHUNK_BYTES)

static struct err e;

static int new_file(void)
{
    int fd = memfd_create("memory", MFD_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

/* Every third chunk has contents that do not compress to nothing; the rest is zero. */
static uint64_t word(uint64_t chunk, uint64_t i)
{
    return chunk % 3 == 0 ? (chunk * 1000003 + i) * UINT64_C(0x9e3779b97f4a7c15) : 0;
}

static int packed_file(void)
{
    static uint64_t buf[CHUNK_BYTES / 8];
    int memory = new_file(), out = new_file();
    for (uint64_t c = 0; c < CHUNKS; c++) {
        for (uint64_t i = 0; i < CHUNK_BYTES / 8; i++)
            buf[i] = word(c, i / 16);
        assert_int_equal(pwrite(memory, buf, sizeof buf, (off_t)(c * CHUNK_BYTES)), sizeof buf);
    }
    assert_int_equal(chunks_pack(memory, out, 1, &e), 0);
    close(memory);
    return out;
}

static void test_chunks_round_trip(void **state)
{
    (void)state;
    struct chunks *c;
    struct stat st;
    int fd = packed_file();
    assert_int_equal(fstat(fd, &st), 0);
    assert_true((uint64_t)st.st_size < RAM / 4);
    assert_int_equal(chunks_open(fd, RAM, &c, &e), 0);
    assert_int_equal(chunks_count(c), CHUNKS);
    for (uint64_t i = 0; i < CHUNKS; i++) {
        const void *p;
        assert_int_equal(chunks_is_zero(c, i), i % 3 != 0);
        if (i % 3)
            continue;
        assert_int_equal(chunks_read(c, i, &p, &e), 0);
        uint64_t v;
        memcpy(&v, (const char *)p + 800, 8);
        assert_true(v == word(i, 100 / 16));
    }
    chunks_close(c);
}

static void test_damaged_chunks(void **state)
{
    (void)state;
    struct chunks *c;
    const void *p;
    assert_int_equal(chunks_open(packed_file(), RAM * 2, &c, &e), -74);
    assert_int_equal(chunks_open(new_file(), RAM, &c, &e), -74);
    int fd = packed_file();
    uint64_t huge = UINT64_MAX;
    assert_int_equal(pwrite(fd, &huge, 8, 24), 8); /* offset of chunk 0 */
    assert_int_equal(chunks_open(fd, RAM, &c, &e), -74);
    fd = packed_file();
    uint32_t bytes = CHUNK_BYTES * 2;
    assert_int_equal(pwrite(fd, &bytes, 4, 32), 4);
    assert_int_equal(chunks_open(fd, RAM, &c, &e), -74);
    fd = packed_file();
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(pwrite(fd, "xxxxxxxx", 8, 24 + (off_t)CHUNKS * 16), 8); /* the first frame */
    assert_int_equal(chunks_open(fd, RAM, &c, &e), 0);
    assert_int_equal(chunks_read(c, 0, &p, &e), -74);
    chunks_close(c);
}

/* The pager's thread does not end: a sanitizer would then make calls that its filter kills for. */
int __real_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*start)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*start)(void *),
                          void *arg);

struct thread {
    void *(*start)(void *);
    void *arg;
};

static void *run_and_stay(void *arg)
{
    struct thread t = *(struct thread *)arg;
    sem_t never;
    sem_init(&never, 0, 0);
    t.start(t.arg);
    while (sem_wait(&never) < 0)
        ; /* a signal */
    return NULL;
}

int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*start)(void *),
                          void *arg)
{
    static struct thread threads[512];
    static unsigned n;
    assert_true(n < ARRAY_LEN(threads));
    threads[n] = (struct thread){start, arg};
    return __real_pthread_create(ret, attr, run_and_stay, &threads[n++]);
}

static unsigned failures;

static void on_failure(void *arg, const char *text)
{
    (void)arg;
    (void)text;
    failures++;
}

/* How many pages were served on demand, all of them being asked for: from the end, against the
 * order in which the rest is fetched. */
static uint64_t serve_all(int uffd, int packed)
{
    struct gmem m;
    struct pager *p;
    assert_int_equal(gmem_reserve(&m, RAM, &e), 0);
    if (pager_new(&m, uffd, on_failure, NULL, &p, &e) < 0)
        fail_msg("%s", e.text);
    if (pager_serve(p, dup(packed), &e) < 0)
        fail_msg("%s", e.text);
    for (uint64_t c = CHUNKS; c-- > 0;) {
        uint64_t v;
        memcpy(&v, m.host + c * CHUNK_BYTES + 800, 8);
        assert_true(v == word(c, 100 / 16));
    }
    assert_int_equal(pager_complete(p, &e), 0);
    assert_int_equal(failures, 0);
    /* What is dropped afterwards is ordinary memory. */
    assert_int_equal(madvise(m.host, CHUNK_BYTES, MADV_DONTNEED), 0);
    assert_int_equal(*(volatile uint64_t *)(void *)m.host, 0);
    return pager_faults(p);
}

/* On a busy machine everything may have been fetched before the first page is touched. */
static void test_served_on_demand_and_completed(void **state)
{
    (void)state;
    uint64_t faults = 0;
    int packed = packed_file();
    for (int i = 0; i < 100 && faults == 0; i++) {
        int uffd = pager_open_uffd();
        if (uffd < 0) {
            print_message("skipped: userfaultfd: %s\n", strerror(-uffd));
            skip();
        }
        faults = serve_all(uffd, packed);
    }
    close(packed);
    assert_true(faults > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks_round_trip),
        cmocka_unit_test(test_damaged_chunks),
        cmocka_unit_test(test_served_on_demand_and_completed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
