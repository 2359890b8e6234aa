/* Blocks of rows times a panel in bfloat16 by tiles (AMX): 16 rows times 16 outputs over 32 inputs in one instruction,
 * where the processor's other product of pairs takes thirty times as long.
 *
 * Rows lie in groups of 16, [groups, inputs / 32, rows of the group, 32], so that a tile is 1 KB on end; inputs are
 * filled up with zeros. A panel is what tiles read as it stands. Sums of a block, of two groups, stay in tiles over all
 * inputs. Each row of a tile goes through the inputs by itself, 32 at a time: its sums are the same to the last bit
 * whatever stands beside it. Without tiles the processor adds up in another order; so where they may be used, they
 * multiply even a single row. Either way what is below 2^-126 counts as zero.
 */
#include "amx.h"

#define GROUP 16 /* rows of a tile */

#if HAS_TILES
#define STEPS 16           /* of four bytes, in a tile */
#define PAIR (2 * 16 * 64) /* bytes of a panel's two tiles */
#define SOON 16            /* rows ahead, whose places in the output are fetched */
#define FAR (16 << 10)     /* bytes to prefetch ahead where a panel is read once */
#define SPARSE 256         /* bytes from one to the next of those: the processor itself sees to what is between */
/* Where no tile was stored for most of a microsecond, the next one takes a fourth of one more (measured on Granite
 * Rapids). So one is stored, for nothing, every so many steps of 32 inputs. */
#define AWAKE 16

/* Tiles 0 to 3 are sums, 4 and 5 rows, 6 and 7 weights; 2, 3 and 5 of the rows beyond a group. */
static void set_tiles(int rows) {
    Tiles tiles = {.palette = 1};
    const int above = rows < GROUP ? rows : GROUP, below = rows - above;
    const int heights[] = {above, above, below, below, above, below, STEPS, STEPS};
    for (int t = 0; t < 8; t++) tiles.rows[t] = (uint8_t)heights[t], tiles.width[t] = heights[t] ? 64 : 0;
    load_config(&tiles);
}

/* Where a row lies, and, by `apart`, the bytes from each of its parts of 32 inputs to the next. */
static inline uint8_t *row_in_group(const Product *p, int64_t row, int64_t *apart) {
    int64_t first = row / GROUP * GROUP, rows = p->rows - first < GROUP ? p->rows - first : GROUP;
    *apart = rows * 64;
    return p->bytes + first * p->stride + (row - first) * 64;
}

/* Where the sums of a panel go, and what is added to them. */
typedef struct {
    Place place;
    __mmask16 masks[2];
    __m512 bias[2];
} Ending;

static Ending ending_of(const Product *p, int64_t column) {
    Ending e = {.place = place_of(p, column)};
    for (int v = 0; v < 2; v++) {
        e.masks[v] = (__mmask16)((1u << e.place.counts[v]) - 1);
        e.bias[v] = p->bias ? _mm512_loadu_ps(p->bias + column + 16 * v) : _mm512_setzero_ps();
    }
    return e;
}

/* Sums of a block that go to their places while the next one is multiplied. */
typedef struct {
    _Alignas(64) float sums[2 * GROUP][OUTPUTS];
    int rows, done;
    int64_t row;
} Pending;

/* As floats.c's `finish_row`, in vectors. */
INLINE void end_row(const Product *p, const Ending *e, const float *sums, int64_t row) {
    const __m512 found[2] = {_mm512_add_ps(_mm512_load_ps(sums), e->bias[0]),
                             _mm512_add_ps(_mm512_load_ps(sums + 16), e->bias[1])};
    float *to = p->out + row * e->place.width;
    __builtin_prefetch(to + e->place.columns[0] + SOON * e->place.width, 1, 3);
    if (p->gated) {
        _Alignas(64) float both[OUTPUTS], gated[OUTPUTS / 2];
        _mm512_store_ps(both, found[0]), _mm512_store_ps(both + 16, found[1]);
        gate_row(both, gated, OUTPUTS / 2);
        _mm512_mask_storeu_ps(to + e->place.columns[0], e->masks[0], _mm512_load_ps(gated));
        return;
    }
    __builtin_prefetch(to + e->place.columns[1] + SOON * e->place.width, 1, 3);
    for (int v = 0; v < 2; v++) {
        float *part = to + e->place.columns[v];
        __m512 value = found[v];
        if (p->residual)
            value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(e->masks[v], p->residual + (part - p->out)));
        _mm512_mask_storeu_ps(part, e->masks[v], value);
    }
}

static inline void end_some(const Product *p, const Ending *e, Pending *of, int some) {
    int end = of->done + some < of->rows ? of->done + some : of->rows;
    for (; of->done < end; of->done++) end_row(p, e, of->sums[of->done], of->row + of->done);
}

/* What the blocks of a piece have in common. rest: the panel's last steps, where they do not fill a tile; ahead: bytes
 * to prefetch with every tile's steps, a line of so many `apart`. */
typedef struct {
    const uint8_t *weights, *rest;
    int64_t ahead, apart;
    Ending ending;
} Panel;

/* The sums of the block from `row` on, of two groups if `both`, in tiles; meanwhile those of the block before go to
 * their places. */
INLINE void add_tiles(const Product *p, const Panel *panel, const int both, int64_t row, const char *next,
                      Pending *before) {
    int64_t tile, second_tile = 0, count = (p->blocks + STEPS - 1) / STEPS;
    const uint8_t *first = row_in_group(p, row, &tile), *w = panel->weights;
    const uint8_t *second = both ? row_in_group(p, row + GROUP, &second_tile) : NULL;
    const int some = (int)((before->rows + count - 1) / count);
    _Alignas(64) float nothing[16];
    _tile_zero(0);
    _tile_zero(1);
    if (both) {
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t i = 0; i < count; i++, w += PAIR, first += tile, second += second_tile, next += panel->ahead) {
        if (i == count - 1 && panel->rest) w = panel->rest;
        _tile_stream_loadd(4, first, 64);
        _tile_loadd(6, w, OUTPUTS * 4);
        _tile_loadd(7, w + 64, OUTPUTS * 4);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (both) {
            _tile_stream_loadd(5, second, 64);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        for (int64_t to = 0; to < panel->ahead; to += panel->apart) __builtin_prefetch(next + to, 0, 2);
        end_some(p, &panel->ending, before, some);
        if (i % AWAKE == AWAKE - 1) _tile_stored(4, nothing, 0);
    }
}

/* The last steps of a panel, filled up with zeros to those of a tile. */
static const uint8_t *rest_of(const Product *p, int64_t column, uint8_t *room) {
    int64_t whole = p->blocks / STEPS * STEPS, bytes = (p->blocks - whole) * OUTPUTS * 4;
    memset(room, 0, PAIR);
    memcpy(room, p->weights + (column * p->blocks + whole * OUTPUTS) * 4, bytes);
    WRITTEN();
    return room;
}

/* Blocks of rows [from, to) times the panel that begins at `column`. */
static void multiply_tiles(const Product *p, int64_t column, int64_t from, int64_t to, int *set) {
    _Alignas(64) uint8_t room[PAIR];
    Pending both[2], *before = both, *now = both + 1;
    Panel panel = {.weights = p->weights + column * p->blocks * 4, .ending = ending_of(p, column)};
    panel.rest = p->blocks % STEPS ? rest_of(p, column, room) : NULL;
    int last = (column / OUTPUTS + 1) % p->together == 0; /* of those that a piece goes through */
    if (last ? to == p->row_blocks : from == 0) panel.ahead = (PAIR + (to - from) - 1) / (to - from);
    panel.apart = to - from > 1 ? 64 : SPARSE;
    int64_t bytes = p->blocks * OUTPUTS * 4;
    const char *next = (const char *)panel.weights + (p->row_blocks > 1 ? bytes : FAR);
    before->rows = before->done = 0;
    for (int64_t b = from; b < to; b++) {
        int64_t row = start_of(p, b);
        const char *part = next + (b - from) * (bytes / (to - from));
        now->rows = (int)(start_of(p, b + 1) - row), now->done = 0, now->row = row;
        if (now->rows != *set) set_tiles(now->rows), *set = now->rows;
        if (now->rows > GROUP) {
            add_tiles(p, &panel, 1, row, part, before);
            _tile_stored(2, now->sums[GROUP], OUTPUTS * 4);
            _tile_stored(3, now->sums[GROUP] + 16, OUTPUTS * 4);
        } else {
            add_tiles(p, &panel, 0, row, part, before);
        }
        _tile_stored(0, now->sums[0], OUTPUTS * 4);
        _tile_stored(1, now->sums[0] + 16, OUTPUTS * 4);
        Pending *other = before;
        before = now, now = other;
    }
    end_some(p, &panel.ending, before, before->rows);
}
#else
static inline uint8_t *row_in_group(const Product *p, int64_t row, int64_t *apart) {
    (void)row, (void)apart;
    return p->bytes;
}
static void multiply_tiles(const Product *p, int64_t column, int64_t from, int64_t to, int *set) {
    (void)p, (void)column, (void)from, (void)to, (void)set;
}
#endif
