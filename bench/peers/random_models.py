"""Hugging Face folders with random weights in the shapes of T5-base and BERT-base.

Speed and memory depend on shapes alone. Values come from a pool of a million normal ones, cut at a
random place for each tensor, with the spread that the family's own initialisation has.
"""

import array
import json
import random
import struct

POOL = 1_000_003

T5_BASE = {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"],
           "vocab_size": 32128, "d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12,
           "num_decoder_layers": 12, "num_heads": 12, "relative_attention_num_buckets": 32,
           "relative_attention_max_distance": 128, "n_positions": 4096,
           "layer_norm_epsilon": 1e-6, "feed_forward_proj": "relu", "is_encoder_decoder": True,
           "tie_word_embeddings": True, "pad_token_id": 0, "eos_token_id": 1,
           "decoder_start_token_id": 0}
BERT_BASE = {"model_type": "bert", "architectures": ["BertForQuestionAnswering"],
             "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12,
             "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "gelu",
             "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
             "pad_token_id": 0}
BASE = {"t5": T5_BASE, "bert": BERT_BASE}


def t5_tensors(c):
    """[(name, shape, spread)]; a spread of None is a gain of one."""
    hidden, inner, width = c["d_model"], c["num_heads"] * c["d_kv"], c["d_ff"]
    rows = [("shared.weight", (c["vocab_size"], hidden), 1.0)]

    def attention(name, first):
        rows.append((name + ".q.weight", (inner, hidden), (hidden * c["d_kv"]) ** -0.5))
        for part in "kv":
            rows.append((f"{name}.{part}.weight", (inner, hidden), hidden ** -0.5))
        rows.append((name + ".o.weight", (hidden, inner), inner ** -0.5))
        if first:
            rows.append((name + ".relative_attention_bias.weight",
                         (c["relative_attention_num_buckets"], c["num_heads"]), hidden ** -0.5))

    for half, layers in (("encoder", c["num_layers"]), ("decoder", c["num_decoder_layers"])):
        for i in range(layers):
            parts = ["SelfAttention", "EncDecAttention", "DenseReluDense"]
            if half == "encoder":
                del parts[1]
            for number, part in enumerate(parts):
                name = f"{half}.block.{i}.layer.{number}."
                rows.append((name + "layer_norm.weight", (hidden,), None))
                if part == "DenseReluDense":
                    rows.append((name + part + ".wi.weight", (width, hidden), hidden ** -0.5))
                    rows.append((name + part + ".wo.weight", (hidden, width), width ** -0.5))
                else:
                    attention(name + part, part == "SelfAttention" and i == 0)
        rows.append((half + ".final_layer_norm.weight", (hidden,), None))
    return rows


def bert_tensors(c):
    hidden, width = c["hidden_size"], c["intermediate_size"]
    rows = []

    def norm(name):
        rows.extend([(name + ".weight", (hidden,), None), (name + ".bias", (hidden,), 0.02)])

    def linear(name, out, inputs):
        rows.extend([(name + ".weight", (out, inputs), 0.02), (name + ".bias", (out,), 0.02)])

    for name, count in (("word", c["vocab_size"]), ("position", c["max_position_embeddings"]),
                        ("token_type", c["type_vocab_size"])):
        rows.append((f"bert.embeddings.{name}_embeddings.weight", (count, hidden), 0.02))
    norm("bert.embeddings.LayerNorm")
    for i in range(c["num_hidden_layers"]):
        name = f"bert.encoder.layer.{i}."
        for part in ("query", "key", "value"):
            linear(f"{name}attention.self.{part}", hidden, hidden)
        linear(name + "attention.output.dense", hidden, hidden)
        norm(name + "attention.output.LayerNorm")
        linear(name + "intermediate.dense", width, hidden)
        linear(name + "output.dense", hidden, width)
        norm(name + "output.LayerNorm")
    linear("qa_outputs", 2, hidden)
    return rows


def write_safetensors(path, tensors, seed):
    chance = random.Random(seed)
    normal = [chance.gauss(0, 1) for _ in range(POOL)]
    pools = {None: array.array("f", [1.0] * POOL).tobytes()}
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _ in tensors:
        count = 1
        for size in shape:
            count *= size
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + 4 * count]}
        end += 4 * count
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, _, spread in tensors:
            if spread not in pools:
                pools[spread] = array.array("f", [spread * x for x in normal]).tobytes()
            begin, end = header[name]["data_offsets"]
            left, at = end - begin, 4 * chance.randrange(POOL)
            while left > 0:
                part = pools[spread][at:at + left]
                file.write(part)
                left, at = left - len(part), 0


def write_tokenizer(folder, family):
    """The smallest that loads; the measured programs are given token ids."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    if family == "bert":
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
        (folder / "vocab.txt").write_text("\n".join(words) + "\n")
        return
    vocab = [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["\u2581", -2.0],
             *([letter, -3.0] for letter in letters)]
    special = [{"id": i, "content": vocab[i][0], "special": True, "single_word": False,
                "lstrip": False, "rstrip": False, "normalized": False} for i in range(3)]
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "added_tokens": special, "normalizer": None,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always",
                          "split": True},
        "decoder": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always",
                    "split": True},
        "model": {"type": "Unigram", "unk_id": 2, "vocab": vocab}}))


def write_model(folder, config, seed=1):
    """A model folder; one that is there with this configuration stays as it is."""
    settings = folder / "config.json"
    if settings.exists() and json.loads(settings.read_text()) == config:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    family = config["model_type"]
    tensors = t5_tensors(config) if family == "t5" else bert_tensors(config)
    write_tokenizer(folder, family)
    write_safetensors(folder / "model.safetensors", tensors, seed)
    settings.write_text(json.dumps(config, indent=1))  # last: it says that the rest is there
    return folder
