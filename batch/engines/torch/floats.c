/* Blocks of rows times panels of weights that are floats, or of bfloat16 where the processor multiplies pairs of those
 * (AVX512-BF16): float rows in, float rows out.
 *
 * A step takes four bytes of each row, one float or two of bfloat16, and as many for each output of the panel, [panels,
 * inputs, outputs] or [panels, inputs / 2, outputs, 2]. A sum goes through the inputs of a block one after the other,
 * and blocks are added up in their order: it is the same whatever rows stand beside its own. So this file is compiled
 * without -fassociative-math (recipe.py).
 */
#include "product.h"

#if defined(__AVX512F__)
#define WIDTH 16  /* floats of a vector */
#define VECTORS 2 /* of a panel */
#define HEIGHT 12 /* rows of a block: with the panel's vectors they fill the registers */
#elif defined(__AVX__)
#define WIDTH 8
#define VECTORS 2
#define HEIGHT 6
#else
#define WIDTH 4
#define VECTORS 4
#define HEIGHT 6
#endif
#define OUTPUTS (WIDTH * VECTORS)
#define LONG 256   /* steps of a block of inputs */
#define AHEAD 4096 /* bytes to prefetch ahead where a panel is read once */

typedef float Vector __attribute__((vector_size(4 * WIDTH), aligned(4)));

#ifdef __AVX512BF16__
#include <immintrin.h>
#define MULTIPLY_PAIRS(sum, four, weights)                                                                             \
    (Vector) _mm512_dpbf16_ps((__m512)(sum), (__m512bh)_mm512_set1_epi32(four), (__m512bh)(weights))
#else
#define MULTIPLY_PAIRS(sum, four, weights) (sum)
#endif

int64_t float_outputs(void) { return OUTPUTS; }
int float_bits(int64_t bits) {
#ifdef __AVX512BF16__
    if (bits == 16) return 1;
#endif
    return bits == 32;
}

/* Sums of rows [row, row + rows) and one panel to their places. */
static void finish(const Product *p, float (*sums)[OUTPUTS], int rows, int64_t row, int64_t column) {
    Place place = place_of(p, column);
    const int few = OUTPUTS / 2;
    for (int r = 0; r < rows; r++) {
        float *to = p->out + (row + r) * place.width, gated[OUTPUTS / 2];
        if (p->bias)
            for (int i = 0; i < OUTPUTS; i++) sums[r][i] += p->bias[column + i];
        if (p->gated) {
            gate_row(sums[r], gated, few);
            memcpy(to + place.columns[0], gated, place.counts[0] * sizeof(float));
            continue;
        }
        for (int v = 0; v < 2; v++) {
            float *part = to + place.columns[v], *from = sums[r] + few * v;
            if (p->residual) {
                const float *other = p->residual + (part - p->out);
                for (int64_t i = 0; i < place.counts[v]; i++) from[i] += other[i];
            }
            memcpy(part, from, place.counts[v] * sizeof(float));
        }
    }
}

/* Rows [row, row + rows) times the panel that begins at `column`. `rows` and `pairs` are constants. `next`, `advance`:
 * what to prefetch on the way, and how many bytes of it with every step. */
INLINE void block(const Product *p, const int rows, const int pairs, int64_t row, int64_t column, const char *next,
                  int64_t advance) {
    const int64_t stride = p->stride, steps = p->blocks;
    const char *x = (p->bytes ? (const char *)p->bytes : (const char *)p->x) + row * stride;
    const float *w = (const float *)p->weights + column * steps;
    float ready[HEIGHT][OUTPUTS]; /* in memory: the registers are for the sums of a block of inputs */
    memset(ready, 0, sizeof(ready));
    for (int64_t start = 0; start < steps;) {
        int64_t end = start + LONG < steps ? start + LONG : steps;
        Vector sums[HEIGHT][VECTORS];
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) sums[r][v] = (Vector){0};
        for (; start < end; start++, w += OUTPUTS, next += advance) {
            Vector weights[VECTORS];
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) weights[v] = *(const Vector *)(w + WIDTH * v);
            __builtin_prefetch(next, 0, 2);
            if (advance > 64) __builtin_prefetch(next + 64, 0, 2);
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++) {
                float one;
                int four;
                memcpy(&one, x + r * stride + 4 * start, 4), memcpy(&four, &one, 4);
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; v++)
                    sums[r][v] = pairs ? MULTIPLY_PAIRS(sums[r][v], four, weights[v]) : sums[r][v] + one * weights[v];
            }
        }
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) *(Vector *)(ready[r] + WIDTH * v) += sums[r][v];
    }
    finish(p, ready, rows, row, column);
}

typedef void Block(const Product *, int64_t, int64_t, const char *, int64_t);
#define BLOCK(R, PAIRS)                                                                                                \
    static void block_##R##_##PAIRS(const Product *p, int64_t row, int64_t column, const char *next,                   \
                                    int64_t advance) {                                                                 \
        block(p, R, PAIRS, row, column, next, advance);                                                                \
    }
#define NAMED(R, PAIRS) block_##R##_##PAIRS,
#define SIX(OF, PAIRS) OF(1, PAIRS) OF(2, PAIRS) OF(3, PAIRS) OF(4, PAIRS) OF(5, PAIRS) OF(6, PAIRS)
#if HEIGHT == 12
#define ALL(OF, PAIRS) SIX(OF, PAIRS) OF(7, PAIRS) OF(8, PAIRS) OF(9, PAIRS) OF(10, PAIRS) OF(11, PAIRS) OF(12, PAIRS)
#else
#define ALL SIX
#endif
ALL(BLOCK, 0) ALL(BLOCK, 1)
static Block *const BLOCKS[2][HEIGHT + 1] = {{NULL, ALL(NAMED, 0)}, {NULL, ALL(NAMED, 1)}};

#include "float_tiles.h"

int float_tiles(int64_t bits) { return bits == 16 && tiles_allowed(); }
int64_t float_rows(int by_tiles) { return by_tiles ? 2 * GROUP : HEIGHT; }

#ifdef __AVX512BF16__
/* As many of 16 as there are. */
static inline __mmask16 first_of(int64_t left) { return left >= 16 ? 0xffff : left <= 0 ? 0 : (1 << left) - 1; }

void round_floats(const Product *p, int64_t r, const float *row) {
    int64_t apart = 64;
    uint8_t *to = p->by_tiles ? row_in_group(p, r, &apart) : p->bytes + r * p->stride;
    for (int64_t left = p->inputs; left > 0; left -= 32, row += 32, to += apart) {
        __m512 low = _mm512_maskz_loadu_ps(first_of(left), row);
        __m512 high = _mm512_maskz_loadu_ps(first_of(left - 16), row + 16);
        __mmask16 some = first_of(p->by_tiles ? 16 : (left + 1) / 2);
        _mm512_mask_storeu_epi32(to, some, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
}
#else
void round_floats(const Product *p, int64_t r, const float *row) { (void)p, (void)r, (void)row; }
#endif

void multiply_floats(const Product *p, int64_t column, int64_t first, int64_t last, int *set) {
    if (p->by_tiles) {
        multiply_tiles(p, column, first, last, set);
        return;
    }
    int64_t panel = 4 * OUTPUTS * p->blocks, own = column / OUTPUTS * panel; /* bytes */
    const char *weights = (const char *)p->weights, *next = weights + own + panel;
    if (p->row_blocks == 1) next = weights + own + AHEAD;
    for (int64_t b = first; b < last; b++) {
        int64_t row = start_of(p, b);
        int height = (int)(start_of(p, b + 1) - row);
        BLOCKS[p->bits == 16][height](p, row, column, next + b * p->advance * p->blocks, p->advance);
    }
}
