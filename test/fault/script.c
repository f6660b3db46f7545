/* SPDX-License-Identifier: MIT */
#include "fault/script.h"

#include <stdio.h>

enum {
    UNHARMED = 3,     /* runs in a row, and all has failed */
    RUNS_MOST = 2000, /* more would mean that a run never ends unharmed */
};

/* Two clients that take turns, and how often one was let down. */
struct script {
    int port;
    struct client clients[2];
    unsigned failures;
};

/* A client whose connection failed begins anew. */
static struct client *client_of(struct script *script, unsigned number)
{
    struct client *client = &script->clients[number];

    if (client->fd <= 0)
        *client = client_to(script->port);
    cr_assert_gt(client->fd, 0, "%d", client->fd);
    return client;
}

/* A step came to `status`. It is right; or an honest failure, after which the client is replaced.
 * Returns whether it was right. */
static bool check(struct script *script, struct client *client, int status, int right)
{
    if (status == right)
        return true;
    cr_assert_neq(status, CLIENT_SILENT, "neither answered nor closed");
    cr_assert_neq(status, CLIENT_GARBLED);
    cr_assert_leq(status < 0 ? 0 : status % 500, 99, "it is no answer to this: %d", status);
    script->failures++;
    client_close(client);
    return false;
}

static void expect_body(struct client *client, const char *bytes, size_t len)
{
    cr_assert_eq(client->body_len, len);
    cr_assert_arr_eq(client->body, bytes, len);
}

static void get(struct script *script, unsigned number)
{
    struct client *client = client_of(script, number);

    client_send(client, GET("/get"));
    if (check(script, client, client_read(client), 200))
        expect_body(client, "/get", 4);
}

static void pipeline(struct script *script)
{
    struct client *client = client_of(script, 0);

    client_send(client, GET("/1") GET("/hints") GET("/3"));
    if (!check(script, client, client_read(client), 200))
        return;
    expect_body(client, "/1", 2);
    /* Hints are dropped where there is no memory for them. */
    int status = client_read(client);
    if (status == 103)
        status = client_read(client);
    else if (status == 200)
        script->failures++;
    if (!check(script, client, status, 200))
        return;
    expect_body(client, "/hints", 6);
    if (check(script, client, client_read(client), 200))
        expect_body(client, "/3", 2);
}

static void post_whole(struct script *script)
{
    struct client *client = client_of(script, 0);

    client_send(client, POST("/post", "5", "hello"));
    if (check(script, client, client_read(client), 200))
        expect_body(client, "hello", 5);
}

static void post_stream(struct script *script)
{
    struct client *client = client_of(script, 0);

    client_send(client, POST("/echo", "3000", ""));
    client_send_bytes(client, stage_body_bytes, STAGE_BODY_BYTES / 2);
    client_send_bytes(client, stage_body_bytes + STAGE_BODY_BYTES / 2,
                      STAGE_BODY_BYTES - STAGE_BODY_BYTES / 2);
    if (check(script, client, client_read(client), 200))
        expect_body(client, stage_body_bytes, STAGE_BODY_BYTES);
}

static void post_much(struct script *script)
{
    struct client *client = client_of(script, 0);

    client_send(client, POST("/weigh", "300000", ""));
    for (int i = 0; i < 300000 / STAGE_BODY_BYTES; i++)
        client_send_bytes(client, stage_body_bytes, STAGE_BODY_BYTES);
    if (check(script, client, client_read(client), 200))
        expect_body(client, "300000", 6);
}

static void post_chunks(struct script *script)
{
    struct client *client = client_of(script, 0);

    client_send(client,
                "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nbb8\r\n");
    client_send_bytes(client, stage_body_bytes, STAGE_BODY_BYTES);
    client_send(client, "\r\n0\r\nx-sum: 42\r\n\r\n");
    if (!check(script, client, client_read(client), 200))
        return;
    expect_body(client, stage_body_bytes, STAGE_BODY_BYTES);
    cr_assert_str_eq(client->trailers, "x-sum: 42\n");
}

static void post_expecting(struct script *script)
{
    struct client *client = client_of(script, 0);

    client_send(client, "POST /post HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n"
                        "content-length: 5\r\n\r\n");
    if (check(script, client, client_read(client), 200))
        client_close(client); /* unread: so this was the last */
    client = client_of(script, 0);
    client_send(client, "POST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\n"
                        "content-length: 2000\r\n\r\n");
    client_send_bytes(client, stage_body_bytes, 2000);
    if (check(script, client, client_read(client), 200))
        expect_body(client, stage_body_bytes, 2000);
    if (client->fd > 0)
        check(script, client, client_expect_end(client), CLIENT_ENDED);
    client_close(client);
}

static void get_lent(struct script *script)
{
    struct client *client = client_of(script, 0);

    client_send(client, GET("/lent"));
    if (check(script, client, client_read(client), 200))
        cr_assert_eq(client->body_len, 3 * STAGE_LENT_BYTES);
    client = client_of(script, 0);
    client_send(client, GET("/lent-whole"));
    if (check(script, client, client_read(client), 200))
        expect_body(client, stage_lent_bytes, STAGE_LENT_BYTES);
}

static void get_file(struct script *script)
{
    struct client *client = client_of(script, 0);

    client_send(client, GET("/file"));
    if (check(script, client, client_read(client), 200))
        cr_assert_eq(client->body_len, STAGE_FILE_BYTES);
    client = client_of(script, 0);
    client_send(client, GET("/own-file"));
    if (check(script, client, client_read(client), 200))
        cr_assert_eq(client->body_len, 100);
}

static void switch_to_raw(struct script *script)
{
    struct client *client;
    char text[8];

    client_close(client_of(script, 0));
    client = client_of(script, 0);
    client_send(client, "GET /raw HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n"
                        "upgrade: echo\r\n\r\n");
    if (!check(script, client, client_read(client), 101))
        return;
    client_send(client, "hey");
    if (!check(script, client, client_read_some(client, text, sizeof(text)), 3))
        return;
    cr_assert_arr_eq(text, "hey", 3);
    client_finish(client);
    check(script, client, client_read_some(client, text, sizeof(text)), CLIENT_ENDED);
    client_close(client);
}

/* Play it. Returns how many steps failed. */
static unsigned play(int port)
{
    struct script script = {.port = port};
    void (*const steps[])(struct script *) = {
        pipeline,       post_whole, post_stream, post_much,     post_chunks,
        post_expecting, get_lent,   get_file,    switch_to_raw,
    };

    get(&script, 0);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        steps[i](&script);
        get(&script, 1);
    }
    client_close(&script.clients[0]);
    client_close(&script.clients[1]);
    return script.failures;
}

/* One life of a server, in which the `number`th of its kind fails. False: none did. */
static bool run(uint64_t dispatch, enum kn_fault kind, uint64_t number, int error)
{
    const int64_t live = kn_fault_live();
    const int open = stage_count_descriptors();
    struct stage *stage;
    unsigned failures;
    bool happened;

    kn_fault_plan(kind, number, error);
    stage = stage_open(dispatch);
    failures = play(stage->port);
    happened = kn_fault_happened();
    kn_fault_plan(kind, 0, 0);
    cr_assert_leq(failures, happened ? 1 : 0, "fault %d of kind %d", (int)number, kind);
    stage_assert_serving(stage);
    stage_close(stage);
    cr_assert_eq(kn_fault_live(), live, "allocations left over: %d, fault %d",
                 (int)(kn_fault_live() - live), (int)number);
    cr_assert_eq(stage_count_descriptors(), open, "descriptors left open");
    return happened;
}

/* Let the first fail, then the second, and so on. Not all lives have as many: so the end is where
 * a few have had fewer. */
void script_run_each(uint64_t dispatch, enum kn_fault kind, int error)
{
    unsigned number = 0;
    unsigned failed = 0;

    stage_require();
    for (unsigned unharmed = 0; unharmed < UNHARMED; number++) {
        const bool happened = run(dispatch, kind, number + 1, error);

        cr_assert_leq(number, RUNS_MOST);
        failed += happened;
        unharmed = happened ? 0 : unharmed + 1;
    }
    cr_assert_gt(failed, 20, "so few cannot be all");
    printf("(%u failed) ", failed);
}
