/* SPDX-License-Identifier: Apache-2.0 */
#include "api/replay.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/digest.h"
#include "base/log.h"

#define WAIT_MS 10000

/* Signalled whenever any token is settled: simultaneous calls with one token are rare, so one
 * condition for all of them is enough. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t settled = PTHREAD_COND_INITIALIZER;

static void params_digest(const json_t *in, char out[SHA256_HEX_LEN + 1])
{
    CLEANUP(cleanup_json)
    json_t *copy = json_copy((json_t *)(uintptr_t)in);
    json_object_del(copy, "clientToken");
    CLEANUP(cleanup_free)
    char *text = json_dumps(copy, JSON_COMPACT | JSON_SORT_KEYS);
    if (!text)
        abort();
    sha256_hex_of(text, strlen(text), out);
}

int replay_claim(struct op_call *c, char **resource, struct err *e)
{
    const char *token = json_get_str(c->in, "clientToken");
    if (!token)
        return 1;
    char digest[SHA256_HEX_LEN + 1];
    params_digest(c->in, digest);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_MS / 1000;
    int r, late = 0;
    pthread_mutex_lock(&lock);
    for (;;) {
        r = store_token_claim(c->api->store, c->op->name, token, digest, resource, e);
        if (r != 0 || *resource || late)
            break;
        late = pthread_cond_timedwait(&settled, &lock, &until);
    }
    pthread_mutex_unlock(&lock);
    if (r == 0 && !*resource)
        return err_set(e, EBUSY, "The first request with this client token has not ended");
    if (r == -EBUSY)
        return err_set(e, EBUSY,
                       "The client token was already used by a request with other parameters");
    return r;
}

void replay_settle(struct op_call *c, const char *resource)
{
    const char *token = json_get_str(c->in, "clientToken");
    if (!token)
        return;
    struct err e = {0};
    int r = resource ? store_token_set(c->api->store, c->op->name, token, resource, &e)
                     : store_token_drop(c->api->store, c->op->name, token, &e);
    if (r < 0)
        log_warn("api", "%s: client token not recorded: %s", c->op->name, e.text);
    pthread_mutex_lock(&lock);
    pthread_cond_broadcast(&settled);
    pthread_mutex_unlock(&lock);
}
