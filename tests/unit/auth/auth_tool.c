/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lets scripts talk to the auth layer: one JSON object per line in, one out.
 *   {"op":"mint"}                          -> {"kid","key","token"} (hex key)
 *   {"op":"open","kid","key","token"}      -> {"ok", "microvmId"}
 *   {"op":"verify","service","method","target","headers":[[n,v]..],"sha256","now"} -> {"ok","text"}
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/sigv4.h"
#include "auth/token.h"
#include "base/encode.h"
#include "base/json.h"

static const struct sigv4_credential account = {"AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfi"};

static const struct sigv4_credential *lookup(const char *access_key, void *arg)
{
    (void)arg;
    return strcmp(access_key, account.access_key) == 0 ? &account : NULL;
}

static json_t *mint(void)
{
    struct err e;
    struct token_key k;
    struct token_claims c = {.microvm_id = "microvm-42", .all_ports = true, .expires_at = 42};
    CLEANUP(buf_done)
    struct buf text = BUF_INIT(0);
    char hex[65];
    uuid_new(k.kid);
    random_bytes(k.key, sizeof k.key);
    if (token_mint(&k, &c, &text, &e) < 0)
        return json_pack("{s:s}", "error", e.text);
    hex_encode(hex, k.key, sizeof k.key);
    return json_pack("{s:s,s:s,s:s}", "kid", k.kid, "key", hex, "token", text.data);
}

static json_t *open_token(const json_t *in)
{
    struct token_key k = {0};
    struct token_claims c = {0};
    snprintf(k.kid, sizeof k.kid, "%s", json_get_str(in, "kid"));
    if (hex_decode(k.key, sizeof k.key, json_get_str(in, "key")) < 0)
        return json_pack("{s:b}", "ok", 0);
    int rc = token_open(&k, slice_from(json_get_str(in, "token")), &c);
    return json_pack("{s:b,s:s}", "ok", rc == 0, "microvmId", c.microvm_id);
}

static json_t *verify(const json_t *in)
{
    struct err e = {0};
    struct http_header h[64];
    struct sigv4_result r;
    json_t *list = json_object_get(in, "headers");
    size_t n = json_array_size(list);
    for (size_t i = 0; i < n && i < 64; i++) {
        json_t *pair = json_array_get(list, i);
        h[i].name = slice_from(json_string_value(json_array_get(pair, 0)));
        h[i].value = slice_from(json_string_value(json_array_get(pair, 1)));
    }
    struct sigv4_request q = {.method = slice_from(json_get_str(in, "method")),
                              .target = slice_from(json_get_str(in, "target")),
                              .headers = h,
                              .n_headers = n,
                              .body_sha256 = json_get_str(in, "sha256")};
    bool s3 = strcmp(json_get_str(in, "service"), "s3") == 0;
    int rc = sigv4_verify(&q, s3 ? SIGV4_S3 : SIGV4_LAMBDA, lookup, NULL,
                          json_get_int(in, "now", 0), &r, &e);
    return json_pack("{s:b,s:s,s:i}", "ok", rc == 0, "text", e.text, "payload", (int)r.payload);
}

int main(void)
{
    static char line[1 << 16];
    while (fgets(line, sizeof line, stdin)) {
        struct err e;
        CLEANUP(cleanup_json)
        json_t *in = NULL;
        CLEANUP(cleanup_json)
        json_t *out = NULL;
        if (json_parse(line, strlen(line), sizeof line, &in, &e) < 0)
            out = json_pack("{s:s}", "error", e.text);
        else if (strcmp(json_get_str(in, "op"), "mint") == 0)
            out = mint();
        else if (strcmp(json_get_str(in, "op"), "open") == 0)
            out = open_token(in);
        else
            out = verify(in);
        CLEANUP(cleanup_free)
        char *text = json_text(out);
        puts(text);
        fflush(stdout);
    }
    return 0;
}
