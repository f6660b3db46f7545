/* SPDX-License-Identifier: MIT */
#include "kino.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "support/test.h"

static const int codes[] = {
    KINO_AGAIN,          KINO_INVALID,       KINO_CLOSED,         KINO_INTERRUPTED,
    KINO_TIMED_OUT,      KINO_BUSY,          KINO_ANSWERED,       KINO_URING_MISSING,
    KINO_URING_DISABLED, KINO_URING_REFUSED, KINO_KERNEL_TOO_OLD, KINO_GONE,
};

enum {
    CODES = sizeof(codes) / sizeof(codes[0]),
};

Test(error, every_code_has_a_text_of_its_own)
{
    for (int i = 0; i < CODES; i++) {
        const char *text = kino_strerror(codes[i]);

        cr_assert_gt(strlen(text), 5, "%d", codes[i]);
        cr_assert_null(strstr(text, "unknown"), "%d: %s", codes[i], text);
        cr_assert_null(strchr(text, '\n'), "%d", codes[i]);
        for (int j = 0; j < i; j++)
            cr_assert_str_neq(text, kino_strerror(codes[j]), "%d and %d", codes[i], codes[j]);
    }
}

Test(error, no_code_was_left_out_of_this_list)
{
    /* Codes are dense from KINO_AGAIN down; the first number behind them has no text yet. */
    for (int i = 0; i < CODES; i++)
        cr_assert_eq(codes[i], KINO_AGAIN - i);
    cr_assert_not_null(strstr(kino_strerror(KINO_AGAIN - CODES), "unknown"));
}

Test(error, says_how_io_uring_can_be_had)
{
    cr_assert_not_null(strstr(kino_strerror(KINO_URING_MISSING), "CONFIG_IO_URING"));
    cr_assert_not_null(strstr(kino_strerror(KINO_URING_DISABLED), "kernel.io_uring_disabled"));
    cr_assert_not_null(strstr(kino_strerror(KINO_URING_REFUSED), "seccomp"));
    cr_assert_not_null(strstr(kino_strerror(KINO_KERNEL_TOO_OLD), "6.1"));
}

Test(error, an_errno_has_the_system_s_text)
{
    cr_assert_str_eq(kino_strerror(-EADDRINUSE), strerror(EADDRINUSE));
    cr_assert_str_eq(kino_strerror(-ENOMEM), strerror(ENOMEM));
}

Test(error, success_is_success)
{
    cr_assert_str_eq(kino_strerror(0), "success");
    cr_assert_str_eq(kino_strerror(KINO_REQUEST), "success");
}

Test(error, an_unknown_code_is_named_by_its_number)
{
    static const int unknown[] = {-4000, -5000, -5999, -123456, INT_MIN};
    char number[16];

    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        /* An errno out of the table is named without its sign. */
        snprintf(number, sizeof(number), "%u", 0u - (unsigned)unknown[i]);
        cr_assert_not_null(strstr(kino_strerror(unknown[i]), number), "%d: %s", unknown[i],
                           kino_strerror(unknown[i]));
    }
}

Test(error, the_version_is_the_header_s)
{
    char version[32];

    snprintf(version, sizeof(version), "%d.%d.%d", KINO_VERSION_MAJOR, KINO_VERSION_MINOR,
             KINO_VERSION_PATCH);
    cr_assert_str_eq(kino_version(), version);
}
