/* SPDX-License-Identifier: MIT */
#include "server/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/test.h"

enum {
    SHORT_MS = 20,
    LONG_MS = 20000,
};

/* A directory for one test. */
static char directory[64];

static void make_directory(void)
{
    strcpy(directory, "/tmp/kino-log-file-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
}

static const char *in_directory(const char *name)
{
    static char path[2][128];
    static unsigned turn;

    turn = !turn;
    snprintf(path[turn], sizeof(path[turn]), "%s/%s", directory, name);
    return path[turn];
}

static struct kino_slice slice(const char *text)
{
    return (struct kino_slice){text, strlen(text)};
}

static void assert_content(const char *name, const char *expected)
{
    char content[256] = {0};
    const int fd = open(in_directory(name), O_RDONLY | O_CLOEXEC);

    cr_assert_geq(read(fd, content, sizeof(content) - 1), 0);
    close(fd);
    cr_assert_str_eq(content, expected, "%s", content);
}

static void remove_directory(const char *first, const char *second)
{
    unlink(in_directory(first));
    unlink(in_directory(second));
    cr_assert_eq(rmdir(directory), 0);
}

static int write_text(struct kn_log_file *file, const char *text)
{
    return kn_log_file_write(file, text, strlen(text), LONG_MS);
}

Test(log_file, a_path_is_made_and_appended_to)
{
    struct kn_log_file file;

    make_directory();
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(kn_log_file_open(&file, slice(in_directory("log"))), 0);
        cr_assert_str_eq(kn_log_file_name(&file), in_directory("log"));
        cr_assert(fcntl(file.fd, F_GETFD) & FD_CLOEXEC);
        cr_assert_eq(write_text(&file, "line\n"), 5);
        kn_log_file_close(&file);
    }
    assert_content("log", "line\nline\n");
    remove_directory("log", "");
}

Test(log_file, a_path_that_cannot_be_opened_is_an_error)
{
    static char long_path[8192];
    struct kn_log_file file;

    make_directory();
    memset(long_path, 'a', sizeof(long_path));
    cr_assert_eq(kn_log_file_open(&file, slice("")), -ENOENT);
    cr_assert_eq(kn_log_file_open(&file, slice(in_directory("no/log"))), -ENOENT);
    cr_assert_eq(kn_log_file_open(&file, slice(directory)), -EISDIR);
    cr_assert_eq(kn_log_file_open(&file, (struct kino_slice){long_path, sizeof(long_path)}),
                 -ENAMETOOLONG);
    cr_assert_eq(kn_log_file_open(&file, (struct kino_slice){"/tmp\0x", 6}), KINO_INVALID);
    cr_assert_eq(mkfifo(in_directory("fifo"), 0600), 0);
    cr_assert_eq(kn_log_file_open(&file, slice(in_directory("fifo"))), -ENXIO,
                 "it does not wait for a reader");
    remove_directory("fifo", "");
}

Test(log_file, is_opened_anew_under_its_name)
{
    char away[128];
    struct kn_log_file file;

    make_directory();
    cr_assert_eq(kn_log_file_open(&file, slice(in_directory("log"))), 0);
    cr_assert_eq(write_text(&file, "before\n"), 7);
    cr_assert_eq(rename(in_directory("log"), in_directory("old")), 0);
    cr_assert_eq(write_text(&file, "between\n"), 8);
    cr_assert_eq(kn_log_file_reopen(&file), 0);
    cr_assert_eq(write_text(&file, "after\n"), 6);
    assert_content("old", "before\nbetween\n");
    assert_content("log", "after\n");
    snprintf(away, sizeof(away), "%s-away", directory);
    cr_assert_eq(rename(directory, away), 0);
    cr_assert_eq(kn_log_file_reopen(&file), -ENOENT);
    cr_assert_eq(write_text(&file, "still\n"), 6, "the old file stays");
    cr_assert_eq(rename(away, directory), 0);
    assert_content("log", "after\nstill\n");
    kn_log_file_close(&file);
    remove_directory("log", "old");
}

Test(log_file, a_torn_line_is_ended_before_the_next)
{
    struct kn_log_file file;

    make_directory();
    cr_assert_eq(kn_log_file_open(&file, slice(in_directory("log"))), 0);
    cr_assert_eq(write_text(&file, "half a li"), 9);
    kn_log_file_tear(&file);
    cr_assert_eq(write_text(&file, "whole\n"), 6);
    cr_assert_eq(write_text(&file, "next\n"), 5);
    assert_content("log", "half a li\nwhole\nnext\n");
    kn_log_file_tear(&file);
    unlink(in_directory("log"));
    cr_assert_eq(kn_log_file_reopen(&file), 0);
    cr_assert_eq(write_text(&file, "new\n"), 4);
    assert_content("log", "new\n");
    kn_log_file_close(&file);
    remove_directory("log", "");
}

Test(log_file, a_descriptor_is_duplicated)
{
    struct kn_log_file file;
    char data[16];
    int ends[2];

    cr_assert_eq(pipe(ends), 0);
    cr_assert_eq(kn_log_file_adopt(&file, (uint64_t)ends[1]), 0);
    cr_assert_neq(file.fd, ends[1]);
    cr_assert(fcntl(file.fd, F_GETFD) & FD_CLOEXEC);
    snprintf(data, sizeof(data), "descriptor %d", ends[1]);
    cr_assert_str_eq(kn_log_file_name(&file), data);
    close(ends[1]);
    cr_assert_eq(write_text(&file, "line\n"), 5);
    cr_assert_eq(kn_log_file_reopen(&file), 0, "does nothing");
    cr_assert_eq(write_text(&file, "line\n"), 5);
    cr_assert_eq(read(ends[0], data, sizeof(data)), 10);
    kn_log_file_close(&file);
    cr_assert_eq(read(ends[0], data, sizeof(data)), 0, "nobody has it any more");
    close(ends[0]);
}

Test(log_file, a_descriptor_that_cannot_be_written_is_an_error)
{
    struct kn_log_file file;
    int ends[2];

    cr_assert_eq(pipe(ends), 0);
    cr_assert_eq(kn_log_file_adopt(&file, (uint64_t)ends[0]), KINO_INVALID);
    close(ends[0]);
    close(ends[1]);
    cr_assert_eq(kn_log_file_adopt(&file, (uint64_t)ends[1]), -EBADF);
    cr_assert_eq(kn_log_file_adopt(&file, UINT64_MAX), -EBADF);
    cr_assert_eq(kn_log_file_adopt(&file, UINT64_C(1) << 32), -EBADF);
}

/* Fill it until it takes no more, in pieces of all sizes; then drain it and go on. */
static void assert_never_waits(int reader, int writer)
{
    static char data[100000];
    struct kn_log_file file;
    int rc;

    memset(data, 'x', sizeof(data));
    cr_assert_eq(kn_log_file_adopt(&file, (uint64_t)writer), 0);
    while ((rc = kn_log_file_write(&file, data, sizeof(data), SHORT_MS)) > 0)
        ;
    cr_assert_eq(rc, KINO_AGAIN);
    cr_assert_gt(read(reader, data, sizeof(data)), 0);
    cr_assert_gt(kn_log_file_write(&file, data, 100, LONG_MS), 0);
    kn_log_file_close(&file);
}

Test(log_file, a_full_pipe_is_no_wait)
{
    int ends[2];

    cr_assert_eq(pipe(ends), 0);
    assert_never_waits(ends[0], ends[1]);
    cr_assert_not(fcntl(ends[1], F_GETFL) & O_NONBLOCK, "it is as it was to others");
    close(ends[0]);
    close(ends[1]);
}

Test(log_file, a_full_socket_is_no_wait)
{
    struct kn_log_file file;
    int ends[2];

    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    assert_never_waits(ends[0], ends[1]);
    cr_assert_eq(kn_log_file_adopt(&file, (uint64_t)ends[1]), 0);
    close(ends[0]);
    cr_assert_eq(write_text(&file, "line\n"), -EPIPE, "and no signal");
    kn_log_file_close(&file);
    close(ends[1]);
}

Test(log_file, a_full_disk_is_an_error)
{
    struct kn_log_file file;

    cr_assert_eq(kn_log_file_open(&file, slice("/dev/full")), 0);
    cr_assert_eq(write_text(&file, "line\n"), -ENOSPC);
    kn_log_file_tear(&file);
    cr_assert_eq(write_text(&file, "line\n"), -ENOSPC);
    kn_log_file_close(&file);
}
