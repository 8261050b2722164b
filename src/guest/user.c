/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/user.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define FIELDS_MAX 7
#define ID_MAX 4294967294ul /* (uid_t)-1 means "leave alone" to the kernel */

/* Splits the line at *p into at most FIELDS_MAX fields; returns how many and moves *p on. */
static size_t next_line(const char **p, struct slice f[FIELDS_MAX])
{
    const char *s = *p, *end = strchr(s, '\n');
    if (!end)
        end = s + strlen(s);
    *p = *end ? end + 1 : end;
    size_t n = 0;
    while (n < FIELDS_MAX) {
        const char *colon = n + 1 < FIELDS_MAX ? memchr(s, ':', (size_t)(end - s)) : NULL;
        f[n++] = (struct slice){s, (size_t)((colon ? colon : end) - s)};
        if (!colon)
            break;
        s = colon + 1;
    }
    return n;
}

static bool parse_id(struct slice s, uint32_t *ret)
{
    unsigned long v = 0;
    if (s.n == 0 || s.n > 10)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        v = v * 10 + (unsigned long)(s.p[i] - '0');
    }
    *ret = (uint32_t)v;
    return v <= ID_MAX;
}

static bool same(struct slice a, struct slice b)
{
    return a.n == b.n && memcmp(a.p, b.p, a.n) == 0;
}

static bool lists_member(struct slice list, struct slice name)
{
    while (list.n) {
        const char *comma = memchr(list.p, ',', list.n);
        size_t n = comma ? (size_t)(comma - list.p) : list.n;
        if (same((struct slice){list.p, n}, name))
            return true;
        n += comma != NULL;
        list.p += n;
        list.n -= n;
    }
    return false;
}

static void add_group(struct user_ids *u, gid_t gid)
{
    for (size_t i = 0; i < u->n_groups; i++)
        if (u->groups[i] == gid)
            return;
    if (u->n_groups < USER_GROUPS_MAX)
        u->groups[u->n_groups++] = gid;
}

/* The first line that matches by name or by number wins, as in Docker. */
static bool find_user(const char *passwd, struct slice who, struct user_ids *u, struct slice *name)
{
    struct slice f[FIELDS_MAX];
    while (*passwd) {
        uint32_t uid, gid;
        if (next_line(&passwd, f) < 6 || !parse_id(f[2], &uid) || !parse_id(f[3], &gid))
            continue;
        if (!same(f[0], who) && !same(f[2], who))
            continue;
        u->uid = uid;
        u->gid = gid;
        *name = f[0];
        if (f[5].n && f[5].n < sizeof u->home && f[5].p[0] == '/') {
            memcpy(u->home, f[5].p, f[5].n);
            u->home[f[5].n] = '\0';
        }
        return true;
    }
    return false;
}

static bool find_group(const char *group, struct slice which, gid_t *gid)
{
    struct slice f[FIELDS_MAX];
    while (*group) {
        uint32_t id;
        if (next_line(&group, f) < 3 || !parse_id(f[2], &id))
            continue;
        if (same(f[0], which) || same(f[2], which)) {
            *gid = id;
            return true;
        }
    }
    return false;
}

static void add_member_groups(const char *group, struct slice name, struct user_ids *u)
{
    struct slice f[FIELDS_MAX];
    while (*group) {
        uint32_t id;
        if (next_line(&group, f) >= 4 && parse_id(f[2], &id) && lists_member(f[3], name))
            add_group(u, id);
    }
}

int user_lookup(const char *spec, const char *passwd, const char *group, struct user_ids *ret,
                struct err *e)
{
    struct user_ids u = {.home = "/"};
    const char *colon = strchr(spec, ':');
    struct slice who = {spec, colon ? (size_t)(colon - spec) : strlen(spec)};
    struct slice which = slice_from(colon ? colon + 1 : "");
    struct slice name = {"", 0};
    if (who.n == 0)
        who = SLICE("0");
    uint32_t id;
    if (!find_user(passwd, who, &u, &name)) {
        if (!parse_id(who, &id))
            return err_set(e, EINVAL,
                           "unable to find user %.*s: no matching entry in the image's /etc/passwd",
                           (int)(who.n < 64 ? who.n : 64), who.p);
        u.uid = id;
        u.gid = 0;
    }
    if (which.n) {
        if (!find_group(group, which, &u.gid)) {
            if (!parse_id(which, &id))
                return err_set(
                    e, EINVAL,
                    "unable to find group %.*s: no matching entry in the image's /etc/group",
                    (int)(which.n < 64 ? which.n : 64), which.p);
            u.gid = id;
        }
        add_group(&u, u.gid);
    } else {
        add_group(&u, u.gid);
        if (name.n)
            add_member_groups(group, name, &u);
    }
    *ret = u;
    return 0;
}
