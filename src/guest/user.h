/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who a command runs as: the forms of Docker's USER, resolved with the image's own passwd and group
 * files. The files are hostile: bounded line by line, anything malformed is skipped. Pure.
 */
#ifndef GUEST_USER_H
#define GUEST_USER_H

#include <sys/types.h>

#include "base/err.h"

#define USER_GROUPS_MAX 64
#define USER_FILE_MAX (1024 * 1024)

struct user_ids {
    uid_t uid;
    gid_t gid;
    gid_t groups[USER_GROUPS_MAX]; /* supplementary, gid included */
    size_t n_groups;
    char home[256]; /* "/" when nothing better is known */
};

/* spec: "", "user", "uid", "user:group", "uid:gid" and mixtures; passwd and group are the files'
 * texts ("" when missing). Without a group: the user's own group and all that list it. -EINVAL. */
int user_lookup(const char *spec, const char *passwd, const char *group, struct user_ids *ret,
                struct err *e) MUST_CHECK;

#endif
