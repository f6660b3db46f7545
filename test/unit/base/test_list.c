/* SPDX-License-Identifier: MIT */
#include "base/list.h"

#include "support/test.h"

struct item {
    int number;
    struct kn_list link;
};

static void make(struct item *items, int count)
{
    for (int i = 0; i < count; i++) {
        items[i].number = i;
        kn_list_init(&items[i].link);
    }
}

/* The numbers from first to last as decimal digits, and the same backwards. */
static int forwards(const struct kn_list *list)
{
    int digits = 0;

    for (struct kn_list *link = list->next; link != list; link = link->next)
        digits = digits * 10 + kn_container_of(link, struct item, link)->number;
    return digits;
}

static int backwards(const struct kn_list *list)
{
    int digits = 0;

    for (struct kn_list *link = list->prev; link != list; link = link->prev)
        digits = digits * 10 + kn_container_of(link, struct item, link)->number;
    return digits;
}

Test(list, is_empty_until_something_is_in_it)
{
    struct kn_list list;
    struct item items[2];

    make(items, 2);
    kn_list_init(&list);
    cr_assert(kn_list_empty(&list));
    cr_assert_null(kn_list_shift(&list));
    kn_list_append(&list, &items[1].link);
    cr_assert_not(kn_list_empty(&list));
    cr_assert_eq(kn_list_shift(&list), &items[1].link);
    cr_assert(kn_list_empty(&list));
}

Test(list, keeps_the_order_of_appends_and_prepends)
{
    struct kn_list list;
    struct item items[5];

    make(items, 5);
    kn_list_init(&list);
    kn_list_append(&list, &items[3].link);
    kn_list_append(&list, &items[4].link);
    kn_list_prepend(&list, &items[2].link);
    kn_list_prepend(&list, &items[1].link);
    cr_assert_eq(forwards(&list), 1234);
    cr_assert_eq(backwards(&list), 4321);
}

Test(list, removes_first_middle_and_last)
{
    struct kn_list list;
    struct item items[6];

    make(items, 6);
    kn_list_init(&list);
    for (int i = 1; i < 6; i++)
        kn_list_append(&list, &items[i].link);
    kn_list_remove(&items[3].link);
    cr_assert_eq(forwards(&list), 1245);
    kn_list_remove(&items[1].link);
    cr_assert_eq(forwards(&list), 245);
    kn_list_remove(&items[5].link);
    cr_assert_eq(forwards(&list), 24);
    cr_assert_eq(backwards(&list), 42);
}

Test(list, removing_what_is_in_no_list_does_nothing)
{
    struct kn_list list;
    struct item items[2];

    make(items, 2);
    kn_list_init(&list);
    kn_list_append(&list, &items[1].link);
    kn_list_remove(&items[0].link);
    kn_list_remove(&items[1].link);
    kn_list_remove(&items[1].link);
    cr_assert(kn_list_empty(&list));
    kn_list_append(&list, &items[1].link);
    cr_assert_eq(forwards(&list), 1, "and it can be put in again");
}

Test(list, splices_to_the_end_and_leaves_the_other_empty)
{
    struct kn_list list;
    struct kn_list other;
    struct item items[6];

    make(items, 6);
    kn_list_init(&list);
    kn_list_init(&other);
    for (int i = 1; i < 3; i++)
        kn_list_append(&list, &items[i].link);
    for (int i = 3; i < 6; i++)
        kn_list_append(&other, &items[i].link);
    kn_list_splice(&list, &other);
    cr_assert_eq(forwards(&list), 12345);
    cr_assert_eq(backwards(&list), 54321);
    cr_assert(kn_list_empty(&other));
    kn_list_splice(&list, &other);
    cr_assert_eq(forwards(&list), 12345);
    kn_list_splice(&other, &list);
    cr_assert_eq(forwards(&other), 12345);
    cr_assert(kn_list_empty(&list));
}
