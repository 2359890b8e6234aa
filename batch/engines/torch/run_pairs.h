/* Attention of a run over a cache in bfloat16, by pairs: a tile of columns goes from scores to shares while it is in
 * the first cache; the shares of up to CHUNK columns then meet their values at once.
 *
 * Shares are powers of two below a base, a whole number for each query. It is raised only where a score lies far above
 * it: what was added up before has to be scaled then, which is exact, and hardly ever happens after the first tile.
 */
#ifdef __AVX512BF16__
#define STEP 4        /* columns side by side in `shares_of`, as each of them waits for itself */
#define ABOVE 8.0f    /* powers of two that a score may lie above its base */
#define FARTHEST 4e6f /* of a base: beyond, scores have no digits left for what lies between two of them */
#define LOG2E 1.44269504088896341f

/* What has been added up of a run. */
typedef struct {
    float base[QUERIES], total[QUERIES], change[QUERIES]; /* change: of what is added up, before more comes */
    uint32_t shares[(CHUNK / 2 + STEP / 2) * QUERIES];    /* of columns that have not met their values, in pairs */
    int pairs;
} Sofar;

/* Whether a score of a tile [columns, lanes] lies too far above its query's base; highest: of each, in powers of 2. */
static __attribute__((noinline)) int look_up(const float *scores, int columns, int lanes, const float *base,
                                             float *highest) {
    int found = 0;
    for (int j = 0; j < lanes; j += LANES) {
        __m512 most[STEP];
        for (int k = 0; k < STEP; k++) most[k] = _mm512_set1_ps(-INFINITY);
        int c = 0;
        for (; c + STEP <= columns; c += STEP)
            for (int k = 0; k < STEP; k++)
                most[k] = _mm512_max_ps(_mm512_loadu_ps(scores + (c + k) * lanes + j), most[k]);
        for (; c < columns; c++) most[0] = _mm512_max_ps(_mm512_loadu_ps(scores + c * lanes + j), most[0]);
        for (int k = 1; k < STEP; k++) most[0] = _mm512_max_ps(most[0], most[k]);
        most[0] = _mm512_mul_ps(most[0], _mm512_set1_ps(LOG2E));
        __m512 above = _mm512_add_ps(_mm512_loadu_ps(base + j), _mm512_set1_ps(ABOVE));
        found |= _mm512_cmp_ps_mask(most[0], above, _CMP_GT_OQ);
        _mm512_storeu_ps(highest + j, most[0]);
    }
    return found;
}

/* Raise the bases of those that something lies too far above; what there is of `total` and to come of `change`. */
static void raise_bases(Sofar *s, int lanes, const float *highest) {
    for (int j = 0; j < lanes; j++)
        if (highest[j] > s->base[j] + ABOVE) {
            float base = fabsf(highest[j]) < FARTHEST ? rintf(highest[j]) : NAN, change = s->base[j] - base;
            change = change < -200 ? 0 : change <= 0 ? ldexpf(1, (int)change) : NAN; /* 0: nothing was seen before */
            s->base[j] = base, s->total[j] *= change, s->change[j] *= change;
        }
}

/* Scores of a tile to shares, which come behind those that are there. */
static __attribute__((noinline)) void shares_of(Sofar *s, const float *scores, int columns, int lanes) {
    const __m512 log2e = _mm512_set1_ps(LOG2E), none = _mm512_set1_ps(-INFINITY);
    uint32_t *to = s->shares + s->pairs * lanes;
    for (int j = 0; j < lanes; j += LANES) {
        __m512 base = _mm512_loadu_ps(s->base + j), sum[STEP], x[STEP], power[STEP];
        __m512 whole[STEP];
        base = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(base, none, _CMP_NEQ_UQ), base); /* 0: it has seen nothing yet */
        /* Below it shares are less than bfloat16 has room for, and their exponents would be none. */
        __m512 least = _mm512_mul_ps(_mm512_sub_ps(base, _mm512_set1_ps(126.75f)), _mm512_set1_ps(1 / LOG2E));
        /* Beside so large a number there is room for whole ones only. */
        __m512 shift = _mm512_sub_ps(_mm512_set1_ps(12582912.0f), base);
        sum[0] = _mm512_loadu_ps(s->total + j);
        for (int k = 1; k < STEP; k++) sum[k] = _mm512_setzero_ps();
        for (int c = 0; c < columns; c += STEP) {
            for (int k = 0; k < STEP; k++) /* what lies behind the last column counts as hidden */
                x[k] = c + k < columns ? _mm512_loadu_ps(scores + (c + k) * lanes + j) : none;
            for (int k = 0; k < STEP; k++) x[k] = _mm512_max_ps(least, x[k]), power[k] = _mm512_set1_ps(BRIEF[0]);
            for (int k = 0; k < STEP; k++) whole[k] = _mm512_fmadd_ps(x[k], log2e, shift);
            for (int k = 0; k < STEP; k++) x[k] = _mm512_fmsub_ps(x[k], log2e, _mm512_sub_ps(whole[k], shift));
            for (int i = 1; i < 4; i++)
                for (int k = 0; k < STEP; k++)
                    power[k] = _mm512_fmadd_ps(power[k], x[k], _mm512_set1_ps(BRIEF[i]));
            for (int k = 0; k < STEP; k++) {
                __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(whole[k]), 23);
                power[k] = _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(power[k]), exponent));
            }
            for (int k = 0; k < STEP; k++) sum[k] = _mm512_add_ps(sum[k], power[k]);
            for (int k = 0; k < STEP; k += 2)
                _mm512_storeu_si512(to + (c + k) / 2 * lanes + j, pair_shares(power[k], power[k + 1]));
        }
        for (int k = 1; k < STEP; k++) sum[0] = _mm512_add_ps(sum[0], sum[k]);
        _mm512_storeu_ps(s->total + j, sum[0]);
    }
}

/* Shares meet their values. */
INLINE void meet(Sofar *s, int lanes, const uint32_t *values, int queries, int size, float *sums) {
    if (s->pairs) value_pairs(s->shares, lanes, values, 2 * s->pairs, queries, size, s->change, sums);
    for (int j = 0; s->pairs && j < QUERIES; j++) s->change[j] = 1;
    s->pairs = 0;
}

/* The columns [first, last) of a part that all tokens of a run see. */
INLINE void all_see(const Block *b, int part, int64_t *first, int64_t *last) {
    *first = 0, *last = part ? b->near->count : b->far.count;
    for (int t = 0; t < b->tokens; t++) {
        int64_t hidden = part ? b->hidden[t] : b->far_hidden[t], end = part ? b->near->count - b->after[t] : *last;
        *first = hidden > *first ? hidden : *first, *last = end < *last ? end : *last;
    }
}

INLINE void attend_run_pairs(const Block *b, int group, int size, int vectors, float *scratch, float *out) {
    int lanes = vectors * LANES, queries = b->tokens * group;
    float *sums = scratch, *scores = sums + QUERIES * size, highest[QUERIES];
    uint32_t *values = (uint32_t *)(scores + COLUMNS * QUERIES), upright[LARGEST_PAIRED / 2 * QUERIES];
    bf16 asked[LARGEST_PAIRED];
    Sofar s = {.pairs = 0};
    memset(sums, 0, sizeof(float) * QUERIES * size);
    memset(upright, 0, sizeof(uint32_t) * size / 2 * lanes);
    for (int j = 0; j < queries; j++) {
        const float *q = b->q + j / group * b->stride + j % group * size;
        for (int i = 0; i < size; i++) asked[i] = to_bf16(q[i] * b->scale);
        pair_upright(asked, j, lanes, size, upright);
    }
    begin_softmax(b, group, queries, s.base, s.total);
    for (int j = 0; j < QUERIES; j++) {
        float sink = s.base[j] * LOG2E;
        s.change[j] = 1, s.base[j] = rintf(sink);
        if (s.total[j] > 0) s.total[j] = exp_fast((sink - s.base[j]) / LOG2E);
    }
    for (int part = 0; part < 2; part++) {
        const Part *own = part ? b->near : &b->far;
        int64_t first, last;
        all_see(b, part, &first, &last);
        for (int64_t c = 0; c < own->count; c += COLUMNS) {
            int columns = own->count - c < COLUMNS ? own->count - c : COLUMNS;
            score_pairs(upright, vectors, (const bf16 *)tile_of(own, c, 0, size * 2), columns, size, scores);
            if (b->cap > 0 || b->slopes || c < first || c + columns > last)
                bend(b, group, queries, lanes, part, c, columns, scores);
            if (look_up(scores, columns, lanes, s.base, highest)) {
                meet(&s, lanes, values, queries, size, sums);
                raise_bases(&s, lanes, highest);
            }
            shares_of(&s, scores, columns, lanes);
            pair_values((const bf16 *)tile_of(own, c, 1, size * 2), columns, size, values + s.pairs * size);
            s.pairs += (columns + 1) / 2;
            if (s.pairs >= CHUNK / 2) meet(&s, lanes, values, queries, size, sums);
        }
    }
    meet(&s, lanes, values, queries, size, sums);
    for (int j = 0; j < queries; j++)
        order_pairs(sums + j * size, size, 1.0f / s.total[j], out + j / group * b->stride + j % group * size);
}
#else
#define attend_run_pairs(...)
#endif
