/* All layers of a step in one call and one parallel region: threads go from one part of a layer to the next at once,
 * where a call for every product would wake them and put them to sleep six times a layer. One row alone is mostly that.
 *
 * A layer is that of Llama: out = x + project(attend(qkv(norm(x)))), then out + down(gated(norm(out))). Each part is
 * what the functions of its own file do, and gives the same to the last bit.
 */
#include "kernels.h"
#include "kv_int8.h"
#include "team.h"

/* A layer, as native.py tells of it. Norms of heads are NULL where there are none. Counts are elements. */
typedef struct {
    Linear qkv, project, both, down;
    const float *first, *second, *q_norm, *k_norm;
    int64_t first_count, second_count, q_count, k_count;
    float first_eps, second_eps, head_eps, scale;
    int64_t heads, kv_heads, size, reach; /* reach: which of `firsts` says what its tokens see */
} Layer;

/* Its cache: [pages, KV heads, columns, size], of a kind (kv_int8.h). */
typedef struct {
    char *keys, *values;
    int64_t count;
} Held;

int64_t page_columns(void);
int64_t block_queries(void);

/* What the layers of a step have in common, and what threads work in. */
typedef struct {
    const Layer *layers;
    int64_t count;
    const Held *held;
    const int64_t *const *firsts;
    Setting setting;
    Attending attending;
    int64_t tokens;
    float *x, *qkv, *q, *mixed, *gated, *scratch;
    int64_t floats; /* of `scratch`, a thread's */
    uint8_t *room;
    int threads;
    Team team;
} Stack;

static int layer_fits(const Layer *l, const Layer *first, int64_t hidden) {
    REQUIRE(l->heads > 0 && l->kv_heads > 0 && l->heads < 1 << 30 && l->kv_heads < 1 << 30);
    REQUIRE(l->heads % l->kv_heads == 0);
    REQUIRE(l->size > 0 && l->size % 2 == 0 && l->size <= LARGEST_HEAD);
    REQUIRE(l->heads == first->heads && l->kv_heads == first->kv_heads && l->size == first->size);
    const Linear *all[] = {&l->qkv, &l->project, &l->both, &l->down};
    for (int i = 0; i < 4; i++) {
        int unfit = linear_fits(all[i]);
        if (unfit) return unfit;
    }
    REQUIRE(l->qkv.inputs == hidden && l->qkv.outputs == (l->heads + 2 * l->kv_heads) * l->size);
    REQUIRE(l->project.inputs == l->heads * l->size && l->project.outputs == hidden);
    REQUIRE(l->both.inputs == hidden && l->both.outputs == 2 * l->down.inputs && l->down.outputs == hidden);
    REQUIRE(l->both.paired && l->both.outputs == first->both.outputs);
    REQUIRE(l->first_count == hidden && l->second_count == hidden && !l->q_norm == !l->k_norm);
    REQUIRE(!l->q_norm || (l->q_count == l->size && l->k_count == l->size));
    return 0;
}

/* The parts of a layer, in their order. */
enum { ROUND_QKV, QKV, SET, ATTEND, ROUND_MIXED, PROJECT, ROUND_BOTH, BOTH, ROUND_GATED, DOWN, PARTS };

static Setting setting_of(const Stack *s, int64_t i) {
    Setting setting = s->setting;
    setting.q_weight = s->layers[i].q_norm, setting.k_weight = s->layers[i].k_norm, setting.eps = s->layers[i].head_eps;
    setting.keys = s->held[i].keys, setting.values = s->held[i].values;
    return setting;
}

static Attending attending_of(const Stack *s, int64_t i) {
    Attending attending = s->attending;
    attending.places.firsts = s->firsts[s->layers[i].reach];
    attending.scale = s->layers[i].scale, attending.keys = s->held[i].keys, attending.values = s->held[i].values;
    if (attending.prefix_keys) attending.prefix_keys += i, attending.prefix_values += i;
    return attending;
}

/* What a part multiplies, and by what, where it is one that rounds rows. */
static void begin(Stack *s, const Layer *l, int part) {
    const Linear *layer;
    Passed p;
    if (part == ROUND_QKV)
        layer = &l->qkv, p = (Passed){.x = s->x, .norm = l->first, .eps = l->first_eps, .out = s->qkv};
    else if (part == ROUND_MIXED) layer = &l->project, p = (Passed){.x = s->mixed, .out = s->x, .residual = s->x};
    else if (part == ROUND_BOTH)
        layer = &l->both, p = (Passed){.x = s->x, .norm = l->second, .eps = l->second_eps, .out = s->gated, .gated = 1};
    else layer = &l->down, p = (Passed){.x = s->gated, .out = s->x, .residual = s->x};
    p.rows = s->tokens;
    product_begin(s->room, layer, &p, s->threads);
}

/* By one thread, when the phase before is done. */
static void open_part(Stack *s, int64_t phase) {
    int64_t i = phase / PARTS, part = phase % PARTS, units = 0;
    if (i < s->count && part == SET) units = s->threads;
    else if (i < s->count && part == ATTEND) units = attend_tasks(&s->attending);
    else if (i < s->count && (part == QKV || part == PROJECT || part == BOTH || part == DOWN))
        units = product_units(s->room);
    else if (i < s->count) begin(s, s->layers + i, part), units = product_blocks(s->room);
    open_phase(&s->team, phase, units);
}

static void do_unit(Stack *s, Ticket ticket, int me) {
    int64_t i = ticket.phase / PARTS, part = ticket.phase % PARTS;
    if (part == SET) {
        Setting setting = setting_of(s, i);
        set_part(&setting, ticket.unit, ticket.units);
    } else if (part == ATTEND) {
        Attending attending = attending_of(s, i);
        attend_task(&attending, ticket.unit, s->scratch + s->floats * me);
    } else if (part == QKV || part == PROJECT || part == BOTH || part == DOWN) product_multiply(s->room, ticket.unit);
    else product_round(s->room, ticket.unit, me);
}

static void go(Stack *s, int me) {
    int64_t phases = s->count * PARTS;
    for (Ticket ticket; (ticket = take_ticket(&s->team, phases)).phase < phases;) {
        do_unit(s, ticket, me);
        if (finished(&s->team, ticket)) open_part(s, ticket.phase + 1);
    }
}

static int64_t aligned(int64_t floats) { return (floats + 15) / 16 * 16; }

/* x: [tokens, hidden], through all layers, in place. cosine and sine: [tokens, size]; slots and at: the page of each
 * token and its column in that. The rest as in attention.c's `attend`, but that what a token sees first is said for
 * each kind of layer, firsts[reaches][tokens], and that prefixes have pointers for each layer, [prefixes, layers].
 * Returns 0, or as REQUIRE says. */
int run_layers(const Layer *layers, int64_t count, float *x, int64_t x_count, int64_t tokens, int64_t hidden,
               const float *cosine, const float *sine, int64_t rotary_count, const int64_t *slots, const int64_t *at,
               int64_t at_count, int kind, const Held *held, const int64_t *table, int64_t table_rows, int64_t width,
               const char *const *prefix_keys, const char *const *prefix_values, int64_t pointers,
               const int64_t *prefix_lengths, const int64_t *prefix_counts, int64_t prefixes, const int64_t *rows,
               const int64_t *const *firsts, int64_t reaches, const int64_t *lasts, const int64_t *whiches,
               int64_t place_count, const int64_t *begins, const int64_t *ends, int64_t blocks, int64_t longest,
               int threads) {
    REQUIRE(threads > 0 && count > 0 && count < MOST_PHASES / PARTS && hidden > 0);
    REQUIRE(tokens > 0 && tokens < MOST_UNITS);
    REQUIRE(reaches > 0 && longest > 0 && width >= 0 && table_rows >= 0 && prefixes >= 0);
    REQUIRE(x_count == extent(tokens, hidden, 1) && at_count == tokens && place_count == tokens);
    REQUIRE(!prefixes || pointers == extent(prefixes, count, 1));
    int64_t columns = page_columns(), work_on = 0, wide = 0;
    for (int64_t i = 0; i < count; i++) {
        const Layer *l = layers + i;
        int unfit = layer_fits(l, layers, hidden);
        if (unfit) return unfit;
        REQUIRE(l->reach >= 0 && l->reach < reaches && held[i].count == held[0].count);
        work_on += l->both.inputs * l->both.outputs;
    }
    int64_t heads = layers->heads, kv_heads = layers->kv_heads, size = layers->size, group = heads / kv_heads;
    REQUIRE(kind >= FLOATS && kind <= BYTES);
    int64_t unit = extent(kv_heads, columns, cell_of(kind, size));
    REQUIRE(group <= block_queries() && unit > 0 && held->count > 0 && held->count % unit == 0);
    REQUIRE(rotary_count == extent(tokens, size, 1) && blocks < MOST_UNITS / kv_heads && threads < MOST_UNITS);
    REQUIRE(layers->both.outputs < MOST_UNITS && layers->qkv.outputs < MOST_UNITS && hidden < MOST_UNITS);
    for (int64_t t = 0; t < tokens; t++)
        REQUIRE(slots[t] >= 0 && slots[t] < held->count / unit && at[t] >= 0 && at[t] < columns);
    for (int64_t i = 0; i < prefixes; i++)
        REQUIRE(prefix_fits(kind, prefix_lengths[i], prefix_counts[i], kv_heads, size));
    Stack s = {.layers = layers, .count = count, .held = held, .firsts = firsts, .tokens = tokens, .x = x};
    s.attending.places = (Places){table,  table_rows, width,   held->count / unit, prefix_lengths, prefixes, rows, NULL,
                                  lasts,  whiches,    tokens,  begins,             ends,           blocks,   longest};
    for (int64_t i = 0; i < reaches; i++) {
        s.attending.places.firsts = firsts[i];
        int unfit = places_fit(&s.attending.places, group);
        if (unfit) return unfit;
    }
    s.floats = attend_floats(longest, size);
    REQUIRE(s.floats >= 0 && s.floats < INT64_MAX / 8 / threads);
    s.floats = aligned(s.floats), wide = heads * size;
    int64_t room = 0;
    for (int64_t i = 0; i < count; i++) {
        const Linear *all[] = {&layers[i].qkv, &layers[i].project, &layers[i].both, &layers[i].down};
        for (int j = 0; j < 4; j++) {
            int64_t needs = product_room(all[j], tokens, threads);
            room = needs > room ? needs : room;
        }
    }
    int64_t parts[] = {tokens * (wide + 2 * kv_heads * size), tokens * wide, tokens * wide,
                       tokens * (layers->both.outputs / 2), s.floats * threads};
    float **to[] = {&s.qkv, &s.q, &s.mixed, &s.gated, &s.scratch};
    int64_t floats = 0;
    for (int i = 0; i < 5; i++) floats += aligned(parts[i]);
    uint8_t *memory = aligned_alloc(64, room + sizeof(float) * floats);
    if (!memory) return NO_MEMORY;
    s.room = memory, s.threads = threads;
    float *free_from = (float *)(memory + room);
    for (int i = 0; i < 5; i++) *to[i] = free_from, free_from += aligned(parts[i]);
    s.setting = (Setting){.qkv = s.qkv, .cosine = cosine, .sine = sine, .slots = slots, .at = at, .q = s.q, .kind = kind,
                          .tokens = tokens, .heads = heads, .kv_heads = kv_heads, .size = size, .columns = columns};
    s.attending.q = s.q, s.attending.out = s.mixed, s.attending.kind = kind, s.attending.apart = count;
    s.attending.prefix_keys = prefix_keys, s.attending.prefix_values = prefix_values;
    s.attending.heads = heads, s.attending.kv_heads = kv_heads, s.attending.size = size;
    open_part(&s, 0);
#pragma omp parallel num_threads(threads) if (tokens * work_on > 64 * SMALL)
    go(&s, THREAD);
    free(memory);
    return 0;
}
