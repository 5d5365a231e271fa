"""The two small readers, untrained: configuration and tokenizer as Hugging Face folders hold them, and
weights from which training begins."""
import json

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

import reading_task

WINDOW = 256
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"()-"
HIDDEN, UNITS = 128, 512
# In both, the hidden states reserve parts for information other than the word, and words have the rest.
# BERT reserves parts for positions, for question or passage, and for what a word of the passage has found
# out about the question.
BERT_HEAD = 32
PLACES, TYPE, FOUND, WORDS = slice(0, BERT_HEAD), 32, 33, slice(34, HIDDEN)
ROTATION = 0.012 ** (torch.arange(BERT_HEAD // 2) / (BERT_HEAD // 2 - 1))  # radians a place
# T5: of what all words have in common, of the break between question and passage, of what lies
# before that, and of what was found out.
T5_HEAD = 24
COMMON, BREAK, BEFORE, T5_FOUND, T5_WORDS = 0, 1, 2, 3, slice(4, HIDDEN)
BREAK_TOKEN = 3


def t5_tokenizer():
    """Unigram: whole words, and single characters at such a price that they are taken for words
    that are not in the vocabulary only."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁\\n", -4.0)]
    pieces += [("▁" + word, -4.0) for word in reading_task.words()]
    pieces += [(c, -4.0 if c in ".?" else -12.0) for c in CHARACTERS] + [("▁", -12.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace("\n", " "), normalizers.Replace("\t", " "),
         normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    return tokenizer


def bert_vocabulary():
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens += list(dict.fromkeys(reading_task.words() + list(CHARACTERS)))
    return tokens + ["##" + c for c in CHARACTERS[:36]]


def bert_tokenizer():
    vocabulary = {token: number for number, token in enumerate(bert_vocabulary())}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def rows_of(head, size):
    return slice(head * size, (head + 1) * size)


def look_for_the_word(query, key, head, size, words, strength):
    """Queries and keys of a head that begin alike: it looks at the same word elsewhere. The head's
    last row is left to the caller."""
    alike = torch.zeros(size, HIDDEN)
    rows = torch.randn(size - 1, HIDDEN)[:, words]
    alike[:-1, words] = strength * rows / (size - 1) ** 0.5
    query.weight.data[rows_of(head, size)] = alike
    key.weight.data[rows_of(head, size)] = alike


def tell(value, output, head, size, source, target, strength=1.0):
    """The head hands one dimension on to another."""
    row = head * size
    value.weight.data[row] = 0
    value.weight.data[row, source] = 1.0
    output.weight.data[target, row] = strength


def look_near(attention, head, places):
    """A head of BERT that looks about `places` to the right, or to the left if negative: keys are the
    positions, queries the positions rotated by that number."""
    turn = torch.zeros(BERT_HEAD, BERT_HEAD)
    for i, angle in enumerate(places * ROTATION):
        sine, cosine = torch.sin(angle), torch.cos(angle)
        turn[2 * i:2 * i + 2, 2 * i:2 * i + 2] = torch.tensor([[cosine, sine], [-sine, cosine]])
    for linear, rotation in ((attention.key, torch.eye(BERT_HEAD)), (attention.query, turn)):
        weights = torch.zeros(BERT_HEAD, HIDDEN)
        weights[:, PLACES] = 1.5 * rotation
        linear.weight.data[rows_of(head, BERT_HEAD)] = weights


def prepare_bert(model):
    """Where training begins. One head of the first layer looks for the same word in the question and
    reports whether it is there; heads of all layers look to the left and to the right. From noise,
    a model of this size takes far longer to find these than all the rest."""
    embeddings, layers = model.bert.embeddings, model.bert.encoder.layer
    words, places, types = (table.weight.data for table in (
        embeddings.word_embeddings, embeddings.position_embeddings,
        embeddings.token_type_embeddings))
    drawn = torch.randn_like(words)
    for table in (words, places, types):
        table.zero_()
    words[:, WORDS] = drawn[:, WORDS]
    angles = torch.arange(WINDOW).float()[:, None] * ROTATION
    places[:, PLACES] = 1.4 * torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
    types[:, TYPE] = torch.tensor([2.0, -2.0])

    first = layers[0].attention
    look_for_the_word(first.self.query, first.self.key, 0, BERT_HEAD, WORDS, strength=0.69)
    first.self.query.bias.data[BERT_HEAD - 1] = 2.4  # rather in the question than here
    first.self.key.weight.data[BERT_HEAD - 1, TYPE] = 2.4
    tell(first.self.value, first.output.dense, 0, BERT_HEAD, TYPE, FOUND)
    for head, at in ((1, -1), (2, 1)):
        look_near(first.self, head, at)
    for layer in layers[1:]:
        for head, at in ((0, -4), (1, 4), (2, -1)):
            look_near(layer.attention.self, head, at)


def prepare_t5(model):
    """Initialises T5, whose embeddings contain no positions: its biases make heads that look to the left
    and to the right in all layers. So words left of the break learn in the first layer that they belong
    to the question, and others look for the same word there in the second. The decoder
    begins with saying what it looks at."""
    words = model.shared.weight.data
    words[:, :T5_WORDS.start] = 0
    words[:, COMMON] = 4.0
    words[BREAK_TOKEN] = 0
    words[BREAK_TOKEN, BREAK] = 8.0

    first, second = (block.layer[0].SelfAttention for block in model.encoder.block[:2])
    distance, never = torch.arange(16.0), torch.full((16,), -8.0)
    bias = first.relative_attention_bias.weight.data  # [left 16, right 16; heads]
    for head, slope in ((0, -0.3), (1, -1.2)):
        bias[:, head] = torch.cat((slope * distance, never))
        bias[:, head + 2] = torch.cat((never, slope * distance))
    bias[0, :4] = -2.0  # the word itself
    bias[:, 4] = torch.cat((never, torch.zeros(16)))

    last = rows_of(4, T5_HEAD).start
    first.q.weight.data[last, COMMON] = 1.0
    first.k.weight.data[last, BREAK] = 0.3
    tell(first.v, first.o, 4, T5_HEAD, BREAK, BEFORE, strength=0.5)
    look_for_the_word(second.q, second.k, 5, T5_HEAD, T5_WORDS, strength=0.28)
    last = rows_of(5, T5_HEAD).stop - 1
    second.q.weight.data[last, COMMON] = 0.5
    second.k.weight.data[last, BEFORE] = 0.5
    tell(second.v, second.o, 5, T5_HEAD, BEFORE, T5_FOUND)
    for block in model.decoder.block:
        cross = block.layer[1].EncDecAttention
        cross.o.weight.data = 0.5 * cross.v.weight.data.T


def new_model(kind):
    if kind == "t5":
        config = transformers.T5Config(
            vocab_size=t5_tokenizer().get_vocab_size(), d_model=HIDDEN, d_kv=T5_HEAD, num_heads=8,
            d_ff=UNITS, num_layers=4, num_decoder_layers=2, dropout_rate=0.0, n_positions=WINDOW,
            relative_attention_num_buckets=32, relative_attention_max_distance=128,
            feed_forward_proj="relu", pad_token_id=0, eos_token_id=1, decoder_start_token_id=0)
        model = transformers.T5ForConditionalGeneration(config)
        prepare_t5(model)
        return model
    config = transformers.BertConfig(
        vocab_size=len(bert_vocabulary()), hidden_size=HIDDEN, num_hidden_layers=4,
        num_attention_heads=HIDDEN // BERT_HEAD, intermediate_size=UNITS, hidden_act="gelu",
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        max_position_embeddings=WINDOW, initializer_range=0.06, pad_token_id=0)
    model = transformers.BertForQuestionAnswering(config)
    prepare_bert(model)
    return model


def save(model, kind, folder):
    """The folder that the server loads: fp16 weights, configuration, tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    half = {name: tensor.half() for name, tensor in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=half)
    for name in folder.glob("generation_config.json"):
        name.unlink()
    config_path = folder / "config.json"
    config = json.loads(config_path.read_text())
    config["dtype"] = "float16"
    config_path.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    if kind == "t5":
        t5_tokenizer().save(str(folder / "tokenizer.json"))
    else:
        (folder / "vocab.txt").write_text("\n".join(bert_vocabulary()) + "\n")
