// The elementwise and mixing parts of the V4 network, forward and backward, for the trainer on a CPU without bf16.
//
// What matrix products leave over (mHC mixing, norms, rope, softmax with sinks, compression, SwiGLU) is bound by memory
// when written as tensor operations: each of some 80 operations a layer reads and writes everything. Here each part is one
// pass. fused.py calls these through ctypes and holds a plain PyTorch twin of each, with which its self-test compares value
// and gradient. Rows are tokens. All arrays are float32 and contiguous unless a stride is an argument. Each function splits
// its rows over OpenMP.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int kStreams = 4;   // residual streams of mHC
constexpr int kLanes = 16;    // tokens side by side in Sinkhorn: two AVX2 registers
constexpr int kIterations = 20;
constexpr int kMix = 24;      // 4 pre, 4 post, 16 comb
constexpr float kEps = 1e-6f;

typedef float Lane[kLanes];
typedef float V8 __attribute__((vector_size(32), aligned(4)));

inline V8 load(const float* p) { return *reinterpret_cast<const V8*>(p); }
inline void store(float* p, V8 v) { *reinterpret_cast<V8*>(p) = v; }
inline V8 all(float x) { return V8{x, x, x, x, x, x, x, x}; }
inline float sum(V8 v) { return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7])); }

inline float dot(const float* a, const float* b, int n) {
  V8 s = all(0), t = all(0);
  for (int i = 0; i < n; i += 16) {
    s += load(a + i) * load(b + i);
    t += load(a + i + 8) * load(b + i + 8);
  }
  return sum(s + t);
}

inline float sigmoid(float x) { return 1 / (1 + expf(-x)); }

// One normalisation of Sinkhorn for all lanes: along rows (over k) or columns (over j) of comb[j][k]. Keeps the reciprocals.
template <bool kRows>
inline void normalise(const Lane* in, Lane* out, Lane* inverse) {
  for (int a = 0; a < 4; a++) {
    for (int l = 0; l < kLanes; l++) {
      float total = kEps;
      for (int b = 0; b < 4; b++) total += in[kRows ? 4 * a + b : 4 * b + a][l];
      inverse[a][l] = 1 / total;
    }
    for (int b = 0; b < 4; b++) {
      const int at = kRows ? 4 * a + b : 4 * b + a;
      for (int l = 0; l < kLanes; l++) out[at][l] = in[at][l] * inverse[a][l];
    }
  }
}

// y = x / (sum x + eps), so dx = (dy - sum(dy y)) / (sum x + eps).
template <bool kRows>
inline void normalise_back(const Lane* out, const Lane* inverse, Lane* grad) {
  for (int a = 0; a < 4; a++) {
    Lane inner;
    for (int l = 0; l < kLanes; l++) {
      inner[l] = 0;
      for (int b = 0; b < 4; b++) {
        const int at = kRows ? 4 * a + b : 4 * b + a;
        inner[l] += grad[at][l] * out[at][l];
      }
    }
    for (int b = 0; b < 4; b++) {
      const int at = kRows ? 4 * a + b : 4 * b + a;
      for (int l = 0; l < kLanes; l++) grad[at][l] = (grad[at][l] - inner[l]) * inverse[a][l];
    }
  }
}

struct Sinkhorn {
  Lane soft[16];                      // row softmax, before eps
  Lane step[2 * kIterations][16];     // step[0] = soft + eps; step[i] after the i-th normalisation, columns first
  Lane inverse[2 * kIterations][4];

  void forward(const Lane* logits) {
    for (int j = 0; j < 4; j++) {
      for (int l = 0; l < kLanes; l++) {
        float top = logits[4 * j][l];
        for (int k = 1; k < 4; k++) top = std::fmax(top, logits[4 * j + k][l]);
        float total = 0;
        for (int k = 0; k < 4; k++) total += soft[4 * j + k][l] = expf(logits[4 * j + k][l] - top);
        for (int k = 0; k < 4; k++) {
          soft[4 * j + k][l] /= total;
          step[0][4 * j + k][l] = soft[4 * j + k][l] + kEps;
        }
      }
    }
    for (int i = 1; i < 2 * kIterations; i++) {
      if (i % 2) normalise<false>(step[i - 1], step[i], inverse[i]);
      else normalise<true>(step[i - 1], step[i], inverse[i]);
    }
  }

  const Lane* result() const { return step[2 * kIterations - 1]; }

  // grad comes as d result and leaves as d logits.
  void backward(Lane* grad) const {
    for (int i = 2 * kIterations - 1; i > 0; i--) {
      if (i % 2) normalise_back<false>(step[i], inverse[i], grad);
      else normalise_back<true>(step[i], inverse[i], grad);
    }
    for (int j = 0; j < 4; j++) {
      for (int l = 0; l < kLanes; l++) {
        float inner = 0;
        for (int k = 0; k < 4; k++) inner += grad[4 * j + k][l] * soft[4 * j + k][l];
        for (int k = 0; k < 4; k++) grad[4 * j + k][l] = soft[4 * j + k][l] * (grad[4 * j + k][l] - inner);
      }
    }
  }
};

// Where row (b, t), head h lies when heads of a block of `block` tokens stay together: [batch, blocks, heads, block].
struct BlockLayout {
  int64_t tokens, heads, block;
  int64_t operator()(int64_t row, int64_t head) const {
    const int64_t b = row / tokens, t = row % tokens;
    return ((b * (tokens / block) + t / block) * heads + head) * block + t % block;
  }
};

}  // namespace

extern "C" {

// x = RMSNorm(sum_i pre[i] h[i]) * w and the coefficients of the way back. m = fn . h, not yet normalised. rows % 16 == 0.
void hc_pre_forward(int64_t rows, int64_t d, const float* h, const float* m, const float* scale, const float* base,
                    const float* w, float* x, float* pre, float* post, float* comb, float* rho, float* rx) {
#pragma omp parallel for schedule(static)
  for (int64_t first = 0; first < rows; first += kLanes) {
    Lane logits[16];
    Sinkhorn s;
    for (int l = 0; l < kLanes; l++) {
      const int64_t r = first + l;
      const float* hr = h + r * kStreams * d;
      rho[r] = 1 / std::sqrt(dot(hr, hr, int(kStreams * d)) / (kStreams * d) + kEps);
      const float* mr = m + r * kMix;
      for (int i = 0; i < 4; i++) {
        pre[r * 4 + i] = sigmoid(mr[i] * rho[r] * scale[0] + base[i]) + kEps;
        post[r * 4 + i] = 2 * sigmoid(mr[4 + i] * rho[r] * scale[1] + base[4 + i]);
      }
      for (int i = 0; i < 16; i++) logits[i][l] = mr[8 + i] * rho[r] * scale[2] + base[8 + i];
    }
    s.forward(logits);
    for (int l = 0; l < kLanes; l++) {
      const int64_t r = first + l;
      for (int i = 0; i < 16; i++) comb[r * 16 + i] = s.result()[i][l];
      const float* hr = h + r * kStreams * d;
      float* xr = x + r * d;
      const V8 p0 = all(pre[r * 4]), p1 = all(pre[r * 4 + 1]), p2 = all(pre[r * 4 + 2]), p3 = all(pre[r * 4 + 3]);
      V8 square = all(0);
      for (int64_t i = 0; i < d; i += 8) {
        const V8 v = p0 * load(hr + i) + p1 * load(hr + d + i) + p2 * load(hr + 2 * d + i) + p3 * load(hr + 3 * d + i);
        square += v * v;
        store(xr + i, v);
      }
      rx[r] = 1 / std::sqrt(sum(square) / d + kEps);
      for (int64_t i = 0; i < d; i += 8) store(xr + i, load(xr + i) * all(rx[r]) * load(w + i));
    }
  }
}

// dh without the part through m, and dm for the two matrix products that finish the work; dscale, dbase and dw are added to.
void hc_pre_backward(int64_t rows, int64_t d, const float* h, const float* m, const float* scale, const float* base,
                     const float* w, const float* pre, const float* post, const float* rho, const float* rx,
                     const float* dx, const float* dpost, const float* dcomb, float* dh, float* dm, float* dscale,
                     float* dbase, float* dw) {
#pragma omp parallel
  {
    std::vector<float> my_dw(d, 0.f), xr(d), gx(d);
    float my_scale[3] = {0, 0, 0}, my_base[kMix] = {0};
#pragma omp for schedule(static)
    for (int64_t first = 0; first < rows; first += kLanes) {
      Lane logits[16], grad[16];
      Sinkhorn s;
      for (int l = 0; l < kLanes; l++) {
        const int64_t r = first + l;
        for (int i = 0; i < 16; i++) {
          logits[i][l] = m[r * kMix + 8 + i] * rho[r] * scale[2] + base[8 + i];
          grad[i][l] = dcomb[r * 16 + i];
        }
      }
      s.forward(logits);
      s.backward(grad);
      for (int l = 0; l < kLanes; l++) {
        const int64_t r = first + l;
        const float* hr = h + r * kStreams * d;
        const float* g = dx + r * d;
        float* dhr = dh + r * kStreams * d;
        const V8 p0 = all(pre[r * 4]), p1 = all(pre[r * 4 + 1]), p2 = all(pre[r * 4 + 2]), p3 = all(pre[r * 4 + 3]);
        V8 inner = all(0);
        for (int64_t i = 0; i < d; i += 8) {
          const V8 v = p0 * load(hr + i) + p1 * load(hr + d + i) + p2 * load(hr + 2 * d + i) + p3 * load(hr + 3 * d + i);
          const V8 gw = load(g + i) * load(w + i);
          store(&my_dw[i], load(&my_dw[i]) + load(g + i) * v * all(rx[r]));
          inner += gw * v;
          store(&xr[i], v);
          store(&gx[i], gw);
        }
        const V8 factor = all(sum(inner) / d * rx[r] * rx[r]), inverse = all(rx[r]);
        V8 dp[4] = {all(0), all(0), all(0), all(0)};
        for (int64_t i = 0; i < d; i += 8) {
          const V8 v = inverse * (load(&gx[i]) - factor * load(&xr[i]));
          store(&gx[i], v);
          for (int k = 0; k < 4; k++) dp[k] += v * load(hr + k * d + i);
        }
        // Through the sigmoids and Sinkhorn to the normalised m, then to m and to rho.
        float dn[kMix];
        for (int i = 0; i < 4; i++) {
          const float a = pre[r * 4 + i] - kEps, b = post[r * 4 + i] / 2;
          dn[i] = sum(dp[i]) * a * (1 - a);
          dn[4 + i] = dpost[r * 4 + i] * 2 * b * (1 - b);
        }
        for (int i = 0; i < 16; i++) dn[8 + i] = grad[i][l];
        float drho = 0;
        for (int i = 0; i < kMix; i++) {
          const int part = i < 4 ? 0 : i < 8 ? 1 : 2;
          const float mi = m[r * kMix + i];
          my_base[i] += dn[i];
          my_scale[part] += dn[i] * mi * rho[r];
          dn[i] *= scale[part];
          drho += dn[i] * mi;
          dm[r * kMix + i] = dn[i] * rho[r];
        }
        const V8 back = all(-drho * rho[r] * rho[r] * rho[r] / (kStreams * d));
        for (int k = 0; k < 4; k++) {
          const V8 pk = all(pre[r * 4 + k]);
          for (int64_t i = 0; i < d; i += 8) store(dhr + k * d + i, pk * load(&gx[i]) + back * load(hr + k * d + i));
        }
      }
    }
#pragma omp critical
    {
      for (int64_t i = 0; i < d; i++) dw[i] += my_dw[i];
      for (int i = 0; i < 3; i++) dscale[i] += my_scale[i];
      for (int i = 0; i < kMix; i++) dbase[i] += my_base[i];
    }
  }
}

// out[k] = post[k] y + sum_j comb[j][k] h[j]
void hc_post_forward(int64_t rows, int64_t d, const float* y, const float* h, const float* post, const float* comb, float* out) {
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rows; r++) {
    const float *yr = y + r * d, *hr = h + r * kStreams * d, *c = comb + r * 16;
    for (int k = 0; k < 4; k++) {
      float* o = out + (r * kStreams + k) * d;
      const V8 p = all(post[r * 4 + k]), c0 = all(c[k]), c1 = all(c[4 + k]), c2 = all(c[8 + k]), c3 = all(c[12 + k]);
      for (int64_t i = 0; i < d; i += 8)
        store(o + i, p * load(yr + i) + c0 * load(hr + i) + c1 * load(hr + d + i) + c2 * load(hr + 2 * d + i) +
                         c3 * load(hr + 3 * d + i));
    }
  }
}

void hc_post_backward(int64_t rows, int64_t d, const float* y, const float* h, const float* post, const float* comb,
                      const float* g, float* dy, float* dh, float* dpost, float* dcomb) {
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rows; r++) {
    const float *yr = y + r * d, *c = comb + r * 16, *p = post + r * 4, *gr = g + r * kStreams * d;
    const float *g0 = gr, *g1 = gr + d, *g2 = gr + 2 * d, *g3 = gr + 3 * d;
    V8 a[4] = {all(0), all(0), all(0), all(0)};
    const V8 p0 = all(p[0]), p1 = all(p[1]), p2 = all(p[2]), p3 = all(p[3]);
    for (int64_t i = 0; i < d; i += 8) {
      const V8 v0 = load(g0 + i), v1 = load(g1 + i), v2 = load(g2 + i), v3 = load(g3 + i), yi = load(yr + i);
      store(dy + r * d + i, p0 * v0 + p1 * v1 + p2 * v2 + p3 * v3);
      a[0] += yi * v0;
      a[1] += yi * v1;
      a[2] += yi * v2;
      a[3] += yi * v3;
    }
    for (int k = 0; k < 4; k++) dpost[r * 4 + k] = sum(a[k]);
    for (int j = 0; j < 4; j++) {
      const float* hj = h + (r * kStreams + j) * d;
      float* o = dh + (r * kStreams + j) * d;
      const V8 c0 = all(c[4 * j]), c1 = all(c[4 * j + 1]), c2 = all(c[4 * j + 2]), c3 = all(c[4 * j + 3]);
      V8 b0 = all(0), b1 = all(0), b2 = all(0), b3 = all(0);
      for (int64_t i = 0; i < d; i += 8) {
        const V8 v0 = load(g0 + i), v1 = load(g1 + i), v2 = load(g2 + i), v3 = load(g3 + i), hi = load(hj + i);
        store(o + i, c0 * v0 + c1 * v1 + c2 * v2 + c3 * v3);
        b0 += hi * v0;
        b1 += hi * v1;
        b2 += hi * v2;
        b3 += hi * v3;
      }
      dcomb[r * 16 + 4 * j] = sum(b0);
      dcomb[r * 16 + 4 * j + 1] = sum(b1);
      dcomb[r * 16 + 4 * j + 2] = sum(b2);
      dcomb[r * 16 + 4 * j + 3] = sum(b3);
    }
  }
}

// Per head: x * rsqrt(mean x^2 + eps) * w * gain, then rope on the last 2 * pairs dims with the row's angle; blocks of heads
// kept together in the output. w may be null, pairs may be 0. cosine and sine: [tokens, pairs].
void norm_rope_forward(int64_t rows, int64_t heads, int64_t dim, int64_t stride, int64_t tokens, int64_t block,
                       int64_t pairs, float gain, const float* x, const float* w, const float* cosine, const float* sine,
                       float* out) {
  const BlockLayout at{tokens, heads, block};
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rows; r++) {
    for (int64_t head = 0; head < heads; head++) {
      const float* v = x + r * stride + head * dim;
      float* o = out + at(r, head) * dim;
      const float inverse = gain / std::sqrt(dot(v, v, int(dim)) / dim + kEps);
      for (int64_t i = 0; i < dim; i++) o[i] = v[i] * inverse * (w ? w[i] : 1.f);
      float* tail = o + dim - 2 * pairs;
      const float *c = cosine + (r % tokens) * pairs, *s = sine + (r % tokens) * pairs;
      for (int64_t i = 0; i < pairs; i++) {
        const float a = tail[2 * i], b = tail[2 * i + 1];
        tail[2 * i] = a * c[i] - b * s[i];
        tail[2 * i + 1] = a * s[i] + b * c[i];
      }
    }
  }
}

void norm_rope_backward(int64_t rows, int64_t heads, int64_t dim, int64_t stride, int64_t tokens, int64_t block,
                        int64_t pairs, float gain, const float* x, const float* w, const float* cosine, const float* sine,
                        const float* g, float* dx, float* dw) {
  const BlockLayout at{tokens, heads, block};
#pragma omp parallel
  {
    std::vector<float> buffer(dim), my_dw(dim, 0.f);
#pragma omp for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
      for (int64_t head = 0; head < heads; head++) {
        const float* v = x + r * stride + head * dim;
        float* o = dx + (r * heads + head) * dim;
        float* u = buffer.data();
        std::memcpy(u, g + at(r, head) * dim, sizeof(float) * dim);
        float* tail = u + dim - 2 * pairs;
        const float *c = cosine + (r % tokens) * pairs, *s = sine + (r % tokens) * pairs;
        for (int64_t i = 0; i < pairs; i++) {
          const float a = tail[2 * i], b = tail[2 * i + 1];
          tail[2 * i] = a * c[i] + b * s[i];
          tail[2 * i + 1] = b * c[i] - a * s[i];
        }
        const float inverse = 1 / std::sqrt(dot(v, v, int(dim)) / dim + kEps);
        if (w) {
          for (int64_t i = 0; i < dim; i++) {
            my_dw[i] += u[i] * v[i] * inverse * gain;
            u[i] *= w[i];
          }
        }
        const float factor = dot(u, v, int(dim)) / dim * inverse * inverse;
        for (int64_t i = 0; i < dim; i++) o[i] = inverse * gain * (u[i] - factor * v[i]);
      }
    }
    if (w) {
#pragma omp critical
      for (int64_t i = 0; i < dim; i++) dw[i] += my_dw[i];
    }
  }
}

// Attention's output in block layout, turned back at the query's position -> [groups, rows, heads/groups * dim]; or the
// gradient the other way.
void unrope(int64_t rows, int64_t heads, int64_t dim, int64_t groups, int64_t tokens, int64_t block, int64_t pairs,
            const float* cosine, const float* sine, int backward, const float* in, float* out) {
  const BlockLayout at{tokens, heads, block};
  const int64_t per_group = heads / groups;
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rows; r++) {
    const float *c = cosine + (r % tokens) * pairs, *s = sine + (r % tokens) * pairs;
    for (int64_t head = 0; head < heads; head++) {
      const int64_t blocked = at(r, head) * dim;
      const int64_t grouped = (((head / per_group) * rows + r) * per_group + head % per_group) * dim;
      const float* v = in + (backward ? grouped : blocked);
      float* o = out + (backward ? blocked : grouped);
      const int64_t rest = dim - 2 * pairs;
      std::memcpy(o, v, sizeof(float) * rest);
      const float sign = backward ? 1.f : -1.f;
      for (int64_t i = 0; i < pairs; i++) {
        const float a = v[rest + 2 * i], b = v[rest + 2 * i + 1];
        o[rest + 2 * i] = a * c[i] - b * s[i] * sign;
        o[rest + 2 * i + 1] = b * c[i] + a * s[i] * sign;
      }
    }
  }
}

// Softmax over the raw rows of the window and the visible compressed rows, with the sink in the sum. Scores become shares.
// raw: [batch, blocks, heads, block, width], width = block (one block: keys are its own) or 2 * block (previous block, own
// block); entries: [batch, blocks, heads, block, count], of which (t + 1) / ratio are visible to the query at t.
struct SoftmaxShape {
  int64_t batch, blocks, heads, block, width, count, ratio, window;
  void span(int64_t n, int64_t i, int64_t& low, int64_t& high) const {
    if (width == block) {
      low = 0;
      high = i + 1;
    } else {  // the block before, none for the first, and the query's own up to its row
      low = n ? i + 1 : block;
      high = block + i + 1;
    }
    low = low < high - window ? high - window : low;
  }
  int64_t visible(int64_t n, int64_t i) const {
    const int64_t v = ratio ? (n * block + i + 1) / ratio : 0;
    return v < count ? v : count;
  }
};

void softmax_forward(const SoftmaxShape* shape, const float* sinks, float* raw, float* entries, float* sink_share) {
  const SoftmaxShape s = *shape;
  const int64_t rows = s.batch * s.blocks * s.heads * s.block;
#pragma omp parallel for schedule(static, 64)
  for (int64_t r = 0; r < rows; r++) {
    const int64_t i = r % s.block, head = r / s.block % s.heads, n = r / s.block / s.heads % s.blocks;
    int64_t low, high;
    s.span(n, i, low, high);
    const int64_t visible = s.visible(n, i);
    float *a = raw + r * s.width, *b = entries + r * s.count;
    float top = sinks[head];
    for (int64_t j = low; j < high; j++) top = a[j] > top ? a[j] : top;
    for (int64_t j = 0; j < visible; j++) top = b[j] > top ? b[j] : top;
    float total = expf(sinks[head] - top);
    const float sink = total;
    for (int64_t j = 0; j < low; j++) a[j] = 0;
    for (int64_t j = low; j < high; j++) total += a[j] = expf(a[j] - top);
    for (int64_t j = high; j < s.width; j++) a[j] = 0;
    for (int64_t j = 0; j < visible; j++) total += b[j] = expf(b[j] - top);
    for (int64_t j = visible; j < s.count; j++) b[j] = 0;
    const float inverse = 1 / total;
    for (int64_t j = low; j < high; j++) a[j] *= inverse;
    for (int64_t j = 0; j < visible; j++) b[j] *= inverse;
    sink_share[r] = sink * inverse;
  }
}

// Gradients of the probabilities become gradients of the scores, in place; dsinks is added to.
void softmax_backward(const SoftmaxShape* shape, const float* raw, const float* entries, const float* sink_share,
                      float* draw, float* dentries, float* dsinks) {
  const SoftmaxShape s = *shape;
  const int64_t rows = s.batch * s.blocks * s.heads * s.block;
#pragma omp parallel
  {
    std::vector<float> mine(s.heads, 0.f);
#pragma omp for schedule(static, 64)
    for (int64_t r = 0; r < rows; r++) {
      const float *p = raw + r * s.width, *q = entries + r * s.count;
      float *g = draw + r * s.width, *f = dentries + r * s.count;
      float inner = 0;
      for (int64_t j = 0; j < s.width; j++) inner += p[j] * g[j];
      for (int64_t j = 0; j < s.count; j++) inner += q[j] * f[j];
      for (int64_t j = 0; j < s.width; j++) g[j] = p[j] * (g[j] - inner);
      for (int64_t j = 0; j < s.count; j++) f[j] = q[j] * (f[j] - inner);
      mine[r / s.block % s.heads] -= sink_share[r] * inner;
    }
#pragma omp critical
    for (int64_t head = 0; head < s.heads; head++) dsinks[head] += mine[head];
  }
}

// Ratio-4 entries: a softmax by channel over the first halves of the window before and the second halves of the own window.
// k, g: [rows, 2 width] at a stride; ape [4, 2 width]; out [rows / 4, width]. The first window of a sequence has none before.
void compress_forward(int64_t rows, int64_t tokens, int64_t width, int64_t stride, const float* k, const float* g,
                      const float* ape, float* out) {
#pragma omp parallel for schedule(static)
  for (int64_t e = 0; e < rows / 4; e++) {
    const int begin = (e * 4) % tokens ? 0 : 4;
    for (int64_t c = 0; c < width; c++) {
      float top = -1e30f, total = 0, value = 0, score[8];
      for (int i = begin; i < 8; i++) {
        const int64_t row = e * 4 - 4 + i, channel = i < 4 ? c : width + c;
        score[i] = g[row * stride + channel] + ape[(i % 4) * 2 * width + channel];
        top = score[i] > top ? score[i] : top;
      }
      for (int i = begin; i < 8; i++) {
        const int64_t row = e * 4 - 4 + i, channel = i < 4 ? c : width + c;
        const float p = expf(score[i] - top);
        total += p;
        value += p * k[row * stride + channel];
      }
      out[e * width + c] = value / total;
    }
  }
}

// dk, dg: [rows, 2 width], zeroed by the caller; dape [4, 2 width] is added to.
void compress_backward(int64_t rows, int64_t tokens, int64_t width, int64_t stride, const float* k, const float* g,
                       const float* ape, const float* out, const float* dout, float* dk, float* dg, float* dape) {
#pragma omp parallel
  {
    std::vector<float> mine(8 * width, 0.f);
#pragma omp for schedule(static)
    for (int64_t e = 0; e < rows / 4; e++) {
      const int begin = (e * 4) % tokens ? 0 : 4;
      for (int64_t c = 0; c < width; c++) {
        float top = -1e30f, total = 0, score[8];
        for (int i = begin; i < 8; i++) {
          const int64_t row = e * 4 - 4 + i, channel = i < 4 ? c : width + c;
          score[i] = g[row * stride + channel] + ape[(i % 4) * 2 * width + channel];
          top = score[i] > top ? score[i] : top;
        }
        for (int i = begin; i < 8; i++) total += score[i] = expf(score[i] - top);
        const float up = dout[e * width + c] / total, mean = out[e * width + c];
        for (int i = begin; i < 8; i++) {
          const int64_t row = e * 4 - 4 + i, channel = i < 4 ? c : width + c;
          const float p = score[i] * up, d = p * (k[row * stride + channel] - mean);
          dk[row * 2 * width + channel] = p;
          dg[row * 2 * width + channel] = d;
          mine[(i % 4) * 2 * width + channel] += d;
        }
      }
    }
#pragma omp critical
    for (int64_t i = 0; i < 8 * width; i++) dape[i] += mine[i];
  }
}

// out = silu(min(gate, limit)) * clamp(up, limit) * share; gu: [rows, 2 f], gate first.
void swiglu_forward(int64_t rows, int64_t f, float limit, const float* gu, const float* share, float* out) {
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rows; r++) {
    const float *g = gu + r * 2 * f, *u = g + f;
    float* o = out + r * f;
    const float s = share[r];
    for (int64_t i = 0; i < f; i++) {
      const float a = std::fmin(g[i], limit), b = std::fmax(std::fmin(u[i], limit), -limit);
      o[i] = a / (1 + expf(-a)) * b * s;
    }
  }
}

void swiglu_backward(int64_t rows, int64_t f, float limit, const float* gu, const float* share, const float* dout,
                     float* dgu, float* dshare) {
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rows; r++) {
    const float *g = gu + r * 2 * f, *u = g + f, *d = dout + r * f;
    float *dg = dgu + r * 2 * f, *du = dg + f;
    const float s = share[r];
    float inner = 0;
    for (int64_t i = 0; i < f; i++) {
      const float a = std::fmin(g[i], limit), b = std::fmax(std::fmin(u[i], limit), -limit);
      const float sig = 1 / (1 + expf(-a)), silu = a * sig;
      inner += d[i] * silu * b;
      dg[i] = g[i] < limit ? d[i] * s * b * (sig + silu * (1 - sig)) : 0.f;
      du[i] = std::fabs(u[i]) < limit ? d[i] * s * silu : 0.f;
    }
    dshare[r] = inner;
  }
}

// out[t] = own[t] + sum of its two rows among `sorted`; place [rows, picks] says where they are.
void gather_sum(int64_t rows, int64_t d, int64_t picks, const float* own, const float* sorted, const int64_t* place,
                float* out) {
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rows; r++) {
    float* o = out + r * d;
    std::memcpy(o, own + r * d, sizeof(float) * d);
    for (int64_t k = 0; k < picks; k++) {
      const float* v = sorted + place[r * picks + k] * d;
      for (int64_t i = 0; i < d; i += 8) store(o + i, load(o + i) + load(v + i));
    }
  }
}

}  // extern "C"
