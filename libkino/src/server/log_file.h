/* SPDX-License-Identifier: MIT */
#ifndef KN_SERVER_LOG_FILE_H
#define KN_SERVER_LOG_FILE_H

#include "kino.h"

#include <stdbool.h>

/* What lines are written to: a path of ours or a descriptor that somebody gave. One thread. */
struct kn_log_file {
    int fd;        /* ours */
    char *path;    /* owned, NUL-terminated; NULL: there is none */
    char name[24]; /* what stands for the path where there is none */
    bool regular;  /* a file on a disk: no write waits for a reader */
    bool socket;
    bool torn; /* the last line has no end */
};

/* 0 or -errno; KINO_INVALID: there is a NUL in the path. */
int kn_log_file_open(struct kn_log_file *file, struct kino_slice path);
/* Take a duplicate. 0 or -errno; KINO_INVALID: it is open for reading only. */
int kn_log_file_adopt(struct kn_log_file *file, uint64_t descriptor);
/* Closes and frees, no more: so a child of the process may call it, too. */
void kn_log_file_close(struct kn_log_file *file);

/* For people. Borrowed for as long as the file is open. */
const char *kn_log_file_name(const struct kn_log_file *file);

/* Open the path anew. 0 or -errno; then the old file stays. */
int kn_log_file_reopen(struct kn_log_file *file);

/* Write some of it. Waits at most `timeout_ms` for there to be room, but for a blocking descriptor
 * that promises room it does not have. Returns the number of bytes, KINO_AGAIN or -errno. Raises no
 * signal where all are blocked: SIGPIPE and SIGXFSZ of a write go to the thread that writes, stay
 * pending there, and end with it. */
int kn_log_file_write(struct kn_log_file *file, const char *data, size_t len, int timeout_ms);

/* The rest of a line that was begun will not be written: end it before the next. */
void kn_log_file_tear(struct kn_log_file *file);

#endif
