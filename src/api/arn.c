/* SPDX-License-Identifier: Apache-2.0 */
#include "api/arn.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/patterns.h"

/* Copies up to the next colon; false when it is missing, empty or too long. */
static bool take_field(const char **p, char *out, size_t cap)
{
    const char *colon = strchr(*p, ':');
    size_t n = colon ? (size_t)(colon - *p) : 0;
    if (!n || n >= cap)
        return false;
    memcpy(out, *p, n);
    out[n] = '\0';
    *p = colon + 1;
    return true;
}

int arn_parse(const char *text, struct arn *ret)
{
    struct arn a = {0};
    char word[40], partition[24], service[16];
    const char *p = text;
    if (!take_field(&p, word, sizeof word) || strcmp(word, "arn") != 0 ||
        !take_field(&p, partition, sizeof partition) || strncmp(partition, "aws", 3) != 0 ||
        !take_field(&p, service, sizeof service) || strcmp(service, "lambda") != 0 ||
        !take_field(&p, a.region, sizeof a.region) || !region_valid(a.region) ||
        !take_field(&p, a.account, sizeof a.account) || !take_field(&p, a.type, sizeof a.type))
        return -EINVAL;
    bool managed = strcmp(a.account, "aws") == 0;
    if (!managed && strspn(a.account, "0123456789") != ACCOUNT_LEN)
        return -EINVAL;
    size_t n = strlen(p);
    if (!n || n >= sizeof a.resource)
        return -EINVAL;
    memcpy(a.resource, p, n + 1);
    *ret = a;
    return 0;
}

static int image_name(const struct arn *a, const char *text, char name[IMAGE_NAME_MAX + 1],
                      struct err *e)
{
    if (strcmp(a->type, "microvm-image") != 0 || strlen(a->resource) > IMAGE_NAME_MAX ||
        !PATTERN_NAME.matches(a->resource))
        return err_set(e, EINVAL, "Invalid ARN format: %s", text);
    snprintf(name, IMAGE_NAME_MAX + 1, "%.*s", IMAGE_NAME_MAX, a->resource);
    return 0;
}

int arn_image(const char *text, const char *account, char name[IMAGE_NAME_MAX + 1], struct err *e)
{
    struct arn a;
    if (arn_parse(text, &a) < 0) {
        if (strncmp(text, "arn:", 4) == 0 && strstr(text, ":microvm-image/"))
            return err_set(e, EACCES,
                           "Not authorized to access %s: an image is named "
                           "\"...:microvm-image:<name>\"",
                           text);
        return err_set(e, EINVAL, "Invalid ARN format: %s", text);
    }
    int r = image_name(&a, text, name, e);
    if (r == 0 && strcmp(a.account, account) != 0)
        return err_set(e, EACCES, "Not authorized to access %s: this account is %s", text, account);
    return r;
}

int arn_managed_image(const char *text, char name[IMAGE_NAME_MAX + 1], struct err *e)
{
    struct arn a;
    if (arn_parse(text, &a) < 0 || strcmp(a.account, "aws") != 0)
        return err_set(e, EINVAL, "Invalid ARN format: %s", text);
    return image_name(&a, text, name, e);
}

static const char *const CONNECTORS[] = {
    [CONNECTOR_INTERNET_EGRESS] = "INTERNET_EGRESS", [CONNECTOR_HTTP_INGRESS] = "HTTP_INGRESS",
    [CONNECTOR_SHELL_INGRESS] = "SHELL_INGRESS",     [CONNECTOR_ALL_INGRESS] = "ALL_INGRESS",
    [CONNECTOR_NO_INGRESS] = "NO_INGRESS",
};

const char *connector_name(enum connector c)
{
    return CONNECTORS[c];
}

int arn_connector(const char *text, bool ingress, enum connector *ret, struct err *e)
{
    struct arn a;
    if (arn_parse(text, &a) < 0 || strcmp(a.type, "network-connector") != 0)
        return err_set(e, EINVAL, "Malformed network connector ARN: %s", text);
    if (strcmp(a.account, "aws") != 0) {
        if (strncmp(a.resource, "nc-", 3) != 0)
            return err_set(e, EINVAL, "Malformed network connector ARN: %s", text);
        return err_set(e, ENOENT, "Network connector not found for: %s", text);
    }
    static const char PREFIX[] = "aws-network-connector:";
    const char *name = a.resource;
    if (strncmp(name, PREFIX, sizeof PREFIX - 1) == 0)
        for (size_t i = 0; i < ARRAY_LEN(CONNECTORS); i++)
            if (strcmp(name + sizeof PREFIX - 1, CONNECTORS[i]) == 0 &&
                (i != CONNECTOR_INTERNET_EGRESS) == ingress) {
                *ret = (enum connector)i;
                return 0;
            }
    return err_set(e, EINVAL, "Unrecognized managed network connector ARN: %s", text);
}

void arn_format_image(char out[ARN_MAX], const char *region, const char *account, const char *name)
{
    snprintf(out, ARN_MAX, "arn:aws:lambda:%s:%s:microvm-image:%s", region, account, name);
}

void arn_format_connector(char out[ARN_MAX], const char *region, enum connector c)
{
    snprintf(out, ARN_MAX, "arn:aws:lambda:%s:aws:network-connector:aws-network-connector:%s",
             region, CONNECTORS[c]);
}

int version_parse(const char *text)
{
    size_t n = strspn(text, "0123456789");
    if (!n || n > 9 || text[0] == '0' || (text[n] && strcmp(text + n, ".0") != 0))
        return -EINVAL;
    return atoi(text);
}

void version_format(char out[16], int number)
{
    snprintf(out, 16, "%d.0", number);
}
