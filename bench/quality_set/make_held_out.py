#!/usr/bin/env python3
"""Questions on which no recipe was tuned: writes held_out.json next to it.

    bench/quality_set/make_held_out.py

The facts differ from those of facts.json; they are in longer sentences, at other depths of the same
documents. The forms are those of make_forms.py, and two_places: the answer needs two facts that are far apart.
Everything follows from the tables here; nothing is random.
"""
import json
import pathlib

FOLDER = pathlib.Path(__file__).resolve().parent

# sentence, question, answer, paraphrased question, the fact in two sentences, a question that the
# text does not answer
FACTS = [
    ("The ferry across the sound leaves from the eastern pier at 6.40 every morning.",
     "At what time does the ferry across the sound leave?", "6.40",
     "When does the boat over the water set out?",
     "The ferry across the sound leaves every morning.", "It departs from the eastern pier at 6.40.",
     "At what time does the night train to the capital leave?"),
    ("After the flood the town's records were moved to a warehouse in Brackenford.",
     "Where were the town's records moved after the flood?", "Brackenford",
     "To which place did the papers of the municipality go when the waters had risen?",
     "After the flood the town's records could not stay.",
     "They were moved to a warehouse in Brackenford.",
     "Where were the museum's paintings moved after the fire?"),
    ("The bell of the chapel was cast by a founder named Marius Oldcastle.",
     "Who cast the bell of the chapel?", "Oldcastle",
     "Which craftsman made what rings in the little church?",
     "The bell of the chapel is older than its tower.",
     "It was cast by a founder named Marius Oldcastle.",
     "Who carved the pulpit of the cathedral?"),
    ("Professor Lindqvist keeps exactly 73 beehives on the roof of the institute.",
     "How many beehives does Professor Lindqvist keep?", "73",
     "What is the number of bee colonies on top of the institute?",
     "Professor Lindqvist keeps beehives on the roof of the institute.",
     "There are exactly 73 of them.",
     "How many telescopes does Professor Amaro own?"),
    ("The treaty that ended the salt war was signed aboard the frigate Halcyon.",
     "On which ship was the treaty that ended the salt war signed?", "Halcyon",
     "Aboard which vessel did the parties make peace?",
     "The salt war ended with a treaty.", "It was signed aboard the frigate Halcyon.",
     "On which ship did the botanists sail to the islands?"),
    ("Visitors to the crystal cave have to pay 14 florins at the gate.",
     "How much do visitors to the crystal cave have to pay?", "14",
     "What does it cost to go into the cavern with the crystals?",
     "Visitors to the crystal cave have to pay at the gate.", "The price is 14 florins.",
     "How much does a ticket for the opera cost?"),
    ("The medicine for the swamp fever is distilled from the bark of the quillan tree.",
     "From the bark of which tree is the medicine for the swamp fever distilled?", "quillan",
     "Which plant yields the remedy against the illness of the marshes?",
     "There is a medicine for the swamp fever.",
     "It is distilled from the bark of the quillan tree.",
     "From which root is the dye for the blue cloth made?"),
    ("The chief engineer of the canal, Beatrix Amundsen, retired to a farm.",
     "Who was the chief engineer of the canal?", "Amundsen",
     "Which person directed the building of the waterway?",
     "The canal had only one chief engineer.", "Her name was Beatrix Amundsen.",
     "Who was the first mayor of the mining town?"),
    ("The spare key to the clock tower hangs behind the portrait of Admiral Voss.",
     "Behind whose portrait does the spare key to the clock tower hang?", "Voss",
     "Where can one find the second key for the tower with the clock?",
     "There is a spare key to the clock tower.",
     "It hangs behind the portrait of Admiral Voss.",
     "Who keeps the key to the treasury?"),
    ("The deepest shaft of the tin works reaches 412 fathoms below the moor.",
     "How many fathoms deep is the deepest shaft of the tin works?", "412",
     "How far down does the mine under the moor go?",
     "The tin works have many shafts below the moor.", "The deepest of them reaches 412 fathoms.",
     "How many feet high is the dam of the reservoir?"),
    ("The orchestra's first concert in exile was given in the town of Lisburne.",
     "In which town was the orchestra's first concert in exile given?", "Lisburne",
     "Where did the musicians play first after they had fled?",
     "The orchestra gave its first concert in exile in spring.",
     "It took place in the town of Lisburne.",
     "In which town did the circus spend the winter?"),
    ("The signal for the rescue team is three green rockets and one white.",
     "Which signal is used for the rescue team?", "three green",
     "What must be fired into the sky so that help comes?",
     "There is a signal for the rescue team.", "It is three green rockets and one white.",
     "Which flag does the quarantine ship fly?"),
]
# first place, second place, question, answer
TWO_PLACES = [
    ("The lamp oil for the harbour is supplied by the firm of Dunmore.",
     "The firm of Dunmore has its office in Saltby.",
     "In which town is the office of the firm that supplies the lamp oil for the harbour?",
     "Saltby"),
    ("The winner of the great regatta was the yacht Peregrine.",
     "The yacht Peregrine belongs to a widow called Thora Quist.",
     "Who owns the yacht that won the great regatta?", "Quist"),
    ("The cipher of the embassy was broken by a young clerk called Anselm.",
     "Anselm later became a teacher of mathematics in Corvale.",
     "Where did the clerk who broke the cipher of the embassy become a teacher?", "Corvale"),
    ("The old observatory was sold to the Marchbank family.",
     "The Marchbank family made its fortune with umbrellas.",
     "With what did the family that bought the old observatory make its fortune?", "umbrella"),
]
# question, the facts at the places, the answer
SUMS = [
    ("How many horses did the stable buy altogether?",
     ["The stable bought two horses in March.", "The stable bought six horses in June."], "8"),
    ("How many sailors were rescued from the wrecks in all?",
     ["Four sailors were rescued from the wreck of the Swan.",
      "Three sailors were rescued from the wreck of the Heron.",
      "Two sailors were rescued from the wreck of the Gull."], "9"),
    ("Which three colours have the doors of the tower?",
     ["The first door of the tower is crimson.", "The second door of the tower is turquoise.",
      "The third door of the tower is ochre."], "turquoise"),
]
DOCUMENTS = ["d4k", "d7k5", "d16k", "d32k"]


def main():
    documents = {document["id"]: document
                 for document in json.loads((FOLDER / "facts.json").read_text())["docs"]}
    cases = []
    for step, name in enumerate(DOCUMENTS):
        last = len(documents[name]["sentences"])
        for number, (fact, question, answer, paraphrase, first, second, absent) in enumerate(FACTS):
            # Each document meets a fact at another depth: 5 and 12 have no common divisor.
            depth = ((number * 5 + step * 3) % len(FACTS) + 0.4) / len(FACTS)
            at = int(last * depth)
            base = {"doc": name, "fact": number, "depth": round(depth, 3)}
            told = [{"sentence": fact, "insert_before_sentence": at}]
            halves = [{"sentence": half, "insert_before_sentence": at} for half in (first, second)]
            for form, asked, reply, inserts in (
                    ("plain", question, answer, told), ("paraphrase", paraphrase, answer, told),
                    ("two_sentences", question, answer, halves),
                    ("unanswerable", absent, None, told)):
                cases.append({**base, "id": f"{name}-{form}-{number:02}", "form": form,
                              "question": asked, "answer": reply, "inserts": inserts})
        for number, (one, other, question, answer) in enumerate(TWO_PLACES):
            places = [0.1 + number / 20, 0.6 + number / 20]
            inserts = [{"sentence": sentence, "insert_before_sentence": int(last * place)}
                       for sentence, place in zip((one, other), places)]
            cases.append({"doc": name, "id": f"{name}-two_places-{number}", "form": "two_places",
                          "depth": places[0], "question": question, "answer": answer,
                          "inserts": inserts})
        for number, (question, sentences, answer) in enumerate(SUMS):
            inserts = [{"sentence": sentence,
                        "insert_before_sentence": int(last * (i + 0.2 + number / 5) / 3)}
                       for i, sentence in enumerate(sentences)]
            cases.append({"doc": name, "id": f"{name}-aggregation-{number}", "form": "aggregation",
                          "depth": 0.5, "question": question, "answer": answer,
                          "inserts": inserts})
    text = json.dumps({"docs_of": "facts.json", "cases": cases}, indent=1)
    (FOLDER / "held_out.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
