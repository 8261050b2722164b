/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's configuration: built-in defaults, then the file <home>/tinderbox.conf ("key = value"
 * lines, # comments), then --set key=value. One table row per key (config.c); an unknown key or a
 * value of the wrong kind is an error that names file and line. Start-up only, one thread.
 */
#ifndef DAEMON_CONFIG_H
#define DAEMON_CONFIG_H

#include <stdbool.h>
#include <stdio.h>

#include "base/err.h"

struct config {
    char home[512]; /* --home, TINDERBOX_HOME, or ${XDG_DATA_HOME:-~/.local/share}/tinderbox */
    char region[65];
    char account[13];
    char api_address[64], s3_address[64], endpoint_address[64];
    long api_port, s3_port, endpoint_port; /* 0 = any free one */
    char endpoint_domain[200];
    char engine_kind[16];
    bool engine_sandbox, engine_huge_pages;
    char engine_cgroup[256];
    long engine_disk_bytes, engine_disk_requests, engine_net_bytes;
    long engine_pool;
    long engine_max_vcpus;
    char guest_dir[512];       /* default <home>/guest */
    char helper_dir[512];      /* where tinderbox-net is; default: beside the daemon */
    char build_ca_bundle[512]; /* "" = none */
    long build_max_concurrent;
    long build_cache_gib;
    long microvm_retention_hours;
    long memory_max_mib; /* 0 = three quarters of the machine */
    char log_level[8];
};

int config_load(int argc, char **argv, struct config *ret, struct err *e) MUST_CHECK;
/* Every key with its value and meaning. */
void config_print(const struct config *c, FILE *out);
/* Runs fn for every key (tests). */
void config_each(void (*fn)(const char *key, const char *help, void *arg), void *arg);

#endif
