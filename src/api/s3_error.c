/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "api/s3_int.h"

static const struct s3_error_row ROWS[S3_ERROR_COUNT] = {
    [S3_INTERNAL] = {"InternalError", 500, "We encountered an internal error. Please try again."},
    [S3_ACCESS_DENIED] = {"AccessDenied", 403, "Access Denied"},
    [S3_SIGNATURE] = {"SignatureDoesNotMatch", 403,
                      "The request signature we calculated does not match the signature you "
                      "provided. Check your key and signing method."},
    [S3_ACCESS_KEY] = {"InvalidAccessKeyId", 403,
                       "The AWS Access Key Id you provided does not exist in our records."},
    [S3_TIME_SKEW] = {"RequestTimeTooSkewed", 403,
                      "The difference between the request time and the current time is too "
                      "large."},
    [S3_PAYLOAD_HASH] = {"XAmzContentSHA256Mismatch", 400,
                         "The provided 'x-amz-content-sha256' header does not match what was "
                         "computed."},
    [S3_NO_SUCH_BUCKET] = {"NoSuchBucket", 404, "The specified bucket does not exist"},
    [S3_NO_SUCH_KEY] = {"NoSuchKey", 404, "The specified key does not exist."},
    [S3_NO_SUCH_UPLOAD] = {"NoSuchUpload", 404,
                           "The specified upload does not exist. The upload ID may be invalid, or "
                           "the upload may have been aborted or completed."},
    [S3_BUCKET_OWNED] = {"BucketAlreadyOwnedByYou", 409,
                         "Your previous request to create the named bucket succeeded and you "
                         "already own it."},
    [S3_BUCKET_NOT_EMPTY] = {"BucketNotEmpty", 409, "The bucket you tried to delete is not empty"},
    [S3_BUCKET_NAME] = {"InvalidBucketName", 400, "The specified bucket is not valid."},
    [S3_KEY_TOO_LONG] = {"KeyTooLongError", 400, "Your key is too long"},
    [S3_INVALID_ARGUMENT] = {"InvalidArgument", 400, "Invalid Argument"},
    [S3_INVALID_DIGEST] = {"InvalidDigest", 400, "The Content-MD5 you specified was invalid."},
    [S3_BAD_DIGEST] = {"BadDigest", 400,
                       "The Content-MD5 you specified did not match what we received."},
    [S3_INVALID_PART] = {"InvalidPart", 400,
                         "One or more of the specified parts could not be found. The part may not "
                         "have been uploaded, or the specified entity tag may not match the "
                         "part's entity tag."},
    [S3_PART_ORDER] = {"InvalidPartOrder", 400,
                       "The list of parts was not in ascending order. Parts must be ordered by "
                       "part number."},
    [S3_TOO_SMALL] = {"EntityTooSmall", 400,
                      "Your proposed upload is smaller than the minimum allowed size"},
    [S3_TOO_LARGE] = {"EntityTooLarge", 400,
                      "Your proposed upload exceeds the maximum allowed size"},
    [S3_INCOMPLETE_BODY] = {"IncompleteBody", 400,
                            "The request body is not what its length and coding announce"},
    [S3_MALFORMED_XML] = {"MalformedXML", 400,
                          "The XML you provided was not well-formed or did not validate against "
                          "our published schema"},
    [S3_INVALID_RANGE] = {"InvalidRange", 416, "The requested range is not satisfiable"},
    [S3_PRECONDITION] = {"PreconditionFailed", 412,
                         "At least one of the pre-conditions you specified did not hold"},
    [S3_METHOD] = {"MethodNotAllowed", 405,
                   "The specified method is not allowed against this resource."},
    [S3_NOT_IMPLEMENTED] = {"NotImplemented", 501,
                            "A header or query you provided implies functionality that is not "
                            "implemented"},
    [S3_STORAGE_FULL] = {"InsufficientStorage", 507,
                         "There is no space left on the disk that holds the objects"},
};

static const struct {
    int code;
    enum s3_error error;
} CODES[] = {
    {ENXIO, S3_NO_SUCH_BUCKET},
    {ENOENT, S3_NO_SUCH_KEY},
    {ENOSPC, S3_STORAGE_FULL},
    {EDQUOT, S3_STORAGE_FULL},
};

static const enum s3_error REFUSALS[] = {
    [SIGV4_ACCEPTED] = S3_ACCESS_DENIED,     [SIGV4_NO_SIGNATURE] = S3_ACCESS_DENIED,
    [SIGV4_INCOMPLETE] = S3_ACCESS_DENIED,   [SIGV4_UNKNOWN_KEY] = S3_ACCESS_KEY,
    [SIGV4_EXPIRED] = S3_TIME_SKEW,          [SIGV4_MISMATCH] = S3_SIGNATURE,
    [SIGV4_BODY_MISMATCH] = S3_PAYLOAD_HASH,
};

const struct s3_error_row *s3_error_row(enum s3_error x)
{
    return &ROWS[x];
}

enum s3_error s3_error_of_refusal(enum sigv4_refusal r)
{
    return REFUSALS[r];
}

int s3_fail(struct s3_request *q, enum s3_error x, struct err *e, const char *text)
{
    q->error = x;
    return err_set(e, EINVAL, "%s", text ? text : ROWS[x].text);
}

int s3_fail_code(struct s3_request *q, int code, struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(CODES); i++)
        if (CODES[i].code == -code)
            return s3_fail(q, CODES[i].error, e, NULL);
    q->error = S3_INTERNAL;
    return code;
}
