/* SPDX-License-Identifier: Apache-2.0 */
/* Bucket operations. */
#include <errno.h>
#include <string.h>

#include "api/s3_int.h"
#include "api/s3_xml.h"

#define XMLNS "http://s3.amazonaws.com/doc/2006-03-01/"

static int on_bucket(const struct store_bucket *r, void *arg)
{
    struct buf *out = arg;
    char when[32];
    s3_time(when, r->created_at);
    int rc = buf_adds(out, "<Bucket>");
    if (rc == 0)
        rc = xml_element(out, "Name", r->name);
    if (rc == 0)
        rc = xml_element(out, "CreationDate", when);
    return rc == 0 ? buf_adds(out, "</Bucket>") : rc;
}

int s3_list_buckets(struct s3_request *q, struct err *e)
{
    CLEANUP(buf_done)
    struct buf xml = BUF_INIT(0);
    int r = buf_adds(&xml, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListAllMyBucketsResult "
                           "xmlns=\"" XMLNS "\"><Owner><ID>tinderbox</ID></Owner><Buckets>");
    if (r == 0)
        r = store_bucket_list(q->s3->store, on_bucket, &xml, e);
    if (r == 0)
        r = buf_adds(&xml, "</Buckets></ListAllMyBucketsResult>");
    if (r < 0)
        return s3_fail_code(q, r, e);
    s3_reply_xml(q, &xml);
    return 0;
}

/* Lower case letters, digits, dots, dashes; 3..63; begins and ends with a letter or digit. */
/* What only digits and dots make looks like an address, which S3 does not allow. */
static bool name_valid(const char *s)
{
    size_t n = strlen(s);
    bool address = strchr(s, '.') && strspn(s, "0123456789.") == n;
    return !address && n >= 3 && n <= S3_NAME_MAX &&
           strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789.-") == n && !strchr(".-", s[0]) &&
           !strchr(".-", s[n - 1]) && !strstr(s, "..");
}

/* Creating a bucket one owns is success, as in S3's us-east-1: there is one owner here. */
int s3_create_bucket(struct s3_request *q, struct err *e)
{
    if (!name_valid(q->bucket))
        return s3_fail(q, S3_BUCKET_NAME, e, NULL);
    int r = store_bucket_create(q->s3->store, q->bucket, e);
    if (r < 0 && r != -EEXIST)
        return s3_fail_code(q, r, e);
    q->http->status = 200;
    http_call_header(q->http, "location", "/%s", q->bucket);
    return 0;
}

static int need_bucket(struct s3_request *q, struct err *e)
{
    struct store_bucket b = {0};
    int r = store_bucket_get(q->s3->store, q->bucket, &b, e);
    store_bucket_done(&b);
    if (r == -ENOENT)
        r = -ENXIO;
    return r < 0 ? s3_fail_code(q, r, e) : 0;
}

int s3_head_bucket(struct s3_request *q, struct err *e)
{
    int r = need_bucket(q, e);
    if (r < 0)
        return r;
    q->http->status = 200;
    http_call_header(q->http, "x-amz-bucket-region", "%s", q->auth.region);
    return 0;
}

/* us-east-1 is the empty constraint. */
int s3_bucket_location(struct s3_request *q, struct err *e)
{
    CLEANUP(buf_done)
    struct buf xml = BUF_INIT(0);
    int r = need_bucket(q, e);
    if (r < 0)
        return r;
    r = buf_adds(&xml, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<LocationConstraint "
                       "xmlns=\"" XMLNS "\">");
    if (r == 0 && strcmp(q->auth.region, "us-east-1") != 0)
        r = xml_text(&xml, q->auth.region);
    if (r == 0)
        r = buf_adds(&xml, "</LocationConstraint>");
    if (r < 0)
        return s3_fail_code(q, r, e);
    s3_reply_xml(q, &xml);
    return 0;
}

int s3_delete_bucket(struct s3_request *q, struct err *e)
{
    int r = store_bucket_delete(q->s3->store, q->bucket, e);
    if (r == -ENOTEMPTY)
        return s3_fail(q, S3_BUCKET_NOT_EMPTY, e, NULL);
    if (r == -ENOENT)
        r = -ENXIO;
    if (r < 0)
        return s3_fail_code(q, r, e);
    q->http->status = 204;
    return 0;
}
