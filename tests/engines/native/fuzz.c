/* Drives the kernels over random shapes, with memory of exactly the size that they are told: under a sanitizer, any
 * read or write beyond it ends the program. What tiles (AMX) read and write, no sanitizer sees: so a part of the memory,
 * and all that the kernels take for themselves, ends where a page begins that nobody may touch. Half of the calls lie
 * about one size or index, and must be refused.
 *
 *     fuzz SEED CALLS
 */
#include "kernels.h"
#include "kv_int8.h"
#include "team.h"
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int64_t page_columns(void), block_queries(void), gemm_outputs(void), float_outputs(void);
int float_bits(int64_t);
int rms_norm(const float *, int64_t, const float *, int64_t, float *, int64_t, float, int);
int swiglu(const float *, int64_t, int64_t, float *, int64_t, int);
int geglu(const float *, int64_t, int64_t, float *, int64_t, int);
int quantise(const float *, int64_t, uint8_t *, int64_t, float *, int64_t, int);
int rescale(float *, int64_t, const float *, int64_t, const float *, int64_t, int);
int largest(const float *, int64_t, int64_t *, int64_t, int);
int attend(const float *, int64_t, float, float, const float *, int64_t, const float *, int64_t, int, const char *,
           int64_t, const char *, int64_t, int64_t, int64_t, int64_t, const int64_t *, int64_t, int64_t,
           const char *const *, const char *const *, const int64_t *, const int64_t *, int64_t, const int64_t *,
           const int64_t *, const int64_t *, const int64_t *, int64_t, const int64_t *, const int64_t *, int64_t,
           int64_t, float *, int64_t, int);
int set_cache(const float *, int64_t, const float *, const float *, int64_t, float, const float *, const float *,
              int64_t, const int64_t *, const int64_t *, int64_t, float *, int64_t, int, char *, char *, int64_t, int64_t,
              int64_t, int64_t, int64_t, int);
int write_pages(const float *, int64_t, int64_t, int64_t, const int64_t *, const int64_t *, int64_t, int, int, char *,
                int64_t, int64_t, int64_t, int64_t, int);
int state_step(float *, int64_t, const float *, int64_t, const float *, int64_t, const float *, int64_t, const float *,
               const float *, int64_t, float *, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int);
int packed_largest(const Linear *, const float *, int64_t, const float *, int64_t, float, int64_t, int64_t *, int64_t,
                   int);
int packed_linear(const Linear *, const float *, int64_t, const float *, int64_t, float, int, const float *, int64_t,
                  int64_t, float *, int64_t, int);
typedef struct { /* as in stack.c */
    Linear qkv, project, both, down;
    const float *first, *second, *q_norm, *k_norm;
    int64_t first_count, second_count, q_count, k_count;
    float first_eps, second_eps, head_eps, scale;
    int64_t heads, kv_heads, size, reach;
} Layer;
typedef struct {
    char *keys, *values;
    int64_t count;
} Held;
int run_layers(const Layer *, int64_t, float *, int64_t, int64_t, int64_t, const float *, const float *, int64_t,
               const int64_t *, const int64_t *, int64_t, int, const Held *, const int64_t *, int64_t, int64_t,
               const char *const *, const char *const *, int64_t, const int64_t *, const int64_t *, int64_t,
               const int64_t *, const int64_t *const *, int64_t, const int64_t *, const int64_t *, int64_t,
               const int64_t *, const int64_t *, int64_t, int64_t, int);

typedef struct { /* as in experts.c */
    Linear up, down;
} Expert;
typedef struct { /* as in stored.c */
    int64_t type, rows, count;
    const uint8_t *raw;
} Stored;
int read_stored(const Stored *, int64_t, const int64_t *, int64_t, int64_t, int64_t, int64_t, uint8_t *, int64_t, int);
int64_t stored_block(int64_t);
int run_experts(const Expert *, int64_t, const int64_t *, const float *, int64_t, int64_t, const float *, int64_t,
                float *, int64_t, int);

static uint64_t state;
static int64_t below(int64_t n) { /* splitmix64 */
    uint64_t z = state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return (int64_t)((z ^ z >> 31) % (uint64_t)n);
}
static int64_t between(int64_t low, int64_t high) { return low + below(high - low + 1); }

#define MOST_HELD 512
static struct {
    void *made, *map; /* map: NULL for memory of malloc */
    int64_t mapped;
} held[MOST_HELD];
static int count;

static void *hold(void *made, void *map, int64_t mapped) {
    if (!made || count == MOST_HELD) abort();
    held[count].made = made, held[count].map = map, held[count++].mapped = mapped;
    return made;
}
/* Memory that ends where a page begins that nobody may touch. */
static void *at_border(int64_t bytes) {
    int64_t page = sysconf(_SC_PAGESIZE), whole = (bytes + page - 1) / page * page;
    uint8_t *map = mmap(NULL, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect(map + whole, page, PROT_NONE)) abort();
    return hold(map + whole - bytes, map, whole + page);
}
static void *room(int64_t bytes) { /* of its own each time, so that it has its borders */
    if (bytes > 0 && bytes % 4 == 0 && !below(4)) return at_border(bytes);
    return hold(calloc(bytes > 0 ? bytes : 1, 1), NULL, 0);
}
static void release(int i) {
    if (held[i].map) munmap(held[i].map, held[i].mapped);
    else free(held[i].made);
    held[i] = held[--count];
}
/* What the kernels call in the place of `aligned_alloc` and `free`. */
void *bordered_alloc(size_t alignment, size_t bytes) {
    if (bytes % alignment) abort();
    uint8_t *made = at_border(bytes);
    for (size_t i = 0; i < bytes; i++) made[i] = 0xff; /* whatever was there: NaN, of floats */
    return made;
}
void bordered_free(void *made) {
    for (int i = count - 1; i >= 0; i--)
        if (held[i].made == made) {
            release(i);
            return;
        }
    free(made);
}
static float *floats(int64_t n) {
    float *made = room(4 * n);
    for (int64_t i = 0; i < n; i++) made[i] = (float)between(-1000, 1000) / (below(40) ? 256 : 1); /* a few large */
    return made;
}
static char *anything(int64_t n, int kind) { /* of a cache; in eight bits any byte may stand there */
    char *made = room(n * bytes_of(kind));
    for (int64_t i = 0; kind == BYTES && i < n; i++) made[i] = (char)(i * i % 251 + i % 5);
    return made;
}
static void clear(void) {
    while (count) release(count - 1);
}

static void expect(const char *name, int code, int lied) {
    if (!code == !lied) return;
    printf("%s: %s (check %d)\n", name, lied ? "a lie was believed" : "refused, though it fits", code);
    exit(1);
}

#define LIE(at, size) (size + (lie == (at) ? (below(2) ? between(1, 40) : -between(1, size > 1 ? size : 1)) : 0))

static void small(int lie) {
    int64_t rows = between(1, 9), n = between(1, 70);
    if (lie > 2) lie = 0;
    expect("rms_norm", rms_norm(floats(rows * n), rows * n, floats(n), n, floats(rows * n), LIE(1, rows * n), 1e-6f, 2),
           lie == 1);
    expect("swiglu", swiglu(floats(2 * rows * n), 2 * rows * n, n, floats(rows * n), LIE(1, rows * n), 2), lie == 1);
    expect("geglu", geglu(floats(2 * rows * n), 2 * rows * n, n, floats(rows * n), LIE(1, rows * n), 2), lie == 1);
    expect("quantise", quantise(floats(rows * n), rows * n, room(rows * n), LIE(1, rows * n), floats(rows), rows, 2),
           lie == 1);
    expect("rescale", rescale(floats(rows * n), rows * n, floats(rows), rows, floats(n), LIE(1, n), 2), lie == 1);
    expect("largest", largest(floats(rows * n), rows * n, room(8 * rows), lie == 1 ? -rows : rows, 2), lie == 1);
}

static void setting(int lie) {
    int64_t kv = between(1, 4), heads = kv * between(1, 5), size = 2 * between(1, 40), tokens = between(1, 9);
    int kind = (int)below(3), norm = (int)below(2), whole = kind != BYTES || below(9);
    int64_t pages = between(1, 5), width = (heads + 2 * kv) * size;
    int64_t columns = kind == BYTES ? page_columns() + !whole : between(1, 33);
    int64_t *slots = room(8 * tokens), *at = room(8 * tokens), cells = pages * kv * columns * cell_of(kind, size);
    for (int64_t t = 0; t < tokens; t++) slots[t] = below(pages), at[t] = below(columns);
    if (lie == 1) slots[below(tokens)] = below(2) ? pages : -1;
    if (lie == 2) at[below(tokens)] = below(2) ? columns : -1;
    const float *a = norm ? floats(size) : NULL, *b = norm ? floats(size) : NULL;
    const float *qkv = floats(tokens * width), *cosine = floats(tokens * size), *sine = floats(tokens * size);
    int64_t rotary = LIE(3, tokens * size), q = LIE(4, tokens * heads * size), all = LIE(5, tokens * width);
    float *to = floats(tokens * heads * size);
    char *keys = anything(cells, kind), *values = anything(cells, kind);
    int code = set_cache(qkv, all, a, b, size, 1e-6f, cosine, sine, rotary, slots, at, tokens, to, q, kind, keys, values,
                         cells, heads, kv, size, columns, 2);
    expect("set_cache", code, (lie > 0 && lie < 6) || !whole);
}

static void writing(int lie) {
    int64_t heads = between(1, 5), size = between(1, 40), tokens = between(1, 9), pages = between(1, 5);
    int kind = (int)below(3);
    int64_t columns = kind == BYTES ? page_columns() : between(1, 33), cell = cell_of(kind, size);
    int turned = (int)below(2); /* either axis may come first, with something between */
    int64_t step = (turned ? tokens : heads) * size + below(5);
    int64_t apart = turned ? step : size, along = turned ? size : step;
    int64_t count = (tokens - 1) * along + (heads - 1) * apart + size, cells = pages * heads * columns * cell;
    int64_t *slots = room(8 * tokens), *at = room(8 * tokens);
    for (int64_t t = 0; t < tokens; t++) slots[t] = below(pages), at[t] = below(columns);
    if (lie == 1) slots[below(tokens)] = below(2) ? pages : -1;
    if (lie == 2) at[below(tokens)] = below(2) ? columns : -1;
    if (lie == 3) along = tokens > 1 ? -1 : along;
    const float *x = floats(count);
    char *held = anything(cells, kind);
    int64_t told = lie == 4 ? count - between(1, count) : count;
    int64_t all = lie == 5 ? cells - between(1, cells < columns ? cells : columns) : cells;
    int fits = all % (heads * columns * cell) == 0;
    for (int64_t t = 0; t < tokens; t++) fits = fits && slots[t] < all / (heads * columns * cell);
    int code = write_pages(x, told, along, apart, slots, at, tokens, kind, (int)below(2), held, all, heads, size,
                           columns, 2);
    expect("write_pages", code, lie == 1 || lie == 2 || (lie == 3 && tokens > 1) || lie == 4 || (lie == 5 && !fits));
}

static void stepping(int lie) {
    int64_t groups = between(1, 3), heads = groups * between(1, 4), wide = between(1, 9), size = between(2, 40);
    int64_t rows = between(1, 4), all = rows * heads * wide, rates = below(2) ? heads : heads * size;
    float *state = floats(all * size), *x = floats(all), *steps = floats(rows * heads), *a = floats(rates);
    float *b = floats(rows * groups * size), *c = floats(rows * groups * size), *out = floats(all);
    int64_t told = LIE(5, rates);
    int code = state_step(state, LIE(1, all * size), x, LIE(2, all), steps, LIE(3, rows * heads), a, told, b, c,
                          LIE(4, rows * groups * size), out, LIE(6, all), rows, heads, wide, size,
                          groups + (lie == 7 ? heads : 0), 2);
    expect("state_step", code, lie > 0 && lie < 8 && !(lie == 5 && told == heads && rates != heads));
}

/* The tokens of a step: runs of them in rows, and blocks. */
static struct {
    int64_t rows[512], firsts[2][512], lasts[512], whiches[512], begins[512], ends[512], tokens, blocks, longest;
} drawn;

/* lengths: of prefixes; block: most tokens. What a token sees first is drawn twice. */
static void draw(int64_t runs, int64_t width, int64_t page, const int64_t *lengths, int64_t prefixes, int64_t block,
                 int64_t most) {
    int64_t shared = below(prefixes + 1) - 1;
    drawn.tokens = drawn.blocks = 0, drawn.longest = 1;
    for (int64_t r = 0; r < runs; r++) {
        int64_t new = below(2) ? 1 : between(1, width * page < most ? width * page : most);
        int64_t before = below(width * page - new + 1), windows[2] = {below(2) ? 1000 : between(1, 40), between(1, 40)};
        int64_t which = below(2) ? shared : below(prefixes + 1) - 1, begin = drawn.tokens, *ends = drawn.ends;
        for (int64_t i = 0; i < new; i++) {
            int64_t t = drawn.tokens++;
            drawn.rows[t] = r, drawn.lasts[t] = before + i + 1, drawn.whiches[t] = which;
            int64_t sees = drawn.lasts[t] + (which < 0 ? 0 : lengths[which]);
            for (int w = 0; w < 2; w++) drawn.firsts[w][t] = sees > windows[w] ? sees - windows[w] : 0;
            drawn.longest = sees > drawn.longest ? sees : drawn.longest;
        }
        int64_t last = drawn.blocks - 1;
        if (new == 1 && last >= 0 && ends[last] - drawn.begins[last] < block && drawn.whiches[begin - 1] == which &&
            (drawn.begins[last] + 1 == begin || drawn.rows[drawn.begins[last]] != drawn.rows[begin - 1])) {
            ends[last]++;
            continue;
        }
        for (; begin < drawn.tokens; begin += block, drawn.blocks++) {
            drawn.begins[drawn.blocks] = begin;
            ends[drawn.blocks] = begin + block < drawn.tokens ? begin + block : drawn.tokens;
        }
    }
}

/* Numbers in memory with borders. */
static int64_t *bordered(const int64_t *from, int64_t n) { return memcpy(room(8 * n), from, 8 * n); }

/* Elements of the keys of a prefix. */
static int64_t prefix_of(int kind, int64_t kv, int64_t length, int64_t size) {
    int64_t page = page_columns(), columns = kind == BYTES ? (length + page - 1) / page * page : length;
    return kv * columns * cell_of(kind, size);
}

static void attending(int lie) {
    static const int64_t sizes[] = {64, 128, 32, 96, 80, 16, 24, 2, 1, 256, 320};
    int64_t page = page_columns(), kv = between(1, 3);
    int64_t group = lie == 1 ? block_queries() + between(1, 20) : between(1, block_queries());
    int64_t heads = kv * group, size = sizes[below(11)], width = between(1, 6), runs = between(1, 6);
    int64_t pages = runs * width, prefixes = below(3), block = group > block_queries() ? 1 : block_queries() / group;
    int kind = (int)below(3);
    int deep = (int)below(2); /* in pairs, behind a prefix that ends within a tile: as many own columns as may be */
    if (deep) {
        kind = HALVES, size = sizes[below(4)], width = 6, pages = runs * width, prefixes = 2;
        group = lie == 1 ? group : between(1, 4), heads = kv * group, block = lie == 1 ? 1 : block_queries() / group;
    }
    int64_t unit = kv * page * cell_of(kind, size), *table = room(8 * pages), lengths[2], counts[2];
    const char *far_keys[2], *far_values[2];
    for (int64_t i = 0; i < pages; i++) table[i] = pages - 1 - i;
    for (int64_t i = 0; i < prefixes; i++) {
        lengths[i] = between(1, 200), counts[i] = prefix_of(kind, kv, lengths[i], size); /* more than a chunk */
        far_keys[i] = anything(counts[i], kind), far_values[i] = anything(counts[i], kind);
    }
    draw(runs, width, page, lengths, prefixes, block, 50);
    int64_t *rows = drawn.rows, *firsts = drawn.firsts[0], *lasts = drawn.lasts, *whiches = drawn.whiches;
    int64_t *begins = drawn.begins, *ends = drawn.ends, tokens = drawn.tokens, blocks = drawn.blocks;
    int64_t longest = drawn.longest;
    int64_t t = below(tokens);
    if (lie == 2) rows[t] = below(2) ? runs : -1;
    if (lie == 3) lasts[t] = width * page + between(1, 9);
    if (lie == 4) firsts[t] = below(2) ? lasts[t] + (whiches[t] < 0 ? 0 : lengths[whiches[t]]) : -between(1, 40);
    if (lie == 5) whiches[t] = below(2) ? prefixes : -2;
    if (lie == 6) table[rows[t] * width + (lasts[t] - 1) / page] = below(2) ? pages : -1;
    if (lie == 7) { /* behind a window fewer are enough */
        int windows = 0;
        for (int64_t i = 0; i < tokens; i++) windows |= firsts[i] > 0;
        longest = windows ? 0 : longest - between(1, longest);
    }
    if (lie == 8) ends[below(blocks)] += between(1, 9);
    if (lie == 9) begins[below(blocks)] -= between(1, 9);
    int64_t cells = pages * unit, all = LIE(10, tokens * heads * size), out = LIE(11, tokens * heads * size);
    if (lie == 12) cells -= between(1, unit > 1 ? unit - 1 : 1);
    const char *keys = anything(pages * unit, kind), *values = anything(pages * unit, kind);
    if (lie == 14 && prefixes) counts[0] -= between(1, size);
    int64_t *own[6] = {rows, firsts, lasts, whiches, begins, ends};
    for (int i = 0; i < 6; i++) own[i] = bordered(own[i], i < 4 ? tokens : blocks);
    int tilted = (int)below(2); /* which of the two lies */
    const float *sinks = (lie == 13 && !tilted) || below(2) ? floats(heads) : NULL;
    const float *slopes = (lie == 13 && tilted) || (!deep && below(2)) ? floats(heads) : NULL;
    int64_t sunk = !sinks ? 0 : tilted ? heads : LIE(13, heads), sloped = !slopes ? 0 : tilted ? LIE(13, heads) : heads;
    float cap = below(2) ? 0.0f : 20.0f;
    int code = attend(floats(tokens * heads * size), all, 0.1f, cap, sinks, sunk, slopes, sloped, kind, keys, cells,
                      values, cells, heads, kv, size, table, runs, width, far_keys, far_values, lengths, counts,
                      prefixes, own[0], own[1], own[2], own[3], tokens, own[4], own[5], blocks, longest,
                      floats(tokens * heads * size), out, 2);
    expect("attend", code, lie > 0 && (lie < 14 || prefixes));
}

/* Bits of weights that there is a product of here. */
static int64_t some_bits(void) {
    static const int64_t every[] = {8, 4, 32, 16};
    int64_t bits = every[below(4)];
    return bits < 16 ? gemm_outputs() ? bits : 32 : float_bits(bits) ? bits : 32;
}

/* Inputs that so many bits come in multiples of. */
static int64_t unit_of(int64_t bits) { return bits == 4 ? 32 : 1; }

/* A layer with weights of its own; lie: from 1 to 6. */
static Linear linear(int64_t bits, int paired, int64_t inputs, int64_t outputs, int lie) {
    int64_t panel = bits > 8 ? float_outputs() : gemm_outputs(), half = panel / 2;
    int64_t panels = paired ? ((outputs + 1) / 2 + half - 1) / half : (outputs + panel - 1) / panel;
    int64_t padded = panels * panel, blocks = bits == 8 ? (inputs + 63) / 64 : inputs / 32 * 2;
    int64_t filled = bits == 32 ? inputs : bits == 16 ? (inputs + 1) / 2 * 2 : (inputs + 3) / 4 * 4;
    int64_t numbers = bits > 8 ? 0 : padded, packed = padded * filled * bits / 8, steps = numbers * blocks;
    int bias = lie == 5 || below(2);
    return (Linear){lie == 6 ? 5 : bits,     paired,         inputs,           outputs,
                    room(packed),            LIE(1, packed), room(2 * steps),  LIE(2, steps),
                    floats(numbers),         LIE(3, numbers), floats(numbers), LIE(4, numbers),
                    bias ? floats(padded) : NULL, bias ? LIE(5, padded) : 0};
}

static void product(int lie) {
    int paired = (int)below(2), gated = paired && below(2), norm = (int)below(2), bits = (int)some_bits();
    int64_t inputs = below(9) ? bits == 4 ? 32 * between(1, 4) : between(1, 150) : 256 * between(1, 2);
    int64_t outputs = between(1, 90), rows = between(0, below(4) ? 40 : 290);
    if (bits == 8 && below(2)) inputs = 64 * between(1, 9); /* by tiles, where there are any */
    if (gated) outputs = 2 * ((outputs + 1) / 2);
    int residual = !gated && below(2);
    int64_t out = rows * (gated ? outputs / 2 : outputs);
    if (lie > 10 || !rows || (lie == 7 && !norm) || (lie == 8 && !residual)) lie = 0;
    Linear layer = linear(bits, paired, inputs, outputs, lie);
    int code = packed_linear(&layer, floats(rows * inputs), LIE(9, rows * inputs), norm ? floats(inputs) : NULL,
                             norm ? LIE(7, inputs) : 0, 1e-6f, gated, residual ? floats(rows * outputs) : NULL,
                             residual ? LIE(8, rows * outputs) : 0, rows, floats(out), LIE(10, out), 2);
    expect("packed_linear", code, lie > 0);
    if (lie || paired) return;
    int64_t *places = room(8 * rows), wrong = below(4) == 0;
    code = packed_largest(&layer, floats(rows * inputs), rows * inputs, norm ? floats(inputs) : NULL, norm ? inputs : 0,
                          1e-6f, rows, places, rows + wrong, 2);
    expect("packed_largest", code, wrong);
    for (int64_t i = 0; !wrong && i < rows; i++)
        if (places[i] < -1 || places[i] >= outputs) abort();
}

static void stack(int lie) {
    int64_t page = page_columns(), kv = between(1, 2), heads = kv * between(1, 3), size = 2 * between(1, 20);
    int bits = (int)some_bits(), norms = lie == 5 || below(2);
    int64_t hidden = between(1, 70), inner = between(1, 70), width = between(1, 3), runs = between(1, 4);
    int64_t prefixes = below(3);
    if (bits == 4) hidden = 32 * between(1, 3), inner = 32 * between(1, 3), size = 32;
    int64_t many = between(1, 3), pages = runs * width, *table = room(8 * pages), lengths[2], counts[2];
    int kind = (int)below(3);
    int64_t unit = kv * page * cell_of(kind, size);
    for (int64_t i = 0; i < pages; i++) table[i] = pages - 1 - i;
    const char **keys = room(8 * prefixes * many), **values = room(8 * prefixes * many);
    for (int64_t i = 0; i < prefixes; i++) {
        lengths[i] = between(1, 40), counts[i] = prefix_of(kind, kv, lengths[i], size);
        for (int64_t l = 0; l < many; l++)
            keys[i * many + l] = anything(counts[i], kind), values[i * many + l] = anything(counts[i], kind);
    }
    draw(runs, width, page, lengths, prefixes, block_queries() / (heads / kv), 20);
    int64_t tokens = drawn.tokens, t = below(tokens), bad = below(many);
    Layer *layers = room(many * sizeof(Layer));
    Held *kept = room(many * sizeof(Held));
    for (int64_t i = 0; i < many; i++) {
        int own = i == bad && lie > 20 ? lie - 20 : 0, which = (int)below(4);
        Layer *l = layers + i;
        l->heads = heads, l->kv_heads = kv, l->size = size, l->scale = 0.1f;
        l->qkv = linear(bits, 0, hidden, (heads + 2 * kv) * size, which == 0 ? own : 0);
        l->project = linear(bits, 0, heads * size, hidden, which == 1 ? own : 0);
        l->both = linear(bits, 1, hidden, 2 * inner, which == 2 ? own : 0);
        l->down = linear(bits, 0, inner, hidden, which == 3 ? own : 0);
        l->first = floats(hidden), l->second = floats(hidden), l->first_count = l->second_count = hidden;
        if (norms) l->q_norm = floats(size), l->k_norm = floats(size), l->q_count = l->k_count = size;
        l->first_eps = l->second_eps = l->head_eps = 1e-6f, l->reach = below(2);
        kept[i] = (Held){anything(pages * unit, kind), anything(pages * unit, kind), pages * unit};
    }
    int64_t *slots = room(8 * tokens), *at = room(8 * tokens);
    for (int64_t i = 0; i < tokens; i++) {
        int64_t column = drawn.lasts[i] - 1;
        slots[i] = table[drawn.rows[i] * width + column / page], at[i] = column % page;
    }
    if (lie == 1) layers[bad].first_count--;
    if (lie == 2) layers[bad].second_count += between(1, 9);
    if (lie == 3) layers[bad].qkv.outputs--;
    if (lie == 4) layers[bad].reach = below(2) ? 2 : -1;
    if (lie == 5) layers[bad].k_count--;
    if (lie == 6) kept[bad].count -= below(2) || many == 1 ? 1 : unit;
    if (lie == 7) slots[t] = below(2) ? pages : -1;
    if (lie == 8) at[t] = below(2) ? page : -1;
    if (lie == 9) layers[bad].heads += kv;
    if (lie == 10) layers[bad].both.paired = 0;
    if (lie == 11) drawn.rows[t] = below(2) ? runs : -1;
    if (lie == 12) drawn.whiches[t] = below(2) ? prefixes : -2;
    if (lie == 13) table[drawn.rows[t] * width + (drawn.lasts[t] - 1) / page] = pages;
    if (lie == 14) drawn.firsts[1][t] = -1;
    int64_t longest = drawn.longest, told = lie == 20 && prefixes ? prefixes * many - 1 : prefixes * many;
    if (lie == 20 && !prefixes) lie = 0;
    const int64_t *firsts[2] = {bordered(drawn.firsts[0], tokens), bordered(drawn.firsts[1], tokens)};
    int code = run_layers(layers, many, floats(tokens * hidden), LIE(15, tokens * hidden), tokens, hidden,
                          floats(tokens * size), floats(tokens * size), LIE(16, tokens * size), slots, at,
                          LIE(17, tokens), kind, kept, table, runs, width, keys, values, told, lengths, counts,
                          prefixes, bordered(drawn.rows, tokens), firsts, 2, bordered(drawn.lasts, tokens),
                          bordered(drawn.whiches, tokens), LIE(18, tokens), bordered(drawn.begins, drawn.blocks),
                          bordered(drawn.ends, drawn.blocks), drawn.blocks - (lie == 19), longest, 2);
    expect("run_layers", code, lie > 0);
}

static void mixture(int lie) {
    int64_t many = between(1, 5), bits = some_bits(), unit = unit_of(bits), chosen = between(1, 3);
    int64_t tokens = between(1, 40), choices = tokens * chosen;
    int64_t hidden = unit * between(1, unit == 1 ? 150 : 4), outputs = between(1, 70), bad = below(many);
    Expert *experts = room(sizeof(Expert) * many);
    int64_t *index = room(8 * choices);
    for (int64_t i = 0; i < many; i++) {
        int64_t inner = unit * between(1, unit == 1 ? 90 : 3), own = i == bad ? lie : 0;
        experts[i].up = linear(bits, 1, hidden, 2 * inner, own <= 6 ? own : 0);
        experts[i].down = linear(bits, 0, inner, outputs, own > 6 && own <= 12 ? own - 6 : 0);
    }
    for (int64_t i = 0; i < choices; i++) index[i] = below(many + 1); /* the last one is none */
    if (lie == 13) experts[bad].up.paired = 0;
    if (lie == 14) index[below(choices)] = -1;
    if (lie == 15) chosen = -chosen;
    int code = run_experts(experts, many, index, floats(choices), choices, chosen, floats(tokens * hidden),
                           LIE(16, tokens * hidden), floats(tokens * outputs), LIE(17, tokens * outputs), 2);
    expect("run_experts", code, lie > 0);
}

static void reading(int lie) {
    static const int64_t types[] = {0, 1, 30, 2, 3, 6, 7, 8, 12, 13, 14};
    static const int64_t bytes[] = {4, 2, 2, 18, 20, 22, 24, 34, 144, 176, 210};
    int64_t many = between(1, 3), kind = below(11), block = stored_block(types[kind]), rows = 0;
    int64_t inputs = block * between(1, block == 1 ? 600 : block == 32 ? 20 : 3), bits = below(2) ? 32 : 16;
    int64_t panel = below(2) ? 1 : between(2, 40), count = panel * between(1, 4), bad = below(many), at = below(count);
    Stored *stored = room(sizeof(Stored) * many);
    for (int64_t i = 0; i < many; i++) {
        int64_t own = between(1, 30), all = own * (inputs / block) * bytes[kind];
        uint8_t *raw = room(all);
        for (int64_t b = 0; b < all; b++) raw[b] = (uint8_t)below(256);
        stored[i] = (Stored){types[kind], own, all, raw}, rows += own;
    }
    int64_t *places = room(8 * count), filled = bits == 16 ? (inputs + 1) / 2 * 2 : inputs;
    for (int64_t p = 0; p < count; p++) places[p] = below(rows + 1) - 1;
    if (lie == 1) stored[bad].count--;
    if (lie == 2) stored[bad].rows++;
    if (lie == 3) stored[bad].type = below(2) ? 99 : 16;
    if (lie == 4) places[at] = below(2) ? rows : -2;
    int64_t out = count * filled * bits / 8;
    int code = read_stored(stored, many, places, LIE(5, count), inputs, panel, bits, room(out), LIE(6, out), 2);
    expect("read_stored", code, lie > 0);
}

int main(int argc, char **argv) {
    state = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    int64_t calls = argc > 2 ? atoll(argv[2]) : 1000;
    for (int64_t i = 0; i < calls; i++) {
        int lie = below(2) ? (int)between(1, 14) : 0;
        small(lie), clear();
        setting(lie), clear();
        writing(lie), clear();
        stepping(lie), clear();
        attending(lie), clear();
        product(lie), clear();
        stack(below(2) ? (int)between(1, 26) : 0), clear();
        mixture(below(2) ? (int)between(1, 17) : 0), clear();
        reading(below(2) ? (int)between(1, 6) : 0), clear();
    }
    printf("%lld calls of each\n", (long long)calls);
    return 0;
}
