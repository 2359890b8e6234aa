/* Attention of a step: the blocks of its tokens, and what is checked before any of their memory is touched. */
#include "block.h"
#include "kv_int8.h"
#include "team.h"

int64_t page_columns(void) { return COLUMNS; }
int64_t block_queries(void) { return QUERIES; }

#define DECLARE(GROUP, SIZE) void attend_##GROUP##_##SIZE(const Block *, int, int, float *, float *);
CASES(DECLARE)
void attend_int8(const Block *b, int group, int64_t size, float *scratch, float *out); /* kv_int8.c */

/* The first column that a token sees of its row's own, after `far` ones of a prefix. */
static int64_t own_first(const Places *p, int64_t t, int64_t far) {
    return p->firsts[t] < far ? 0 : p->firsts[t] - far;
}

/* Whether a token's columns lie in its row, and that row's pages in the cache. */
static int token_fits(const Places *p, int64_t t, int64_t far, int64_t from) {
    if (p->rows[t] < 0 || p->rows[t] >= p->table_rows || p->firsts[t] < 0) return 0;
    int64_t first = own_first(p, t, far);
    if (first < from || first >= p->lasts[t] || p->lasts[t] > p->width * COLUMNS) return 0;
    const int64_t *pages = p->table + p->rows[t] * p->width;
    for (int64_t page = from / COLUMNS; page * COLUMNS < p->lasts[t]; page++)
        if (pages[page] < 0 || pages[page] >= p->pages) return 0;
    return 1;
}

static int block_fits(const Places *p, int64_t begin, int64_t end, int64_t group) {
    if (end <= begin || end > p->tokens || (end - begin) * group > QUERIES) return 0;
    int64_t which = p->whiches[begin];
    if (which < -1 || which >= p->prefixes) return 0;
    int64_t far = which < 0 ? 0 : p->prefix_lengths[which];
    int run = end - begin > 1 && p->rows[begin] == p->rows[end - 1];
    for (int64_t t = begin; t < end; t++) {
        int64_t from = own_first(p, run ? begin : t, far) / COLUMNS * COLUMNS;
        if (p->whiches[t] != which || !token_fits(p, t, far, from)) return 0;
        if (run && (p->rows[t] != p->rows[begin] || p->lasts[t] > p->lasts[end - 1])) return 0;
        if (far + p->lasts[t] - from > p->longest) return 0;
    }
    return 1;
}

/* Columns that memory of so many of a prefix has. */
static int64_t columns_of(int kind, int64_t length) {
    return kind == BYTES ? (length + COLUMNS - 1) / COLUMNS * COLUMNS : length;
}

/* Whether a prefix's keys, or its values, have so many elements. */
int prefix_fits(int kind, int64_t length, int64_t count, int64_t kv_heads, int64_t size) {
    if (length <= 0 || length > INT64_MAX - COLUMNS) return 0;
    return count == extent(kv_heads, columns_of(kind, length), cell_of(kind, size));
}

/* Whether blocks hold every token once, and what these see is there. */
int places_fit(const Places *p, int64_t group) {
    for (int64_t i = 0; i < p->blocks; i++)
        REQUIRE(p->begins[i] == (i ? p->ends[i - 1] : 0) && block_fits(p, p->begins[i], p->ends[i], group));
    REQUIRE(p->blocks ? p->ends[p->blocks - 1] == p->tokens : p->tokens == 0);
    return 0;
}

#define LEAST_PAIRED 32 /* elements of a key in pairs.h */
_Static_assert(COLUMNS * QUERIES + CHUNK / 2 * LEAST_PAIRED <= (2 * QUERIES + COLUMNS) * LEAST_PAIRED,
               "a run has a tile's scores, and values in pairs, where others have queries and a tile");

int64_t attend_floats(int64_t longest, int64_t size) {
    int64_t padded = (size + LANES - 1) / LANES * LANES, floats = extent(longest, QUERIES, 1);
    int64_t others = (3 * QUERIES + COLUMNS) * padded, tiled = tiled_floats(size);
    return floats < 0 || floats > INT64_MAX / 16 ? -1 : floats + (others > tiled ? others : tiled);
}

/* Blocks of tokens by KV heads. The head is the outer loop, so that its prefix stays in the processor's cache. */
int64_t attend_tasks(const Attending *a) { return a->places.blocks * a->kv_heads; }

void attend_task(const Attending *a, int64_t task, float *scratch) {
    const Places *p = &a->places;
    int64_t h = task / p->blocks, block = task % p->blocks, begin = p->begins[block], end = p->ends[block];
    int64_t which = p->whiches[begin], size = a->size;
    int64_t group = a->heads / a->kv_heads, column = cell_of(a->kind, size) * bytes_of(a->kind);
    int64_t page = a->kv_heads * COLUMNS * column;
    int64_t at = (begin * a->heads + h * group) * size;
    Block b = {.q = a->q + at, .scale = a->scale, .cap = a->cap, .tokens = end - begin, .stride = a->heads * size};
    b.run = b.tokens > 1 && p->rows[begin] == p->rows[end - 1];
    b.sinks = a->sinks ? a->sinks + h * group : NULL;
    b.slopes = a->slopes ? a->slopes + h * group : NULL;
    int64_t far = which < 0 ? 0 : p->prefix_lengths[which], seen = far; /* what no token sees is not read */
    for (int64_t t = begin; t < end; t++) seen = p->firsts[t] < seen ? p->firsts[t] : seen;
    seen = seen < far ? seen / COLUMNS * COLUMNS : far;
    if (seen < far) {
        int64_t skip = (h * columns_of(a->kind, far) + seen) * column, prefix = which * a->apart;
        b.far = (Part){a->prefix_keys[prefix] + skip, a->prefix_values[prefix] + skip, NULL, 0, far - seen};
    }
    for (int t = 0; t < b.tokens; t++) {
        int64_t first = own_first(p, b.run ? begin : begin + t, far) / COLUMNS;
        int64_t last = p->lasts[b.run ? end - 1 : begin + t], skip = h * COLUMNS * column;
        const int64_t *pages = p->table + p->rows[begin + t] * p->width + first;
        b.near[t] = (Part){a->keys + skip, a->values + skip, pages, page, last - first * COLUMNS};
        b.far_hidden[t] = (p->firsts[begin + t] < far ? p->firsts[begin + t] : far) - seen;
        b.hidden[t] = own_first(p, begin + t, far) - first * COLUMNS;
        b.after[t] = b.run ? last - p->lasts[begin + t] : 0;
        int64_t own = far + p->lasts[begin + t] - 1;
        b.far_from[t] = seen - own, b.near_from[t] = far + first * COLUMNS - own;
    }
    int vectors = b.tokens * group <= LANES ? 1 : VECTORS; /* two of three are too rare to be compiled apart */
    int half = a->kind == HALVES;
    if (a->kind == BYTES) {
        attend_int8(&b, group, size, scratch, a->out + at);
        return;
    }
#define CASE(GROUP, SIZE)                                                                                              \
    if (group == GROUP && size == SIZE) attend_##GROUP##_##SIZE(&b, half, vectors, scratch, a->out + at);              \
    else
    CASES(CASE) if (vectors == 1) attend_block(&b, group, half, size, 1, scratch, a->out + at);
    else attend_block(&b, group, half, size, VECTORS, scratch, a->out + at); /* known, so that sums lie in registers */
}

/* q and out: [tokens, heads, size]. A token sees the shared prefix `which`, -1 for none, and its row's columns after it
 * up to `last`; of both together only those from `first` on. `cap`: 0 for none; `sinks` and `slopes`: [heads] or NULL.
 * Keys and values: [pages, KV heads, COLUMNS, size] of a `kind` (kv_int8.h); row r has the pages table[r · width ...].
 * Prefixes have the shape [KV heads, length, size], in eight bits whole tiles of that. Blocks [begin, end) hold at most QUERIES queries a KV head, all
 * with the same prefix: tokens that stand side by side in one row, or one each of several rows. `longest`: most columns
 * of a row and its prefix. Counts are elements. Returns 0, or as REQUIRE says. */
int attend(const float *q, int64_t q_count, float scale, float cap, const float *sinks, int64_t sinks_count,
           const float *slopes, int64_t slopes_count, int kind, const char *keys, int64_t keys_count,
           const char *values, int64_t values_count, int64_t heads, int64_t kv_heads, int64_t size,
           const int64_t *table, int64_t table_rows, int64_t width, const char *const *prefix_keys,
           const char *const *prefix_values, const int64_t *prefix_lengths, const int64_t *prefix_counts,
           int64_t prefixes, const int64_t *rows, const int64_t *firsts, const int64_t *lasts, const int64_t *whiches,
           int64_t tokens, const int64_t *begins, const int64_t *ends, int64_t blocks, int64_t longest, float *out,
           int64_t out_count, int threads) {
    REQUIRE(threads > 0 && kv_heads > 0 && heads > 0 && heads % kv_heads == 0);
    REQUIRE(size > 0 && size <= LARGEST_HEAD && longest > 0 && width >= 0 && table_rows >= 0);
    REQUIRE(kind >= FLOATS && kind <= BYTES);
    int64_t group = heads / kv_heads, unit = extent(kv_heads, COLUMNS, cell_of(kind, size));
    REQUIRE(group <= QUERIES && unit > 0 && keys_count == values_count && keys_count % unit == 0);
    REQUIRE(cap >= 0 && (sinks ? sinks_count == heads : !sinks_count));
    REQUIRE(slopes ? slopes_count == heads : !slopes_count);
    REQUIRE(q_count == extent(tokens, heads, size) && out_count == q_count);
    for (int64_t i = 0; i < prefixes; i++)
        REQUIRE(prefix_fits(kind, prefix_lengths[i], prefix_counts[i], kv_heads, size));
    Places places = {table, table_rows, width,   keys_count / unit, prefix_lengths, prefixes, rows,   firsts,
                     lasts, whiches,    tokens,  begins,            ends,           blocks,   longest};
    int unfit = places_fit(&places, group);
    if (unfit) return unfit;
    int64_t floats = attend_floats(longest, size);
    REQUIRE(floats >= 0 && floats < INT64_MAX / 8 / threads);
    float *memory = malloc(sizeof(float) * floats * threads);
    if (!memory) return NO_MEMORY;
    Attending a = {places, q,    sinks,  slopes,      out,           scale, cap,   kind,
                   keys,   values, prefix_keys, prefix_values, 1,     heads, kv_heads, size};
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t task = 0; task < attend_tasks(&a); task++) attend_task(&a, task, memory + floats * THREAD);
    free(memory);
    return 0;
}
