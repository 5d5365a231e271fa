#!/usr/bin/env python3
"""Tiny random RobertaForQuestionAnswering with a small byte-level BPE vocabulary (vocab.json and merges.txt):
windows, logits, answer spans.

Works like gen_bert_qa_tiny.py and uses its reference forward pass: a RoBERTa is a BERT whose positions begin after the
row of the padding token, with one token type and the input <s> question </s></s> part </s>.
"""
import json
import shutil

import numpy as np
import torch
from safetensors.numpy import save_file

import gen_bert_qa_tiny as bert
import synth_text
import topk_torch
from common import Family, arguments, f32, i32, max_abs, rng_for, tolerance, u8
from refmodels import Margin, bert_qa

MAX_LEN, STRIDE, PAD = bert.MAX_LEN, bert.STRIDE, 1
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def train(rng, folder):
    """vocab.json and merges.txt of a byte-level BPE trained on made-up text."""
    from tokenizers import ByteLevelBPETokenizer
    texts = [synth_text.sentence(rng) for _ in range(1500)]
    texts += [" ".join(f[:2]) for _ in range(40) for f in synth_text.facts(rng, 6)]
    tok = ByteLevelBPETokenizer(add_prefix_space=False)
    tok.train_from_iterator(texts, vocab_size=360, min_frequency=2, special_tokens=SPECIAL, show_progress=False)
    tok.save_model(str(folder))
    return tok


def windows(tok, question, context):
    q, c = tok.encode(question, add_special_tokens=False), tok.encode(context, add_special_tokens=False)
    room = MAX_LEN - len(q.ids) - 4
    if room <= STRIDE:
        return []
    out, a = [], 0
    while True:
        b = min(a + room, len(c.ids))
        ids = [0] + q.ids + [2, 2] + c.ids[a:b] + [2]
        n = len(q.ids) + 3
        offsets = []
        for s, e in c.offsets[a:b]:  # without the space before a word
            while s < e and context[s].isspace():
                s += 1
            offsets.append((s, e))
        pad = MAX_LEN - len(ids)
        off = [(-1, -1)] * n + offsets
        out.append(dict(start=a, ids=ids + [PAD] * pad, mask=[1] * len(ids) + [0] * pad,
                        offsets=off + [(-1, -1)] * (MAX_LEN - len(off)), document_begin=n))
        if b == len(c.ids):
            return out
        a += room - STRIDE


def main():
    a = arguments(__doc__)
    fam = Family(a.out, "roberta_qa_tiny")
    folder = fam.dir / "model"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tok = train(rng_for(a.seed, "roberta", "vocab"), folder)
    H = 4
    c = dict(model_type="roberta", architectures=["RobertaForQuestionAnswering"], vocab_size=tok.get_vocab_size(), hidden_size=16 * H,
             num_hidden_layers=2, num_attention_heads=H, intermediate_size=64, hidden_act="gelu", max_position_embeddings=MAX_LEN + PAD + 1,
             type_vocab_size=1, layer_norm_eps=1e-5, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1, pad_token_id=PAD, bos_token_id=0,
             eos_token_id=2)
    W = bert.weights(rng_for(a.seed, "roberta", "weights"), c)
    types = "bert.embeddings.token_type_embeddings.weight"
    W[types] = W[types][:1]
    json.dump(c, open(folder / "config.json", "w"), indent=1)
    save_file({k.replace("bert.", "roberta.", 1) if k.startswith("bert.") else k: v for k, v in W.items()}, str(folder / "model.safetensors"),
              metadata={"format": "pt"})
    place = "bert.embeddings.position_embeddings.weight"
    reference = dict(W, **{place: W[place][PAD + 1:]})

    from transformers import AutoModelForQuestionAnswering
    m = topk_torch.install(AutoModelForQuestionAnswering.from_pretrained(str(folder), dtype=torch.float32).eval())

    rng = rng_for(a.seed, "roberta", "strings")
    strings = ["", " ", "Hello, World!", "  two  spaces ", "café Ünïcödé ßtraße", "中文 text", "don't re-do it", "1821 and 1998", "tab\tand\nnewline",
               "😀 emoji", "a" * 60, "x\ufffdz", "A-B_C/D"] + [synth_text.document(rng, 2) for _ in range(6)]
    rows = [dict(text=s, ids=tok.encode(s, add_special_tokens=False).ids) for s in strings]
    json.dump(rows, open(fam.dir / "tokenizer.json", "w"), ensure_ascii=True, indent=0)
    fam.add("tokenizer", "tokenizer.json", dict(vocab="model/vocab.json", strings=len(rows)), "equal", "byte-level BPE ids")

    ks = (8, 16)
    for n, size in enumerate((1, 2, 5, 10)):
        for attempt in range(500):
            rng = rng_for(a.seed, "roberta", "qa", n, attempt)
            f = synth_text.facts(rng, 2)
            parts = [synth_text.sentence(rng) for _ in range(size)]
            parts.insert(int(rng.integers(0, size + 1)), f[0][0])
            context, question = " ".join(parts), f[0][1]
            ws = windows(tok, question, context)
            if not ws:
                continue
            ids, mask = (np.array([w[x] for w in ws]) for x in ("ids", "mask"))
            res, good = {}, True
            for k in (0, *ks):
                mg, tr = Margin(), []
                s, e = bert_qa(reference, c, ids, np.zeros_like(ids), mask, {"self": k}, mg, tr)
                sp = bert.best_spans(ws, s, e)
                good = mg.attn > bert.MIN_GAP and len(sp) >= 2 and sp[0][0] - sp[1][0] > 1e-3
                good = good and all(w["offsets"][i][0] < w["offsets"][j][1] for _, at, i, j in sp[:1] for w in [ws[at]])
                if not good:
                    break
                topk_torch.configure({"self": k})
                with torch.no_grad():  # positions are the library's: from the ids, counted after the padding
                    h = m(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))
                live = mask == 1
                err = max(max_abs(s[live], h.start_logits.numpy()[live]), max_abs(e[live], h.end_logits.numpy()[live]))
                good = err < 1e-3                                        # larger would mean another kept set
                if not good:
                    break
                res[k] = (s, e, sp, err, tr)
            if good:
                break
        else:
            raise RuntimeError("no suitable case found")
        t = {"input_ids": i32(ids), "token_type_ids": i32(np.array([[int(i >= w["document_begin"]) for i in range(MAX_LEN)] for w in ws])),
             "attention_mask": u8(mask), "offsets": i32([w["offsets"] for w in ws]), "window_start": i32([w["start"] for w in ws])}
        answers, errs = {}, {}
        for k, (s, e, sp, err, tr) in res.items():
            tag = "dense" if k == 0 else f"k{k}"
            t[f"start_logits.{tag}"], t[f"end_logits.{tag}"] = f32(s), f32(e)
            if k == 0 and n == 0:
                t["hidden.dense"] = f32(tr[-1][None])  # of the last layer only
            score, w, i, j = sp[0]
            b, en = ws[w]["offsets"][i][0], ws[w]["offsets"][j][1]
            answers[tag] = dict(best=[dict(score=score, start_byte=len(context[:b].encode()), end_byte=len(context[:en].encode()), text=context[b:en])])
            errs[f"logits.{tag}"] = err
        worst = max(errs.values())
        fam.add(f"qa_{n}", f"qa_{n}.safetensors",
                dict(model="model", question=question, context=context, max_len=MAX_LEN, stride=STRIDE, attention_topk=[0, *ks], windows=len(ws),
                     answers=answers),
                {"start_logits.*": tolerance(worst, 2e-5), "end_logits.*": tolerance(worst, 2e-5), "hidden.*": tolerance(worst, 5e-5), "answers": "best span equal"},
                f"{len(ws)} windows; start and end logits, dense and top-k (compare positions with attention_mask 1), best answer span; "
                "token_type_ids mark the part of the document, the model has one type", errs, t)
        print(n, "attempt", attempt, len(ws), "windows", {k: v["best"][0]["text"][:40] for k, v in answers.items()})
    fam.close()


if __name__ == "__main__":
    main()
