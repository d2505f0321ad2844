// SPDX-License-Identifier: BSL-1.0

// Messages of 64 bytes from one process to another, each put and got alone.
//
//     bench_queue ours|boost MESSAGES      prints messages a second

#include "harness.hpp"

#include <multiprocessing.hpp>

#include <boost/interprocess/ipc/message_queue.hpp>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace mp = multiprocessing;
namespace ipc = boost::interprocess;

using Message = std::array<std::uint64_t, 8>;

// Runs `send` in this process and `receive` in a child; returns messages a second. The clock runs
// from the first message that arrives to the last.
template <class Send, class Receive>
double transfer(std::uint64_t messages, Send send, Receive receive) {
    mp::RawValue<double> seconds(0);
    mp::Event ready;
    mp::Process consumer([&] {
        bench::pin(1);
        Message message{};
        ready.set();
        receive(message);
        const auto begin = bench::clock::now();
        for (std::uint64_t i = 1; i < messages; ++i) {
            receive(message);
            if (message[0] != i) { throw std::runtime_error("out of order"); }
        }
        seconds = bench::seconds_since(begin);
    });
    consumer.start();
    ready.wait();
    bench::pin(0);
    Message message{};
    for (std::uint64_t i = 0; i < messages; ++i) {
        message[0] = i;
        send(message);
    }
    consumer.join();
    if (consumer.exitcode() != 0) { std::exit(1); }
    return static_cast<double>(messages - 1) / seconds.value();
}

double ours(std::uint64_t messages) {
    const mp::Queue<Message> queue;
    return transfer(
        messages, [&](const Message& message) { queue.put(message); },
        [&](Message& message) { message = queue.get(); });
}

double boosts(std::uint64_t messages) {
    const std::string name = "multiprocessing-bench-" + std::to_string(getpid());
    struct Removed {
        const char* name;
        ~Removed() { ipc::message_queue::remove(name); }
    } const removed{name.c_str()};
    // The depth at which it does best; its documentation names none.
    ipc::message_queue queue(ipc::create_only, name.c_str(), 1024, sizeof(Message));
    return transfer(
        messages, [&](const Message& message) { queue.send(&message, sizeof message, 0); },
        [&](Message& message) {
            std::size_t size = 0;
            unsigned priority = 0;
            queue.receive(&message, sizeof message, size, priority);
        });
}

int main(int argc, char** argv) {
    if (argc != 3) { return 2; }
    const std::uint64_t messages = std::strtoull(argv[2], nullptr, 10);
    bench::report(std::string_view(argv[1]) == "ours" ? ours(messages) : boosts(messages),
                  "messages/s");
}
