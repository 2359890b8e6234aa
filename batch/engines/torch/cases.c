/* Attention of a block for one GROUP and SIZE, which are given to the compiler: loops of known lengths are faster. */
#include "block.h"

#define JOIN(GROUP, SIZE) attend_##GROUP##_##SIZE
#define NAME(GROUP, SIZE) JOIN(GROUP, SIZE)

void NAME(GROUP, SIZE)(const Block *b, int half, int vectors, float *scratch, float *out) {
    if (vectors == 1)
        half ? attend_block(b, GROUP, 1, SIZE, 1, scratch, out) : attend_block(b, GROUP, 0, SIZE, 1, scratch, out);
    else
        half ? attend_block(b, GROUP, 1, SIZE, VECTORS, scratch, out)
             : attend_block(b, GROUP, 0, SIZE, VECTORS, scratch, out);
}
