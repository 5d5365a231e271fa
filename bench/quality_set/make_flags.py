#!/usr/bin/env python3
"""Draws questions that measure `no_evidence`: writes flags.json and flags_held_out.json here.

    bench/quality_set/make_flags.py

A document holds ten facts, one sentence each, drawn by seed from the families below: alone (a
document of a single short chunk), or spread over the prose of 1k or 4k tokens of facts.json. All
questions are about the same document, so that it is read once. Four questions about each fact:

    plain                   the fact's words, in the inflection that a question needs
    paraphrase              keeps the name of the thing and says the rest in other words
    unanswerable_thing      the plain question about a thing that the document does not mention
    unanswerable_attribute  about the thing of the fact, but what the document does not say of it

The facts of facts.json's families and of the held-out ones have neither wording nor names in
common: thresholds are chosen on flags.json and verified on flags_held_out.json.
"""
import json
import pathlib
import random

FOLDER = pathlib.Path(__file__).resolve().parent

# Slots in braces; {thing}, and {other}, which is another value of the same list, not in the
# document. Fact, answer, plain question, paraphrase, question about what the fact does not say.
CHOICE = {
    "things": ["harbour crane", "north boiler", "signal lamp", "water wheel", "cable winch",
               "steam whistle", "lock gate", "tide gauge", "coal lift", "fog bell", "grain mill",
               "paper press", "oil burner", "brine pump", "ice saw", "rope walk", "silk loom",
               "stone bridge", "market clock", "toll house"],
    "people": ["Edda Marlow", "Ruben Castell", "Ottilie Fenn", "Hamish Drury", "Noor Valdane",
               "Piotr Lasko", "Greta Holm", "Silas Wray", "Imke Sander", "Tobin Ashe"],
    "towns": ["Brackwater", "Ellerton", "Skarholm", "Penmoor", "Vastry", "Olney Cross"],
    "families": [
        ("The {thing} failed at {time}.", "{time}", "At what time did the {thing} fail?",
         "When did the {thing} break down?", "Who repaired the {thing}?"),
        ("{person} designed the {thing} in {year}.", "{person}", "Who designed the {thing}?",
         "Which engineer drew the plans of the {thing}?", "How much did the {thing} weigh?"),
        ("The {thing} was shipped to {town} in the spring.", "{town}",
         "To which town was the {thing} shipped?", "Where did they send the {thing}?",
         "Who insured the {thing}?"),
        ("Repairs to the {thing} cost {number} crowns.", "{number}",
         "How much did the repairs to the {thing} cost?",
         "What was the price of mending the {thing}?",
         "How long was the {thing} under guarantee?"),
        ("The {thing} employs {small} workers by day.", "{small}",
         "How many workers does the {thing} employ?", "How many hands have jobs at the {thing}?",
         "Which union represents the {thing}?"),
        ("The keys of the {thing} are kept by {person}.", "{person}",
         "Who keeps the keys of the {thing}?", "Who looks after the keys of the {thing}?",
         "What colour was the {thing} painted?"),
        ("The {thing} was inspected on {date}.", "{date}", "When was the {thing} inspected?",
         "On what day did somebody examine the {thing}?", "Which law protects the {thing}?"),
        ("{person} bought the {thing} from a bank.", "{person}", "Who bought the {thing}?",
         "Who is the new owner of the {thing}?", "In which valley does the {thing} stand?"),
        ("The {thing} opens at {time} on weekdays.", "{time}", "When does the {thing} open?",
         "From what hour can one visit the {thing}?", "Who sponsors the {thing}?"),
        ("The {thing} is {small} metres high.", "{small}", "How high is the {thing}?",
         "What is the height of the {thing}?", "Which bird nests on the {thing}?"),
    ],
}
HELD_OUT = {
    "things": ["opera house", "glass tower", "swan ferry", "chalk quarry", "bee garden",
               "mail coach", "rose chapel", "salt museum", "kite factory", "apple press",
               "cedar school", "night tram", "pearl farm", "cliff railway", "map archive",
               "wool exchange", "puppet theatre", "lime kiln", "radio mast", "plum orchard"],
    "people": ["Asta Brandvik", "Corin Teller", "Delphine Roux", "Emeka Obi", "Farah Zand",
               "Gideon Pike", "Hester Quill", "Ivo Maric", "Juna Solberg", "Klaus Tamm"],
    "towns": ["Dunhaven", "Karsby", "Lindau Mill", "Morrowick", "Nethergate", "Ostrand"],
    "families": [
        ("Construction of the {thing} began in {year}.", "{year}",
         "In which year did construction of the {thing} begin?",
         "What year did they start to build the {thing}?", "Who demolished the {thing}?"),
        ("The {thing} lost {number} visitors after the storm.", "{number}",
         "How many visitors did the {thing} lose after the storm?",
         "By how many did guests of the {thing} decline because of the storm?",
         "Which song was written about the {thing}?"),
        ("{person} manages the {thing} for the city.", "{person}", "Who manages the {thing}?",
         "Who is in charge of the {thing}?", "What does a ticket for the {thing} cost?"),
        ("The {thing} moved to {town} last winter.", "{town}", "Where did the {thing} move?",
         "Which town is the new home of the {thing}?", "How many floors has the {thing}?"),
        ("A fire damaged the {thing} on {date}.", "{date}", "When did a fire damage the {thing}?",
         "On what day did the {thing} burn?", "Who wrote the history of the {thing}?"),
        ("The {thing} borrowed {number} crowns from the town council.", "{number}",
         "How much did the {thing} borrow from the town council?",
         "How large is the loan of the council to the {thing}?",
         "What is the motto of the {thing}?"),
        ("{person} discovered a cellar below the {thing}.", "{person}",
         "Who discovered the cellar below the {thing}?",
         "Who came upon a vault under the {thing}?", "Which river supplies the {thing}?"),
        ("The {thing} closes at {time} every evening.", "{time}",
         "At what time does the {thing} close?", "Until when is the {thing} open to the public?",
         "Who plays the organ in the {thing}?"),
        ("The {thing} is guarded by {small} dogs.", "{small}", "How many dogs guard the {thing}?",
         "How many hounds watch over the {thing}?", "In which war was the {thing} destroyed?"),
        ("The charter of the {thing} was signed by {person}.", "{person}",
         "Who signed the charter of the {thing}?",
         "Whose signature is on the founding document of the {thing}?",
         "How deep is the well of the {thing}?"),
    ],
}
MONTHS = ["January", "March", "April", "June", "July", "September", "October", "December"]
PROSE = [None, "d1k", "d4k"]  # of facts.json; None: the facts alone
FACTS_ALONE_TOKENS = 250  # about; names the row of bench/quality
DRAWS = 2


def drawn_facts(source, rng):
    """Ten facts, each as (sentence, {form: (question, answer or None)})."""
    things = rng.sample(source["things"], len(source["things"]))
    people = rng.sample(source["people"], len(source["people"]))
    present, absent = things[:10], things[10:]
    facts = []
    for (fact, answer, plain, paraphrase, attribute), thing, other, person in zip(
            rng.sample(source["families"], 10), present, absent, people):
        slots = {"thing": thing, "person": person, "town": rng.choice(source["towns"]),
                 "time": f"{rng.randrange(24):02}:{rng.randrange(1, 60):02}",
                 "year": str(rng.randrange(1820, 1990)), "small": str(rng.randrange(11, 99)),
                 "number": str(rng.randrange(210, 9900)),
                 "date": f"{rng.randrange(2, 29)} {rng.choice(MONTHS)}"}
        facts.append((fact.format(**slots), {
            "plain": (plain.format(**slots), answer.format(**slots)),
            "paraphrase": (paraphrase.format(**slots), answer.format(**slots)),
            "unanswerable_thing": (plain.format(**{**slots, "thing": other}), None),
            "unanswerable_attribute": (attribute.format(**slots), None)}))
    return facts


def drawn_set(source, seed, prose):
    """Documents, each of which holds the facts of one draw, and the questions about them."""
    documents, cases = [], []
    for name in PROSE:
        base = prose.get(name, {"tokens": FACTS_ALONE_TOKENS, "sentences": []})
        for draw in range(DRAWS):
            document = f"{name or 'facts'}-{draw}"
            facts = drawn_facts(source, random.Random(f"{seed} {document}"))
            inserts = [{"sentence": sentence, "insert_before_sentence":
                        int(len(base["sentences"]) * (number + 0.5) / len(facts))}
                       for number, (sentence, _) in enumerate(facts)]
            documents.append({"id": document, "tokens": base["tokens"], "prose_of": name,
                              "inserts": inserts})
            cases += [{"id": f"{document}-{number}-{form}", "doc": document, "form": form,
                       "question": question, "answer": answer, "evidence": [sentence]}
                      for number, (sentence, forms) in enumerate(facts)
                      for form, (question, answer) in forms.items()]
    return {"docs_of": "facts.json", "docs": documents, "cases": cases}


def main():
    facts = json.loads((FOLDER / "facts.json").read_text())
    prose = {document["id"]: document for document in facts["docs"]}
    for file, source, seed in (("flags.json", CHOICE, "choice"),
                               ("flags_held_out.json", HELD_OUT, "held out")):
        contents = drawn_set(source, seed, prose)
        (FOLDER / file).write_text(json.dumps(contents, indent=1) + "\n")


if __name__ == "__main__":
    main()
