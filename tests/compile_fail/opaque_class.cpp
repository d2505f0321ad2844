// expect: (?s)(?=.*this type cannot be sent to another process)(?=.*Make it an aggregate)(?=.*serialize\(Archive&\))(?=.*specialise mp::serializer)(?=.*explain.*Account)
// SPDX-License-Identifier: BSL-1.0
#include <multiprocessing/serialize.hpp>

class Account {
  public:
    explicit Account(int balance) : balance_(balance) {}
    int balance() const { return balance_; }

  private:
    int balance_;
};

int main() { multiprocessing::dumps(Account(5)); }
