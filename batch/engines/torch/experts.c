/* The experts of a layer in one call and one parallel region, each for the rows it is to have: a call for each of their
 * products would wake the threads hundreds of times a layer, for a few rows each time.
 *
 * An expert is down(gated(up(x))), with `up` paired and silu's gates. Each product gives what it gives alone, to the
 * last bit.
 */
#include "kernels.h"
#include "team.h"


/* As native.py tells of it. */
typedef struct {
    Linear up, down;
} Expert;

/* One that has rows. */
typedef struct {
    const Expert *expert;
    int64_t first, rows; /* of all rows */
    int64_t start;       /* of this phase, the first unit that is its own */
    uint8_t *room;
    float *gated;
} Busy;

typedef struct {
    Busy *busy;
    int64_t count, hidden, outputs;
    const float *x;
    float *out;
    int threads;
    Team team;
} Mixture;

enum { ROUND_UP, UP, ROUND_DOWN, DOWN, PARTS };

static void begin(const Mixture *m, const Busy *b, int64_t part) {
    Passed up = {.x = m->x + b->first * m->hidden, .out = b->gated, .gated = 1, .rows = b->rows};
    Passed down = {.x = b->gated, .out = m->out + b->first * m->outputs, .rows = b->rows};
    if (part == ROUND_UP) product_begin(b->room, &b->expert->up, &up, m->threads);
    else product_begin(b->room, &b->expert->down, &down, m->threads);
}

/* By one thread, when the phase before is done. */
static void open_part(Mixture *m, int64_t part) {
    int64_t units = 0, rounds = part == ROUND_UP || part == ROUND_DOWN;
    for (int64_t i = 0; part < PARTS && i < m->count; i++) {
        Busy *b = m->busy + i;
        if (rounds) begin(m, b, part);
        b->start = units;
        units += rounds ? product_blocks(b->room) : product_units(b->room);
    }
    open_phase(&m->team, part, units);
}

/* Who has that unit: the last one that does not begin after it. */
static const Busy *owner(const Mixture *m, int64_t unit) {
    int64_t low = 0, high = m->count;
    while (high - low > 1) {
        int64_t middle = (low + high) / 2;
        if (m->busy[middle].start <= unit) low = middle;
        else high = middle;
    }
    return m->busy + low;
}

static void go(Mixture *m, int me) {
    for (Ticket ticket; (ticket = take_ticket(&m->team, PARTS)).phase < PARTS;) {
        const Busy *b = owner(m, ticket.unit);
        if (ticket.phase == ROUND_UP || ticket.phase == ROUND_DOWN) product_round(b->room, ticket.unit - b->start, me);
        else product_multiply(b->room, ticket.unit - b->start);
        if (finished(&m->team, ticket)) open_part(m, ticket.phase + 1);
    }
}

/* Whether an expert takes and gives rows of those lengths. */
static int expert_fits(const Expert *e, int64_t hidden, int64_t outputs) {
    int unfit = linear_fits(&e->up);
    if (!unfit) unfit = linear_fits(&e->down);
    if (unfit) return unfit;
    REQUIRE(e->up.paired && e->up.inputs == hidden);
    REQUIRE(e->up.outputs == 2 * e->down.inputs && e->down.outputs == outputs);
    return 0;
}

/* x: [rows, hidden], in the order of the experts; counts: the rows of each of so many; out: [rows, outputs]. Returns 0,
 * or as REQUIRE says. */
int run_experts(const Expert *experts, int64_t count, const int64_t *counts, const float *x, int64_t x_count,
                float *out, int64_t out_count, int threads) {
    REQUIRE(threads > 0 && threads < 1 << 16 && count > 0 && count < 1 << 16);
    int64_t hidden = experts->up.inputs, outputs = experts->down.outputs;
    int64_t rows = 0, units = 0, busy = 0, bytes = 0, work = 0;
    for (int64_t i = 0; i < count; i++) {
        int unfit = expert_fits(experts + i, hidden, outputs);
        if (unfit) return unfit;
        REQUIRE(counts[i] >= 0 && counts[i] < MOST_UNITS);
        if (!counts[i]) continue;
        rows += counts[i], busy++;
        units += counts[i] + experts[i].up.outputs + outputs + threads;
        REQUIRE(units < MOST_UNITS);
        int64_t up = product_room(&experts[i].up, counts[i], threads);
        int64_t down = product_room(&experts[i].down, counts[i], threads);
        bytes += (up > down ? up : down) + (counts[i] * experts[i].down.inputs + 15) / 16 * 64;
        work += counts[i] * hidden * experts[i].up.outputs;
    }
    REQUIRE(x_count == extent(rows, hidden, 1) && out_count == extent(rows, outputs, 1));
    if (!rows) return 0;
    int64_t own = (busy * sizeof(Busy) + 63) / 64 * 64;
    uint8_t *memory = aligned_alloc(64, own + bytes), *at = memory + own;
    if (!memory) return NO_MEMORY;
    Mixture m = {.busy = (Busy *)memory, .hidden = hidden, .outputs = outputs, .x = x, .out = out, .threads = threads};
    for (int64_t i = 0, first = 0; i < count; first += counts[i++]) {
        if (!counts[i]) continue;
        int64_t up = product_room(&experts[i].up, counts[i], threads);
        int64_t down = product_room(&experts[i].down, counts[i], threads);
        m.busy[m.count++] = (Busy){experts + i, first, counts[i], 0, at, (float *)(at + (up > down ? up : down))};
        at += (up > down ? up : down) + (counts[i] * experts[i].down.inputs + 15) / 16 * 64;
    }
    open_part(&m, 0);
#pragma omp parallel num_threads(threads) if (work > 64 * SMALL)
    go(&m, THREAD);
    free(memory);
    return 0;
}
