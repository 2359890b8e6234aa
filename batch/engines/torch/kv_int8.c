/* Keys and values in eight bits: how they lie in a page, how they are put there, and attention over them.
 *
 * A number is least + step · byte. Of a key each BLOCK elements have a step and a least number of their own, as few
 * channels of keys are far larger than the others (Liu 2024, KIVI), of a value all have one; both are bfloat16. Queries
 * and shares become whole numbers of sixteen bits, so that the sums of a block are whole numbers, the same on every
 * processor. Four bytes stand together that are multiplied by four numbers of one query, in the order 0, 2, 1, 3: as
 * two pairs of sixteen bits they are in order again.
 *
 * A tile, [COLUMNS, int8_cell(size)] bytes: of keys [elements / 4, COLUMNS, 4], of values [COLUMNS / 4, elements, 4],
 * elements filled up to ELEMENTS; then [blocks, COLUMNS] steps in the lower and least numbers in the upper half of 32
 * bits, of which values use the first block.
 */
#include "block.h"
#include "kv_int8.h"

#define TOGETHER 6 /* queries whose sums stay in registers */
#define MOST_SHORT 32767.0f
#define MOST_BLOCKS (LARGEST_HEAD / BLOCK)

#if defined(__AVX512BW__)
#define WIDE 16 /* sums in a vector */
#elif defined(__AVX2__)
#include <immintrin.h>
#define WIDE 8
#else
#define WIDE 4
#endif

typedef int32_t Ints __attribute__((vector_size(4 * WIDE), aligned(4)));
typedef uint32_t Bits __attribute__((vector_size(4 * WIDE), aligned(4)));
typedef float Floats __attribute__((vector_size(4 * WIDE), aligned(4)));
typedef int16_t Shorts __attribute__((vector_size(2 * WIDE), aligned(2)));

/* sums + two products of each 32 bits, of sixteen bits by sixteen. */
INLINE Ints add_products(Ints sums, Bits bytes, const int16_t *two) {
    int32_t pair;
    memcpy(&pair, two, 4);
#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
    return (Ints)_mm512_dpwssd_epi32((__m512i)sums, (__m512i)bytes, _mm512_set1_epi32(pair));
#elif defined(__AVX512BW__)
    return sums + (Ints)_mm512_madd_epi16((__m512i)bytes, _mm512_set1_epi32(pair));
#elif defined(__AVX2__)
    return sums + (Ints)_mm256_madd_epi16((__m256i)bytes, _mm256_set1_epi32(pair));
#else
    return sums + (Ints)(bytes & 0xffff) * two[0] + (Ints)(bytes >> 16) * two[1];
#endif
}

/* Bytes 0 and 2, and bytes 1 and 3 of each 32 bits, as pairs of sixteen bits. */
INLINE void split(const char *four, Bits *even, Bits *odd) {
    Bits bytes = *(const Bits *)four;
    *even = bytes & 0xff00ff, *odd = (bytes >> 8) & 0xff00ff;
}

INLINE Floats as_floats(Bits bits) { return (Floats)bits; }

/* x where it is so, else 0. */
INLINE Floats where(Ints so, Floats x) { return (Floats)((Ints)x & so); }

/* The tile with column c of a part whose pages lie `page` bytes apart. */
INLINE const char *int8_tile(const Part *p, int64_t c, int values, int64_t tile) {
    return (values ? p->values : p->keys) + (p->pages ? p->pages[c / COLUMNS] * p->page : c / COLUMNS * tile);
}

static uint16_t upper_half(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (uint16_t)(bits >> 16);
}

/* To bfloat16, no larger than x; and for x >= 0 no smaller. */
static bf16 bf16_below(float x) { return (bf16)(upper_half(x) + (x < 0 && from_bf16(upper_half(x)) != x)); }
static bf16 bf16_above(float x) { return (bf16)(upper_half(x) + (from_bf16(upper_half(x)) != x)); }

/* Bytes of n numbers, and their step and least number as 32 bits; NaN where not all of them are finite. */
static uint32_t to_bytes(const float *restrict x, int64_t n, uint8_t *restrict bytes) {
    float least = x[0], most = x[0];
    for (int64_t i = 1; i < n; i++) {
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
    }
    if (!(largest_size(x, n) < 1e38f)) {
        memset(bytes, 0, n);
        return 0x7fc07fc0;
    }
    bf16 low = bf16_below(least), step = bf16_above((most - from_bf16(low)) / 255.0f);
    float begin = from_bf16(low), inverse = from_bf16(step) < 1e-30f ? 0.0f : 1.0f / from_bf16(step);
    for (int64_t i = 0; i < n; i++) {
        int32_t byte = (int32_t)((x[i] - begin) * inverse + 0.5f);
        bytes[i] = (uint8_t)(byte > 255 ? 255 : byte);
    }
    return (uint32_t)low << 16 | step;
}

void put_int8(const float *from, int64_t size, char *tile, int64_t at, int values) {
    static const int64_t order[] = {0, 2, 1, 3};
    int64_t padded = int8_elements(size), block = values ? size : BLOCK;
    uint8_t bytes[LARGEST_HEAD] = {0};
    for (int64_t i = 0; i < size; i += block) {
        uint32_t steps = to_bytes(from + i, size - i < block ? size - i : block, bytes + i);
        memcpy(tile + COLUMNS * padded + (i / block * COLUMNS + at) * 4, &steps, 4);
    }
    if (values)
        for (int64_t i = 0; i < padded; i++) tile[(at / 4 * padded + i) * 4 + order[at % 4]] = (char)bytes[i];
    else
        for (int64_t i = 0; i < padded; i += 4) {
            uint8_t four[] = {bytes[i], bytes[i + 2], bytes[i + 1], bytes[i + 3]};
            memcpy(tile + (i / 4 * COLUMNS + at) * 4, four, 4);
        }
}

/* Queries of a block as whole numbers, and what goes on with them. */
typedef struct {
    int16_t *asked;                                                         /* [queries, elements] */
    float steps[QUERIES][MOST_BLOCKS], sums[QUERIES][MOST_BLOCKS];          /* of each block: its step, and its sum */
    float most[QUERIES], total[QUERIES], base[QUERIES], *mixed;             /* mixed: [queries, elements] */
    int64_t elements, blocks;
    int group;
} Asking;

static void ask(const Block *b, Asking *a, int queries, int64_t size) {
    memset(a->asked, 0, sizeof(int16_t) * queries * a->elements);
    for (int j = 0; j < queries; j++) {
        const float *q = b->q + j / a->group * b->stride + j % a->group * size;
        for (int64_t k = 0; k < a->blocks; k++) {
            int64_t n = size - k * BLOCK < BLOCK ? size - k * BLOCK : BLOCK;
            float largest = largest_size(q + k * BLOCK, n), inverse = MOST_SHORT / largest;
            int finite = largest < 1e38f, sum = 0;
            for (int64_t i = 0; finite && inverse < 1e38f && i < n; i++) {
                int16_t whole = (int16_t)rintf(q[k * BLOCK + i] * inverse);
                a->asked[j * a->elements + k * BLOCK + i] = whole;
                sum += whole;
            }
            a->steps[j][k] = finite ? largest / MOST_SHORT * b->scale : NAN;
            a->sums[j][k] = (float)sum * a->steps[j][k];
        }
    }
}

/* scores[n, CHUNK] of one tile of keys. */
INLINE void score_int8(const Asking *a, int first, int n, const char *tile, const char *next, float *scores) {
    const int16_t *asked = a->asked + first * a->elements;
    for (int c = 0; c < COLUMNS; c += 2 * WIDE) {
        Floats found[TOGETHER][2];
        for (int r = 0; r < n; r++) found[r][0] = found[r][1] = (Floats){0};
        for (int64_t k = 0, i = 0; k < a->blocks; k++) {
            int64_t end = (k + 1) * BLOCK < a->elements ? (k + 1) * BLOCK : a->elements;
            Ints sums[TOGETHER][2];
            for (int r = 0; r < n; r++) sums[r][0] = sums[r][1] = (Ints){0};
            for (; i < end; i += 4) {
                const char *four = tile + (i / 4 * COLUMNS + c) * 4;
                if (!c) __builtin_prefetch(next + i * COLUMNS), __builtin_prefetch(next + i * COLUMNS + 64);
                Bits even[2], odd[2];
                for (int v = 0; v < 2; v++) split(four + v * WIDE * 4, even + v, odd + v);
                for (int r = 0; r < n; r++) {
                    const int16_t *q = asked + r * a->elements + i;
                    for (int v = 0; v < 2; v++) sums[r][v] = add_products(sums[r][v], even[v], q);
                    for (int v = 0; v < 2; v++) sums[r][v] = add_products(sums[r][v], odd[v], q + 2);
                }
            }
            const char *steps = tile + COLUMNS * a->elements + (k * COLUMNS + c) * 4;
            for (int v = 0; v < 2; v++) {
                Bits both = *(const Bits *)(steps + v * WIDE * 4);
                Floats step = as_floats(both << 16), least = as_floats(both & 0xffff0000);
                for (int r = 0; r < n; r++)
                    found[r][v] += __builtin_convertvector(sums[r][v], Floats) * (step * a->steps[first + r][k])
                                   + least * a->sums[first + r][k];
            }
        }
        for (int r = 0; r < n; r++)
            for (int v = 0; v < 2; v++) *(Floats *)(scores + r * CHUNK + c + v * WIDE) = found[r][v];
    }
}

/* mixed = mixed · change + shares · values of the tiles, for `vectors` of a value's elements. */
INLINE void mix_int8(const Asking *a, int first, int n, int vectors, const int16_t *shares, const float *steps,
                     const float *change, const char *const *tiles, const char *const *next, int count, int64_t from) {
    Ints sums[TOGETHER][2];
    for (int r = 0; r < n; r++)
        for (int v = 0; v < vectors; v++) sums[r][v] = (Ints){0};
    for (int c = 0; c < count; c += 4) {
        int64_t at = (c % COLUMNS / 4 * a->elements + from) * 4;
        Bits even[2], odd[2];
        for (int v = 0; v < vectors; v++) {
            split(tiles[c / COLUMNS] + at + v * WIDE * 4, even + v, odd + v);
            __builtin_prefetch(next[c / COLUMNS] + at + v * WIDE * 4);
        }
        for (int r = 0; r < n; r++) {
            const int16_t *some = shares + r * CHUNK + c;
            for (int v = 0; v < vectors; v++) sums[r][v] = add_products(sums[r][v], even[v], some);
            for (int v = 0; v < vectors; v++) sums[r][v] = add_products(sums[r][v], odd[v], some + 2);
        }
    }
    for (int r = 0; r < n; r++)
        for (int v = 0; v < vectors; v++) {
            Floats *to = (Floats *)(a->mixed + (first + r) * a->elements + from + v * WIDE);
            *to = *to * change[r] + __builtin_convertvector(sums[r][v], Floats) * steps[r];
        }
}

#define COUNTS(DO) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6)

static void score_all(const Asking *a, int first, int n, const char *tile, const char *next, float *scores) {
#define CASE(N)                                                                                                        \
    case N: score_int8(a, first, N, tile, next, scores); break;
    switch (n) { COUNTS(CASE) }
#undef CASE
}

static void mix_all(const Asking *a, int first, int n, const int16_t *shares, const float *steps, const float *change,
                    const char *const *tiles, const char *const *next, int count) {
    int64_t from = 0;
#define CASE(N)                                                                                                        \
    case N:                                                                                                            \
        for (; from + 2 * WIDE <= a->elements; from += 2 * WIDE)                                                       \
            mix_int8(a, first, N, 2, shares, steps, change, tiles, next, count, from);                                 \
        for (; from < a->elements; from += WIDE)                                                                       \
            mix_int8(a, first, N, 1, shares, steps, change, tiles, next, count, from);                                 \
        break;
    switch (n) { COUNTS(CASE) }
#undef CASE
}

/* Scores [columns], whole tiles, to shares as in `softmax`; what those before are to be multiplied by. */
static float share(float *scores, int columns, float *most, float *total) {
    float tops[WIDE], before = *most, top = before;
    for (int j = 0; j < WIDE; j++) tops[j] = before;
    for (int c = 0; c < columns; c += WIDE)
        for (int j = 0; j < WIDE; j++) tops[j] = scores[c + j] > tops[j] ? scores[c + j] : tops[j];
    for (int j = 0; j < WIDE; j++) top = tops[j] > top ? tops[j] : top;
    *most = top;
    if (top == -INFINITY) top = 0; /* all are hidden */
    float change = before == -INFINITY ? 0.0f : before == top ? 1.0f : exp_fast(before - top);
#ifdef __AVX512F__
    const __m512 log2e = _mm512_set1_ps(1.44269504088896341f), base = _mm512_set1_ps(top * 1.44269504088896341f);
    __m512 sum = _mm512_setzero_ps();
    for (int c = 0; c < columns; c += 16) {
        __m512 now = power_below(_mm512_fmsub_ps(_mm512_loadu_ps(scores + c), log2e, base), 0);
        _mm512_storeu_ps(scores + c, now);
        sum = _mm512_add_ps(sum, now);
    }
    *total = *total * change + _mm512_reduce_add_ps(sum);
#else
    float sums[WIDE] = {0};
    for (int c = 0; c < columns; c += WIDE)
        for (int j = 0; j < WIDE; j++) {
            float below = scores[c + j] - top, now = exp_fast(below);
            scores[c + j] = now = below < -87.0f ? 0.0f : now;
            sums[j] += now;
        }
    *total *= change;
    for (int j = 0; j < WIDE; j++) *total += sums[j];
#endif
    return change;
}

/* Shares times the steps of their values as whole numbers, and the step of those; what the least numbers give is added
 * to `base`. What has no share is not looked at: it may be no value. */
static float whole_shares(const float *shares, const float *steps, const float *least, int columns, int16_t *whole,
                          float *base) {
    float scaled[CHUNK], top = 0;
    Floats tops = {0}, sums = {0};
    for (int c = 0; c < columns; c += WIDE) {
        Floats own = *(const Floats *)(shares + c);
        Floats now = where(own > 0, own * *(const Floats *)(steps + c));
        *(Floats *)(scaled + c) = now = where(now == now, now);
        tops = where(now > tops, now) + where(now <= tops, tops);
        sums += where(own > 0, own * *(const Floats *)(least + c));
    }
    for (int j = 0; j < WIDE; j++) top = tops[j] > top ? tops[j] : top, *base += sums[j];
    float inverse = top > 1e-30f ? MOST_SHORT / top : 0.0f;
    for (int c = 0; c < columns; c += WIDE) {
        Ints near = __builtin_convertvector(*(const Floats *)(scaled + c) * inverse + 0.5f, Ints);
        *(Shorts *)(whole + c) = __builtin_convertvector(near, Shorts);
    }
    return top / MOST_SHORT;
}

/* What queries [first, last) see of one part: of a run they are of many tokens, else of one, or all see all of it. */
static void go_over(const Block *b, Asking *a, int part, const Part *own, int first, int last) {
    int64_t bytes = COLUMNS * (a->elements + 4 * a->blocks);
    for (int64_t start = 0; start < own->count; start += CHUNK) {
        int columns = own->count - start < CHUNK ? (int)(own->count - start) : CHUNK;
        int tiles = (columns + COLUMNS - 1) / COLUMNS, filled = tiles * COLUMNS;
        const char *keys[CHUNK / COLUMNS], *values[CHUNK / COLUMNS], *next_keys[CHUNK / COLUMNS];
        const char *next_values[CHUNK / COLUMNS];
        float steps[CHUNK], least[CHUNK];
        for (int i = 0; i < tiles; i++) {
            int64_t at = start + i * COLUMNS, then = at + CHUNK < own->count ? at + CHUNK : at;
            keys[i] = int8_tile(own, at, 0, bytes), values[i] = int8_tile(own, at, 1, bytes);
            next_keys[i] = int8_tile(own, then, 0, bytes), next_values[i] = int8_tile(own, then, 1, bytes);
            for (int c = 0; c < COLUMNS; c++) {
                uint32_t both;
                memcpy(&both, values[i] + COLUMNS * a->elements + 4 * c, 4);
                steps[i * COLUMNS + c] = from_bf16((bf16)both), least[i * COLUMNS + c] = from_bf16((bf16)(both >> 16));
            }
        }
        for (int q = first; q < last; q += TOGETHER) {
            int n = last - q < TOGETHER ? last - q : TOGETHER;
            float scores[TOGETHER * CHUNK], units[TOGETHER], change[TOGETHER];
            int16_t whole[TOGETHER * CHUNK];
            for (int i = 0; i < tiles; i++) score_all(a, q, n, keys[i], next_keys[i], scores + i * COLUMNS);
            for (int r = 0; r < n; r++) {
                int t = (q + r) / a->group;
                float *row = scores + r * CHUNK;
                int64_t from = (part ? b->hidden[t] : b->far_hidden[t]) - start;
                int64_t to = part ? own->count - b->after[t] - start : columns;
                if (b->cap > 0) soften(row, filled, b->cap);
                if (b->slopes)
                    for (int c = 0; c < filled; c++)
                        row[c] += b->slopes[(q + r) % a->group]
                                  * ((part ? b->near_from[t] : b->far_from[t]) + (float)(start + c));
                for (int c = 0; c < filled && c < from; c++) row[c] = -INFINITY;
                for (int c = to < 0 ? 0 : to < columns ? (int)to : columns; c < filled; c++) row[c] = -INFINITY;
                change[r] = share(row, filled, a->most + q + r, a->total + q + r);
                a->base[q + r] *= change[r];
                units[r] = whole_shares(row, steps, least, filled, whole + r * CHUNK, a->base + q + r);
            }
            mix_all(a, q, n, whole, units, change, values, next_values, filled);
        }
    }
}

void attend_int8(const Block *b, int group, int64_t size, float *scratch, float *out) {
    int queries = (int)b->tokens * group;
    Asking a = {.elements = int8_elements(size), .blocks = int8_blocks(size), .group = group, .mixed = scratch};
    a.asked = (int16_t *)(scratch + QUERIES * a.elements);
    memset(a.mixed, 0, sizeof(float) * queries * a.elements);
    ask(b, &a, queries, size);
    begin_softmax(b, group, queries, a.most, a.total);
    go_over(b, &a, 0, &b->far, 0, queries);
    if (b->run) go_over(b, &a, 1, b->near, 0, queries);
    else
        for (int t = 0; t < b->tokens; t++) go_over(b, &a, 1, b->near + t, t * group, (t + 1) * group);
    for (int j = 0; j < queries; j++) {
        float *to = out + j / group * b->stride + j % group * size, scale = 1.0f / a.total[j];
        for (int64_t i = 0; i < size; i++) to[i] = (a.mixed[j * a.elements + i] + a.base[j]) * scale;
    }
}

int64_t int8_cell(int64_t size) { return cell_of(BYTES, size); }
