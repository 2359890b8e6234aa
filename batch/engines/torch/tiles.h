/* A block of rows by tiles (AMX), where the processor has them: 16 rows times 16 outputs over a whole block of inputs
 * in one instruction. The sums of a block are whole numbers, and are scaled and added up as in gemm.c's `block`: the
 * result is the same to the last bit. In 4 bits, where scaling takes twice the time and weights would have to be
 * unpacked first, tiles are no faster. */
#include "amx.h"

#if HAS_TILES
#define LEAST_TILED 12 /* rows from which on tiles are faster */

/* Tiles 0 and 1 are sums, 2 is rows, 3 and 4 are weights. */
static void set_tiles(int rows) {
    Tiles tiles = {.palette = 1};
    tiles.rows[0] = tiles.rows[1] = tiles.rows[2] = (uint8_t)rows;
    tiles.rows[3] = tiles.rows[4] = LONG / 4;
    tiles.width[0] = tiles.width[1] = tiles.width[3] = tiles.width[4] = 64;
    tiles.width[2] = LONG;
    _tile_loadconfig(&tiles);
}

/* As `block` in 8 bits, for as many rows as `set_tiles` was told. */
static void tiled(const Product *p, int rows, int64_t row, int64_t column, const Kept *kept, const uint8_t *next,
                  int64_t advance) {
    const uint8_t *x = p->bytes + row * p->stride, *w = weights_at(p, column);
    const uint16_t *step = steps_at(p, column);
    _Alignas(64) float ready[ROWS][OUTPUTS];
    _Alignas(64) int32_t sums[2][ROWS][OUTPUTS]; /* of two blocks: one is multiplied while the other is added up */
    for (int r = 0; r < rows; r++) memcpy(ready[r], p->offsets + column, sizeof(ready[r]));
    for (int64_t b = 0; b < p->blocks; b++, x += LONG, w += LONG * OUTPUTS, step += OUTPUTS) {
        int32_t(*of)[OUTPUTS] = sums[b & 1];
        _tile_zero(0);
        _tile_zero(1);
        _tile_loadd(2, x, p->stride);
        _tile_loadd(3, w, OUTPUTS * 4);
        _tile_loadd(4, w + 64, OUTPUTS * 4);
        _tile_dpbusd(0, 2, 3);
        _tile_dpbusd(1, 2, 4);
        _tile_stored(0, of[0], OUTPUTS * 4);
        _tile_stored(1, of[0] + 16, OUTPUTS * 4);
        for (int64_t ahead = LONG / 4 * advance; ahead > 0; ahead -= 64, next += 64)
            _mm_prefetch((const char *)next, _MM_HINT_T1);
        __m512 first = half16(step), second = half16(step + 16);
        for (int r = 0; r < rows; r++) {
            for (int v = 0; v < 2; v++) {
                __m512 before = _mm512_load_ps(ready[r] + 16 * v), step_of = v ? second : first;
                __m512i sum = _mm512_load_si512(of[r] + 16 * v);
                _mm512_store_ps(ready[r] + 16 * v, added(before, sum, step_of, 8, 0, step_of));
            }
        }
    }
    finish(p, kept, ready, rows, row, column);
}
#else
#define LEAST_TILED (ROWS + 1)
static void set_tiles(int rows) { (void)rows; }
static void tiled(const Product *p, int rows, int64_t row, int64_t column, const Kept *kept, const uint8_t *next,
                  int64_t advance) {
    (void)p, (void)rows, (void)row, (void)column, (void)kept, (void)next, (void)advance;
}
#define _tile_release() (void)0
#endif
