/* Attention of a step: many queries over the columns they share as small matrix products, the rest one by one.
 *
 * The queries of up to QUERIES lanes stand upright, a lane each, so that keys and values are read as they lie in the
 * cache: a key's elements are broadcast to all lanes, a share to the elements of a value. Scores are [columns, lanes],
 * and the softmax of all lanes runs side by side. One new token a row is bound by memory; there the gain is that a
 * prefix is read once for a block of rows, as in Hydragen (Juravsky 2024).
 */
#include "amx.h"
#include "kernels.h"

/* Groups and sizes of heads for which there is code of its own (cases.c), as in native.py. */
#ifdef WITHOUT_CASES
#define CASES(DO)
#else
#define CASES(DO) DO(2, 64) DO(2, 128) DO(3, 64) DO(4, 64) DO(4, 128)
#endif

#define LANES 16 /* queries come in so many */
#ifdef __AVX512F__
#define QUERIES 48 /* of a block, at most */
#define WIDTH 16   /* floats of a vector */
#define KEYS 8     /* side by side: their sums with SIDE vectors of queries fill the registers */
#define SIDE 3
#define VALUES 4 /* vectors of values side by side, whose sums with 4 queries do */
#else
#define QUERIES 32
#define WIDTH 8
#define KEYS 4
#define SIDE 2
#define VALUES 2
#endif
#define VECTORS (QUERIES / LANES)
#define COLUMNS 32 /* of a tile, and of a page: it stays in the first cache beside the queries */
#define CHUNK (4 * COLUMNS) /* whose scores a run has at a time, in the first cache */
#define FEW 8      /* fewer queries are attended to one by one */
#define LARGEST_PAIRED 256 /* of a key in pairs.h */

typedef float Vector __attribute__((vector_size(4 * WIDTH), aligned(4)));

#define INLINE static inline __attribute__((always_inline)) /* so that sizes become constants */

/* Columns of one head that are attended to: [count, size] in the cache's type, where there are pages in those. */
typedef struct {
    const char *keys, *values;
    const int64_t *pages;
    int64_t page; /* bytes from a page to the next one */
    int64_t count;
} Part;

/* The tile that begins with column c. */
INLINE const char *tile_of(const Part *p, int64_t c, int values, int column) {
    return (values ? p->values : p->keys) + (p->pages ? p->pages[c / COLUMNS] * p->page : c * column);
}

/* Columns of the cache as floats [count, padded]: where they lie, or in `to`. */
INLINE const float *widen(const char *from, int count, int half, int size, int padded, float *to) {
    const bf16 *halves = (const bf16 *)from;
    const float *floats = (const float *)from;
    if (!half && size == padded) return floats;
    for (int c = 0; c < count; c++) {
        for (int i = 0; i < size; i++)
            to[c * padded + i] = half ? from_bf16(halves[c * size + i]) : floats[c * size + i];
        for (int i = size; i < padded; i++) to[c * padded + i] = 0;
    }
    return to;
}

/* scores[count, lanes] of so many keys, for `side` vectors of queries. */
INLINE void score_keys(const float *upright, int lanes, int side, const float *keys, int count, int size,
                       float *scores) {
    Vector sums[KEYS][SIDE];
    for (int r = 0; r < count; r++)
        for (int v = 0; v < side; v++) sums[r][v] = (Vector){0};
    for (int i = 0; i < size; i++) {
        Vector query[SIDE];
        for (int v = 0; v < side; v++) query[v] = *(const Vector *)(upright + i * lanes + v * WIDTH);
        for (int r = 0; r < count; r++)
            for (int v = 0; v < side; v++) sums[r][v] += keys[r * size + i] * query[v];
    }
    for (int r = 0; r < count; r++)
        for (int v = 0; v < side; v++) *(Vector *)(scores + r * lanes + v * WIDTH) = sums[r][v];
}

/* scores[columns, lanes] = keys[columns, size] · upright[size, lanes]. */
INLINE void score_tile(const float *upright, int vectors, const float *keys, int columns, int size, float *scores) {
    int lanes = vectors * LANES, side = lanes < SIDE * WIDTH ? lanes / WIDTH : SIDE;
    for (int j = 0; j < lanes; j += side * WIDTH) {
        int c = 0;
        for (; c + KEYS <= columns; c += KEYS)
            score_keys(upright + j, lanes, side, keys + c * size, KEYS, size, scores + c * lanes + j);
        for (; c < columns; c++)
            score_keys(upright + j, lanes, side, keys + c * size, 1, size, scores + c * lanes + j);
    }
}

/* out[queries, size] += shares[columns, lanes] · values[columns, size]; 4 queries × `wide` vectors in registers. */
INLINE void value_part(const float *shares, int lanes, const float *values, int columns, int queries, int size,
                       int from, int wide, float *out) {
    for (int j = 0; j < queries; j += 4) {
        Vector sums[4][VALUES];
        for (int r = 0; r < 4; r++)
            for (int v = 0; v < wide; v++) sums[r][v] = *(Vector *)(out + (j + r) * size + from + v * WIDTH);
        for (int c = 0; c < columns; c++)
            for (int v = 0; v < wide; v++) {
                Vector value = *(const Vector *)(values + c * size + from + v * WIDTH);
                for (int r = 0; r < 4; r++) sums[r][v] += shares[c * lanes + j + r] * value;
            }
        for (int r = 0; r < 4; r++)
            for (int v = 0; v < wide; v++) *(Vector *)(out + (j + r) * size + from + v * WIDTH) = sums[r][v];
    }
}

INLINE void value_tile(const float *shares, int lanes, const float *values, int columns, int queries, int size,
                       float *out) {
    int i = 0;
    for (; i + VALUES * WIDTH <= size; i += VALUES * WIDTH)
        value_part(shares, lanes, values, columns, queries, size, i, VALUES, out);
    for (; i < size; i += WIDTH) value_part(shares, lanes, values, columns, queries, size, i, 1, out);
}

/* What is read next, a column at a time: prefetchers of processors stop at the ends of pages, and rows are short. */
typedef struct {
    const char *at;
    int bytes; /* of a column */
} Next;

INLINE void fetch(Next next, int column) {
    for (int i = 0; i < next.bytes; i += 64) __builtin_prefetch(next.at + column * next.bytes + i);
}

/* The same two for the `group` queries of one token, whose scores are in neighbouring lanes. */
INLINE void score_few(const float *q, int group, const float *keys, int columns, int size, float *scores, int lanes,
                      Next next) {
    for (int c = 0; c < columns; c++) {
        fetch(next, c);
        for (int g = 0; g < group; g++) {
            float sum = 0;
            for (int i = 0; i < size; i++) sum += q[g * size + i] * keys[c * size + i];
            scores[c * lanes + g] = sum;
        }
    }
}

INLINE void value_few(const float *shares, int lanes, int group, const float *values, int columns, int size, float *out,
                      Next next) {
    int c = 0;
    for (; c + 4 <= columns; c += 4) {
        for (int r = 0; r < 4; r++) fetch(next, c + r);
        const float *v = values + c * size;
        for (int g = 0; g < group; g++) {
            const float *p = shares + c * lanes + g;
            float a = p[0], b = p[lanes], d = p[2 * lanes], e = p[3 * lanes];
            for (int i = 0; i < size; i++)
                out[g * size + i] += a * v[i] + b * v[i + size] + d * v[i + 2 * size] + e * v[i + 3 * size];
        }
    }
    for (; c < columns; c++)
        for (int g = 0; g < group; g++)
            for (int i = 0; i < size; i++) out[g * size + i] += shares[c * lanes + g] * values[c * size + i];
}

#include "pairs.h"

/* Scores are held below `cap`: cap · tanh(score / cap), as in Gemma 2; what is hidden already stays so. */
INLINE void soften(float *restrict scores, int64_t count, float cap) {
    for (int64_t i = 0; i < count; i++) {
        float score = scores[i], e = exp_fast(-2.0f * fabsf(score) / cap);
        float bent = copysignf(cap * (1 - e) / (1 + e), score);
        scores[i] = score == -INFINITY ? score : bent;
    }
}

/* What ALiBi adds to the scores [columns, lanes]: a lane's slope times how far a column lies from the token (Press
 * 2022); `begins`: how far the first one does. */
INLINE void tilt(float *restrict scores, int64_t columns, int lanes, const float *restrict slopes,
                 const float *restrict begins) {
    for (int64_t c = 0; c < columns; c++)
        for (int j = 0; j < lanes; j++) scores[c * lanes + j] += slopes[j] * (begins[j] + (float)c);
}

/* A block of queries of one KV head: tokens [begin, end), of one slot (a run) or one each of several. */
typedef struct {
    const float *q;
    float scale, cap;            /* cap: 0 for none */
    const float *sinks, *slopes; /* of the group's heads, NULL for none */
    Part far, near[QUERIES];     /* what all share; each token's own, or the run's */
    int64_t far_hidden[QUERIES]; /* columns of `far` that the token no longer sees */
    int64_t hidden[QUERIES];     /* the token sees columns [hidden, count - after) of `near` */
    int64_t after[QUERIES];      /* of a run */
    float far_from[QUERIES], near_from[QUERIES]; /* where both begin, beside the token's own position */
    int run, tokens;
    int64_t stride; /* from a token's queries to the next token's */
} Block;

#include "run.h"
#include "far_tiles.h"

/* Where the tile after column c begins: of the same part, or of the next token's. */
INLINE const char *after(const Part *own, int more, int64_t c, int values, int column) {
    int64_t next = c + COLUMNS;
    return next < own->count ? tile_of(own, next, values, column) : tile_of(own + more, 0, values, column);
}

INLINE void attend_block(const Block *b, int group, int half, int size, int vectors, float *scratch, float *out) {
    if (b->run) {
        attend_run(b, group, half, size, vectors, scratch, out);
        return;
    }
    int lanes = vectors * LANES, queries = b->tokens * group, padded = (size + LANES - 1) / LANES * LANES;
    int dense = queries >= FEW, column = size * (half ? 2 : 4), pairs = PAIRS(half, size);
    int tiled = pairs && dense && b->far.count && tiles_allowed();
    float *asked = scratch, *upright = asked + QUERIES * padded, *sums = upright + QUERIES * padded;
    float *tile = sums + QUERIES * padded, *scores = tile + COLUMNS * padded;
    float most[QUERIES], total[QUERIES], change[QUERIES];
    uint32_t upright_pairs[PAIRS(1, 32) ? LARGEST_PAIRED / 2 * QUERIES : 1];
    bf16 halves[PAIRS(1, 32) ? LARGEST_PAIRED * QUERIES : 1];
    uint32_t shares[PAIRS(1, 32) ? COLUMNS / 2 * QUERIES : 1];
    float ones[QUERIES];
    for (int j = 0; j < QUERIES; j++) ones[j] = 1;
    int64_t far = b->far.count, near = 0;
    for (int t = 0; t < b->tokens; t++) near = b->near[t].count > near ? b->near[t].count : near;

    memset(asked, 0, sizeof(float) * 3 * QUERIES * padded);
    for (int j = 0; j < queries; j++)
        for (int i = 0; i < size; i++) {
            float x = b->q[j / group * b->stride + j % group * size + i] * b->scale;
            asked[j * padded + i] = upright[i * lanes + j] = x;
        }
    if (pairs) pair_asked(asked, queries, size, halves);
    if (pairs && dense) memset(upright_pairs, 0, sizeof(uint32_t) * size / 2 * lanes);
    for (int j = 0; pairs && dense && j < queries; j++) pair_upright(halves + j * size, j, lanes, size, upright_pairs);
    for (int64_t i = 0; i < near * lanes; i++) scores[far * lanes + i] = -INFINITY;

    for (int values = 0; values < 2; values++) {
        for (int part = 0; part < 2; part++) {
            int together = !part && dense;
            for (int t = 0; t < (together ? 1 : b->tokens); t++) {
                const Part *own = part ? b->near + t : &b->far;
                if (together && tiled) {
                    if (!values) score_far(b, group, size, lanes, scores);
                    else value_far(b, group, size, lanes, scores, sums);
                    continue;
                }
                for (int64_t c = 0; c < own->count; c += COLUMNS) {
                    int columns = own->count - c < COLUMNS ? own->count - c : COLUMNS;
                    int64_t at = t * group * padded;
                    float *row = scores + (part * far + c) * lanes + t * group;
                    const char *stored = tile_of(own, c, values, column);
                    const bf16 *paired = (const bf16 *)stored;
                    const float *wide = pairs ? NULL : widen(stored, columns, half, size, padded, tile);
                    Next next = {after(own, part && t + 1 < b->tokens, c, values, column), column};
                    if (together && !values) {
                        if (pairs) score_pairs(upright_pairs, vectors, paired, columns, size, row);
                        else score_tile(upright, vectors, wide, columns, padded, row);
                    } else if (together) {
                        if (pairs) {
                            pair_values(paired, columns, size, (uint32_t *)tile);
                            pair_columns(row, lanes, columns, shares);
                            value_pairs(shares, lanes, (const uint32_t *)tile, columns, queries, size, ones, sums);
                        } else value_tile(row, lanes, wide, columns, queries, padded, sums);
                    } else if (!values) {
                        if (pairs) score_few_pairs(halves + at, group, paired, columns, size, row, lanes, next);
                        else score_few(asked + at, group, wide, columns, padded, row, lanes, next);
                    } else {
                        if (pairs) value_few_pairs(row, lanes, group, paired, columns, size, sums + at, next);
                        else value_few(row, lanes, group, wide, columns, padded, sums + at, next);
                    }
                }
            }
        }
        if (values) break;
        if (b->cap > 0) soften(scores, (far + near) * lanes, b->cap);
        if (b->slopes) {
            float slopes[QUERIES] = {0}, begins[2][QUERIES] = {{0}};
            for (int j = 0; j < queries; j++) {
                slopes[j] = b->slopes[j % group];
                begins[0][j] = b->far_from[j / group], begins[1][j] = b->near_from[j / group];
            }
            tilt(scores, far, lanes, slopes, begins[0]);
            tilt(scores + far * lanes, near, lanes, slopes, begins[1]);
        }
        for (int t = 0; t < b->tokens; t++)
            for (int g = 0; g < group; g++) {
                float *lane = scores + t * group + g;
                for (int64_t c = 0; c < b->far_hidden[t]; c++) lane[c * lanes] = -INFINITY;
                lane += far * lanes;
                for (int64_t c = 0; c < b->hidden[t]; c++) lane[c * lanes] = -INFINITY;
            }
        begin_softmax(b, group, queries, most, total);
        softmax(scores, far + near, lanes, most, total, change, pairs);
    }
    for (int j = 0; j < queries; j++) {
        float *to = out + j / group * b->stride + j % group * size, scale = 1.0f / total[j];
        if (pairs) order_pairs(sums + j * padded, size, scale, to);
        else
            for (int i = 0; i < size; i++) to[i] = sums[j * padded + i] * scale;
    }
}
