/* Attention of a run over a cache in bfloat16, by tiles (AMX): as in run_pairs.h, but that products of 16 x 16 x 32 are
 * one instruction each, so that the softmax takes as long as they do.
 *
 * Keys are rows as they lie in the cache. What is added up of values stands upright, [size, lanes], as the shares do;
 * values are turned for that, once for all lanes of a block. Shares are made as bfloat16 at once: a score in powers of
 * two, a whole number of STEPS-ths of one above the least, has their bits but for what its fraction is to be bent by,
 * and all of that is arithmetic of 16 bits. They lie between 2^-127 and 2; the sum that they are divided by is made of
 * the rounded ones, by tiles too.
 */
#if HAS_TILES && defined(__AVX512BF16__)
#define STEPS 512         /* of a power of two */
#define BELOW 60          /* powers of two that a base lies above the largest score when it is set */
#define LOWEST 126.5f     /* that a hidden score lies below a base: less than the least share, and taken as 0 */
#define MAGIC 12582912.0f /* beside it floats are whole numbers, and lie in their lower bits */
#define MAGIC_BITS 0x4b40
#define BENT_FIRST 153 /* 2^f = 1 + f - f (1 - f) (a + b f): in STEPS, and fitted together with what rounds it */
#define BENT_SECOND 44
#define ROUND 2
#define WIDE 32 /* lanes that are gone through together: what they have fits the first cache */
#define SUBS ((QUERIES + WIDE - 1) / WIDE)
#ifndef SEQUENCE
#define SEQUENCE 2 /* tiles of columns that each of them goes through before the next ones do */
#endif

/* Lanes of a run, upright: [.., WIDE]. */
typedef struct {
    _Alignas(64) float base[WIDE], total[WIDE];
    float *sums;       /* [size, WIDE] */
    uint32_t *upright; /* queries, [size / 2, WIDE], in pairs */
    int wide, unset;   /* more than half of them; some that have seen nothing yet */
} Lanes;

/* Tiles 0 to 3 are sums, 4 is rows, 5 is lanes; 6 and 7 are sums and rows of one row. */
static void set_run_tiles(void) {
    Tiles tiles = {.palette = 1};
    for (int i = 0; i < 8; i++) tiles.rows[i] = i < 6 ? 16 : 1, tiles.width[i] = 64;
    load_config(&tiles);
}

/* Tiles 0 to 3 += 32 rows, `stride` bytes apart, of 32 numbers · 32 lanes of those. */
INLINE void multiply(const Lanes *l, const char *rows, int64_t stride, const uint32_t *upright) {
    load_tile(4, rows, stride);
    load_tile(5, upright, 4 * WIDE);
    _tile_dpbf16ps(0, 4, 5);
    if (l->wide) {
        load_tile(5, upright + 16, 4 * WIDE);
        _tile_dpbf16ps(1, 4, 5);
        load_tile(4, rows + 16 * stride, stride);
        _tile_dpbf16ps(3, 4, 5);
        load_tile(5, upright, 4 * WIDE);
    } else load_tile(4, rows + 16 * stride, stride);
    _tile_dpbf16ps(2, 4, 5);
}

INLINE void store_sums(const Lanes *l, float *to) {
    _tile_stored(0, to, 4 * WIDE);
    _tile_stored(2, to + 16 * WIDE, 4 * WIDE);
    if (l->wide) {
        _tile_stored(1, to + 16, 4 * WIDE);
        _tile_stored(3, to + 16 * WIDE + 16, 4 * WIDE);
    }
}

/* Scores [COLUMNS, WIDE] of keys [COLUMNS, size]. */
INLINE void score_lanes(const Lanes *l, const bf16 *keys, int size, float *scores) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int i = 0; i < size; i += 32)
        multiply(l, (const char *)(keys + i), 2 * size, l->upright + i / 2 * WIDE);
    store_sums(l, scores);
}

/* Values [tiles, size, COLUMNS] are added up by their shares [tiles, COLUMNS / 2, WIDE]: 32 elements from i on. */
INLINE void add_values(const Lanes *l, const uint32_t *shares, const bf16 *values, int tiles, int size, int i) {
    float *sums = l->sums + i * WIDE;
    values += i * COLUMNS;
    load_tile(0, sums, 4 * WIDE);
    load_tile(2, sums + 16 * WIDE, 4 * WIDE);
    if (l->wide) {
        load_tile(1, sums + 16, 4 * WIDE);
        load_tile(3, sums + 16 * WIDE + 16, 4 * WIDE);
    }
    for (int t = 0; t < tiles; t++, values += size * COLUMNS, shares += COLUMNS / 2 * WIDE)
        multiply(l, (const char *)values, 2 * COLUMNS, shares);
    store_sums(l, sums);
}

/* Shares are added up themselves. */
INLINE void add_shares(Lanes *l, const uint32_t *shares, int tiles) {
    static const _Alignas(64) bf16 ones[32] = {[0 ... 31] = 0x3f80};
    load_tile(7, ones, 64);
    for (int j = 0; j < (l->wide ? 32 : 16); j += 16) {
        load_tile(6, l->total + j, 64);
        for (int t = 0; t < tiles; t++) {
            load_tile(5, shares + t * (COLUMNS / 2) * WIDE + j, 4 * WIDE);
            _tile_dpbf16ps(6, 7, 5);
        }
        _tile_stored(6, l->total + j, 64);
    }
}

/* Values [COLUMNS, size] upright, [size, COLUMNS]: 8 x 8 of them in each quarter of a vector. */
static void turn_values(const bf16 *values, int size, bf16 *to) {
    for (int i = 0; i < size; i += 8) {
        __m512i a[8], b[8];
        for (int r = 0; r < 8; r++) {
            const bf16 *from = values + r * size + i;
            a[r] = _mm512_castsi128_si512(_mm_loadu_si128((const void *)from));
            a[r] = _mm512_mask_broadcast_i32x4(a[r], 0x00f0, _mm_loadu_si128((const void *)(from + 8 * size)));
            a[r] = _mm512_mask_broadcast_i32x4(a[r], 0x0f00, _mm_loadu_si128((const void *)(from + 16 * size)));
            a[r] = _mm512_mask_broadcast_i32x4(a[r], 0xf000, _mm_loadu_si128((const void *)(from + 24 * size)));
        }
        for (int r = 0; r < 4; r++) {
            b[2 * r] = _mm512_unpacklo_epi16(a[2 * r], a[2 * r + 1]);
            b[2 * r + 1] = _mm512_unpackhi_epi16(a[2 * r], a[2 * r + 1]);
        }
        for (int r = 0; r < 8; r += 4)
            for (int h = 0; h < 2; h++) {
                a[r + 2 * h] = _mm512_unpacklo_epi32(b[r + h], b[r + h + 2]);
                a[r + 2 * h + 1] = _mm512_unpackhi_epi32(b[r + h], b[r + h + 2]);
            }
        for (int r = 0; r < 4; r++) {
            _mm512_store_si512(to + (i + 2 * r) * COLUMNS, _mm512_unpacklo_epi64(a[r], a[r + 4]));
            _mm512_store_si512(to + (i + 2 * r + 1) * COLUMNS, _mm512_unpackhi_epi64(a[r], a[r + 4]));
        }
    }
}

/* 16 x 16 numbers of 32 bits, rows to columns. */
INLINE void turn(__m512i *x) {
    __m512i y[16];
    for (int i = 0; i < 16; i += 2)
        y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]), y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    for (int i = 0; i < 16; i += 4)
        for (int h = 0; h < 2; h++) {
            x[i + 2 * h] = _mm512_unpacklo_epi64(y[i + h], y[i + h + 2]);
            x[i + 2 * h + 1] = _mm512_unpackhi_epi64(y[i + h], y[i + h + 2]);
        }
    for (int i = 0; i < 4; i++)
        for (int h = 0; h < 16; h += 8) {
            y[i + h] = _mm512_shuffle_i32x4(x[i + h], x[i + h + 4], 0x88);
            y[i + h + 4] = _mm512_shuffle_i32x4(x[i + h], x[i + h + 4], 0xdd);
        }
    for (int i = 0; i < 8; i++) {
        x[i] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0x88);
        x[i + 8] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0xdd);
    }
}

/* Queries times their scale, in pairs; lanes without a query are zero. */
static void stand_up(const Block *b, int group, int from, int size, Lanes *l) {
    __m512 scale = _mm512_set1_ps(b->scale);
    int queries = b->tokens * group - from;
    for (int j = 0; j < WIDE; j += 16)
        for (int i = 0; i < size; i += 32) {
            __m512i x[16];
            for (int r = 0; r < 16; r++) {
                const float *q = b->q + (from + j + r) / group * b->stride + (from + j + r) % group * size + i;
                x[r] = _mm512_setzero_si512();
                if (j + r < queries)
                    x[r] = (__m512i)_mm512_cvtne2ps_pbh(_mm512_mul_ps(_mm512_loadu_ps(q + 16), scale),
                                                        _mm512_mul_ps(_mm512_loadu_ps(q), scale));
            }
            turn(x);
            for (int r = 0; r < 16; r++) _mm512_store_si512(l->upright + (i / 2 + r) * WIDE + j, x[r]);
        }
}

/* What was added up, divided, in rows. */
static void lie_down(const Block *b, int group, int from, int size, const Lanes *l, float *out) {
    int queries = b->tokens * group - from;
    for (int j = 0; j < (l->wide ? 32 : 16); j += 16) {
        __m512 scale = _mm512_div_ps(_mm512_set1_ps(1), _mm512_load_ps(l->total + j));
        for (int i = 0; i < size; i += 16) {
            __m512i x[16];
            for (int r = 0; r < 16; r++)
                x[r] = _mm512_castps_si512(_mm512_mul_ps(_mm512_load_ps(l->sums + (i + r) * WIDE + j), scale));
            turn(x);
            for (int r = 0; r < 16 && j + r < queries; r++)
                _mm512_storeu_si512(
                    out + (from + j + r) / group * b->stride + (from + j + r) % group * size + i, x[r]);
        }
    }
}

/* Shares of 16 lanes from j on; which of them have none, as a score lies too far above the base, or is no number. */
INLINE uint32_t share_some(const Lanes *l, int j, const float *scores, uint32_t *to) {
    const __m512i upper = _mm512_broadcast_i32x4(_mm_setr_epi32(0x01008080, 0x05048080, 0x09088080, 0x0d0c8080));
    const __m512i first_bent = _mm512_set1_epi16(BENT_FIRST), second_bent = _mm512_set1_epi16(BENT_SECOND);
    const __m512i usual = _mm512_set1_epi32(MAGIC_BITS << 16), ones = _mm512_set1_epi32(-1);
    const __m512 unit = _mm512_set1_ps(STEPS * LOG2E);
    __m512 base = _mm512_load_ps(l->base + j);
    base = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(base, _mm512_set1_ps(-INFINITY), _CMP_NEQ_UQ), base);
    __m512 least = _mm512_mul_ps(_mm512_sub_ps(base, _mm512_set1_ps(LOWEST)), _mm512_set1_ps(1 / LOG2E));
    __m512 shift = _mm512_fnmadd_ps(base, _mm512_set1_ps(STEPS), _mm512_set1_ps(MAGIC + 127 * STEPS + ROUND));
    __m512i all = usual;
#pragma GCC unroll 4
    for (int c = 0; c < COLUMNS; c += 2) {
        __m512 one = _mm512_max_ps(least, _mm512_load_ps(scores + c * WIDE + j));
        __m512 two = _mm512_max_ps(least, _mm512_load_ps(scores + (c + 1) * WIDE + j));
        __m512i a = _mm512_castps_si512(_mm512_fmadd_ps(one, unit, shift));
        __m512i b = _mm512_castps_si512(_mm512_fmadd_ps(two, unit, shift));
        all = _mm512_ternarylogic_epi32(all, a, b, 0xfe); /* or */
        __m512i steps = _mm512_mask_shuffle_epi8(a, 0xccccccccccccccccull, b, upper);
        __m512i f = _mm512_slli_epi16(steps, 7), less = _mm512_mulhi_epu16(f, _mm512_xor_si512(f, ones));
        __m512i bent = _mm512_add_epi16(_mm512_mulhi_epu16(f, second_bent), first_bent);
        steps = _mm512_sub_epi16(steps, _mm512_mulhi_epu16(less, bent));
        _mm512_store_si512(to + c / 2 * WIDE + j, _mm512_srli_epi16(steps, 2));
    }
    return _mm512_cmpneq_epi32_mask(_mm512_and_si512(all, _mm512_slli_epi32(ones, 16)), usual);
}

INLINE uint32_t share_all(const Lanes *l, const float *scores, uint32_t *to) {
    uint32_t high = share_some(l, 0, scores, to);
    return l->wide ? high | share_some(l, 16, scores, to) << 16 : high;
}

/* Set the bases anew of lanes whose scores lie too far above them (`high`), or are the first they see. */
static __attribute__((noinline)) void raise_lanes(Lanes *l, uint32_t high, const float *scores, int size) {
    const __m512 none = _mm512_set1_ps(-INFINITY), one = _mm512_set1_ps(1);
    l->unset = 0;
    for (int j = 0; j < (l->wide ? 32 : 16); j += 16, high >>= 16) {
        __m512 most = none, before = _mm512_load_ps(l->base + j), broken = _mm512_setzero_ps();
        for (int c = 0; c < COLUMNS; c++) {
            __m512 score = _mm512_load_ps(scores + c * WIDE + j);
            most = _mm512_max_ps(score, most);
            broken = _mm512_mask_mov_ps(broken, _mm512_cmp_ps_mask(score, score, _CMP_UNORD_Q), score);
        }
        most = _mm512_mul_ps(_mm512_add_ps(most, broken), _mm512_set1_ps(LOG2E)); /* NaN where one of them is */
        __m512 base = _mm512_add_ps(_mm512_roundscale_ps(most, NEAREST), _mm512_set1_ps(BELOW));
        __mmask16 without = _mm512_cmp_ps_mask(_mm512_abs_ps(most), _mm512_set1_ps(FARTHEST), _CMP_NLT_UQ);
        __mmask16 unset = _mm512_cmp_ps_mask(before, none, _CMP_EQ_OQ);
        __mmask16 seen = _mm512_cmp_ps_mask(most, none, _CMP_NEQ_UQ), set = (high | unset) & seen;
        base = _mm512_mask_mov_ps(base, without, _mm512_set1_ps(NAN));
        _mm512_mask_store_ps(l->base + j, set, base);
        l->unset |= unset & ~seen;
        __m512 change = _mm512_mask_scalef_ps(one, set & ~unset, one, _mm512_sub_ps(before, base));
        change = _mm512_mask_mov_ps(change, set & without, _mm512_set1_ps(NAN));
        _mm512_store_ps(l->total + j, _mm512_mul_ps(_mm512_load_ps(l->total + j), change));
        for (int i = 0; set & ~unset && i < size; i++)
            _mm512_store_ps(l->sums + i * WIDE + j, _mm512_mul_ps(_mm512_load_ps(l->sums + i * WIDE + j), change));
    }
}

/* A tile of columns: of `far`, or the run's own; columns: 0 behind the last. */
typedef struct {
    int part, columns;
    int64_t at;
} Spot;

INLINE Spot spot_at(const Block *b, int part, int64_t at) {
    if (!part && at >= b->far.count) part = 1, at = 0;
    int64_t left = (part ? b->near->count : b->far.count) - at;
    return (Spot){part, left < 0 ? 0 : left < COLUMNS ? (int)left : COLUMNS, at};
}

/* Keys or values of a tile, [COLUMNS, size]: where they lie, or in `edge`, which is filled up with zeros. */
INLINE const bf16 *tile_at(const Block *b, const Spot *spot, int values, int size, bf16 *edge) {
    const char *stored = tile_of(spot->part ? b->near : &b->far, spot->at, values, size * 2);
    if (spot->columns == COLUMNS) return (const bf16 *)stored;
    memcpy(edge, stored, sizeof(bf16) * spot->columns * size);
    memset(edge + spot->columns * size, 0, sizeof(bf16) * (COLUMNS - spot->columns) * size);
    return edge;
}

/* Scores of a tile for lanes of queries from `from` on: as in `bend`, and those behind the last column are hidden. */
static __attribute__((noinline)) void bend_lanes(const Block *b, int group, const Spot *spot, int from, float *scores) {
    int queries = b->tokens * group;
    if (b->cap > 0) soften(scores, spot->columns * WIDE, b->cap);
    for (int j = 0; j < WIDE && from + j < queries; j++) {
        int t = (from + j) / group, g = (from + j) % group;
        float *lane = scores + j, begin = (spot->part ? b->near_from : b->far_from)[t] + (float)spot->at;
        for (int c = 0; b->slopes && c < spot->columns; c++) lane[c * WIDE] += b->slopes[g] * (begin + (float)c);
        int64_t first = (spot->part ? b->hidden[t] : b->far_hidden[t]) - spot->at;
        int64_t last = spot->part ? b->near->count - b->after[t] - spot->at : COLUMNS;
        for (int c = 0; c < COLUMNS && c < first; c++) lane[c * WIDE] = -INFINITY;
        for (int c = last > 0 ? (int)last : 0; c < COLUMNS; c++) lane[c * WIDE] = -INFINITY;
    }
    for (int i = spot->columns * WIDE; i < COLUMNS * WIDE; i++) scores[i] = -INFINITY;
}

/* Scores of a sequence of tiles to shares, and these to their values. */
INLINE void attend_lanes(Lanes *l, int tiles, float *scores, uint32_t *shares, const bf16 *values, int size) {
    int first = 0;
    for (int t = 0;; t++) {
        float *own = scores + t * COLUMNS * WIDE;
        uint32_t *to = shares + t * (COLUMNS / 2) * WIDE, high = 0;
        if (t < tiles) high = share_all(l, own, to);
        if (t < tiles && !high && !l->unset) continue;
        for (int i = 0; first < t && i < size; i += 32)
            add_values(l, shares + first * (COLUMNS / 2) * WIDE, values + first * size * COLUMNS, t - first, size, i);
        if (first < t) add_shares(l, shares + first * (COLUMNS / 2) * WIDE, t - first);
        if (t == tiles) return;
        raise_lanes(l, high, own, size);
        share_all(l, own, to);
        first = t;
    }
}

INLINE void attend_run_tiles(const Block *b, int group, int size, float *scratch, float *out) {
    _Alignas(64) bf16 edges[2][COLUMNS * LARGEST_PAIRED];
    Lanes all[SUBS];
    int queries = b->tokens * group, subs = 0;
    float *room = (float *)(((uintptr_t)scratch + 63) / 64 * 64);
    int64_t first[2], last[2];
    set_run_tiles();
    for (; subs * WIDE < queries; subs++, room += size / 2 * 3 * WIDE) {
        Lanes *l = all + subs;
        *l = (Lanes){.sums = room, .upright = (uint32_t *)(room + size * WIDE), .unset = 1};
        l->wide = queries - subs * WIDE > 16;
        memset(l->sums, 0, sizeof(float) * size * WIDE);
        stand_up(b, group, subs * WIDE, size, l);
        for (int j = 0; j < WIDE; j++) {
            int query = subs * WIDE + j;
            float sink = b->sinks && query < queries ? b->sinks[query % group] * LOG2E : -INFINITY;
            l->base[j] = rintf(sink) + BELOW;
            l->total[j] = sink == -INFINITY ? 0 : exp_fast((sink - l->base[j]) / LOG2E);
        }
    }
    float *scores = room;
    uint32_t *shares = (uint32_t *)(scores + SEQUENCE * COLUMNS * WIDE);
    bf16 *values = (bf16 *)(shares + SEQUENCE * COLUMNS / 2 * WIDE);
    for (int part = 0; part < 2; part++) all_see(b, part, first + part, last + part);
    for (Spot next = spot_at(b, 0, 0); next.columns;) {
        Spot spots[SEQUENCE];
        int tiles = 0;
        for (; tiles < SEQUENCE && next.columns; tiles++, next = spot_at(b, next.part, next.at + COLUMNS)) {
            spots[tiles] = next;
            turn_values(tile_at(b, &next, 1, size, edges[0]), size, values + tiles * size * COLUMNS);
        }
        for (int k = 0; k < subs; k++) {
            for (int t = 0; t < tiles; t++)
                score_lanes(all + k, tile_at(b, spots + t, 0, size, edges[t & 1]), size, scores + t * COLUMNS * WIDE);
            for (int t = 0; t < tiles; t++) {
                const Spot *s = spots + t;
                if (b->cap > 0 || b->slopes || s->columns < COLUMNS || s->at < first[s->part]
                    || s->at + s->columns > last[s->part])
                    bend_lanes(b, group, s, k * WIDE, scores + t * COLUMNS * WIDE);
            }
            attend_lanes(all + k, tiles, scores, shares, values, size);
        }
    }
    _tile_release();
    for (int k = 0; k < subs; k++) lie_down(b, group, k * WIDE, size, all + k, out);
}

/* Floats of scratch that it takes. */
static inline int64_t tiled_floats(int64_t size) {
    return 16 + SUBS * WIDE * size / 2 * 3 + SEQUENCE * COLUMNS / 2 * (3 * WIDE + size);
}
#else
#define tiled_floats(size) 0
#define attend_run_tiles(...)
#endif
