/* SPDX-License-Identifier: MIT */
/* One set of names for two runners: Criterion, which runs each test in a process of its own, and,
 * with KN_PLAIN_MAIN, the few lines of plain_main.c, because Criterion cannot start under TSan.
 * What a test may use is what both have:
 *
 *     Test(suite, what_it_shows)
 *     {
 *         cr_assert_eq(kn_thing(), 3, "optional, as for printf: %d", errno);
 *     }
 *
 * An assertion ends its test, and may only fail on the thread that runs the test. */
#ifndef TEST_SUPPORT_TEST_H
#define TEST_SUPPORT_TEST_H

/* A test that takes longer hangs, and fails. Sanitizers on a busy machine are slow. */
#define TEST_DEADLINE_S 60

#ifndef KN_PLAIN_MAIN

#include <criterion/criterion.h>

#undef Test
#define Test(suite, name)                                                                          \
    CR_EXPAND(CR_TEST_BASE(suite, name, .timeout = TEST_DEADLINE_S, .sentinel_ = 0))

#else

#include <string.h>

struct test {
    const char *suite;
    const char *name;
    void (*run)(void);
    struct test *next;
};

void test_register(struct test *test);
_Noreturn void test_fail(const char *file, int line, const char *expected, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
_Noreturn void test_skip(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define Test(suite_, name_)                                                                        \
    static void suite_##_##name_(void);                                                            \
    __attribute__((constructor)) static void suite_##_##name_##_register(void)                     \
    {                                                                                              \
        static struct test test = {#suite_, #name_, suite_##_##name_, NULL};                       \
                                                                                                   \
        test_register(&test);                                                                      \
    }                                                                                              \
    static void suite_##_##name_(void)

/* The message begins with a space, so that it is never an empty format. */
#define TEST_EXPECT(condition, text, ...)                                                          \
    ((condition) ? (void)0 : test_fail(__FILE__, __LINE__, text, " " __VA_ARGS__))

#define cr_assert_fail(...) test_fail(__FILE__, __LINE__, "not to get here", " " __VA_ARGS__)
#define cr_skip_test(...) test_skip(" " __VA_ARGS__)

#define cr_assert(condition, ...) TEST_EXPECT(condition, #condition, __VA_ARGS__)
#define cr_assert_not(condition, ...) TEST_EXPECT(!(condition), "not " #condition, __VA_ARGS__)
#define cr_assert_eq(a, b, ...) TEST_EXPECT((a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_assert_neq(a, b, ...) TEST_EXPECT((a) != (b), #a " != " #b, __VA_ARGS__)
#define cr_assert_lt(a, b, ...) TEST_EXPECT((a) < (b), #a " < " #b, __VA_ARGS__)
#define cr_assert_leq(a, b, ...) TEST_EXPECT((a) <= (b), #a " <= " #b, __VA_ARGS__)
#define cr_assert_gt(a, b, ...) TEST_EXPECT((a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_assert_geq(a, b, ...) TEST_EXPECT((a) >= (b), #a " >= " #b, __VA_ARGS__)
#define cr_assert_null(a, ...) TEST_EXPECT((a) == NULL, #a " is NULL", __VA_ARGS__)
#define cr_assert_not_null(a, ...) TEST_EXPECT((a) != NULL, #a " is not NULL", __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...) TEST_EXPECT(strcmp(a, b) == 0, #a " is " #b, __VA_ARGS__)
#define cr_assert_str_neq(a, b, ...) TEST_EXPECT(strcmp(a, b) != 0, #a " is not " #b, __VA_ARGS__)
#define cr_assert_arr_eq(a, b, size, ...)                                                          \
    TEST_EXPECT(memcmp(a, b, size) == 0, #a " has the bytes of " #b, __VA_ARGS__)

#endif
#endif
