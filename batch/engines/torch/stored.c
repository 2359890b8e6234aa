/* Weights as files have them to floats, straight into the order in which a product reads them.
 *
 * Blocks are those of ggml (ggml-common.h there says how they lie, gguf-py's quants.py computes the same numbers). Every
 * number here is exact, or rounded once, so that it is the same to the last bit however a compiler puts it together. */
#include "kernels.h"

#define CHUNK 256 /* inputs at a time: a multiple of every block */
#define APART (CHUNK + 16) /* floats from row to row, which would else share their few places in the first cache */
#define MOST_PANEL 64

/* Rows of one tensor, one after the other. */
typedef struct {
    int64_t type, rows, count; /* type: its number in ggml; count: bytes */
    const uint8_t *raw;
} Stored;

typedef void Decode(const uint8_t *from, float *to); /* a block */

typedef struct {
    int64_t type, inputs, bytes; /* of a block */
    Decode *decode;
} Kind;

static inline float half(const uint8_t *from) {
    uint16_t bits;
    memcpy(&bits, from, 2);
    uint32_t size = (uint32_t)(bits & 0x7fff) << 13, whole;
    float value;
    memcpy(&value, &size, 4);
    value *= 0x1p112f; /* the other exponent's beginning, also of numbers below the least whole one */
    memcpy(&whole, &value, 4);
    if (size >= 0x0f800000) whole = size + 0x70000000; /* infinity, and what is no number */
    whole |= (uint32_t)(bits & 0x8000) << 16;
    memcpy(&value, &whole, 4);
    return value;
}

static void f32(const uint8_t *from, float *to) { memcpy(to, from, 32 * sizeof(float)); }
static void f16(const uint8_t *from, float *to) {
    for (int i = 0; i < 32; i++) to[i] = half(from + 2 * i);
}
static void brain(const uint8_t *from, float *to) {
    for (int i = 0; i < 32; i++) {
        bf16 bits;
        memcpy(&bits, from + 2 * i, 2);
        to[i] = from_bf16(bits);
    }
}

static void q4_0(const uint8_t *from, float *to) {
    float step = half(from);
    for (int i = 0; i < 16; i++) {
        to[i] = (float)((from[2 + i] & 15) - 8) * step;
        to[16 + i] = (float)((from[2 + i] >> 4) - 8) * step;
    }
}
static void q4_1(const uint8_t *from, float *to) {
    float step = half(from), least = half(from + 2);
    for (int i = 0; i < 16; i++) {
        to[i] = (float)(from[4 + i] & 15) * step + least;
        to[16 + i] = (float)(from[4 + i] >> 4) * step + least;
    }
}
/* Numbers of five bits: four of each in `low`, two a byte, the fifth ones in `high`. */
static inline void five(const uint8_t *high, const uint8_t *low, int *to) {
    uint32_t bits;
    memcpy(&bits, high, 4);
    for (int i = 0; i < 16; i++) {
        to[i] = (low[i] & 15) | (int)(bits >> i & 1) << 4;
        to[16 + i] = low[i] >> 4 | (int)(bits >> (16 + i) & 1) << 4;
    }
}
static void q5_0(const uint8_t *from, float *to) {
    int q[32];
    float step = half(from);
    five(from + 2, from + 6, q);
    for (int i = 0; i < 32; i++) to[i] = (float)(q[i] - 16) * step;
}
static void q5_1(const uint8_t *from, float *to) {
    int q[32];
    float step = half(from), least = half(from + 2);
    five(from + 4, from + 8, q);
    for (int i = 0; i < 32; i++) to[i] = (float)q[i] * step + least;
}
static void q8_0(const uint8_t *from, float *to) {
    float step = half(from);
    for (int i = 0; i < 32; i++) to[i] = (float)(int8_t)from[2 + i] * step;
}

/* The scale and the least of group j of 8, six bits each, of twelve bytes. */
static inline void six(const uint8_t *packed, int j, int *scale, int *least) {
    if (j < 4) *scale = packed[j] & 63, *least = packed[j + 4] & 63;
    else *scale = (packed[j + 4] & 15) | packed[j - 4] >> 6 << 4, *least = packed[j + 4] >> 4 | packed[j] >> 6 << 4;
}
/* Eight groups of 32; `high`: the fifth bits of Q5_K, or NULL. */
static inline void groups(const uint8_t *from, const uint8_t *high, const uint8_t *low, float *to) {
    float step = half(from), fall = half(from + 2);
    for (int j = 0; j < 8; j++) {
        int scale, least;
        six(from + 4, j, &scale, &least);
        float own = step * (float)scale, below = fall * (float)least;
        for (int i = 0; i < 32; i++) {
            int q = low[j / 2 * 32 + i] >> (j % 2 * 4) & 15;
            if (high) q |= (high[i] >> j & 1) << 4;
            to[j * 32 + i] = own * (float)q - below;
        }
    }
}
static void q4_k(const uint8_t *from, float *to) { groups(from, NULL, from + 16, to); }
static void q5_k(const uint8_t *from, float *to) { groups(from, from + 16, from + 48, to); }
static void q6_k(const uint8_t *from, float *to) {
    const uint8_t *low = from, *high = from + 128;
    const int8_t *scales = (const int8_t *)from + 192;
    float step = half(from + 208);
    for (int j = 0; j < 8; j++) /* of 32, four from the same bytes */
        for (int i = 0; i < 32; i++) {
            int four = low[j / 4 * 64 + j % 2 * 32 + i] >> (j % 4 / 2 * 4) & 15;
            int two = high[j / 4 * 32 + i] >> (j % 4 * 2) & 3;
            float own = step * (float)scales[j * 2 + i / 16];
            to[j * 32 + i] = own * (float)((four | two << 4) - 32);
        }
}

/* Those whose rows may end anywhere stand first: they are read by 32, and what is left one by one. */
static const Kind KINDS[] = {{0, 1, 4, f32},     {1, 1, 2, f16},     {30, 1, 2, brain},    {2, 32, 18, q4_0},
                             {3, 32, 20, q4_1},  {6, 32, 22, q5_0},  {7, 32, 24, q5_1},    {8, 32, 34, q8_0},
                             {12, 256, 144, q4_k}, {13, 256, 176, q5_k}, {14, 256, 210, q6_k}};

static const Kind *kind_of(int64_t type) {
    for (size_t i = 0; i < sizeof(KINDS) / sizeof(*KINDS); i++)
        if (KINDS[i].type == type) return KINDS + i;
    return NULL;
}

/* Inputs of a block of a type; 0 where it is not known here. */
int64_t stored_block(int64_t type) {
    const Kind *kind = kind_of(type);
    return kind ? kind->inputs : 0;
}

/* Inputs [first, first + count) of a row; first is a multiple of CHUNK. */
static void decode_row(const Kind *kind, const uint8_t *row, int64_t first, int64_t count, float *to) {
    const uint8_t *from = row + first / kind->inputs * kind->bytes;
    if (kind->inputs > 1) {
        for (int64_t i = 0; i < count; i += kind->inputs, from += kind->bytes) kind->decode(from, to + i);
        return;
    }
    int64_t whole = count / 32 * 32;
    for (int64_t i = 0; i < whole; i += 32) kind->decode(from + i * kind->bytes, to + i);
    if (whole == count) return;
    uint8_t rest[32 * 4] = {0};
    float last[32];
    memcpy(rest, from + whole * kind->bytes, (count - whole) * kind->bytes);
    kind->decode(rest, last);
    memcpy(to + whole, last, (count - whole) * sizeof(float));
}

/* The rows of a panel, from one of which `chunk` has so many inputs from `first` on, to their places. */
static void put_panel(const float *chunk, int64_t first, int64_t count, int64_t panel, int64_t bits, uint8_t *to) {
    if (bits == 32) {
        float *out = (float *)to + first * panel;
        for (int64_t i = 0; i < count; i++)
            for (int64_t r = 0; r < panel; r++) out[i * panel + r] = chunk[r * APART + i];
        return;
    }
    bf16 *out = (bf16 *)to + first * panel; /* pairs of inputs */
    for (int64_t i = 0; i < count; i += 2)
        for (int64_t r = 0; r < panel; r++) {
            out[i * panel + r * 2] = to_bf16(chunk[r * APART + i]);
            out[i * panel + r * 2 + 1] = i + 1 < count ? to_bf16(chunk[r * APART + i + 1]) : 0;
        }
}

/* out = rows of tensors in panels: of 32 bits [places / panel, inputs, panel], of 16 [places / panel, inputs / 2, panel,
 * 2], bfloat16. places: for each output the number of its row through all tensors, or -1, for zeros. With a panel of
 * one output this is the usual order. Returns 0, or as REQUIRE says. */
int read_stored(const Stored *stored, int64_t count, const int64_t *places, int64_t places_count, int64_t inputs,
                int64_t panel, int64_t bits, uint8_t *out, int64_t out_count, int threads) {
    REQUIRE(threads > 0 && count > 0 && inputs > 0 && inputs < 1 << 30 && (bits == 32 || bits == 16));
    REQUIRE(panel > 0 && panel <= MOST_PANEL && places_count >= 0 && places_count % panel == 0);
    int64_t filled = bits == 16 ? (inputs + 1) / 2 * 2 : inputs, rows = 0;
    REQUIRE(out_count == extent(places_count, filled, bits / 8));
    for (int64_t s = 0; s < count; s++) {
        const Kind *kind = kind_of(stored[s].type);
        REQUIRE(kind && inputs % kind->inputs == 0 && stored[s].rows >= 0);
        REQUIRE(stored[s].count == extent(stored[s].rows, inputs / kind->inputs, kind->bytes));
        REQUIRE(!__builtin_add_overflow(rows, stored[s].rows, &rows));
    }
    for (int64_t p = 0; p < places_count; p++) REQUIRE(places[p] >= -1 && places[p] < rows);
#pragma omp parallel for num_threads(threads) if (places_count * inputs > SMALL)
    for (int64_t p = 0; p < places_count / panel; p++) {
        float chunk[MOST_PANEL * APART];
        uint8_t *to = out + p * panel * filled * (bits / 8);
        for (int64_t first = 0; first < inputs; first += CHUNK) {
            int64_t some = inputs - first < CHUNK ? inputs - first : CHUNK;
            for (int64_t r = 0; r < panel; r++) {
                int64_t row = places[p * panel + r], s = 0;
                float *own = bits == 32 && panel == 1 ? (float *)to + first : chunk + r * APART;
                if (row < 0) {
                    memset(own, 0, some * sizeof(float));
                    continue;
                }
                while (row >= stored[s].rows) row -= stored[s++].rows;
                const Kind *kind = kind_of(stored[s].type);
                decode_row(kind, stored[s].raw + row * (inputs / kind->inputs) * kind->bytes, first, some, own);
            }
            if (bits == 16 || panel > 1) put_panel(chunk, first, some, panel, bits, to);
        }
    }
    return 0;
}
