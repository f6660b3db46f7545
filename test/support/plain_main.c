/* SPDX-License-Identifier: MIT */
/* The plain runner behind support/test.h: all tests of one executable, in order, in this process.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "support/test.h"

enum outcome { PASSED, FAILED, SKIPPED, OUTCOMES };

static struct test *first;
static struct test **last = &first;
static jmp_buf leave;

void test_register(struct test *test)
{
    *last = test;
    last = &test->next;
}

void test_fail(const char *file, int line, const char *expected, const char *format, ...)
{
    va_list arguments;

    printf("FAILED\n    %s:%d: expected %s;", file, line, expected);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    longjmp(leave, FAILED);
}

void test_skip(const char *format, ...)
{
    va_list arguments;

    printf("SKIPPED:");
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    longjmp(leave, SKIPPED);
}

static enum outcome run(const struct test *test)
{
    enum outcome outcome;

    /* The name first, so that it is the last word of a test that crashes or hangs. The alarm keeps
     * its default action: under TSan a handler would wait for the very call that hangs. */
    printf("%s::%s ", test->suite, test->name);
    alarm(TEST_DEADLINE_S);
    outcome = (enum outcome)setjmp(leave);
    if (outcome == PASSED) {
        test->run();
        puts("ok");
    }
    alarm(0);
    return outcome;
}

int main(void)
{
    int counts[OUTCOMES] = {0};
    const struct test *test;

    setvbuf(stdout, NULL, _IONBF, 0);
    for (test = first; test != NULL; test = test->next)
        counts[run(test)]++;
    printf("%d passed, %d failed, %d skipped\n", counts[PASSED], counts[FAILED], counts[SKIPPED]);
    return counts[FAILED] == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
