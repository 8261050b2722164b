/* SPDX-License-Identifier: Apache-2.0 */
/* Reply bodies from rows, lookups of what a request names, and pages of lists. Worker threads. */
#ifndef API_BODY_H
#define API_BODY_H

#include "api/op.h"

json_t *body_time(int64_t ms);    /* epoch seconds with milliseconds; null when 0 */
json_t *body_text(const char *s); /* null when NULL */
/* Parsed JSON column; an empty object when unset. */
json_t *body_config(const char *column);

json_t *body_image(const struct op_call *c, const struct store_image *r, bool summary);
/* Reply of create and update: the image's members and the version's configuration. */
json_t *body_image_created(const struct op_call *c, const struct store_image *img,
                           const struct store_version *ver);
json_t *body_version(const struct op_call *c, const struct store_version *r);
json_t *body_build(const struct op_call *c, const struct store_build *r, bool detail);
json_t *body_microvm(const struct op_call *c, const struct store_microvm *r);
json_t *body_microvm_item(const struct op_call *c, const struct store_microvm *r);

/* The image row a request's imageIdentifier names; -ENOENT with the API's text. */
int body_find_image(struct op_call *c, struct store_image *ret, struct err *e) MUST_CHECK;
int body_find_version(struct op_call *c, struct store_version *ret, struct err *e) MUST_CHECK;
/* By id or ARN in microvmIdentifier. */
int body_find_microvm(struct op_call *c, struct store_microvm *ret, struct err *e) MUST_CHECK;

/* One page of a list under construction. */
struct body_list {
    json_t *items; /* owned */
    size_t max;
    bool more;
    struct page_cursor last; /* of the last item kept */
    char scope[128];         /* operation and digest of the filters, for the token */
};

/* Reads maxResults and nextToken; from is zeroed when there is none. filters: whatever else of the
 * request selects rows. */
int body_list_begin(struct op_call *c, const char *filters, struct body_list *l,
                    struct page_cursor *from, struct err *e) MUST_CHECK;
/* Keeps an item (reference stolen). False: the page was full, the item only told that there is
 * more. */
bool body_list_add(struct body_list *l, json_t *item, int64_t created, const char *key);
/* {"items": [...], "nextToken": ...} */
int body_list_end(struct op_call *c, struct body_list *l, json_t **ret, struct err *e) MUST_CHECK;
void body_list_done(struct body_list *l); /* CLEANUP(); after any outcome */

#endif
