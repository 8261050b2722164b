/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A request's payload is already complete, in memory or in a spooled file. It is read once, through
 * a buffer, into a new blob; on the way it is taken out of its aws-chunked coding if it has one
 * (auth/aws_chunked.h), and hashed for the ETag (MD5) and for the one checksum the client named.
 * Nothing becomes visible before everything the client stated has been compared: decoded length,
 * chunk and trailer signatures, trailer, Content-MD5, x-amz-checksum-*.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/s3_blob.h"
#include "auth/aws_chunked.h"
#include "base/encode.h"

#define READ_SIZE (256 * 1024)

struct payload {
    struct s3_request *q;
    struct s3_blob *blob;
    struct s3_checksum sum;
    char stated[96]; /* checksum of a header; "" when it is in the trailer */
    struct err *e;
};

static int keep(void *arg, const char *p, size_t n)
{
    struct payload *d = arg;
    s3_checksum_add(&d->sum, p, n);
    return s3_blob_add(d->blob, p, n, d->e);
}

/* Hands the whole request body to fn in pieces. */
static int each_piece(const struct http_call *h, int (*fn)(void *arg, const char *p, size_t n),
                      void *arg, struct err *e)
{
    if (h->body_fd < 0)
        return fn(arg, h->body.data ? h->body.data : "", h->body.len);
    CLEANUP(cleanup_free)
    char *piece = malloc(READ_SIZE);
    if (!piece)
        return err_set(e, ENOMEM, "out of memory");
    for (;;) {
        ssize_t n = read(h->body_fd, piece, READ_SIZE);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set_errno(e, errno, "read the request body");
        if (n == 0)
            return 0;
        int r = fn(arg, piece, (size_t)n);
        if (r < 0)
            return r;
    }
}

struct feed {
    struct aws_chunked *decoder;
    struct err *e;
};

static int feed_decoder(void *arg, const char *p, size_t n)
{
    struct feed *f = arg;
    return aws_chunked_feed(f->decoder, p, n, f->e);
}

static const struct {
    int code;
    enum s3_error error;
} DECODER_ERRORS[] = {
    {EACCES, S3_SIGNATURE},
    {EBADMSG, S3_BAD_DIGEST},
    {EINVAL, S3_INCOMPLETE_BODY},
    {EMSGSIZE, S3_TOO_LARGE},
};

static int64_t decoded_length(const struct s3_request *q)
{
    char text[24], *end;
    if (!s3_header(q, "x-amz-decoded-content-length", text, sizeof text) || !*text)
        return -1;
    long long n = strtoll(text, &end, 10);
    return *end || n < 0 ? -1 : n;
}

static int take_chunked(struct payload *d, struct err *e)
{
    char trailer[64];
    if (!s3_header(d->q, "x-amz-trailer", trailer, sizeof trailer))
        return s3_fail(d->q, S3_INVALID_ARGUMENT, e, "The x-amz-trailer header is too long");
    const struct aws_chunked_config config = {
        .auth = &d->q->auth,
        .decoded_length = decoded_length(d->q),
        .max = S3_MAX_BODY,
        .trailer = slice_from(trailer),
        .sink = keep,
        .arg = d,
    };
    struct feed f = {.e = e};
    int r = aws_chunked_new(&config, &f.decoder, e);
    if (r == 0)
        r = each_piece(d->q->http, feed_decoder, &f, e);
    if (r == 0)
        r = aws_chunked_end(f.decoder, e);
    aws_chunked_free(f.decoder);
    for (size_t i = 0; i < ARRAY_LEN(DECODER_ERRORS); i++)
        if (r == -DECODER_ERRORS[i].code && d->q->error == S3_INTERNAL) {
            d->q->error = DECODER_ERRORS[i].error;
            return r;
        }
    return r;
}

/* The algorithm the client names, in a header with its value or as a trailer to come. */
static const struct s3_algorithm *named_algorithm(struct s3_request *q, char value[96])
{
    char trailer[64];
    value[0] = '\0';
    for (size_t i = 0; s3_algorithm_at(i); i++)
        if (s3_header(q, s3_algorithm_at(i)->header, value, 96) && *value)
            return s3_algorithm_at(i);
    if (!s3_header(q, "x-amz-trailer", trailer, sizeof trailer))
        return NULL;
    return s3_algorithm_find(slice_from(trailer));
}

static int check_checksum(struct payload *d, struct s3_payload *info, struct err *e)
{
    if (!d->sum.algorithm)
        return 0;
    info->algorithm = d->sum.algorithm;
    unsigned char raw[EVP_MAX_MD_SIZE];
    s3_checksum_end(&d->sum, raw);
    CLEANUP(buf_done)
    struct buf text = BUF_INIT(0);
    if (base64_encode(&text, raw, info->algorithm->bytes) < 0)
        return err_set(e, ENOMEM, "out of memory");
    snprintf(info->checksum, sizeof info->checksum, "%s", text.data);
    if (!d->stated[0] || strcmp(info->checksum, d->stated) == 0)
        return 0;
    char message[160];
    snprintf(message, sizeof message, "The %s you specified did not match the calculated checksum.",
             info->algorithm->header);
    return s3_fail(d->q, S3_BAD_DIGEST, e, message);
}

static int check_md5(struct payload *d, struct s3_payload *info, struct err *e)
{
    s3_checksum_end(&d->blob->md5, info->md5);
    hex_encode(info->md5_hex, info->md5, S3_MD5.bytes);
    char given[64];
    if (!s3_header(d->q, "content-md5", given, sizeof given))
        return s3_fail(d->q, S3_INVALID_DIGEST, e, NULL);
    if (!*given)
        return 0;
    CLEANUP(buf_done)
    struct buf raw = BUF_INIT(0);
    if (base64_decode(&raw, given, strlen(given)) < 0 || raw.len != S3_MD5.bytes)
        return s3_fail(d->q, S3_INVALID_DIGEST, e, NULL);
    if (memcmp(raw.data, info->md5, S3_MD5.bytes) != 0)
        return s3_fail(d->q, S3_BAD_DIGEST, e, NULL);
    return 0;
}

static int take(struct payload *d, struct s3_payload *info, struct err *e)
{
    enum sigv4_payload kind = d->q->auth.payload;
    s3_checksum_begin(&d->sum, named_algorithm(d->q, d->stated));
    int r = kind == SIGV4_PAYLOAD_CHUNKED || kind == SIGV4_PAYLOAD_CHUNKED_UNSIGNED
                ? take_chunked(d, e)
                : each_piece(d->q->http, keep, d, e);
    if (r == 0)
        r = check_checksum(d, info, e);
    if (r == 0)
        r = check_md5(d, info, e);
    if (r == 0)
        r = s3_blob_sync(d->blob, e);
    s3_checksum_done(&d->sum);
    return r;
}

int s3_payload_store(struct s3_request *q, struct s3_blob *ret, struct s3_payload *info,
                     struct err *e)
{
    *info = (struct s3_payload){0};
    struct s3_blob blob = {.fd = -1};
    struct payload d = {.q = q, .blob = &blob, .e = e};
    int r = s3_blob_create(q->s3, &blob, e);
    if (r == 0)
        r = take(&d, info, e);
    if (r < 0) {
        s3_blob_done(&blob);
        return q->error == S3_INTERNAL ? s3_fail_code(q, r, e) : r;
    }
    *ret = blob;
    return 0;
}
