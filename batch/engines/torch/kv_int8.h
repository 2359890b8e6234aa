/* A KV cache's kinds of numbers, and where those of eight bits lie; kv_int8.c says how. */
enum { FLOATS, HALVES, BYTES }; /* of a cache: float32, bfloat16, or eight bits */

#define BLOCK 32    /* elements of a key that have a step of their own */
#define ELEMENTS 16 /* a head is filled up to a multiple of so many */

static inline int64_t int8_elements(int64_t size) { return (size + ELEMENTS - 1) / ELEMENTS * ELEMENTS; }
static inline int64_t int8_blocks(int64_t size) { return (size + BLOCK - 1) / BLOCK; }

/* What one column of a head takes, counted in numbers of the cache's kind. */
static inline int64_t cell_of(int kind, int64_t size) {
    return kind == BYTES ? int8_elements(size) + 4 * int8_blocks(size) : size;
}

static inline int64_t bytes_of(int kind) { return kind == BYTES ? 1 : kind == HALVES ? 2 : 4; }

/* A head's vector to column `at` of its tile, which has COLUMNS of them. */
void put_int8(const float *from, int64_t size, char *tile, int64_t at, int values);
