// Uses the installed client as another project would: uploads argv[2] to the server argv[1], asks
// argv[3] and prints the answer, or the reason of the error.
#include <lectern/client.h>
#include <lectern/error_details.h>

#include <iostream>

int main(int, char** argv) {
  lectern::Client client(argv[1]);
  const auto document = client.Upload(argv[2], {}, {}, nullptr);
  lectern::v1::AskRequest ask;
  ask.set_document_id(document.ok() ? document->id() : "none");
  ask.set_question(argv[3]);
  ask.set_max_new_tokens(4);
  const auto answer = client.Ask(ask, {}, nullptr);
  std::cout << (answer.ok() ? answer->text() : lectern::GetErrorDetails(answer.status()).reason);
  return answer.ok() ? 0 : 1;
}
