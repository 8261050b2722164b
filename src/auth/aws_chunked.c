/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aws-chunked. Theory of operation:
 *
 *     <hex size>[;chunk-signature=<hex>] CRLF <data> CRLF   ... until a chunk of size 0, then
 *     [<field>:<value> CRLF ...] [x-amz-trailer-signature:<hex> CRLF] CRLF
 *
 * Each signature covers the previous one, the first the request's, so chunks cannot be reordered,
 * dropped or taken from another request. Lines are collected in a small fixed buffer; data passes
 * through. States: HEADER -> DATA -> DATA_END -> HEADER ... -> TRAILER -> DONE, FAILED from any.
 */
#include "auth/aws_chunked.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/canonical.h"
#include "auth/checksum.h"
#include "base/digest.h"
#include "base/encode.h"

enum state { HEADER, DATA, DATA_END, TRAILER, DONE, FAILED };

struct aws_chunked {
    struct sigv4_result auth; /* secret: the signing key */
    int64_t decoded_length;
    uint64_t max, total, left; /* left: of the present chunk */
    int (*sink)(void *arg, const char *p, size_t n);
    void *arg;
    enum state state;
    bool is_signed;
    char line[AWS_CHUNK_LINE_MAX];
    size_t line_n;
    struct sha256 *chunk_hash; /* owned */
    char chunk_signature[65], previous[65];
    int checksum_kind;                     /* -1 = none announced */
    struct checksum *checksum;             /* owned */
    char checksum_text[CHECKSUM_TEXT_MAX]; /* what the trailer claims */
    struct buf trailer;                    /* canonical form of the fields, for the signature */
    unsigned trailers;
    bool gap;
    bool trailer_signed; /* x-amz-trailer-signature was seen and matched */
};

int aws_chunked_new(const struct aws_chunked_config *c, struct aws_chunked **ret, struct err *e)
{
    int kind = -1;
    if (c->auth->payload != SIGV4_PAYLOAD_CHUNKED &&
        c->auth->payload != SIGV4_PAYLOAD_CHUNKED_UNSIGNED)
        return err_set(e, EINVAL, "the request's body is not aws-chunked");
    if (c->trailer.n && (kind = checksum_kind_of(c->trailer)) < 0)
        return err_set(e, EINVAL,
                       "The value specified in the x-amz-trailer header is not supported");
    struct aws_chunked *d = calloc(1, sizeof *d);
    if (!d)
        return err_set(e, ENOMEM, "out of memory");
    d->auth = *c->auth;
    d->is_signed = c->auth->payload == SIGV4_PAYLOAD_CHUNKED;
    d->decoded_length = c->decoded_length;
    d->max = c->max;
    d->sink = c->sink;
    d->arg = c->arg;
    d->checksum_kind = kind;
    if (kind >= 0)
        d->checksum = checksum_new((enum checksum_kind)kind);
    d->trailer = BUF_INIT(AWS_CHUNK_LINE_MAX * AWS_CHUNK_TRAILERS_MAX);
    memcpy(d->previous, c->auth->seed_signature, sizeof d->previous);
    *ret = d;
    return 0;
}

void aws_chunked_free(struct aws_chunked *d)
{
    if (!d)
        return;
    sha256_free(d->chunk_hash);
    checksum_free(d->checksum);
    buf_done(&d->trailer);
    OPENSSL_cleanse(d, sizeof *d);
    free(d);
}

static int malformed(struct aws_chunked *d, struct err *e, const char *what)
{
    d->state = FAILED;
    return err_set(e, EINVAL, "The aws-chunked body is malformed: %s", what);
}

static int check_signature(struct aws_chunked *d, const char *algorithm, const char *tail,
                           const char *given, struct err *e)
{
    char want[65];
    int rc =
        signature_of(d->auth.signing_key, algorithm, d->auth.scope_date, d->auth.scope, tail, want);
    if (rc < 0 || CRYPTO_memcmp(want, given, 64) != 0) {
        d->state = FAILED;
        return err_set(e, EACCES,
                       "The chunk signature we calculated does not match the signature you "
                       "provided.");
    }
    memcpy(d->previous, want, sizeof want);
    return 0;
}

static int chunk_done(struct aws_chunked *d, struct err *e)
{
    if (!d->is_signed)
        return 0;
    unsigned char digest[SHA256_LEN];
    char hash[65], tail[256];
    sha256_end(TAKE(d->chunk_hash), digest);
    hex_encode(hash, digest, sizeof digest);
    snprintf(tail, sizeof tail, "%s\n" EMPTY_SHA256 "\n%s", d->previous, hash);
    return check_signature(d, SIGV4_ALGORITHM "-PAYLOAD", tail, d->chunk_signature, e);
}

static bool hex_lower64(struct slice s, char out[65])
{
    unsigned char bytes[32];
    if (s.n != 64)
        return false;
    memcpy(out, s.p, 64);
    out[64] = '\0';
    return hex_decode(bytes, sizeof bytes, out) == 0;
}

static bool parse_size(struct slice s, uint64_t *ret)
{
    uint64_t v = 0;
    if (s.n == 0 || s.n > 16)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        int c = tolower((unsigned char)s.p[i]);
        if (!isxdigit(c))
            return false;
        v = v << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    *ret = v;
    return true;
}

static int header_line(struct aws_chunked *d, struct slice line, struct err *e)
{
    struct slice ext, signature;
    uint64_t total;
    if (!parse_size(slice_cut(line, ';', &ext), &d->left))
        return malformed(d, e, "bad chunk size");
    bool has = slice_eq(slice_cut(ext, '=', &signature), "chunk-signature") &&
               hex_lower64(signature, d->chunk_signature);
    if (d->is_signed ? !has : ext.n != 0)
        return malformed(d, e, "bad chunk signature field");
    if (ckd_add(&total, d->total, d->left) || total > d->max) {
        d->state = FAILED;
        return err_set(e, EMSGSIZE, "Your proposed upload exceeds the maximum allowed size");
    }
    if (d->is_signed)
        d->chunk_hash = sha256_new();
    if (d->left) {
        d->state = DATA;
        return 0;
    }
    d->state = TRAILER;
    return chunk_done(d, e);
}

static int trailer_end(struct aws_chunked *d, struct err *e)
{
    if (d->trailers && d->is_signed && !d->trailer_signed)
        return malformed(d, e, "the trailer is not signed");
    if (d->checksum_kind >= 0 && !d->checksum_text[0])
        return malformed(d, e, "the announced trailer is missing");
    d->state = DONE;
    return 0;
}

static int trailer_signature(struct aws_chunked *d, struct slice value, struct err *e)
{
    char given[65], hash[65], tail[256];
    if (!d->is_signed || d->trailer_signed || !hex_lower64(value, given))
        return malformed(d, e, "bad trailer signature");
    sha256_hex_of(d->trailer.data ? d->trailer.data : "", d->trailer.len, hash);
    snprintf(tail, sizeof tail, "%s\n%s", d->previous, hash);
    d->trailer_signed = true;
    return check_signature(d, SIGV4_ALGORITHM "-TRAILER", tail, given, e);
}

static int trailer_line(struct aws_chunked *d, struct slice line, struct err *e)
{
    struct slice value;
    /* AWS's own example has an empty line between the last chunk and the trailer. */
    if (line.n == 0 && d->checksum_kind >= 0 && d->trailers == 0 && !d->gap) {
        d->gap = true;
        return 0;
    }
    if (line.n == 0)
        return trailer_end(d, e);
    struct slice name = slice_cut(line, ':', &value);
    if (!d->auth.trailer || d->trailers == AWS_CHUNK_TRAILERS_MAX || d->trailer_signed)
        return malformed(d, e, "unexpected trailer");
    if (slice_eq_nocase(name, "x-amz-trailer-signature"))
        return trailer_signature(d, value, e);
    d->trailers++;
    if (buf_add(&d->trailer, line.p, line.n) < 0 || buf_add(&d->trailer, "\n", 1) < 0)
        return malformed(d, e, "the trailer is too long");
    if (checksum_kind_of(name) != d->checksum_kind || d->checksum_kind < 0)
        return malformed(d, e, "a trailer was not announced in x-amz-trailer");
    if (d->checksum_text[0] || value.n == 0 || value.n >= sizeof d->checksum_text)
        return malformed(d, e, "bad checksum");
    memcpy(d->checksum_text, value.p, value.n);
    return 0;
}

static int line_done(struct aws_chunked *d, struct err *e)
{
    struct slice line = {d->line, d->line_n};
    if (line.n && line.p[line.n - 1] == '\r')
        line.n--;
    d->line_n = 0;
    switch (d->state) {
    case HEADER:
        return header_line(d, line, e);
    case TRAILER:
        return trailer_line(d, line, e);
    case DATA_END:
        if (line.n)
            return malformed(d, e, "a chunk is longer than its size");
        d->state = HEADER;
        return 0;
    default:
        return malformed(d, e, "unexpected line");
    }
}

/* Consumes up to the end of the line; returns the number of bytes taken. */
static size_t take_line(struct aws_chunked *d, const char *p, size_t n, int *rc, struct err *e)
{
    const char *nl = memchr(p, '\n', n);
    size_t take = nl ? (size_t)(nl - p) : n;
    if (take > sizeof d->line - d->line_n) {
        *rc = malformed(d, e, "a line is too long");
        return n;
    }
    memcpy(d->line + d->line_n, p, take);
    d->line_n += take;
    if (!nl)
        return take;
    *rc = line_done(d, e);
    return take + 1;
}

static size_t take_data(struct aws_chunked *d, const char *p, size_t n, int *rc, struct err *e)
{
    size_t take = d->left < n ? (size_t)d->left : n;
    if (d->is_signed)
        sha256_add(d->chunk_hash, p, take);
    if (d->checksum)
        checksum_add(d->checksum, p, take);
    *rc = d->sink(d->arg, p, take);
    if (*rc < 0) {
        d->state = FAILED;
        *rc = err_set_errno(e, -*rc, "cannot store the request's body");
        return n;
    }
    *rc = 0;
    d->total += take;
    d->left -= take;
    if (d->left == 0) {
        d->state = DATA_END;
        *rc = chunk_done(d, e);
    }
    return take;
}

int aws_chunked_feed(struct aws_chunked *d, const char *p, size_t n, struct err *e)
{
    int rc = 0;
    while (n && rc == 0) {
        if (d->state == FAILED || d->state == DONE)
            return malformed(d, e, "bytes after its end");
        size_t took = d->state == DATA ? take_data(d, p, n, &rc, e) : take_line(d, p, n, &rc, e);
        p += took;
        n -= took;
    }
    return rc;
}

int aws_chunked_end(struct aws_chunked *d, struct err *e)
{
    /* Some clients leave the last empty line out; everything before it was checked. */
    if (d->state == TRAILER && d->line_n == 0) {
        int rc = trailer_end(d, e);
        if (rc < 0)
            return rc;
    }
    if (d->state != DONE)
        return malformed(d, e, "it ends early");
    if (d->decoded_length >= 0 && (uint64_t)d->decoded_length != d->total)
        return malformed(d, e, "its length is not x-amz-decoded-content-length");
    if (!d->checksum)
        return 0;
    char computed[CHECKSUM_TEXT_MAX];
    checksum_end(TAKE(d->checksum), computed);
    if (strcmp(computed, d->checksum_text) == 0)
        return 0;
    d->state = FAILED;
    return err_set(e, EBADMSG, "Value for %s trailing header is invalid.",
                   checksum_field((enum checksum_kind)d->checksum_kind));
}
