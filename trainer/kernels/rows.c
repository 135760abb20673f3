/* What stands between the matrix products of a layer, a row at a time, in float32 whatever the tensors hold.
 *
 * Shapes: R rows of W values. Sums over rows go over threads in their order, so a
 * result depends on the number of threads alone.
 */
#include "rows.h"

/* y = x / sqrt(mean(x^2) + eps) * (weight + offset); `scale` keeps 1 / sqrt of each row (Zhang and Sennrich 2019). */
void rms_norm(const void *x, int x_type, void *y, int y_type, const float *weight, float offset, float eps,
              float *scale, int64_t rows, int64_t width) {
#pragma omp parallel
    {
        float *row = malloc(width * sizeof(float));
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++) {
            load(row, at(x, r * width, x_type), width, x_type);
            float sum = 0.0f;
            for (int64_t i = 0; i < width; i++) sum += row[i] * row[i];
            float factor = 1.0f / sqrtf(sum / (float)width + eps);
            for (int64_t i = 0; i < width; i++) row[i] = row[i] * factor * (weight[i] + offset);
            scale[r] = factor;
            store((void *)at(y, r * width, y_type), row, width, y_type);
        }
        free(row);
    }
}

/* d_weight [W] may be NULL where the weight is frozen. */
void rms_norm_backward(const void *d_y, int y_type, const void *x, int x_type, void *d_x, const float *weight,
                       float offset, const float *scale, float *d_weight, int64_t rows, int64_t width) {
    int most = omp_get_max_threads();
    float *shares = d_weight ? calloc((size_t)most * width, sizeof(float)) : NULL;
#pragma omp parallel
    {
        float *row = malloc(width * sizeof(float)), *outer = malloc(width * sizeof(float));
        float *share = shares ? shares + (int64_t)omp_get_thread_num() * width : NULL;
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++) {
            load(row, at(x, r * width, x_type), width, x_type);
            load(outer, at(d_y, r * width, y_type), width, y_type);
            float factor = scale[r], dot = 0.0f;
            for (int64_t i = 0; i < width; i++) {
                row[i] *= factor;
                float term = outer[i] * row[i];
                if (share) share[i] += term;
                outer[i] *= weight[i] + offset;
                dot += term * (weight[i] + offset);
            }
            dot /= (float)width;
            for (int64_t i = 0; i < width; i++) row[i] = factor * (outer[i] - row[i] * dot);
            store((void *)at(d_x, r * width, x_type), row, width, x_type);
        }
        free(row);
        free(outer);
    }
    if (!shares) return;
    memset(d_weight, 0, width * sizeof(float));
    for (int t = 0; t < most; t++)
        for (int64_t i = 0; i < width; i++) d_weight[i] += shares[t * width + i];
    free(shares);
}

/* silu(x) or tanh-GELU (Hendrycks and Gimpel 2016), and its derivative. */
static inline vector activation(vector x, int kind, vector *slope) {
    if (kind == 0) {
        vector chance = 1.0f / (1.0f + exponential(-x));
        *slope = chance * (1.0f + x * (1.0f - chance));
        return x * chance;
    }
    vector inner = 0.7978845608f * (x + 0.044715f * x * x * x);
    vector chance = 1.0f / (1.0f + exponential(-2.0f * inner));
    *slope = chance + 2.0f * x * chance * (1.0f - chance) * 0.7978845608f * (1.0f + 0.134145f * x * x);
    return x * chance;
}

/* y = activation(gate) * up over `count` values of one type; kind 0 is SiLU, 1 is GELU by tanh. */
void gated(const void *gate, const void *up, void *y, int type, int kind, int64_t count) {
    int64_t blocks = (count + BLOCK - 1) / BLOCK;
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < blocks; b++) {
        int64_t start = b * BLOCK, size = count - start < BLOCK ? count - start : BLOCK;
        float g[BLOCK] = {0}, u[BLOCK] = {0};
        load(g, at(gate, start, type), size, type);
        load(u, at(up, start, type), size, type);
        for (int64_t i = 0; i < size; i += LANES) {
            vector slope;
            *(vector *)(g + i) = activation(*(vector *)(g + i), kind, &slope) * *(vector *)(u + i);
        }
        store((void *)at(y, start, type), g, size, type);
    }
}

void gated_backward(const void *d_y, const void *gate, const void *up, void *d_gate, void *d_up, int type, int kind,
                    int64_t count) {
    int64_t blocks = (count + BLOCK - 1) / BLOCK;
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < blocks; b++) {
        int64_t start = b * BLOCK, size = count - start < BLOCK ? count - start : BLOCK;
        float g[BLOCK] = {0}, u[BLOCK] = {0}, d[BLOCK] = {0};
        load(g, at(gate, start, type), size, type);
        load(u, at(up, start, type), size, type);
        load(d, at(d_y, start, type), size, type);
        for (int64_t i = 0; i < size; i += LANES) {
            vector outer = *(vector *)(d + i), slope, value = activation(*(vector *)(g + i), kind, &slope);
            *(vector *)(g + i) = outer * *(vector *)(u + i) * slope;
            *(vector *)(u + i) = outer * value;
        }
        store((void *)at(d_gate, start, type), g, size, type);
        store((void *)at(d_up, start, type), u, size, type);
    }
}

/* Rotary positions by halves (Su et al. 2021): heads [N, S, D] of strides (head, token, 1) -> [S, N, D] dense.
 * cosine and sine [S, D]; `back` turns the other way, as the gradient does. */
void rotary(const void *x, int type, int64_t head_stride, int64_t token_stride, const void *cosine, const void *sine,
            int table_type, void *y, int64_t heads, int64_t tokens, int64_t size, int back) {
    int64_t half = size / 2;
#pragma omp parallel
    {
        float *c = malloc(4 * size * sizeof(float)), *s = c + size, *row = s + size, *turned = row + size;
#pragma omp for schedule(static)
        for (int64_t t = 0; t < tokens; t++) {
            load(c, at(cosine, t * size, table_type), size, table_type);
            load(s, at(sine, t * size, table_type), size, table_type);
            for (int64_t n = 0; n < heads; n++) {
                load(row, at(x, n * head_stride + t * token_stride, type), size, type);
                if (back)
                    for (int64_t i = 0; i < half; i++) {
                        turned[i] = row[i] * c[i] + row[i + half] * s[i + half];
                        turned[i + half] = row[i + half] * c[i + half] - row[i] * s[i];
                    }
                else
                    for (int64_t i = 0; i < half; i++) {
                        turned[i] = row[i] * c[i] - row[i + half] * s[i];
                        turned[i + half] = row[i + half] * c[i + half] + row[i] * s[i + half];
                    }
                store((void *)at(y, (t * heads + n) * size, type), turned, size, type);
            }
        }
        free(c);
    }
}

/* Logits [R, W] become their own gradient in place; the loss of each row into `losses` [R].
 * `weights` [W] may be NULL, `every` is their sum (W without them); `spread` is the smoothing over W. */
void cross_entropy(void *logits, int type, const int64_t *targets, const float *weights, float every, float smoothing,
                   float z, float *losses, int64_t rows, int64_t width) {
    float spread = smoothing / (float)width;
#pragma omp parallel
    {
        float *row = malloc(width * sizeof(float));
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++) {
            void *place = (void *)at(logits, r * width, type);
            int64_t target = targets[r];
            load(row, place, width, type);
            float picked = row[target], highest = highest_of(row, width);
            double said = 0.0, total = 0.0;
            if (spread != 0.0f)
                for (int64_t i = 0; i < width; i++) said += (double)(weights ? row[i] * weights[i] : row[i]);
            for (int64_t start = 0; start < width; start += BLOCK)
                total += (double)exponentials(row + start, width - start < BLOCK ? width - start : BLOCK, highest);
            float own = (1.0f - smoothing) * (weights ? weights[target] : 1.0f);
            float log_sum = (float)log(total) + highest;
            losses[r] = own * (log_sum - picked) + spread * (every * log_sum - (float)said) + z * log_sum * log_sum;
            float factor = (own + spread * every + 2.0f * z * log_sum) / (float)total;
            if (spread != 0.0f)
                for (int64_t i = 0; i < width; i++) row[i] = row[i] * factor - spread * (weights ? weights[i] : 1.0f);
            else
                for (int64_t i = 0; i < width; i++) row[i] *= factor;
            row[target] -= own;
            store(place, row, width, type);
        }
        free(row);
    }
}
