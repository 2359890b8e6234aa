/* The product of an int8 linear layer: float rows in, float rows out, everything between in one parallel region.
 *
 * Rows are put into 8 bits around 128 (kernels.h), multiplied with signed weights by vpdpbusd, four inputs at a time
 * into 32-bit sums, and scaled on the way to memory. The sums are exact: they are the same for every blocking below.
 *
 * A few inputs of a row may be many times larger than the others; a scale that has room for them leaves the others a
 * handful of steps. So inputs beyond LIMIT times the row's mean stay floats, and are zero among the bytes (as LLM.int8()
 * does with whole columns; Dettmers 2022). Which ones, a row decides by itself. A block of rows multiplies them together,
 * as rows often have theirs in the same places: a column of weights is widened once for the block.
 *
 * Weights lie in panels, [panels, inputs / 4, OUTPUTS, 4], of neighbouring outputs; or, `paired`, of 16 of the first
 * half and 16 of the second, so that a gate and what it gates come together and half as much goes to memory. A panel is
 * read front to back, once for every block of rows. It stays in the cache (levels 1 and 2) from block to block, while
 * each block prefetches a part of the panel after it. A block of ROWS rows keeps ROWS × 2 sums in registers, and loads
 * ROWS + 2 of them for ROWS × 2 products; a core begins two of each in a cycle.
 */
#include "kernels.h"

#define OUTPUTS 32
#define ROWS 12
#define MOST_INPUTS 65536 /* 255 · 127 · this fits into 32 bits */
#define LIMIT 8.0f     /* times the mean of a row's absolute inputs: larger ones may stay floats */
#define KEPT 16        /* of a row, at most, and at most one of SPARSE */
#define SPARSE 16
#define PATIENCE 10000 /* pauses, before a thread that waits for another gives its processor to it */

/* out[rows, outputs] = f(x) · weights · scales + bias + residual. f is the norm by such a weight, or nothing; norm,
 * bias and residual may be NULL. Where `gated`, and so paired, the first half of the outputs are gates of the second,
 * and out, [rows, outputs / 2], is silu(gate) · up, without a residual. Weights, scales, offsets and bias come in the
 * order of the panels, padded with zeros. To work in: bytes, [rows, inputs up to a multiple of 4], and row_scales. Counts
 * are elements. Sums stay within 32 bits up to MOST_INPUTS. Returns 0, or as REQUIRE says. */
#define ARGUMENTS                                                                                                      \
    const int8_t *weights, int64_t weights_count, const float *scales, int64_t scales_count, const int32_t *offsets,   \
        int64_t offsets_count, const float *bias, int64_t bias_count, int64_t inputs, int64_t outputs, const float *x, \
        int64_t x_count, const float *norm, int64_t norm_count, float eps, int paired, int gated,                      \
        const float *residual, int64_t residual_count, int64_t rows, uint8_t *bytes, int64_t bytes_count,              \
        float *row_scales, int64_t row_scales_count, float *out, int64_t out_count, int threads

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#include <immintrin.h>
#include <sched.h>
#include <stdatomic.h>

/* Outputs of a panel, by which weights are packed; 0 where the processor lacks the product. */
int64_t gemm_outputs(void) { return OUTPUTS; }

typedef struct {
    int64_t outputs, stride; /* stride: of a row in bytes */
    int paired, gated;
    const int8_t *weights;
    const float *scales, *bias;
    const int32_t *offsets; /* -128 · the sum of an output's weights: what rows around 128 have too much */
    const uint8_t *bytes;
    const float *row_scales, *residual;
    float *out;
} Product;

/* What a row keeps as floats: inputs by their columns, in ascending order. */
typedef struct {
    int count, columns[KEPT], at[KEPT]; /* at: of its columns, their place among those of the block */
    float values[KEPT];
} Few;

/* What a block of rows keeps. */
typedef struct {
    int count, columns[ROWS * KEPT];
    Few rows[ROWS];
} Kept;

static inline __mmask16 first_of(int64_t left) { return left >= 16 ? 0xffff : left <= 0 ? 0 : (1 << left) - 1; }

/* Where the two vectors of a panel go: columns of `out`, how many of each, and the length of a row. */
typedef struct {
    int64_t columns[2], width;
    __mmask16 masks[2];
} Place;

static inline Place place_of(const Product *p, int64_t column) {
    int64_t half = (p->outputs + 1) / 2;
    if (p->paired)
        return (Place){{column / 2, column / 2 + half},
                       p->gated ? half : p->outputs,
                       {first_of(half - column / 2), first_of(p->outputs - half - column / 2)}};
    return (Place){
        {column, column + 16}, p->outputs, {first_of(p->outputs - column), first_of(p->outputs - column - 16)}};
}

/* sums[rows, OUTPUTS] = what a block keeps · its columns of a panel. */
static void multiply_kept(const Kept *kept, const int8_t *panel, int rows, float (*sums)[OUTPUTS]) {
    float wide[ROWS * KEPT][OUTPUTS];
    for (int c = 0; c < kept->count; c++) {
        const int8_t *four = panel + kept->columns[c] / 4 * 4 * OUTPUTS;
        __m128i up = _mm_cvtsi32_si128(24 - kept->columns[c] % 4 * 8);
        for (int v = 0; v < 2; v++) {
            __m512i upper = _mm512_sll_epi32(_mm512_loadu_si512(four + 64 * v), up);
            _mm512_storeu_ps(wide[c] + 16 * v, _mm512_cvtepi32_ps(_mm512_srai_epi32(upper, 24)));
        }
    }
    for (int r = 0; r < rows; r++) {
        const Few *few = kept->rows + r;
        __m512 first = _mm512_setzero_ps(), second = first;
        for (int i = 0; i < few->count; i++) {
            __m512 value = _mm512_set1_ps(few->values[i]);
            first = _mm512_fmadd_ps(value, _mm512_loadu_ps(wide[few->at[i]]), first);
            second = _mm512_fmadd_ps(value, _mm512_loadu_ps(wide[few->at[i]] + 16), second);
        }
        _mm512_storeu_ps(sums[r], first), _mm512_storeu_ps(sums[r] + 16, second);
    }
}

/* Sums of rows [row, row + rows) and one panel to floats, and to their places. */
static __attribute__((noinline)) void finish(const Product *p, const Kept *kept, int32_t (*sums)[OUTPUTS], int rows,
                                             int64_t row, int64_t column) {
    Place place = place_of(p, column);
    float beside[ROWS][OUTPUTS];
    if (kept->count) multiply_kept(kept, p->weights + column * p->stride, rows, beside);
    for (int r = 0; r < rows; r++) {
        __m512 scale = _mm512_set1_ps(p->row_scales[row + r]);
        float both[OUTPUTS], gated[16];
        for (int v = 0; v < 2; v++) {
            __m512 value = _mm512_cvtepi32_ps(_mm512_loadu_si512(sums[r] + 16 * v));
            value = _mm512_mul_ps(value, scale);
            if (kept->count) value = _mm512_add_ps(value, _mm512_loadu_ps(beside[r] + 16 * v));
            __m512 bias = p->bias ? _mm512_loadu_ps(p->bias + column + 16 * v) : _mm512_setzero_ps();
            value = _mm512_fmadd_ps(value, _mm512_loadu_ps(p->scales + column + 16 * v), bias);
            if (p->gated) {
                _mm512_storeu_ps(both + 16 * v, value);
            } else {
                int64_t to = (row + r) * place.width + place.columns[v];
                if (p->residual) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(place.masks[v], p->residual + to));
                _mm512_mask_storeu_ps(p->out + to, place.masks[v], value);
            }
        }
        if (p->gated) {
            gate_row(both, gated, 16);
            float *to = p->out + (row + r) * place.width + place.columns[0];
            _mm512_mask_storeu_ps(to, place.masks[0], _mm512_loadu_ps(gated));
        }
    }
}

/* Rows [row, row + rows) times the panel that begins at `column`, counted in the order of the panels. `rows` is a
 * constant, so that the sums are registers. `next`, `advance`: what to prefetch on the way, and how many bytes of it
 * with every four inputs. */
static inline __attribute__((always_inline)) void block(const Product *p, const int rows, int64_t row, int64_t column,
                                                        const Kept *kept, const int8_t *next, int64_t advance) {
    const uint8_t *x = p->bytes + row * p->stride;
    const int8_t *w = p->weights + column * p->stride;
    __m512i sums[ROWS][2];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < 2; v++) sums[r][v] = _mm512_loadu_si512(p->offsets + column + 16 * v);
    for (int64_t k = 0; k < p->stride; k += 4, w += OUTPUTS * 4, next += advance) {
        __m512i a = _mm512_loadu_si512(w), b = _mm512_loadu_si512(w + 64);
        _mm_prefetch((const char *)next, _MM_HINT_T1);
        _mm_prefetch((const char *)next + 64, _MM_HINT_T1); /* a single block has to fetch two lines each time */
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, x + r * p->stride + k, 4);
            __m512i inputs = _mm512_set1_epi32(four);
            sums[r][0] = _mm512_dpbusd_epi32(sums[r][0], inputs, a);
            sums[r][1] = _mm512_dpbusd_epi32(sums[r][1], inputs, b);
        }
    }
    int32_t ready[ROWS][OUTPUTS]; /* by way of memory: `finish` would take registers from the loop above */
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < 2; v++) _mm512_storeu_si512(ready[r] + 16 * v, sums[r][v]);
    finish(p, kept, ready, rows, row, column);
}

typedef void Block(const Product *, int64_t, int64_t, const Kept *, const int8_t *, int64_t);
#define BLOCK(R)                                                                                                       \
    static void block_##R(const Product *p, int64_t row, int64_t column, const Kept *kept, const int8_t *next,         \
                          int64_t advance) {                                                                           \
        block(p, R, row, column, kept, next, advance);                                                                 \
    }
BLOCK(1) BLOCK(2) BLOCK(3) BLOCK(4) BLOCK(5) BLOCK(6) BLOCK(7) BLOCK(8) BLOCK(9) BLOCK(10) BLOCK(11) BLOCK(12)
static Block *const BLOCKS[ROWS + 1] = {NULL,    block_1, block_2, block_3,  block_4,  block_5, block_6,
                                        block_7, block_8, block_9, block_10, block_11, block_12};

/* Inputs of a row beyond `limit`, as many as there are, but no more than `most` are written down. */
static int64_t beyond(const float *x, int64_t n, float limit, int64_t most, int *columns) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; i += 16) {
        __m512 some = _mm512_maskz_loadu_ps(first_of(n - i), x + i);
        unsigned found = _mm512_cmp_ps_mask(_mm512_abs_ps(some), _mm512_set1_ps(limit), _CMP_GT_OQ);
        for (; found; found &= found - 1, count++)
            if (count < most) columns[count] = (int)i + __builtin_ctz(found);
    }
    return count;
}

/* LIMIT times the mean of a row's absolute inputs, those beyond `most` left out. */
static float limit_of(const float *x, int64_t n, float most) {
    float sum = 0;
    for (int64_t i = 0; i < n; i++) sum += fabsf(x[i]) > most ? 0 : fabsf(x[i]);
    sum *= LIMIT / n; /* NaN and infinity have nothing beyond them */
    return sum < 1e-12f ? 1e-12f : sum;
}

/* A row to 8 bits, apart from what it keeps; its scale. room, which may be x: [n]. */
static float keep_row(const float *x, int64_t n, Few *few, float *room, uint8_t *bytes) {
    int64_t most = n / SPARSE < KEPT ? n / SPARSE : KEPT;
    float limit = limit_of(x, n, INFINITY), largest = largest_size(x, n);
    few->count = 0;
    if (!(largest > limit)) return quantise_row(x, bytes, n, largest);
    limit = limit_of(x, n, limit); /* the largest ones hide others in the mean */
    int64_t count = beyond(x, n, limit, most, few->columns);
    while (count > most) count = beyond(x, n, limit *= 1.25f, most, few->columns);
    few->count = (int)count;
    if (!count) return quantise_row(x, bytes, n, largest);
    if (room != x) memcpy(room, x, n * sizeof(float));
    for (int64_t i = 0; i < count; i++) few->values[i] = room[few->columns[i]], room[few->columns[i]] = 0;
    return quantise_row(room, bytes, n, largest_size(room, n));
}

/* Count each column that rows of a block keep once. places: of every input, -1. */
static void count_columns(Kept *kept, int rows, int *places) {
    kept->count = 0;
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < kept->rows[r].count; i++) {
            int *place = places + kept->rows[r].columns[i];
            if (*place < 0) *place = kept->count, kept->columns[kept->count++] = kept->rows[r].columns[i];
            kept->rows[r].at[i] = *place;
        }
    for (int c = 0; c < kept->count; c++) places[kept->columns[c]] = -1;
}

/* A thread's part of the work, units [first, last): it takes them from the front, others that have none left from the
 * back. So neighbouring panels stay with one thread, and all threads end together whenever each of them began. */
typedef struct {
    _Atomic uint64_t range; /* first in the lower half, last in the upper */
    char apart[56];         /* a cache line each */
} Share;

static void share(Share *shares, int threads, int64_t units) {
    for (int64_t t = 0; t < threads; t++)
        shares[t].range = (uint64_t)(units * t / threads) | (uint64_t)(units * (t + 1) / threads) << 32;
}

/* The next unit for thread `me`, or -1 when all are taken. */
static int64_t take(Share *shares, int threads, int me) {
    for (int i = 0; i < threads; i++) {
        Share *from = shares + (me + i) % threads;
        uint64_t range = atomic_load(&from->range);
        for (uint32_t first, last; (first = (uint32_t)range) < (last = range >> 32);)
            if (atomic_compare_exchange_weak(&from->range, &range, i ? range - (1ull << 32) : range + 1))
                return i ? last - 1 : first;
    }
    return -1;
}

int int8_linear(ARGUMENTS) {
    REQUIRE(threads > 0 && rows >= 0 && rows < 1 << 30 && inputs > 0 && inputs <= MOST_INPUTS);
    REQUIRE(outputs > 0 && outputs < 1 << 30 && (!gated || (paired && !residual && outputs % 2 == 0)));
    int64_t stride = (inputs + 3) / 4 * 4;
    int64_t panels = paired ? ((outputs + 1) / 2 + 15) / 16 : (outputs + OUTPUTS - 1) / OUTPUTS;
    int64_t padded = panels * OUTPUTS;
    REQUIRE(weights_count == padded * stride && scales_count == padded && offsets_count == padded);
    REQUIRE((!bias || bias_count == padded) && (!norm || norm_count == inputs));
    REQUIRE(x_count == rows * inputs && bytes_count >= rows * stride && row_scales_count >= rows);
    REQUIRE((!residual || residual_count == rows * outputs) && out_count == rows * (gated ? outputs / 2 : outputs));
    if (rows == 0) return 0;
    Product product = {outputs, stride, paired, gated, weights, scales, bias, offsets, bytes, row_scales, residual, out};
    /* Blocks of one height, or of two that differ by one row: no small rest that costs as much as a whole block. */
    int64_t blocks = (rows + ROWS - 1) / ROWS, advance = (OUTPUTS * 4 + blocks - 1) / blocks;
    int64_t pieces = blocks >= 8 ? 2 : 1; /* of a panel, so that no thread is left with a long unit at the end */
    /* Of each thread: two shares, a row put through the norm, and a place for every input. */
    size_t own = 2 * sizeof(Share) + stride * (sizeof(float) + sizeof(int));
    Share *early = malloc(threads * own + blocks * sizeof(Kept)), *late = early + threads;
    if (!early) return NO_MEMORY;
    Kept *kept = (Kept *)(late + threads);
    float *rooms = (float *)(kept + blocks);
    int *all_places = (int *)(rooms + threads * stride);
    share(early, threads, blocks), share(late, threads, panels * pieces);
    _Atomic int64_t waiting = blocks;
#pragma omp parallel num_threads(threads) if (rows * inputs * outputs > 64 * SMALL)
    {
        int me = THREAD;
        float *ready = rooms + me * stride;
        int *places = all_places + me * stride;
        memset(places, -1, stride * sizeof(int));
        for (int64_t b; (b = take(early, threads, me)) >= 0; atomic_fetch_sub(&waiting, 1)) {
            int64_t first = rows * b / blocks, last = rows * (b + 1) / blocks;
            for (int64_t r = first; r < last; r++) {
                const float *row = x + r * inputs;
                if (norm) norm_row(row, norm, ready, inputs, eps), row = ready;
                row_scales[r] = keep_row(row, inputs, kept[b].rows + r - first, ready, bytes + r * stride);
            }
            count_columns(kept + b, (int)(last - first), places);
        }
        /* Instead of a barrier, where all would wait for a thread that is only just waking up. */
        for (int spins = 0; atomic_load(&waiting); spins++)
            if (spins < PATIENCE) _mm_pause();
            else sched_yield();
        for (int64_t unit; (unit = take(late, threads, me)) >= 0;) {
            int64_t column = unit / pieces * OUTPUTS, piece = unit % pieces;
            const int8_t *next = weights + (column + OUTPUTS) * stride;
            for (int64_t b = piece * blocks / pieces; b < (piece + 1) * blocks / pieces; b++) {
                int64_t first = rows * b / blocks, last = rows * (b + 1) / blocks;
                BLOCKS[last - first](&product, first, column, kept + b, next + b * advance * (stride / 4), advance);
            }
        }
    }
    free(early);
    return 0;
}

#else

int64_t gemm_outputs(void) { return 0; }
int int8_linear(ARGUMENTS) { return __LINE__; }

#endif
