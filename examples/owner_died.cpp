// SPDX-License-Identifier: BSL-1.0

// A process is killed halfway through changing a record. Three ways to go on.
//
// Two accounts belong together: what one loses the other gets. A clerk dies between the two
// halves of a transfer, holding the lock. Prints what the next one finds, by the lock's policy.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <csignal>
#include <cstdlib>
#include <mutex>

namespace mp = multiprocessing;

// What is shared, and what is needed to put it right: the note says what is being done.
struct Accounts {
    int alice = 100;
    int bob = 100;
    int pending = 0;       // what is being moved from alice to bob; 0 = nothing
    int alice_before = 0;  // written before `pending`
    int bob_before = 0;

    // Finishes or undoes what was begun. May itself be interrupted, and done again.
    void repair() {
        if (pending == 0) { return; }
        alice = alice_before;
        bob = bob_before;
        pending = 0;
    }
};

void transfer(Accounts& accounts, int amount, bool dies_halfway) {
    accounts.alice_before = accounts.alice;
    accounts.bob_before = accounts.bob;
    accounts.pending = amount;
    accounts.alice -= amount;
    if (dies_halfway) { std::raise(SIGKILL); }
    accounts.bob += amount;
    accounts.pending = 0;
}

// Returns the accounts as the clerk who was killed at work has left them.
mp::RawValue<Accounts> after_a_death(const mp::Lock& lock, const mp::RawValue<Accounts>& shared) {
    mp::Process clerk([lock, shared] {
        const std::scoped_lock guard(lock);
        transfer(shared.get_obj(), 30, true);
    });
    clerk.start();
    clerk.join();
    fmt::print("the clerk ended with {}\n", clerk.exitcode().value());
    return shared;
}

void print(const char* when, const Accounts& accounts) {
    fmt::print("{}: alice {}, bob {}, together {}\n", when, accounts.alice, accounts.bob,
               accounts.alice + accounts.bob);
}

void told() {
    fmt::print("transfer: the next one gets the lock, and is told\n");
    const mp::Lock lock;
    const auto shared = after_a_death(lock, mp::RawValue<Accounts>());
    const mp::LockResult result = lock.acquire();
    fmt::print("owner died: {}\n", result.owner_died());
    print("as found", shared.get_obj());
    if (result.owner_died()) { shared.get_obj().repair(); }
    print("repaired", shared.get_obj());
    lock.release();
}

void repaired() {
    fmt::print("repair: the next one finds it repaired\n");
    const mp::RawValue<Accounts> accounts;
    const mp::Lock lock({.on_owner_death = mp::OwnerDeath::repair,
                         .repair = [accounts] { accounts.get_obj().repair(); }});
    const auto shared = after_a_death(lock, accounts);
    const std::scoped_lock guard(lock);
    print("as found", shared.get_obj());
}

void poisoned() {
    fmt::print("poison: nobody gets it until somebody has looked\n");
    const mp::Lock lock({.on_owner_death = mp::OwnerDeath::poison});
    const auto shared = after_a_death(lock, mp::RawValue<Accounts>());
    try {
        lock.acquire();
        fmt::print("got it\n");
    } catch (const mp::OwnerDiedError&) { fmt::print("refused: the holder died\n"); }
    shared.get_obj().repair();
    lock.recover();
    const std::scoped_lock guard(lock);
    print("after recover()", shared.get_obj());
}

int main() {
    told();
    repaired();
    poisoned();
}
