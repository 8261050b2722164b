/* SPDX-License-Identifier: Apache-2.0 */
#include "fake.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "engine/engine.h"
#include "proto/agent_client.h"
#include "proto/wire.h"

struct fake fake = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

struct engine_machine {
    struct engine_spec spec;
    bool alive; /* with fake.lock */
    struct agent *session;
};

struct agent {
    atomic_int refs;
    bool dead; /* with fake.lock */
};

struct agent_stream {
    struct agent *a;
};

static struct engine_machine *current; /* with fake.lock: the last machine that was made */

void fake_reset(void)
{
    pthread_mutex_lock(&fake.lock);
    fake = (struct fake){.lock = fake.lock, .changed = fake.changed, .machines = fake.machines};
    pthread_mutex_unlock(&fake.lock);
}

void fake_set(bool *flag, bool value)
{
    pthread_mutex_lock(&fake.lock);
    *flag = value;
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
}

void fake_await(const bool *flag)
{
    pthread_mutex_lock(&fake.lock);
    while (!*flag)
        pthread_cond_wait(&fake.changed, &fake.lock);
    pthread_mutex_unlock(&fake.lock);
}

/* Lock held. */
static void hold(const bool *while_true)
{
    while (*while_true) {
        fake.holding = true;
        pthread_cond_broadcast(&fake.changed);
        pthread_cond_wait(&fake.changed, &fake.lock);
    }
    fake.holding = false;
}

static void end_session(struct engine_machine *m)
{
    if (m->session)
        m->session->dead = true;
    m->session = NULL;
    pthread_cond_broadcast(&fake.changed);
}

void fake_break_session(void)
{
    pthread_mutex_lock(&fake.lock);
    end_session(current);
    pthread_mutex_unlock(&fake.lock);
}

void fake_kill_machine(const char *why)
{
    struct engine_exit x = {0};
    snprintf(x.text, sizeof x.text, "%s", why);
    pthread_mutex_lock(&fake.lock);
    struct engine_machine *m = current;
    m->alive = false;
    end_session(m);
    pthread_mutex_unlock(&fake.lock);
    m->spec.on_exit(m->spec.on_exit_arg, &x);
}

/* ---- engine -----------------------------------------------------------------------------------
 */

static int new_machine(const struct engine_spec *s, struct engine_machine **ret)
{
    struct engine_machine *m = calloc(1, sizeof *m);
    m->spec = *s;
    m->alive = true;
    current = m;
    fake.machines++;
    *ret = m;
    return 0;
}

int engine_restore(struct engine *en, const struct engine_spec *s, const char *dir,
                   struct engine_machine **ret, struct err *e)
{
    (void)en, (void)dir, (void)e;
    pthread_mutex_lock(&fake.lock);
    fake.restores++;
    hold(&fake.hold_restore);
    int r = new_machine(s, ret);
    pthread_mutex_unlock(&fake.lock);
    return r;
}

int engine_resume(struct engine *en, const struct engine_spec *s, const char *dir,
                  struct engine_machine **ret, struct err *e)
{
    (void)en;
    pthread_mutex_lock(&fake.lock);
    fake.resumes++;
    int fail = fake.fail_resume, r = 0;
    bool touch = fake.write_on_resume;
    if (fail)
        r = err_set(e, fail, "resume of %s refused", dir);
    else
        r = new_machine(s, ret);
    pthread_mutex_unlock(&fake.lock);
    if (touch) {
        usleep(20000);
        CLEANUP(cleanup_close) int fd = open(s->disks[0].path, O_WRONLY | O_APPEND);
        if (write(fd, "x", 1) != 1)
            abort();
    }
    return r;
}

int engine_suspend(struct engine_machine *m, const char *dir, struct err *e)
{
    char path[1024];
    pthread_mutex_lock(&fake.lock);
    fake.suspends++;
    while (fake.hold_suspend && m->alive) {
        fake.holding = true;
        pthread_cond_broadcast(&fake.changed);
        pthread_cond_wait(&fake.changed, &fake.lock);
    }
    int fail = m->alive ? fake.fail_suspend : EPIPE;
    if (!fail)
        m->alive = false;
    pthread_mutex_unlock(&fake.lock);
    if (fail)
        return err_set(e, fail, "suspend refused");
    snprintf(path, sizeof path, "%s/manifest.json", dir);
    int r = fs_mkdir_p(dir, 0700, e);
    return r < 0 ? r : fs_write_file(path, "{}", 2, 0600, e);
}

bool engine_machine_alive(const struct engine_machine *m)
{
    pthread_mutex_lock(&fake.lock);
    bool alive = m->alive;
    pthread_mutex_unlock(&fake.lock);
    return alive;
}

void engine_machine_kill(struct engine_machine *m)
{
    pthread_mutex_lock(&fake.lock);
    m->alive = false;
    end_session(m);
    pthread_mutex_unlock(&fake.lock);
}

void engine_machine_free(struct engine_machine *m)
{
    if (!m)
        return;
    engine_machine_kill(m);
    pthread_mutex_lock(&fake.lock);
    fake.machines--;
    if (current == m)
        current = NULL;
    pthread_mutex_unlock(&fake.lock);
    free(m);
}

int engine_channel(struct engine_machine *m, struct err *e)
{
    return engine_machine_alive(m) ? open("/dev/null", O_RDWR | O_CLOEXEC)
                                   : err_set(e, EPIPE, "the machine is gone");
}

int engine_machine_stats(struct engine_machine *m, struct engine_stats *ret, struct err *e)
{
    (void)m, (void)e;
    *ret = (struct engine_stats){0};
    return 0;
}

int engine_machine_network(struct engine_machine *m, bool open, struct err *e)
{
    (void)open;
    return engine_machine_alive(m) ? 0 : err_set(e, EPIPE, "the machine is gone");
}

int engine_machine_unpause(struct engine_machine *m, struct err *e)
{
    return engine_machine_alive(m) ? 0 : err_set(e, EPIPE, "the machine is gone");
}

int engine_disk_overlay(struct engine *en, const char *path, const char *base,
                        enum engine_disk_format format, uint64_t bytes, struct err *e)
{
    (void)en, (void)base, (void)format, (void)bytes;
    return fs_write_file(path, "disk", 4, 0600, e);
}

int engine_boot(struct engine *en, const struct engine_spec *s, struct engine_machine **ret,
                struct err *e)
{
    (void)en, (void)s, (void)ret;
    return err_set(e, ENOTSUP, "no builds here");
}

int engine_snapshot(struct engine_machine *m, const char *dir, struct err *e)
{
    (void)m, (void)dir;
    return err_set(e, ENOTSUP, "no builds here");
}

int engine_disk_create(struct engine *en, const char *path, uint64_t bytes, struct err *e)
{
    (void)en, (void)path, (void)bytes;
    return err_set(e, ENOTSUP, "no builds here");
}

int engine_disk_flatten(struct engine *en, const char *overlay, const char *raw, struct err *e)
{
    (void)en, (void)overlay, (void)raw;
    return err_set(e, ENOTSUP, "no builds here");
}

const char *engine_name(const struct engine *en)
{
    (void)en;
    return "fake";
}

const char *engine_version(const struct engine *en)
{
    (void)en;
    return "1";
}

/* ---- agent ------------------------------------------------------------------------------------
 */

int agent_open(struct loop *l, int fd, int timeout_ms, struct agent **ret, struct err *e)
{
    (void)l, (void)timeout_ms;
    close(fd);
    struct agent *a = calloc(1, sizeof *a);
    atomic_init(&a->refs, 1);
    pthread_mutex_lock(&fake.lock);
    bool alive = current && current->alive;
    if (alive)
        current->session = a;
    pthread_mutex_unlock(&fake.lock);
    if (!alive) {
        free(a);
        return err_set(e, EPIPE, "the machine is gone");
    }
    *ret = a;
    return 0;
}

static void die(struct agent *a)
{
    pthread_mutex_lock(&fake.lock);
    a->dead = true;
    if (current && current->session == a)
        current->session = NULL;
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
}

void agent_close(struct agent *a)
{
    if (a)
        die(a);
}

struct agent *agent_ref(struct agent *a)
{
    atomic_fetch_add(&a->refs, 1);
    return a;
}

void agent_unref(struct agent *a)
{
    if (!a || atomic_fetch_sub(&a->refs, 1) != 1)
        return;
    die(a);
    free(a);
}

bool agent_is_dead(const struct agent *a)
{
    pthread_mutex_lock(&fake.lock);
    bool dead = a->dead;
    pthread_mutex_unlock(&fake.lock);
    return dead;
}

int agent_call(struct agent *a, const char *method, const char *path, const json_t *body,
               int timeout_ms, json_t **ret, struct err *e)
{
    (void)method, (void)body, (void)timeout_ms;
    pthread_mutex_lock(&fake.lock);
    while (!a->dead && fake.mute && strcmp(path, WIRE_RESUMED) != 0) {
        fake.holding = true;
        pthread_cond_broadcast(&fake.changed);
        pthread_cond_wait(&fake.changed, &fake.lock);
    }
    bool dead = a->dead;
    pthread_mutex_unlock(&fake.lock);
    if (dead)
        return err_set(e, EPIPE, "the session ended");
    if (ret)
        *ret = json_pack("{s:i}", "status", 200);
    return 0;
}

int agent_stream_open(struct agent *a, const char *method, const char *path,
                      struct agent_stream **ret, struct err *e)
{
    (void)method, (void)path, (void)e;
    *ret = calloc(1, sizeof **ret);
    (*ret)->a = agent_ref(a);
    return 0;
}

int agent_stream_next(struct agent_stream *s, struct buf *payload, int timeout_ms, struct err *e)
{
    (void)payload, (void)timeout_ms;
    pthread_mutex_lock(&fake.lock);
    while (!s->a->dead)
        pthread_cond_wait(&fake.changed, &fake.lock);
    pthread_mutex_unlock(&fake.lock);
    return err_set(e, EPIPE, "the session ended");
}

void agent_stream_free(struct agent_stream *s)
{
    agent_unref(s->a);
    free(s);
}

bool agent_stream_room(struct agent_stream *s)
{
    (void)s;
    return true;
}

int agent_stream_send(struct agent_stream *s, int type, const void *p, size_t n, struct err *e)
{
    (void)s, (void)type, (void)p, (void)n, (void)e;
    return 0;
}

int agent_stream_send_end(struct agent_stream *s, struct err *e)
{
    (void)s, (void)e;
    return 0;
}
