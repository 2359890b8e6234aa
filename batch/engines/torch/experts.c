/* The experts of a layer in one call and one parallel region: tokens are put into the order of the experts that they
 * chose, each expert runs once for all that are its own, and what a token's experts say is added up by their shares. A
 * call for each of their products would wake the threads hundreds of times a layer, for a few rows each time.
 *
 * An expert is down(gated(up(x))), with `up` paired and silu's gates. Each product gives what it gives alone, to the
 * last bit, and a token's sum is in the order in which it chose: what others chose changes nothing.
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

/* Of each token, `chosen` experts. A row is one token before one expert; rows are in the order of the experts. */
typedef struct {
    Busy *busy;
    int64_t count, hidden, outputs, tokens, chosen, rows;
    const float *x, *shares;
    const int64_t *choices; /* of each row: token · chosen + which of them */
    const int64_t *places;  /* of each choice: its row, -1 for none */
    float *gathered, *found, *out;
    int threads;
    Team team;
} Mixture;

enum { GATHER, ROUND_UP, UP, ROUND_DOWN, DOWN, MIX, PARTS };
#define TOGETHER 16 /* rows that are gathered, or tokens that are mixed, as one unit */

static int64_t parts_of(int64_t count) { return (count + TOGETHER - 1) / TOGETHER; }

static void begin(const Mixture *m, const Busy *b, int64_t part) {
    Passed up = {.x = m->gathered + b->first * m->hidden, .out = b->gated, .gated = 1, .rows = b->rows};
    Passed down = {.x = b->gated, .out = m->found + b->first * m->outputs, .rows = b->rows};
    if (part == ROUND_UP) product_begin(b->room, &b->expert->up, &up, m->threads);
    else product_begin(b->room, &b->expert->down, &down, m->threads);
}

/* By one thread, when the phase before is done. */
static void open_part(Mixture *m, int64_t part) {
    int64_t units = part == GATHER ? parts_of(m->rows) : part == MIX ? parts_of(m->tokens) : 0;
    int64_t rounds = part == ROUND_UP || part == ROUND_DOWN;
    for (int64_t i = 0; part > GATHER && part < MIX && i < m->count; i++) {
        Busy *b = m->busy + i;
        if (rounds) begin(m, b, part);
        b->start = units;
        units += rounds ? product_blocks(b->room) : product_units(b->room);
    }
    open_phase(&m->team, part, units);
}

static void gather(const Mixture *m, int64_t unit) {
    for (int64_t r = unit * TOGETHER; r < m->rows && r < (unit + 1) * TOGETHER; r++)
        memcpy(m->gathered + r * m->hidden, m->x + m->choices[r] / m->chosen * m->hidden, m->hidden * sizeof(float));
}

static void mix(const Mixture *m, int64_t unit) {
    for (int64_t t = unit * TOGETHER; t < m->tokens && t < (unit + 1) * TOGETHER; t++) {
        float *restrict out = m->out + t * m->outputs;
        memset(out, 0, m->outputs * sizeof(float));
        for (int64_t c = t * m->chosen; c < (t + 1) * m->chosen; c++) {
            if (m->places[c] < 0) continue;
            const float *restrict found = m->found + m->places[c] * m->outputs;
            float share = m->shares[c];
            for (int64_t i = 0; i < m->outputs; i++) out[i] += share * found[i];
        }
    }
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
        if (ticket.phase == GATHER) gather(m, ticket.unit);
        else if (ticket.phase == MIX) mix(m, ticket.unit);
        else {
            const Busy *b = owner(m, ticket.unit);
            if (ticket.phase == UP || ticket.phase == DOWN) product_multiply(b->room, ticket.unit - b->start);
            else product_round(b->room, ticket.unit - b->start, me);
        }
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

static int64_t lines(int64_t bytes) { return (bytes + 63) / 64 * 64; }

/* Bytes that an expert works in with so many rows: first its products, one after the other. */
static int64_t products_room(const Expert *e, int64_t rows, int threads) {
    int64_t up = product_room(&e->up, rows, threads), down = product_room(&e->down, rows, threads);
    return up > down ? up : down;
}

/* The rows in the order of the experts and, within one, of the tokens. firsts: the first row of each expert; afterwards
 * that of the next one. */
static void arrange(const int64_t *index, int64_t choices, int64_t count, int64_t *firsts, int64_t *rows,
                    int64_t *places) {
    for (int64_t c = 0; c < choices; c++) {
        places[c] = index[c] < count ? firsts[index[c]]++ : -1;
        if (places[c] >= 0) rows[places[c]] = c;
    }
}

/* index, shares: [tokens, chosen], the experts of each token and what they count; one that is not below `count` is
 * none. x: [tokens, hidden]; out: [tokens, outputs]. Returns 0, or as REQUIRE says. */
int run_experts(const Expert *experts, int64_t count, const int64_t *index, const float *shares, int64_t choices,
                int64_t chosen, const float *x, int64_t x_count, float *out, int64_t out_count, int threads) {
    REQUIRE(threads > 0 && threads < 1 << 16 && count > 0 && count < 1 << 16);
    REQUIRE(choices >= 0 && choices < MOST_UNITS && chosen > 0 && choices % chosen == 0);
    int64_t hidden = experts->up.inputs, outputs = experts->down.outputs, tokens = choices / chosen;
    for (int64_t i = 0; i < count; i++) {
        int unfit = expert_fits(experts + i, hidden, outputs);
        if (unfit) return unfit;
    }
    REQUIRE(x_count == extent(tokens, hidden, 1) && out_count == extent(tokens, outputs, 1));
    if (!tokens) return 0;
    int64_t *counts = calloc(2 * count, sizeof(int64_t));
    if (!counts) return NO_MEMORY;
    int64_t *firsts = counts + count;
    int64_t negative = 0, rows = 0, units = 0, busy = 0, bytes = 0, work = 0;
    for (int64_t c = 0; c < choices; c++)
        if (index[c] < 0) negative++;
        else if (index[c] < count) counts[index[c]]++;
    for (int64_t i = 0; i < count; i++) {
        firsts[i] = rows, rows += counts[i], busy += counts[i] > 0;
        if (!counts[i]) continue;
        units += counts[i] + experts[i].up.outputs + outputs + threads;
        bytes += products_room(experts + i, counts[i], threads);
        bytes += lines(counts[i] * experts[i].down.inputs * sizeof(float));
        work += counts[i] * hidden * experts[i].up.outputs;
    }
    int64_t own = lines(busy * sizeof(Busy)), order = lines((rows + choices) * sizeof(int64_t));
    int64_t wide = lines(rows * hidden * sizeof(float)), narrow = lines(rows * outputs * sizeof(float));
    uint8_t *memory = NULL;
    int fits = !negative && units < MOST_UNITS;
    if (fits) memory = aligned_alloc(64, own + order + wide + narrow + bytes);
    if (!memory) free(counts);
    REQUIRE(fits);
    if (!memory) return NO_MEMORY;
    int64_t *ordered = (int64_t *)(memory + own);
    uint8_t *at = memory + own + order + wide + narrow;
    Mixture m = {.busy = (Busy *)memory, .hidden = hidden, .outputs = outputs, .tokens = tokens, .chosen = chosen};
    m.rows = rows, m.x = x;
    m.shares = shares, m.out = out, m.threads = threads, m.choices = ordered, m.places = ordered + rows;
    m.gathered = (float *)(memory + own + order), m.found = (float *)(memory + own + order + wide);
    for (int64_t i = 0; i < count; i++) {
        if (!counts[i]) continue;
        uint8_t *gated = at + products_room(experts + i, counts[i], threads);
        m.busy[m.count++] = (Busy){experts + i, firsts[i], counts[i], 0, at, (float *)gated};
        at = gated + lines(counts[i] * experts[i].down.inputs * sizeof(float));
    }
    arrange(index, choices, count, firsts, ordered, ordered + rows);
    free(counts);
    open_part(&m, rows ? GATHER : MIX);
#pragma omp parallel num_threads(threads) if (work > 64 * SMALL)
    go(&m, THREAD);
    free(memory);
    return 0;
}
