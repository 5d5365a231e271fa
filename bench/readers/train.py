"""Trains one of the small readers on the reading task, in two stages; see bench/train_reader."""
import argparse
import json
import pathlib
import sys
import time

import torch
import torch.nn.functional as F

import reading_task
import small_models

# Ranges of the number of facts in a passage. In every second passage all facts are of one kind, so
# that nothing but the name tells them apart; of those there are at most six.
LEVELS = [(2, 4), (2, 6), (3, 8), (4, 11), (4, 14)]
LEVEL_PASSED = 0.7  # questions answered right
MOST_OF_ONE_KIND = 6
# Labels that the encoder is given in addition to the answers, for each token of the passage: is it a word of the
# question; is its sentence about the one asked for, of the kind asked for, the one that answers.
GUIDES = ("word", "subject", "kind", "sentence")
GUIDED_LAYERS = {"bert": (1, 2, 2, 3), "t5": (2, 3, 3, 4)}


class Window:
    """Question and passage as the model reads them."""

    def __init__(self, batches, question, context):
        encoded = batches.encode(context)
        if batches.kind == "t5":
            head = batches.encode(question + " \\n").ids
            self.ids = head + encoded.ids + [1]
        else:
            head = [2, *batches.encode(question).ids, 3]
            self.ids = head + encoded.ids + [3]
        self.start = len(head)  # of the passage
        self.token_at = lambda at: self.start + encoded.char_to_token(at)

    def guides(self, told, answering):
        asked = set(self.ids[:self.start])
        labels = {name: [0] * len(self.ids) for name in GUIDES}
        labels["word"] = [int(one in asked) for one in self.ids]
        for sentence, is_subject, is_kind in told:
            first, last = self.token_at(sentence[0]), self.token_at(sentence[1] - 1)
            for name, value in (("subject", is_subject), ("kind", is_kind),
                                ("sentence", sentence == answering)):
                labels[name][first:last + 1] = [int(value)] * (last + 1 - first)
        return labels


class Batches:
    """Cases of the training split by number: question i is the same whatever was drawn before."""

    def __init__(self, kind, seed, questions):
        self.kind, self.seed, self.questions, self.number = kind, seed, questions, 0
        self.tokenizer = (small_models.t5_tokenizer() if kind == "t5"
                          else small_models.bert_tokenizer())

    def encode(self, text):
        return self.tokenizer.encode(text.lower() if self.kind == "t5" else text)

    def draw(self, level):
        low, high = LEVELS[level]
        cases = []
        for number in range(self.number, self.number + self.questions):
            one_kind = number % 2 == 1
            most = min(high, MOST_OF_ONE_KIND) if one_kind else high
            cases.append(reading_task.make_case(self.seed, "train", number, (low, most), one_kind))
        self.number += self.questions
        return cases

    def next(self, level, windows):
        """Windows of each question: the first answers it, further ones are passages of others."""
        cases = self.draw(level)
        rows, guides = [], []
        begins, ends, answers = [], [], []
        for i, case in enumerate(cases):
            for w in range(windows):
                passage = cases[(i + w) % len(cases)]
                rows.append(Window(self, case["question"], passage["context"]))
                told = case["told"] if w == 0 else []
                guides.append(rows[-1].guides(told, case["sentence"]))
                if w == 0:
                    begins.append(rows[-1].token_at(case["begin"]))
                    ends.append(rows[-1].token_at(case["begin"] + len(case["answer"]) - 1))
            answers.append(self.encode(case["answer"]).ids + [1])
        return {"ids": padded([row.ids for row in rows], 0),
                "starts": torch.tensor([row.start for row in rows]),
                "begins": torch.tensor(begins), "ends": torch.tensor(ends),
                "answers": padded(answers, -100),
                **{name: padded([labels[name] for labels in guides], 0) for name in GUIDES}}


def padded(rows, by):
    width = max(map(len, rows))
    return torch.tensor([row + [by] * (width - len(row)) for row in rows])


def context_of(batch):
    """Which tokens are of the passage. [windows, tokens]"""
    ids = batch["ids"]
    return (torch.arange(ids.shape[1]).expand_as(ids) >= batch["starts"][:, None]) & (ids != 0)


class Guides(torch.nn.Module):
    """Read the guides off the encoder's layers. Without them small models stay for thousands of
    steps at picking any answer of the right kind. Nobody needs them after training."""

    def __init__(self, kind):
        super().__init__()
        self.layers = dict(zip(GUIDES, GUIDED_LAYERS[kind]))
        self.heads = torch.nn.ModuleDict(
            {name: torch.nn.Linear(small_models.HIDDEN, 1) for name in GUIDES})
        self.span = torch.nn.Linear(small_models.HIDDEN, 2)

    def losses(self, hidden, batch):
        inside = context_of(batch)
        found = {}
        for name, layer in self.layers.items():
            state = F.layer_norm(hidden[layer], hidden[layer].shape[-1:])
            scores = self.heads[name](state)[..., 0]
            found[name] = F.binary_cross_entropy_with_logits(scores[inside],
                                                             batch[name][inside].float())
        return found


def span_loss(scores, batch, windows):
    """Where the answer begins and ends, by one softmax over all windows of a question, so that
    scores of different windows can be compared; and which questions that gets right."""
    outside = ~context_of(batch)
    loss, right = 0, torch.ones(len(outside) // windows, dtype=torch.bool)
    for logits, target in zip(scores.unbind(-1), (batch["begins"], batch["ends"])):
        logits = logits.masked_fill(outside, -1e4).reshape(len(right), -1)
        loss = loss + F.cross_entropy(logits, target) / 2
        right &= logits.argmax(-1) == target
    return loss, right


def t5_loss(model, guides, batch, windows):
    """Fusion in decoder: the windows of a question are encoded alone and read together. The encoder
    also learns to point at the answer."""
    ids, answers = batch["ids"], batch["answers"]
    mask = (ids != 0).long()
    encoded = model.encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    memory = encoded.last_hidden_state
    questions = ids.shape[0] // windows
    logits = model(encoder_outputs=(memory.reshape(questions, windows * ids.shape[1], -1),),
                   attention_mask=mask.reshape(questions, -1), labels=answers).logits
    loss = F.cross_entropy(logits.flatten(0, 1), answers.flatten(), ignore_index=-100)
    right = ((logits.argmax(-1) == answers) | (answers == -100)).all(-1)
    guided = guides.losses(encoded.hidden_states, batch)
    guided["span"] = span_loss(guides.span(memory), batch, windows)[0] / 2
    return loss, guided, right


def bert_loss(model, guides, batch, windows):
    ids = batch["ids"]
    context = torch.arange(ids.shape[1]).expand_as(ids) >= batch["starts"][:, None]
    out = model(input_ids=ids, attention_mask=(ids != 0).long(), token_type_ids=context.long(),
                output_hidden_states=True)
    loss, right = span_loss(torch.stack((out.start_logits, out.end_logits), dim=-1), batch, windows)
    return loss, guides.losses(out.hidden_states, batch), right


def train(args):
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    model, guides = small_models.new_model(args.kind), Guides(args.kind)
    model.train()
    print(f"train_reader: {args.kind}, {sum(p.numel() for p in model.parameters()):,} parameters",
          flush=True)
    optimizer = torch.optim.AdamW([*model.parameters(), *guides.parameters()], lr=args.rate,
                                  betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    loss_of = t5_loss if args.kind == "t5" else bert_loss
    batches = Batches(args.kind, args.seed, args.batch)
    level, windows, quality, begun = 0, 1, 0.0, time.process_time()
    steps = args.learn + args.settle
    for step in range(steps):
        rate = args.rate * min(1.0, (step + 1) / 200)
        if step >= args.learn:
            level, windows, batches.questions = len(LEVELS) - 1, 2, args.batch // 2
            rate = args.rate * (steps - step) / args.settle
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss, guided, right = loss_of(model, guides, batches.next(level, windows), windows)
        optimizer.zero_grad()
        (loss + sum(guided.values())).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        quality = 0.97 * quality + 0.03 * right.float().mean().item()
        if step % 50 == 49:
            print(json.dumps({"step": step + 1, "level": level, "windows": windows,
                              "loss": round(loss.item(), 4), "right": round(quality, 3),
                              "guides": {name: round(one.item(), 3) for name, one in guided.items()},
                              "cpu_seconds": round(time.process_time() - begun)}), flush=True)
        if step < args.learn and quality > LEVEL_PASSED and level + 1 < len(LEVELS):
            level, quality = level + 1, 0.0
        if step % 250 == 249 or step + 1 == steps:
            small_models.save(model, args.kind, args.out)
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("t5", "bert"))
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--learn", type=int, default=1000,
                        help="steps of the first stage: passages that grow as the model learns")
    parser.add_argument("--settle", type=int, default=400,
                        help="steps of the second: full passages, two windows, falling rate")
    parser.add_argument("--batch", type=int, default=32,
                        help="windows in a step: as many questions, half of them when settling")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    return train(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
