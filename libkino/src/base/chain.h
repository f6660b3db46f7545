/* SPDX-License-Identifier: MIT */
#ifndef KN_BASE_CHAIN_H
#define KN_BASE_CHAIN_H

#include "base/buf.h"
#include "kino.h"

#include <stdbool.h>
#include <sys/uio.h>

enum {
    KN_CHAIN_JOIN_MOST = 16 << 10, /* bytes that are rather copied than kept as a piece */
};

enum kn_piece_kind {
    KN_PIECE_OWN,
    KN_PIECE_BORROWED,
    KN_PIECE_FILE,
};

/* What stands in a chain behind its first bytes. Owned by its chain. */
struct kn_piece {
    struct kn_piece *next;
    enum kn_piece_kind kind;
    struct kn_buf own;
    const char *data; /* BORROWED: what is left of it */
    int descriptor;   /* FILE */
    uint64_t offset;
    uint64_t len;      /* BORROWED, FILE: what is left */
    kino_done_fn done; /* of BORROWED, and of FILE where it is not to be closed */
    void *context;
};

/* Bytes on their way out, in order: own, borrowed, or a file's. One thread at a time; zero is a
 * valid empty chain. Most consist of `first` alone. */
struct kn_chain {
    struct kn_buf first;
    size_t used; /* of `first`: gone already */
    struct kn_piece *head;
    struct kn_piece *tail;
    uint64_t pieces_len; /* bytes in the pieces */
};

static inline uint64_t kn_chain_len(const struct kn_chain *chain)
{
    return chain->first.len - chain->used + chain->pieces_len;
}

/* The buffer at the end, to which one may append; then tell by kn_chain_grown how much. NULL: out
 * of memory. */
struct kn_buf *kn_chain_end(struct kn_chain *chain);
void kn_chain_grown(struct kn_chain *chain, size_t before);

/* All of these: 0, or -ENOMEM and the chain is as before. */
int kn_chain_append(struct kn_chain *chain, const void *data, size_t len);
/* Until `done` is called the data is the chain's to read. */
int kn_chain_borrow(struct kn_chain *chain, struct kino_slice data, kino_done_fn done,
                    void *context);
/* Without `done` the descriptor becomes the chain's own. */
int kn_chain_add_file(struct kn_chain *chain, int descriptor, uint64_t offset, uint64_t len,
                      kino_done_fn done, void *context);
/* Append all of `from`, which is empty then. */
int kn_chain_move(struct kn_chain *chain, struct kn_chain *from);

void kn_chain_swap(struct kn_chain *a, struct kn_chain *b);

/* Describe the bytes at the front that are in memory, at most `most` of them. Returns how many
 * vectors that took; 0: the next is a file's, or there is none. */
unsigned kn_chain_gather(const struct kn_chain *chain, struct iovec *vectors, unsigned count,
                         size_t most);
/* The file whose bytes are next behind `first`, or NULL. */
struct kn_piece *kn_chain_file(struct kn_chain *chain);
/* Have what is left of `first` stand at its beginning, so that there is room behind it. */
void kn_chain_pack(struct kn_chain *chain);
/* So many of that file's bytes were read into `first`. */
void kn_chain_read(struct kn_chain *chain, size_t count);
/* Drop `count` bytes at the front, none of which is still a file's. */
void kn_chain_consume(struct kn_chain *chain, size_t count);

/* Give everything back; keep at most `keep` bytes of memory. */
void kn_chain_reset(struct kn_chain *chain, size_t keep);

#endif
