/* SPDX-License-Identifier: MIT */
#include "server/access_log.h"

#include "base/clock.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/test.h"

enum {
    PRODUCERS = 3,
    LINES = 5000, /* of each producer */
    ROUNDS = 300,
    QUEUE_BYTES = 1 << 16,
    DEADLINE_S = 20,
};

/* What the log's owner was told: the last line, and how many. */
struct told {
    pthread_mutex_t mutex;
    char line[512];
    unsigned count;
};

static void tell(void *context, int level, const char *line)
{
    struct told *told = context;

    (void)level;
    pthread_mutex_lock(&told->mutex);
    snprintf(told->line, sizeof(told->line), "%s", line);
    told->count++;
    pthread_mutex_unlock(&told->mutex);
}

static unsigned count_told(struct told *told)
{
    unsigned count;

    pthread_mutex_lock(&told->mutex);
    count = told->count;
    pthread_mutex_unlock(&told->mutex);
    return count;
}

static struct kn_access_log *create(struct kino_access_log access, struct told *told)
{
    const struct kn_log log = {tell, told};
    struct kn_access_log *access_log;

    *told = (struct told){.mutex = PTHREAD_MUTEX_INITIALIZER};
    access.format = KINO_ACCESS_SHORT;
    access.queue_bytes = QUEUE_BYTES;
    cr_assert_eq(kn_access_log_create(&access, &log, &access_log), 0, "%s", told->line);
    return access_log;
}

static struct kn_access_log *create_on_descriptor(int fd, struct told *told)
{
    return create(
        (struct kino_access_log){.flags = KINO_ACCESS_DESCRIPTOR, .descriptor = (uint64_t)fd},
        told);
}

static struct kn_access_log *create_on_path(const char *path, struct told *told)
{
    return create((struct kino_access_log){.path = {path, strlen(path)}}, told);
}

/* Write `200 WHO /NUMBER -`. Any thread. */
static void write_line(struct kn_access_log *access_log, const char *who, unsigned number)
{
    char target[16];
    struct kn_access_entry entry = {
        .method = {who, strlen(who)}, .status = 200, .duration_us = KINO_OFF};

    snprintf(target, sizeof(target), "/%u", number);
    entry.target = (struct kino_slice){target, strlen(target)};
    kn_access_log_write(access_log, &entry);
}

static struct kino_stats count(const struct kn_access_log *access_log)
{
    struct kino_stats stats = {.size = sizeof(stats)};

    kn_access_log_count(access_log, &stats);
    return stats;
}

static bool before(uint64_t end_ns)
{
    sched_yield();
    return kn_clock_ns() < end_ns;
}

static uint64_t deadline_ns(void)
{
    return kn_clock_ns() + UINT64_C(1) * DEADLINE_S * KN_NS_PER_S;
}

/* Do so many lines come to be written, and so many to be lost by failures, before the deadline? */
static bool comes_to(const struct kn_access_log *access_log, uint64_t lines, uint64_t failed)
{
    const uint64_t end_ns = deadline_ns();
    struct kino_stats stats;

    do {
        stats = count(access_log);
    } while ((stats.access_lines != lines || stats.access_failed != failed) && before(end_ns));
    return stats.access_lines == lines && stats.access_failed == failed;
}

static int count_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int descriptors = 0;

    while (readdir(directory))
        descriptors++;
    closedir(directory);
    return descriptors;
}

/* All that a file holds, NUL-terminated; freed by the caller. */
static char *content_of(const char *path)
{
    char *content = calloc(1, 1 << 20);
    FILE *file = fopen(path, "re");

    cr_assert_not_null(file, "%s", path);
    (void)!fread(content, 1, (1 << 20) - 1, file);
    fclose(file);
    return content;
}

static void assert_content(const char *path, const char *expected)
{
    char *content = content_of(path);

    cr_assert_str_eq(content, expected, "%s", content);
    free(content);
}

/* A path for one test. */
static void make_path(char path[64])
{
    strcpy(path, "/tmp/kino-access-XXXXXX");
    close(mkstemp(path));
}

/* Lines */

struct crowd {
    struct kn_access_log *access_log;
    _Atomic unsigned next;
    struct kino_stats stats; /* at the end */
};

static void *produce(void *context)
{
    static const char *const names[PRODUCERS] = {"A", "B", "C"};
    struct crowd *crowd = context;
    const char *name = names[atomic_fetch_add(&crowd->next, 1)];

    for (unsigned i = 0; i < LINES; i++)
        write_line(crowd->access_log, name, i);
    return NULL;
}

static void *produce_all_and_end(void *context)
{
    struct crowd *crowd = context;
    pthread_t threads[PRODUCERS];

    for (int i = 0; i < PRODUCERS; i++)
        pthread_create(&threads[i], NULL, produce, crowd);
    for (int i = 0; i < PRODUCERS; i++)
        pthread_join(threads[i], NULL);
    kn_access_log_stop(crowd->access_log);
    crowd->stats = count(crowd->access_log);
    kn_access_log_destroy(crowd->access_log);
    return NULL;
}

/* Read to the end: every line is whole, and behind those that its producer wrote before. */
static unsigned read_lines(FILE *reader)
{
    int next[PRODUCERS] = {0};
    unsigned lines = 0;
    char line[64];

    while (fgets(line, sizeof(line), reader)) {
        char name = 0;
        int number = -1;
        int end = 0;

        sscanf(line, "200 %c /%d -\n%n", &name, &number, &end);
        cr_assert_eq(end, (int)strlen(line), "%s", line);
        cr_assert(name >= 'A' && name < 'A' + PRODUCERS);
        cr_assert_geq(number, next[name - 'A']);
        next[name - 'A'] = number + 1;
        lines++;
    }
    return lines;
}

Test(access_log, a_reader_gets_whole_lines_in_the_order_of_each_producer)
{
    struct crowd crowd = {0};
    struct told told;
    pthread_t thread;
    unsigned lines;
    FILE *reader;
    int ends[2];

    cr_assert_eq(pipe(ends), 0);
    crowd.access_log = create_on_descriptor(ends[1], &told);
    close(ends[1]);
    cr_assert_eq(kn_access_log_start(crowd.access_log), 0);
    reader = fdopen(ends[0], "r");
    cr_assert_eq(pthread_create(&thread, NULL, produce_all_and_end, &crowd), 0);
    lines = read_lines(reader);
    pthread_join(thread, NULL);
    fclose(reader);
    cr_assert_gt(lines, 0);
    cr_assert_eq(crowd.stats.access_lines, lines);
    cr_assert_eq(crowd.stats.access_failed, 0);
    cr_assert_eq(crowd.stats.access_lines + crowd.stats.access_dropped,
                 (uint64_t)PRODUCERS * LINES);
}

/* Each line meets the flusher on its way to sleep, asleep, or napping, and none is left lying. */
Test(access_log, a_line_comes_by_itself)
{
    struct kn_access_log *access_log;
    struct told told;
    char path[64];

    make_path(path);
    access_log = create_on_path(path, &told);
    cr_assert_eq(kn_access_log_start(access_log), 0);
    for (unsigned i = 0; i < 10; i++) {
        write_line(access_log, "GET", i);
        cr_assert(comes_to(access_log, i + 1, 0), "line %u", i);
        if (i % 2)
            while (atomic_load(&access_log->state) != KN_FLUSHER_ASLEEP)
                sched_yield();
    }
    kn_access_log_destroy(access_log);
    unlink(path);
}

Test(access_log, what_was_queued_is_written_at_the_end)
{
    struct kn_access_log *access_log;
    struct told told;
    char path[64];

    make_path(path);
    access_log = create_on_path(path, &told);
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (i % 3 == 0)
            write_line(access_log, "GET", i); /* before there is a thread */
        cr_assert_eq(kn_access_log_start(access_log), 0);
        if (i % 3 == 1)
            write_line(access_log, "GET", i);
        for (unsigned pause = 0; i % 3 == 2 && pause <= i; pause++)
            sched_yield();
        if (i % 3 == 2)
            write_line(access_log, "GET", i); /* it may just fall asleep */
        kn_access_log_stop(access_log);
        cr_assert_eq(count(access_log).access_lines, i + 1);
    }
    kn_access_log_destroy(access_log);
    cr_assert_eq(count_told(&told), 0);
    unlink(path);
}

/* Trouble */

Test(access_log, lines_are_dropped_while_nobody_reads)
{
    struct kn_access_log *access_log;
    uint64_t written = 0;
    struct kino_stats stats;
    struct told told;
    int ends[2];

    cr_assert_eq(pipe(ends), 0);
    cr_assert_geq(fcntl(ends[1], F_SETPIPE_SZ, 1), 1); /* a page: less than the queue */
    access_log = create_on_descriptor(ends[1], &told);
    cr_assert_eq(kn_access_log_start(access_log), 0);
    while (count(access_log).access_dropped < 100)
        write_line(access_log, "GET", (unsigned)written++);
    kn_access_log_stop(access_log);
    stats = count(access_log);
    cr_assert_gt(stats.access_failed, 0, "what was queued when it ended");
    cr_assert_eq(stats.access_lines + stats.access_dropped + stats.access_failed, written);
    cr_assert_geq(count_told(&told), 1);
    kn_access_log_destroy(access_log);
    close(ends[0]);
    close(ends[1]);
}

Test(access_log, a_reader_that_comes_back_gets_what_is_queued)
{
    struct kn_access_log *access_log;
    struct told told;
    static char data[1 << 16];
    uint64_t written = 0;
    uint64_t lines = 0;
    uint64_t end_ns = deadline_ns();
    int ends[2];

    cr_assert_eq(pipe(ends), 0);
    access_log = create_on_descriptor(ends[1], &told);
    cr_assert_eq(kn_access_log_start(access_log), 0);
    while (count(access_log).access_dropped == 0)
        write_line(access_log, "GET", (unsigned)written++);
    cr_assert_eq(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    while (lines < written - count(access_log).access_dropped && before(end_ns)) {
        const ssize_t len = read(ends[0], data, sizeof(data));

        for (ssize_t i = 0; i < len; i++)
            lines += data[i] == '\n';
    }
    cr_assert_eq(lines, written - count(access_log).access_dropped);
    cr_assert(comes_to(access_log, lines, 0));
    kn_access_log_destroy(access_log);
    cr_assert_not_null(strstr(told.line, "they came faster"), "%s", told.line);
    close(ends[0]);
    close(ends[1]);
}

Test(access_log, a_full_disk_is_told_and_counted)
{
    struct kn_access_log *access_log = NULL;
    struct told told;
    uint64_t began_ns = kn_clock_ns();
    unsigned most;

    access_log = create_on_path("/dev/full", &told);
    cr_assert_eq(kn_access_log_start(access_log), 0);
    for (unsigned i = 0; i < 10; i++) {
        write_line(access_log, "GET", i);
        cr_assert(comes_to(access_log, 0, i + 1));
    }
    kn_access_log_destroy(access_log);
    most = 1 + (unsigned)((kn_clock_ns() - began_ns) / KN_NS_PER_S);
    cr_assert_geq(count_told(&told), 1);
    cr_assert_leq(count_told(&told), most, "once a second");
    cr_assert_not_null(strstr(told.line, "/dev/full: cannot write: No space left on device"), "%s",
                       told.line);
}

Test(access_log, a_reader_that_has_gone_is_no_signal)
{
    struct kn_access_log *access_log;
    struct told told;
    sigset_t pending;
    int ends[2];

    cr_assert_eq(pipe(ends), 0);
    access_log = create_on_descriptor(ends[1], &told);
    close(ends[0]);
    cr_assert_eq(kn_access_log_start(access_log), 0);
    for (unsigned i = 0; i < 3; i++) {
        write_line(access_log, "GET", i);
        cr_assert(comes_to(access_log, 0, i + 1));
    }
    cr_assert_eq(sigpending(&pending), 0);
    cr_assert_not(sigismember(&pending, SIGPIPE));
    kn_access_log_destroy(access_log);
    cr_assert_eq(sigpending(&pending), 0);
    cr_assert_not(sigismember(&pending, SIGPIPE));
    cr_assert_not_null(strstr(told.line, "Broken pipe"), "%s", told.line);
    close(ends[1]);
}

/* A limit of the file's size stands for a disk that is full for a while, in the middle of a line.
 */
Test(access_log, a_line_after_a_torn_one_is_whole)
{
    struct kn_access_log *access_log;
    struct rlimit limit;
    struct rlimit low;
    struct told told;
    char path[64];

    make_path(path);
    access_log = create_on_path(path, &told);
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    low = (struct rlimit){.rlim_cur = 20, .rlim_max = limit.rlim_max};
    for (unsigned i = 0; i < 3; i++)
        write_line(access_log, "GET", i); /* 13 bytes each */
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &low), 0);
    cr_assert_eq(kn_access_log_start(access_log), 0);
    cr_assert(comes_to(access_log, 1, 2));
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    write_line(access_log, "GET", 3);
    cr_assert(comes_to(access_log, 2, 2));
    assert_content(path, "200 GET /0 -\n200 GET\n200 GET /3 -\n");
    cr_assert_not_null(strstr(told.line, "File too large"), "%s", told.line);
    kn_access_log_destroy(access_log);
    unlink(path);
}

/* An event counter polls as writable while any number could be added, and blocks when this one
 * cannot: a write that never ends, though the descriptor said that there is room. A line of which
 * nothing is known has just the size of a number. */
Test(access_log, a_stuck_write_is_left_behind)
{
    const struct kn_access_entry entry = {.duration_us = KINO_OFF};
    const int fd = eventfd(0, EFD_CLOEXEC);
    uint64_t number = UINT64_MAX - 2;
    struct kn_access_log *access_log;
    struct told told;
    uint64_t end_ns;
    int descriptors;

    descriptors = count_descriptors();
    cr_assert_eq(write(fd, &number, sizeof(number)), sizeof(number));
    access_log = create_on_descriptor(fd, &told);
    cr_assert_eq(kn_access_log_start(access_log), 0);
    kn_access_log_write(access_log, &entry);
    end_ns = deadline_ns();
    while (kn_ring_used(&access_log->ring) > 0 && before(end_ns))
        ;
    kn_access_log_stop(access_log);
    cr_assert_eq(count_descriptors(), descriptors + 1, "it has not ended");
    cr_assert_eq(kn_access_log_start(access_log), KINO_BUSY);
    kn_access_log_destroy(access_log);
    cr_assert_eq(read(fd, &number, sizeof(number)), sizeof(number)); /* and it does */
    end_ns = deadline_ns();
    while (count_descriptors() > descriptors && before(end_ns))
        ;
    cr_assert_eq(count_descriptors(), descriptors);
    cr_assert_eq(count_told(&told), 0, "nobody is told any more");
    close(fd);
}

/* Reopening */

Test(access_log, lines_go_on_in_a_new_file_after_a_rename)
{
    struct kn_access_log *access_log;
    struct told told;
    char path[64];
    char old[80];

    make_path(path);
    snprintf(old, sizeof(old), "%s-old", path);
    access_log = create_on_path(path, &told);
    cr_assert_eq(kn_access_log_start(access_log), 0);
    write_line(access_log, "GET", 1);
    cr_assert(comes_to(access_log, 1, 0));
    cr_assert_eq(rename(path, old), 0);
    kn_access_log_reopen(access_log);
    write_line(access_log, "GET", 2);
    cr_assert(comes_to(access_log, 2, 0));
    assert_content(old, "200 GET /1 -\n");
    assert_content(path, "200 GET /2 -\n");
    kn_access_log_destroy(access_log);
    cr_assert_eq(count_told(&told), 0);
    unlink(path);
    unlink(old);
}

Test(access_log, a_file_is_reopened_though_nothing_is_written)
{
    struct kn_access_log *access_log;
    uint64_t end_ns = deadline_ns();
    struct told told;
    char path[64];

    make_path(path);
    access_log = create_on_path(path, &told);
    cr_assert_eq(kn_access_log_start(access_log), 0);
    cr_assert_eq(unlink(path), 0);
    kn_access_log_reopen(access_log);
    while (access(path, F_OK) < 0 && before(end_ns))
        ;
    cr_assert_eq(access(path, F_OK), 0);
    kn_access_log_destroy(access_log);
    unlink(path);
}

Test(access_log, the_old_file_is_kept_where_the_new_cannot_be_had)
{
    struct kn_access_log *access_log;
    struct told told;
    char path[64];
    char old[80];

    make_path(path);
    snprintf(old, sizeof(old), "%s-old", path);
    access_log = create_on_path(path, &told);
    cr_assert_eq(kn_access_log_start(access_log), 0);
    cr_assert_eq(rename(path, old), 0);
    cr_assert_eq(mkdir(path, 0700), 0);
    kn_access_log_reopen(access_log);
    write_line(access_log, "GET", 1);
    cr_assert(comes_to(access_log, 1, 0));
    assert_content(old, "200 GET /1 -\n");
    kn_access_log_destroy(access_log);
    cr_assert_not_null(strstr(told.line, "cannot reopen"), "%s", told.line);
    cr_assert_not_null(strstr(told.line, "Is a directory"), "%s", told.line);
    rmdir(path);
    unlink(old);
}

/* Life */

Test(access_log, closes_what_it_opened)
{
    const int descriptors = count_descriptors();
    struct kn_access_log *access_log;
    struct told told;
    char path[64];

    make_path(path);
    for (int i = 0; i < 3; i++) {
        access_log = create_on_path(path, &told);
        if (i > 0)
            cr_assert_eq(kn_access_log_start(access_log), 0);
        if (i > 1) {
            kn_access_log_reopen(access_log);
            write_line(access_log, "GET", 1);
            cr_assert(comes_to(access_log, 1, 0));
        }
        cr_assert_eq(count_descriptors(), descriptors + 1);
        kn_access_log_destroy(access_log);
        cr_assert_eq(count_descriptors(), descriptors);
    }
    kn_access_log_destroy(NULL);
    kn_access_log_forget(NULL);
    unlink(path);
}

Test(access_log, a_child_forgets_it_and_the_parent_goes_on)
{
    struct kn_access_log *access_log;
    struct told told;
    int status = -1;
    char path[64];
    pid_t child;

    make_path(path);
    access_log = create_on_path(path, &told);
    cr_assert_eq(kn_access_log_start(access_log), 0);
    write_line(access_log, "GET", 1);
    child = fork();
    if (child == 0) {
        alarm(DEADLINE_S);
        kn_access_log_forget(access_log);
        _exit(0);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    write_line(access_log, "GET", 2);
    kn_access_log_destroy(access_log);
    assert_content(path, "200 GET /1 -\n200 GET /2 -\n");
    unlink(path);
}

/* The flusher is deaf: a signal to the process goes to others. */
Test(access_log, its_thread_is_named_and_blocks_signals)
{
    struct kn_access_log *access_log;
    struct told told;
    char name[16] = {0};

    access_log = create_on_path("/dev/null", &told);
    cr_assert_eq(kn_access_log_start(access_log), 0);
    cr_assert_eq(pthread_getname_np(access_log->thread, name, sizeof(name)), 0);
    cr_assert_str_eq(name, "kino-log");
    cr_assert_eq(pthread_kill(access_log->thread, SIGUSR1), 0); /* or this ends the process */
    write_line(access_log, "GET", 1);
    cr_assert(comes_to(access_log, 1, 0));
    kn_access_log_destroy(access_log);
}
