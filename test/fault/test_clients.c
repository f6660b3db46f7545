/* SPDX-License-Identifier: MIT */
/* What clients may do at any time. No hook is needed for that, but all that is counted holds. */
#include "fault/stage.h"

enum {
    LEAVES = 16, /* clients that one server sees leave */
};

/* No hook is needed for what clients do; but all that is counted here shall hold for it, too.
 */

/* Several requests of all kinds on one connection; nothing in it asks for an answer first. */
static const char everything[] = GET("/get") "HEAD /lent HTTP/1.1\r\nhost: a\r\n\r\n" GET("/hints")
    POST("/post", "5", "hello") GET("/lent")
        POST("/echo", "5",
             "hello") "POST /echo HTTP/1.1\r\nhost: a\r\n"
                      "transfer-encoding: chunked\r\n\r\n"
                      "5\r\nhello\r\n0\r\nx-sum: 42\r\n\r\n"
                      "POST /echo HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n"
                      "content-length: 5\r\n\r\nhello" GET("/file")
                          GET("/own-file") "GET /raw HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n"
                                           "upgrade: echo\r\n\r\nhey";

/* What comes is read to its end, or for a while. */
static void leave_after(int port, size_t len, bool reads, void (*leave)(struct client *))
{
    struct client client = client_to(port);
    char some[512];

    client_send_bytes(&client, everything, len);
    if (reads && len >= sizeof(GET("/get")) - 1) /* one is answered for sure */
        client_read_some(&client, some, 1 + len % sizeof(some));
    leave(&client);
    if (client.fd >= 0)
        cr_assert_neq(client_wait_end(&client), CLIENT_SILENT, "after %zu bytes", len);
    client_close(&client);
}

static void leave_after_each(uint64_t dispatch, void (*leave)(struct client *))
{
    const int64_t live = kn_fault_live();
    const int open = stage_count_descriptors();
    struct stage *stage;

    stage_require();
    for (size_t from = 0; from < sizeof(everything); from += LEAVES) {
        stage = stage_open(dispatch);
        for (size_t len = from; len < from + LEAVES && len < sizeof(everything); len++)
            leave_after(stage->port, len, len % 2, leave);
        stage_assert_serving(stage);
        stage_close(stage);
    }
    cr_assert_eq(kn_fault_live(), live, "allocations left over");
    cr_assert_eq(stage_count_descriptors(), open, "descriptors left open");
}

TestEach(faults, a_client_may_reset_after_any_byte)
{
    leave_after_each(dispatch, client_reset);
}

TestEach(faults, a_client_may_finish_after_any_byte)
{
    leave_after_each(dispatch, client_finish);
}

/* It leaves some unread each time, so that no buffer is ever quite empty. */
TestEach(faults, a_slow_reader_of_a_large_file_costs_no_more_than_a_fast_one)
{
    struct stage *stage;
    struct client client;
    int rc;
    char some[10007];

    stage_require();
    stage = stage_open_with_file(dispatch, STAGE_LARGE_FILE_BYTES);
    kn_fault_plan(KN_FAULT_ENTER, 0, 0);
    client = client_of_little_memory(stage->port);
    client_send(&client, "GET /large-file HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    do
        rc = client_read_some(&client, some, sizeof(some));
    while (rc > 0);
    cr_assert_eq(rc, CLIENT_ENDED);
    cr_assert_leq(kn_fault_largest(), 256 << 10);
    client_close(&client);
    stage_close(stage);
}
