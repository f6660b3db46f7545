/* SPDX-License-Identifier: MIT */
#include "dispatch/lanes.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <errno.h>

static struct kn_lane *lane_at(struct kn_lanes *lanes, unsigned index)
{
    return atomic_load_explicit(&lanes->all[index], memory_order_relaxed);
}

static unsigned lane_count(struct kn_lanes *lanes)
{
    return atomic_load_explicit(&lanes->count, memory_order_acquire);
}

/* Life */

static int add_lane(struct kn_lanes *lanes)
{
    const unsigned count = lane_count(lanes);
    struct kn_lane *lane = kn_alloc_zeroed(sizeof(*lane));
    int rc;

    if (!lane)
        return -ENOMEM;
    /* Each could hold all: the depth is that of the lanes together, however many there are. */
    rc = kn_lane_init(lane, lanes->depth);
    if (rc < 0) {
        kn_free(lane);
        return rc;
    }
    atomic_store_explicit(&lanes->all[count], lane, memory_order_relaxed);
    atomic_store_explicit(&lanes->count, count + 1, memory_order_release);
    return 0;
}

int kn_lanes_init(struct kn_lanes *lanes, uint64_t depth, bool one_each)
{
    *lanes = (struct kn_lanes){.depth = depth, .one_each = one_each, .due_ns = UINT64_MAX};
    kn_list_init(&lanes->pushed);
    return add_lane(lanes);
}

void kn_lanes_deinit(struct kn_lanes *lanes)
{
    for (unsigned i = 0; i < lane_count(lanes); i++) {
        kn_lane_deinit(lane_at(lanes, i));
        kn_free(lane_at(lanes, i));
    }
    atomic_store(&lanes->count, 0);
}

static bool is_owned(struct kn_lane *lane)
{
    return atomic_load_explicit(&lane->owned, memory_order_relaxed);
}

int kn_lanes_claim(struct kn_lanes *lanes, struct kn_lane **out)
{
    const unsigned count = lane_count(lanes);
    unsigned index = 0;
    int rc;

    *out = NULL;
    while (index < count && is_owned(lane_at(lanes, index)))
        index++;
    if (index == KN_LANES_MOST)
        return 0;
    if (index == count) {
        rc = add_lane(lanes);
        if (rc < 0)
            return rc;
    }
    *out = lane_at(lanes, index);
    lanes->owners++;
    atomic_store_explicit(&(*out)->owned, true, memory_order_relaxed);
    return 0;
}

void kn_lanes_give_up(struct kn_lanes *lanes, struct kn_lane *lane)
{
    lanes->owners--;
    atomic_store_explicit(&lane->owned, false, memory_order_relaxed);
}

/* Pushing */

static uint64_t count_room(struct kn_lanes *lanes)
{
    uint64_t length = 0;

    for (unsigned i = 0; i < lane_count(lanes); i++)
        length += kn_lane_length(lane_at(lanes, i));
    return lanes->depth - length;
}

/* Its owner was found missing, and has not come since. */
static bool is_missed(struct kn_lane *lane)
{
    return atomic_load_explicit(&lane->visits, memory_order_relaxed) == lane->missed;
}

/* The empty lane of a worker that is awake; else that of the last to fall asleep, for its cache is
 * warm; else the shortest of a worker that comes. */
static struct kn_lane *choose(struct kn_lanes *lanes)
{
    const unsigned count = lane_count(lanes);
    struct kn_lane *sleepy = NULL;
    struct kn_lane *shortest = NULL;
    uint64_t latest = 0;
    uint64_t least = UINT64_MAX;

    for (unsigned i = 0; i < count; i++) {
        const unsigned index = (lanes->next + i) % count;
        struct kn_lane *lane = lane_at(lanes, index);
        const uint64_t asleep = atomic_load_explicit(&lane->berth.asleep, memory_order_relaxed);
        const bool missed = is_missed(lane);
        uint64_t length;

        if (!is_owned(lane))
            continue;
        length = kn_lane_length(lane);
        if (length == 0 && asleep == 0 && !missed) {
            lanes->next = index + 1;
            return lane;
        }
        if (length == 0 && asleep > latest) {
            latest = asleep;
            sleepy = lane;
        }
        length += missed ? lanes->depth : 0;
        if (length < least) {
            least = length;
            shortest = lane;
        }
    }
    return sleepy ? sleepy : shortest ? shortest : lane_at(lanes, 0);
}

bool kn_lanes_push(struct kn_lanes *lanes, struct kino_request *request)
{
    struct kn_lane *lane;

    if (lanes->room == 0) {
        lanes->room = count_room(lanes);
        if (lanes->room == 0)
            return false;
    }
    lane = choose(lanes);
    if (!kn_lane_push(lane, request))
        return false;
    lanes->room--;
    if (!is_owned(lane))
        lanes->ownerless++;
    else if (kn_list_empty(&lane->berth.wake))
        kn_list_append(&lanes->pushed, &lane->berth.wake);
    return true;
}

/* Waking */

/* Count the requests that lay there when the watch began and still do. */
static uint64_t count_overdue(struct kn_lanes *lanes)
{
    uint64_t overdue = 0;

    for (unsigned i = 0; i < lane_count(lanes); i++) {
        struct kn_lane *lane = lane_at(lanes, i);
        const uint64_t head = atomic_load_explicit(&lane->head, memory_order_relaxed);

        if (lane->mark <= head)
            continue;
        overdue += lane->mark - head;
        lane->missed = atomic_load_explicit(&lane->visits, memory_order_relaxed);
    }
    return overdue;
}

/* Note what lies in the lanes, and look again later. */
static void watch(struct kn_lanes *lanes)
{
    bool waits = false;

    for (unsigned i = 0; i < lane_count(lanes); i++) {
        struct kn_lane *lane = lane_at(lanes, i);

        lane->mark = atomic_load_explicit(&lane->tail, memory_order_relaxed);
        waits |= kn_lane_length(lane) > 0;
    }
    lanes->due_ns = waits ? kn_clock_ns() + KN_LANES_PATIENCE_NS : UINT64_MAX;
}

void kn_lanes_wake(struct kn_lanes *lanes, struct kn_parking *parking, uint64_t now_ns)
{
    uint64_t others = lanes->ownerless;
    uint32_t asleep;

    if (now_ns < lanes->due_ns && others == 0 && kn_list_empty(&lanes->pushed))
        return;
    lanes->ownerless = 0;
    if (now_ns >= lanes->due_ns) {
        others += count_overdue(lanes);
        lanes->due_ns = UINT64_MAX;
    }
    asleep = kn_parking_wake_at(parking, &lanes->pushed, others);
    if (lanes->one_each && asleep > 0 && lanes->due_ns == UINT64_MAX)
        watch(lanes);
}

/* Popping */

struct kino_request *kn_lanes_pop(struct kn_lanes *lanes, unsigned begin)
{
    const unsigned count = lane_count(lanes);

    for (unsigned i = 0; i < count; i++) {
        struct kino_request *request = kn_lane_pop(lane_at(lanes, (begin + i) % count));

        if (request)
            return request;
    }
    return NULL;
}

bool kn_lanes_empty(struct kn_lanes *lanes)
{
    for (unsigned i = 0; i < lane_count(lanes); i++)
        if (!kn_lane_empty(lane_at(lanes, i)))
            return false;
    return true;
}

const struct kn_lane *kn_lanes_at(const struct kn_lanes *lanes, unsigned index)
{
    if (index >= atomic_load_explicit(&lanes->count, memory_order_acquire))
        return NULL;
    return atomic_load_explicit(&lanes->all[index], memory_order_relaxed);
}
