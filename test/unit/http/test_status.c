/* SPDX-License-Identifier: MIT */
#include "http/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/test.h"

Test(status, every_line_has_its_own_number_and_an_end)
{
    unsigned known = 0;

    for (uint64_t status = KN_STATUS_MIN; status <= KN_STATUS_MAX; status++) {
        const char *line = kn_status_line(status);
        char begin[16];

        if (!line)
            continue;
        known++;
        snprintf(begin, sizeof(begin), "HTTP/1.1 %lu ", (unsigned long)status);
        cr_assert_eq(strncmp(line, begin, strlen(begin)), 0, "%s", line);
        cr_assert_str_eq(line + strlen(line) - 2, "\r\n");
        cr_assert_gt(strlen(line), strlen(begin) + 2, "%s", line);
    }
    cr_assert_geq(known, 60);
}

Test(status, what_is_not_registered_has_no_line)
{
    static const uint64_t unknown[] = {0, 99, 104, 199, 299, 418, 512, 999, 1000, UINT64_MAX};

    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++)
        cr_assert_null(kn_status_line(unknown[i]), "%lu", (unsigned long)unknown[i]);
    cr_assert_str_eq(kn_status_line(103), "HTTP/1.1 103 Early Hints\r\n");
}
