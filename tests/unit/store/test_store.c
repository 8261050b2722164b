/* SPDX-License-Identifier: Apache-2.0 */
/* Images, versions, builds, microVMs and client tokens through the public functions. */
#include "common.h"

#include <errno.h>
#include <string.h>

static void create(struct store *s, const char *name, struct store_build *build)
{
    struct err e;
    assert_ok(store_image_create(s, name, "{\"a\":\"b\"}", "{\"x\":1}", 512, NULL, NULL, build, &e),
              e);
}

static void end_build(struct store *s, const struct store_build *b, enum build_state how)
{
    struct err e;
    assert_ok(store_build_start(s, b->id, &e), e);
    struct store_build r = *b;
    r.state = how;
    r.state_reason = how == BUILD_FAILED ? (char *)"it broke" : NULL;
    r.memory_bytes = how == BUILD_SUCCESSFUL ? 1000 : 0;
    assert_ok(store_build_end(s, &r, &e), e);
}

static void expect_image(struct store *s, const char *name, enum image_state state, int active,
                         int failed)
{
    struct err e;
    struct store_image i = {0};
    assert_ok(store_image_get(s, name, &i, &e), e);
    assert_string_equal(image_state_name(i.state), image_state_name(state));
    assert_int_equal(i.latest_active, active);
    assert_int_equal(i.latest_failed, failed);
    store_image_done(&i);
}

static void image_life(void **state)
{
    struct store *s = ((struct scratch *)*state)->s;
    struct err e;
    struct store_image img = {0};
    struct store_version v = {0};
    struct store_build b = {0};
    assert_ok(store_image_create(s, "one", "{\"a\":\"b\"}", "{\"x\":1}", 512, &img, &v, &b, &e), e);
    assert_string_equal(img.name, "one");
    assert_string_equal(img.tags, "{\"a\":\"b\"}");
    assert_int_equal(strlen(img.id), UUID_LEN);
    assert_int_equal(img.state, IMAGE_CREATING);
    assert_int_equal(img.next_version, 2);
    assert_true(img.created_at > 1600000000000 && img.updated_at == img.created_at);
    assert_int_equal(v.number, 1);
    assert_string_equal(v.config, "{\"x\":1}");
    assert_int_equal(v.memory_mib, 512);
    assert_int_equal(v.state, VERSION_PENDING);
    assert_int_equal(v.status, VERSION_INACTIVE);
    assert_int_equal(b.version, 1);
    assert_int_equal(b.state, BUILD_PENDING);
    store_image_done(&img);
    store_version_done(&v);

    assert_int_equal(store_image_create(s, "one", NULL, "{}", 512, NULL, NULL, NULL, &e), -EEXIST);
    assert_non_null(strstr(e.text, "'one'"));
    /* an update while the first build runs is refused and leaves no trace */
    assert_int_equal(store_version_create(s, "one", "{}", 512, NULL, NULL, NULL, &e), -EBUSY);
    assert_int_equal(store_version_get(s, "one", 2, &v, &e), -ENOENT);

    end_build(s, &b, BUILD_SUCCESSFUL);
    expect_image(s, "one", IMAGE_CREATED, 1, 0);
    assert_ok(store_version_get(s, "one", 1, &v, &e), e);
    assert_int_equal(v.state, VERSION_SUCCESSFUL);
    assert_int_equal(v.status, VERSION_ACTIVE);
    store_version_done(&v);
    store_build_done(&b);

    /* a failed update consumes a number and leaves version 1 active */
    assert_ok(store_version_create(s, "one", "{}", 1024, &img, &v, &b, &e), e);
    assert_int_equal(img.state, IMAGE_UPDATING);
    assert_int_equal(v.number, 2);
    store_image_done(&img);
    store_version_done(&v);
    end_build(s, &b, BUILD_FAILED);
    store_build_done(&b);
    expect_image(s, "one", IMAGE_UPDATE_FAILED, 1, 2);
    assert_ok(store_version_create(s, "one", "{}", 1024, NULL, &v, &b, &e), e);
    assert_int_equal(v.number, 3);
    store_version_done(&v);
    end_build(s, &b, BUILD_SUCCESSFUL);
    store_build_done(&b);
    expect_image(s, "one", IMAGE_UPDATED, 3, 2);

    /* latest_active follows status and deletion */
    assert_ok(store_version_set_status(s, "one", 3, VERSION_INACTIVE, &v, &e), e);
    assert_int_equal(v.status, VERSION_INACTIVE);
    store_version_done(&v);
    expect_image(s, "one", IMAGE_UPDATED, 1, 2);
    assert_ok(store_version_set_status(s, "one", 3, VERSION_ACTIVE, NULL, &e), e);
    assert_int_equal(store_version_set_status(s, "one", 2, VERSION_ACTIVE, NULL, &e), -EBUSY);
    assert_ok(store_version_delete(s, "one", 3, &e), e);
    assert_ok(store_version_delete(s, "one", 2, &e), e);
    expect_image(s, "one", IMAGE_UPDATED, 1, 0);
    assert_int_equal(store_version_delete(s, "one", 2, &e), -ENOENT);
}

static void first_build_fails(void **state)
{
    struct store *s = ((struct scratch *)*state)->s;
    struct err e;
    struct store_build b = {0}, r = {0};
    create(s, "bad", &b);
    /* not started: cannot end well */
    struct store_build early = b;
    early.state = BUILD_SUCCESSFUL;
    assert_int_equal(store_build_end(s, &early, &e), -EBUSY);
    end_build(s, &b, BUILD_FAILED);
    expect_image(s, "bad", IMAGE_CREATE_FAILED, 0, 1);
    assert_ok(store_build_get(s, b.id, &r, &e), e);
    assert_string_equal(r.state_reason, "it broke");
    assert_int_equal(r.state, BUILD_FAILED);
    store_build_done(&r);
    /* ended is ended */
    early.state = BUILD_FAILED;
    assert_int_equal(store_build_end(s, &early, &e), -EBUSY);
    assert_int_equal(store_build_start(s, b.id, &e), -EBUSY);
    assert_int_equal(store_build_start(s, "nothing", &e), -ENOENT);
    store_build_done(&b);
}

static void deleting(void **state)
{
    struct store *s = ((struct scratch *)*state)->s;
    struct err e;
    struct store_build b = {0}, r = {0};
    struct store_image img = {0};
    create(s, "gone", &b);
    assert_int_equal(store_image_set_state(s, "gone", -1, IMAGE_DELETING, &e), -EBUSY);
    assert_non_null(strstr(e.text, "CREATING"));
    end_build(s, &b, BUILD_SUCCESSFUL);
    assert_int_equal(store_image_set_state(s, "gone", IMAGE_UPDATED, IMAGE_DELETING, &e), -EBUSY);
    assert_ok(store_image_set_state(s, "gone", IMAGE_CREATED, IMAGE_DELETING, &e), e);
    assert_ok(store_version_set_state(s, "gone", 1, -1, VERSION_DELETING, &e), e);
    char *resource = NULL;
    assert_int_equal(store_token_claim(s, "CreateMicrovmImage", "t", "h", &resource, &e), 1);
    assert_ok(store_token_set(s, "CreateMicrovmImage", "t", "gone", &e), e);
    assert_int_equal(store_token_claim(s, "UpdateMicrovmImage", "t", "h", &resource, &e), 1);
    assert_ok(store_token_set(s, "UpdateMicrovmImage", "t", "gone:2", &e), e);
    assert_int_equal(store_token_claim(s, "CreateMicrovmImage", "u", "h", &resource, &e), 1);
    assert_ok(store_token_set(s, "CreateMicrovmImage", "u", "gone-2", &e), e);
    assert_ok(store_image_delete(s, "gone", &e), e);
    assert_int_equal(store_image_get(s, "gone", &img, &e), -ENOENT);
    assert_int_equal(store_build_get(s, b.id, &r, &e), -ENOENT);
    /* its tokens are free again, those of a similar name are not */
    assert_int_equal(store_token_claim(s, "CreateMicrovmImage", "t", "h", &resource, &e), 1);
    assert_int_equal(store_token_claim(s, "UpdateMicrovmImage", "t", "h", &resource, &e), 1);
    assert_int_equal(store_token_claim(s, "CreateMicrovmImage", "u", "h", &resource, &e), 0);
    assert_string_equal(resource, "gone-2");
    free(resource);
    assert_int_equal(store_image_delete(s, "gone", &e), -ENOENT);
    store_build_done(&b);
    create(s, "gone", &b); /* the name is free */
    store_build_done(&b);
}

static void tags(void **state)
{
    struct store *s = ((struct scratch *)*state)->s;
    struct err e;
    struct store_image img = {0};
    create(s, "one", NULL);
    assert_ok(store_image_set_tags(s, "one", NULL, &e), e);
    assert_ok(store_image_get(s, "one", &img, &e), e);
    assert_null(img.tags);
    store_image_done(&img);
    assert_int_equal(store_image_set_tags(s, "two", "{}", &e), -ENOENT);
}

struct names {
    char text[4096];
    int64_t created;
    char last[128];
    unsigned n;
};

static void note(struct names *w, const char *key, int64_t created)
{
    strncat(w->text, key, sizeof w->text - strlen(w->text) - 2);
    strcat(w->text, " ");
    snprintf(w->last, sizeof w->last, "%s", key);
    w->created = created;
    w->n++;
}

static int see_image(const struct store_image *r, void *arg)
{
    note(arg, r->name, r->created_at);
    return 0;
}

static int see_version(const struct store_version *r, void *arg)
{
    char number[16];
    snprintf(number, sizeof number, "%d", r->number);
    note(arg, number, r->created_at);
    return 0;
}

static int see_build(const struct store_build *r, void *arg)
{
    note(arg, r->image, r->created_at);
    return 0;
}

static int see_microvm(const struct store_microvm *r, void *arg)
{
    note(arg, r->id, r->started_at);
    return 0;
}

static void image_pages(void **state)
{
    struct store *s = ((struct scratch *)*state)->s;
    struct err e;
    char name[8];
    for (int i = 0; i < 25; i++) {
        snprintf(name, sizeof name, "i%02d", i);
        create(s, name, NULL);
    }
    struct names all = {0}, paged = {0};
    struct store_page p = {.limit = 1000};
    assert_ok(store_image_list(s, &p, see_image, &all, &e), e);
    assert_int_equal(all.n, 25);
    assert_memory_equal(all.text, "i24 ", 4); /* newest first */
    p.limit = 4;
    for (unsigned before = UINT32_MAX; paged.n != before;) {
        before = paged.n;
        char key[128];
        snprintf(key, sizeof key, "%s", paged.last);
        p.before_created = paged.created;
        p.before_key = key;
        assert_ok(store_image_list(s, &p, see_image, &paged, &e), e);
    }
    assert_string_equal(all.text, paged.text); /* nothing lost, nothing twice */
}

static int stop_at_second(const struct store_image *r, void *arg)
{
    (void)r;
    return ++*(int *)arg == 2 ? -ECANCELED : 0;
}

static int delete_it(const struct store_image *r, void *arg)
{
    struct err e;
    return store_image_delete(arg, r->name, &e);
}

static void walks(void **state)
{
    struct store *s = ((struct scratch *)*state)->s;
    struct err e;
    struct store_build b[3] = {0};
    create(s, "a", &b[0]);
    create(s, "b", &b[1]);
    create(s, "c", &b[2]);
    struct store_page p = {.limit = 10};
    int calls = 0;
    assert_int_equal(store_image_list(s, &p, stop_at_second, &calls, &e), -ECANCELED);
    assert_int_equal(calls, 2);
    end_build(s, &b[1], BUILD_SUCCESSFUL);
    assert_ok(store_build_start(s, b[2].id, &e), e);
    assert_ok(store_build_start(s, b[2].id, &e), e); /* interrupted, started again */
    struct names w = {0};
    assert_ok(store_build_unfinished(s, see_build, &w, &e), e);
    assert_string_equal(w.text, "a c ");
    w = (struct names){0};
    assert_ok(store_build_list(s, "b", 1, &p, see_build, &w, &e), e);
    assert_string_equal(w.text, "b ");
    assert_ok(store_version_create(s, "b", "{}", 512, NULL, NULL, NULL, &e), e);
    w = (struct names){0};
    assert_ok(store_version_list(s, "b", 0, 10, see_version, &w, &e), e);
    assert_string_equal(w.text, "2 1 ");
    w = (struct names){0};
    assert_ok(store_version_list(s, "b", 2, 10, see_version, &w, &e), e);
    assert_string_equal(w.text, "1 ");
    assert_ok(store_image_list(s, &p, delete_it, s, &e), e); /* a walker may change the store */
    for (int i = 0; i < 3; i++)
        store_build_done(&b[i]);
}

static int run(struct store *s, const char *id, const char *image, int version, struct err *e)
{
    char endpoint[64];
    snprintf(endpoint, sizeof endpoint, "ep-%s", id);
    struct store_microvm r = {.id = (char *)id,
                              .endpoint = endpoint,
                              .image = (char *)image,
                              .version = version,
                              .config = (char *)"{}",
                              .max_duration_s = 28800,
                              .memory_mib = 512};
    return store_microvm_create(s, &r, 2048, e);
}

static void microvm_life(void **state)
{
    struct store *s = ((struct scratch *)*state)->s;
    struct err e;
    struct store_microvm r = {0};
    assert_ok(run(s, "m1", "img", 1, &e), e);
    assert_int_equal(run(s, "m1", "img", 1, &e), -EEXIST);
    assert_ok(store_microvm_by_endpoint(s, "ep-m1", &r, &e), e);
    assert_string_equal(r.id, "m1");
    assert_int_equal(r.state, MICROVM_PENDING);
    assert_int_equal(r.max_duration_s, 28800);
    assert_null(r.state_reason);
    store_microvm_done(&r);
    assert_int_equal(store_microvm_by_endpoint(s, "ep-m9", &r, &e), -ENOENT);
}

static void microvm_states(void **state)
{
    struct store *s = ((struct scratch *)*state)->s;
    struct err e;
    struct store_microvm r = {0};
    assert_ok(run(s, "m1", "img", 1, &e), e);
    assert_int_equal(store_microvm_set_state(s, "m1", MICROVM_SUSPENDING, NULL, &e), -EBUSY);
    assert_ok(store_microvm_set_state(s, "m1", MICROVM_RUNNING, NULL, &e), e);
    assert_ok(store_microvm_set_state(s, "m1", MICROVM_SUSPENDING, NULL, &e), e);
    assert_ok(store_microvm_set_state(s, "m1", MICROVM_SUSPENDED, NULL, &e), e);
    assert_ok(store_microvm_get(s, "m1", &r, &e), e);
    int64_t suspended = r.suspended_at;
    assert_true(suspended > 0);
    store_microvm_done(&r);
    /* a resume that fell back keeps the time of the suspend */
    assert_ok(store_microvm_set_state(s, "m1", MICROVM_PENDING, NULL, &e), e);
    assert_ok(store_microvm_set_state(s, "m1", MICROVM_SUSPENDED, NULL, &e), e);
    assert_ok(store_microvm_get(s, "m1", &r, &e), e);
    assert_int_equal(r.suspended_at, suspended);
    store_microvm_done(&r);
    assert_ok(store_microvm_set_state(s, "m1", MICROVM_RUNNING, NULL, &e), e);
    assert_ok(store_microvm_set_state(s, "m1", MICROVM_TERMINATING, "Success.", &e), e);
    assert_ok(store_microvm_set_state(s, "m1", MICROVM_TERMINATED, NULL, &e), e);
    assert_ok(store_microvm_get(s, "m1", &r, &e), e);
    assert_string_equal(r.state_reason, "Success."); /* NULL kept it */
    assert_int_equal(r.suspended_at, 0);
    assert_true(r.terminated_at >= r.started_at);
    store_microvm_done(&r);
    assert_int_equal(store_microvm_set_state(s, "m1", MICROVM_RUNNING, NULL, &e), -EBUSY);
    assert_int_equal(store_microvm_set_state(s, "m2", MICROVM_RUNNING, NULL, &e), -ENOENT);
}

static void microvm_memory(void **state)
{
    struct store *s = ((struct scratch *)*state)->s;
    struct err e;
    char id[8];
    for (int i = 0; i < 4; i++) {
        snprintf(id, sizeof id, "m%d", i);
        assert_ok(run(s, id, "img", 1 + i % 2, &e), e);
    }
    assert_int_equal(run(s, "m9", "img", 1, &e), -EDQUOT);
    struct store_microvm r = {0};
    assert_int_equal(store_microvm_get(s, "m9", &r, &e), -ENOENT);
    int n = -1;
    assert_ok(store_microvm_count(s, "img", 0, &n, &e), e);
    assert_int_equal(n, 4);
    assert_ok(store_microvm_count(s, "img", 2, &n, &e), e);
    assert_int_equal(n, 2);
    assert_ok(store_microvm_set_state(s, "m0", MICROVM_TERMINATED, "gone", &e), e);
    assert_ok(run(s, "m9", "other", 1, &e), e); /* a terminated VM holds no memory */
    struct names w = {0};
    assert_ok(store_microvm_live(s, see_microvm, &w, &e), e);
    assert_string_equal(w.text, "m1 m2 m3 m9 ");
    struct store_page p = {.limit = 10};
    w = (struct names){0};
    assert_ok(store_microvm_list(s, "img", 1, &p, see_microvm, &w, &e), e);
    assert_string_equal(w.text, "m2 m0 ");
    w = (struct names){0};
    assert_ok(store_microvm_list(s, NULL, 0, &p, see_microvm, &w, &e), e);
    assert_string_equal(w.text, "m9 m3 m2 m1 m0 ");
    assert_ok(store_microvm_purge(s, clock_real_ms() - 60000, &e), e);
    assert_ok(store_microvm_get(s, "m0", &r, &e), e);
    store_microvm_done(&r);
    assert_ok(store_microvm_purge(s, clock_real_ms() + 1, &e), e);
    assert_int_equal(store_microvm_get(s, "m0", &r, &e), -ENOENT);
    assert_ok(store_microvm_get(s, "m1", &r, &e), e);
    store_microvm_done(&r);
}

static void client_tokens(void **state)
{
    struct scratch *t = *state;
    struct err e;
    char *res = (char *)"untouched";
    assert_int_equal(store_token_claim(t->s, "Run", "t", "aa", &res, &e), 1);
    assert_int_equal(store_token_claim(t->s, "Run", "t", "aa", &res, &e), 0);
    assert_null(res); /* still running */
    assert_int_equal(store_token_claim(t->s, "Run", "t", "bb", &res, &e), -EBUSY);
    assert_int_equal(store_token_claim(t->s, "Other", "t", "bb", &res, &e), 1);
    assert_ok(store_token_set(t->s, "Run", "t", "microvm-1", &e), e);
    assert_int_equal(store_token_claim(t->s, "Run", "t", "aa", &res, &e), 0);
    assert_string_equal(res, "microvm-1");
    free(res);
    assert_int_equal(store_token_set(t->s, "Run", "none", "x", &e), -ENOENT);
    /* a restart forgets "Other", which never got a result */
    store_close(t->s);
    assert_ok(store_open(t->db, &t->s, &e), e);
    assert_int_equal(store_token_claim(t->s, "Other", "t", "cc", &res, &e), 1);
    assert_int_equal(store_token_claim(t->s, "Run", "t", "aa", &res, &e), 0);
    free(res);
    assert_ok(store_token_drop(t->s, "Run", "t", &e), e);
    assert_int_equal(store_token_claim(t->s, "Run", "t", "zz", &res, &e), 1);
    assert_ok(store_token_purge(t->s, clock_real_ms() + 1, &e), e);
    assert_int_equal(store_token_claim(t->s, "Run", "t", "yy", &res, &e), 1);
}

static void hostile_texts(void **state)
{
    struct store *s = ((struct scratch *)*state)->s;
    struct err e;
    const char *evil = "x'); DROP TABLE images; --";
    struct store_image img = {0};
    assert_ok(store_image_create(s, evil, evil, evil, 512, &img, NULL, NULL, &e), e);
    assert_string_equal(img.name, evil);
    store_image_done(&img);
    create(s, "still-there", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(image_life),    TEST(first_build_fails), TEST(deleting),
        TEST(tags),          TEST(image_pages),       TEST(walks),
        TEST(microvm_life),  TEST(microvm_states),    TEST(microvm_memory),
        TEST(client_tokens), TEST(hostile_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
