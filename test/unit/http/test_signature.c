/* SPDX-License-Identifier: MIT */
#include "http/signature.h"

#include <string.h>

#include "support/test.h"

static void expect(struct kino_slice value, const char *line)
{
    struct kn_signature *signature;

    cr_assert_eq(kn_signature_create(value, &signature), 0);
    cr_assert_eq(signature->len, strlen(line));
    cr_assert_arr_eq(signature->line, line, signature->len);
    kn_signature_hold(signature);
    kn_signature_drop(signature);
    cr_assert_eq(signature->len, strlen(line), "it is still held");
    kn_signature_drop(signature);
}

Test(signature, is_a_whole_line_or_none)
{
    expect((struct kino_slice){0}, "server: kino\r\n");
    expect((struct kino_slice){"a/1 (b)", 7}, "server: a/1 (b)\r\n");
    expect((struct kino_slice){"", 0}, "");
}

Test(signature, is_bounded_and_a_field_value)
{
    char text[KN_SIGNATURE_MAX];
    struct kn_signature *signature;

    memset(text, 'x', sizeof(text));
    cr_assert_eq(kn_signature_create((struct kino_slice){text, 245}, &signature), 0);
    kn_signature_drop(signature);
    cr_assert_eq(kn_signature_create((struct kino_slice){text, 246}, &signature), KINO_INVALID);
    cr_assert_eq(kn_signature_create((struct kino_slice){"a\nb", 3}, &signature), KINO_INVALID);
    kn_signature_drop(NULL);
}
