/* Drives the kernels over random shapes, with memory of exactly the size that they are told: under a sanitizer, any
 * read or write beyond it ends the program. Half of the calls lie about one size or index, and must be refused.
 *
 *     fuzz SEED CALLS
 */
#include "kernels.h"
#include <stdio.h>

int64_t page_columns(void), block_queries(void), gemm_outputs(void);
int rms_norm(const float *, int64_t, const float *, int64_t, float *, int64_t, float, int);
int swiglu(const float *, int64_t, int64_t, float *, int64_t, int);
int quantise(const float *, int64_t, uint8_t *, int64_t, float *, int64_t, int);
int rescale(float *, int64_t, const float *, int64_t, const float *, int64_t, int);
int largest(const float *, int64_t, int64_t *, int64_t, int);
int attend(const float *, int64_t, float, float, const float *, int64_t, int, const char *, int64_t, const char *,
           int64_t, int64_t, int64_t, int64_t, const int64_t *, int64_t, int64_t, const char *const *,
           const char *const *, const int64_t *, const int64_t *, int64_t, const int64_t *, const int64_t *,
           const int64_t *, const int64_t *, int64_t, const int64_t *, const int64_t *, int64_t, int64_t, float *,
           int64_t, int);
int set_f32(const float *, int64_t, const float *, const float *, int64_t, float, const float *, const float *, int64_t,
            const int64_t *, const int64_t *, int64_t, float *, int64_t, float *, float *, int64_t, int64_t, int64_t,
            int64_t, int64_t, int);
int set_bf16(const float *, int64_t, const float *, const float *, int64_t, float, const float *, const float *,
             int64_t, const int64_t *, const int64_t *, int64_t, float *, int64_t, bf16 *, bf16 *, int64_t, int64_t,
             int64_t, int64_t, int64_t, int);
int packed_linear(int, const uint8_t *, int64_t, const uint16_t *, int64_t, const float *, int64_t, const float *, int64_t,
                  const float *, int64_t, int64_t, int64_t, const float *, int64_t, const float *, int64_t, float, int, int,
                  const float *, int64_t, int64_t, uint8_t *, int64_t, float *, int64_t, float *, int64_t, int);

static uint64_t state;
static int64_t below(int64_t n) { /* splitmix64 */
    uint64_t z = state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return (int64_t)((z ^ z >> 31) % (uint64_t)n);
}
static int64_t between(int64_t low, int64_t high) { return low + below(high - low + 1); }

static void *held[64];
static int count;
static void *room(int64_t bytes) { /* a malloc of its own for each, so that each has its borders */
    uint8_t *made = malloc(bytes > 0 ? bytes : 1);
    for (int64_t i = 0; i < bytes; i++) made[i] = 0;
    return held[count++] = made;
}
static float *floats(int64_t n) {
    float *made = room(4 * n);
    for (int64_t i = 0; i < n; i++) made[i] = (float)between(-1000, 1000) / (below(40) ? 256 : 1); /* a few large */
    return made;
}
static void clear(void) {
    while (count) free(held[--count]);
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
    expect("quantise", quantise(floats(rows * n), rows * n, room(rows * n), LIE(1, rows * n), floats(rows), rows, 2),
           lie == 1);
    expect("rescale", rescale(floats(rows * n), rows * n, floats(rows), rows, floats(n), LIE(1, n), 2), lie == 1);
    expect("largest", largest(floats(rows * n), rows * n, room(8 * rows), lie == 1 ? -rows : rows, 2), lie == 1);
}

static void setting(int lie) {
    int64_t kv = between(1, 4), heads = kv * between(1, 5), size = 2 * between(1, 40), tokens = between(1, 9);
    int64_t pages = between(1, 5), columns = between(1, 33), width = (heads + 2 * kv) * size;
    int half = (int)below(2), norm = (int)below(2);
    int64_t *slots = room(8 * tokens), *at = room(8 * tokens), cells = pages * kv * columns * size;
    for (int64_t t = 0; t < tokens; t++) slots[t] = below(pages), at[t] = below(columns);
    if (lie == 1) slots[below(tokens)] = below(2) ? pages : -1;
    if (lie == 2) at[below(tokens)] = below(2) ? columns : -1;
    const float *a = norm ? floats(size) : NULL, *b = norm ? floats(size) : NULL;
    const float *qkv = floats(tokens * width), *cosine = floats(tokens * size), *sine = floats(tokens * size);
    int64_t rotary = LIE(3, tokens * size), q = LIE(4, tokens * heads * size), all = LIE(5, tokens * width);
    float *to = floats(tokens * heads * size);
    void *keys = room(cells * (half ? 2 : 4)), *values = room(cells * (half ? 2 : 4));
    int code = half ? set_bf16(qkv, all, a, b, size, 1e-6f, cosine, sine, rotary, slots, at, tokens, to, q, keys, values,
                               cells, heads, kv, size, columns, 2)
                    : set_f32(qkv, all, a, b, size, 1e-6f, cosine, sine, rotary, slots, at, tokens, to, q, keys, values,
                              cells, heads, kv, size, columns, 2);
    expect("set_cache", code, lie > 0 && lie < 6);
}

static void attending(int lie) {
    static const int64_t sizes[] = {64, 128, 32, 96, 80, 16, 24, 2, 1, 256, 320};
    int64_t page = page_columns(), kv = between(1, 3), group = lie == 1 ? block_queries() + between(1, 20) : between(1, 32);
    int64_t heads = kv * group, size = sizes[below(11)], width = between(1, 4), runs = between(1, 6);
    int64_t pages = runs * width, prefixes = below(3), block = group > block_queries() ? 1 : block_queries() / group;
    int half = (int)below(2), bytes = half ? 2 : 4;
    int64_t unit = kv * page * size, *table = room(8 * pages), lengths[2], counts[2];
    const char *far_keys[2], *far_values[2];
    for (int64_t i = 0; i < pages; i++) table[i] = pages - 1 - i;
    for (int64_t i = 0; i < prefixes; i++) {
        lengths[i] = between(1, 70), counts[i] = kv * lengths[i] * size;
        far_keys[i] = room(counts[i] * bytes), far_values[i] = room(counts[i] * bytes);
    }
    static int64_t rows[512], firsts[512], lasts[512], whiches[512], begins[512], ends[512];
    int64_t tokens = 0, blocks = 0, longest = 1, shared = below(prefixes + 1) - 1;
    for (int64_t r = 0; r < runs; r++) {
        int64_t new = below(2) ? 1 : between(1, width * page < 50 ? width * page : 50);
        int64_t before = below(width * page - new + 1), window = below(2) ? 1000 : between(1, 40);
        int64_t which = below(2) ? shared : below(prefixes + 1) - 1, begin = tokens;
        for (int64_t i = 0; i < new; i++, tokens++) {
            rows[tokens] = r, lasts[tokens] = before + i + 1, whiches[tokens] = which;
            int64_t sees = lasts[tokens] + (which < 0 ? 0 : lengths[which]);
            firsts[tokens] = sees > window ? sees - window : 0;
            longest = sees > longest ? sees : longest;
        }
        if (new == 1 && blocks && ends[blocks - 1] - begins[blocks - 1] < block && whiches[begin - 1] == which &&
            (begins[blocks - 1] + 1 == begin || rows[begins[blocks - 1]] != rows[begin - 1])) {
            ends[blocks - 1]++;
            continue;
        }
        for (; begin < tokens; begin += block, blocks++)
            begins[blocks] = begin, ends[blocks] = begin + block < tokens ? begin + block : tokens;
    }
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
    const char *keys = room(pages * unit * bytes), *values = room(pages * unit * bytes);
    int64_t *own[6] = {rows, firsts, lasts, whiches, begins, ends};
    for (int i = 0; i < 6; i++) { /* with borders */
        int64_t n = i < 4 ? tokens : blocks;
        own[i] = memcpy(room(8 * n), own[i], 8 * n);
    }
    const float *sinks = lie == 13 || below(2) ? floats(heads) : NULL;
    int64_t sunk = sinks ? LIE(13, heads) : 0;
    float cap = below(2) ? 0.0f : 20.0f;
    int code = attend(floats(tokens * heads * size), all, 0.1f, cap, sinks, sunk, half, keys, cells, values, cells,
                      heads, kv, size, table, runs, width, far_keys, far_values, lengths, counts, prefixes, own[0],
                      own[1], own[2], own[3], tokens, own[4], own[5], blocks, longest,
                      floats(tokens * heads * size), out, 2);
    expect("attend", code, lie > 0 && lie < 14);
}

static void product(int lie) {
    int64_t panel = gemm_outputs();
    if (!panel) return;
    int paired = (int)below(2), gated = paired && below(2), bias = (int)below(2), norm = (int)below(2);
    int bits = below(2) ? 8 : 4;
    int64_t inputs = bits == 8 ? between(1, 150) : 32 * between(1, 4), outputs = between(1, 90), rows = between(0, 40);
    int64_t stride = (inputs + 3) / 4 * 4, blocks = bits == 8 ? (inputs + 63) / 64 : inputs / 32 * 2;
    if (gated) outputs = 2 * ((outputs + 1) / 2);
    int64_t panels = paired ? ((outputs + 1) / 2 + 15) / 16 : (outputs + panel - 1) / panel, padded = panels * panel;
    int residual = !gated && below(2);
    int64_t out = rows * (gated ? outputs / 2 : outputs);
    if (!rows || (lie == 4 && !norm) || (lie == 5 && !residual) || (lie == 6 && !bias)) lie = 0;
    int64_t packed = padded * stride * bits / 8, steps = padded * blocks;
    int code = packed_linear(lie == 12 ? 5 : bits, room(packed), LIE(1, packed), room(2 * steps), LIE(11, steps),
                             floats(padded), LIE(2, padded), floats(padded), LIE(3, padded),
                             bias ? floats(padded) : NULL, bias ? LIE(6, padded) : 0, inputs, outputs,
                             floats(rows * inputs), LIE(7, rows * inputs), norm ? floats(inputs) : NULL,
                             norm ? LIE(4, inputs) : 0, 1e-6f, paired, gated, residual ? floats(rows * outputs) : NULL,
                             residual ? LIE(5, rows * outputs) : 0, rows, room(rows * stride),
                             lie == 8 ? rows * stride - 1 : rows * stride, floats(rows), lie == 9 ? rows - 1 : rows,
                             floats(out), LIE(10, out), 2);
    expect("packed_linear", code, lie > 0 && lie < 13);
}

int main(int argc, char **argv) {
    state = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    int64_t calls = argc > 2 ? atoll(argv[2]) : 1000;
    for (int64_t i = 0; i < calls; i++) {
        int lie = below(2) ? (int)between(1, 13) : 0;
        small(lie), clear();
        setting(lie), clear();
        attending(lie), clear();
        product(lie), clear();
    }
    printf("%lld calls of each\n", (long long)calls);
    return 0;
}
