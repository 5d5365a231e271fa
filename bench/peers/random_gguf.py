"""GGUF files with random weights in the shapes of models that people run. Runs in the peers'
environment: the gguf package writes the file, and llama.cpp's own quantiser brings it to its type, so
that a q4_k_m file has the mixture of tensor types that a published one has.

    random_gguf.py SHAPE QUANT FILE

Speed and memory depend on shapes alone. Weights are normal, with a spread of 0.02; norms are one.
The vocabulary has the size of the model's, but only single bytes mean something: the measured
programs are given token ids. Quantising seven billion weights takes half an hour on two cores, so
the blocks of mistral-7b (q4_k_m alone) are random themselves, in the mixture that llama.cpp chooses.
"""

import os
import sys

import gguf
import llama_cpp
import numpy as np

POOL = 1 << 22
SPREAD = 0.02
CONTEXT = 32768

# Sources: the config.json of Qwen2.5-0.5B, Llama-3.2-1B, gemma-3-1b-it and Mistral-7B-Instruct-v0.2.
SHAPES = {
    "qwen2.5-0.5b": {"architecture": "qwen2", "layers": 24, "hidden": 896, "heads": 14,
                     "kv_heads": 2, "head": 64, "ffn": 4864, "vocabulary": 151936,
                     "theta": 1e6, "epsilon": 1e-6, "tokenizer": "qwen2"},
    "llama-3.2-1b": {"architecture": "llama", "layers": 16, "hidden": 2048, "heads": 32,
                     "kv_heads": 8, "head": 64, "ffn": 8192, "vocabulary": 128256,
                     "theta": 5e5, "epsilon": 1e-5, "tokenizer": "llama-bpe"},
    "gemma-3-1b": {"architecture": "gemma3", "layers": 26, "hidden": 1152, "heads": 4,
                   "kv_heads": 1, "head": 256, "ffn": 6912, "vocabulary": 262144,
                   "theta": 1e6, "epsilon": 1e-6, "tokenizer": None, "window": 512},
    "mistral-7b": {"architecture": "llama", "layers": 32, "hidden": 4096, "heads": 32,
                   "kv_heads": 8, "head": 128, "ffn": 14336, "vocabulary": 32000,
                   "theta": 1e6, "epsilon": 1e-5, "tokenizer": None, "tied": False, "random_blocks": True},
}
QUANTS = {"q4_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M, "q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0}


def llama3_rope_factors(shape):
    """Llama 3.2's scaling of its context, as GGUF stores it: a divisor for each frequency."""
    factor, low, high, original = 32.0, 1.0, 4.0, 8192
    frequencies = shape["theta"] ** -(np.arange(0, shape["head"], 2) / shape["head"])
    turns = original * frequencies / (2 * np.pi)
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def tensors(shape):
    """[(name, shape of the weight, or a vector itself)] in the order of a published file."""
    hidden, ffn = shape["hidden"], shape["ffn"]
    queries, keys = shape["heads"] * shape["head"], shape["kv_heads"] * shape["head"]
    family = shape["architecture"]

    def ones(width):
        return np.ones(width, np.float32)

    rows = [("token_embd.weight", (shape["vocabulary"], hidden))]
    if shape["tokenizer"] == "llama-bpe":
        rows.append(("rope_freqs.weight", llama3_rope_factors(shape)))
    for i in range(shape["layers"]):
        name = f"blk.{i}."
        rows.append((name + "attn_norm.weight", ones(hidden)))
        for part, width in (("q", queries), ("k", keys), ("v", keys)):
            rows.append((f"{name}attn_{part}.weight", (width, hidden)))
            if family == "qwen2":
                rows.append((f"{name}attn_{part}.bias", 0 * ones(width)))
        if family == "gemma3":
            rows += [(name + "attn_q_norm.weight", ones(shape["head"])),
                     (name + "attn_k_norm.weight", ones(shape["head"])),
                     (name + "post_attention_norm.weight", ones(hidden)),
                     (name + "post_ffw_norm.weight", ones(hidden))]
        rows += [(name + "attn_output.weight", (hidden, queries)),
                 (name + "ffn_norm.weight", ones(hidden)),
                 (name + "ffn_gate.weight", (ffn, hidden)),
                 (name + "ffn_up.weight", (ffn, hidden)),
                 (name + "ffn_down.weight", (hidden, ffn))]
    rows.append(("output_norm.weight", ones(hidden)))
    if not shape.get("tied", True):
        rows.append(("output.weight", (shape["vocabulary"], hidden)))
    return rows


def byte_letters():
    """The letters that stand for the 256 bytes in the vocabulary of a byte-level BPE."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable}
    letters |= {byte: chr(256 + i) for i, byte in enumerate(rest)}
    return [letters[byte] for byte in range(256)]


def write_tokenizer(writer, shape):
    kinds = gguf.TokenType
    if shape["tokenizer"]:
        known = [(letter, kinds.NORMAL) for letter in byte_letters()]
        known += [("th", kinds.NORMAL), ("<|begin|>", kinds.CONTROL), ("<|end|>", kinds.CONTROL)]
        begin, end = len(known) - 2, len(known) - 1
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(shape["tokenizer"])
        writer.add_token_merges(["t h"])
    else:
        known = [("<pad>", kinds.CONTROL), ("<eos>", kinds.CONTROL), ("<bos>", kinds.CONTROL),
                 ("<unk>", kinds.UNKNOWN)]
        known += [(f"<0x{byte:02X}>", kinds.BYTE) for byte in range(256)]
        known += [("\u2581", kinds.NORMAL)]
        begin, end = 2, 1
        writer.add_tokenizer_model("llama")
        writer.add_unk_token_id(3)
        writer.add_add_space_prefix(False)
        writer.add_token_scores([-1000.0] * shape["vocabulary"])
    unused = [(f"<unused{i}>", kinds.NORMAL) for i in range(shape["vocabulary"] - len(known))]
    writer.add_token_list([text for text, _ in known + unused])
    writer.add_token_types([kind for _, kind in known + unused])
    writer.add_bos_token_id(begin)
    writer.add_eos_token_id(end)
    writer.add_add_bos_token(False)


def random_blocks(chance, kind, count):
    """A megabyte or so of blocks, as often as it is needed: random codes, and scales of blocks that
    give weights a spread near 0.02."""
    size = gguf.GGML_QUANT_SIZES[kind][1]
    blocks = chance.integers(0, 256, (min(count, 8191), size), dtype=np.uint8)
    if kind == gguf.GGMLQuantizationType.Q4_K:
        blocks[:, :4] = np.array([1.4e-4, 7.5 * 1.4e-4], np.float16).view(np.uint8)
    else:  # Q6_K
        blocks[:, -2:] = np.array([1.5e-5], np.float16).view(np.uint8)
    return np.resize(blocks, (count, size))


def q4_k_m_type(name, layers):
    """llama.cpp's mixture: the output, and values and `down` of the first and last eighth of the
    layers and of each third one between, have 6 bits."""
    kinds = gguf.GGMLQuantizationType
    if name == "output.weight":
        return kinds.Q6_K
    if not name.endswith(("attn_v.weight", "ffn_down.weight")):
        return kinds.Q4_K
    layer, eighth = int(name.split(".")[1]), layers // 8
    more = layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
    return kinds.Q6_K if more else kinds.Q4_K


def write_file(path, shape, in_blocks):
    writer = gguf.GGUFWriter(path, shape["architecture"])
    writer.add_name("random weights")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(shape["hidden"])
    writer.add_block_count(shape["layers"])
    writer.add_feed_forward_length(shape["ffn"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_key_length(shape["head"])
    writer.add_value_length(shape["head"])
    writer.add_rope_dimension_count(shape["head"])
    writer.add_rope_freq_base(shape["theta"])
    writer.add_layer_norm_rms_eps(shape["epsilon"])
    writer.add_vocab_size(shape["vocabulary"])
    if "window" in shape:
        writer.add_sliding_window(shape["window"])
    types = gguf.LlamaFileType
    writer.add_file_type(types.MOSTLY_Q4_K_M if in_blocks else types.MOSTLY_F16)
    write_tokenizer(writer, shape)
    rows = tensors(shape)
    for name, weight in rows:
        if isinstance(weight, tuple) and in_blocks:
            kind = q4_k_m_type(name, shape["layers"])
            values, size = gguf.GGML_QUANT_SIZES[kind]
            row = weight[1] // values * size
            writer.add_tensor_info(name, (weight[0], row), np.dtype(np.uint8), weight[0] * row, kind)
        elif isinstance(weight, tuple):
            writer.add_tensor_info(name, weight, np.dtype(np.float16), 2 * weight[0] * weight[1])
        else:
            writer.add_tensor_info(name, weight.shape, np.dtype(np.float32), weight.nbytes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    chance = np.random.default_rng(1)
    pool = (chance.standard_normal(POOL) * SPREAD).astype(np.float16)
    for name, weight in rows:
        if isinstance(weight, tuple) and in_blocks:
            kind = q4_k_m_type(name, shape["layers"])
            weight = random_blocks(chance, kind, weight[0] * weight[1] // 256)
        elif isinstance(weight, tuple):  # the pool, from a random place on, as often as it is needed
            count, start = weight[0] * weight[1], chance.integers(POOL)
            weight = np.resize(np.roll(pool, -start), count).reshape(weight)
        writer.write_tensor_data(weight)
    writer.close()


def write_model(name, quant, path):
    if SHAPES[name].get("random_blocks"):
        if quant != "q4_k_m":
            raise SystemExit(f"random_gguf: {name} is made as q4_k_m alone")
        write_file(path + ".part", SHAPES[name], in_blocks=True)
        os.replace(path + ".part", path)
        return
    unquantised = path + ".f16"
    write_file(unquantised, SHAPES[name], in_blocks=False)
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = QUANTS[quant]
    failed = llama_cpp.llama_model_quantize(unquantised.encode(), (path + ".part").encode(),
                                            parameters)
    os.remove(unquantised)
    if failed:
        raise SystemExit(f"random_gguf: llama.cpp could not write {path} as {quant}")
    os.replace(path + ".part", path)


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in SHAPES or sys.argv[2] not in QUANTS:
        raise SystemExit(__doc__)
    write_model(*sys.argv[1:])
