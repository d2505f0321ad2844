// SPDX-License-Identifier: BSL-1.0

// Connection. The victim has the only copy of its end, as a process usually has; so its death is
// an end of file.

#include "row.hpp"
#include "rows.hpp"
#include "stage.hpp"

#include <multiprocessing/connection.hpp>
#include <multiprocessing/errors.hpp>

#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace step {

namespace {

using namespace std::chrono_literals;
using support::Forked;

/// The victim makes the pipe, so that nobody else has its end, and passes the other end on.
struct Line {
    std::pair<mp::Connection, mp::Connection> desk = mp::Pipe();
    std::string text = {};
    std::optional<mp::Connection> end = {};  // the victim's
    std::optional<Forked> other = {};

    static Line with(std::size_t size) {
        Line line;
        line.text.assign(size, 'x');
        return line;
    }
    /// In the victim: an end, whose other side is sent to whoever takes it.
    void make() {
        auto [theirs, mine] = mp::Pipe();
        desk.first.send(theirs);
        theirs.close();
        end = std::move(mine);
    }
    /// In a survivor.
    mp::Connection take() const {
        must(desk.second.poll(1s), "the victim did not prepare");
        return desk.second.recv<mp::Connection>();
    }
};

// What came out of the other end.
enum : int { whole = 1, end_of_file = 2, end_within = 3, torn = 4 };

template <class Receive>
int receive(const std::string& expected, Receive receive_one) {
    try {
        return receive_one() == expected ? whole : torn;
    } catch (const mp::EOFError&) { return end_of_file; } catch (const mp::OSError&) {
        return end_within;
    }
}

int receive(const mp::Connection& connection, const std::string& expected) {
    return receive(expected, [&] { return connection.recv<std::string>(); });
}

/// The same for what was sent as bytes.
int receive_bytes(const mp::Connection& connection, const std::string& expected) {
    return receive(expected, [&] {
        const std::vector<std::byte> bytes = connection.recv_bytes();
        return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    });
}

/// The operation was to send the text.
int check_sent(int what, bool may_end_within) {
    must(what != torn, "a torn message is taken for a whole one");
    must(what != end_within || may_end_within, "a message of one system call was torn");
    must(what != 0, "the receiver waits on");
    return what == whole ? 1 : 0;
}

const auto make_end = [](Line& line) { line.make(); };
const auto send_text = [](Line& line) {
    try {
        line.end->send(line.text);
    } catch (const mp::OSError& error) {
        // A receiver that did not wait has closed its end.
        if (error.code().value() != EPIPE) { throw; }
    }
};
const auto send_bytes = [](Line& line) { line.end->send_bytes(line.text); };

}  // namespace

void add_connection_rows() {
    const auto sent = [](Line& line, const Aftermath& after) {
        if (after.worked != Worked::not_tried) { return check_sent(stage().notes[0], false); }
        const mp::Connection connection = line.take();
        const int what = receive(connection, line.text);
        if (what == whole) {
            must(receive(connection, line.text) == end_of_file, "no end after the last message");
        }
        return check_sent(what, false);
    };
    add("connection.send/small", "Connection::send",
        Plan<Line>{.make = [] { return Line::with(100); },
                   .prepare = make_end,
                   .run = send_text,
                   .work =
                       [](Line& line, mp::Timeout bound) {
                           const mp::Connection connection = line.take();
                           if (!connection.poll(bound)) { return Worked::timed_out; }
                           stage().notes[0] = receive(connection, line.text);
                           return Worked::yes;
                       },
                   .check =
                       [=](Line& line, const Aftermath& after) {
                           // In time for nothing: the connection is gone with who had it.
                           if (after.worked == Worked::timed_out) { return 1; }
                           return sent(line, after);
                       },
                   .runs_twice = false});
    // What does not fit into the socket goes piece by piece.
    add("connection.send_bytes/more than the socket holds", "Connection::send_bytes",
        Plan<Line>{.make =
                       [] {
                           Line line = Line::with(1024 * 1024);
                           line.other.emplace([&line] {
                               line.desk.first.close();
                               const mp::Connection connection =
                                   line.desk.second.recv<mp::Connection>();
                               await_victim_asleep();
                               stage().notes[0] = receive_bytes(connection, line.text);
                               ::pause();
                               return 0;
                           });
                           return line;
                       },
                   .prepare = make_end,
                   .run = send_bytes,
                   .check =
                       [](Line&, const Aftermath&) {
                           support::eventually([] { return stage().notes[0] != 0; }, 1500ms);
                           return check_sent(stage().notes[0], true);
                       },
                   .runs_twice = false});
    add("connection.send_bytes/small", "Connection::send_bytes",
        Plan<Line>{.make = [] { return Line::with(100); },
                   .prepare = make_end,
                   .run = send_bytes,
                   .check =
                       [](Line& line, const Aftermath&) {
                           return check_sent(receive_bytes(line.take(), line.text), false);
                       },
                   .runs_twice = false});
    // To the other side it is an end that is gone, or one that has taken what was sent.
    const auto received = [](Line&, const Aftermath&) {
        support::eventually([] { return stage().notes[1] != 0; }, 1500ms);
        must(stage().notes[1] == 1, "the sender is not told that nobody is there");
        return 1;
    };
    const auto with_sender = [](std::size_t size) {
        return [size] {
            Line line = Line::with(size);
            line.other.emplace([&line] {
                line.desk.first.close();
                const mp::Connection connection = line.desk.second.recv<mp::Connection>();
                try {
                    connection.send(line.text);
                    stage().notes[0] = 1;
                    await_victim_dead();
                    connection.send(line.text);
                    stage().notes[1] = 2;
                } catch (const mp::OSError&) { stage().notes[1] = 1; }
                ::pause();
                return 0;
            });
            return line;
        };
    };
    add("connection.recv/small", "Connection::recv",
        Plan<Line>{.make = with_sender(100),
                   .prepare =
                       [](Line& line) {
                           line.make();
                           support::eventually([] { return stage().notes[0] != 0; });
                       },
                   .run = [](Line& line) { line.end->recv<std::string>(); },
                   .check = received,
                   .runs_twice = false});
    add("connection.recv_bytes/small", "Connection::recv_bytes Connection::recv_bytes_into",
        Plan<Line>{.make = with_sender(100),
                   .prepare =
                       [](Line& line) {
                           line.make();
                           support::eventually([] { return stage().notes[0] != 0; });
                       },
                   .run = [](Line& line) { line.end->recv_bytes(); },
                   .check = received,
                   .runs_twice = false});
}

}  // namespace step
