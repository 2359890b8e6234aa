/* The product of a linear layer: float rows in, float rows out, everything between in one parallel region. */
#include "product.h"

#define MOST_PACKED 12 /* rows of a block, whose sums fit the registers */
#define LONG 64        /* inputs that share a step in 8 bits */
#define SHORT 32       /* and in 4 */
#define MOST_INPUTS (1 << 20)
#define KEPT (3 << 18) /* bytes of rows, and of panels beside them, that stay in the second cache */
#define MOST_PIECES 16 /* so that units are no more than outputs and rows */
#define APART 1024 /* bytes: rows that lie so far apart would share their few places in the first cache */

/* Weights, scales, offsets and bias (or NULL) of a layer come in the order of its panels, padded with zeros; steps,
 * halves of a float, as [panels, blocks, outputs], or, in 4 bits (which need whole blocks), [panels, blocks, 2,
 * outputs], the steps before the least. Offsets are what rows around 128 have too much, negative. Floats have neither
 * steps nor scales nor offsets. */

/* A thread's part of the work, units [first, last): it takes them from the front, others that have none left from the
 * back. So neighbouring panels stay with one thread, and all threads end together whenever each of them began. */
typedef struct Share {
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

static int is_float(int64_t bits) { return bits == 32 || bits == 16; }
static int64_t panel_of(const Linear *l) { return is_float(l->bits) ? float_outputs() : gemm_outputs(); }

static int64_t panels_of(const Linear *l) {
    int64_t panel = panel_of(l), half = panel / 2;
    return l->paired ? ((l->outputs + 1) / 2 + half - 1) / half : (l->outputs + panel - 1) / panel;
}

/* Inputs, filled up to whole steps of four bytes, as multiplied with weights of so many bits. */
static int64_t filled(int64_t inputs, int64_t bits) {
    return bits == 32 ? inputs : bits == 16 ? (inputs + 1) / 2 * 2 : (inputs + 3) / 4 * 4;
}

int linear_fits(const Linear *l) {
    REQUIRE(l->inputs > 0 && l->inputs <= MOST_INPUTS && l->outputs > 0 && l->outputs < 1 << 30);
    int floats = is_float(l->bits);
    REQUIRE(floats ? float_bits(l->bits) : gemm_outputs() > 0);
    REQUIRE(floats || l->bits == 8 || (l->bits == 4 && l->inputs % SHORT == 0));
    int64_t padded = panels_of(l) * panel_of(l), numbers = floats ? 0 : padded;
    int64_t blocks = l->bits == 4 ? l->inputs / SHORT * 2 : (l->inputs + LONG - 1) / LONG;
    REQUIRE(l->weights_count == padded * filled(l->inputs, l->bits) * l->bits / 8);
    REQUIRE(l->steps_count == numbers * blocks);
    REQUIRE(l->scales_count == numbers && l->offsets_count == numbers && (!l->bias || l->bias_count == padded));
    return 0;
}

static int64_t whole_lines(int64_t bytes) { return (bytes + 63) / 64 * 64; }

/* The next part of a room; a cache line is nobody else's. NULL where it has no bytes. */
static void *next_part(uint8_t **room, int64_t bytes) {
    uint8_t *part = *room;
    *room += whole_lines(bytes);
    return bytes ? part : NULL;
}

/* Bytes of a thread's room for a row, and for the places of its inputs. */
static int64_t row_room(const Product *p) { return whole_lines((p->inputs + 3) / 4 * 4 * sizeof(float)); }

/* Parts of a room that holds the product itself first; returns its end. */
static uint8_t *divide(Product *p, uint8_t *room) {
    int floats = is_float(p->bits), as_they_are = p->bits == 32 && !p->norm && p->stride == p->inputs * 4;
    next_part(&room, sizeof(Product));
    p->early = next_part(&room, p->threads * sizeof(Share));
    p->late = next_part(&room, p->threads * sizeof(Share));
    p->kept = next_part(&room, floats ? 0 : p->row_blocks * kept_bytes());
    p->rooms = next_part(&room, p->bits == 32 ? 0 : p->threads * row_room(p));
    p->places = next_part(&room, floats ? 0 : p->threads * row_room(p));
    p->sums = next_part(&room, p->bits == 4 ? p->rows * p->blocks * sizeof(float) : 0);
    p->row_scales = next_part(&room, floats ? 0 : p->rows * sizeof(float));
    int64_t rows = p->by_tiles && !floats ? p->row_blocks * TILED : p->rows; /* tiles of bytes are read whole */
    p->bytes = next_part(&room, as_they_are ? 0 : rows * p->stride);
    return room;
}

static Product product_of(const Linear *l, const float *norm, int64_t rows, int threads) {
    int floats = is_float(l->bits);
    Product p = {.inputs = l->inputs, .outputs = l->outputs, .bits = (int)l->bits, .norm = norm};
    p.stride = filled(l->inputs, l->bits) * (floats ? l->bits / 8 : 1);
    p.blocks = floats ? p.stride / 4 : l->bits == 4 ? l->inputs / SHORT : (l->inputs + LONG - 1) / LONG;
    if (floats && rows > 1 && p.stride % APART == 0) p.stride += 64;
    p.paired = (int)l->paired, p.threads = threads, p.rows = rows;
    p.weights = l->weights, p.steps = l->steps, p.scales = l->scales, p.bias = l->bias, p.offsets = l->offsets;
    p.by_tiles = floats ? float_tiles(l->bits) : gemm_tiles(rows, p.stride, l->bits);
    if (floats && p.by_tiles) p.stride = whole_lines(filled(l->inputs, 16) * 2);
    p.height = floats ? float_rows(p.by_tiles) : p.by_tiles ? TILED : MOST_PACKED;
    p.row_blocks = (rows + p.height - 1) / p.height, p.panel = panel_of(l), p.panels = panels_of(l);
    p.advance = p.row_blocks ? (p.panel * 4 + p.row_blocks - 1) / p.row_blocks : 0;
    p.pieces = p.row_blocks >= 8 ? 2 : 1; /* so that no thread is left with a long unit at the end */
    p.together = 1;
    if (floats && p.by_tiles && rows * p.stride > KEPT) { /* tiles would wait for the third one */
        int64_t fit = (rows * p.stride + KEPT - 1) / KEPT, bytes = p.blocks * p.panel * 4;
        fit = fit < p.row_blocks ? fit : p.row_blocks, fit = fit < MOST_PIECES ? fit : MOST_PIECES;
        p.pieces = fit > p.pieces ? fit : p.pieces, p.together = bytes < KEPT ? KEPT / bytes : 1;
    }
    return p;
}

int64_t product_room(const Linear *layer, int64_t rows, int threads) {
    static const float some;
    Product p = product_of(layer, &some, rows, threads);
    uint8_t *begin = (uint8_t *)64; /* of no room at all */
    return divide(&p, begin) - begin;
}

void product_begin(void *room, const Linear *layer, const Passed *passed, int threads) {
    Product *p = room;
    *p = product_of(layer, passed->norm, passed->rows, threads);
    divide(p, room);
    p->x = passed->x, p->eps = passed->eps, p->residual = passed->residual;
    p->gated = passed->gated, p->out = passed->out;
    p->width = p->gated ? p->outputs / 2 : p->outputs;
    share(p->early, threads, p->row_blocks), share(p->late, threads, p->panels * p->pieces);
    atomic_store(&p->waiting, p->row_blocks);
}

int64_t product_blocks(const void *room) { return ((const Product *)room)->row_blocks; }

/* A row as floats, put through the norm, or in bfloat16. */
static void ready_row(const Product *p, int64_t r, float *room) {
    const float *row = p->x + r * p->inputs;
    float *floats = p->bits == 32 ? (float *)(p->bytes + r * p->stride) : room;
    if (p->norm) norm_row(row, p->norm, floats, p->inputs, p->eps), row = floats;
    else if (p->bits == 32) memcpy(floats, row, p->inputs * sizeof(float));
    if (p->bits == 32) return;
    round_floats(p, r, row);
}

void product_round(void *room, int64_t block, int me) {
    const Product *p = room;
    float *own = p->rooms ? p->rooms + me * (row_room(p) / sizeof(float)) : NULL;
    if (!is_float(p->bits)) round_packed(p, block, own, p->places + me * (row_room(p) / sizeof(int)));
    else if (p->bytes)
        for (int64_t r = start_of(p, block); r < start_of(p, block + 1); r++) ready_row(p, r, own);
}

/* A piece of a panel: the outputs from `column` on, of blocks of rows [first, last). */
typedef struct {
    int64_t column, first, last;
} Piece;

static Piece piece_of(const Product *p, int64_t unit) {
    int64_t begin = unit / (p->together * p->pieces) * p->together, place = unit - begin * p->pieces;
    int64_t together = p->panels - begin < p->together ? p->panels - begin : p->together;
    int64_t column = (begin + place % together) * p->panel, piece = place / together;
    return (Piece){column, piece * p->row_blocks / p->pieces, (piece + 1) * p->row_blocks / p->pieces};
}

/* set: the rows that the thread's tiles have. */
static void multiply_piece(const Product *p, Piece of, int *set) {
    if (is_float(p->bits)) multiply_floats(p, of.column, of.first, of.last, set);
    else multiply_packed(p, of.column, of.first, of.last, set);
}

/* Units of a stack: a run of neighbouring panels for each thread first, of three quarters of all; then the rest, so
 * that all end together whenever each of them began. */
static int64_t run_of(const Product *p) { return p->panels * p->pieces * 3 / 4 / p->threads; }

int64_t product_units(const void *room) {
    const Product *p = room;
    return p->threads * (run_of(p) > 0) + p->panels * p->pieces - p->threads * run_of(p);
}

void product_multiply(void *room, int64_t unit) {
    const Product *p = room;
    int64_t run = run_of(p), alone = run ? unit - p->threads : unit;
    int64_t first = alone < 0 ? unit * run : p->threads * run + alone;
    int set = 0;
    for (int64_t i = first; i < (alone < 0 ? first + run : first + 1); i++) multiply_piece(p, piece_of(p, i), &set);
    if (set) leave_tiles();
}

/* The largest outputs that a thread has met, [rows, panel]: each place of a panel has its own. */
typedef struct {
    float *out, *most; /* out: of the panel that it is at */
    int32_t *where, *broken;
} Largest;

/* A piece of a panel, of which nothing is kept but the largest. Any thread may have any panel in any order, so of
 * equals the first is taken by its place. */
static void look_at_piece(const Product *p, Piece piece, int *set, const Largest *of) {
    Product own = *p;
    own.before = piece.column, own.width = p->panel, own.out = of->out;
    multiply_piece(&own, piece, set);
    int64_t first = start_of(p, piece.first), last = start_of(p, piece.last);
    int64_t count = within(p->outputs - piece.column, p->panel);
    for (int64_t row = first; row < last; row++) {
        const float *restrict out = of->out + row * p->panel;
        float *restrict most = of->most + row * p->panel;
        int32_t *restrict where = of->where + row * p->panel, *restrict broken = of->broken + row * p->panel;
        for (int64_t i = 0; i < count; i++) {
            int32_t place = (int32_t)(piece.column + i);
            int larger = (out[i] > most[i]) | ((out[i] == most[i]) & (place < where[i]));
            most[i] = larger ? out[i] : most[i], where[i] = larger ? place : where[i];
            broken[i] |= out[i] != out[i];
        }
    }
}

/* All of it by threads that wake up one by one. largest: of each thread, NULL where outputs are kept. */
static void work(Product *p, int me, const Largest *largest) {
    int set = 0;
    for (int64_t b; (b = take(p->early, p->threads, me)) >= 0; atomic_fetch_sub(&p->waiting, 1))
        product_round(p, b, me);
    /* Instead of a barrier, where all would wait for a thread that is only just waking up. */
    for (int spins = 0; atomic_load(&p->waiting); spins++)
        if (spins < PATIENCE) PAUSE();
        else sched_yield();
    for (int64_t unit; (unit = take(p->late, p->threads, me)) >= 0;)
        if (largest) look_at_piece(p, piece_of(p, unit), &set, largest + me);
        else multiply_piece(p, piece_of(p, unit), &set);
    if (set) leave_tiles();
}

/* out[rows, outputs] = f(x) · weights + bias + residual. f is the norm by such a weight, or nothing; norm and residual
 * may be NULL. Where `gated`, and so paired, the first half of the outputs are gates of the second, and out, [rows,
 * outputs / 2], is silu(gate) · up, without a residual. Returns 0, or as REQUIRE says. */
int packed_linear(const Linear *layer, const float *x, int64_t x_count, const float *norm, int64_t norm_count,
                  float eps, int gated, const float *residual, int64_t residual_count, int64_t rows, float *out,
                  int64_t out_count, int threads) {
    REQUIRE(threads > 0 && rows >= 0 && rows < 1 << 30);
    int unfit = linear_fits(layer);
    if (unfit) return unfit;
    int64_t inputs = layer->inputs, outputs = layer->outputs;
    REQUIRE(!gated || (layer->paired && !residual && outputs % 2 == 0));
    REQUIRE(x_count == rows * inputs && (!norm || norm_count == inputs));
    REQUIRE((!residual || residual_count == rows * outputs) && out_count == rows * (gated ? outputs / 2 : outputs));
    if (rows == 0) return 0;
    void *room = aligned_alloc(64, product_room(layer, rows, threads));
    if (!room) return NO_MEMORY;
    Passed passed = {x, norm, residual, out, eps, gated, rows};
    product_begin(room, layer, &passed, threads);
#pragma omp parallel num_threads(threads) if (rows * inputs * outputs > 64 * SMALL)
    work(room, THREAD, NULL);
    free(room);
    return 0;
}

/* The place of a row's largest output among what threads found; -1 where that is not finite or one is NaN. */
static int64_t largest_of(const Largest *each, int threads, int64_t row, int64_t panel) {
    float most = -INFINITY;
    int64_t place = -1;
    for (int t = 0; t < threads; t++)
        for (int64_t i = row * panel; i < (row + 1) * panel; i++) {
            if (each[t].broken[i]) return -1;
            if (each[t].most[i] > most || (each[t].most[i] == most && each[t].where[i] < place))
                most = each[t].most[i], place = each[t].where[i];
        }
    return isfinite(most) ? place : -1;
}

/* places[rows]: of each row the largest of the outputs that packed_linear gives, as kernels.c's `largest` says; they
 * are never all in memory. The layer is not paired. Returns as packed_linear. */
int packed_largest(const Linear *layer, const float *x, int64_t x_count, const float *norm, int64_t norm_count, float eps,
                   int64_t rows, int64_t *places, int64_t places_count, int threads) {
    REQUIRE(threads > 0 && rows >= 0 && rows < 1 << 24);
    int unfit = linear_fits(layer);
    if (unfit) return unfit;
    int64_t inputs = layer->inputs, outputs = layer->outputs, panel = panel_of(layer);
    REQUIRE(!layer->paired && x_count == rows * inputs && (!norm || norm_count == inputs) && places_count == rows);
    if (rows == 0) return 0;
    int64_t room = product_room(layer, rows, threads), part = whole_lines(rows * panel * sizeof(float));
    uint8_t *memory = aligned_alloc(64, room + whole_lines(threads * sizeof(Largest)) + threads * 4 * part);
    if (!memory) return NO_MEMORY;
    uint8_t *at = memory + room;
    Largest *each = next_part(&at, threads * sizeof(Largest));
    for (int t = 0; t < threads; t++) {
        each[t].out = next_part(&at, part), each[t].most = next_part(&at, part);
        each[t].where = next_part(&at, part), each[t].broken = next_part(&at, part);
        for (int64_t i = 0; i < rows * panel; i++)
            each[t].most[i] = -INFINITY, each[t].where[i] = INT32_MAX, each[t].broken[i] = 0;
    }
    Passed passed = {.x = x, .norm = norm, .eps = eps, .rows = rows};
    product_begin(memory, layer, &passed, threads);
#pragma omp parallel num_threads(threads) if (rows * inputs * outputs > 64 * SMALL)
    work((Product *)memory, THREAD, each);
    for (int64_t row = 0; row < rows; row++) places[row] = largest_of(each, threads, row, panel);
    free(memory);
    return 0;
}
