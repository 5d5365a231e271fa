#!/usr/bin/env python3
"""Questions of other forms about the facts of facts.json: writes forms.json next to it.

    bench/quality_set/make_forms.py

paraphrase: words that the fact does not use. two_sentences: the fact in two neighbouring
sentences, of which the second alone does not answer. unanswerable: about something that the text does not say,
with the fact of another question inserted. aggregation: three facts in three places; the answer is
their sum. Everything follows from the tables here; nothing is random.
"""
import json
import pathlib

FOLDER = pathlib.Path(__file__).resolve().parent

# fact: (paraphrased question, first sentence, second sentence, question the text does not answer)
FORMS = {
    0: ("Which digits open the archive in the north?",
        "The north archive was given a new lock last year.", "Its access code is 48213.",
        "What is the access code for the southern library?"),
    1: ("Who looks after the lighthouse at Velmore?",
        "The Velmore lighthouse has had one keeper for years.", "His name is Tobias Renwick.",
        "What is the name of the captain of the Velmore ferry?"),
    2: ("Where did somebody conceal a compass made of silver?",
        "Nobody found the silver compass for a long time.",
        "It had been hidden in the village of Harrowdale.",
        "In which village was the golden sextant hidden?"),
    4: ("Who first built a machine of brass that could calculate?",
        "The brass calculating engine was the work of one inventor.",
        "She was called Ottilie Brandt.",
        "Who invented the steam printing press?"),
    5: ("In which place do the makers of glass gather every year?",
        "The glassmakers hold a meeting every year.", "It takes place in Port Calder.",
        "Where is the annual meeting of the carpenters held?"),
    6: ("Which number must be dialled to reach the observatory?",
        "The observatory has a telephone of its own.", "The extension is 6092.",
        "What is the telephone extension of the hospital?"),
    8: ("Which town lies close to where copper ore was first dug?",
        "The copper mine was discovered by accident.", "It lies near the town of Eskwith.",
        "Near which town was the coal field discovered?"),
    9: ("How much oil, in barrels, is on board the freighter Meridian?",
        "The cargo ship Meridian carries oil.", "There are 1184 barrels of it.",
        "How many sacks of flour does the barge Juniper carry?"),
    10: ("Who is in charge of the plants in the king's glasshouse?",
         "The royal greenhouse has a new head gardener.", "He is called Pelham Oduya.",
         "Who is the head cook of the royal kitchen?"),
    12: ("What has to be typed in to unlock the blue strongbox?",
         "The blue safe opens with a password.", "The password is 90417.",
         "What is the password of the green cabinet?"),
}
# question, the facts at the three places, the answer
SUMS = [
    ("How many lanterns were delivered in all?",
     ["Three lanterns were delivered on Monday.", "Four lanterns were delivered on Tuesday.",
      "Five lanterns were delivered on Friday."], "12"),
    ("How many clerks does the harbour office employ on its three floors together?",
     ["The first floor of the harbour office employs 2 clerks.",
      "The second floor of the harbour office employs 6 clerks.",
      "The third floor of the harbour office employs 1 clerk."], "9"),
    ("How many bridges did the engineer Sorrel build?",
     ["The engineer Sorrel built a bridge at Marden.",
      "The engineer Sorrel built a bridge at Oakhollow.",
      "The engineer Sorrel built a bridge at Wexcombe."], "3"),
]
DOCUMENTS = ["d4k", "d16k", "d32k"]


def place(document, part):
    return int(len(document["sentences"]) * part)


def main():
    facts = json.loads((FOLDER / "facts.json").read_text())
    known = {case["fact"]: case for case in facts["cases"]}
    documents = {document["id"]: document for document in facts["docs"]}
    cases = []
    for name in DOCUMENTS:
        document = documents[name]
        for number, (fact, form) in enumerate(FORMS.items()):
            paraphrase, first, second, absent = form
            depth = (number + 0.5) / len(FORMS)
            at = place(document, depth)
            case = {"doc": name, "fact": fact, "depth": round(depth, 3)}
            plain = {"sentence": known[fact]["sentence"], "insert_before_sentence": at}
            answer, question = known[fact]["answer"], known[fact]["question"]
            cases += [
                {**case, "id": f"{name}-p{fact:02}", "form": "paraphrase", "question": paraphrase,
                 "answer": answer, "inserts": [plain]},
                {**case, "id": f"{name}-t{fact:02}", "form": "two_sentences", "question": question,
                 "answer": answer,
                 "inserts": [{"sentence": first, "insert_before_sentence": at},
                             {"sentence": second, "insert_before_sentence": at}]},
                {**case, "id": f"{name}-u{fact:02}", "form": "unanswerable", "question": absent,
                 "answer": None, "inserts": [plain]},
            ]
        for number, (question, sentences, answer) in enumerate(SUMS):
            inserts = [{"sentence": sentence,
                        "insert_before_sentence": place(document, (i + 0.3 + number / 10) / 3)}
                       for i, sentence in enumerate(sentences)]
            cases.append({"doc": name, "id": f"{name}-s{number}", "form": "aggregation",
                          "depth": 0.5, "question": question, "answer": answer,
                          "inserts": inserts})
    text = json.dumps({"docs_of": "facts.json", "cases": cases}, indent=1)
    (FOLDER / "forms.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
