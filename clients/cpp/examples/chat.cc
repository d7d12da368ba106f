// Asks one question and prints the answer as it comes:  ./chat "What is 27 + 35?"
// LEPTON_ADDRESS names the router, or several: 10.0.0.1:50051,10.0.0.2:50051

#include <lepton/client.h>

#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>

namespace {

std::vector<std::string> Addresses() {
  const char* named = std::getenv("LEPTON_ADDRESS");
  std::istringstream list(named ? named : "127.0.0.1:50051");
  std::vector<std::string> addresses;
  for (std::string address; std::getline(list, address, ',');) addresses.push_back(address);
  return addresses;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string question = argc > 1 ? argv[1] : "What is 27 + 35?";
  try {
    lepton::Client client({.addresses = Addresses()});
    lepton::TextStream answer = client.Chat({{"user", question}}, {.max_tokens = 128});
    for (const lepton::TextPiece& piece : answer) std::cout << piece << std::flush;
    const lepton::Completion& whole = answer.so_far();
    std::cout << "\n[" << whole.choices.at(0).finish_reason << ", " << whole.usage.completion_tokens() << " tokens]\n";
  } catch (const lepton::Error& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 1;
  }
}
