/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pagination tokens: base64url of a MAC and a cursor. A token is opaque and authenticated, so a
 * client can neither forge a cursor nor carry one from one operation (or filter) to another. It
 * does not expire: it names the last row shown, and the next page starts strictly after it.
 */
#ifndef API_PAGE_H
#define API_PAGE_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define PAGE_KEY_LEN 32
#define PAGE_CURSOR_KEY_MAX 300
#define PAGE_SIZE_DEFAULT 50

struct page_cursor {
    int64_t created; /* Unix ms, or a plain number for version lists */
    char key[PAGE_CURSOR_KEY_MAX + 1];
};

/* scope: operation and filters, compared on opening. */
int page_token_make(const unsigned char key[PAGE_KEY_LEN], const char *scope,
                    const struct page_cursor *c, struct buf *out) MUST_CHECK;
/* -EINVAL with a text for anything not made by the above with the same key and scope. */
int page_token_open(const unsigned char key[PAGE_KEY_LEN], const char *scope, const char *token,
                    struct page_cursor *ret, struct err *e) MUST_CHECK;

#endif
