/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first clone of a snapshot runs for a moment, then its monitor writes down which pages it has
 * touched; later clones have those pages in place before they run. A hint without a digest: what a
 * monitor reads from it can only cost time. The file has no name until it is complete.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "engine/kvm/machine.h"

/* Long enough for the agent's first words and a request or two. */
enum { RECORD_AFTER_MS = 1500, WORKING_SET_MAX = 4 << 20 };

void vmm_plan_working_set(struct vmm *m, const char *dir)
{
    CLEANUP(cleanup_close)
    int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || faccessat(fd, VMM_WORKING_SET, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return;
    pthread_mutex_lock(&m->life.lock);
    m->working_set_dir = fd;
    fd = -1;
    if (!m->ended_by)
        vmm_set_timer(m, RECORD_AFTER_MS);
    pthread_mutex_unlock(&m->life.lock);
}

/* The clone keeps the descriptor it wrote through; later clones read a file of ours. 0, -errno. */
static int own_copy(int dir, int *file)
{
    static char page[65536]; /* the reaper's thread only */
    CLEANUP(cleanup_close)
    int fd = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    ssize_t n = 1;
    for (off_t at = 0; fd >= 0 && n > 0; at += n) {
        n = at < WORKING_SET_MAX ? pread(*file, page, sizeof page, at) : -1;
        if (n < 0 || (n > 0 && write(fd, page, (size_t)n) != n))
            return -EFBIG;
    }
    if (fd < 0)
        return -errno;
    int theirs = *file;
    *file = fd;
    fd = theirs;
    return 0;
}

static void recorded(struct vmm *m, const struct vmm_call *c)
{
    char self[64];
    bool ours = c->answer.code == 0 && own_copy(m->working_set_dir, &m->working_set_file) == 0;
    snprintf(self, sizeof self, "/proc/self/fd/%d", m->working_set_file);
    /* EEXIST: another clone was first. */
    if (ours &&
        linkat(AT_FDCWD, self, m->working_set_dir, VMM_WORKING_SET, AT_SYMLINK_FOLLOW) < 0 &&
        errno != EEXIST)
        log_debug("engine", "%s: working set: %m", m->life.id);
    cleanup_close(&m->working_set_file);
    cleanup_close(&m->working_set_dir);
    m->working_set_file = m->working_set_dir = -1;
}

void vmm_record_working_set(struct vmm *m)
{
    struct monitor_message msg = vmm_request(MONITOR_WORKING_SET, 1);
    pthread_mutex_lock(&m->life.lock);
    if (m->working_set_dir >= 0 && m->working_set_file < 0)
        m->working_set_file = openat(m->working_set_dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (m->working_set_file >= 0 && vmm_ask_locked(m, &msg, &m->working_set_file, recorded) < 0)
        log_debug("engine", "%s: working set not asked for", m->life.id);
    pthread_mutex_unlock(&m->life.lock);
}
