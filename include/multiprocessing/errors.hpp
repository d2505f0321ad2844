// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The exceptions of the library, under Python's names.
///
///     try {
///         task.get(2s);
///     } catch (const mp::TimeoutError&) {
///         task.cancel();
///     } catch (const mp::WorkerDiedError& death) {
///         fmt::print("worker {} ended by {}\n", death.pid(), death.signal_name());
///     }
///
/// Mirrors `multiprocessing.ProcessError` and its children, the built-in `ValueError`,
/// `AssertionError`, `EOFError` and `OSError`, and `queue.Empty`, `Full`, `ShutDown`.
/// What the kernel refused is `OSError` (`std::system_error`) whose text names the call and the
/// object.

#include <concepts>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace multiprocessing {

namespace detail {

/// What `text_of` puts into its pattern: a text, or a number.
struct TextPart {
    TextPart(std::string string) : text(std::move(string)) {}
    TextPart(std::string_view string) : text(string) {}
    TextPart(const char* string) : text(string) {}
    template <std::integral Number>
    TextPart(Number number) : text(std::to_string(number)) {}

    std::string text;
};

/// Returns `pattern` with its `{}` replaced in turn. (What `fmt::format` does, without a
/// compile-time check for each kind of arguments, which every program would pay for.)
std::string text_of(std::string_view pattern, std::initializer_list<TextPart> parts);

}  // namespace detail

/// A bad argument, or a call on a closed object.
class ValueError : public std::invalid_argument {
  public:
    using std::invalid_argument::invalid_argument;
};

/// Misuse that a correct program does not contain: `start()` twice, `join()` before `start()`,
/// a process that is not this one's child, an `RLock` released by somebody who does not own it.
class AssertionError : public std::logic_error {
  public:
    using std::logic_error::logic_error;
};

/// What the kernel refused; `what()` names the call and the object.
using OSError = std::system_error;

/// Root of the library's own errors.
class ProcessError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
    ProcessError() : std::runtime_error("process error") {}
};

/// Something did not happen in time. Not the same type as `OSError` with `ETIMEDOUT`.
class TimeoutError : public ProcessError {
  public:
    using ProcessError::ProcessError;
    TimeoutError() : ProcessError("timed out") {}
};

/// A message did not fit into the buffer that was offered. The message is here and not lost.
class BufferTooShort : public ProcessError {
  public:
    explicit BufferTooShort(std::vector<std::byte> message)
        : ProcessError(detail::text_of("the message of {} bytes does not fit into the buffer",
                                       {message.size()})),
          message_(std::move(message)) {}

    /// Returns the whole message.
    const std::vector<std::byte>& message() const noexcept { return message_; }

  private:
    std::vector<std::byte> message_;
};

/// The other side of a connection does not know the key.
class AuthenticationError : public ProcessError {
  public:
    using ProcessError::ProcessError;
};

/// The other end is closed and everything that it sent has been read.
class EOFError : public ProcessError {
  public:
    using ProcessError::ProcessError;
    EOFError() : ProcessError("end of file: the other end is closed") {}
};

/// `get` found no item (in time).
class Empty : public ProcessError {
  public:
    using ProcessError::ProcessError;
    Empty() : ProcessError("the queue is empty") {}
};

/// `put` found no free place (in time).
class Full : public ProcessError {
  public:
    using ProcessError::ProcessError;
    Full() : ProcessError("the queue is full") {}
};

/// The queue was shut down; see `Queue::shutdown`.
class ShutDown : public ProcessError {
  public:
    using ProcessError::ProcessError;
    ShutDown() : ProcessError("the queue is shut down") {}
};

/// The barrier was broken while, or before, this process waited.
class BrokenBarrierError : public ProcessError {
  public:
    using ProcessError::ProcessError;
    BrokenBarrierError() : ProcessError("the barrier is broken") {}
};

/// The task was cancelled before it had a result.
class CancelledError : public ProcessError {
  public:
    using ProcessError::ProcessError;
    CancelledError() : ProcessError("the task was cancelled") {}
};

/// The object is not in a state in which this can be asked of it.
class InvalidStateError : public ProcessError {
  public:
    using ProcessError::ProcessError;
};

/// Bytes that are not a value of the type asked for, or a value that cannot be sent.
class SerializationError : public ProcessError {
  public:
    using ProcessError::ProcessError;
};

/// `next()` was called after the last result of `imap`.
class StopIteration : public ProcessError {
  public:
    using ProcessError::ProcessError;
    StopIteration() : ProcessError("no further results") {}
};

/// A pool or executor that cannot go on; say, because its initializer fails in every worker.
class BrokenProcessPool : public ProcessError {
  public:
    using ProcessError::ProcessError;
};

/// The lock is poisoned: its holder died holding it. The lock is *not* held when this is thrown.
class OwnerDiedError : public ProcessError {
  public:
    OwnerDiedError(const std::string& what, pid_t pid) : ProcessError(what), pid_(pid) {}

    /// Returns the process that died holding the lock.
    pid_t pid() const noexcept { return pid_; }

  private:
    pid_t pid_;
};

/// How a pool's worker ended; the facts that `WorkerDiedError` reports.
struct Death {
    pid_t pid = 0;
    int exitcode = 0;            ///< -SIGNAL when a signal ended it
    std::size_t task_index = 0;  ///< index of the item in its range; 0 for `apply`
    bool core_dumped = false;
    bool oom_killed = false;
    std::string stderr_tail = {};   ///< the last 4 KiB that it wrote to descriptor 2
    std::uint64_t peak_memory = 0;  ///< bytes that were resident at most; 0 where it is not known
    std::string traceback = {};     ///< where it was, a line a frame; "" when no fault ended it
};

/// The worker that ran the task died; only this task is lost.
class WorkerDiedError : public ProcessError {
  public:
    WorkerDiedError(const std::string& what, Death death)
        : ProcessError(what), death_(std::move(death)) {}

    pid_t pid() const noexcept { return death_.pid; }
    int exitcode() const noexcept { return death_.exitcode; }
    /// Returns the signal that ended the worker, 0 if none did.
    int signal() const noexcept { return death_.exitcode < 0 ? -death_.exitcode : 0; }
    /// Returns "SIGSEGV" and the like, "" if no signal ended the worker.
    std::string signal_name() const;
    /// Returns the index of the lost item in its range, 0 for `apply`.
    std::size_t task_index() const noexcept { return death_.task_index; }
    bool core_dumped() const noexcept { return death_.core_dumped; }
    bool oom_killed() const noexcept { return death_.oom_killed; }
    /// Returns the last 4 KiB that the worker wrote to its standard error.
    const std::string& stderr_tail() const noexcept { return death_.stderr_tail; }
    /// Returns how many bytes of the worker were resident at most; 0 where it is not known.
    std::uint64_t peak_memory() const noexcept { return death_.peak_memory; }
    /// Returns where the worker was when a fault ended it, innermost first, a line a frame; "" when
    /// it was none.
    const std::string& traceback() const noexcept { return death_.traceback; }

  private:
    Death death_;
};

/// An exception that crossed a process border.
///
/// An interface *beside* `std::exception`, not below it: what is rethrown derives from this and
/// from exactly one standard exception (its own type where that can be rebuilt), so that `catch`
/// works by its own type, by its standard bases, by `RemoteError` and by `const std::exception&`.
class RemoteError {
  public:
    virtual ~RemoteError() = default;

    /// Returns the name of the exception's type, as the process that threw it knows it.
    virtual const std::string& type_name() const noexcept = 0;
    /// Returns exactly the text that the exception was thrown with.
    virtual const std::string& message() const noexcept = 0;
    /// Returns the text with what is known of its origin.
    virtual const char* what() const noexcept = 0;
    /// Returns the process in which it was thrown.
    virtual pid_t pid() const noexcept = 0;
    /// Returns the name of the process in which it was thrown.
    virtual const std::string& process_name() const noexcept = 0;
    /// Returns what is known of the way it took, outermost first, as text.
    virtual const std::string& traceback() const noexcept = 0;

  protected:
    RemoteError() = default;
    RemoteError(const RemoteError&) = default;
    RemoteError& operator=(const RemoteError&) = default;
};

/// Ends the process as `sys.exit` does: thrown in a child it becomes the child's exit code.
///
/// Not a `std::exception`, as Python's is no `Exception`: a handler for errors does not swallow it.
class SystemExit {
  public:
    /// Ends the process with `code & 0xff`.
    explicit SystemExit(int code = 0) : code_(code & 0xff) {}
    /// Ends the process with code 1 after writing `text` to stderr.
    explicit SystemExit(std::string text) : code_(1), text_(std::move(text)) {}
    explicit SystemExit(const char* text) : SystemExit(std::string(text)) {}

    int code() const noexcept { return code_; }
    const std::string& text() const noexcept { return text_; }

  private:
    int code_;
    std::string text_;
};

// -------------------------------------------------------------------------------------------------

namespace detail {

inline std::string text_of(std::string_view pattern, std::initializer_list<TextPart> parts) {
    std::string text;
    for (const TextPart& part : parts) {
        const std::size_t at = pattern.find("{}");
        text.append(pattern.substr(0, at)).append(part.text);
        pattern.remove_prefix(at + 2);
    }
    return text.append(pattern);
}

/// Throws what the kernel said of `call` on `object`, as `OSError`.
[[noreturn]] inline void throw_os_error(int error, std::string_view call, std::string_view object) {
    throw OSError(error, std::system_category(), text_of("{}({})", {call, object}));
}

/// Returns "SIGTERM" for 15 and so on; the number as text where the system has no name for it.
inline std::string signal_name(int signal) {
    const char* abbreviation = ::sigabbrev_np(signal);
    return abbreviation != nullptr ? text_of("SIG{}", {abbreviation})
                                   : text_of("signal {}", {signal});
}

}  // namespace detail

inline std::string WorkerDiedError::signal_name() const {
    return signal() != 0 ? detail::signal_name(signal()) : std::string();
}

}  // namespace multiprocessing
