/* The product of an int8 linear layer: float rows in, float rows out, everything between in one parallel region.
 *
 * Rows are put into 8 bits around 128 (kernels.h), multiplied with signed weights by vpdpbusd, four inputs at a time into
 * 32-bit sums, and scaled on the way to memory. The sums are exact, so they are the same for every blocking below.
 *
 * Weights lie in panels of OUTPUTS outputs: [panels, inputs / 4, OUTPUTS, 4]. A panel is read front to back once for
 * every block of rows; it stays in the level-1 or level-2 cache for the next block, while the blocks prefetch the panel
 * after it, each a part. A block of ROWS rows holds ROWS × 2 sums in registers and needs ROWS + 2 loads for ROWS × 2
 * products, of which an AVX-512 core begins as many as loads, two a cycle.
 */
#include "kernels.h"

#define OUTPUTS 32
#define ROWS 12
#define FEW 8          /* rows that a thread quantises at a time */
#define PATIENCE 10000 /* pauses, before a thread that waits for another gives its processor to it */

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#include <immintrin.h>
#include <omp.h>
#include <sched.h>
#include <stdatomic.h>

typedef struct {
    int64_t outputs, stride; /* stride: of rows in bytes, inputs up to a multiple of 4 */
    const int8_t *weights;
    const float *scales, *bias; /* of each output; bias may be NULL */
    const int32_t *offsets;     /* -128 · the sum of an output's weights: what rows around 128 have too much */
} Layer;

/* Outputs of a panel, by which weights are packed; 0 where the processor lacks the product. */
int64_t gemm_outputs(void) { return OUTPUTS; }

static inline void store(float *to, __m512i sums, __m512 scale, float row_scale, const float *bias, __mmask16 mask) {
    __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scale), by = _mm512_set1_ps(row_scale);
    value = bias ? _mm512_fmadd_ps(value, by, _mm512_loadu_ps(bias)) : _mm512_mul_ps(value, by);
    _mm512_mask_storeu_ps(to, mask, value);
}

/* `rows` rows times one panel, whose first output is `column`. Constant rows, so that the sums are registers.
 * `next`, `advance`: bytes to prefetch on the way, and how many of them with every four inputs. */
static inline __attribute__((always_inline)) void block(const Layer *l, const int rows, const uint8_t *x,
                                                        const float *row_scales, int64_t column, float *out,
                                                        const int8_t *next, int64_t advance) {
    const int8_t *w = l->weights + column * l->stride;
    __m512i sums[ROWS][2];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < 2; v++) sums[r][v] = _mm512_loadu_si512(l->offsets + column + 16 * v);
    for (int64_t k = 0; k < l->stride; k += 4, w += OUTPUTS * 4, next += advance) {
        __m512i a = _mm512_load_si512(w), b = _mm512_load_si512(w + 64);
        _mm_prefetch((const char *)next, _MM_HINT_T1);
        _mm_prefetch((const char *)next + 64, _MM_HINT_T1);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, x + r * l->stride + k, 4);
            __m512i row = _mm512_set1_epi32(four);
            sums[r][0] = _mm512_dpbusd_epi32(sums[r][0], row, a);
            sums[r][1] = _mm512_dpbusd_epi32(sums[r][1], row, b);
        }
    }
#pragma GCC unroll 2
    for (int v = 0; v < 2; v++) {
        int64_t first = column + 16 * v, left = l->outputs - first;
        if (left <= 0) break;
        __mmask16 mask = left >= 16 ? 0xffff : (1 << left) - 1;
        __m512 scale = _mm512_loadu_ps(l->scales + first);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++)
            store(out + r * l->outputs + first, sums[r][v], scale, row_scales[r], l->bias ? l->bias + first : NULL, mask);
    }
}

#define BLOCK(R)                                                                                                       \
    static void block_##R(const Layer *l, const uint8_t *x, const float *row_scales, int64_t column, float *out,       \
                          const int8_t *next, int64_t advance) {                                                       \
        block(l, R, x, row_scales, column, out, next, advance);                                                        \
    }
BLOCK(1) BLOCK(2) BLOCK(3) BLOCK(4) BLOCK(5) BLOCK(6) BLOCK(7) BLOCK(8) BLOCK(9) BLOCK(10) BLOCK(11) BLOCK(12)

typedef void Block(const Layer *, const uint8_t *, const float *, int64_t, float *, const int8_t *, int64_t);
static Block *const BLOCKS[ROWS + 1] = {NULL,    block_1, block_2, block_3, block_4,  block_5, block_6,
                                        block_7, block_8, block_9, block_10, block_11, block_12};

/* Units of work [first, last) that a thread takes from the front; when it has none left, from the back of another's. */
typedef struct {
    _Atomic uint64_t range; /* first in the lower half, last in the upper */
    char apart[56];         /* a cache line each */
} Share;

static int64_t take(Share *share, int own) {
    uint64_t range = atomic_load_explicit(&share->range, memory_order_relaxed), left;
    uint32_t first, last;
    do {
        first = (uint32_t)range, last = range >> 32;
        if (first >= last) return -1;
        left = own ? range + 1 : range - (1ull << 32);
    } while (!atomic_compare_exchange_weak_explicit(&share->range, &range, left, memory_order_relaxed,
                                                    memory_order_relaxed));
    return own ? first : last - 1;
}

/* The next unit for a thread, or -1 when all are taken. */
static int64_t next(Share *shares, int threads, int me) {
    int64_t unit = take(shares + me, 1);
    for (int other = 1; unit < 0 && other < threads; other++) unit = take(shares + (me + other) % threads, 0);
    return unit;
}

static void share(Share *shares, int threads, int64_t units) {
    for (int64_t t = 0; t < threads; t++)
        shares[t].range = (uint64_t)(units * t / threads) | (uint64_t)(units * (t + 1) / threads) << 32;
}

/* out[rows, outputs] = x[rows, inputs] · weights · scales + bias; bytes: [rows, inputs up to a multiple of 4] and
 * row_scales: [rows], to work in. Weights, scales, offsets and bias come in whole panels, padded with zeros. */
void int8_linear(const int8_t *weights, const float *scales, const int32_t *offsets, const float *bias, int64_t inputs,
                 int64_t outputs, const float *x, int64_t rows, uint8_t *bytes, float *row_scales, float *out,
                 int threads) {
    Layer layer = {outputs, (inputs + 3) / 4 * 4, weights, scales, bias, offsets}, *l = &layer;
    /* Blocks of one height, or two heights that differ by one: no small rest that costs as much as a whole one. */
    int64_t panels = (outputs + OUTPUTS - 1) / OUTPUTS, blocks = (rows + ROWS - 1) / ROWS;
    int64_t pieces = blocks >= 8 ? 2 : 1, units = panels * pieces; /* of a panel, for threads to end together */
    int64_t advance = (OUTPUTS * 4 + blocks - 1) / blocks;
    int64_t fews = (rows + FEW - 1) / FEW;
    Share first_steps[threads], second_steps[threads];
    share(first_steps, threads, fews), share(second_steps, threads, units);
    _Atomic int64_t waiting = fews;
#pragma omp parallel num_threads(threads) if (rows * inputs * outputs > 64 * SMALL)
    {
        int me = omp_get_thread_num();
        /* No barrier between the two: a thread that is still waking up would keep the others from all their work. */
        for (int64_t few; (few = next(first_steps, threads, me)) >= 0;) {
            int64_t last = (few + 1) * FEW < rows ? (few + 1) * FEW : rows;
            for (int64_t r = few * FEW; r < last; r++)
                row_scales[r] = quantise_row(x + r * inputs, bytes + r * l->stride, inputs);
            atomic_fetch_sub(&waiting, 1);
        }
        for (int spins = 0; atomic_load(&waiting); spins++)
            if (spins < PATIENCE) _mm_pause();
            else sched_yield();
        for (int64_t unit; (unit = next(second_steps, threads, me)) >= 0;) {
                int64_t column = unit / pieces * OUTPUTS, piece = unit % pieces;
                const int8_t *ahead = l->weights + (column + OUTPUTS) * l->stride;
                for (int64_t b = piece * blocks / pieces; b < (piece + 1) * blocks / pieces; b++) {
                    int64_t first = rows * b / blocks, last = rows * (b + 1) / blocks;
                    BLOCKS[last - first](l, bytes + first * l->stride, row_scales + first, column,
                                         out + first * l->outputs, ahead + b * advance * (l->stride / 4), advance);
                }
        }
    }
}

#else

int64_t gemm_outputs(void) { return 0; }
void int8_linear(const int8_t *weights, const float *scales, const int32_t *offsets, const float *bias, int64_t inputs,
                 int64_t outputs, const float *x, int64_t rows, uint8_t *bytes, float *row_scales, float *out,
                 int threads) {}

#endif
