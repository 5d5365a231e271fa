// The families of span readers that compute as BERT does (Devlin et al. 2019, arXiv 1810.04805),
// described as data: how each one spells its settings and tensors, where its positions begin, and
// which tokens frame a window. One forward pass (forward_pass.cc) serves all of them.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace lectern {

// Keys of config.json.
struct BertKeys {
  std::string_view hidden = "hidden_size";
  std::string_view layers = "num_hidden_layers";
  std::string_view heads = "num_attention_heads";
  std::string_view intermediate = "intermediate_size";
  std::string_view activation = "hidden_act";
};

// Names of a layer's tensors, without ".weight" and ".bias". `layer` is followed by the layer's
// number, a dot and one of the other names.
struct BertTensorNames {
  std::string_view layer = "encoder.layer.";
  std::string_view query = "attention.self.query";
  std::string_view key = "attention.self.key";
  std::string_view value = "attention.self.value";
  std::string_view attention_out = "attention.output.dense";
  std::string_view attention_norm = "attention.output.LayerNorm";
  std::string_view in = "intermediate.dense";
  std::string_view out = "output.dense";
  std::string_view out_norm = "output.LayerNorm";
};

struct BertFamily {
  std::string_view model_type;    // of config.json
  std::string_view architecture;  // + "ForQuestionAnswering", or + "Model" for an encoder alone
  std::string_view prefix;        // of the encoder's tensors in a file with a head
  BertKeys keys;
  BertTensorNames tensors;
  bool has_types = true;                 // of tokens: question, document
  bool positions_after_padding = false;  // the first position is pad_token_id + 1
  bool projects_embedding = false;       // embeddings may be narrower than the layers (ELECTRA)
  std::string_view cls = "[CLS]";        // begins a window
  std::string_view sep = "[SEP]";        // ends the question, and ends the document's part
  int question_separators = 1;           // how many `sep` tokens follow the question
};

// All families.
std::span<const BertFamily> BertFamilies();

// Null if no family has this model_type.
const BertFamily* FindBertFamily(std::string_view model_type);

}  // namespace lectern
