/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoint tokens: what goes in comes out, nothing else is accepted, the length tells nothing. */
#include "common.h"

#include "auth/token.h"
#include "base/encode.h"

static struct token_key new_key(void)
{
    struct token_key k;
    uuid_new(k.kid);
    random_bytes(k.key, sizeof k.key);
    return k;
}

static struct slice text_of(const struct buf *b)
{
    return (struct slice){b->data, b->len};
}

static void round_trip(void **state)
{
    (void)state;
    struct err e;
    struct token_key k = new_key();
    struct token_claims in = {.microvm_id = "microvm-0f0e0d0c-0b0a-4908-8706-050403020100",
                              .expires_at = 1800000000};
    for (unsigned n = 0; n <= TOKEN_PORT_RANGES_MAX; n++) {
        in.n_ports = n;
        if (n)
            in.ports[n - 1] = (struct token_port_range){(uint16_t)(n * 1000), 65535};
        in.shell = n % 2;
        in.all_ports = n % 3 == 0;
        struct buf text = BUF_INIT(0);
        struct token_claims out;
        assert_ok(token_mint(&k, &in, &text, &e), e);
        assert_int_equal(text.len, 823);
        assert_int_equal(token_open(&k, text_of(&text), &out), 0);
        assert_string_equal(out.microvm_id, in.microvm_id);
        assert_int_equal(out.expires_at, in.expires_at);
        assert_int_equal(out.n_ports, n);
        assert_int_equal(out.shell, in.shell);
        assert_int_equal(out.all_ports, in.all_ports);
        assert_memory_equal(out.ports, in.ports, n * sizeof *in.ports);
        buf_done(&text);
    }
    in.n_ports = TOKEN_PORT_RANGES_MAX + 1;
    struct buf text = BUF_INIT(0);
    assert_int_equal(token_mint(&k, &in, &text, &e), -EINVAL);
    in.n_ports = 0;
    memset(in.microvm_id, 'x', sizeof in.microvm_id);
    assert_int_equal(token_mint(&k, &in, &text, &e), -EINVAL);
    assert_int_equal(text.len, 0);
    buf_done(&text);
}

static void every_byte_counts(void **state)
{
    (void)state;
    struct err e;
    struct token_key k = new_key(), other = new_key();
    struct token_claims c = {.microvm_id = "microvm-1", .all_ports = true, .expires_at = 1}, out;
    struct buf a = BUF_INIT(0), b = BUF_INIT(0);
    assert_ok(token_mint(&k, &c, &a, &e), e);
    assert_ok(token_mint(&k, &c, &b, &e), e);
    assert_memory_not_equal(a.data, b.data, a.len); /* a fresh nonce */
    for (size_t i = 0; i < a.len; i++) {
        static const char bad[] = "A.-_=\0\x80Q";
        for (size_t j = 0; j < sizeof bad - 1; j++) {
            char old = a.data[i];
            if (old == bad[j])
                continue;
            a.data[i] = bad[j];
            assert_int_equal(token_open(&k, text_of(&a), &out), -EINVAL);
            a.data[i] = old;
        }
        assert_int_equal(token_open(&k, (struct slice){a.data, i}, &out), -EINVAL);
    }
    assert_int_equal(token_open(&k, text_of(&a), &out), 0);
    assert_int_equal(token_open(&other, text_of(&a), &out), -EINVAL);
    memcpy(other.kid, k.kid, sizeof k.kid); /* the name alone does not help */
    assert_int_equal(token_open(&other, text_of(&a), &out), -EINVAL);
    assert_int_equal(buf_adds(&a, "A"), 0);
    assert_int_equal(token_open(&k, text_of(&a), &out), -EINVAL);
    buf_done(&a);
    buf_done(&b);
}

/* Headers that would choose another algorithm, around otherwise valid parts. */
static void foreign_headers(void **state)
{
    (void)state;
    static const char *const around[][2] = {
        {"{\"alg\":\"dir\",\"enc\":\"A256GCM\",\"kid\":\"", "\"}"},
        {"{\"kid\":\"", "\",\"alg\":\"none\",\"enc\":\"A256GCM\"}"},
        {"{\"kid\":\"", "\",\"alg\":\"dir\",\"enc\":\"A128GCM\"}"},
        {"{\"kid\":\"", "\",\"alg\":\"dir\",\"enc\":\"A256GCM\",\"zip\":\"DEF\"}"},
        {"{\"kid\":\"", "\", \"alg\":\"dir\",\"enc\":\"A256GCM\"}"},
    };
    struct err e;
    struct token_key k = new_key();
    struct token_claims c = {.microvm_id = "microvm-1", .all_ports = true}, out;
    struct buf good = BUF_INIT(0);
    assert_ok(token_mint(&k, &c, &good, &e), e);
    const char *rest = strstr(good.data, "..");
    for (size_t i = 0; i < ARRAY_LEN(around); i++) {
        char json[200];
        snprintf(json, sizeof json, "%s%s%s", around[i][0], k.kid, around[i][1]);
        struct buf t = BUF_INIT(0);
        assert_int_equal(base64url_encode(&t, json, strlen(json)), 0);
        assert_int_equal(buf_adds(&t, rest), 0);
        assert_int_equal(token_open(&k, text_of(&t), &out), -EINVAL);
        buf_done(&t);
    }
    buf_done(&good);
}

static void verdicts(void **state)
{
    (void)state;
    static const struct {
        struct token_claims c;
        const char *id;
        uint16_t port;
        int64_t now;
        enum token_verdict want;
    } rows[] = {
        {{.microvm_id = "m", .all_ports = true, .expires_at = 10}, "m", 5000, 9, TOKEN_OK},
        {{.microvm_id = "m", .all_ports = true, .expires_at = 10}, "m", 5000, 10, TOKEN_EXPIRED},
        {{.microvm_id = "m", .all_ports = true, .expires_at = 10},
         "n",
         5000,
         10,
         TOKEN_OTHER_MICROVM},
        {{.microvm_id = "m", .all_ports = true, .expires_at = 10}, "m", 0, 9, TOKEN_PORT_DENIED},
        {{.microvm_id = "m", .n_ports = 1, .ports = {{80, 90}}, .expires_at = 10},
         "m",
         80,
         9,
         TOKEN_OK},
        {{.microvm_id = "m", .n_ports = 1, .ports = {{80, 90}}, .expires_at = 10},
         "m",
         90,
         9,
         TOKEN_OK},
        {{.microvm_id = "m", .n_ports = 1, .ports = {{80, 90}}, .expires_at = 10},
         "m",
         91,
         9,
         TOKEN_PORT_DENIED},
        {{.microvm_id = "m", .n_ports = 2, .ports = {{80, 80}, {5000, 5000}}, .expires_at = 10},
         "m",
         5000,
         9,
         TOKEN_OK},
        {{.microvm_id = "m", .expires_at = 10}, "m", 80, 9, TOKEN_PORT_DENIED},
        {{.microvm_id = "m", .shell = true, .expires_at = 10}, "m", 0, 9, TOKEN_OK},
        {{.microvm_id = "m", .shell = true, .all_ports = true, .expires_at = 10},
         "m",
         80,
         9,
         TOKEN_PORT_DENIED},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_int_equal(token_check(&rows[i].c, rows[i].id, rows[i].port, rows[i].now),
                         rows[i].want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(every_byte_counts),
        cmocka_unit_test(foreign_headers),
        cmocka_unit_test(verdicts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
