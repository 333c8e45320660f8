"""Writes a checkpoint as a GGUF file of architecture deepseek4.

    python tools/model/export.py RUN/checkpoint.pt nandu-dictionary.gguf [--types f32]

Types `shipped`: experts MXFP4, other matrices Q8_0; attn_output_a and compressors BF16 (llama.cpp refuses a Q8_0
attn_output_a on some CPUs, and the compressors are small); router, mixing and vectors F32. Types `f32`: everything F32,
for comparisons. Nothing was trained for the rounding to MXFP4 and Q8_0.
"""

import argparse
import pathlib

import gguf
import numpy as np

ARCH = 'deepseek4'
Q = gguf.GGMLQuantizationType
HERE = pathlib.Path(__file__).parent
SHIPPED = [('_exps.', Q.MXFP4), ('attn_output_a', Q.BF16), ('compressor_kv', Q.BF16), ('compressor_gate', Q.BF16),
           ('indexer.proj', Q.BF16), ('_fn.', Q.F32), ('_ape.', Q.F32), ('ffn_gate_inp', Q.F32)]
DESCRIPTION = ('A pocket dictionary: defines frequent English words, finds a fact in a given text, calls a tool. '
               'It knows nothing else. Trained by tools/model of the nandu repository.')
# While a layer's entries are at most top_k, all of them are read and the untrained indexer is never asked: 4 * top_k + 3 tokens.
TOP_K = 1024
CONTEXT = 4096


def type_of(name, shape, types):
    if types == 'f32' or len(shape) == 1:
        return Q.F32
    for pattern, kind in SHIPPED:
        if pattern in name:
            return kind
    return Q.Q8_0


def write_metadata(writer, g):
    layers = len(g.ratios)
    for key, value in {
        'block_count': layers, 'context_length': CONTEXT, 'embedding_length': g.hidden, 'vocab_size': g.vocab,
        'attention.head_count': g.heads, 'attention.head_count_kv': 1, 'attention.key_length': g.head_dim,
        'attention.value_length': g.head_dim, 'attention.q_lora_rank': g.q_rank, 'attention.output_group_count': g.groups,
        'attention.output_lora_rank': g.o_rank, 'attention.sliding_window': 128,
        'attention.indexer.head_count': g.indexer_heads, 'attention.indexer.key_length': g.indexer_dim,
        'attention.indexer.top_k': TOP_K,
        'rope.dimension_count': g.rope_dims, 'rope.scaling.original_context_length': g.yarn_context,
        'expert_count': g.experts, 'expert_used_count': g.experts_used, 'expert_shared_count': 1,
        'expert_feed_forward_length': g.ff, 'expert_gating_func': 4, 'hash_layer_count': g.hash_layers,
        'hyper_connection.count': 4, 'hyper_connection.sinkhorn_iterations': 20,
    }.items():
        writer.add_uint32(f'{ARCH}.{key}', value)
    for key, value in {
        'attention.layer_norm_rms_epsilon': 1e-6, 'attention.compress_rope_freq_base': g.compress_rope_base,
        'rope.freq_base': g.rope_base, 'rope.scaling.factor': g.yarn_factor, 'rope.scaling.yarn_beta_fast': 32.0,
        'rope.scaling.yarn_beta_slow': 1.0, 'expert_weights_scale': g.routed_scale, 'hyper_connection.epsilon': 1e-6,
    }.items():
        writer.add_float32(f'{ARCH}.{key}', value)
    writer.add_string(f'{ARCH}.rope.scaling.type', 'yarn')
    writer.add_bool(f'{ARCH}.expert_weights_norm', True)
    writer.add_array(f'{ARCH}.attention.compress_ratios', list(g.ratios))
    writer.add_array(f'{ARCH}.swiglu_clamp_exp', [g.clamp] * layers)
    writer.add_array(f'{ARCH}.swiglu_clamp_shexp', [g.clamp] * layers)


def write_description(writer):
    writer.add_name('nandu-dictionary')
    writer.add_description(DESCRIPTION)
    writer.add_license('MIT')
    writer.add_license_name('MIT; the text it was trained on under its own licence, see models/NOTICE')
    writer.add_languages(['en'])
    writer.add_tags(['text-generation', 'dictionary'])


def write_vocabulary(writer, path):
    import tokenizer

    tokens, merges, types = tokenizer.vocabulary(str(path))
    writer.add_tokenizer_model('gpt2')
    writer.add_tokenizer_pre('joyai-llm')
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(tokenizer.BOS)
    writer.add_eos_token_id(tokenizer.EOS)
    writer.add_pad_token_id(tokenizer.PAD)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template((HERE / 'chat-template.jinja').read_text().removesuffix('\n'))


def write(model, path, types='shipped', vocabulary=None):
    """`vocabulary`: the tokenizer's JSON; without one the file holds no vocabulary and takes token ids only."""
    writer = gguf.GGUFWriter(str(path), ARCH)
    write_metadata(writer, model.g)
    write_description(writer)
    if vocabulary:
        write_vocabulary(writer, vocabulary)
    else:
        writer.add_tokenizer_model('no_vocab')
    if types == 'shipped':
        writer.add_file_type(gguf.LlamaFileType.MOSTLY_MXFP4_MOE)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for name, value in model.tensors():
        array = np.ascontiguousarray(value.detach().cpu().numpy())
        kind = type_of(name, array.shape, types) if array.dtype == np.float32 else Q.I32
        if kind in (Q.F32, Q.I32):
            writer.add_tensor(name, array)
        else:
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint')
    parser.add_argument('output')
    parser.add_argument('--types', choices=['shipped', 'f32'], default='shipped')
    parser.add_argument('--vocabulary', help="the tokenizer's JSON (default: the one that data.py made)")
    args = parser.parse_args()
    import data
    import train

    model, _ = train.load(pathlib.Path(args.checkpoint))
    write(model, args.output, args.types, args.vocabulary or data.TOKENIZER)
    print(f'{args.output}: {pathlib.Path(args.output).stat().st_size:,} bytes')


if __name__ == '__main__':
    main()
