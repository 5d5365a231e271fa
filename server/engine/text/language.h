// Languages as word statistics see them: stems, the words that carry grammar rather than content,
// and the words by which a question names the type of its answer.
//
// Stems are those of Snowball (M. Porter, "Snowball: A language for stemming algorithms", 2001;
// library libstemmer): "failed", "fails" and "fail" have one stem. The word lists in language.cc
// were compiled for this project, by grammatical class, and are under its licence.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>

namespace lectern {

// Immutable; every method is thread-safe. All words are in lower case, as Words() returns them.
class Language {
 public:
  // English, German, French or Spanish: the language whose function words are the most frequent in
  // `words`; English if there are none. Never destroyed.
  static const Language& Detect(std::span<const std::string> words);

  Language(const char* snowball_name, std::string_view function_words,
           std::string_view answer_types);

  // Snowball's name of the language, in English: "german".
  const char* name() const { return snowball_name_; }
  // Articles, pronouns, prepositions, conjunctions, auxiliary verbs, question words.
  bool IsFunctionWord(std::string_view word) const;
  // Words such as "time", "year" or "many", which a question uses to say what kind of answer it
  // wants: "At what time ...?" is answered by "03:14".
  bool IsAnswerType(std::string_view word) const;

 private:
  const char* const snowball_name_;
  const std::unordered_set<std::string_view> function_words_;
  const std::unordered_set<std::string_view> answer_types_;
};

// Stems of one language. Not thread-safe; cheap to make.
class Stemmer {
 public:
  explicit Stemmer(const Language& language);

  // The stem of a word in lower case; the word itself if memory runs out.
  std::string Stem(std::string_view word);

 private:
  struct Delete {
    void operator()(void* stemmer) const;
  };
  std::unique_ptr<void, Delete> stemmer_;
};

}  // namespace lectern
