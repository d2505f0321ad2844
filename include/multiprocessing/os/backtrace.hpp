// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Where a process was when a fault ended it: addresses noted by the process itself, and told to
/// whoever has the same image loaded at the same place, as the processes that it was forked from
/// have.

#include <multiprocessing/os/kill_timer.hpp>
#include <multiprocessing/os/unique_fd.hpp>

#include <dlfcn.h>
#include <elf.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace multiprocessing::detail::os {

/// What a fault left behind; stands in shared memory. Written by the process that ends, read after
/// its end.
struct FaultNote {
    static constexpr std::size_t most_frames = 29;

    std::atomic<std::uint32_t> depth;  // 0: there was none
    std::atomic<std::int32_t> signal;
    std::atomic<std::uintptr_t> address;  // that could not be used, of SIGSEGV and SIGBUS
    std::array<std::atomic<std::uintptr_t>, most_frames> frames;

    void clear() noexcept { depth.store(0); }
};

/// Has this process's faults noted in `note`, on a stack of its own: that a stack is full is a
/// fault as well. Signals that the program or a sanitizer handles are left to them. Once in a
/// process.
template <class Lazy = void>
class FaultRecorder {
  public:
    static void begin(FaultNote& note) {
        note_ = &note;
        process_ = ::getpid();
        // The first call loads what it needs.
        void* frame = nullptr;
        ::backtrace(&frame, 1);
        constexpr std::size_t stack_size = 64 * 1024;
        void* const memory =
            ::mmap(nullptr, stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        stack_t stack{};
        stack.ss_sp = memory;
        stack.ss_size = stack_size;
        if (memory != MAP_FAILED) { ::sigaltstack(&stack, nullptr); }
        for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) {
            struct sigaction action {};
            if (::sigaction(number, nullptr, &action) != 0 || action.sa_handler != SIG_DFL) {
                continue;
            }
            action.sa_sigaction = record;
            action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | static_cast<int>(SA_RESETHAND);
            ::sigaction(number, &action, nullptr);
        }
    }

  private:
    static void record(int number, siginfo_t* info, void*) {
        if (::getpid() != process_) {  // a child's, whose death is nobody's news
            ::raise(number);
            return;
        }
        // Should the fault have come from where unwinding needs a lock: not for ever.
        static_cast<void>(timer_.try_start(std::chrono::seconds(1)));
        void* frames[FaultNote::most_frames + 2];
        const int depth = ::backtrace(frames, FaultNote::most_frames + 2);
        // The first two are this function and the kernel's call of it.
        for (int i = 2; i < depth; ++i) {
            note_->frames[static_cast<std::size_t>(i - 2)].store(
                reinterpret_cast<std::uintptr_t>(frames[i]));
        }
        const bool has_address = number == SIGSEGV || number == SIGBUS;
        note_->address.store(has_address ? reinterpret_cast<std::uintptr_t>(info->si_addr) : 0);
        note_->signal.store(number);
        note_->depth.store(depth > 2 ? static_cast<std::uint32_t>(depth - 2) : 0);
        ::raise(number);  // the default again: it ends the process
    }

    static inline FaultNote* note_ = nullptr;
    static inline pid_t process_ = 0;
    static inline KillTimer timer_{CLOCK_MONOTONIC};
};

/// Tells which functions addresses are in, as far as the loaded files have symbols: also those that
/// are not exported, which `dladdr` does not know. \safety threads.
template <class Lazy = void>
class Symbols {
  public:
    /// The one of this process: a file is read once.
    static Symbols& shared() {
        static auto* const symbols = new Symbols;
        return *symbols;
    }

    /// Returns "function+0x12 (/usr/bin/program+0x3456)", or less.
    std::string describe(std::uintptr_t address) {
        Dl_info info{};
        void* details = nullptr;
        if (::dladdr1(reinterpret_cast<void*>(address), &info, &details, RTLD_DL_LINKMAP) == 0) {
            return hexadecimal(address);
        }
        const auto base = static_cast<const ::link_map*>(details)->l_addr;
        const std::string place = std::string(info.dli_fname) + "+" + hexadecimal(address - base);

        const std::scoped_lock lock(mutex_);
        const auto [name, offset] = find(info.dli_fname, address - base);
        if (!name.empty()) { return name + "+" + hexadecimal(offset) + " (" + place + ")"; }
        if (info.dli_sname == nullptr) { return place; }
        const auto start = reinterpret_cast<std::uintptr_t>(info.dli_saddr);
        return std::string(info.dli_sname) + "+" + hexadecimal(address - start) + " (" + place +
               ")";
    }

  private:
    struct Function {
        std::uint64_t start, size;
        std::string name;
    };
    struct File {
        std::string path;
        std::vector<Function> functions;  // by their start
    };

    static std::string hexadecimal(std::uint64_t number) {
        std::string text;
        do {
            text.insert(text.begin(), "0123456789abcdef"[number & 15]);
        } while ((number >>= 4) != 0);
        return "0x" + text;
    }

    std::pair<std::string, std::uint64_t> find(const char* file, std::uint64_t offset) {
        auto known = std::find_if(files_.begin(), files_.end(),
                                  [&](const File& each) { return each.path == file; });
        if (known == files_.end()) { known = files_.insert(known, {file, read(file)}); }
        const std::vector<Function>& functions = known->functions;
        const auto after = std::upper_bound(
            functions.begin(), functions.end(), offset,
            [](std::uint64_t value, const Function& each) { return value < each.start; });
        if (after == functions.begin()) { return {}; }
        const Function& function = *std::prev(after);
        if (offset > function.start + function.size) { return {}; }
        return {function.name, offset - function.start};
    }

    // Reads the symbol table of a file for this kind of machine; nothing when it has none.
    template <class Header = ElfW(Ehdr), class Section = ElfW(Shdr), class Symbol = ElfW(Sym)>
    static std::vector<Function> read(const char* path) {
        std::vector<Function> functions;
        const UniqueFd file(::open(path, O_RDONLY | O_CLOEXEC));
        const auto read_at = [&](std::uint64_t offset, void* to, std::size_t size) {
            return ::pread(file.get(), to, size, static_cast<off_t>(offset)) ==
                   static_cast<ssize_t>(size);
        };
        Header header{};
        if (!read_at(0, &header, sizeof header) ||
            std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
            header.e_shentsize != sizeof(Section)) {
            return functions;
        }
        std::vector<Section> sections(header.e_shnum);
        if (!read_at(header.e_shoff, sections.data(), sections.size() * sizeof(Section))) {
            return functions;
        }
        for (const Section& section : sections) {
            if (section.sh_type != SHT_SYMTAB || section.sh_link >= sections.size()) { continue; }
            std::vector<Symbol> symbols(section.sh_size / sizeof(Symbol));
            std::string names(sections[section.sh_link].sh_size, '\0');
            if (!read_at(section.sh_offset, symbols.data(), symbols.size() * sizeof(Symbol)) ||
                !read_at(sections[section.sh_link].sh_offset, names.data(), names.size())) {
                return functions;
            }
            for (const Symbol& symbol : symbols) {
                if ((symbol.st_info & 0xf) != STT_FUNC || symbol.st_name >= names.size()) {
                    continue;
                }
                functions.push_back(
                    {symbol.st_value, symbol.st_size, names.c_str() + symbol.st_name});
            }
        }
        std::sort(functions.begin(), functions.end(),
                  [](const Function& a, const Function& b) { return a.start < b.start; });
        return functions;
    }

    std::mutex mutex_;  // guards what follows
    std::vector<File> files_;
};

}  // namespace multiprocessing::detail::os
