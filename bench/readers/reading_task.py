#!/usr/bin/env python3
"""A reading task without end: made-up facts about made-up people, one question, an answer that is
copied from the passage. For bench/unifiedqa, and for training small readers.

A passage holds facts and sentences that say nothing. People share first names and last names, every
person has several facts, several people have the same kind of fact, and places, years and things
occur in more than one kind: a reader has to match the whole name and the relation. One name in ten
(first and last name together) is kept for the split "test" and does not occur in "train".

    reading_task.py --seed=2 --cases=400 [--split=test] [--facts=6,12]

writes lines of {"id", "context", "question", "answer", "begin", "sentence"}: where the answer begins and
from where to where its sentence goes, in characters. Every case depends on the seed, the split, the range of facts and its own number, and on nothing else.
"""
import argparse
import json
import random
import sys


def _join(heads, tails):
    return [head + tail for head in heads.split() for tail in tails.split()]


FIRST = _join("Al Bre Cor Dal El Fen Gar Hal", "dan ia ric wen mo")
LAST = _join("Ash Black Cope Drum East Fair Grey Hol Kirk Lang Mar North", "ford ley man stead wick")
PLACES = [f"{head} {tail}"
          for head in "Port Upper Lower Old New Saint Great Little West Long High Castle".split()
          for tail in _join("Bran Cal Dor Fel Gor Lin Mel Tor", "bury dale mere ton vale")]
JOBS = ("baker barber brewer carpenter cook cooper doctor ferryman fisher gardener glazier hunter "
        "joiner locksmith mason miller painter piper porter potter saddler sailor shepherd singer "
        "smith tailor tanner teacher watchmaker weaver").split()
THINGS = [f"{stuff} {thing}"
          for stuff in ("copper silver wooden golden leather marble paper velvet linen crystal bronze "
                        "silken pewter woollen blue green yellow broken").split()
          for thing in ("lantern ladder kettle ring violin boat saddle mirror clock basket chair drum "
                        "cloak ladle compass trumpet lamp letter map barrel key candle helmet "
                        "cart bell").split()]
YEARS = [str(year) for year in range(1700, 1900)]
EMPTY = ("The winter was long that year.", "Rain fell on the roofs until noon.",
         "Nobody in the street spoke of it.", "The market was quiet and the harbour lay still.",
         "Some say the old bridge is haunted.", "A cold wind came over the hills.",
         "The bells were heard far away.", "Much has been written about those days.",
         "The road to the coast was closed for weeks.", "At night the river rose again.")

# kind: (kind of value, statements, questions for the value, questions for the person)
RELATIONS = {
    "home": ("place",
             ("{p} lives in {v}.", "The home of {p} is in {v}.", "{p} has a house in {v}."),
             ("Where does {p} live?", "In which town is the home of {p}?"),
             ("Who lives in {v}?", "Who has a house in {v}?")),
    "birthplace": ("place",
                   ("{p} was born in {v}.", "{v} is the birthplace of {p}.",
                    "{p} came into the world in {v}."),
                   ("Where was {p} born?", "What is the birthplace of {p}?"),
                   ("Who was born in {v}?",)),
    "birth": ("year",
              ("{p} was born in {v}.", "The year of birth of {p} is {v}."),
              ("When was {p} born?", "In which year was {p} born?"), ()),
    "guild": ("year",
              ("{p} joined the guild in {v}.", "In {v} the guild took {p} in."),
              ("When did {p} join the guild?", "In which year was {p} taken into the guild?"), ()),
    "trade": ("job",
              ("{p} works as a {v}.", "{p} earns a living as a {v}.", "The trade of {p} is {v}."),
              ("What is the trade of {p}?", "What does {p} work as?"),
              ("Who works as a {v}?", "Who earns a living as a {v}?")),
    "owns": ("thing",
             ("{p} owns a {v}.", "The {v} belongs to {p}.", "A {v} is the property of {p}."),
             ("What does {p} own?", "What belongs to {p}?"),
             ("Who owns the {v}?", "To whom does the {v} belong?")),
    "lost": ("thing",
             ("{p} lost a {v}.", "A {v} was lost by {p}."),
             ("What did {p} lose?", "Which thing was lost by {p}?"),
             ("Who lost the {v}?", "By whom was the {v} lost?")),
    "teacher": ("person",
                ("{p} was taught by {v}.", "{v} was the master of {p}."),
                ("Who taught {p}?", "Who was the master of {p}?"), ()),
}
PARAGRAPH = 6  # facts
VALUES = {"place": PLACES, "year": YEARS, "job": JOBS, "thing": THINGS}


def is_test_name(first, last):
    return (FIRST.index(first) * 7 + LAST.index(last) * 3) % 10 == 0


def _sample(rng, items, count):
    """Different items; like random.sample, written out so that every version draws the same."""
    chosen = []
    while len(chosen) < count:
        item = items[int(rng.random() * len(items))]
        if item not in chosen:
            chosen.append(item)
    return chosen


def _one(rng, items):
    return items[int(rng.random() * len(items))]


def _cast(rng, split, count):
    """People of one split who share first and last names with each other."""
    people = []
    while len(people) < count:
        firsts, lasts = _sample(rng, FIRST, 2 + count // 2), _sample(rng, LAST, 2 + count // 2)
        people = [f"{first} {last}" for first in firsts for last in lasts
                  if is_test_name(first, last) == (split == "test")]
    return _sample(rng, people, count)


def make_passage(rng, split, facts, one_kind=False):
    """Facts as (person, relation, value) and the text of each, in their order in the passage. All of
    one kind: each about someone else, at most six."""
    people = _cast(rng, split, facts if one_kind else max(2, min(6, (facts + 2) // 2)))
    relations = [_one(rng, list(RELATIONS))] if one_kind else list(RELATIONS)
    pool = {kind: _sample(rng, values, 6 + facts // 2) for kind, values in VALUES.items()}
    pool["person"] = people
    pairs = _sample(rng, [(p, r) for p in people for r in relations], facts)
    used, told = set(), []
    for person, relation in pairs:
        kind, statements, _, _ = RELATIONS[relation]
        if kind == "person":
            value = _one(rng, [v for v in people if v != person])
        else:
            value = _one(rng, [v for v in pool[kind] if (relation, v) not in used])
        used.add((relation, value))
        told.append((person, relation, value, _one(rng, statements)))
    return told


def make_case(seed, split, number, facts, one_kind=False):
    """One case; `facts` is the range of the number of facts, both ends included. "told" is for
    training: of every fact where its sentence goes, whether it is about the one asked for, and whether
    it is of the kind asked for."""
    rng = random.Random(f"{seed}/{split}/{number}")
    told = make_passage(rng, split, facts[0] + int(rng.random() * (facts[1] - facts[0] + 1)),
                        one_kind)
    person, relation, value, _ = asked = _one(rng, told)
    _, _, for_value, for_person = RELATIONS[relation]
    if for_person and rng.random() < 0.3:
        question, answer, given = _one(rng, for_person).format(v=value), person, 2
    else:
        question, answer, given = _one(rng, for_value).format(p=person), value, 0
    context, sentences = "", []
    for place, fact in enumerate(told):
        if place and place % PARAGRAPH == 0:
            context = context[:-1] + "\n\n"
        if rng.random() < 0.15:
            context += _one(rng, EMPTY) + " "
        sentence = fact[3].format(p=fact[0], v=fact[2])
        sentences.append(([len(context), len(context) + len(sentence)],
                          fact[given] == asked[given], fact[1] == relation))
        if fact is asked:
            before = fact[3].split("{p}" if given else "{v}")[0]
            begin = len(context) + len(before.format(p=person, v=value))
            answered = sentences[-1][0]
        context += sentence + " "
    return {"id": str(number), "context": context[:-1], "question": question, "answer": answer,
            "begin": begin, "sentence": answered, "told": sentences}


def words():
    """Every word of the task, in a fixed order, as written in the middle of a sentence."""
    texts = [*FIRST, *LAST, *PLACES, *JOBS, *THINGS, *YEARS, *EMPTY]
    for _, statements, for_value, for_person in RELATIONS.values():
        texts += [text.format(p="", v="") for text in (*statements, *for_value, *for_person)]
    return list(dict.fromkeys(w for text in texts for w in text.lower().strip().replace(
        ".", " ").replace("?", " ").split()))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--cases", type=int, required=True)
    parser.add_argument("--split", choices=("train", "test"), default="test")
    parser.add_argument("--facts", default="6,12", help="range of facts in a passage")
    args = parser.parse_args()
    low, high = (int(value) for value in args.facts.split(","))
    if not 2 <= low <= high <= 40:
        parser.error(f"--facts={args.facts}: 2 <= low <= high <= 40 is needed")
    for number in range(args.cases):
        case = make_case(args.seed, args.split, number, (low, high))
        del case["told"]
        print(json.dumps(case))


if __name__ == "__main__":
    sys.exit(main())
