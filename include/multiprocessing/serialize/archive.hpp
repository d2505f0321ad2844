// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Where values are written to and read from: contiguous memory, growing or of a known size.
///
///     Writer out;                        // or Writer out(place_in_a_ring);
///     out(ticket, names);
///     Reader in(out.view());
///     in(ticket, names);
///
/// The calling convention is cereal's (`ar(a, b)`, `ar & a`, `ar << a`, `ar >> a`), so that classes
/// which can be serialised there can be sent here. The wire is the machine's own: scalars as they
/// stand in memory, lengths as 64 bits. What is read is never trusted: everything that `Reader`
/// gives out has been checked against the bytes that are there, and what is wrong is
/// `SerializationError`.

#include <multiprocessing/errors.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace multiprocessing {

/// Says how a type is sent that cannot say it itself. Specialise it with two members:
///
///     template <> struct mp::serializer<Money> {
///         static void save(auto& archive, const Money& m) { archive(m.cents()); }
///         static Money load(auto& archive) { long cents; archive(cents); return Money(cents); }
///     };
template <class T>
struct serializer;

namespace detail {

/// Archives live in a namespace of their own: `save` and `load` of this one are then not found by
/// argument-dependent lookup, where a class's own functions of those names are looked for.
namespace archives {
class Writer;
class Reader;
}  // namespace archives

using archives::Reader;
using archives::Writer;

/// Writes a value; what it is made of must be sendable.
template <class T>
void save(Writer& out, const T& value);
/// Reads a value. Bytes may be left over.
template <class T>
T load(Reader& in);
/// Reads into a value that exists already.
template <class T>
void load_into(Reader& in, T& value);

/// Takes the descriptors of handles that are being sent.
struct HandleSink {
    virtual ~HandleSink() = default;
    /// Returns the index under which the receiver asks for `fd`, which stays the caller's and may
    /// be closed once the value has been sent. One that is added again may get the same index where
    /// the receiver can ask again.
    virtual std::uint32_t add(int fd) = 0;
    /// Tells whether the bytes go to the start of a process: any handle may cross then, elsewhere
    /// only Connections.
    virtual bool starts_process() const noexcept { return false; }
};

/// Gives out the descriptors of handles that were received.
struct HandleSource {
    virtual ~HandleSource() = default;
    /// Returns descriptor `index`, close-on-exec, now owned by the caller.
    /// \throws SerializationError when there is none, or it was taken before.
    virtual int take(std::uint32_t index) = 0;
    /// Tells whether the bytes come from the start of this process; see HandleSink.
    virtual bool starts_process() const noexcept { return false; }
    /// Nothing further is asked for.
    virtual void finish() noexcept {}
};

/// How deep values may be nested: what follows a pointer or stands in a container is one level
/// deeper.
inline constexpr unsigned max_nesting = 128;

[[noreturn]] inline void refuse_bytes(std::string_view what) {
    throw SerializationError(
        text_of("the bytes are not a value of the type asked for: {}", {what}));
}

/// Takes what a `Writer` has more of than it should keep in a buffer of its own.
struct Overflow {
    /// From so many bytes on.
    static constexpr std::size_t from = 1024 * 1024;

    virtual ~Overflow() = default;
    /// Takes the next bytes.
    virtual void append(std::span<const std::byte> bytes) = 0;
    /// Forgets those that it was given: the writer starts anew.
    virtual void restart() noexcept = 0;
};

namespace archives {

/// Writes values into contiguous memory.
/// \safety one thread at a time. After an exception only `clear()` and destruction make sense.
class Writer {
  public:
    using is_saving = std::true_type;
    using is_loading = std::false_type;

    /// Writes into a buffer that grows.
    Writer() = default;
    /// Writes into `place`, and throws `SerializationError` rather than past its end.
    explicit Writer(std::span<std::byte> place) noexcept
        : begin_(place.data()), cursor_(begin_), end_(begin_ + place.size()), fixed_(true) {}
    Writer(const Writer&) = delete;
    Writer& operator=(const Writer&) = delete;

    /// Appends `size` bytes as they are.
    void bytes(const void* data, std::size_t size) {
        if (size > static_cast<std::size_t>(end_ - cursor_)) {
            if (overflow != nullptr && used() + size >= Overflow::from) {
                return spill(data, size);
            }
            grow(size);
        }
        if (size != 0) {
            std::memcpy(cursor_, data, size);
            cursor_ += size;
        }
    }

    /// Appends a trivially copyable value as it stands in memory.
    template <class T>
    void raw(const T& value) {
        static_assert(std::is_trivially_copyable_v<T>);
        bytes(&value, sizeof(T));
    }

    void length(std::size_t n) { raw(static_cast<std::uint64_t>(n)); }

    /// Returns how many bytes were written.
    std::size_t size() const noexcept { return spilled_ + used(); }
    /// Returns what was written, unless it has overflowed; valid until the next write.
    std::span<const std::byte> view() const noexcept { return {begin_, used()}; }
    /// Gives away what was written and starts anew.
    std::vector<std::byte> release();
    /// Starts anew with the capacity that is there.
    void clear() noexcept {
        if (std::exchange(spilled_, 0) != 0) { overflow->restart(); }
        cursor_ = begin_;
        depth_ = 0;
    }
    /// Makes room for `more` further bytes at once.
    void reserve(std::size_t more) {
        const bool overflows = overflow != nullptr && used() + more >= Overflow::from;
        if (more > static_cast<std::size_t>(end_ - cursor_) && !overflows) { grow(more); }
    }

    template <class... Ts>
    Writer& operator()(const Ts&... values) {
        (detail::save(*this, values), ...);
        return *this;
    }
    template <class T>
    Writer& operator&(const T& value) {
        return (*this)(value);
    }
    template <class T>
    Writer& operator<<(const T& value) {
        return (*this)(value);
    }

    /// Where the descriptors of handles go; null where handles cannot be sent.
    HandleSink* handles = nullptr;
    /// Where bytes go when its buffer gets large; null: the buffer gets larger.
    Overflow* overflow = nullptr;
    /// Tells whether they have.
    bool has_overflowed() const noexcept { return spilled_ != 0; }
    /// Has them all go there, those that are still in the buffer too.
    void spill() {
        overflow->append(view());
        spilled_ += used();
        cursor_ = begin_;
    }

  private:
    template <class>
    friend class Level;

    std::size_t used() const noexcept { return static_cast<std::size_t>(cursor_ - begin_); }
    [[gnu::cold]] void grow(std::size_t more);
    [[gnu::cold]] void spill(const void* data, std::size_t size);

    std::vector<std::byte> buffer_;  // empty when `fixed_`
    std::byte* begin_ = nullptr;  // begin_ <= cursor_ <= end_, in `buffer_` or in the fixed place
    std::byte* cursor_ = nullptr;
    std::byte* end_ = nullptr;
    unsigned depth_ = 0;
    std::size_t spilled_ = 0;  // bytes that have gone to `overflow`
    bool fixed_ = false;
};

/// Reads values out of contiguous memory that it does not own.
/// \safety one thread at a time; the memory must not change meanwhile.
class Reader {
  public:
    using is_saving = std::false_type;
    using is_loading = std::true_type;

    explicit Reader(std::span<const std::byte> bytes) noexcept
        : cursor_(bytes.data()), end_(bytes.data() + bytes.size()) {}
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;

    /// Copies the next `size` bytes.
    ///
    /// \throws SerializationError when there are fewer
    void bytes(void* data, std::size_t size) {
        const auto there = take(size);
        if (size != 0) { std::memcpy(data, there.data(), size); }
    }

    /// Returns the next `size` bytes where they are.
    ///
    /// \throws SerializationError when there are fewer
    std::span<const std::byte> take(std::size_t size) {
        if (size > remaining()) { refuse_bytes("they end too early"); }
        const std::byte* const first = cursor_;
        cursor_ += size;
        return {first, size};
    }

    template <class T>
    T raw() {
        static_assert(std::is_trivially_copyable_v<T>);
        T value;
        bytes(&value, sizeof(T));
        return value;
    }

    /// Reads a count of elements of which each takes at least `smallest` bytes, so that what is
    /// allocated for them is in proportion to the bytes that are there.
    std::size_t length(std::size_t smallest) {
        const auto claimed = raw<std::uint64_t>();
        if (claimed > remaining() / smallest) {
            refuse_bytes("a length exceeds the bytes that are there");
        }
        return static_cast<std::size_t>(claimed);
    }

    std::size_t remaining() const noexcept { return static_cast<std::size_t>(end_ - cursor_); }

    template <class... Ts>
    Reader& operator()(Ts&&... values) {
        (detail::load_into(*this, values), ...);
        return *this;
    }
    template <class T>
    Reader& operator&(T&& value) {
        return (*this)(value);
    }
    template <class T>
    Reader& operator>>(T&& value) {
        return (*this)(value);
    }

    /// Where the descriptors of handles come from; null where handles cannot be received.
    HandleSource* handles = nullptr;

  private:
    template <class>
    friend class Level;

    const std::byte* cursor_;
    const std::byte* end_;
    unsigned depth_ = 0;
};

/// Counts one level of nesting for as long as it exists.
template <class Archive>
class [[nodiscard]] Level {
  public:
    explicit Level(Archive& archive) : archive_(archive) {
        if (archive_.depth_ >= max_nesting) {
            throw SerializationError(
                text_of("values are nested deeper than {} levels", {max_nesting}));
        }
        ++archive_.depth_;
    }
    ~Level() { --archive_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

  private:
    Archive& archive_;
};

// -------------------------------------------------------------------------------------------------

inline void Writer::grow(std::size_t more) {
    if (fixed_) {
        throw SerializationError("a value was written that is longer than the place for it");
    }
    const std::size_t before = used();
    const std::size_t wanted = before + more;
    if (wanted < before) { throw std::bad_alloc(); }
    // Doubling keeps the copying linear; a large single value gets what it needs and no more.
    buffer_.resize(wanted > 2 * buffer_.size() ? (wanted < 64 ? 64 : wanted) : 2 * buffer_.size());
    begin_ = buffer_.data();
    cursor_ = begin_ + before;
    end_ = begin_ + buffer_.size();
}

// Small values are gathered, large ones go where they are.
inline void Writer::spill(const void* data, std::size_t size) {
    spill();
    if (size >= Overflow::from / 16) {
        overflow->append({static_cast<const std::byte*>(data), size});
        spilled_ += size;
    } else {
        bytes(data, size);
    }
}

inline std::vector<std::byte> Writer::release() {
    if (fixed_) { return std::vector<std::byte>(begin_, cursor_); }
    buffer_.resize(used());
    begin_ = cursor_ = end_ = nullptr;
    spilled_ = 0;
    depth_ = 0;
    return std::exchange(buffer_, {});
}

}  // namespace archives

using archives::Level;

}  // namespace detail
}  // namespace multiprocessing
