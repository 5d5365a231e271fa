#include "server/engine/text/language.h"

#include <libstemmer.h>

#include <algorithm>
#include <array>
#include <cstddef>

namespace lectern {
namespace {

// Words() splits at apostrophes, so the pieces of contractions and elisions are listed: "don", "t".
constexpr std::string_view kEnglishFunctionWords =
    // Articles and determiners.
    "a an the this that these those some any each every either neither no all both another other "
    "others such same own only "
    // Pronouns.
    "i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his "
    "himself she her hers herself it its itself they them their theirs themselves one ones oneself "
    "somebody someone something anybody anyone anything nobody nothing everybody everyone "
    "everything "
    // Question words and relatives.
    "who whom whose which what when where why how whoever whichever whatever whenever wherever "
    // Prepositions and particles.
    "of at by for with about against between into through during before after above below to from "
    "up down in out on off over under again within without upon along across behind beyond near "
    "toward towards until till since as per via than like among around beside besides onto "
    // Conjunctions.
    "and but or nor so yet if because while although though unless whether then else however "
    "therefore thus "
    // Auxiliary verbs.
    "is am are was were be been being do does did doing done have has had having can cannot could "
    "will would shall should may might must ought need "
    "isn aren wasn weren don doesn didn haven hasn hadn couldn won wouldn shan shouldn mustn "
    "s t d ll re ve m "
    // Adverbs of degree and place, and what a question asks with.
    "not too very just also even still ever never already now once here there somewhere anywhere "
    "more most much less least few several quite rather almost please tell say according";
constexpr std::string_view kEnglishAnswerTypes =
    "time hour minute day date week month year number amount kind sort type way name names named "
    "called person people place thing reason many much old long far high deep tall big large often "
    "wide fast heavy late early soon";

constexpr std::string_view kGermanFunctionWords =
    "der die das den dem des ein eine einen einem einer eines kein keine keinen keinem keiner "
    "keines dieser diese dieses diesen diesem jener jene jenes jenen jenem jeder jede jedes jeden "
    "jedem alle allen aller alles beide beiden "
    "ich mich mir mein meine meinen meinem meiner wir uns unser unsere unseren du dich dir dein "
    "deine ihr euch euer eure er ihn ihm sein seine seinen seinem seiner sie ihnen ihre ihren "
    "ihrem "
    "ihrer es sich man jemand etwas niemand nichts "
    "wer wen wem wessen was wann wo warum wieso weshalb wie woher wohin womit wodurch wovon worin "
    "welcher welche welches welchen welchem "
    "in im ins an am ans auf aus bei beim mit nach von vom vor zu zum zur durch für gegen ohne um "
    "bis seit über unter zwischen hinter neben während wegen trotz ab laut "
    "und oder aber sondern denn weil dass daß ob wenn als damit obwohl sowie doch "
    "bin bist ist sind seid war waren wart gewesen habe hast hat haben hatte hatten gehabt werde "
    "wirst wird werden wurde wurden worden kann können konnte konnten muss müssen musste mussten "
    "soll sollen sollte sollten will wollen wollte wollten darf dürfen durfte durften mag mögen "
    "nicht auch nur noch schon sehr so da dort hier dann nun mehr sehr bitte";
constexpr std::string_view kGermanAnswerTypes =
    "uhr uhrzeit zeit stunde tag datum woche monat jahr zahl nummer anzahl menge art weise name "
    "namen heißt hieß genannt person personen ort ding grund viel viele vielen alt lang lange weit "
    "hoch tief groß oft breit schnell schwer spät früh";

constexpr std::string_view kFrenchFunctionWords =
    "le la les l un une des du de d au aux ce cet cette ces c tout toute tous toutes chaque "
    "quelque "
    "quelques aucun aucune autre autres même mêmes "
    "je j me m moi mon ma mes tu te t toi ton ta tes il elle on se s soi son sa ses nous notre nos "
    "vous votre vos ils elles leur leurs lui eux y en quelqu rien personne "
    "qui que qu quoi dont où quand comment pourquoi combien quel quelle quels quelles lequel "
    "laquelle lesquels lesquelles "
    "à dans par pour sur sous avec sans entre vers chez contre depuis pendant avant après devant "
    "derrière jusque jusqu selon près lors "
    "et ou mais ni car donc or si comme lorsque lorsqu puisque quoique afin parce "
    "suis es est sommes êtes sont étais était étaient été étant fut furent sera seront serait ai "
    "as "
    "a avons avez ont avais avait avaient eu eut aura auront aurait peut peuvent pouvait doit "
    "doivent devait fait "
    "ne n pas plus moins très aussi encore déjà ici là bien";
constexpr std::string_view kFrenchAnswerTypes =
    "heure heures moment jour date semaine mois année an nombre numéro quantité genre sorte type "
    "façon manière nom noms nommé appelle appelait personnes endroit lieu chose raison âge";

constexpr std::string_view kSpanishFunctionWords =
    "el la los las lo un una unos unas al del este esta estos estas esto ese esa esos esas eso "
    "aquel aquella aquellos aquellas todo toda todos todas cada algún alguna algunos algunas "
    "ningún "
    "ninguna otro otra otros otras mismo misma "
    "yo me mí mi mis tú te ti tu tus él ella ello se sí su sus nosotros nos nuestro nuestra "
    "ustedes "
    "ellos ellas les le alguien algo nadie nada "
    "quién quiénes quien quienes qué que cuál cuáles cual cuales cuándo cuando dónde donde adónde "
    "cómo como cuánto cuánta cuántos cuántas cuyo cuya "
    "a ante bajo con contra de desde durante en entre hacia hasta para por según sin sobre tras "
    "y e o u pero sino ni si porque pues aunque mientras "
    "soy es somos son era eran fue fueron sido siendo ser será serán sería estoy está están estaba "
    "estaban estuvo estar he ha hemos han había habían hubo haber hay puede pueden podía debe "
    "deben "
    "debía "
    "no muy más menos también tampoco ya aún todavía aquí allí allá así";
constexpr std::string_view kSpanishAnswerTypes =
    "hora horas momento día fecha semana mes año número cantidad clase tipo modo manera nombre "
    "nombres llamado llama llamaba persona personas lugar sitio cosa razón edad";

std::unordered_set<std::string_view> Split(std::string_view list) {
  std::unordered_set<std::string_view> words;
  while (!list.empty()) {
    const size_t space = std::min(list.find(' '), list.size());
    if (space > 0) words.insert(list.substr(0, space));
    list.remove_prefix(std::min(space + 1, list.size()));
  }
  return words;
}

}  // namespace

Language::Language(const char* snowball_name, std::string_view function_words,
                   std::string_view answer_types)
    : snowball_name_(snowball_name),
      function_words_(Split(function_words)),
      answer_types_(Split(answer_types)) {}

const Language& Language::Detect(std::span<const std::string> words) {
  static const auto& languages =
      *new std::array<Language, 4>{Language("english", kEnglishFunctionWords, kEnglishAnswerTypes),
                                   Language("german", kGermanFunctionWords, kGermanAnswerTypes),
                                   Language("french", kFrenchFunctionWords, kFrenchAnswerTypes),
                                   Language("spanish", kSpanishFunctionWords, kSpanishAnswerTypes)};
  const auto count = [&](const Language& language) {
    return std::count_if(words.begin(), words.end(),
                         [&](const std::string& word) { return language.IsFunctionWord(word); });
  };
  return *std::max_element(
      languages.begin(), languages.end(),
      [&](const Language& a, const Language& b) { return count(a) < count(b); });
}

bool Language::IsFunctionWord(std::string_view word) const {
  return function_words_.contains(word);
}

bool Language::IsAnswerType(std::string_view word) const { return answer_types_.contains(word); }

Stemmer::Stemmer(const Language& language) : stemmer_(sb_stemmer_new(language.name(), "UTF_8")) {}

void Stemmer::Delete::operator()(void* stemmer) const {
  sb_stemmer_delete(static_cast<sb_stemmer*>(stemmer));
}

std::string Stemmer::Stem(std::string_view word) {
  auto* const stemmer = static_cast<sb_stemmer*>(stemmer_.get());
  if (stemmer == nullptr) return std::string(word);
  const sb_symbol* const stem = sb_stemmer_stem(
      stemmer, reinterpret_cast<const sb_symbol*>(word.data()), static_cast<int>(word.size()));
  if (stem == nullptr) return std::string(word);
  return std::string(reinterpret_cast<const char*>(stem),
                     static_cast<size_t>(sb_stemmer_length(stemmer)));
}

}  // namespace lectern
