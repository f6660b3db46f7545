/* SPDX-License-Identifier: MIT */
#include "base/chain.h"

#include "base/alloc.h"

#include <assert.h>
#include <errno.h>
#include <unistd.h>

static struct kn_piece *create_piece(enum kn_piece_kind kind)
{
    struct kn_piece *piece = kn_alloc_zeroed(sizeof(*piece));

    if (piece)
        piece->kind = kind;
    return piece;
}

/* Give back what it lent or holds. */
static void destroy_piece(struct kn_piece *piece)
{
    if (piece->done)
        piece->done(piece->context);
    else if (piece->kind == KN_PIECE_FILE)
        close(piece->descriptor);
    kn_buf_deinit(&piece->own);
    kn_free(piece);
}

static void link_piece(struct kn_chain *chain, struct kn_piece *piece)
{
    if (chain->tail)
        chain->tail->next = piece;
    else
        chain->head = piece;
    chain->tail = piece;
}

static void drop_head(struct kn_chain *chain)
{
    struct kn_piece *piece = chain->head;

    chain->head = piece->next;
    if (!chain->head)
        chain->tail = NULL;
    destroy_piece(piece);
}

struct kn_buf *kn_chain_end(struct kn_chain *chain)
{
    struct kn_piece *piece = chain->tail;

    if (!piece)
        return &chain->first;
    if (piece->kind != KN_PIECE_OWN) {
        piece = create_piece(KN_PIECE_OWN);
        if (!piece)
            return NULL;
        link_piece(chain, piece);
    }
    return &piece->own;
}

void kn_chain_grown(struct kn_chain *chain, size_t before)
{
    if (chain->tail)
        chain->pieces_len += chain->tail->own.len - before;
}

int kn_chain_append(struct kn_chain *chain, const void *data, size_t len)
{
    struct kn_buf *end;
    size_t before;
    int rc;

    if (len == 0)
        return 0;
    end = kn_chain_end(chain);
    if (!end)
        return -ENOMEM;
    before = end->len;
    rc = kn_buf_append(end, data, len);
    if (rc == 0)
        kn_chain_grown(chain, before);
    return rc;
}

int kn_chain_borrow(struct kn_chain *chain, struct kino_slice data, kino_done_fn done,
                    void *context)
{
    struct kn_piece *piece = create_piece(KN_PIECE_BORROWED);

    if (!piece)
        return -ENOMEM;
    piece->data = data.data;
    piece->len = data.len;
    piece->done = done;
    piece->context = context;
    chain->pieces_len += data.len;
    link_piece(chain, piece);
    return 0;
}

int kn_chain_add_file(struct kn_chain *chain, int descriptor, uint64_t offset, uint64_t len,
                      kino_done_fn done, void *context)
{
    struct kn_piece *piece = create_piece(KN_PIECE_FILE);

    if (!piece)
        return -ENOMEM;
    piece->descriptor = descriptor;
    piece->offset = offset;
    piece->len = len;
    piece->done = done;
    piece->context = context;
    chain->pieces_len += len;
    link_piece(chain, piece);
    return 0;
}

/* Hand over a buffer as a piece of its own. */
static int add_buffer(struct kn_chain *chain, struct kn_buf *buf)
{
    struct kn_piece *piece = create_piece(KN_PIECE_OWN);

    if (!piece)
        return -ENOMEM;
    chain->pieces_len += buf->len;
    kn_buf_swap(&piece->own, buf);
    link_piece(chain, piece);
    return 0;
}

static int move_first(struct kn_chain *chain, struct kn_chain *from)
{
    int rc;

    assert(from->used == 0);
    if (kn_chain_len(chain) == 0 && !chain->head) {
        chain->used = 0;
        kn_buf_swap(&chain->first, &from->first);
        from->first.len = 0;
        return 0;
    }
    if (from->first.len > KN_CHAIN_JOIN_MOST)
        return add_buffer(chain, &from->first);
    rc = kn_chain_append(chain, from->first.data, from->first.len);
    if (rc == 0)
        from->first.len = 0;
    return rc;
}

int kn_chain_move(struct kn_chain *chain, struct kn_chain *from)
{
    int rc = move_first(chain, from);

    if (rc < 0 || !from->head)
        return rc;
    if (chain->tail)
        chain->tail->next = from->head;
    else
        chain->head = from->head;
    chain->tail = from->tail;
    chain->pieces_len += from->pieces_len;
    from->head = NULL;
    from->tail = NULL;
    from->pieces_len = 0;
    return 0;
}

void kn_chain_swap(struct kn_chain *a, struct kn_chain *b)
{
    struct kn_chain held = *a;

    *a = *b;
    *b = held;
}

static bool add_vector(struct iovec *vector, const char *data, uint64_t len, size_t *most)
{
    const size_t part = len < *most ? (size_t)len : *most;

    if (part == 0)
        return false;
    *vector = (struct iovec){.iov_base = (char *)(uintptr_t)data, .iov_len = part};
    *most -= part;
    return true;
}

unsigned kn_chain_gather(const struct kn_chain *chain, struct iovec *vectors, unsigned count,
                         size_t most)
{
    unsigned used = 0;

    if (chain->used < chain->first.len && add_vector(&vectors[0], chain->first.data + chain->used,
                                                     chain->first.len - chain->used, &most))
        used = 1;
    for (const struct kn_piece *piece = chain->head; piece && used < count && most > 0;
         piece = piece->next) {
        if (piece->kind == KN_PIECE_FILE)
            break;
        if (piece->kind == KN_PIECE_OWN)
            used += add_vector(&vectors[used], piece->own.data, piece->own.len, &most);
        else
            used += add_vector(&vectors[used], piece->data, piece->len, &most);
    }
    return used;
}

struct kn_piece *kn_chain_file(struct kn_chain *chain)
{
    while (chain->head && chain->head->kind == KN_PIECE_FILE && chain->head->len == 0)
        drop_head(chain);
    return chain->head && chain->head->kind == KN_PIECE_FILE ? chain->head : NULL;
}

void kn_chain_pack(struct kn_chain *chain)
{
    if (chain->used == 0)
        return;
    kn_buf_consume(&chain->first, chain->used);
    chain->used = 0;
}

void kn_chain_read(struct kn_chain *chain, size_t count)
{
    struct kn_piece *piece = chain->head;

    assert(piece->kind == KN_PIECE_FILE && count <= piece->len);
    chain->first.len += count;
    chain->pieces_len -= count;
    piece->offset += count;
    piece->len -= count;
    if (piece->len == 0)
        drop_head(chain);
}

/* The first piece is an own one, and `first` is used up: it may take its place. */
static void promote(struct kn_chain *chain)
{
    kn_buf_swap(&chain->first, &chain->head->own);
    chain->pieces_len -= chain->first.len;
    drop_head(chain);
}

void kn_chain_consume(struct kn_chain *chain, size_t count)
{
    for (;;) {
        const size_t left = chain->first.len - chain->used;
        const size_t part = count < left ? count : left;
        struct kn_piece *piece;

        chain->used += part;
        count -= part;
        if (chain->used < chain->first.len)
            break;
        chain->first.len = 0;
        chain->used = 0;
        piece = chain->head;
        if (!piece || piece->kind == KN_PIECE_FILE)
            break;
        if (piece->kind == KN_PIECE_OWN) {
            promote(chain);
            continue;
        }
        if (count < piece->len) {
            piece->data += count;
            piece->len -= count;
            chain->pieces_len -= count;
            count = 0;
            break;
        }
        count -= (size_t)piece->len;
        chain->pieces_len -= piece->len;
        drop_head(chain);
    }
    assert(count == 0);
}

void kn_chain_reset(struct kn_chain *chain, size_t keep)
{
    while (chain->head)
        drop_head(chain);
    chain->pieces_len = 0;
    chain->used = 0;
    kn_buf_reset(&chain->first, keep);
}
