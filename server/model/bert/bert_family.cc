#include "server/model/bert/bert_family.h"

namespace lectern {
namespace {

constexpr BertFamily kFamilies[] = {
    {.model_type = "bert", .architecture = "Bert", .prefix = "bert."},
    // Liu et al. 2019, arXiv 1907.11692.
    {.model_type = "roberta",
     .architecture = "Roberta",
     .prefix = "roberta.",
     .positions_after_padding = true,
     .cls = "<s>",
     .sep = "</s>",
     .question_separators = 2},
    // Conneau et al. 2020, arXiv 1911.02116: RoBERTa with another tokenizer.
    {.model_type = "xlm-roberta",
     .architecture = "XLMRoberta",
     .prefix = "roberta.",
     .positions_after_padding = true,
     .cls = "<s>",
     .sep = "</s>",
     .question_separators = 2},
    // Clark et al. 2020, arXiv 2003.10555.
    {.model_type = "electra",
     .architecture = "Electra",
     .prefix = "electra.",
     .projects_embedding = true},
    // Sanh et al. 2019, arXiv 1910.01108.
    {.model_type = "distilbert",
     .architecture = "DistilBert",
     .prefix = "distilbert.",
     .keys = {.hidden = "dim",
              .layers = "n_layers",
              .heads = "n_heads",
              .intermediate = "hidden_dim",
              .activation = "activation"},
     .tensors = {.layer = "transformer.layer.",
                 .query = "attention.q_lin",
                 .key = "attention.k_lin",
                 .value = "attention.v_lin",
                 .attention_out = "attention.out_lin",
                 .attention_norm = "sa_layer_norm",
                 .in = "ffn.lin1",
                 .out = "ffn.lin2",
                 .out_norm = "output_layer_norm"},
     .has_types = false},
};

}  // namespace

std::span<const BertFamily> BertFamilies() { return kFamilies; }

const BertFamily* FindBertFamily(std::string_view model_type) {
  for (const BertFamily& family : kFamilies) {
    if (family.model_type == model_type) return &family;
  }
  return nullptr;
}

}  // namespace lectern
