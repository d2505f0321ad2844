// expect: (?s)(?=.*a raw pointer cannot be sent to another process)(?=.*Send what it points to)(?=.*explain.*Ledger ?\*)
// SPDX-License-Identifier: BSL-1.0
#include <multiprocessing/serialize.hpp>

struct Ledger {
    int balance;
};

int main() {
    Ledger ledger{5};
    Ledger* where = &ledger;
    multiprocessing::dumps(where);
}
