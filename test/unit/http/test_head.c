/* SPDX-License-Identifier: MIT */
#include "http/head.h"

#include "support/test.h"

#include <string.h>

static const struct kn_limits limits = {
    .max_head_bytes = SIZE_MAX,
    .max_fields = SIZE_MAX,
    .max_field_bytes = SIZE_MAX,
    .max_target_bytes = SIZE_MAX,
    .max_body_bytes = UINT64_MAX,
};

struct pair {
    const char *name;
    const char *value;
};

static void begin(struct kn_head *head, const char *method, const char *target)
{
    kn_head_begin(head);
    cr_assert_eq(kn_head_method(head, method, strlen(method)), 0);
    cr_assert_eq(kn_head_target(head, target, strlen(target), &limits), 0);
}

static void add(struct kn_head *head, const char *name, const char *value)
{
    uint32_t known;

    cr_assert_eq(kn_head_name(head, name, strlen(name), &limits), 0);
    cr_assert_eq(kn_head_name_complete(head, &limits, &known), 0);
    cr_assert_eq(kn_head_value(head, value, strlen(value), &limits), 0);
    cr_assert_eq(kn_head_value_complete(head), 0);
    cr_assert_eq(head->fields[head->view.field_count - 1].known, known);
}

static bool is(struct kino_slice slice, const char *text)
{
    if (!text)
        return !slice.data;
    return slice.data && slice.len == strlen(text) && memcmp(slice.data, text, slice.len) == 0;
}

static void assert_slice(struct kino_slice slice, const char *text, const char *target)
{
    cr_assert(is(slice, text), "'%.*s' is not '%s' for %s", (int)slice.len, slice.data,
              text ? text : "absent", target);
}

/* SPEC.md 2.2 */

Test(head, a_target_is_taken_apart)
{
    static const struct {
        const char *sent;
        const char *target;
        const char *path;
        const char *query;
        const char *authority;
    } rows[] = {
        {"/", "/", "/", NULL, "host"},
        {"/a/b", "/a/b", "/a/b", NULL, "host"},
        {"/a?b=c?d", "/a?b=c?d", "/a", "b=c?d", "host"},
        {"/a?", "/a?", "/a", "", "host"},
        {"/?a", "/?a", "/", "a", "host"},
        {"//a/b", "//a/b", "//a/b", NULL, "host"},
        {"/a:80@b", "/a:80@b", "/a:80@b", NULL, "host"},
        {"/%zz", "/%zz", "/%zz", NULL, "host"},
        {"/a#b", "/a", "/a", NULL, "host"},
        {"/a?b#c?d#e", "/a?b", "/a", "b", "host"},
        {"/a#?b", "/a", "/a", NULL, "host"},
        {"*", "*", "*", NULL, "host"},
        {"http://b", "http://b", "/", NULL, "b"},
        {"http://b/", "http://b/", "/", NULL, "b"},
        {"HTTP://b:8080/c?d", "HTTP://b:8080/c?d", "/c", "d", "b:8080"},
        {"http://b?c/d", "http://b?c/d", "/", "c/d", "b"},
        {"http://b#c", "http://b", "/", NULL, "b"},
        {"http://[::1]:80/c", "http://[::1]:80/c", "/c", NULL, "[::1]:80"},
        {"http://u:p@b:80/c@d", "http://u:p@b:80/c@d", "/c@d", NULL, "b:80"},
    };
    struct kn_head head = {0};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        begin(&head, "OPTIONS", rows[i].sent);
        add(&head, "host", "host");
        cr_assert_eq(kn_head_seal(&head, KINO_HTTP_1_1), 0, "%s", rows[i].sent);
        assert_slice(head.view.target, rows[i].target, rows[i].sent);
        assert_slice(head.view.path, rows[i].path, rows[i].sent);
        assert_slice(head.view.query, rows[i].query, rows[i].sent);
        assert_slice(head.view.authority, rows[i].authority, rows[i].sent);
    }
    kn_head_deinit(&head);
}

Test(head, a_malformed_target_is_refused)
{
    static const struct {
        const char *method;
        const char *target;
    } rows[] = {
        {"GET", "*"},
        {"HEAD", "*"},
        {"OPTIONS", "*a"},
        {"OPTIONS", "*?a"},
        {"GET", "#a"},
        {"GET", "a"},
        {"GET", "a:80"},
        {"GET", "http"},
        {"GET", "http:"},
        {"GET", "http:/a"},
        {"GET", "http://"},
        {"GET", "http:///a"},
        {"GET", "http://?a"},
        {"GET", "http://:80/"},
        {"GET", "http://u@/"},
        {"GET", "http://u@v@b/"},
        {"GET", "http://a b/"},
        {"GET", "http://a:b/"},
        {"GET", "http://a:65536/"},
        {"GET", "http://[::1/"},
        {"GET", "https://a/"},
        {"GET", "ftp://a/"},
        {"GET", "xhttp://a/"},
    };
    struct kn_head head = {0};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        begin(&head, rows[i].method, rows[i].target);
        add(&head, "host", "host");
        cr_assert_eq(kn_head_seal(&head, KINO_HTTP_1_1), 400, "%s", rows[i].target);
    }
    kn_head_deinit(&head);
}

Test(head, an_authority_is_not_judged_by_what_stands_behind_it)
{
    struct kn_head head = {0};

    begin(&head, "GET", "http://a%4");
    add(&head, "c", "a");
    add(&head, "host", "a");
    cr_assert_eq(kn_head_seal(&head, KINO_HTTP_1_1), 400);
    begin(&head, "GET", "http://a%");
    add(&head, "dad", "a");
    add(&head, "host", "a");
    cr_assert_eq(kn_head_seal(&head, KINO_HTTP_1_1), 400);
    kn_head_deinit(&head);
}

/* SPEC.md 2.4 */

Test(head, a_host_is_judged_by_its_grammar)
{
    static const char *const good[] = {
        "a",         "A.b-c_d~e",   "127.0.0.1",    "127.0.0.1:80", "a:",    "a:0",
        "a:65535",   "a:00080",     "[::1]",        "[::1]:80",     "[::]:", "[::ffff:1.2.3.4]:1",
        "%41b%c3A9", "!$&'()*+,;=", "0.0.0.0=5000", "1.2.3.4.5",    "xn--a", "[2001:DB8::a:1]",
    };
    static const char *const bad[] = {
        "",
        ":",
        ":80",
        "a b",
        "a/",
        "a?",
        "a#",
        "u@a",
        "a:b",
        "a:-1",
        "a:+1",
        "a:1:2",
        "a:65536",
        "a:000080",
        "a:99999",
        "a: 80",
        "a:80 x",
        "%",
        "a%4",
        "a%zz",
        "a%g1",
        "a%1g",
        "[",
        "[]",
        "[::1",
        "::1]",
        "::1",
        "[::1]a",
        "[1.2]",
        "[:::]",
        "[::1]:a",
        "[::1]80",
        "[a]",
        "[fe80::1%251]",
        "[v1.a]",
        "[1:2:3:4:5:6:7:8:9]",
        "\"a\"",
        "a\\b",
        "<a>",
        "a|b",
        "\xc3\xa9",
        "a\tb",
        "[0000000000000000000000000000000000000000000000000::1]",
    };
    struct kn_head head = {0};

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        begin(&head, "GET", "/");
        add(&head, "host", good[i]);
        cr_assert_eq(kn_head_seal(&head, KINO_HTTP_1_1), 0, "%s", good[i]);
        assert_slice(head.view.authority, good[i], "a Host");
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        for (int is_1_1 = 0; is_1_1 < 2; is_1_1++) {
            begin(&head, "GET", "/");
            add(&head, "host", bad[i]);
            cr_assert_eq(kn_head_seal(&head, is_1_1 ? KINO_HTTP_1_1 : KINO_HTTP_1_0),
                         is_1_1 || *bad[i] ? 400 : 0, "%s", bad[i]);
        }
    }
    kn_head_deinit(&head);
}

Test(head, a_zero_inside_an_ipv6_address_does_not_end_it)
{
    struct kn_head head = {0};
    uint32_t known;

    begin(&head, "GET", "/");
    cr_assert_eq(kn_head_name(&head, "host", 4, &limits), 0);
    cr_assert_eq(kn_head_name_complete(&head, &limits, &known), 0);
    cr_assert_eq(kn_head_value(&head, "[::1\0x]", 7, &limits), 0);
    cr_assert_eq(kn_head_value_complete(&head), 0);
    cr_assert_eq(kn_head_seal(&head, KINO_HTTP_1_1), 400);
    kn_head_deinit(&head);
}

/* SPEC.md 2.3 */

Test(head, fields_come_out_in_order_and_as_one_block)
{
    struct kn_head head = {0};
    static const char block[] = "host:a\nx-empty:\nx-spaces:b \t c\nx-empty:\nx-last:d:e\n";
    static const struct pair expected[] = {
        {"host", "a"}, {"x-empty", ""}, {"x-spaces", "b \t c"}, {"x-empty", ""}, {"x-last", "d:e"},
    };

    begin(&head, "GET", "/a");
    add(&head, "Host", "a");
    add(&head, "X-EMPTY", "");
    add(&head, "x-Spaces", "b \t c \t ");
    add(&head, "X-empty", "\t");
    add(&head, "x-last", "d:e");
    cr_assert_eq(kn_head_seal(&head, KINO_HTTP_1_1), 0);
    assert_slice(head.view.block, block, "the block");
    cr_assert_eq(head.view.field_count, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_slice(head.view.fields[i].name, expected[i].name, "a name");
        assert_slice(head.view.fields[i].value, expected[i].value, "a value");
    }
    kn_head_deinit(&head);
}

Test(head, only_capital_letters_of_a_name_are_changed)
{
    struct kn_head head = {0};

    begin(&head, "GET", "/");
    add(&head, "ABCXYZ!#$%&'*+-.^_`|~0189abcxyz", "ABC");
    cr_assert_eq(kn_head_seal(&head, KINO_HTTP_1_0), 0);
    assert_slice(head.view.block, "abcxyz!#$%&'*+-.^_`|~0189abcxyz:ABC\n", "the block");
    kn_head_deinit(&head);
}

Test(head, pieces_make_the_same_head_as_wholes)
{
    struct kn_head whole = {0};
    struct kn_head pieces = {0};
    uint32_t known;

    begin(&whole, "OPTIONS", "/abc?d");
    add(&whole, "Cookie", "e f ");
    kn_head_seal(&whole, KINO_HTTP_1_0);

    kn_head_begin(&pieces);
    kn_head_method(&pieces, "OPT", 3);
    kn_head_method(&pieces, "IONS", 4);
    kn_head_target(&pieces, "/ab", 3, &limits);
    kn_head_target(&pieces, "c?d", 3, &limits);
    kn_head_name(&pieces, "COO", 3, &limits);
    kn_head_name(&pieces, "KIE", 3, &limits);
    kn_head_name_complete(&pieces, &limits, &known);
    kn_head_value(&pieces, "", 0, &limits);
    kn_head_value(&pieces, "e ", 2, &limits);
    kn_head_value(&pieces, "f ", 2, &limits);
    kn_head_value_complete(&pieces);
    kn_head_seal(&pieces, KINO_HTTP_1_0);

    assert_slice(pieces.view.method, "OPTIONS", "pieces");
    assert_slice(pieces.view.target, "/abc?d", "pieces");
    assert_slice(pieces.view.block, "cookie:e f\n", "pieces");
    cr_assert_eq(pieces.view.block_hash, whole.view.block_hash);
    cr_assert_eq(pieces.view.flags, whole.view.flags);
    kn_head_deinit(&whole);
    kn_head_deinit(&pieces);
}

Test(head, names_are_recognised_and_credentials_marked)
{
    static const struct {
        const char *name;
        uint32_t known;
        uint32_t flags;
    } rows[] = {
        {"Authorization", KINO_FIELD_AUTHORIZATION, KINO_FIELD_SENSITIVE},
        {"Connection", KINO_FIELD_CONNECTION, 0},
        {"Content-Length", KINO_FIELD_CONTENT_LENGTH, 0},
        {"Content-Type", KINO_FIELD_CONTENT_TYPE, 0},
        {"Cookie", KINO_FIELD_COOKIE, KINO_FIELD_SENSITIVE},
        {"Expect", KINO_FIELD_EXPECT, 0},
        {"Host", KINO_FIELD_HOST, 0},
        {"Keep-Alive", KINO_FIELD_KEEP_ALIVE, 0},
        {"Proxy-Authorization", KINO_FIELD_PROXY_AUTHORIZATION, KINO_FIELD_SENSITIVE},
        {"TE", KINO_FIELD_TE, 0},
        {"Trailer", KINO_FIELD_TRAILER, 0},
        {"Transfer-Encoding", KINO_FIELD_TRANSFER_ENCODING, 0},
        {"Upgrade", KINO_FIELD_UPGRADE, 0},
        {"T", KINO_FIELD_OTHER, 0},
        {"Hose", KINO_FIELD_OTHER, 0},
        {"Cookie2", KINO_FIELD_OTHER, 0},
        {"Cooki", KINO_FIELD_OTHER, 0},
        {"Content_Length", KINO_FIELD_OTHER, 0},
        {"Transfer-Encodings", KINO_FIELD_OTHER, 0},
        {"X-A-Name-That-Is-Longer-Than-All-Of-Them", KINO_FIELD_OTHER, 0},
    };
    struct kn_head head = {0};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        begin(&head, "GET", "/");
        add(&head, "x", "y");
        add(&head, rows[i].name, "a");
        cr_assert_eq(kn_head_seal(&head, KINO_HTTP_1_0), 0);
        cr_assert_eq(head.view.fields[1].known, rows[i].known, "%s", rows[i].name);
        cr_assert_eq(head.view.fields[1].flags, rows[i].flags, "%s", rows[i].name);
        cr_assert_eq(head.view.flags, rows[i].flags ? KINO_HEAD_SENSITIVE : 0, "%s", rows[i].name);
    }
    kn_head_deinit(&head);
}

Test(head, equal_blocks_hash_alike_and_any_other_byte_hashes_otherwise)
{
    enum { LONGEST = 70 };
    struct kn_head head = {0};
    char value[LONGEST + 1] = {0};

    for (size_t len = 1; len <= LONGEST; len++) {
        uint64_t hash;

        memset(value, 'a', len);
        begin(&head, "GET", "/");
        add(&head, "n", value);
        kn_head_seal(&head, KINO_HTTP_1_0);
        hash = head.view.block_hash;
        /* Another method and target, so that the block lies elsewhere. */
        begin(&head, "OPTIONS", "/a?b");
        add(&head, "n", value);
        kn_head_seal(&head, KINO_HTTP_1_0);
        cr_assert_eq(head.view.block_hash, hash);
        for (size_t i = 0; i < len; i++) {
            value[i] = 'b';
            begin(&head, "GET", "/");
            add(&head, "n", value);
            kn_head_seal(&head, KINO_HTTP_1_0);
            cr_assert_neq(head.view.block_hash, hash, "byte %zu of %zu", i, len);
            value[i] = 'a';
        }
    }
    kn_head_deinit(&head);
}

Test(head, a_head_without_fields_has_an_empty_block)
{
    struct kn_head head = {0};

    begin(&head, "GET", "/");
    add(&head, "cookie", "a");
    begin(&head, "HEAD", "/a");
    cr_assert_eq(kn_head_seal(&head, KINO_HTTP_1_0), 0);
    cr_assert_eq(head.view.field_count, 0);
    cr_assert_eq(head.view.block.len, 0);
    cr_assert_eq(head.view.flags, 0);
    cr_assert_null(head.view.authority.data);
    cr_assert_null(head.view.query.data);
    cr_assert_null(head.view.body.data);
    assert_slice(head.view.method, "HEAD", "the second");
    assert_slice(head.view.scheme, "http", "the second");
    cr_assert_eq(head.view.version, KINO_HTTP_1_0);
    cr_assert_eq(head.view.size, sizeof(head.view));
    kn_head_deinit(&head);
}

Test(head, many_fields_grow_the_table)
{
    enum { MANY = 1000 };
    struct kn_head head = {0};

    begin(&head, "GET", "/");
    for (size_t i = 0; i < MANY; i++)
        add(&head, "A", i % 2 ? "odd" : "even");
    cr_assert_eq(kn_head_seal(&head, KINO_HTTP_1_0), 0);
    cr_assert_eq(head.view.field_count, MANY);
    assert_slice(head.view.fields[0].value, "even", "the first");
    assert_slice(head.view.fields[MANY - 1].value, "odd", "the last");
    kn_head_deinit(&head);
}

Test(head, an_empty_head_can_be_deinitialised_twice)
{
    struct kn_head head = {0};

    kn_head_deinit(&head);
    begin(&head, "GET", "/");
    kn_head_deinit(&head);
    kn_head_deinit(&head);
    cr_assert_null(head.text.data);
    cr_assert_null(head.fields);
}
