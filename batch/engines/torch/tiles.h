/* Blocks of rows by tiles (AMX), where the processor has them: 16 rows times 16 outputs over a whole block of inputs in
 * one instruction. The sums of a block are whole numbers, and are scaled and added up as in gemm.c's `part`: the result
 * is the same to the last bit.
 *
 * Scaling is what takes the time: beside tiles a processor has one unit for floats left of its two. So a few blocks of
 * inputs are multiplied, and while the next few are, the sums of those are scaled, a row's floats in registers from the
 * first of its blocks to the last. Tiles are stored a while after they were multiplied: a store that waits for its tile
 * holds up all behind it. A few blocks of inputs go through all blocks of rows before the next few do, so that their
 * weights stay in the first cache, and in 4 bits are unpacked once.
 */
#include "amx.h"

#if HAS_TILES
#define LEAST_TILED 8     /* rows from which on tiles are faster */
#define LEAST_UNPACKED 12 /* and in 4 bits, where weights have to be unpacked for them */
#define FEW 3             /* blocks of inputs */
#define TOGETHER 8        /* blocks of rows, whose floats stay in the first cache */

/* Sums that are not scaled yet: of a block of rows, over a few blocks of inputs. */
typedef struct {
    const int32_t (*sums)[2][TILED][16]; /* of each block of inputs, the panel's halves */
    const float (*steps)[2][OUTPUTS];    /* of each: the steps, and in 4 bits the least */
    const float *row_sums;
    int64_t all; /* blocks of inputs that a row has */
    int few, rows;
    const float *from; /* what is there already, of the first row */
    int64_t apart;     /* from there to the second one */
    float (*to)[OUTPUTS];
} Sums;

/* What is still to be prefetched: a few lines with every row that is scaled, so that it goes on all the time. */
typedef struct {
    const char *from, *to;
    int64_t lines;
} Ahead;

INLINE void prefetch(Ahead *ahead) {
    for (int64_t i = 0; i < ahead->lines && ahead->from < ahead->to; i++, ahead->from += 64)
        _mm_prefetch(ahead->from, _MM_HINT_T1);
}

/* Of rows [first, last). few: a constant. */
INLINE void scale_few(const Sums *s, const int few, const int bits, int first, int last, Ahead *ahead) {
    __m512 steps[FEW][2], least[FEW][2];
#pragma GCC unroll 4
    for (int b = 0; b < few; b++)
        for (int v = 0; v < 2; v++) {
            steps[b][v] = least[b][v] = _mm512_load_ps(s->steps[b][0] + 16 * v);
            if (bits == 4) least[b][v] = _mm512_load_ps(s->steps[b][1] + 16 * v);
        }
    for (int r = first; r < last; r++) {
        const float *from = s->from + r * s->apart;
        prefetch(ahead);
        __m512 ready[2] = {_mm512_loadu_ps(from), _mm512_loadu_ps(from + 16)};
#pragma GCC unroll 4
        for (int b = 0; b < few; b++) {
            float row = bits == 4 ? s->row_sums[r * s->all + b] : 0;
            for (int v = 0; v < 2; v++)
                ready[v] = added(ready[v], _mm512_load_si512(s->sums[b][v][r]), steps[b][v], bits, row, least[b][v]);
        }
        _mm512_store_ps(s->to[r], ready[0]), _mm512_store_ps(s->to[r] + 16, ready[1]);
    }
}

INLINE void scale(const Sums *s, const int bits, int first, int last, Ahead *ahead) {
    if (s->few == 3) scale_few(s, 3, bits, first, last, ahead);
    else if (s->few == 2) scale_few(s, 2, bits, first, last, ahead);
    else if (s->few == 1) scale_few(s, 1, bits, first, last, ahead);
}

/* Tiles 0 to 3 are sums, 4 and 5 are rows, 6 and 7 are weights. */
static void set_tiles(int bits) {
    Tiles tiles = {.palette = 1};
    int inputs = bits == 4 ? SHORT : LONG;
    for (int i = 0; i < 8; i++) {
        tiles.rows[i] = i < 6 ? TILED : inputs / 4;
        tiles.width[i] = i == 4 || i == 5 ? inputs : 64;
    }
    load_config(&tiles);
}

/* A block of rows times one of inputs, to two tiles; and those to where `scale` finds them. */
#define MULTIPLY(LEFT, RIGHT, ROWS_OF, X, W)                                                                           \
    do {                                                                                                               \
        _tile_loadd(6, W, OUTPUTS * 4);                                                                                \
        _tile_loadd(ROWS_OF, X, block);                                                                                \
        _tile_zero(LEFT);                                                                                              \
        _tile_dpbusd(LEFT, ROWS_OF, 6);                                                                                \
        _tile_loadd(7, W + 64, OUTPUTS * 4);                                                                           \
        _tile_zero(RIGHT);                                                                                             \
        _tile_dpbusd(RIGHT, ROWS_OF, 7);                                                                               \
    } while (0)
#define STORE(LEFT, RIGHT, B)                                                                                          \
    do {                                                                                                               \
        _tile_stored(LEFT, to[B][0], 64);                                                                              \
        _tile_stored(RIGHT, to[B][1], 64);                                                                             \
    } while (0)

/* A block of rows times a few of inputs, and meanwhile the sums before them scaled. */
INLINE void multiply_few(const uint8_t *x, const uint8_t *w, const int bits, int few, int32_t (*to)[2][TILED][16],
                         const Sums *before, Ahead *ahead) {
    const int64_t block = bits == 4 ? SHORT : LONG, rows = TILED * block, weights = OUTPUTS * block;
    MULTIPLY(0, 1, 4, x, w);
    if (few > 1) MULTIPLY(2, 3, 5, x + rows, w + weights);
    scale(before, bits, 0, before->rows / 2, ahead);
    STORE(0, 1, 0);
    if (few > 1) STORE(2, 3, 1);
    if (few > 2) MULTIPLY(0, 1, 4, x + 2 * rows, w + 2 * weights);
    scale(before, bits, before->rows / 2, before->rows, ahead);
    if (few > 2) STORE(0, 1, 2);
}

/* What a few blocks of inputs have in common for all rows: steps as floats, and weights in bytes. */
typedef struct {
    _Alignas(64) float steps[FEW][2][OUTPUTS];
    _Alignas(64) uint8_t bytes[FEW * SHORT * OUTPUTS];
} Wide;

INLINE const uint8_t *widen_few(const Product *p, const int bits, int64_t column, int64_t b, int few, Wide *wide) {
    const int each = bits == 4 ? 2 : 1;
    const uint16_t *step = steps_at(p, column) + b * each * OUTPUTS;
    const uint8_t *w = weights_at(p, column) + b * OUTPUTS * (bits == 4 ? SHORT / 2 : LONG);
    const __m512i low = _mm512_set1_epi8(15);
    for (int i = 0; i < few * each * 2; i++)
        _mm512_store_ps(wide->steps[i / 2 / each][i / 2 % each] + 16 * (i % 2), half16(step + 16 * i));
    if (bits == 8) return w;
    for (int i = 0; i < few * SHORT / 8; i++, w += OUTPUTS * 4) { /* of eight inputs the first four, then the others */
        uint8_t *to = wide->bytes + 2 * i * OUTPUTS * 4;
        for (int v = 0; v < 2; v++) {
            __m512i both = _mm512_loadu_si512(w + 64 * v);
            _mm512_store_si512(to + 64 * v, _mm512_and_si512(both, low));
            _mm512_store_si512(to + 64 * v + OUTPUTS * 4, _mm512_and_si512(_mm512_srli_epi16(both, 4), low));
        }
    }
    return wide->bytes;
}

/* Blocks of rows [first, last), TOGETHER at most, times the panel that begins at `column`. `next`: from where on to
 * prefetch, each block of rows its part. */
INLINE void tiled(const Product *p, const int bits, int64_t column, int64_t first, int64_t last, const char *next) {
    const int64_t block = bits == 4 ? SHORT : LONG, advance = p->advance * block / 4 * bits / 8;
    _Alignas(64) int32_t sums[2][FEW][2][TILED][16]; /* some are multiplied while the others are scaled */
    _Alignas(64) float ready[TOGETHER * TILED][OUTPUTS];
    Wide wide[2];
    Sums before = {0};
    int64_t parts = (p->blocks + FEW - 1) / FEW, of = 0;
    for (int64_t part = 0; part < parts; part++) {
        int64_t start = p->blocks * part / parts, few = p->blocks * (part + 1) / parts - start;
        WRITTEN();
        const uint8_t *w = widen_few(p, bits, column, start, (int)few, wide + part % 2);
        WRITTEN();
        for (int64_t b = first; b < last; b++, of ^= 1) {
            int64_t row = start_of(p, b);
            const char *from = next + (b * p->blocks + start) * advance;
            Ahead ahead = {from, from + few * advance, (few * advance + 64 * TILED - 1) / (64 * TILED)};
            const uint8_t *x = p->bytes + row * p->stride + start * block * TILED;
            multiply_few(x, w, bits, (int)few, sums[of], &before, &ahead);
            for (ahead.lines = 1; ahead.from < ahead.to;) prefetch(&ahead);
            if (part + 1 == parts && b > first)
                finish(p, p->kept + b - 1, before.to, before.rows, start_of(p, b - 1), column);
            float(*to)[OUTPUTS] = ready + (b - first) * TILED;
            before = (Sums){.sums = (const void *)sums[of], .steps = (const void *)wide[part % 2].steps, .to = to};
            before.few = (int)few, before.rows = (int)(start_of(p, b + 1) - row), before.all = p->blocks;
            before.row_sums = bits == 4 ? p->sums + row * p->blocks + start : NULL;
            before.from = part ? *to : p->offsets + column, before.apart = part ? OUTPUTS : 0;
        }
    }
    scale(&before, bits, 0, before.rows, &(Ahead){0});
    finish(p, p->kept + last - 1, before.to, before.rows, start_of(p, last - 1), column);
}
#else
#define LEAST_TILED 1
#define LEAST_UNPACKED 1
#define TOGETHER 1
static void set_tiles(int bits) { (void)bits; }
static void tiled(const Product *p, int bits, int64_t column, int64_t first, int64_t last, const char *next) {
    (void)p, (void)bits, (void)column, (void)first, (void)last, (void)next;
}
#define _tile_release() (void)0
#endif
