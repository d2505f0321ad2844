// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Places in the loaded program and libraries, named so that another process of the same files
/// finds them, wherever they are loaded there.

#include <link.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace multiprocessing::detail::os {

/// A place in a module: the program, or a library that it uses.
struct ModulePlace {
    std::uint64_t module = 0;  ///< which file: the beginning of its build-id
    std::uint64_t offset = 0;  ///< from where the file is loaded
    constexpr bool operator==(const ModulePlace&) const noexcept = default;
};

/// Returns where `address` is; a place in module 0 when it is in no module.
/// \cost some 20 ns a module; next to nothing for the address that the thread asked for last.
ModulePlace place_of(std::uintptr_t address) noexcept;

/// What is expected at a place.
enum class PlaceKind { code, data };

/// Returns the address of `size` bytes at the place, all of which are there; 0 when this process
/// has no such module, or nothing of that kind there. \cost as `place_of`.
std::uintptr_t address_of(const ModulePlace& place, PlaceKind kind, std::size_t size = 1) noexcept;

// -------------------------------------------------------------------------------------------------

inline std::uint64_t hash_bytes(std::span<const std::byte> bytes, std::uint64_t hash) noexcept {
    for (const std::byte byte : bytes) {
        hash = (hash ^ static_cast<std::uint64_t>(byte)) * 0x100'0000'01b3;
    }
    return hash;
}

/// Returns what names the module's file, never 0.
inline std::uint64_t module_number(const ::dl_phdr_info& module) noexcept {
    const std::span headers(module.dlpi_phdr, module.dlpi_phnum);
    std::uint64_t number = 0;
    for (const auto& header : headers) {
        if (header.p_type != PT_NOTE) { continue; }
        // Notes: lengths of name and content, a type; both are filled up to four bytes.
        const auto* note = reinterpret_cast<const std::byte*>(module.dlpi_addr + header.p_vaddr);
        const auto* const end = note + header.p_memsz;
        while (static_cast<std::size_t>(end - note) >= sizeof(ElfW(Nhdr))) {
            ElfW(Nhdr) begin;
            std::memcpy(&begin, note, sizeof begin);
            const auto fill = [](std::size_t size) { return (size + 3) / 4 * 4; };
            const std::byte* const name = note + sizeof begin;
            const std::byte* const content = name + fill(begin.n_namesz);
            const std::byte* const next = content + fill(begin.n_descsz);
            if (next > end) { break; }
            if (begin.n_type == NT_GNU_BUILD_ID && begin.n_namesz == 4 &&
                std::memcmp(name, "GNU", 4) == 0) {
                std::memcpy(&number, content, std::min<std::size_t>(begin.n_descsz, sizeof number));
            }
            note = next;
        }
    }
    if (number != 0) { return number; }
    // Linked without one: how the file is laid out, and the code that it begins with.
    number = 0xcbf2'9ce4'8422'2325;
    for (const auto& header : headers) {
        const std::uint64_t layout[] = {header.p_type, header.p_vaddr, header.p_memsz,
                                        header.p_filesz};
        number = hash_bytes(std::as_bytes(std::span(layout)), number);
        if (header.p_type != PT_LOAD || (header.p_flags & PF_X) == 0) { continue; }
        const auto* const code =
            reinterpret_cast<const std::byte*>(module.dlpi_addr + header.p_vaddr);
        constexpr std::size_t enough = 64 * 1024;
        number = hash_bytes({code, std::min<std::size_t>(header.p_filesz, enough)}, number);
    }
    return number != 0 ? number : 1;
}

/// Calls `visit(module)` for each module, the program first, until it returns true.
template <class Visit>
void for_each_module(Visit&& visit) noexcept {
    ::dl_iterate_phdr(
        [](::dl_phdr_info* module, std::size_t, void* visitor) -> int {
            return (*static_cast<std::remove_reference_t<Visit>*>(visitor))(*module) ? 1 : 0;
        },
        &visit);
}

inline ModulePlace place_of(std::uintptr_t address) noexcept {
    // Of the program alone, which is never unloaded.
    thread_local std::uintptr_t last_address = 0;
    thread_local ModulePlace last;
    if (address == last_address) { return last; }
    ModulePlace place;
    bool is_program = true;
    for_each_module([&](const ::dl_phdr_info& module) {
        for (const auto& header : std::span(module.dlpi_phdr, module.dlpi_phnum)) {
            const std::uintptr_t begin = module.dlpi_addr + header.p_vaddr;
            if (header.p_type != PT_LOAD || address < begin || address - begin >= header.p_memsz) {
                continue;
            }
            place = {module_number(module), address - module.dlpi_addr};
            return true;
        }
        is_program = false;
        return false;
    });
    if (is_program) {
        last_address = address;
        last = place;
    }
    return place;
}

inline std::uintptr_t address_of(const ModulePlace& place, PlaceKind kind,
                                 std::size_t size) noexcept {
    struct Found {
        ModulePlace place;
        PlaceKind kind;
        std::size_t size;
        std::uintptr_t address = 0;
    };
    thread_local Found last{};
    if (last.address != 0 && place == last.place && kind == last.kind && size == last.size) {
        return last.address;
    }
    Found found{place, kind, size};
    bool is_program = true;
    for_each_module([&](const ::dl_phdr_info& module) {
        for (const auto& header : std::span(module.dlpi_phdr, module.dlpi_phnum)) {
            const bool fits = kind == PlaceKind::data || (header.p_flags & PF_X) != 0;
            if (header.p_type != PT_LOAD || !fits || place.offset < header.p_vaddr ||
                place.offset - header.p_vaddr > header.p_memsz ||
                header.p_memsz - (place.offset - header.p_vaddr) < size) {
                continue;
            }
            if (module_number(module) != place.module) { break; }
            found.address = module.dlpi_addr + place.offset;
            return true;
        }
        is_program = false;
        return false;
    });
    if (is_program) { last = found; }
    return found.address;
}

}  // namespace multiprocessing::detail::os
