// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Where the picture goes: a terminal that is drawn on again and again, or plain text.

#include "page.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

namespace mp_top {

struct Size {
    std::size_t columns, rows;
};

/// Returns the size of the terminal that standard output is; nothing when it is none.
inline std::optional<Size> terminal_size() {
    if (::isatty(STDOUT_FILENO) == 0) { return std::nullopt; }
    struct winsize size {};
    if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) {
        return Size{80, 24};
    }
    return Size{size.ws_col, size.ws_row};
}

/// False when nobody reads any more.
inline bool write_out(std::string_view text) {
    return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() &&
           std::fflush(stdout) == 0;
}

/// Writes the picture once, as text; a terminal's width is kept to.
inline bool print(const Page& page) {
    const auto size = terminal_size();
    std::string text;
    for (const Line& line : page) {
        text += (size ? clipped(line.text, size->columns) : line.text) + "\n";
    }
    return write_out(text);
}

/// A terminal that shows the latest picture in the place of the one before, as long as this lives.
class Screen {
  public:
    Screen() { write_out("\x1b[?25l\x1b[2J"); }  // no cursor, nothing else
    Screen(const Screen&) = delete;
    Screen& operator=(const Screen&) = delete;
    ~Screen() { write_out("\x1b[?25h"); }

    bool show(const Page& page) {
        const Size size = terminal_size().value_or(Size{80, 24});
        std::string text = "\x1b[H";
        // The last row stays free: who writes there makes the terminal scroll.
        const std::size_t room = std::max<std::size_t>(size.rows, 2) - 1;
        const bool fits = page.size() <= room;
        for (std::size_t i = 0; i < (fits ? page.size() : room - 1); ++i) {
            text += erase + styled(page[i], size.columns) + "\n";
        }
        if (!fits) {
            const auto more = fmt::format("... {} more lines", page.size() - (room - 1));
            text += erase + clipped(more, size.columns) + "\n";
        }
        return write_out(text + "\x1b[J");
    }

  private:
    // Before each line, not behind it: there it would take a letter in the last column with it.
    static constexpr const char* erase = "\x1b[K";

    static std::string styled(const Line& line, std::size_t columns) {
        std::string text = clipped(line.text, columns);
        if (line.kind == Line::plain) { return text; }
        text.resize(line.kind == Line::heading ? columns : text.size(), ' ');
        return (line.kind == Line::heading ? "\x1b[7m" : "\x1b[1m") + text + "\x1b[0m";
    }
};

}  // namespace mp_top
