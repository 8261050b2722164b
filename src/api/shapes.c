/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The API's input shapes (api version 2025-09-09) and those of our extensions. Limits and patterns
 * are the service model's; "required" of nested members too. Two enumerations are wider than the
 * model: architectures and chipsets also name what this service runs on.
 */
#include "api/shape.h"

#include <stddef.h>

#include "api/patterns.h"

#define STRING(lo, hi)                                 \
    {                                                  \
        .kind = SHAPE_STRING, .min = (lo), .max = (hi) \
    }
#define TEXT(lo, hi, re)                                                 \
    {                                                                    \
        .kind = SHAPE_STRING, .min = (lo), .max = (hi), .pattern = &(re) \
    }
#define NUMBER(lo, hi)                                  \
    {                                                   \
        .kind = SHAPE_INTEGER, .min = (lo), .max = (hi) \
    }
#define ENUM(list)                                                  \
    {                                                               \
        .kind = SHAPE_STRING, .max = SHAPE_NO_MAX, .values = (list) \
    }
#define STRUCT(list)                            \
    {                                           \
        .kind = SHAPE_STRUCT, .members = (list) \
    }
#define LIST(of, lo, hi)                                               \
    {                                                                  \
        .kind = SHAPE_LIST, .element = &(of), .min = (lo), .max = (hi) \
    }
#define END                        \
    {                              \
        NULL, NULL, false, IN_BODY \
    }

#define INT_MAX_32 INT32_MAX

static const struct shape ANY = {.kind = SHAPE_ANY};
static const struct shape BOOLEAN = {.kind = SHAPE_BOOLEAN};
static const struct shape STRING_ANY = STRING(0, SHAPE_NO_MAX);
static const struct shape NON_BLANK = TEXT(1, 2048, PATTERN_NO_SPACE);
static const struct shape INTEGER = NUMBER(INT32_MIN, INT_MAX_32);
static const struct shape POSITIVE = NUMBER(1, INT_MAX_32);
static const struct shape PORT = NUMBER(1, 65535);
static const struct shape MAX_RESULTS = NUMBER(1, 50);
static const struct shape CLIENT_TOKEN = STRING(1, 128);
static const struct shape IMAGE_NAME = TEXT(1, 64, PATTERN_NAME);
static const struct shape IMAGE_ID = STRING(1, 256);
static const struct shape MICROVM_ID = STRING(1, 256);
static const struct shape ROLE_ARN = TEXT(20, 2048, PATTERN_ROLE_ARN);
static const struct shape CONNECTOR = STRING(1, 2048);
static const struct shape CONNECTORS_1 = LIST(CONNECTOR, 0, 1);
static const struct shape CONNECTORS_10 = LIST(CONNECTOR, 0, 10);

static const struct member NO_MEMBERS[] = {END};
static const struct shape UNIT = STRUCT(NO_MEMBERS);

/* Only S3 artifacts exist; the union keeps its place for others. */
static const struct member CODE_ARTIFACT_MEMBERS[] = {{"uri", &NON_BLANK, false, IN_BODY}, END};
static const struct shape CODE_ARTIFACT = {.kind = SHAPE_UNION, .members = CODE_ARTIFACT_MEMBERS};

static const char *const ARCHITECTURES[] = {"ARM_64", "X86_64", NULL};
static const struct shape ARCHITECTURE = ENUM(ARCHITECTURES);
static const struct member CPU_MEMBERS[] = {{"architecture", &ARCHITECTURE, true, IN_BODY}, END};
static const struct shape CPU = STRUCT(CPU_MEMBERS);
static const struct shape CPUS = LIST(CPU, 0, SHAPE_NO_MAX);

static const char *const CHIPSETS[] = {"GRAVITON", "GENERIC", NULL};
static const struct shape CHIPSET = ENUM(CHIPSETS);

static const struct member RESOURCES_MEMBERS[] = {
    {"minimumMemoryInMiB", &INTEGER, true, IN_BODY},
    END,
};
static const struct shape RESOURCES = STRUCT(RESOURCES_MEMBERS);
static const struct shape RESOURCES_LIST = LIST(RESOURCES, 0, 1);

static const char *const CAPABILITIES[] = {"ALL", NULL};
static const struct shape CAPABILITY = ENUM(CAPABILITIES);
static const struct shape CAPABILITY_LIST = LIST(CAPABILITY, 0, SHAPE_NO_MAX);

static const struct shape LOG_GROUP = TEXT(1, 512, PATTERN_LOG_GROUP);
static const struct shape LOG_STREAM = TEXT(1, 512, PATTERN_LOG_STREAM);
static const struct member CLOUDWATCH_MEMBERS[] = {
    {"logGroup", &LOG_GROUP, false, IN_BODY},
    {"logStream", &LOG_STREAM, false, IN_BODY},
    END,
};
static const struct shape CLOUDWATCH = STRUCT(CLOUDWATCH_MEMBERS);
static const struct member LOGGING_MEMBERS[] = {
    {"disabled", &UNIT, false, IN_BODY},
    {"cloudWatch", &CLOUDWATCH, false, IN_BODY},
    END,
};
static const struct shape LOGGING = {.kind = SHAPE_UNION, .members = LOGGING_MEMBERS};

static const char *const HOOK_STATES[] = {"DISABLED", "ENABLED", NULL};
static const struct shape HOOK_STATE = ENUM(HOOK_STATES);
static const struct shape RUNTIME_HOOK_S = NUMBER(1, 60);
static const struct shape BUILD_HOOK_S = NUMBER(1, 3600);
static const struct member MICROVM_HOOKS_MEMBERS[] = {
    {"run", &HOOK_STATE, false, IN_BODY},
    {"runTimeoutInSeconds", &RUNTIME_HOOK_S, false, IN_BODY},
    {"resume", &HOOK_STATE, false, IN_BODY},
    {"resumeTimeoutInSeconds", &RUNTIME_HOOK_S, false, IN_BODY},
    {"suspend", &HOOK_STATE, false, IN_BODY},
    {"suspendTimeoutInSeconds", &RUNTIME_HOOK_S, false, IN_BODY},
    {"terminate", &HOOK_STATE, false, IN_BODY},
    {"terminateTimeoutInSeconds", &RUNTIME_HOOK_S, false, IN_BODY},
    END,
};
static const struct shape MICROVM_HOOKS = STRUCT(MICROVM_HOOKS_MEMBERS);
static const struct member IMAGE_HOOKS_MEMBERS[] = {
    {"ready", &HOOK_STATE, false, IN_BODY},
    {"readyTimeoutInSeconds", &BUILD_HOOK_S, false, IN_BODY},
    {"validate", &HOOK_STATE, false, IN_BODY},
    {"validateTimeoutInSeconds", &BUILD_HOOK_S, false, IN_BODY},
    END,
};
static const struct shape IMAGE_HOOKS = STRUCT(IMAGE_HOOKS_MEMBERS);
static const struct member HOOKS_MEMBERS[] = {
    {"port", &PORT, false, IN_BODY},
    {"microvmHooks", &MICROVM_HOOKS, false, IN_BODY},
    {"microvmImageHooks", &IMAGE_HOOKS, false, IN_BODY},
    END,
};
static const struct shape HOOKS = STRUCT(HOOKS_MEMBERS);

static const struct shape ENV_KEY = TEXT(1, 256, PATTERN_NO_SPACE);
static const struct shape ENV_VALUE = {.kind = SHAPE_STRING, .max = 4096, .sensitive = true};
static const struct shape ENVIRONMENT = {
    .kind = SHAPE_MAP, .max = 50, .key = &ENV_KEY, .element = &ENV_VALUE, .sensitive = true};

static const struct shape TAG_KEY = TEXT(1, 128, PATTERN_TAG);
static const struct shape TAG_VALUE = TEXT(0, 256, PATTERN_TAG);
static const struct shape TAGS = {
    .kind = SHAPE_MAP, .max = SHAPE_NO_MAX, .key = &TAG_KEY, .element = &TAG_VALUE};
static const struct shape TAG_KEYS = LIST(TAG_KEY, 0, SHAPE_NO_MAX);
static const struct shape TAGGABLE = TEXT(1, 10000, PATTERN_TAGGABLE);

static const struct shape MAX_IDLE = NUMBER(60, INT_MAX_32);
static const struct shape SUSPENDED_S = NUMBER(0, INT_MAX_32);
static const struct member IDLE_MEMBERS[] = {
    {"maxIdleDurationSeconds", &MAX_IDLE, true, IN_BODY},
    {"suspendedDurationSeconds", &SUSPENDED_S, true, IN_BODY},
    {"autoResumeEnabled", &BOOLEAN, true, IN_BODY},
    END,
};
static const struct shape IDLE_POLICY = STRUCT(IDLE_MEMBERS);
static const struct shape MAX_DURATION = NUMBER(1, 28800);
static const struct shape PAYLOAD = {.kind = SHAPE_STRING, .max = 4096, .sensitive = true};

static const struct member RANGE_MEMBERS[] = {
    {"startPort", &PORT, true, IN_BODY},
    {"endPort", &PORT, true, IN_BODY},
    END,
};
static const struct shape RANGE = STRUCT(RANGE_MEMBERS);
static const struct member PORT_SPEC_MEMBERS[] = {
    {"port", &PORT, false, IN_BODY},
    {"range", &RANGE, false, IN_BODY},
    {"allPorts", &UNIT, false, IN_BODY},
    END,
};
static const struct shape PORT_SPEC = {.kind = SHAPE_UNION, .members = PORT_SPEC_MEMBERS};
static const struct shape PORT_SPECS = LIST(PORT_SPEC, 1, SHAPE_NO_MAX);

/* ---- inputs ------------------------------------------------------------------------------------
 */

#define VERSION_CONFIG                                                                             \
    {"baseImageVersion", &NON_BLANK, false, IN_BODY},                                              \
        {"description", &STRING_ANY, false, IN_BODY}, {"logging", &LOGGING, false, IN_BODY},       \
        {"egressNetworkConnectors", &CONNECTORS_1, false, IN_BODY},                                \
        {"cpuConfigurations", &CPUS, false, IN_BODY},                                              \
        {"resources", &RESOURCES_LIST, false, IN_BODY},                                            \
        {"additionalOsCapabilities", &CAPABILITY_LIST, false, IN_BODY},                            \
        {"hooks", &HOOKS, false, IN_BODY}, {"environmentVariables", &ENVIRONMENT, false, IN_BODY}, \
    {                                                                                              \
        "clientToken", &CLIENT_TOKEN, false, IN_BODY                                               \
    }

const struct member IN_CREATE_IMAGE[] = {
    {"baseImageArn", &NON_BLANK, true, IN_BODY},
    {"codeArtifact", &CODE_ARTIFACT, true, IN_BODY},
    {"buildRoleArn", &ROLE_ARN, true, IN_BODY},
    {"name", &IMAGE_NAME, true, IN_BODY},
    VERSION_CONFIG,
    {"tags", &TAGS, false, IN_BODY},
    END,
};

const struct member IN_UPDATE_IMAGE[] = {
    {"imageIdentifier", &IMAGE_ID, true, IN_PATH},
    {"baseImageArn", &NON_BLANK, true, IN_BODY},
    {"codeArtifact", &CODE_ARTIFACT, true, IN_BODY},
    {"buildRoleArn", &ROLE_ARN, true, IN_BODY},
    VERSION_CONFIG,
    END,
};

#define PAGE                                       \
    {"maxResults", &MAX_RESULTS, false, IN_QUERY}, \
    {                                              \
        "nextToken", &STRING_ANY, false, IN_QUERY  \
    }

const struct member IN_IMAGE[] = {{"imageIdentifier", &IMAGE_ID, true, IN_PATH}, END};
const struct member IN_LIST_IMAGES[] = {PAGE, {"nameFilter", &NON_BLANK, false, IN_QUERY}, END};
const struct member IN_LIST_VERSIONS[] = {
    {"imageIdentifier", &IMAGE_ID, true, IN_PATH},
    PAGE,
    END,
};

#define VERSION_KEY                                \
    {"imageIdentifier", &IMAGE_ID, true, IN_PATH}, \
    {                                              \
        "imageVersion", &NON_BLANK, true, IN_PATH  \
    }

static const char *const VERSION_STATUSES[] = {"ACTIVE", "INACTIVE", NULL};
static const struct shape VERSION_STATUS = ENUM(VERSION_STATUSES);

const struct member IN_VERSION[] = {VERSION_KEY, END};
const struct member IN_UPDATE_VERSION[] = {
    VERSION_KEY,
    {"status", &VERSION_STATUS, true, IN_BODY},
    END,
};
const struct member IN_LIST_BUILDS[] = {
    VERSION_KEY,
    PAGE,
    {"architecture", &ARCHITECTURE, false, IN_QUERY},
    {"chipset", &CHIPSET, false, IN_QUERY},
    {"chipsetGeneration", &NON_BLANK, false, IN_QUERY},
    END,
};
const struct member IN_BUILD[] = {VERSION_KEY, {"buildId", &NON_BLANK, true, IN_PATH}, END};
const struct member IN_LIST_MANAGED[] = {PAGE, END};

const struct member IN_RUN[] = {
    {"imageIdentifier", &IMAGE_ID, true, IN_BODY},
    {"imageVersion", &NON_BLANK, false, IN_BODY},
    {"executionRoleArn", &ROLE_ARN, false, IN_BODY},
    {"idlePolicy", &IDLE_POLICY, false, IN_BODY},
    {"logging", &LOGGING, false, IN_BODY},
    {"runHookPayload", &PAYLOAD, false, IN_BODY},
    {"maximumDurationInSeconds", &MAX_DURATION, false, IN_BODY},
    {"ingressNetworkConnectors", &CONNECTORS_10, false, IN_BODY},
    {"egressNetworkConnectors", &CONNECTORS_10, false, IN_BODY},
    {"clientToken", &CLIENT_TOKEN, false, IN_BODY},
    {"egressPolicy", &ANY, false, IN_BODY}, /* extension */
    END,
};
const struct member IN_MICROVM[] = {{"microvmIdentifier", &MICROVM_ID, true, IN_PATH}, END};
const struct member IN_LIST_MICROVMS[] = {
    PAGE,
    {"imageIdentifier", &IMAGE_ID, false, IN_QUERY},
    {"imageVersion", &STRING_ANY, false, IN_QUERY},
    END,
};
const struct member IN_AUTH_TOKEN[] = {
    {"microvmIdentifier", &MICROVM_ID, true, IN_PATH},
    {"expirationInMinutes", &POSITIVE, true, IN_BODY},
    {"allowedPorts", &PORT_SPECS, true, IN_BODY},
    END,
};
const struct member IN_SHELL_TOKEN[] = {
    {"microvmIdentifier", &MICROVM_ID, true, IN_PATH},
    {"expirationInMinutes", &POSITIVE, true, IN_BODY},
    END,
};

const struct member IN_RESOURCE[] = {{"Resource", &TAGGABLE, true, IN_PATH}, END};
const struct member IN_TAG[] = {
    {"Resource", &TAGGABLE, true, IN_PATH},
    {"Tags", &TAGS, true, IN_BODY},
    END,
};
const struct member IN_UNTAG[] = {
    {"Resource", &TAGGABLE, true, IN_PATH},
    {"tagKeys", &TAG_KEYS, true, IN_QUERY},
    END,
};

/* ---- extensions --------------------------------------------------------------------------------
 */

static const char *const LOG_KINDS[] = {"build", "microvm", NULL};
static const struct shape LOG_KIND = ENUM(LOG_KINDS);
static const char *const ONLY_TRUE[] = {"true", NULL};
static const struct shape FLAG = ENUM(ONLY_TRUE);
static const struct shape OFFSET = NUMBER(0, INT64_MAX);
static const struct shape ARGUMENT = STRING(0, 131072);
static const struct shape ARGUMENTS = LIST(ARGUMENT, 1, 1024);
static const struct shape EXEC_ENV = {
    .kind = SHAPE_MAP, .max = 256, .key = &ENV_KEY, .element = &ENV_VALUE, .sensitive = true};
static const struct shape PATH = STRING(1, 4096);
static const struct shape USER = TEXT(1, 256, PATTERN_NO_SPACE);
static const struct shape EXEC_TIMEOUT = NUMBER(1, 3600);
static const struct shape STDIN = {
    .kind = SHAPE_STRING, .max = SHAPE_NO_MAX, .sensitive = true}; /* the handler bounds it */

const struct member IN_NONE[] = {END};
const struct member IN_LOGS[] = {
    {"kind", &LOG_KIND, true, IN_PATH},
    {"key", &NON_BLANK, true, IN_PATH},
    {"offset", &OFFSET, false, IN_QUERY},
    END,
};
const struct member IN_EXEC[] = {
    {"microvmIdentifier", &MICROVM_ID, true, IN_PATH},
    {"args", &ARGUMENTS, true, IN_BODY},
    {"env", &EXEC_ENV, false, IN_BODY},
    {"cwd", &PATH, false, IN_BODY},
    {"user", &USER, false, IN_BODY},
    {"stdin", &STDIN, false, IN_BODY},
    {"timeoutSeconds", &EXEC_TIMEOUT, false, IN_BODY},
    END,
};
const struct member IN_GET_FILES[] = {
    {"microvmIdentifier", &MICROVM_ID, true, IN_PATH},
    {"path", &PATH, true, IN_QUERY},
    {"list", &FLAG, false, IN_QUERY},
    END,
};
const struct member IN_PUT_FILES[] = {
    {"microvmIdentifier", &MICROVM_ID, true, IN_PATH},
    {"path", &PATH, true, IN_QUERY},
    END,
};
