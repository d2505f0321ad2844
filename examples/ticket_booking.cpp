// SPDX-License-Identifier: BSL-1.0

// Five buyers and one ticket, which is kept in a JSON file.
//
// Without a lock all of them see the ticket before the first has taken it, and all of them book it:
// "without the lock: 5 buyers". With a lock around reading and writing: "with the lock: 1 buyer".

#include <multiprocessing.hpp>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <string>
#include <vector>

namespace mp = multiprocessing;
namespace fs = std::filesystem;

constexpr int buyers = 5;

int read_tickets(const fs::path& office) {
    std::ifstream file(office);
    return nlohmann::json::parse(file).at("tickets").get<int>();
}

void write_tickets(const fs::path& office, int tickets) {
    std::ofstream(office) << nlohmann::json{{"tickets", tickets}};
}

void book(const fs::path& office, int buyer, int tickets, mp::Value<int> booked) {
    if (tickets > 0) {
        write_tickets(office, tickets - 1);
        booked += 1;
        fmt::print("  buyer {}: booked\n", buyer);
    } else {
        fmt::print("  buyer {}: sold out\n", buyer);
    }
}

void buy_without_lock(const fs::path& office, int buyer, mp::Barrier looked,
                      mp::Value<int> booked) {
    const int tickets = read_tickets(office);
    looked.wait();  // the time in which the buyer thinks: everybody looks before anybody books
    book(office, buyer, tickets, booked);
}

void buy_with_lock(const fs::path& office, int buyer, mp::Lock lock, mp::Value<int> booked) {
    const std::scoped_lock guard(lock);
    const int tickets = read_tickets(office);
    book(office, buyer, tickets, booked);
}

// Sells one ticket to everybody who gets it; returns how many that were.
template <class Buy, class Guard>
int sell(const fs::path& office, Buy buy, Guard guard) {
    write_tickets(office, 1);
    mp::Value<int> booked(0);
    std::vector<mp::Process> processes;
    for (int buyer = 1; buyer <= buyers; ++buyer) {
        processes.emplace_back(buy, office, buyer, guard, booked);
    }
    for (mp::Process& process : processes) { process.start(); }
    for (mp::Process& process : processes) { process.join(); }
    return booked.value();
}

class TemporaryDirectory {
  public:
    TemporaryDirectory() {
        std::string name = fs::temp_directory_path() / "ticket-booking-XXXXXX";
        if (mkdtemp(name.data()) == nullptr) { throw fs::filesystem_error("mkdtemp", name, {}); }
        path_ = name;
    }
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
    ~TemporaryDirectory() { fs::remove_all(path_); }

    const fs::path& path() const { return path_; }

  private:
    fs::path path_;
};

void print_buyers(const char* how, int number) {
    fmt::print("{} the lock: {} buyer{}\n", how, number, number == 1 ? "" : "s");
}

int main() {
    const TemporaryDirectory directory;
    const fs::path office = directory.path() / "office.json";
    print_buyers("without", sell(office, buy_without_lock, mp::Barrier(buyers)));
    print_buyers("with", sell(office, buy_with_lock, mp::Lock()));
}
