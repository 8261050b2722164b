/* SPDX-License-Identifier: Apache-2.0 */
/* A JSON body against the shapes: the first byte chooses the operation. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/rules.h"
#include "api/shape.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct member *const INPUTS[] = {IN_CREATE_IMAGE, IN_UPDATE_IMAGE, IN_UPDATE_VERSION,
                                           IN_RUN,          IN_AUTH_TOKEN,   IN_SHELL_TOKEN,
                                           IN_TAG,          IN_EXEC};
    CLEANUP(cleanup_json)
    json_t *body = NULL, *out = NULL, *config = NULL;
    if (size < 1 || json_parse((const char *)data + 1, size - 1, 1 << 20, &body, NULL) < 0)
        return 0;
    size_t which = data[0] % ARRAY_LEN(INPUTS);
    CLEANUP(cleanup_json)
    json_t *path = json_pack("{s:s, s:s, s:s, s:s}", "imageIdentifier", "i", "imageVersion", "1.0",
                             "microvmIdentifier", "m", "Resource",
                             "arn:aws:lambda:us-east-1:000000000000:microvm-image:n");
    CLEANUP(buf_done)
    struct buf message = BUF_INIT(0);
    const struct validate_sources in = {{body, path, NULL}};
    enum validate_result r = validate_input(INPUTS[which], &in, &out, &message);
    if ((r == VALIDATE_OK) != (out != NULL) || (r == VALIDATE_OK) != (message.len == 0))
        abort();
    struct err e = {0};
    if (r == VALIDATE_OK && which < 2 && rules_image_input(out, "us-east-1", &config, &e) < 0 &&
        !e.text[0])
        abort();
    return 0;
}
