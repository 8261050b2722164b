/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What keeps the service from growing for ever, at start-up and once an hour: VMs that ended longer
 * ago than the retention are forgotten with their logs, client tokens and scans of archives nobody
 * built lately too, and the step cache is cut to its limit.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "microvm/internal.h"

#define TOKEN_RETENTION_MS (24LL * 3600 * 1000)
#define SCAN_RETENTION_S (30LL * 24 * 3600)

/* Removes the files of a directory that were last changed before a time. */
static void remove_old_files(const char *dir, int64_t before_s,
                             bool (*keep)(struct microvm_service *s, const char *name),
                             struct microvm_service *s)
{
    DIR *d = opendir(dir);
    for (struct dirent *ent; d && (ent = readdir(d));) {
        struct stat st;
        if (fstatat(dirfd(d), ent->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
            st.st_mtim.tv_sec >= before_s || (keep && keep(s, ent->d_name)))
            continue;
        if (unlinkat(dirfd(d), ent->d_name, 0) < 0)
            log_warn("housekeeping", "%s/%s: %s", dir, ent->d_name, strerror(errno));
    }
    if (d)
        closedir(d);
}

/* "<microvm id>.log" of a VM that is still known: a suspended one may say more. */
static bool log_is_wanted(struct microvm_service *s, const char *name)
{
    struct store_microvm row = {0};
    char id[128];
    size_t n = strlen(name);
    if (n < 5 || n - 4 >= sizeof id)
        return false;
    memcpy(id, name, n - 4);
    id[n - 4] = '\0';
    int r = store_microvm_get(s->cfg.store, id, &row, NULL);
    store_microvm_done(&row);
    return r != -ENOENT;
}

void housekeeping_run(struct microvm_service *s)
{
    char dir[1024];
    struct err e = {0};
    int64_t now = clock_real_ms();
    if (store_microvm_purge(s->cfg.store, now - s->cfg.retention_s * 1000, &e) < 0 ||
        store_token_purge(s->cfg.store, now - TOKEN_RETENTION_MS, &e) < 0)
        log_warn("housekeeping", "%s", e.text);
    snprintf(dir, sizeof dir, "%s/logs/microvm", s->cfg.data_dir);
    remove_old_files(dir, now / 1000 - s->cfg.retention_s, log_is_wanted, s);
    snprintf(dir, sizeof dir, "%s/scans", s->cfg.data_dir);
    remove_old_files(dir, now / 1000 - SCAN_RETENTION_S, NULL, s);
    layers_shrink(s);
}

static void run(void *arg)
{
    housekeeping_run(arg);
}

void housekeeping_submit(struct microvm_service *s)
{
    if (workers_submit(s->operations, run, s) < 0)
        log_debug("housekeeping", "no thread for it: next time");
}
