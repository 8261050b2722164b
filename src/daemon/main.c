/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tinderboxd: puts the layers together.
 *
 * Theory of operation: everything is opened in the order it depends on each other, recovery
 * included, before the first listener answers; <home>/run/daemon.json tells clients where the
 * listeners are and appears last. The main thread is the loop thread. SIGTERM and SIGINT start an
 * orderly end on a thread of its own: listeners stop, running VMs are suspended, builds are
 * interrupted, then the loop ends. SIGKILL is fine too: recovery is what start-up does.
 *
 * Threads: the loop; API workers (one request each); operation and build threads (src/microvm);
 * the spawner (base/proc) and the engine's reaper.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/api.h"
#include "api/s3.h"
#include "auth/keys.h"
#include "base/fs.h"
#include "base/log.h"
#include "daemon/config.h"
#include "http/service.h"
#include "proxy/backend.h"
#include "proxy/proxy.h"

#define API_THREADS 64 /* an exec may hold one for long */
#define API_QUEUE 512
#define BODY_TIMEOUT_MS 60000
#define IN_MEMORY_BODY (256U << 10)

struct daemon {
    struct config cfg;
    char path[1024];  /* scratch for start-up */
    char spool[1024]; /* large request bodies; the services keep the pointer */
    int lock_fd;
    struct auth_keys keys;
    struct loop *loop;
    struct store *store;
    struct engine *engine;
    struct microvm_service *microvms;
    struct api *api;
    struct s3 *s3;
    struct workers *workers;
    struct http_service *api_service, *s3_service;
    struct http_server *api_server, *s3_server, *endpoint_server;
    struct proxy_machines machines;
    struct proxy *proxy;
    SSL_CTX *tls;
    uv_signal_t on_term, on_int;
    pthread_t ender;
    bool ending;
    unsigned servers_open; /* with lock; while ending */
    pthread_mutex_t lock;
    pthread_cond_t servers_closed; /* with lock: servers_open reached 0 */
};

static const char *at_home(struct daemon *d, const char *sub)
{
    snprintf(d->path, sizeof d->path, "%s/%s", d->cfg.home, sub);
    return d->path;
}

/* One daemon per home: two would take each other's VMs for orphans. */
static int take_lock(struct daemon *d, struct err *e)
{
    int r = fs_mkdir_p(at_home(d, "run"), 0700, e);
    if (r < 0)
        return r;
    d->lock_fd = open(at_home(d, "run/lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (d->lock_fd < 0)
        return err_set_errno(e, errno, "%s", d->path);
    if (flock(d->lock_fd, LOCK_EX | LOCK_NB) < 0)
        return err_set(e, EBUSY, "another tinderboxd uses %s", d->cfg.home);
    unlink(at_home(d, "run/daemon.json"));
    return 0;
}

static int64_t memory_limit(const struct config *c)
{
    if (c->memory_max_mib)
        return c->memory_max_mib;
    return (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) / (1 << 20) * 3 / 4;
}

static int open_engine(struct daemon *d, struct err *e)
{
    char kernel[600], initramfs[600];
    snprintf(kernel, sizeof kernel, "%s/vmlinux", d->cfg.guest_dir);
    snprintf(initramfs, sizeof initramfs, "%s/initramfs.cpio", d->cfg.guest_dir);
    if (!fs_exists(kernel) || !fs_exists(initramfs))
        return err_set(e, ENOENT, "no guest kit in %s: run guest/assemble", d->cfg.guest_dir);
    struct engine_config c = {
        .kind = d->cfg.engine_kind,
        .kernel = kernel,
        .initramfs = initramfs,
        .helper_dir = d->cfg.helper_dir,
        .key_dir = at_home(d, "keys"),
        .sandbox = d->cfg.engine_sandbox,
        .rates = {(uint64_t)d->cfg.engine_disk_bytes, (uint64_t)d->cfg.engine_disk_requests,
                  (uint64_t)d->cfg.engine_net_bytes},
        .huge_pages = d->cfg.engine_huge_pages,
        .cgroup = d->cfg.engine_cgroup,
        .pool = (unsigned)d->cfg.engine_pool,
    };
    return engine_open(&c, &d->engine, e);
}

static int open_microvms(struct daemon *d, struct err *e)
{
    struct microvm_config c = {
        .loop = d->loop,
        .store = d->store,
        .engine = d->engine,
        .data_dir = d->cfg.home,
        .guest_dir = d->cfg.guest_dir,
        .region = d->cfg.region,
        .account = d->cfg.account,
        .ca_bundle = d->cfg.build_ca_bundle[0] ? d->cfg.build_ca_bundle : NULL,
        .max_vcpus = (unsigned)d->cfg.engine_max_vcpus,
        .max_builds = (unsigned)d->cfg.build_max_concurrent,
        .max_memory_mib = memory_limit(&d->cfg),
        .max_layers_bytes = (int64_t)d->cfg.build_cache_gib << 30,
        .retention_s = (int64_t)d->cfg.microvm_retention_hours * 3600,
    };
    return microvm_service_open(&c, &d->microvms, e);
}

static int open_state(struct daemon *d, struct err *e)
{
    int r = take_lock(d, e);
    if (r == 0)
        r = auth_keys_open(at_home(d, "keys"), d->cfg.endpoint_domain, &d->keys, e);
    if (r == 0)
        r = store_open(at_home(d, "tinderbox.db"), &d->store, e);
    if (r == 0)
        r = open_engine(d, e);
    if (r == 0)
        r = loop_new(&d->loop, e);
    if (r == 0)
        r = open_microvms(d, e);
    return r;
}

/* ---- listeners --------------------------------------------------------------------------------
 */

static int listen_service(struct daemon *d, const char *address, long port,
                          struct http_service *service, struct http_server **ret, struct err *e)
{
    struct http_server_config c = {
        .loop = d->loop,
        .address = address,
        .port = (uint16_t)port,
        .h2 = true,
        .limits = {.body_timeout_ms = BODY_TIMEOUT_MS},
        .handler = http_service_handler(service),
    };
    int r = http_server_start(&c, ret, e);
    return r < 0 ? err_wrap(e, "listen on %s port %ld", address, port) : 0;
}

static int open_s3(struct daemon *d, struct err *e)
{
    snprintf(d->spool, sizeof d->spool, "%s", at_home(d, "tmp"));
    struct s3_config c = {.store = d->store, .keys = &d->keys, .dir = at_home(d, "s3")};
    int r = fs_mkdir_p(d->spool, 0700, e);
    if (r == 0)
        r = s3_open(&c, &d->s3, e);
    if (r < 0)
        return r;
    microvm_service_set_artifacts(d->microvms, s3_open_artifact, d->s3);
    struct http_service_config sc = {.workers = d->workers,
                                     .fn = s3_call,
                                     .admit = s3_admit,
                                     .arg = d->s3,
                                     .max_body = S3_MAX_BODY,
                                     .max_in_memory = IN_MEMORY_BODY,
                                     .spool_dir = d->spool};
    r = http_service_new(&sc, &d->s3_service, e);
    return r < 0 ? r
                 : listen_service(d, d->cfg.s3_address, d->cfg.s3_port, d->s3_service,
                                  &d->s3_server, e);
}

static int open_proxy(struct daemon *d, struct err *e)
{
    d->machines = (struct proxy_machines){.service = d->microvms, .key = &d->keys.token};
    struct proxy_config pc = {.loop = d->loop,
                              .backend = proxy_backend_machines(&d->machines),
                              .domain = d->cfg.endpoint_domain};
    int r = auth_tls_context(&d->keys, &d->tls, e);
    if (r == 0)
        r = proxy_new(&pc, &d->proxy, e);
    if (r < 0)
        return err_wrap(e, "endpoint proxy");
    struct http_server_config c = {
        .loop = d->loop,
        .address = d->cfg.endpoint_address,
        .port = (uint16_t)d->cfg.endpoint_port,
        .tls = d->tls,
        .h2 = true,
        .handler = proxy_handler(d->proxy),
    };
    r = http_server_start(&c, &d->endpoint_server, e);
    return r < 0 ? err_wrap(e, "listen on %s port %ld", c.address, d->cfg.endpoint_port) : 0;
}

static int open_api(struct daemon *d, struct err *e)
{
    struct api_config c = {
        .store = d->store,
        .microvms = d->microvms,
        .keys = &d->keys,
        .account = d->cfg.account,
        .domain = d->cfg.endpoint_domain,
        .endpoint_port = http_server_port(d->endpoint_server),
        .spool_dir = d->spool,
        .guest_dir = d->cfg.guest_dir,
    };
    int r = api_open(&c, &d->api, e);
    if (r < 0)
        return r;
    struct http_service_config sc = {.workers = d->workers,
                                     .fn = api_call,
                                     .arg = d->api,
                                     .max_body = API_MAX_BODY,
                                     .is_large = api_takes_large_body,
                                     .max_large = API_MAX_FILES,
                                     .max_in_memory = IN_MEMORY_BODY,
                                     .spool_dir = d->spool};
    r = http_service_new(&sc, &d->api_service, e);
    return r < 0 ? r
                 : listen_service(d, d->cfg.api_address, d->cfg.api_port, d->api_service,
                                  &d->api_server, e);
}

static int announce(struct daemon *d, struct err *e)
{
    char api[128], s3[128];
    snprintf(api, sizeof api, "http://%s:%u", d->cfg.api_address, http_server_port(d->api_server));
    snprintf(s3, sizeof s3, "http://%s:%u", d->cfg.s3_address, http_server_port(d->s3_server));
    CLEANUP(cleanup_json)
    json_t *v = json_pack(
        "{s:i,s:s,s:s,s:{s:i,s:s,s:s},s:s,s:s,s:s,s:s,s:s,s:s}", "pid", (int)getpid(), "api", api,
        "s3", s3, "endpoint", "port", (int)http_server_port(d->endpoint_server), "domain",
        d->cfg.endpoint_domain, "address", d->cfg.endpoint_address, "region", d->cfg.region,
        "account", d->cfg.account, "ca", d->keys.ca_path, "version", TINDERBOX_VERSION, "engine",
        engine_name(d->engine), "guest", d->cfg.guest_dir);
    CLEANUP(cleanup_free)
    char *text = json_text(v);
    log_info("daemon", "ready: API %s, S3 %s, endpoints https://*.%s:%u, engine %s %s", api, s3,
             d->cfg.endpoint_domain, http_server_port(d->endpoint_server), engine_name(d->engine),
             engine_version(d->engine));
    return fs_write_file(at_home(d, "run/daemon.json"), text, strlen(text), 0600, e);
}

/* ---- the end ----------------------------------------------------------------------------------
 */

static void server_stopped(void *arg)
{
    struct daemon *d = arg;
    pthread_mutex_lock(&d->lock);
    d->servers_open--;
    pthread_cond_signal(&d->servers_closed);
    pthread_mutex_unlock(&d->lock);
}

static void stop_servers(void *arg)
{
    struct daemon *d = arg;
    http_server_stop(d->api_server, server_stopped, d);
    http_server_stop(d->s3_server, server_stopped, d);
    http_server_stop(d->endpoint_server, server_stopped, d);
    uv_close((uv_handle_t *)&d->on_term, NULL);
    uv_close((uv_handle_t *)&d->on_int, NULL);
}

static void stop_proxy(void *arg)
{
    struct daemon *d = arg;
    proxy_stop(d->proxy, server_stopped, d);
}

/* Runs fn on the loop and waits for n calls of server_stopped(). */
static void stop_and_wait(struct daemon *d, void (*fn)(void *arg), unsigned n)
{
    d->servers_open = n;
    loop_call(d->loop, fn, d);
    pthread_mutex_lock(&d->lock);
    while (d->servers_open)
        pthread_cond_wait(&d->servers_closed, &d->lock);
    pthread_mutex_unlock(&d->lock);
}

static void *end_main(void *arg)
{
    struct daemon *d = arg;
    stop_and_wait(d, stop_servers, 3);
    stop_and_wait(d, stop_proxy, 1);
    workers_free(d->workers); /* API calls in flight may still use the service */
    d->workers = NULL;
    microvm_service_close(d->microvms);
    d->microvms = NULL;
    loop_stop(d->loop);
    return NULL;
}

static void on_signal(uv_signal_t *h, int signo)
{
    struct daemon *d = h->data;
    if (d->ending)
        return;
    log_info("daemon", "signal %d: running VMs are suspended, then the service ends", signo);
    d->ending = true;
    int r = pthread_create(&d->ender, NULL, end_main, d);
    if (r != 0) {
        log_error("daemon", "no thread for an orderly end: %s", strerror(r));
        _exit(1);
    }
}

static void close_rest(struct daemon *d)
{
    microvm_service_close(d->microvms);
    http_service_free(d->api_service);
    http_service_free(d->s3_service);
    workers_free(d->workers);
    api_close(d->api);
    s3_close(d->s3);
    engine_close(d->engine);
    store_close(d->store);
    if (d->loop)
        loop_free(d->loop);
    SSL_CTX_free(d->tls);
    auth_keys_done(&d->keys);
    if (d->lock_fd >= 0)
        unlink(at_home(d, "run/daemon.json"));
    cleanup_close(&d->lock_fd);
}

static int run(struct daemon *d, struct err *e)
{
    int r = open_state(d, e);
    if (r == 0)
        r = workers_new("api", API_THREADS, API_QUEUE, &d->workers, e);
    if (r == 0)
        r = open_s3(d, e);
    if (r == 0)
        r = open_proxy(d, e);
    if (r == 0)
        r = open_api(d, e);
    if (r == 0)
        r = announce(d, e);
    if (r == 0)
        r = microvm_service_start(d->microvms, e);
    if (r < 0)
        return r;
    uv_signal_init(loop_uv(d->loop), &d->on_term);
    uv_signal_init(loop_uv(d->loop), &d->on_int);
    d->on_term.data = d->on_int.data = d;
    uv_signal_start(&d->on_term, on_signal, SIGTERM);
    uv_signal_start(&d->on_int, on_signal, SIGINT);
    loop_run(d->loop);
    pthread_join(d->ender, NULL);
    return 0;
}

static enum log_level level_of(const char *name)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    for (int i = 0; i < 4; i++)
        if (strcmp(names[i], name) == 0)
            return (enum log_level)i;
    return LOG_INFO;
}

int main(int argc, char **argv)
{
    static struct daemon d = {.lock_fd = -1};
    struct err e = {0};
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("tinderboxd " TINDERBOX_VERSION);
        return 0;
    }
    if (config_load(argc, argv, &d.cfg, &e) < 0) {
        fprintf(stderr, "tinderboxd: %s\n", e.text);
        return 2;
    }
    if (argc > 1 && strcmp(argv[argc - 1], "--print-config") == 0) {
        config_print(&d.cfg, stdout);
        return 0;
    }
    log_set_level(level_of(d.cfg.log_level));
    signal(SIGPIPE, SIG_IGN);
    umask(077);
    pthread_mutex_init(&d.lock, NULL);
    pthread_cond_init(&d.servers_closed, NULL);
    int r = run(&d, &e);
    if (r < 0)
        log_error("daemon", "%s", e.text);
    else
        log_info("daemon", "ended");
    if (r < 0) /* before the loop ran: handles and threads go with the process */
        return 1;
    close_rest(&d);
    return 0;
}
