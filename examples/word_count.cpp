// SPDX-License-Identifier: BSL-1.0

// Counts the words in all text files below a directory, with more and more processes.
//
//     word_count [DIRECTORY [PROCESSES]]
//
// The directory is /usr/include if none is given, the number of processes that of the CPUs.
// Prints the number of files, the ten most frequent words, the time that it takes serially and with
// 1, 2 and PROCESSES processes, and whether all of them counted the same.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace mp = multiprocessing;
namespace fs = std::filesystem;

using Counts = std::unordered_map<std::string, std::uint64_t>;
using Files = std::vector<fs::path>;

std::string read(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::string text(file ? fs::file_size(path) : 0, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    return text;
}

// Lists the files without a NUL byte, the largest first.
//
// Reads each of them whole: then all the runs that are timed find them in the system's cache.
Files text_files(const fs::path& directory) {
    std::vector<std::pair<std::size_t, fs::path>> sized;
    const auto options = fs::directory_options::skip_permission_denied;
    for (const auto& entry : fs::recursive_directory_iterator(directory, options)) {
        if (entry.is_symlink() || !entry.is_regular_file()) { continue; }
        const std::string text = read(entry.path());
        if (text.find('\0') == std::string::npos) { sized.emplace_back(text.size(), entry.path()); }
    }
    std::sort(sized.rbegin(), sized.rend());
    Files files;
    for (auto& [size, path] : sized) { files.push_back(std::move(path)); }
    return files;
}

// Counts the runs of three or more ASCII letters, large and small ones being the same.
Counts count_words(const Files& files) {
    Counts counts;
    std::string word;
    for (const fs::path& path : files) {
        std::string text = read(path);
        text += '\n';  // ends the last word
        for (const char c : text) {
            const char letter = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
            if (letter >= 'a' && letter <= 'z') {
                word += letter;
            } else {
                if (word.size() >= 3) { ++counts[word]; }
                word.clear();
            }
        }
    }
    return counts;
}

Counts merge(const std::vector<Counts>& parts) {
    Counts counts;
    for (const Counts& part : parts) {
        for (const auto& [word, number] : part) { counts[word] += number; }
    }
    return counts;
}

Counts count_serially(const std::vector<Files>& batches) {
    std::vector<Counts> parts;
    for (const Files& batch : batches) { parts.push_back(count_words(batch)); }
    return merge(parts);
}

Counts count_in_parallel(const std::vector<Files>& batches, int processes) {
    mp::Pool pool(processes);
    return merge(pool.map(count_words, batches, 1));
}

template <class Count>
Counts timed(const std::string& what, Count count) {
    const auto begin = std::chrono::steady_clock::now();
    Counts counts = count();
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
    fmt::print("{}: {:.2f} s\n", what, time.count());
    std::fflush(stdout);
    return counts;
}

// Prints the words that occur most often; equally frequent ones in the alphabet's order.
void print_most_frequent(const Counts& counts, std::size_t most) {
    std::vector<std::pair<std::int64_t, std::string>> sorted;
    for (const auto& [word, number] : counts) {
        sorted.emplace_back(-static_cast<std::int64_t>(number), word);
    }
    std::sort(sorted.begin(), sorted.end());
    sorted.resize(std::min(most, sorted.size()));
    for (const auto& [number, word] : sorted) { fmt::print("{:9} {}\n", -number, word); }
}

int main(int argc, char** argv) {
    const fs::path directory = argc > 1 ? argv[1] : "/usr/include";
    const int most = argc > 2 ? std::stoi(argv[2]) : mp::process_cpu_count();

    const Files files = text_files(directory);
    fmt::print("text files: {}\n", files.size());
    // Few, large tasks: each sends back a table. Dealt out like cards they are about equally long.
    std::vector<Files> batches(32);
    for (std::size_t i = 0; i < files.size(); ++i) { batches[i % 32].push_back(files[i]); }

    const Counts counts = timed("serially", [&] { return count_serially(batches); });
    bool agree = true;
    for (const int processes : std::set{1, 2, most}) {
        const auto what = fmt::format("with {} process{}", processes, processes == 1 ? "" : "es");
        agree &= counts == timed(what, [&] { return count_in_parallel(batches, processes); });
    }
    fmt::print("all counted the same: {}\n", agree ? "yes" : "no");
    print_most_frequent(counts, 10);
    return agree ? 0 : 1;
}
