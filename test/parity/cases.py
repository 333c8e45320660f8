"""The parity cases: seeded geometries that together hold every layer kind and every tensor type nandu reads.

What a case is about is written out; the rest of its numbers is drawn from its name. `weights` decides the gate:
'f32', 'half' (F16 and BF16) or 'quantised'. Random models amplify rounding through routing and top-k flips as trained
ones do not; so that the gates measure arithmetic and not chaos, what a layer adds is smaller the coarser the weights.

Use: cases.py list            names, sizes, types
     cases.py write DIR [NAME...]   NAME.gguf and NAME.tokens
"""

import dataclasses
import pathlib
import sys
from dataclasses import dataclass

import gguf
import numpy as np

from model_file import ALL_TYPES, Q, Spec, random_words, tensor_shapes, tokens_of, write

BY_256 = [t for t in ALL_TYPES if gguf.GGML_QUANT_SIZES[t][0] == 256]
BRANCH = {'f32': 1.0, 'half': 0.35, 'quantised': 0.25}
BY_32 = [t for t in ALL_TYPES if gguf.GGML_QUANT_SIZES[t][0] == 32]


@dataclass(frozen=True)
class Case:
    spec: Spec
    weights: str
    about: str
    llama: bool = True  # whether llama.cpp runs it: without a CSA layer it divides by zero
    transformers: bool = True  # whether transformers can express it: it has one clamp for all layers

    @property
    def name(self):
        return self.spec.name


def draw(seed, options):
    return options[int(random_words(seed, 1)[0] >> np.uint64(32)) % len(options)]


def make(name, about, weights='f32', types=(), llama=True, transformers=True, **given):
    """A case: `given` is what it is about, the other numbers are drawn."""

    def pick(field, options):
        return given.pop(field, draw(f'{name}/{field}', options))

    head_dim, rope_dims = given.pop('dims', None) or draw(
        f'{name}/dims', [(96, 32), (128, 64), (192, 64), (256, 64), (160, 32)]
    )
    indexer_dim = pick('indexer_dim', [width for width in (64, 128) if width != head_dim])
    groups = pick('groups', [1, 2, 4])
    experts = pick('experts', [6, 8, 13, 16] if weights == 'f32' else [16])
    spec = Spec(
        name=name,
        salt=name + '/',
        ratios=pick('ratios', [(0, 4, 128), (128, 4, 4), (4, 128, 0), (0, 128, 4, 4)]),
        hidden=pick('hidden', [128, 160, 192, 256]),
        vocab=pick('vocab', [509, 640, 777]),
        heads=pick('heads', [4, 8]),
        head_dim=head_dim,
        rope_dims=rope_dims,
        q_rank=pick('q_rank', [64, 96, 128]),
        groups=groups,
        o_rank=pick('o_rank', [32, 64]),
        window=pick('window', [8, 16, 24, 48]),
        experts=experts,
        experts_used=pick('experts_used', [2, 3, 4] if weights == 'f32' else [4]),
        ff=pick('ff', [96, 128, 160]),
        hash_layers=pick('hash_layers', [1, 2]),
        routed_scale=pick('routed_scale', [1.0, 1.5, 2.5]),
        indexer_heads=pick('indexer_heads', [16, 24, 32]),
        indexer_dim=indexer_dim,
        top_k=pick('top_k', [6, 8, 16]),
        tokens=pick('tokens', [300, 350, 420]),
        branch=BRANCH[weights],
        **given,
    )
    if types == 'mixed':
        types = mixed_types(spec)
    return Case(dataclasses.replace(spec, types=tuple(types)), weights, about, llama, transformers)


def mixed_types(spec):
    """Every matrix its own type among those its row length allows; the mHC mix and ape stay float."""
    chosen = []
    for name, shape in tensor_shapes(spec):
        if len(shape) < 2:
            continue
        if 'hc_' in name or '_ape' in name or 'ffn_gate_inp' in name:
            options = [Q.F32, Q.F16] if 'ffn_gate_inp' not in name else [Q.F32, Q.F16, Q.BF16]
        elif shape[-1] % 256 == 0:
            options = BY_256 + BY_32
        elif shape[-1] % 32 == 0:
            options = BY_32
        else:
            options = [Q.F32, Q.F16, Q.BF16]
        chosen.append(('^' + name.replace('.', r'\.') + '$', draw(spec.salt + name + '/type', options)))
    return chosen


# Row lengths that 256-value blocks need: hidden, q_rank, ff, heads * head_dim / groups and groups * o_rank.
WIDE = {
    'hidden': 256,
    'q_rank': 256,
    'ff': 256,
    'heads': 4,
    'groups': 2,
    'o_rank': 128,
    'dims': (128, 64),
    'indexer_dim': 64,
}
CONVERTER = (
    (r'_exps', Q.MXFP4),
    (r'hc_|_ape', Q.F32),
    (r'attn_(q_a|q_b|kv|output_[ab])\.|indexer\.attn_q_b|shexp', Q.Q8_0),
    (r'.', Q.BF16),
)
DS4 = (
    (r'ffn_(gate|up)_exps', Q.IQ2_XXS),
    (r'ffn_down_exps', Q.Q2_K),
    (r'attn_(q_a|q_b|kv|output_[ab])\.|shexp|^output\.', Q.Q8_0),
    (r'.', Q.F16),
)


def float_parts(*rules):
    """Rules for the matrices, with the mHC mix, ape and the router left in F32."""
    return ((r'hc_|_ape|ffn_gate_inp', Q.F32), *rules)


CASES = [
    make(
        'f32-odd',
        'no dimension a multiple of 16; D 84, R 20',
        dims=(84, 20),
        ratios=(0, 4, 128),
        hidden=200,
        q_rank=72,
        o_rank=44,
        ff=84,
        vocab=509,
    ),
    make('f32-d512', 'head 512, one group, HCA first', dims=(512, 64), heads=2, groups=1, ratios=(128, 4, 4)),
    make(
        'f32-hash',
        'every layer hash-routed, 4 of 16 experts',
        dims=(192, 64),
        ratios=(4, 0, 128, 4),
        hash_layers=4,
        experts=16,
        experts_used=4,
    ),
    make(
        'f32-bias',
        'no hash layer, 1 of 5 experts, 128 window',
        dims=(160, 32),
        ratios=(0, 4, 128),
        hash_layers=0,
        experts=5,
        experts_used=1,
        window=128,
    ),
    make('f32-plain', 'sliding window only, wraps 50 times', ratios=(0, 0, 0), window=8, tokens=420, llama=False),
    make('f32-hca', 'HCA only, exactly three windows', ratios=(128, 128), window=24, tokens=384, llama=False),
    make(
        'f32-yarn',
        'betas 24 and 2, context 256, factor 4, 7 Sinkhorn steps, clamp 2',
        ratios=(4, 128, 0),
        yarn_beta_fast=24.0,
        yarn_beta_slow=2.0,
        yarn_context=256,
        yarn_factor=4.0,
        sinkhorn=7,
        clamp=2.0,
        rope_base=5000.0,
        compress_rope_base=40000.0,
    ),
    make(
        'f32-clamps',
        'clamps differ by layer and for the shared expert',
        ratios=(0, 4, 128),
        clamp_experts=(2.0, 10.0, 0.5),
        clamp_shared=(3.0, 0.7, 10.0),
        transformers=False,
    ),
    make(
        'f32-long',
        '1,700 tokens: 13 HCA rows, 425 CSA rows of which 32',
        dims=(128, 64),
        ratios=(0, 4, 128, 4),
        window=64,
        top_k=32,
        tokens=1700,
    ),
    make('f16', 'F16 matrices', 'half', float_parts((r'.', Q.F16)), dims=(128, 64), ratios=(0, 4, 128)),
    make('bf16', 'BF16 matrices, D 320', 'half', float_parts((r'.', Q.BF16)), dims=(320, 64), ratios=(4, 128, 4)),
    make(
        'half-mix',
        'F16 mix, ape and router as ds4 writes them, BF16 attention',
        'half',
        ((r'attn_(q|kv|out)|token_embd', Q.BF16), (r'.', Q.F16)),
        dims=(96, 32),
        ratios=(128, 4, 0),
    ),
    make(
        'converter',
        "llama.cpp converter's mix: Q8_0, MXFP4 experts, BF16",
        'quantised',
        CONVERTER,
        ratios=(0, 4, 128),
        **WIDE,
    ),
    make(
        'ds4',
        "ds4's mix: Q8_0, IQ2_XXS and Q2_K experts, F16",
        'quantised',
        DS4,
        ratios=(0, 128, 4),
        ds4_keys=True,
        **WIDE,
    ),
    make(
        'k-high',
        'Q4_K, Q5_K, Q6_K',
        'quantised',
        float_parts((r'exps|^output', Q.Q4_K), (r'shexp|kv|token_embd', Q.Q6_K), (r'.', Q.Q5_K)),
        ratios=(4, 128, 0),
        **WIDE,
    ),
    make(
        'k-low',
        'Q2_K, Q3_K, IQ4_XS',
        'quantised',
        float_parts((r'exps', Q.Q2_K), (r'shexp|_kv|token_embd', Q.IQ4_XS), (r'.', Q.Q3_K)),
        ratios=(0, 4, 128),
        **WIDE,
    ),
    make(
        'q-32',
        'Q4_0, Q4_1, Q5_0, IQ4_NL, Q8_0 with rows of 96 and 160',
        'quantised',
        float_parts(
            (r'gate_exps|q_a', Q.Q4_0),
            (r'up_exps|q_b', Q.Q4_1),
            (r'down|output_a', Q.Q5_0),
            (r'output_b|_kv', Q.IQ4_NL),
            (r'.', Q.Q8_0),
        ),
        ratios=(128, 4, 0),
        dims=(96, 32),
        hidden=160,
        q_rank=96,
        ff=96,
        o_rank=32,
        groups=2,
    ),
    make(
        'hc-quantised',
        'mHC mix in Q4_K and Q8_0, which llama.cpp reads too',
        'quantised',
        ((r'hc_attn|output_hc', Q.Q4_K), (r'hc_', Q.Q8_0), (r'.', Q.F32)),
        ratios=(0, 4, 128),
        **WIDE,
    ),
    make(
        'ape-quantised',
        'compressor ape in Q8_0 and Q5_0, which llama.cpp reads too',
        'quantised',
        ((r'indexer_compressor_ape', Q.Q5_0), (r'_ape', Q.Q8_0), (r'.', Q.F16)),
        ratios=(0, 4, 128),
        **WIDE,
    ),
    make('mixed-a', 'every matrix its own type', 'quantised', 'mixed', ratios=(0, 4, 128, 4), **WIDE),
    make(
        'mixed-b',
        'every matrix its own type, head 512',
        'quantised',
        'mixed',
        ratios=(128, 4, 0),
        **{**WIDE, 'dims': (512, 64), 'indexer_dim': 128},
    ),
    make(
        'q8-long',
        '1,536 tokens, Q8_0 and MXFP4',
        'quantised',
        float_parts((r'exps', Q.MXFP4), (r'.', Q.Q8_0)),
        dims=(128, 64),
        ratios=(0, 4, 128),
        top_k=64,
        tokens=1536,
    ),
]


def case_types(case):
    return sorted({case.spec.type_of(name) for name, shape in tensor_shapes(case.spec) if len(shape) > 1})


def check_coverage(cases):
    """Every matrix type and layer kind occurs, else the list has rotted."""
    missing = set(ALL_TYPES) - {kind for case in cases for kind in case_types(case)}
    assert not missing, f'types without a case: {missing}'
    assert {ratio for case in cases for ratio in case.spec.ratios} == {0, 4, 128}
    assert len(cases) >= 12 and max(case.spec.tokens for case in cases) >= 1500


def write_case(case, folder):
    """The case's model and tokens in the folder; returns both paths."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model, tokens = folder / f'{case.name}.gguf', folder / f'{case.name}.tokens'
    write(case.spec, model)
    tokens.write_text(' '.join(map(str, tokens_of(case.spec))) + '\n')
    return model, tokens


def main():
    check_coverage(CASES)
    if sys.argv[1:2] == ['list']:
        for case in CASES:
            kinds = ' '.join(kind.name for kind in case_types(case))
            print(f'{case.name:10} {case.spec.tokens:5} tokens  ratios {case.spec.ratios}  {case.about}  [{kinds}]')
    elif sys.argv[1:2] == ['write'] and len(sys.argv) >= 3:
        for case in CASES:
            if len(sys.argv) == 3 or case.name in sys.argv[3:]:
                print(*write_case(case, sys.argv[2]))
    else:
        sys.exit(__doc__)


if __name__ == '__main__':
    main()
