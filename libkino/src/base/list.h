/* SPDX-License-Identifier: MIT */
#ifndef KN_BASE_LIST_H
#define KN_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

/* A ring of links embedded in their owners; the head is a link of its own. One thread at a time. */
struct kn_list {
    struct kn_list *prev;
    struct kn_list *next;
};

#define kn_container_of(pointer, type, member)                                                     \
    ((type *)(void *)((char *)(pointer) - offsetof(type, member)))

/* Of a head: empty. Of an element: in no list, so that kn_list_remove does nothing. */
static inline void kn_list_init(struct kn_list *list)
{
    list->prev = list;
    list->next = list;
}

static inline bool kn_list_empty(const struct kn_list *list)
{
    return list->next == list;
}

static inline void kn_list_append(struct kn_list *list, struct kn_list *element)
{
    element->prev = list->prev;
    element->next = list;
    list->prev->next = element;
    list->prev = element;
}

static inline void kn_list_prepend(struct kn_list *list, struct kn_list *element)
{
    kn_list_append(list->next, element);
}

static inline void kn_list_remove(struct kn_list *element)
{
    element->prev->next = element->next;
    element->next->prev = element->prev;
    kn_list_init(element);
}

/* Unlink and return the first element, or NULL. */
static inline struct kn_list *kn_list_shift(struct kn_list *list)
{
    struct kn_list *first = list->next;

    if (first == list)
        return NULL;
    kn_list_remove(first);
    return first;
}

/* Move all elements of `from` to the end of `list`. */
static inline void kn_list_splice(struct kn_list *list, struct kn_list *from)
{
    if (kn_list_empty(from))
        return;
    from->next->prev = list->prev;
    list->prev->next = from->next;
    from->prev->next = list;
    list->prev = from->prev;
    kn_list_init(from);
}

#endif
