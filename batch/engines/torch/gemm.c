/* Blocks of rows times panels of weights of 8 or 4 bits: float rows in, float rows out.
 *
 * Rows are put into 8 bits around 128 (kernels.h) and multiplied with weights by vpdpbusd, four inputs at a time, into
 * 32-bit sums. After every block of inputs the sums are scaled by the block's steps (halves of a float) and added up as
 * floats, always in the same order: the result is the same for every blocking of rows below. A weight of 8 bits is q ·
 * step by blocks of 64 inputs. One of 4 bits is q · step + least by blocks of 32, as in GGUF's Q4_1; the least ones are
 * multiplied with the sum of a row's block.
 *
 * A few inputs of a row may be many times larger than the others; a scale that has room for them leaves the others a
 * handful of steps. So inputs beyond LIMIT times the row's mean stay floats, and are zero among the bytes (as
 * LLM.int8() does with whole columns; Dettmers 2022). Which ones, a row decides by itself. A block of rows multiplies
 * them together, as rows often have theirs in the same places: a column of weights is widened once for the block.
 *
 * Panels are [panels, inputs / 4, OUTPUTS, 4]. Of 4 bits, every second four inputs lie in the upper halves of the bytes
 * of those before them. Six rows at a time keep 12 sums of a block of inputs in registers and as many floats: with
 * floats in memory a quarter of the time went to them.
 */
#include "product.h"

#define OUTPUTS 32
#define MOST_ROWS 12 /* of a block; half of them at a time, whose sums fit the registers */
#define LONG 64 /* inputs of a block in 8 bits */
#define SHORT 32

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#include "rows.h"

int64_t gemm_outputs(void) { return OUTPUTS; }
int64_t kept_bytes(void) { return sizeof(Kept); }

static inline __m512 half16(const uint16_t *from) { return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)from)); }

/* Where the weights, and the steps, of the panel that begins at `column` lie. */
static inline const uint8_t *weights_at(const Product *p, int64_t column) {
    return p->weights + column * p->stride * p->bits / 8;
}
static inline const uint16_t *steps_at(const Product *p, int64_t column) {
    return p->steps + column * p->blocks * (p->bits == 4 ? 2 : 1);
}

/* One input's weights of a panel, as floats. */
static inline void widen(const Product *p, int64_t column, int input, float *out) {
    int short_ = p->bits == 4, part = input % 4 * 8;
    const uint8_t *four = weights_at(p, column) + (short_ ? input / 8 : input / 4) * 4 * OUTPUTS;
    const uint16_t *step = steps_at(p, column) + (short_ ? input / SHORT * 2 : input / LONG) * OUTPUTS;
    __m128i up = _mm_cvtsi32_si128(24 - part), down = _mm_cvtsi32_si128(part + (input / 4 % 2 ? 4 : 0));
    for (int v = 0; v < 2; v++) {
        __m512i all = _mm512_loadu_si512(four + 64 * v);
        __m512 value, least = _mm512_setzero_ps();
        if (short_) {
            value = _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srl_epi32(all, down), _mm512_set1_epi32(15)));
            least = half16(step + OUTPUTS + 16 * v);
        } else {
            value = _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_sll_epi32(all, up), 24));
        }
        _mm512_storeu_ps(out + 16 * v, _mm512_fmadd_ps(value, half16(step + 16 * v), least));
    }
}

/* What a row keeps · its columns of a panel, those of its block. */
static inline void multiply_kept(const Few *few, float (*wide)[OUTPUTS], __m512 *sums) {
    sums[0] = sums[1] = _mm512_setzero_ps();
    for (int i = 0; i < few->count; i++) {
        __m512 value = _mm512_set1_ps(few->values[i]);
        sums[0] = _mm512_fmadd_ps(value, _mm512_loadu_ps(wide[few->at[i]]), sums[0]);
        sums[1] = _mm512_fmadd_ps(value, _mm512_loadu_ps(wide[few->at[i]] + 16), sums[1]);
    }
}

/* silu(x): x / (1 + e^-x), the power to 3e-7 of it as in run.h. */
static inline __m512 silu(__m512 x) {
    const float p[] = {1.3276472e-3f, 9.675541e-3f, 5.550713e-2f, 2.4022120e-1f, 6.9314694e-1f, 1.0f};
    __m512 t = _mm512_mul_ps(x, _mm512_set1_ps(-1.44269504088896341f));
    t = _mm512_max_ps(_mm512_set1_ps(-126), _mm512_min_ps(_mm512_set1_ps(127), t)); /* NaN stays */
    __m512 n = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_sub_ps(t, n), power = _mm512_set1_ps(p[0]);
    for (int i = 1; i < 6; i++) power = _mm512_fmadd_ps(power, r, _mm512_set1_ps(p[i]));
    return _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1), _mm512_scalef_ps(power, n)));
}

/* Sums of rows [row, row + rows) and one panel to floats, and to their places. gated, some: constants, the latter
 * whether rows keep any. */
INLINE void finish_rows(const Product *p, const Kept *kept, const int gated, const int some, float (*sums)[OUTPUTS],
                        int rows, int64_t row, int64_t column) {
    const Place place = place_of(p, column);
    const __mmask16 masks[2] = {first_of(place.counts[0]), first_of(place.counts[1])};
    __m512 scales[2], bias[2];
    for (int v = 0; v < 2; v++) {
        scales[v] = _mm512_loadu_ps(p->scales + column + 16 * v);
        bias[v] = p->bias ? _mm512_loadu_ps(p->bias + column + 16 * v) : _mm512_setzero_ps();
    }
    float wide[ROWS * KEPT][OUTPUTS];
    for (int c = 0; some && c < kept->count; c++) widen(p, column, kept->columns[c], wide[c]);
    for (int r = 0; r < rows; r++) {
        const __m512 scale = _mm512_set1_ps(p->row_scales[row + r]);
        __m512 values[2], beside[2] = {scale, scale}; /* what the row keeps */
        if (some) multiply_kept(kept->rows + r, wide, beside);
        for (int v = 0; v < 2; v++) {
            __m512 sum = _mm512_loadu_ps(sums[r] + 16 * v);
            values[v] = some ? _mm512_fmadd_ps(sum, scale, beside[v]) : _mm512_mul_ps(sum, scale);
            values[v] = _mm512_fmadd_ps(values[v], scales[v], bias[v]);
        }
        if (gated) values[0] = _mm512_mul_ps(silu(values[0]), values[1]);
        for (int v = 0; v < (gated ? 1 : 2); v++) {
            int64_t to = (row + r) * place.width + place.columns[v];
            if (p->residual) values[v] = _mm512_add_ps(values[v], _mm512_maskz_loadu_ps(masks[v], p->residual + to));
            _mm512_mask_storeu_ps(p->out + to, masks[v], values[v]);
        }
    }
}

static __attribute__((noinline)) void finish(const Product *p, const Kept *kept, float (*sums)[OUTPUTS], int rows,
                                             int64_t row, int64_t column) {
    if (p->gated && kept->count) finish_rows(p, kept, 1, 1, sums, rows, row, column);
    else if (p->gated) finish_rows(p, kept, 1, 0, sums, rows, row, column);
    else if (kept->count) finish_rows(p, kept, 0, 1, sums, rows, row, column);
    else finish_rows(p, kept, 0, 0, sums, rows, row, column);
}

/* sums += four inputs of each row, from x on, · two vectors of weights. */
INLINE void multiply(__m512i (*sums)[2], const int rows, const uint8_t *x, int64_t stride, __m512i a, __m512i b) {
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        int32_t four;
        memcpy(&four, x + r * stride, 4);
        __m512i inputs = _mm512_set1_epi32(four);
        sums[r][0] = _mm512_dpbusd_epi32(sums[r][0], inputs, a);
        sums[r][1] = _mm512_dpbusd_epi32(sums[r][1], inputs, b);
    }
}

/* to + sum · step, and in 4 bits the row's sum of the block · least. */
INLINE __m512 added(__m512 to, __m512i sum, __m512 step, const int bits, float row, __m512 least) {
    __m512 value = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), step, to);
    return bits == 4 ? _mm512_fmadd_ps(_mm512_set1_ps(row), least, value) : value;
}

/* Sums of so many rows, which is a constant, from row `row` on, and the panel that begins at `column`, as floats: they
 * and those of a block of inputs are all registers. `next`, `advance`: what to prefetch on the way, and how many bytes
 * of it with every two vectors of weights. */
INLINE void part(const Product *p, const int rows, const int bits, int64_t row, int64_t column, const uint8_t *next,
                 int64_t advance, float (*out)[OUTPUTS]) {
    const uint8_t *x = p->bytes + row * p->stride, *w = weights_at(p, column);
    const uint16_t *step = steps_at(p, column);
    const __m512i low = _mm512_set1_epi8(15);
    const float *row_sums = p->sums + row * p->blocks;
    __m512 ready[MOST_ROWS / 2][2];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
        ready[r][0] = _mm512_loadu_ps(p->offsets + column), ready[r][1] = _mm512_loadu_ps(p->offsets + column + 16);
    for (int64_t start = 0, b = 0; b < p->blocks; b++) {
        int64_t end = start + (bits == 4 ? SHORT : LONG) < p->stride ? start + (bits == 4 ? SHORT : LONG) : p->stride;
        __m512i sums[MOST_ROWS / 2][2];
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) sums[r][0] = sums[r][1] = _mm512_setzero_si512();
        for (; start < end; w += OUTPUTS * 4, next += advance) {
            __m512i first = _mm512_loadu_si512(w), second = _mm512_loadu_si512(w + 64);
            _mm_prefetch((const char *)next, _MM_HINT_T1);
            _mm_prefetch((const char *)next + 64, _MM_HINT_T1); /* a single block has to fetch two lines each time */
            if (bits == 4) {
                multiply(sums, rows, x + start, p->stride, _mm512_and_si512(first, low), _mm512_and_si512(second, low));
                first = _mm512_and_si512(_mm512_srli_epi16(first, 4), low), start += 4;
                second = _mm512_and_si512(_mm512_srli_epi16(second, 4), low);
            }
            multiply(sums, rows, x + start, p->stride, first, second), start += 4;
        }
        __m512 steps[2] = {half16(step), half16(step + 16)}, least[2] = {steps[0], steps[1]};
        step += OUTPUTS;
        if (bits == 4) least[0] = half16(step), least[1] = half16(step + 16), step += OUTPUTS;
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            float sum = bits == 4 ? row_sums[r * p->blocks + b] : 0;
            ready[r][0] = added(ready[r][0], sums[r][0], steps[0], bits, sum, least[0]);
            ready[r][1] = added(ready[r][1], sums[r][1], steps[1], bits, sum, least[1]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) _mm512_storeu_ps(out[r], ready[r][0]), _mm512_storeu_ps(out[r] + 16, ready[r][1]);
}

/* Rows [row, row + rows) times a panel, in two parts where there are too many for the registers. */
INLINE void block(const Product *p, const int rows, const int bits, int64_t row, int64_t column, const Kept *kept,
                  const uint8_t *next, int64_t advance) {
    const int above = rows > MOST_ROWS / 2 ? (rows + 1) / 2 : rows;
    float ready[MOST_ROWS][OUTPUTS];
    if (above < rows) advance /= 2;
    part(p, above, bits, row, column, next, advance, ready);
    next += advance * (p->stride / 4 * bits / 8);
    if (above < rows) part(p, rows - above, bits, row + above, column, next, advance, ready + above);
    finish(p, kept, ready, rows, row, column);
}

typedef void Block(const Product *, int64_t, int64_t, const Kept *, const uint8_t *, int64_t);
#define BLOCK(R, BITS)                                                                                                 \
    static void block_##R##_##BITS(const Product *p, int64_t row, int64_t column, const Kept *kept,                    \
                                   const uint8_t *next, int64_t advance) {                                             \
        block(p, R, BITS, row, column, kept, next, advance);                                                           \
    }
#define ALL(OF, BITS)                                                                                                  \
    OF(1, BITS) OF(2, BITS) OF(3, BITS) OF(4, BITS) OF(5, BITS) OF(6, BITS)                                            \
    OF(7, BITS) OF(8, BITS) OF(9, BITS) OF(10, BITS) OF(11, BITS) OF(12, BITS)
#define NAMED(R, BITS) block_##R##_##BITS,
ALL(BLOCK, 8) ALL(BLOCK, 4)
static Block *const BLOCKS[2][MOST_ROWS + 1] = {{NULL, ALL(NAMED, 8)}, {NULL, ALL(NAMED, 4)}};

#include "tiles.h"

int gemm_tiles(int64_t rows, int64_t stride, int64_t bits) {
    if (rows < (bits == 4 ? LEAST_UNPACKED : LEAST_TILED) || !tiles_allowed()) return 0;
    return stride % (bits == 4 ? SHORT : LONG) == 0;
}
void leave_tiles(void) { _tile_release(); }

/* A block of rows to 8 bits. room: of a row; places: of every input. */
void round_packed(const Product *p, int64_t b, float *room, int *places) {
    int64_t first = start_of(p, b), last = start_of(p, b + 1), block = p->bits == 4 ? SHORT : LONG;
    uint8_t *bytes = p->bytes + first * p->stride;
    for (int64_t r = first; r < last; r++) {
        const float *row = p->x + r * p->inputs;
        Row to = {bytes + (r - first) * p->stride, p->stride, 0};
        if (p->by_tiles) to = (Row){bytes + (r - first) * block, block, TILED * block};
        if (p->norm) norm_row(row, p->norm, room, p->inputs, p->eps), row = room;
        p->row_scales[r] = keep_row(row, p->inputs, p->kept[b].rows + r - first, &to);
        if (p->bits == 4) sum_blocks(&to, p->blocks, p->sums + r * p->blocks);
    }
    count_columns(p->kept + b, (int)(last - first), p->inputs, places);
}

void multiply_packed(const Product *p, int64_t column, int64_t from, int64_t to, int *set) {
    int64_t steps = p->stride / 4 * p->bits / 8; /* in which a panel is read */
    const uint8_t *next = weights_at(p, column + OUTPUTS);
    if (!p->by_tiles) {
        for (int64_t b = from; b < to; b++) {
            int64_t first = start_of(p, b), height = start_of(p, b + 1) - first;
            BLOCKS[p->bits == 4][height](p, first, column, p->kept + b, next + b * p->advance * steps, p->advance);
        }
        return;
    }
    if (!*set) set_tiles(p->bits), *set = 1;
    for (int64_t b = from, last; b < to; b = last) {
        last = b + TOGETHER < to ? b + TOGETHER : to;
        if (p->bits == 4) tiled(p, 4, column, b, last, (const char *)next);
        else tiled(p, 8, column, b, last, (const char *)next);
    }
}

#else

int64_t gemm_outputs(void) { return 0; }
int64_t kept_bytes(void) { return 0; }
int gemm_tiles(int64_t rows, int64_t stride, int64_t bits) { return 0; }
void round_packed(const Product *p, int64_t block, float *room, int *places) {}
void multiply_packed(const Product *p, int64_t column, int64_t first, int64_t last, int *set) {}
void leave_tiles(void) {}

#endif
