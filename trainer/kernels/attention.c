/* Causal attention of each example of a packed row to itself (Dao 2022, without its online softmax: rows are whole).
 *
 * Shapes: N query heads, K key-value heads, S tokens of the row, L of one example, D the size of a head. Queries, keys,
 * values are [heads, S, D] with strides (head, token, 1); outputs are [S, heads, D], dense. Everything is computed in
 * float32; only the logarithm of each row's sum is kept for the backward pass. An example's result does not depend on
 * what else is in the row.
 */
#include "rows.h"

#if defined(__AVX512F__)
#define ROWS 6
#define VECTORS 4
#else
#define ROWS 4
#define VECTORS 2
#endif
#define ALIGN 64
#define PANEL 48 /* query rows at a time: a multiple of every ROWS */

static inline int64_t padded(int64_t count) { return (count + LANES - 1) / LANES * LANES; }

static float *room(int64_t count) {
    void *place = NULL;
    if (posix_memalign(&place, ALIGN, (size_t)(count > 0 ? count : 1) * sizeof(float))) abort();
    return place;
}

/* c[rows x vectors] (+)= a b; a[m][k] has strides (a_row, a_column), rows of b lie b_row apart. */
__attribute__((always_inline)) static inline void tile(int rows, int vectors, int64_t depth, const float *a,
                                                       int64_t a_row, int64_t a_column, const float *b, int64_t b_row,
                                                       float *c, int64_t c_row, int add) {
    vector sum[ROWS][VECTORS];
#pragma GCC unroll 8
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            sum[m][v] = add ? *(const vector *)(c + m * c_row + v * LANES) : (vector){0};
    for (int64_t k = 0; k < depth; k++) {
        vector right[VECTORS];
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) right[v] = *(const vector *)(b + k * b_row + v * LANES);
#pragma GCC unroll 8
        for (int m = 0; m < rows; m++) {
            float left = a[m * a_row + k * a_column];
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++) sum[m][v] += left * right[v];
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) *(vector *)(c + m * c_row + v * LANES) = sum[m][v];
}

/* c [rows, columns] (+)= a [rows, depth] b [depth, columns]; columns are a multiple of LANES. */
static void product(int64_t rows, int64_t columns, int64_t depth, const float *a, int64_t a_row, int64_t a_column,
                    const float *b, int64_t b_row, float *c, int64_t c_row, int add) {
    int64_t wide = VECTORS * LANES;
    for (int64_t n = 0; n < columns;) {
        int whole = columns - n >= wide;
        for (int64_t m = 0; m < rows;) {
            const float *left = a + m * a_row;
            float *to = c + m * c_row + n;
            int many = rows - m >= ROWS;
            if (many && whole)
                tile(ROWS, VECTORS, depth, left, a_row, a_column, b + n, b_row, to, c_row, add);
            else if (many)
                tile(ROWS, 1, depth, left, a_row, a_column, b + n, b_row, to, c_row, add);
            else if (whole)
                tile(1, VECTORS, depth, left, a_row, a_column, b + n, b_row, to, c_row, add);
            else
                tile(1, 1, depth, left, a_row, a_column, b + n, b_row, to, c_row, add);
            m += many ? ROWS : 1;
        }
        n += whole ? wide : LANES;
    }
}

typedef struct {
    const void *base;
    int64_t head, token;
    int type;
} Heads;

/* Rows [count, width] of one head from token `first`, each times `factor`; columns up to the padded width are 0. */
static void rows_of(const Heads *from, int64_t head, int64_t first, int64_t count, int64_t size, float factor,
                    float *to) {
    int64_t width = padded(size);
    for (int64_t t = 0; t < count; t++) {
        float *row = to + t * width;
        load(row, at(from->base, head * from->head + (first + t) * from->token, from->type), size, from->type);
        for (int64_t i = 0; i < size; i++) row[i] *= factor;
        for (int64_t i = size; i < width; i++) row[i] = 0.0f;
    }
}

/* The transpose [size, padded(count)] of rows [count, padded(size)]; columns beyond `count` are 0. */
static void transposed(const float *from, int64_t count, int64_t size, float *to) {
    int64_t width = padded(size), length = padded(count);
    for (int64_t block = 0; block < length; block += LANES)
        for (int64_t i = 0; i < size; i++)
            for (int64_t t = block; t < block + LANES; t++) to[i * length + t] = t < count ? from[t * width + i] : 0.0f;
}

/* The first and the last + 1 of the keys that rows [first, first + count) see, widened to whole vectors. */
static int64_t from_key(int64_t first, int64_t window) {
    int64_t start = window > 0 && first - window + 1 > 0 ? first - window + 1 : 0;
    return start / LANES * LANES;
}

/* output [S, N, D] and log_sums [N, S] of examples that begin at starts [E + 1]; window 0 is none. */
void attention(const void *query, int64_t query_head, int64_t query_token, const void *key, int64_t key_head,
               int64_t key_token, const void *value, int64_t value_head, int64_t value_token, int type, void *output,
               float *log_sums, const int64_t *starts, int64_t examples, int64_t heads, int64_t shared, int64_t size,
               float scale, int64_t window) {
    Heads queries = {query, query_head, query_token, type}, keys = {key, key_head, key_token, type};
    Heads values = {value, value_head, value_token, type};
    int64_t width = padded(size), group = heads / shared, tokens = starts[examples], longest = 0;
    for (int64_t e = 0; e < examples; e++)
        if (starts[e + 1] - starts[e] > longest) longest = starts[e + 1] - starts[e];
    int64_t most = padded(longest);
#pragma omp parallel
    {
        float *k = room(most * width), *turned = room(size * most), *v = room(most * width);
        float *q = room(PANEL * width), *scores = room(PANEL * most), *out = room(PANEL * width);
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < examples * shared; task++) {
            int64_t e = task / shared, kv = task % shared, start = starts[e], length = starts[e + 1] - start;
            int64_t row = padded(length);
            rows_of(&keys, kv, start, length, size, 1.0f, k);
            transposed(k, length, size, turned);
            rows_of(&values, kv, start, length, size, 1.0f, v);
            memset(v + length * width, 0, (row - length) * width * sizeof(float));
            for (int64_t head = kv * group; head < (kv + 1) * group; head++)
                for (int64_t first = 0; first < length; first += PANEL) {
                    int64_t count = length - first < PANEL ? length - first : PANEL;
                    int64_t begin = from_key(first, window), seen = padded(first + count) - begin;
                    rows_of(&queries, head, start + first, count, size, scale, q);
                    product(count, seen, size, q, width, 1, turned + begin, row, scores, seen, 0);
                    for (int64_t i = 0; i < count; i++) {
                        float *line = scores + i * seen;
                        int64_t last = first + i + 1 - begin, low = 0;
                        if (window > 0 && first + i - window + 1 > begin) low = first + i - window + 1 - begin;
                        float highest = highest_of(line + low, last - low);
                        float total = exponentials(line + low, last - low, highest);
                        for (int64_t j = 0; j < low; j++) line[j] = 0.0f;
                        float share = 1.0f / total;
                        for (int64_t j = low; j < last; j++) line[j] *= share;
                        for (int64_t j = last; j < seen; j++) line[j] = 0.0f;
                        log_sums[head * tokens + start + first + i] = highest + logf(total);
                    }
                    product(count, width, seen, scores, seen, 1, v + begin * width, width, out, width, 0);
                    for (int64_t i = 0; i < count; i++)
                        store((void *)at(output, ((start + first + i) * heads + head) * size, type), out + i * width,
                              size, type);
                }
        }
        free(k), free(turned), free(v), free(q), free(scores), free(out);
    }
}

/* Gradients [S, N, D], [S, K, D], [S, K, D] of what `attention` was given, from d_output and output [S, N, D]. */
void attention_backward(const void *d_output, const void *output, const float *log_sums, const void *query,
                        int64_t query_head, int64_t query_token, const void *key, int64_t key_head, int64_t key_token,
                        const void *value, int64_t value_head, int64_t value_token, int type, void *d_query,
                        void *d_key, void *d_value, const int64_t *starts, int64_t examples, int64_t heads,
                        int64_t shared, int64_t size, float scale, int64_t window) {
    Heads queries = {query, query_head, query_token, type}, keys = {key, key_head, key_token, type};
    Heads values = {value, value_head, value_token, type};
    Heads outputs = {output, size, heads * size, type}, outers = {d_output, size, heads * size, type};
    int64_t width = padded(size), group = heads / shared, tokens = starts[examples], longest = 0;
    for (int64_t e = 0; e < examples; e++)
        if (starts[e + 1] - starts[e] > longest) longest = starts[e + 1] - starts[e];
    int64_t most = padded(longest);
#pragma omp parallel
    {
        float *k = room(most * width), *k_turned = room(size * most), *v = room(most * width);
        float *v_turned = room(size * most), *d_k = room(most * width), *d_v = room(most * width);
        float *q = room(PANEL * width), *out = room(PANEL * width), *outer = room(PANEL * width);
        float *chances = room(PANEL * most), *slopes = room(PANEL * most), *d_q = room(PANEL * width);
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < examples * shared; task++) {
            int64_t e = task / shared, kv = task % shared, start = starts[e], length = starts[e + 1] - start;
            int64_t row = padded(length);
            rows_of(&keys, kv, start, length, size, 1.0f, k);
            memset(k + length * width, 0, (row - length) * width * sizeof(float));
            transposed(k, length, size, k_turned);
            rows_of(&values, kv, start, length, size, 1.0f, v);
            transposed(v, length, size, v_turned);
            memset(d_k, 0, row * width * sizeof(float));
            memset(d_v, 0, row * width * sizeof(float));
            for (int64_t head = kv * group; head < (kv + 1) * group; head++)
                for (int64_t first = 0; first < length; first += PANEL) {
                    int64_t count = length - first < PANEL ? length - first : PANEL;
                    int64_t begin = from_key(first, window), seen = padded(first + count) - begin;
                    rows_of(&queries, head, start + first, count, size, scale, q);
                    rows_of(&outputs, head, start + first, count, size, 1.0f, out);
                    rows_of(&outers, head, start + first, count, size, 1.0f, outer);
                    product(count, seen, size, q, width, 1, k_turned + begin, row, chances, seen, 0);
                    product(count, seen, size, outer, width, 1, v_turned + begin, row, slopes, seen, 0);
                    for (int64_t i = 0; i < count; i++) {
                        float *chance = chances + i * seen, *slope = slopes + i * seen, dot = 0.0f;
                        float log_sum = log_sums[head * tokens + start + first + i];
                        int64_t last = first + i + 1 - begin, low = 0;
                        if (window > 0 && first + i - window + 1 > begin) low = first + i - window + 1 - begin;
                        for (int64_t d = 0; d < size; d++) dot += out[i * width + d] * outer[i * width + d];
                        exponentials(chance + low, last - low, log_sum);
                        for (int64_t j = low; j < last; j++) slope[j] = chance[j] * (slope[j] - dot);
                        for (int64_t j = 0; j < low; j++) chance[j] = slope[j] = 0.0f;
                        for (int64_t j = last; j < seen; j++) chance[j] = slope[j] = 0.0f;
                    }
                    product(count, width, seen, slopes, seen, 1, k + begin * width, width, d_q, width, 0);
                    product(seen, width, count, chances, 1, seen, outer, width, d_v + begin * width, width, 1);
                    product(seen, width, count, slopes, 1, seen, q, width, d_k + begin * width, width, 1);
                    for (int64_t i = 0; i < count; i++) {
                        for (int64_t d = 0; d < size; d++) d_q[i * width + d] *= scale;
                        store((void *)at(d_query, ((start + first + i) * heads + head) * size, type), d_q + i * width,
                              size, type);
                    }
                }
            for (int64_t t = 0; t < length; t++) {
                int64_t place = ((start + t) * shared + kv) * size;
                store((void *)at(d_key, place, type), d_k + t * width, size, type);
                store((void *)at(d_value, place, type), d_v + t * width, size, type);
            }
        }
        free(k), free(k_turned), free(v), free(v_turned), free(d_k), free(d_v);
        free(q), free(out), free(outer), free(chances), free(slopes), free(d_q);
    }
}
