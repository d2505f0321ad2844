// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// `points.tsv`: how many points each row had when it was last written.

#include <cstddef>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <utility>

namespace step {

/// Numbers differ between compilers and machines; the rows do not.
class PointsTable {
  public:
    using Key = std::pair<std::string, std::string>;  // row, mode

    /// Reads the file; "" stands for an empty table.
    explicit PointsTable(std::string path) : path_(std::move(path)) {
        std::ifstream file(path_);
        for (std::string line; std::getline(file, line);) {
            if (line.empty() || line[0] == '#') { continue; }
            std::istringstream fields(line);
            std::string row, mode, points;
            std::getline(fields, row, '\t');
            std::getline(fields, mode, '\t');
            std::getline(fields, points, '\t');
            points_[{row, mode}] = points;
        }
    }

    const std::map<Key, std::string>& points() const { return points_; }
    std::string text(const std::string& row, const std::string& mode) const {
        const auto found = points_.find({row, mode});
        return found != points_.end() ? found->second : "none";
    }
    void set(const std::string& row, const std::string& mode, std::size_t points) {
        points_[{row, mode}] = std::to_string(points);
    }
    void erase(const Key& key) { points_.erase(key); }
    void save() const {
        std::ofstream file(path_);
        file << "# SPDX-License-Identifier: BSL-1.0\n"
                "# operation\tmode\tpoints when last written (step_kill --table FILE --update)\n";
        for (const auto& [key, number] : points_) {
            file << key.first << '\t' << key.second << '\t' << number << '\n';
        }
    }

  private:
    std::string path_;
    std::map<Key, std::string> points_;
};

}  // namespace step
